//! What a COPY or a mounted sub-path reads from a result, as a digest: the part of a cache key that makes a step miss
//! only when something that it reads has changed.
//!
//! For results the answer comes from the entry indexes of their layers, never from files; for a folder, files are hashed
//! as they are selected. Everything that decides the
//! outcome takes part: the entries below the selected paths, each link that was followed on the way, and paths that are
//! not there (so that a file which appears later is noticed). Modification times do not, as in BuildKit.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use cooper_executor::file::{Filter, MAX_LINKS, Pattern, Verdict, clean, is_pattern};
use cooper_layer::{Entry, Kind, LayerPath, Merged};
use cooper_oci::{Digest, Hasher};

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

/// What is read of a root.
pub(crate) struct Read {
    /// What the selector names.
    selected: BTreeSet<LayerPath>,
    /// Every path that was looked at, with what it is; an absent one has an empty line.
    seen: BTreeMap<LayerPath, Vec<u8>>,
}

impl Read {
    /// Returns the digest of all that is read.
    pub(crate) fn digest(&self) -> Digest {
        let mut hash = Hasher::new();
        for path in &self.selected {
            hash.field(path.as_bytes());
        }
        hash.field(b"read");
        for (path, line) in &self.seen {
            hash.field(path.as_bytes());
            hash.field(line);
        }
        hash.finish()
    }

    /// Returns the first of some absolute paths that nothing of what is read begins with, as BuildKit asks it of the paths
    /// that `COPY --parents` names.
    pub(crate) fn lacks<'a>(&self, required: &'a [String]) -> Option<&'a str> {
        let is_there = |wanted: &str| {
            let wanted = wanted.trim_start_matches('/').as_bytes();
            self.seen.iter().any(|(path, line)| !line.is_empty() && path.as_bytes().starts_with(wanted))
        };
        required.iter().map(String::as_str).find(|wanted| !is_there(wanted))
    }
}

