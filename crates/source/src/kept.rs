//! Keeping what came from outside as a layer that is named by what is in it.

use cooper_layer::{Index, LayerId};
use cooper_oci::Hasher;
use cooper_store::{LayerMeta, PendingDir, Store};

use crate::Result;

/// Puts a finished directory into the store, and holds it.
pub(crate) fn keep(store: &Store, pending: PendingDir, index: &Index) -> Result<LayerId> {
    let mut hash = Hasher::new();
    hash.field(b"cooper layer 1: source");
    hash.field(index.content_id(None).as_bytes());
    let layer = LayerId::new(hash.finish());
    let created = std::time::SystemTime::now().into();
    let meta = LayerMeta { created, ..LayerMeta::default() };
    // Equal content has an equal name: whatever lies under it serves.
    Ok(store.commit_layer(pending, layer, index, &meta)?.record().id)
}

/// Tells whether files and entries of a layer are here, and holds it so that they stay.
pub(crate) fn here(store: &Store, layer: LayerId) -> Result<bool> {
    if store.layer(layer)?.is_none() {
        return Ok(false);
    }
    store.hold_layers(&[layer])?;
    let there = store.presence(&[layer])?.first().is_some_and(|found| found.snapshot);
    Ok(there && store.index(layer)?.is_some())
}
