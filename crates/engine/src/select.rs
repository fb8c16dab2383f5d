//! What a COPY or a mounted sub-path reads from a result, as a digest: the part of a cache key that makes a step miss
//! only when something that it reads has changed.
//!
//! The answer comes from the entry indexes of the result's layers, never from its files. Everything that decides the
//! outcome takes part: the entries below the selected paths, each link that was followed on the way, and paths that are
//! not there (so that a file which appears later is noticed). Modification times do not, as in BuildKit.

use std::collections::{BTreeMap, BTreeSet};

use cooper_layer::{Entry, Kind, LayerPath, Merged};
use cooper_oci::{Digest, Hasher};

/// A root with more links in a row than this is taken as a loop; the number is the kernel's (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// Which paths of a result are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Selector {
    /// A path as the op has it; relative ones start at the root too.
    pub(crate) path: String,
    /// Whether `*`, `?` and `[…]` in its components are patterns.
    pub(crate) wildcard: bool,
    /// Whether a link as the last component stands for what it points to.
    pub(crate) follow: bool,
}

/// Returns the digest of what `selector` reads from the layers.
pub(crate) fn digest(root: &Merged<'_>, selector: &Selector) -> Digest {
    let mut walk = Walk { root, seen: BTreeMap::new() };
    let parts: Vec<&[u8]> = selector.path.as_bytes().split(|&b| b == b'/').filter(|p| !p.is_empty()).collect();
    let mut selected = BTreeSet::new();
    if selector.wildcard {
        walk.expand(&LayerPath::root(), &parts, selector.follow, &mut selected);
    } else if let Some(path) = walk.resolve(&LayerPath::root(), &parts, selector.follow, &mut 0) {
        selected.insert(path);
    }
    for path in &selected {
        walk.below(path);
    }
    let mut hash = Hasher::new();
    for path in &selected {
        hash.field(path.as_bytes());
    }
    hash.field(b"read");
    for (path, line) in &walk.seen {
        hash.field(path.as_bytes());
        hash.field(line);
    }
    hash.finish()
}

struct Walk<'a, 'm> {
    root: &'a Merged<'m>,
    /// Every path that was looked at, with what it is; an absent one has an empty line.
    seen: BTreeMap<LayerPath, Vec<u8>>,
}

