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
