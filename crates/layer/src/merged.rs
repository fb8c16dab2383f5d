use std::collections::BTreeMap;

use crate::entry::{Entry, Kind};
use crate::index::Index;
use crate::path::LayerPath;

/// What one sees when layers lie on each other: the answers that overlayfs would give, from indexes alone.
#[derive(Debug, Clone, Copy)]
pub struct Merged<'a> {
    /// Lowest first.
    layers: &'a [&'a Index],
}

impl<'a> Merged<'a> {
    /// Looks at layers, lowest first. No layer at all is an empty root.
    pub const fn new(layers: &'a [&'a Index]) -> Self {
        Self { layers }
    }

    /// Returns what is at a path; links on the way are not followed.
    pub fn get(&self, path: &LayerPath) -> Option<&'a Entry> {
        let mut found: Option<&Entry> = None;
        for layer in self.reach(path) {
            match layer.get(path) {
                Some(entry) if entry.is_whiteout() => break,
                // A directory that an archive left out has its attributes from a lower layer, if that has them.
                Some(entry) if entry.implied => found = Some(entry),
                Some(entry) if found.is_none() || entry.is_directory() => return Some(entry),
                Some(_) => break,
                None => {}
            }
        }
        found
    }

    /// Returns what is directly in a directory, by name; nothing if it is none.
    pub fn children(&self, path: &LayerPath) -> BTreeMap<&'a [u8], &'a Entry> {
        // `None`: hidden by a layer above.
        let mut seen: BTreeMap<&[u8], Option<&Entry>> = BTreeMap::new();
        for layer in self.reach(path) {
            let here = layer.get(path);
            if here.is_some_and(|entry| !entry.is_directory()) {
                break;
            }
            for entry in layer.children(path) {
                let slot = seen.entry(entry.path.name());
                match slot {
                    std::collections::btree_map::Entry::Vacant(slot) => {
                        slot.insert((!entry.is_whiteout()).then_some(entry));
                    }
                    std::collections::btree_map::Entry::Occupied(mut slot) => {
                        // Below an implied directory the attributes come from the next layer that has it, unless
                        // something else lies between; `get` knows.
                        if slot.get().is_some_and(|above| above.implied)
                            && let Some(entry) = self.get(&entry.path)
                        {
                            slot.insert(Some(entry));
                        }
                    }
                }
            }
            if here.is_some_and(|entry| matches!(entry.kind, Kind::Directory { opaque: true })) {
                break;
            }
        }
        seen.into_iter().filter_map(|(name, entry)| Some((name, entry?))).collect()
    }

    /// Iterates over the layers, highest first, down to where something above `path` hides what is further below.
    fn reach(&self, path: &LayerPath) -> impl Iterator<Item = &'a Index> {
        let mut ancestors = Vec::new();
        let mut above = path.parent();
        while let Some(parent) = above {
            above = parent.parent();
            if !parent.is_root() {
                ancestors.push(parent);
            }
        }
        let mut closed = false;
        self.layers.iter().rev().copied().take_while(move |layer| {
            if closed {
                return false;
            }
            for parent in &ancestors {
                match layer.get(parent).map(|entry| &entry.kind) {
                    None | Some(Kind::Directory { opaque: false }) => {}
                    // The layer itself still counts: what hides is below it.
                    Some(_) => closed = true,
                }
            }
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use cooper_oci::Digest;

    use super::*;

    fn layer(paths: &[&str]) -> Index {
        // "a/" directory, "a/!" opaque directory, "(a)/" implied, "-a" whiteout, "a" file.
        let entries = paths.iter().map(|text| {
            let path = LayerPath::new(text.trim_matches(|c| "-!/()".contains(c))).unwrap();
            if text.starts_with('-') {
                Entry::whiteout(path)
            } else if text.contains(['!', '(']) || text.ends_with('/') {
                let kind = Kind::Directory { opaque: text.ends_with('!') };
                let mode = if text.starts_with('(') { 0o755 } else { 0o700 };
                Entry { implied: text.starts_with('('), ..Entry::new(path, kind, mode) }
            } else {
                Entry::new(path, Kind::File { size: 1, digest: Digest::of("x") }, 0o644)
            }
        });
        Index::new(entries.collect()).unwrap()
    }

    fn names(layers: &[&Index], path: &str) -> String {
        let path = LayerPath::new(path).unwrap();
        let children = Merged::new(layers).children(&path);
        children.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn overlay_rules() {
        let base = layer(&["a/", "a/1", "a/2", "a/d/", "a/d/x", "b", "c/", "c/1"]);
        let top = layer(&["a/", "-a/1", "a/3", "-c", "b/", "b/new"]);
        let all = [&base, &top];
        assert_eq!(names(&all, ""), "a b");
        assert_eq!(names(&all, "a"), "2 3 d");
        assert_eq!(names(&all, "a/d"), "x");
        assert_eq!(names(&all, "b"), "new");
        assert_eq!(names(&all, "c"), "");
        let get = |path: &str| Merged::new(&all).get(&LayerPath::new(path).unwrap()).is_some();
        assert!(get("a/2") && get("a/d/x") && get("b/new"));
        assert!(!get("a/1") && !get("c") && !get("c/1"));
    }

    #[test]
    fn opaque_hides_all_the_way_down() {
        let base = layer(&["a/", "a/d/", "a/d/x", "a/1"]);
        let middle = layer(&["a/!", "a/d/", "a/d/y"]);
        let top = layer(&["a/", "a/d/", "a/d/z"]);
        assert_eq!(names(&[&base, &middle], "a"), "d");
        assert_eq!(names(&[&base, &middle], "a/d"), "y");
        assert_eq!(names(&[&base, &middle, &top], "a/d"), "y z");
        let gone = Merged::new(&[&base, &middle]).get(&LayerPath::new("a/d/x").unwrap()).is_some();
        assert!(!gone);
    }

    #[test]
    fn a_file_replaces_a_directory_and_back() {
        let base = layer(&["a/", "a/old"]);
        let file = layer(&["a"]);
        let again = layer(&["a/", "a/new"]);
        assert_eq!(names(&[&base, &file], "a"), "");
        assert_eq!(names(&[&base, &file, &again], "a"), "new");
        let old = Merged::new(&[&base, &file, &again]).get(&LayerPath::new("a/old").unwrap()).is_some();
        assert!(!old);
    }

    #[test]
    fn implied_directories_show_what_is_below_them() {
        let base = layer(&["a/", "a/b/"]);
        let top = layer(&["(a)", "(a/b)", "a/b/f"]);
        let all = [&base, &top];
        for path in ["a", "a/b"] {
            let path = LayerPath::new(path).unwrap();
            assert_eq!(Merged::new(&all).get(&path).unwrap().mode, 0o700);
            let parent = path.parent().unwrap();
            assert_eq!(Merged::new(&all).children(&parent)[path.name()].mode, 0o700);
        }
        assert_eq!(names(&all, "a/b"), "f");
        let whiteout = layer(&["-a"]);
        let all = [&base, &whiteout, &top];
        assert_eq!(Merged::new(&all).get(&LayerPath::new("a").unwrap()).unwrap().mode, 0o755);
    }

    #[test]
    fn of_implied_directories_alone_the_first_counts() {
        let (real, file, mut first, second) =
            (layer(&["a/"]), layer(&["a"]), layer(&["(a)/", "(a)/x"]), layer(&["(a)/", "(a)/y"]));
        let mut entries = first.entries().to_vec();
        entries[0].mode = 0o711;
        first = Index::new(entries).unwrap();
        let layers = [&real, &file, &first, &second];
        let merged = Merged::new(&layers);
        let found = merged.get(&LayerPath::new("a").unwrap()).unwrap();
        assert_eq!((found.mode, found.implied), (0o711, true));
        assert_eq!(merged.children(&LayerPath::root()).values().copied().collect::<Vec<_>>(), [found]);
    }

    /// Applies layers one after the other to a flat map, as the OCI specification tells it.
    #[cfg(target_os = "linux")]
    fn apply(layers: &[&Index]) -> BTreeMap<LayerPath, Entry> {
        let mut tree: BTreeMap<LayerPath, Entry> = BTreeMap::new();
        for layer in layers {
            for entry in *layer {
                let old = tree.get(&entry.path).cloned();
                let both_directories = entry.is_directory() && old.as_ref().is_some_and(Entry::is_directory);
                let opaque = matches!(entry.kind, Kind::Directory { opaque: true });
                if !both_directories || opaque {
                    tree.retain(|path, _| !path.is_within(&entry.path));
                }
                match old {
                    _ if entry.is_whiteout() => {}
                    Some(old) if both_directories && entry.implied => {
                        drop(tree.insert(entry.path.clone(), old))
                    }
                    _ => drop(tree.insert(entry.path.clone(), entry.clone())),
                }
            }
        }
        tree
    }

    #[cfg(target_os = "linux")]
    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(150))]

        #[test]
        fn equal_to_applying_layers_in_turn(
            models in proptest::collection::vec(crate::testing::model(false), 0..5),
            marks in proptest::collection::vec(0..6, 100),
        ) {
            let mut marks = marks.iter().cycle();
            let layers: Vec<Index> = models.into_iter().map(|model| {
                let entries = model.index.iter().cloned().map(|mut entry| {
                    if let Kind::Directory { opaque } = &mut entry.kind {
                        match marks.next() {
                            Some(0) => *opaque = true,
                            Some(1) => entry.implied = true,
                            _ => {}
                        }
                    }
                    entry
                });
                Index::new(entries.collect()).unwrap()
            }).collect();
            let layers: Vec<&Index> = layers.iter().collect();
            let merged = Merged::new(&layers);
            let expected = apply(&layers);
            let mut seen = BTreeMap::new();
            let mut todo = vec![LayerPath::root()];
            while let Some(directory) = todo.pop() {
                for (_, entry) in merged.children(&directory) {
                    proptest::prop_assert_eq!(merged.get(&entry.path), Some(entry));
                    seen.insert(entry.path.clone(), entry.clone());
                    if entry.is_directory() {
                        todo.push(entry.path.clone());
                    }
                }
            }
            proptest::prop_assert_eq!(&seen, &expected);
            for path in layers.iter().flat_map(|layer| layer.iter()).map(|entry| &entry.path) {
                proptest::prop_assert_eq!(merged.get(path), expected.get(path));
            }
        }
    }
}
