//! What the stream has made so far, in memory: links are resolved here and nowhere else.

use std::collections::{BTreeMap, VecDeque};

use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::options::Limits;
use crate::path::LayerPath;

/// As many links as the kernel follows.
const LINKS: usize = 40;

pub(super) struct Tree {
    nodes: BTreeMap<LayerPath, Node>,
    files: u32,
    /// The last answer: archives list directories one after the other.
    last: Option<(LayerPath, LayerPath)>,
    /// Components walked so far.
    steps: u64,
    most_steps: u64,
}

pub(super) struct Node {
    pub(super) entry: Entry,
    /// The same for all names of one file.
    pub(super) file: u32,
}

/// Where a path leads: an existing directory, and what is missing from there.
pub(super) struct Resolved {
    pub(super) directory: LayerPath,
    pub(super) missing: Vec<Vec<u8>>,
}

impl Resolved {
    pub(super) fn existing(self) -> Option<LayerPath> {
        self.missing.is_empty().then_some(self.directory)
    }
}

impl Tree {
    /// Makes an empty one that walks at most this many components in all.
    pub(super) fn new(most_steps: u64) -> Self {
        Self { nodes: BTreeMap::new(), files: 0, last: None, steps: 0, most_steps }
    }

    pub(super) fn get(&self, path: &LayerPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub(super) fn get_mut(&mut self, path: &LayerPath) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.files += 1;
        self.insert_link(entry, self.files);
    }

    pub(super) fn insert_link(&mut self, entry: Entry, file: u32) {
        self.nodes.insert(entry.path.clone(), Node { entry, file });
    }

    /// Takes out a path and what is below it, inner ones first.
    pub(super) fn remove_within(&mut self, path: &LayerPath) -> Vec<Node> {
        if !self.nodes.contains_key(path) {
            return Vec::new();
        }
        self.last = None;
        let below = self.nodes.range(path..).take_while(|(at, _)| at.is_within(path));
        let paths: Vec<LayerPath> = below.map(|(at, _)| at.clone()).collect();
        paths.iter().rev().filter_map(|at| self.nodes.remove(at)).collect()
    }

    /// Follows a path to a directory as a process inside the layer would: links from the layer's root, `..` never above
    /// it. A component that is no directory is an error.
    pub(super) fn resolve(&mut self, path: &LayerPath) -> Result<Resolved> {
        if let Some((from, to)) = &self.last
            && from == path
        {
            return Ok(Resolved { directory: to.clone(), missing: Vec::new() });
        }
        let mut directory = LayerPath::root();
        let mut missing: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        let mut left: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        while let Some(name) = left.pop_front() {
            self.steps += 1;
            Limits::check("number of steps through directories and links", self.steps, self.most_steps)?;
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if missing.pop().is_none() {
                        directory = directory.parent().unwrap_or_default();
                    }
                    continue;
                }
                _ => {}
            }
            if !missing.is_empty() {
                missing.push(name);
                continue;
            }
            let next = directory.join_name(&name);
            match self.nodes.get(&next).map(|node| &node.entry.kind) {
                None => missing.push(name),
                Some(Kind::Directory { .. }) => directory = next,
                Some(Kind::Symlink { target }) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Error::entry(path, "leads through too many symbolic links"));
                    }
                    if target.contains(&0) {
                        return Err(Error::entry(&next, "is a link whose target has a NUL"));
                    }
                    if target.first() == Some(&b'/') {
                        directory = LayerPath::root();
                    }
                    for part in target.split(|&b| b == b'/').rev() {
                        left.push_front(part.to_vec());
                    }
                }
                Some(_) => {
                    return Err(Error::entry(path, format!("leads through `{next}`, which is no directory")));
                }
            }
        }
        if missing.is_empty() {
            self.last = Some((path.clone(), directory.clone()));
        }
        Ok(Resolved { directory, missing })
    }

    /// Returns all entries, sorted, with the names of one file in one group.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.nodes
            .into_values()
            .map(|Node { mut entry, file }| {
                entry.hard_link = (!entry.is_directory() && !entry.is_whiteout()).then_some(file);
                entry
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::new(text).unwrap()
    }

    #[test]
    fn links_stay_inside() {
        let mut tree = Tree::new(1000);
        for directory in ["a", "a/b", "usr", "usr/lib"] {
            tree.insert(Entry::new(path(directory), Kind::Directory { opaque: false }, 0));
        }
        for (link, target) in [
            ("lib", "usr/lib"),
            ("a/up", "../../../usr"),
            ("abs", "/a/./b/"),
            ("dangling", "/x/y"),
            ("round", "round"),
            ("a/b/out", "/../../etc"),
        ] {
            tree.insert(Entry::new(path(link), Kind::Symlink { target: target.into() }, 0));
        }
        tree.insert(Entry::new(path("file"), Kind::Fifo, 0));
        for (from, directory, missing) in [
            ("lib", "usr/lib", ""),
            ("lib/x/y", "usr/lib", "x/y"),
            ("a/up/lib", "usr/lib", ""),
            ("abs", "a/b", ""),
            ("dangling/z", "", "x/y/z"),
            ("a/b/out", "", "etc"),
            ("new/dir", "", "new/dir"),
        ] {
            let found = tree.resolve(&path(from)).unwrap();
            assert_eq!(found.directory, path(directory), "{from}");
            assert_eq!(found.missing.join(&b'/'), missing.as_bytes(), "{from}");
        }
        for bad in ["round/x", "file/x", "file"] {
            assert!(tree.resolve(&path(bad)).is_err(), "{bad}");
        }
    }

    /// A parent that climbs back out of what does not exist yet.
    #[test]
    fn dots_after_missing_parts() {
        let mut tree = Tree::new(1000);
        tree.insert(Entry::new(path("l"), Kind::Symlink { target: b"new/deep/../../../../z".to_vec() }, 0));
        let found = tree.resolve(&path("l/f")).unwrap();
        assert_eq!((found.directory, found.missing.join(&b'/')), (LayerPath::root(), b"z/f".to_vec()));
    }
}