/// Reads what `selector` names, `filter` (relative to that) saying which of it counts.
pub(crate) fn read<T: Tree>(
    tree: &T,
    selector: &Selector,
    filter: Option<&Filter>,
) -> Result<Read, T::Error> {
    let mut walk = Walk { tree, seen: BTreeMap::new() };
    let parts = clean(selector.path.as_bytes());
    let mut selected = BTreeSet::new();
    match parts.iter().position(|part| is_pattern(part)).filter(|_| selector.wildcard) {
        Some(first) => {
            let (base, wild) = parts.split_at(first);
            let start = walk.resolve(&LayerPath::root(), base, true, &mut 0)?;
            if let (Some(start), Some(pattern)) = (start, Pattern::new(&wild.join(&b'/'))) {
                walk.expand(&start, &mut Vec::new(), &pattern, selector.follow, &mut selected)?;
            }
        }
        None => selected.extend(walk.resolve(&LayerPath::root(), &parts, selector.follow, &mut 0)?),
    }
    for path in &selected {
        walk.below(path, filter)?;
    }
    Ok(Read { seen: walk.seen, selected })
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
        links: &mut usize,
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

    /// Finds what a pattern matches below a directory. Links are not followed on the way, and nothing is matched below a
    /// match.
    fn expand(
        &mut self,
        at: &LayerPath,
        relative: &mut Vec<u8>,
        pattern: &Pattern,
        follow: bool,
        out: &mut BTreeSet<LayerPath>,
    ) -> Result<(), T::Error> {
        for name in self.tree.names(at)? {
            let Ok(path) = at.join(&name) else { continue };
            let length = relative.len();
            if length > 0 {
                relative.push(b'/');
            }
            relative.extend_from_slice(&name);
            if pattern.matches(relative) {
                out.extend(self.resolve(at, &[&name], follow, &mut 0)?);
            } else if pattern.may_match_below(relative) && self.tree.get(&path)? == Some(What::Directory) {
                self.expand(&path, relative, pattern, follow, out)?;
            }
            relative.truncate(length);
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
        let mut open = vec![selected.clone()];
        while let Some(path) = open.pop() {
            let directory = path.is_root() || self.tree.get(&path)? == Some(What::Directory);
            let whole = path.as_bytes();
            let rest = whole.get(selected.as_bytes().len()..).unwrap_or_default();
            let relative = rest.strip_prefix(b"/").unwrap_or(rest);
            // What is named is taken; the filter decides about what is in it.
            let verdict = match filter {
                Some(filter) if path != *selected => filter(relative, directory),
                _ => Verdict::Take,
            };
            if verdict == Verdict::Take {
                self.see(&path)?;
                // Directories that are only looked into come along, as the parents of what is taken.
                let mut above = path.parent();
                while let Some(parent) =
                    above.filter(|parent| parent.as_bytes().len() > selected.as_bytes().len())
                    && !self.seen.contains_key(&parent)
                {
                    self.see(&parent)?;
                    above = parent.parent();
                }
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
        let Ok(read) = read(&Merged::new(&[&index]), &selector, None);
        read.digest()
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
            // `..` is taken by the letter: the link `c` to `a` does not matter.
            ("c/../other", false, "other", true),
            ("*[^x]one.txt", true, "a/one.txt", true),
            ("*[^x]one.txt", true, "a/two.txt", false),
            ("c/*.txt", true, "a/two.txt", true),
            ("?/one.txt", true, "a/one.txt", true),
            ("?/one.txt", true, "other", false),
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
            let Ok(read) = read(&Merged::new(&[&index]), &selector, Some(&filter));
            read.digest()
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
    fn what_is_named_counts_whatever_the_patterns_say() {
        let filter: Filter = std::sync::Arc::new(|path: &[u8], directory| match path {
            path if path.ends_with(b".txt") => Verdict::Take,
            _ if directory => Verdict::Look,
            _ => Verdict::Skip,
        });
        let of = |entries: Vec<Entry>, path: &str| {
            let index = Index::new(entries).unwrap();
            let selector = Selector { path: path.into(), wildcard: false, follow: true };
            let Ok(read) = read(&Merged::new(&[&index]), &selector, Some(&filter));
            read.digest()
        };
        let deep = |mode: u32, text: &str| {
            let mut entries =
                vec![directory("d"), directory("d/e"), file("d/e/f.txt", "1"), file("d/x.md", text)];
            entries.extend([directory("d/none"), file("d/none/y.md", "2")]);
            for entry in entries.iter_mut().filter(|entry| entry.path.as_bytes() == b"d/e") {
                entry.mode = mode;
            }
            entries
        };
        assert_ne!(of(deep(0o755, "1"), "d/x.md"), of(deep(0o755, "2"), "d/x.md"), "a file that is named");
        assert_eq!(of(deep(0o755, "1"), "d"), of(deep(0o755, "2"), "d"), "one that is left out");
        assert_ne!(of(deep(0o755, "1"), "d"), of(deep(0o700, "1"), "d"), "a directory that comes along");
        let mut gone = deep(0o755, "1");
        gone.retain(|entry| !entry.path.as_bytes().starts_with(b"d/none"));
        assert_eq!(of(deep(0o755, "1"), "d"), of(gone, "d"), "one that does not");
    }

    #[test]
    fn names_that_are_no_patterns_or_no_text() {
        let named = |name: &[u8], text: &str| {
            let kind = Kind::File { size: 1, digest: Digest::of(text) };
            vec![Entry::new(LayerPath::new(name).unwrap(), kind, 0o644)]
        };
        // Without a star a backslash is a part of the name.
        for (path, name) in [("a\\*b", &b"a\\*b"[..]), ("x?", b"x\xff"), ("*.txt", b"\xff\xfe.txt")] {
            assert_ne!(
                digest_of(named(name, "1"), path, true),
                digest_of(named(name, "2"), path, true),
                "{path}"
            );
        }
    }

    #[test]
    fn long_chains_of_links_are_followed() {
        let chain = |text: &str| {
            let mut entries: Vec<Entry> =
                (0..200).map(|at| link(&format!("l{at}"), &format!("l{}", at + 1))).collect();
            entries.push(file("l200", text));
            digest_of(entries, "l0", false)
        };
        assert_ne!(chain("1"), chain("2"));
    }

    #[test]
    fn what_is_lacking() {
        let tree = Index::new(vec![directory("d"), directory("d/e"), file("d/e/f.txt", "1"), link("l", "d")])
            .unwrap();
        let selector = Selector { path: "/".into(), wildcard: true, follow: true };
        let lacks = |filter: Option<&Filter>, wanted: &str| {
            let Ok(read) = read(&Merged::new(&[&tree]), &selector, filter);
            read.lacks(&[wanted.to_owned()]).is_some()
        };
        for (wanted, lacking) in [
            ("/d", false),
            ("/d/e/f.txt", false),
            ("/d/e/f", false),
            ("/l", false),
            ("/nothing", true),
            ("/l/e/f.txt", true),
        ] {
            assert_eq!(lacks(None, wanted), lacking, "{wanted}");
        }
        let nothing: Filter = std::sync::Arc::new(|_: &[u8], _| Verdict::Skip);
        assert!(lacks(Some(&nothing), "/d"));
    }

    #[test]
    fn loops_end() {
        let entries = vec![link("x", "y"), link("y", "x")];
        digest_of(entries, "x", false);
    }
}
