//! What a COPY or a mounted sub-path reads from a result, as a digest: the part of a cache key that makes a step miss
//! only when something that it reads has changed.
//!
//! For results the answer comes from the entry indexes of their layers, never from files; for a folder, files are hashed
//! as they are selected. Everything that decides the
//! outcome takes part: the entries below the selected paths, each link that was followed on the way, and paths that are
//! not there (so that a file which appears later is noticed). Modification times do not, as in BuildKit.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use cooper_executor::file::{Filter, Verdict};
use cooper_layer::{Entry, Kind, LayerPath, Merged};
use cooper_oci::{Digest, Hasher};

/// A root with more links in a row than this is taken as a loop; the number is the kernel's (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// Which paths of a root are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Selector {
    /// A path as the op has it; relative ones start at the root too.
    pub(crate) path: String,
    /// Whether `*`, `?` and `[…]` in its components are patterns.
    pub(crate) wildcard: bool,
    /// Whether a link as the last component stands for what it points to.
    pub(crate) follow: bool,
}

/// What a path is, as far as walking needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    Symlink(Vec<u8>),
    Other,
}

/// A root that can be walked: indexes of layers, or a folder.
pub(crate) trait Tree {
    /// Why it cannot be read.
    type Error;

    /// Returns what is at a path; links are not followed.
    fn get(&self, path: &LayerPath) -> Result<Option<What>, Self::Error>;

    /// Lists the names in a directory; none where there is no directory.
    fn names(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Writes everything that is read of a path which is there: type, mode, owner, content, attributes; no times.
    fn line(&self, path: &LayerPath) -> Result<Vec<u8>, Self::Error>;
}

/// Returns the digest of what `selector` reads, `filter` (relative to what it selects) saying which of it counts.
pub(crate) fn digest<T: Tree>(
    tree: &T,
    selector: &Selector,
    filter: Option<&Filter>,
) -> Result<Digest, T::Error> {
    let mut walk = Walk { tree, seen: BTreeMap::new() };
    let parts: Vec<&[u8]> =
        selector.path.as_bytes().split(|&b| b == b'/').filter(|p| !p.is_empty()).collect();
    let mut selected = BTreeSet::new();
    if selector.wildcard {
        walk.expand(&LayerPath::root(), &parts, selector.follow, &mut selected)?;
    } else if let Some(path) = walk.resolve(&LayerPath::root(), &parts, selector.follow, &mut 0)? {
        selected.insert(path);
    }
    for path in &selected {
        walk.below(path, filter)?;
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
    Ok(hash.finish())
}

struct Walk<'a, T> {
    tree: &'a T,
    /// Every path that was looked at, with what it is; an absent one has an empty line.
    seen: BTreeMap<LayerPath, Vec<u8>>,
}

impl<T: Tree> Walk<'_, T> {
    /// Follows components from `start`; `None` if they lead nowhere.
    fn resolve(
        &mut self,
        start: &LayerPath,
        parts: &[&[u8]],
        follow: bool,
        links: &mut u32,
    ) -> Result<Option<LayerPath>, T::Error> {
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
            let Ok(next) = at.join(part) else { return Ok(None) };
            let last = index + 1 == parts.len();
            match self.tree.get(&next)? {
                None => {
                    self.seen.insert(next, Vec::new());
                    return Ok(None);
                }
                Some(What::Symlink(target)) if follow || !last => {
                    self.see(&next)?;
                    *links += 1;
                    if *links > MAX_LINKS {
                        return Ok(None);
                    }
                    let from = if target.starts_with(b"/") { LayerPath::root() } else { at.clone() };
                    let target: Vec<&[u8]> = target.split(|&b| b == b'/').filter(|p| !p.is_empty()).collect();
                    let Some(led) = self.resolve(&from, &target, true, links)? else { return Ok(None) };
                    at = led;
                }
                // A directory on the way says nothing about what is copied out of it.
                Some(_) => at = next,
            }
        }
        Ok(Some(at))
    }

    /// Expands patterns component by component.
    fn expand(
        &mut self,
        at: &LayerPath,
        parts: &[&[u8]],
        follow: bool,
        out: &mut BTreeSet<LayerPath>,
    ) -> Result<(), T::Error> {
        let Some((part, rest)) = parts.split_first() else {
            out.insert(at.clone());
            return Ok(());
        };
        let names = if is_pattern(part) {
            let mut names = self.tree.names(at)?;
            names.retain(|name| matches(part, name));
            names
        } else {
            vec![part.to_vec()]
        };
        for name in names {
            let follow_this = follow || !rest.is_empty();
            if let Some(next) = self.resolve(at, &[&name], follow_this, &mut 0)? {
                self.expand(&next, rest, follow, out)?;
            }
        }
        Ok(())
    }

    fn see(&mut self, path: &LayerPath) -> Result<(), T::Error> {
        if !path.is_root() && !self.seen.contains_key(path) {
            let line = self.tree.line(path)?;
            self.seen.insert(path.clone(), line);
        }
        Ok(())
    }

    fn below(&mut self, selected: &LayerPath, filter: Option<&Filter>) -> Result<(), T::Error> {
        let verdict = |relative: &[u8], directory: bool| match filter {
            Some(filter) if !relative.is_empty() => filter(relative, directory),
            _ => Verdict::Take,
        };
        let mut open = vec![selected.clone()];
        while let Some(path) = open.pop() {
            let directory = path.is_root() || self.tree.get(&path)? == Some(What::Directory);
            let relative = if path == *selected && !directory {
                selected.name()
            } else {
                let whole = path.as_bytes();
                let rest = whole.get(selected.as_bytes().len()..).unwrap_or_default();
                rest.strip_prefix(b"/").unwrap_or(rest)
            };
            let verdict = verdict(relative, directory);
            if verdict == Verdict::Take {
                self.see(&path)?;
            }
            if directory && verdict != Verdict::Skip {
                for name in self.tree.names(&path)? {
                    open.extend(path.join(&name));
                }
            }
        }
        Ok(())
    }
}