impl Walk<'_, '_> {
    /// Follows components from `start`; `None` if they lead nowhere.
    fn resolve(&mut self, start: &LayerPath, parts: &[&[u8]], follow: bool, links: &mut u32) -> Option<LayerPath> {
        let mut at = start.clone();
        for (index, part) in parts.iter().enumerate() {
            match *part {
                b"." => continue,
                b".." => {
                    at = at.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = at.join(part).ok()?;
            let Some(entry) = self.look(&next) else { return None };
            let last = index + 1 == parts.len();
            if let Kind::Symlink { target } = &entry
                && (follow || !last)
            {
                *links += 1;
                if *links > MAX_LINKS {
                    return None;
                }
                let from = if target.starts_with(b"/") { LayerPath::root() } else { at.clone() };
                let target: Vec<&[u8]> = target.split(|&b| b == b'/').filter(|p| !p.is_empty()).collect();
                at = self.resolve(&from, &target, true, links)?;
            } else {
                at = next;
            }
        }
        Some(at)
    }

    /// Expands patterns component by component.
    fn expand(&mut self, at: &LayerPath, parts: &[&[u8]], follow: bool, out: &mut BTreeSet<LayerPath>) {
        let Some((part, rest)) = parts.split_first() else {
            out.insert(at.clone());
            return;
        };
        let names: Vec<Vec<u8>> = if is_pattern(part) {
            self.root
                .children(at)
                .into_keys()
                .filter(|name| matches(part, name))
                .map(<[u8]>::to_vec)
                .collect()
        } else {
            vec![part.to_vec()]
        };
        for name in names {
            let follow = follow || !rest.is_empty();
            if let Some(next) = self.resolve(at, &[&name], follow, &mut 0) {
                self.expand(&next, rest, follow, out);
            }
        }
    }

    fn look(&mut self, path: &LayerPath) -> Option<Kind> {
        let entry = self.root.get(path);
        self.seen.insert(path.clone(), entry.map(line).unwrap_or_default());
        entry.map(|entry| entry.kind.clone())
    }

    fn below(&mut self, path: &LayerPath) {
        let mut open = vec![path.clone()];
        while let Some(path) = open.pop() {
            if !path.is_root() {
                self.look(&path);
            }
            for (_, entry) in self.root.children(&path) {
                if entry.is_directory() {
                    open.push(entry.path.clone());
                } else {
                    self.seen.insert(entry.path.clone(), line(entry));
                }
            }
        }
    }
}

/// Writes what is read of an entry; times and the numbering of hard links are not.
fn line(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut field = |bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    match &entry.kind {
        Kind::File { size, digest } => {
            field(b"file");
            field(&size.to_be_bytes());
            field(digest.as_bytes());
        }
        Kind::Directory { .. } => field(b"directory"),
        Kind::Symlink { target } => {
            field(b"symlink");
            field(target);
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            field(if matches!(entry.kind, Kind::CharDevice { .. }) { b"char" } else { b"block" });
            field(&major.to_be_bytes());
            field(&minor.to_be_bytes());
        }
        Kind::Fifo => field(b"fifo"),
        Kind::Whiteout => field(b"whiteout"),
    }
    for number in [entry.mode, entry.uid, entry.gid] {
        field(&number.to_be_bytes());
    }
    for (name, value) in &entry.xattrs {
        field(name);
        field(value);
    }
    out
}

fn is_pattern(part: &[u8]) -> bool {
    part.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}

/// Matches one component by Go's `filepath.Match` (`*`, `?`, `[a-z]`, `[^a-z]`, `\c`); a malformed pattern matches
/// nothing.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (Ok(pattern), Ok(name)) = (std::str::from_utf8(pattern), std::str::from_utf8(name)) else {
        return pattern == name;
    };
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on after a mismatch: behind the last star, one character further.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if n == name.len() && p == pattern.len() {
            return true;
        }
        match name.get(n).and_then(|&c| one(&pattern, p, c)) {
            Some(next) => (p, n) = (next, n + 1),
            None => match star {
                Some((after, from)) if from < name.len() => {
                    star = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Matches one character at `p` of the pattern and returns where the pattern goes on.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '\\' => (*pattern.get(p + 1)? == c).then_some(p + 2),
        '[' => {
            let mut p = p + 1;
            let negated = pattern.get(p) == Some(&'^');
            p += usize::from(negated);
            let mut hit = false;
            let mut first = true;
            loop {
                if pattern.get(p) == Some(&']') && !first {
                    return (hit != negated).then_some(p + 1);
                }
                first = false;
                let (low, next) = literal(pattern, p)?;
                let (high, next) = if pattern.get(next) == Some(&'-') { literal(pattern, next + 1)? } else { (low, next) };
                hit |= low <= c && c <= high;
                p = next;
            }
        }
        literal => (literal == c).then_some(p + 1),
    }
}

fn literal(pattern: &[char], p: usize) -> Option<(char, usize)> {
    match *pattern.get(p)? {
        '\\' => Some((*pattern.get(p + 1)?, p + 2)),
        '-' | ']' => None,
        c => Some((c, p + 1)),
    }
}

#[cfg(test)]
mod tests {
    use cooper_layer::{Index, Timestamp};

    use super::*;

    fn file(path: &str, text: &str) -> Entry {
        let kind = Kind::File { size: text.len() as u64, digest: Digest::of(text) };
        Entry::new(LayerPath::new(path).unwrap(), kind, 0o644)
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry::new(LayerPath::new(path).unwrap(), Kind::Symlink { target: target.into() }, 0o777)
    }

    fn directory(path: &str) -> Entry {
        Entry::new(LayerPath::new(path).unwrap(), Kind::Directory { opaque: false }, 0o755)
    }

    fn tree() -> Vec<Entry> {
        vec![
            directory("a"),
            file("a/one.txt", "1"),
            file("a/two.txt", "2"),
            file("a/three.md", "3"),
            directory("b"),
            link("b/to-a", "../a"),
            link("c", "/b/to-a"),
            file("other", "x"),
        ]
    }

    fn digest_of(entries: Vec<Entry>, path: &str, wildcard: bool) -> Digest {
        let index = Index::new(entries).unwrap();
        let selector = Selector { path: path.into(), wildcard, follow: true };
        digest(&Merged::new(&[&index]), &selector)
    }

    /// Path, pattern or not, the entry that is changed, whether that must be noticed.
    #[test]
    fn only_what_is_read_counts() {
        for (path, wildcard, changed, noticed) in [
            ("a/one.txt", false, "a/one.txt", true),
            ("a/one.txt", false, "a/two.txt", false),
            ("/a", false, "a/two.txt", true),
            ("/a", false, "other", false),
            ("/", false, "other", true),
            (".", false, "a/one.txt", true),
            ("c", false, "a/two.txt", true),
            ("c/one.txt", false, "a/one.txt", true),
            ("c/one.txt", false, "a/two.txt", false),
            ("a/*.txt", true, "a/two.txt", true),
            ("a/*.txt", true, "a/three.md", false),
            ("*/t*", true, "a/three.md", true),
            ("b/../a/one.txt", false, "a/one.txt", true),
        ] {
            let before = digest_of(tree(), path, wildcard);
            let mut entries = tree();
            for entry in &mut entries {
                if entry.path.as_bytes() == changed.as_bytes() {
                    *entry = file(changed, "something else");
                }
            }
            let after = digest_of(entries, path, wildcard);
            assert_eq!(before != after, noticed, "{path}: {changed}");
        }
    }

    #[test]
    fn times_do_not_count_but_modes_and_owners_do() {
        let before = digest_of(tree(), "a", false);
        let with = |change: fn(&mut Entry)| {
            let mut entries = tree();
            entries.iter_mut().filter(|e| e.path.as_bytes() == b"a/one.txt").for_each(change);
            digest_of(entries, "a", false)
        };
        assert_eq!(before, with(|e| e.mtime = Timestamp::new(5, 0)));
        assert_ne!(before, with(|e| e.mode = 0o600));
        assert_ne!(before, with(|e| e.gid = 7));
        assert_ne!(before, with(|e| e.xattrs = [(b"user.x".to_vec(), b"y".to_vec())].into()));
    }

    #[test]
    fn what_appears_or_is_led_elsewhere_is_noticed() {
        let mut more = tree();
        more.push(file("a/four.txt", "4"));
        assert_ne!(digest_of(tree(), "a/*.txt", true), digest_of(more.clone(), "a/*.txt", true));
        assert_ne!(digest_of(tree(), "a/four.txt", false), digest_of(more, "a/four.txt", false));
        let mut led: Vec<Entry> = tree().into_iter().filter(|e| e.path.as_bytes() != b"c").collect();
        led.push(link("c", "/a"));
        assert_ne!(digest_of(tree(), "c/one.txt", false), digest_of(led, "c/one.txt", false), "another way to the same");
    }

    #[test]
    fn loops_end() {
        let entries = vec![link("x", "y"), link("y", "x")];
        digest_of(entries, "x", false);
    }

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.md", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbc", false),
            ("[", "[", false),
            ("[a", "a", false),
            ("*ü", "grü", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
