//! What results stand for: the one place where a [`ResultId`] becomes layers or a folder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cooper_layer::LayerId;
use cooper_oci::{Digest, Hasher};
use cooper_solver::ResultId;

use crate::context::Folder;

/// The files that a result stands for.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    /// Layers on each other, lowest first; none is an empty root.
    Layers(Arc<[LayerId]>),
    /// A folder of the user's, seen through its ignore rules.
    Folder(Arc<Folder>),
}

/// All results of a build by id.
#[derive(Debug, Default)]
pub(crate) struct Results(Mutex<HashMap<ResultId, Root>>);

impl Results {
    /// Remembers a root of layers and returns its id: the fold of the layers' ids.
    pub(crate) fn layers(&self, layers: &[LayerId]) -> ResultId {
        let id = ResultId(*fold(layers).as_bytes());
        self.insert(id, Root::Layers(layers.into()));
        id
    }

    /// Remembers a folder under an id of this build.
    pub(crate) fn folder(&self, id: ResultId, folder: Arc<Folder>) {
        self.insert(id, Root::Folder(folder));
    }

    /// Returns what a result stands for.
    pub(crate) fn get(&self, id: ResultId) -> Option<Root> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Returns the first of some results that a layer is part of.
    pub(crate) fn with_layer(&self, ids: &[ResultId], layer: LayerId) -> Option<ResultId> {
        let is_part =
            |id: &ResultId| matches!(self.get(*id), Some(Root::Layers(all)) if all.contains(&layer));
        ids.iter().copied().find(is_part)
    }

    fn insert(&self, id: ResultId, root: Root) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, root);
    }
}

/// Returns the content id of a root: a fold of the ids of its layers, never a digest of the merged tree (for which the
/// layers would have to be here).
pub(crate) fn fold(layers: &[LayerId]) -> Digest {
    layers.iter().fold(Digest::of(b"cooper root 1: scratch"), |below, layer| {
        let mut hash = Hasher::new();
        hash.field(b"cooper root 1");
        hash.field(below.as_bytes());
        hash.field(layer.as_bytes());
        hash.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_the_order_of_its_layers() {
        let layer = |text: &str| LayerId::new(Digest::of(text));
        let (a, b) = (layer("a"), layer("b"));
        let results = Results::default();
        let ids = [&[][..], &[a], &[b], &[a, b], &[b, a], &[a, a]].map(|layers| results.layers(layers));
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{at}");
        }
        let Some(Root::Layers(layers)) = results.get(ids[3]) else { panic!("no layers") };
        assert_eq!(*layers, [a, b]);
        assert_eq!(results.with_layer(&ids, b), Some(ids[2]));
        assert_eq!(results.with_layer(&ids[..2], b), None);
        assert!(results.get(ResultId([0; 32])).is_none());
    }
}
