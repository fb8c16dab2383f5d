mod encode;

use std::collections::HashMap;

use cooper_oci::{Digest, Hasher};

use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::path::LayerPath;
use crate::time::TimeWindow;

/// Everything that one layer adds, changes or hides, sorted by path.
///
/// The root of the layer itself is no entry: image layers say nothing about it that builders agree on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// Sorts entries into an index and numbers the groups of hard links anew.
    ///
    /// Two entries with one path, an entry for the root, and a group whose members are not the same file are errors.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(first) = entries.first()
            && first.path.is_root()
        {
            return Err(Error::Index("an entry for the root"));
        }
        for pair in entries.windows(2) {
            if let [a, b] = pair
                && a.path == b.path
            {
                return Err(Error::entry(&a.path, "is there twice"));
            }
        }
        number_groups(&mut entries)?;
        Ok(Self { entries })
    }

    /// Returns the entries, sorted by path, directories before what is in them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Iterates over the entries, sorted by path.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the entry at a path.
    pub fn get(&self, path: &LayerPath) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// Returns everything at or below a path, sorted. The root gives all entries.
    pub fn within(&self, path: &LayerPath) -> &[Entry] {
        let start = self.entries.partition_point(|entry| entry.path < *path);
        let rest = self.entries.get(start..).unwrap_or_default();
        let end = rest.partition_point(|entry| entry.path.is_within(path));
        rest.get(..end).unwrap_or_default()
    }

    /// Iterates over what is directly in a directory, skipping over whole subtrees.
    pub fn children(&self, path: &LayerPath) -> impl Iterator<Item = &Entry> {
        let mut rest = self.within(path);
        if let [first, tail @ ..] = rest
            && first.path == *path
        {
            rest = tail;
        }
        // An index whose parents are missing (allowed in a hand-made one) has deeper paths here: they are passed over.
        let depth = path.depth() + 1;
        std::iter::from_fn(move || {
            loop {
                let (first, tail) = rest.split_first()?;
                let end = tail.partition_point(|entry| entry.path.is_within(&first.path));
                rest = tail.get(end..).unwrap_or_default();
                if first.path.depth() == depth {
                    return Some(first);
                }
            }
        })
    }

    /// Returns the sum of the lengths of the regular files in bytes; a file with several names counts once.
    pub fn size(&self) -> u64 {
        let mut seen = std::collections::HashSet::new();
        self.iter()
            .filter(|entry| entry.hard_link.is_none_or(|group| seen.insert(group)))
            .fold(0, |sum, entry| sum.saturating_add(entry.size()))
    }

    /// Tells whether a directory is implied or opaque somewhere: what a layer made by a scan never has.
    pub fn is_explicit(&self) -> bool {
        !self.iter().any(|entry| entry.implied || matches!(entry.kind, Kind::Directory { opaque: true }))
    }

    /// Returns the digest of what the layer says: every field of every entry.
    ///
    /// With a window, a modification time inside it counts as "now", so that running a step again at another time
    /// gives the same id if it wrote the same; every other time counts as it is.
    pub fn content_id(&self, window: Option<TimeWindow>) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(b"cooper layer content 1");
        let mut buffer = Vec::new();
        for entry in &self.entries {
            buffer.clear();
            let now = window.is_some_and(|window| window.contains(entry.mtime));
            identify(entry, now, &mut buffer);
            hasher.field(&buffer);
        }
        hasher.finish()
    }
}

