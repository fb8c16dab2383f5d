//! Files that may be meant where one is not there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cooper_frontend::nearest;
use cooper_layer::{LayerPath, Merged};
use cooper_solver::{ResultId, VertexId};

use crate::error::StepError;
use crate::results::{Results, Root};

/// Entries that are looked at; a root may hold very many files.
const MANY: usize = 20_000;

/// Files that are named at most.
const SUGGESTIONS: usize = 3;

/// Finds files that are there: with nearly the same name in the same folder, or with the same name elsewhere.
///
/// Paths are relative to the root. `names` lists a folder, sorted, and says which of it are folders; `hidden` says what is
/// not to be named.
pub fn near(
    path: &str,
    names: impl Fn(&str) -> Vec<(String, bool)>,
    hidden: impl Fn(&str) -> bool,
) -> Vec<String> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut found = Vec::new();
    let mut beside: Vec<String> = names(dir).into_iter().map(|(name, _)| name).collect();
    while found.len() < SUGGESTIONS {
        let same = beside.iter().find(|other| other.to_lowercase() == name.to_lowercase()).cloned();
        let Some(other) = same.or_else(|| nearest(name, beside.iter().map(String::as_str))) else { break };
        beside.retain(|name| *name != other);
        found.push(if dir.is_empty() { other } else { format!("{dir}/{other}") });
    }
    let mut todo = vec![String::new()];
    let mut looked = 0;
    while let (true, Some(dir)) = (found.len() < SUGGESTIONS && looked < MANY, todo.pop()) {
        for (entry, is_folder) in names(&dir) {
            looked += 1;
            let inner = if dir.is_empty() { entry.clone() } else { format!("{dir}/{entry}") };
            if hidden(&inner) || entry == ".git" {
                continue;
            }
            if entry == name && inner != path && !found.contains(&inner) {
                found.push(inner.clone());
            }
            if is_folder {
                todo.push(inner);
            }
        }
    }
    found.retain(|path| !hidden(path));
    found.truncate(SUGGESTIONS);
    found
}

/// What was found for steps that missed a file in a result.
#[derive(Debug, Default)]
pub(crate) struct Near(Mutex<HashMap<VertexId, Vec<String>>>);

impl Near {
    /// Looks for what may have been meant, if a file of a result is what was missed.
    pub(crate) fn look(
        &self,
        store: &cooper_store::Store,
        results: &Results,
        vertex: VertexId,
        inputs: &[ResultId],
        error: &StepError,
    ) {
        let Some(path) = error.missing() else { return };
        // What is copied from comes behind what is copied to.
        let roots = inputs.iter().rev().filter_map(|id| match results.get(*id) {
            Some(Root::Layers(layers)) => Some(layers),
            _ => None,
        });
        let Some(layers) = roots.into_iter().find(|layers| !layers.is_empty()) else { return };
        let Ok(indexes) = store.indexes(&layers) else { return };
        let indexes: Vec<_> = indexes.iter().map(|index| &**index).collect();
        let merged = Merged::new(&indexes);
        let names = |dir: &str| {
            let Ok(path) = LayerPath::new(dir) else { return Vec::new() };
            let children = merged.children(&path);
            let text = |name: &[u8]| String::from_utf8(name.to_vec()).ok();
            children.iter().filter_map(|(name, entry)| Some((text(name)?, entry.is_directory()))).collect()
        };
        let found = near(path.trim_start_matches('/'), names, |_| false);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(vertex, found);
    }

    /// Returns what was found, as paths from the root.
    pub(crate) fn take(&self, vertex: VertexId) -> Vec<String> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&vertex);
        found.unwrap_or_default().into_iter().map(|path| format!("/{path}")).collect()
    }
}
