use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooper_layer::{LayerId, LayerPath, Merged};

use crate::db::SqlContext as _;
use crate::error::{Error, IoContext as _, Result};
use crate::mount::attributes;
use crate::store::Store;

/// The layers below a root.
#[derive(Debug)]
pub(super) struct Lower {
    /// Their directories, lowest first.
    pub(super) dirs: Vec<PathBuf>,
    /// Directories that the topmost layer which has them was not asked to have, and the directory whose mode, owner,
    /// attributes and times they must show. With a path every path above it is here.
    ///
    /// An archive may hold `a/b` without `a`. Unpacked alone it has an `a` of mode 0755, which must not hide that of
    /// `a` in a lower layer.
    pub(super) mends: BTreeMap<LayerPath, PathBuf>,
}

impl Lower {
    pub(super) fn of(store: &Store, layers: &[LayerId]) -> Result<Self> {
        let found = store.presence(layers)?;
        let dirs = layers.iter().zip(found).map(|(id, found)| {
            if found.snapshot && store.is_sound(*id)? {
                Ok(store.0.layout.files(*id))
            } else {
                Err(Error::Lost(*id))
            }
        });
        let dirs = dirs.collect::<Result<Vec<_>>>()?;
        let implied = store.0.db.read(|tx| {
            let mut query = tx.prepare_cached("SELECT 1 FROM layer WHERE id = ?1 AND implied").sql()?;
            let mut implied = Vec::new();
            for id in layers {
                implied.push(query.exists([id.as_bytes()]).sql()?);
            }
            Ok(implied)
        })?;
        // The lowest layer has nothing below it that it could hide.
        let mends = match implied.iter().skip(1).any(|implied| *implied) {
            true => mends(store, layers, &dirs)?,
            false => BTreeMap::new(),
        };
        Ok(Self { dirs, mends })
    }

    /// Makes a directory that, on top of the layers, mends what has to be; `None` if nothing has.
    pub(super) fn mending_layer(&self, dir: PathBuf) -> Result<Option<PathBuf>> {
        let Some(top) = self.dirs.last() else { return Ok(None) };
        if self.mends.is_empty() {
            return Ok(None);
        }
        std::fs::create_dir(&dir).at("create", &dir)?;
        for path in self.mends.keys() {
            let new = below(&dir, path);
            std::fs::create_dir(&new).at("create", &new)?;
        }
        // From below, so that making an entry does not change the time of its directory again.
        for (path, from) in self.mends.iter().rev() {
            attributes::give(&below(&dir, path), from, &attributes::stat(from)?)?;
        }
        attributes::give(&dir, top, &attributes::stat(top)?)?;
        Ok(Some(dir))
    }
}

fn mends(store: &Store, layers: &[LayerId], dirs: &[PathBuf]) -> Result<BTreeMap<LayerPath, PathBuf>> {
    let indexes = store.indexes(layers)?;
    let refs: Vec<_> = indexes.iter().map(|index| &**index).collect();
    let merged = Merged::new(&refs);
    // The directory from which a path has its attributes.
    let source = |path: &LayerPath| -> Option<(usize, &Path)> {
        let entry = merged.get(path).filter(|entry| entry.is_directory())?;
        let at =
            refs.iter().rposition(|index| index.get(path).is_some_and(|own| std::ptr::eq(own, entry)))?;
        Some((at, dirs.get(at)?))
    };
    let mut mends = BTreeMap::new();
    for index in refs.iter().skip(1) {
        for entry in index.iter().filter(|entry| entry.implied) {
            let Some((at, dir)) = source(&entry.path) else { continue };
            // Nothing to mend if the topmost layer that has the path is the one that counts.
            if refs.iter().rposition(|index| index.get(&entry.path).is_some()) == Some(at) {
                continue;
            }
            mends.insert(entry.path.clone(), below(dir, &entry.path));
        }
    }
    let paths: Vec<_> = mends.keys().cloned().collect();
    for path in paths {
        let mut above = path.parent();
        while let Some(path) = above.filter(|path| !path.is_root() && !mends.contains_key(path)) {
            if let Some((_, dir)) = source(&path) {
                mends.insert(path.clone(), below(dir, &path));
            }
            above = path.parent();
        }
    }
    Ok(mends)
}

/// Returns where a path of a layer is below a directory; the root is the directory itself.
pub(super) fn below(dir: &Path, path: &LayerPath) -> PathBuf {
    if path.is_root() { dir.to_owned() } else { dir.join(path.as_path()) }
}