impl<'a> IntoIterator for &'a Index {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Writes the fields of an entry that make its identity, each of fixed width or behind its length.
fn identify(entry: &Entry, now: bool, out: &mut Vec<u8>) {
    fn field(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    field(out, entry.path.as_bytes());
    match &entry.kind {
        Kind::File { size, digest } => {
            out.push(b'f');
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(digest.as_bytes());
        }
        Kind::Directory { opaque } => {
            out.extend_from_slice(&[b'd', u8::from(*opaque), u8::from(entry.implied)])
        }
        Kind::Symlink { target } => {
            out.push(b'l');
            field(out, target);
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            out.push(if matches!(entry.kind, Kind::CharDevice { .. }) { b'c' } else { b'b' });
            out.extend_from_slice(&major.to_be_bytes());
            out.extend_from_slice(&minor.to_be_bytes());
        }
        Kind::Fifo => out.push(b'p'),
        Kind::Whiteout => {
            // The rest of a whiteout is an accident of how it was made.
            out.push(b'w');
            return;
        }
    }
    for number in [entry.mode, entry.uid, entry.gid] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if now {
        out.push(b'n');
    } else {
        out.push(b't');
        out.extend_from_slice(&entry.mtime.seconds.to_be_bytes());
        out.extend_from_slice(&entry.mtime.nanos.to_be_bytes());
    }
    match entry.hard_link {
        None => out.push(0),
        Some(group) => {
            out.push(1);
            out.extend_from_slice(&group.to_be_bytes());
        }
    }
    out.extend_from_slice(&(entry.xattrs.len() as u64).to_be_bytes());
    for (name, value) in &entry.xattrs {
        field(out, name);
        field(out, value);
    }
}

/// Numbers hard-link groups by their first path and takes entries without a partner out of their group.
fn number_groups(entries: &mut [Entry]) -> Result<()> {
    let mut members: HashMap<u32, u32> = HashMap::new();
    for group in entries.iter().filter_map(|entry| entry.hard_link) {
        *members.entry(group).or_default() += 1;
    }
    let mut numbers: HashMap<u32, (u32, usize)> = HashMap::new();
    for at in 0..entries.len() {
        let Some(entry) = entries.get(at) else { continue };
        let Some(group) = entry.hard_link else { continue };
        let new = if members.get(&group) == Some(&1) {
            None
        } else {
            let next = numbers.len() as u32;
            let (number, first) = *numbers.entry(group).or_insert((next, at));
            if let Some(first) = entries.get(first) {
                let same = first.kind == entry.kind
                    && (first.mode, first.uid, first.gid, first.mtime)
                        == (entry.mode, entry.uid, entry.gid, entry.mtime)
                    && first.xattrs == entry.xattrs;
                if !same || entry.is_directory() || entry.is_whiteout() {
                    return Err(Error::entry(
                        &entry.path,
                        format!("cannot be the same file as `{}`", first.path),
                    ));
                }
            }
            Some(number)
        };
        if let Some(entry) = entries.get_mut(at) {
            entry.hard_link = new;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn path(text: &str) -> LayerPath {
        LayerPath::new(text).unwrap()
    }

    fn file(at: &str, content: &str) -> Entry {
        let kind = Kind::File { size: content.len() as u64, digest: Digest::of(content) };
        Entry::new(path(at), kind, 0o644)
    }

    fn dir(at: &str) -> Entry {
        Entry::new(path(at), Kind::Directory { opaque: false }, 0o755)
    }

    fn names<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
        entries.into_iter().map(|entry| String::from_utf8_lossy(entry.path.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn lookups() {
        let index = Index::new(vec![
            file("a/b/c", "1"),
            dir("a"),
            file("a.txt", "2"),
            dir("a/b"),
            file("a/z", "3"),
            file("lonely/deep/file", "4"),
        ])
        .unwrap();
        assert_eq!(names(&index), ["a", "a/b", "a/b/c", "a/z", "a.txt", "lonely/deep/file"]);
        assert_eq!(names(index.within(&path("a"))), ["a", "a/b", "a/b/c", "a/z"]);
        assert_eq!(names(index.children(&path("a"))), ["a/b", "a/z"]);
        assert_eq!(names(index.children(&LayerPath::root())), ["a", "a.txt"]);
        assert_eq!(names(index.children(&path("lonely"))), [""; 0]);
        assert_eq!(index.get(&path("a/z")).unwrap().size(), 1);
        assert!(index.get(&path("a/y")).is_none());
    }

    #[test]
    fn groups_are_numbered_by_path() {
        let mut entries =
            vec![file("z", "x"), file("y", "x"), file("b", "q"), file("a", "q"), file("one", "1")];
        for (entry, group) in entries.iter_mut().zip([7, 7, 9, 9, 3]) {
            entry.hard_link = Some(group);
        }
        let index = Index::new(entries).unwrap();
        let groups: Vec<_> = index.iter().map(|entry| entry.hard_link).collect();
        assert_eq!(groups, [Some(0), Some(0), None, Some(1), Some(1)]);
        assert_eq!(index.size(), 3);
    }

    #[test]
    fn refused() {
        assert!(Index::new(vec![file("a", ""), file("a", "x")]).is_err());
        assert!(Index::new(vec![dir("")]).is_err());
        let (mut a, mut b) = (file("a", "1"), file("b", "2"));
        (a.hard_link, b.hard_link) = (Some(0), Some(0));
        assert!(Index::new(vec![a, b]).is_err());
    }

    #[test]
    fn only_times_in_the_window_are_forgotten() {
        let window = TimeWindow { start: Timestamp::new(100, 0), end: Timestamp::new(200, 0) };
        let id = |seconds, window| {
            let mut entry = file("a", "1");
            entry.mtime = Timestamp::new(seconds, 5);
            Index::new(vec![entry]).unwrap().content_id(window)
        };
        assert_eq!(id(150, Some(window)), id(199, Some(window)));
        assert_ne!(id(150, Some(window)), id(201, Some(window)));
        assert_ne!(id(201, Some(window)), id(202, Some(window)));
        assert_ne!(id(150, None), id(151, None));
        // "Now" is not the same as any literal time.
        assert_ne!(id(150, Some(window)), id(150, None));
    }

    #[test]
    fn every_field_is_in_the_content_id() {
        let base = || {
            let mut entry = file("a", "1");
            entry.xattrs.insert(b"user.x".to_vec(), b"1".to_vec());
            entry
        };
        let id = |entry: Entry| Index::new(vec![entry]).unwrap().content_id(None);
        let changes: [fn(&mut Entry); 9] = [
            |e| e.path = path("b"),
            |e| e.mode = 0o4644,
            |e| e.uid = 1,
            |e| e.gid = 1,
            |e| e.mtime = Timestamp::new(0, 1),
            |e| e.xattrs = Default::default(),
            |e| _ = e.xattrs.insert(b"user.x".to_vec(), b"2".to_vec()),
            |e| e.kind = Kind::Symlink { target: b"1".to_vec() },
            |e| e.kind = Kind::Whiteout,
        ];
        let mut seen = vec![id(base())];
        for change in changes {
            let mut entry = base();
            change(&mut entry);
            let next = id(entry);
            assert!(!seen.contains(&next));
            seen.push(next);
        }
        let mut linked = [base(), base()];
        linked[1].path = path("b");
        let apart = Index::new(linked.to_vec()).unwrap().content_id(None);
        linked.iter_mut().for_each(|entry| entry.hard_link = Some(0));
        assert_ne!(Index::new(linked.to_vec()).unwrap().content_id(None), apart);
    }
}