impl Tree for Merged<'_> {
    type Error = Infallible;

    fn get(&self, path: &LayerPath) -> Result<Option<What>, Infallible> {
        Ok(Merged::get(self, path).map(|entry| match &entry.kind {
            Kind::Directory { .. } => What::Directory,
            Kind::Symlink { target } => What::Symlink(target.clone()),
            _ => What::Other,
        }))
    }

    fn names(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, Infallible> {
        Ok(self.children(path).into_keys().map(<[u8]>::to_vec).collect())
    }

    fn line(&self, path: &LayerPath) -> Result<Vec<u8>, Infallible> {
        Ok(Merged::get(self, path).map(line).unwrap_or_default())
    }
}

/// Writes what is read of an entry; times and the numbering of hard links are not.
fn line(entry: &Entry) -> Vec<u8> {
    let mut out = Line::default();
    match &entry.kind {
        Kind::File { size, digest } => out.file(*size, digest),
        Kind::Directory { .. } => out.field(b"directory"),
        Kind::Symlink { target } => out.symlink(target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            let block = matches!(entry.kind, Kind::BlockDevice { .. });
            out.device(block, u64::from(*major) << 32 | u64::from(*minor));
        }
        Kind::Fifo => out.field(b"fifo"),
        Kind::Whiteout => out.field(b"whiteout"),
    }
    out.finish(entry.mode, (entry.uid, entry.gid), &entry.xattrs)
}

/// Writes what is read of a path, the same for layers and folders.
#[derive(Debug, Default)]
pub(crate) struct Line(Vec<u8>);

impl Line {
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn file(&mut self, size: u64, digest: &Digest) {
        self.field(b"file");
        self.field(&size.to_be_bytes());
        self.field(digest.as_bytes());
    }

    pub(crate) fn symlink(&mut self, target: &[u8]) {
        self.field(b"symlink");
        self.field(target);
    }

    pub(crate) fn device(&mut self, block: bool, number: u64) {
        self.field(if block { b"block" } else { b"char" });
        self.field(&number.to_be_bytes());
    }

    pub(crate) fn finish(
        mut self,
        mode: u32,
        owner: (u32, u32),
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Vec<u8> {
        for number in [mode, owner.0, owner.1] {
            self.field(&number.to_be_bytes());
        }
        for (name, value) in xattrs {
            self.field(name);
            self.field(value);
        }
        self.0
    }
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
                let (high, next) =
                    if pattern.get(next) == Some(&'-') { literal(pattern, next + 1)? } else { (low, next) };
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
        let Ok(digest) = digest(&Merged::new(&[&index]), &selector, None);
        digest
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
        assert_ne!(
            digest_of(tree(), "c/one.txt", false),
            digest_of(led, "c/one.txt", false),
            "another way to the same"
        );
    }

    #[test]
    fn what_the_patterns_leave_out_does_not_count() {
        let filter: Filter =
            std::sync::Arc::new(
                |path: &[u8], _| {
                    if path.ends_with(b".md") { Verdict::Skip } else { Verdict::Take }
                },
            );
        let of = |entries: Vec<Entry>| {
            let index = Index::new(entries).unwrap();
            let selector = Selector { path: "a".into(), wildcard: false, follow: true };
            let Ok(digest) = digest(&Merged::new(&[&index]), &selector, Some(&filter));
            digest
        };
        let changed = |path: &str| {
            let mut entries: Vec<Entry> =
                tree().into_iter().filter(|e| e.path.as_bytes() != path.as_bytes()).collect();
            entries.push(file(path, "something else"));
            of(entries)
        };
        assert_eq!(of(tree()), changed("a/three.md"));
        assert_ne!(of(tree()), changed("a/two.txt"));
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
