use std::collections::HashSet;

use crate::entry::{Entry, Kind};
use crate::merged::Merged;
use crate::path::LayerPath;

/// Drops what the upper directory of an overlay has without changing it: files that were copied up and not written,
/// names of a file of which another name is new, directories whose time alone moved.
///
/// Of a directory that something was changed in, the entry stays, as the archive's parent of that. This is the rule of
/// BuildKit's differ (`util/overlay`), but for contents: those are compared where it goes by size and time.
pub(super) fn drop(entries: &mut Vec<Entry>, lower: Merged<'_>) {
    let mut parents: HashSet<LayerPath> = HashSet::new();
    let mut changed = Vec::with_capacity(entries.len());
    for entry in entries.iter() {
        let here = !lower.get(&entry.path).is_some_and(|below| is_same(entry, below));
        changed.push(here);
        let mut above = if here { entry.path.parent() } else { None };
        while let Some(parent) = above.filter(|parent| !parent.is_root()) {
            above = parent.parent();
            if !parents.insert(parent) {
                break;
            }
        }
    }
    let mut changed = changed.into_iter();
    entries.retain(|entry| changed.next() == Some(true) || parents.contains(&entry.path));
}

fn is_same(entry: &Entry, below: &Entry) -> bool {
    let same_kind = match (&entry.kind, &below.kind) {
        (Kind::Directory { .. }, Kind::Directory { .. }) => true,
        (kind, below_kind) => kind == below_kind && entry.mtime == below.mtime,
    };
    same_kind
        && (entry.mode, entry.uid, entry.gid) == (below.mode, below.uid, below.gid)
        && entry.xattrs == below.xattrs
}
