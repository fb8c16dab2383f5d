//! Keeping what a step wrote: scanning it, naming it, putting it into the store.

use std::sync::Arc;

use cooper_layer::{Directory, Index, LayerId, Merged, ScanOptions, TimeWindow};
use cooper_oci::{Digest, Hasher};
use cooper_store::{Committed, LayerMeta, Store, Workspace};

use crate::error::StepError;
use crate::results::fold;

/// How the layer of an output is named.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Naming {
    /// By what was written on which root, times of the run itself left out: a step that made the same again has the same
    /// name, and what depends on it is found in the cache.
    Content(TimeWindow),
    /// By the key of the step, of which the output is a function.
    Key(Digest),
}

/// Commits what was written to a workspace as one layer and returns its name.
///
/// A layer of this name that is in the store already is adopted, bytes and times, and the new bytes are dropped, but for
/// a forced run, which keeps its own. Bytes that differ from those that a name stands for get a name of their own, so
/// that nothing that was made from the old ones is taken for made from them.
pub(crate) fn keep(
    store: &Store,
    workspace: Workspace,
    naming: Naming,
    forced: bool,
) -> Result<LayerId, StepError> {
    let below = workspace.layers().to_vec();
    let lower: Vec<Arc<Index>> = store.indexes(&below)?;
    let lower: Vec<&Index> = lower.iter().map(|index| &**index).collect();
    let pending = workspace.finish()?;
    let options =
        ScanOptions { overlay: store.overlay_xattrs(), owners: store.owners(), ..ScanOptions::default() };
    let directory = Directory::open(pending.path()).map_err(|error| StepError::Io {
        action: "open",
        path: pending.path().to_owned(),
        error,
    })?;
    let index = cooper_layer::scan(&directory, Merged::new(&lower), &options)?;
    let id = match naming {
        Naming::Content(window) => {
            named(b"cooper layer 1: content", &fold(&below), &index.content_id(Some(window)))
        }
        Naming::Key(key) => named(b"cooper layer 1: key", &key, &key),
    };
    let meta = LayerMeta { created: std::time::SystemTime::now().into(), ..LayerMeta::default() };
    if forced && differs(store, id, &index)? {
        let own = own_name(id);
        return Ok(store.commit_layer(pending, own, &index, &meta)?.record().id);
    }
    match store.commit_layer(pending, id, &index, &meta)? {
        Committed::New(record) | Committed::Adopted(record) => Ok(record.id),
        Committed::Taken { pending, .. } => {
            let own = own_name(id);
            Ok(store.commit_layer(pending, own, &index, &meta)?.record().id)
        }
    }
}

fn named(domain: &[u8], one: &Digest, other: &Digest) -> LayerId {
    let mut hash = Hasher::new();
    hash.field(domain);
    hash.field(one.as_bytes());
    hash.field(other.as_bytes());
    LayerId::new(hash.finish())
}

/// Tells whether a name stands for other bytes than these, times included.
fn differs(store: &Store, id: LayerId, index: &Index) -> Result<bool, StepError> {
    Ok(store
        .layer(id)?
        .is_some_and(|record| record.index.is_some_and(|known| known != Digest::of(index.encode()))))
}

/// Returns a name that no other attempt has.
fn own_name(id: LayerId) -> LayerId {
    let mut hash = Hasher::new();
    hash.field(b"cooper layer 1: attempt");
    hash.field(id.as_bytes());
    hash.field(crate::nonce());
    LayerId::new(hash.finish())
}

#[cfg(test)]
mod tests {
    use cooper_layer::Timestamp;
    use cooper_store::{Backend, Options};

    use super::*;

    /// A store that needs no mounts.
    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { backend: Backend::Copy, ..Options::default() };
        let store = Store::open_with(dir.path(), &options).unwrap();
        (dir, store)
    }

    /// Writes a file, dated, on a root, and keeps it.
    fn wrote(
        store: &Store,
        below: &[LayerId],
        text: &str,
        time: u64,
        naming: Naming,
        forced: bool,
    ) -> LayerId {
        let workspace = store.workspace(below).unwrap();
        let path = workspace.root().join("f");
        std::fs::write(&path, text).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
        std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
        keep(store, workspace, naming, forced).unwrap()
    }

    fn time_of(store: &Store, id: LayerId) -> i64 {
        store.index(id).unwrap().unwrap().iter().next().unwrap().mtime.seconds
    }

    /// Steps of these tests run from second 100 to 200.
    fn window() -> Naming {
        Naming::Content(TimeWindow { start: Timestamp::new(100, 0), end: Timestamp::new(200, 0) })
    }

    #[test]
    fn who_made_the_same_again_gets_what_was_there() {
        let (_dir, store) = store();
        let first = wrote(&store, &[], "a", 110, window(), false);
        assert_eq!(wrote(&store, &[], "a", 190, window(), false), first);
        assert_eq!(time_of(&store, first), 110, "with its times");
        assert_ne!(wrote(&store, &[], "b", 110, window(), false), first);
        // A time that the step itself set says something.
        assert_ne!(wrote(&store, &[], "a", 50, window(), false), first);
        // The same on another root is another layer: it may hide what is below.
        assert_ne!(
            wrote(&store, &[first], "b", 110, window(), false),
            wrote(&store, &[], "b", 110, window(), false)
        );
    }

    #[test]
    fn a_forced_run_keeps_its_own_times() {
        let (_dir, store) = store();
        let first = wrote(&store, &[], "a", 110, window(), false);
        let forced = wrote(&store, &[], "a", 190, window(), true);
        assert_ne!(forced, first);
        assert_eq!((time_of(&store, first), time_of(&store, forced)), (110, 190));
        assert_eq!(wrote(&store, &[], "a", 110, window(), true), first, "nothing differs");
    }

    #[test]
    fn other_bytes_never_come_under_a_name_that_was_used() {
        let (_dir, store) = store();
        let key = Naming::Key(Digest::of("key"));
        let first = wrote(&store, &[], "a", 110, key, false);
        assert_eq!(wrote(&store, &[], "a", 110, key, false), first);
        assert_eq!(wrote(&store, &[], "other", 110, key, false), first, "as long as its files are there");
        store.lose_snapshot(first, "test").unwrap();
        let second = wrote(&store, &[], "a", 120, key, false);
        assert_ne!(second, first);
        assert_eq!(time_of(&store, first), 110, "what is known of it stays");
        assert_eq!(wrote(&store, &[], "a", 110, key, false), first, "the same may come back");
    }
}
