use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cooper_layer::{Index, LayerId};
use cooper_oci::Digest;

use crate::blobs::SealedBlob;
use crate::charge::{Charged, Metered, on_disk};
use crate::db::SqlContext as _;
use crate::error::{IoContext as _, Result};
use crate::layers::{self, LayerMeta, LayerRecord};
use crate::layout::FILES;
use crate::store::{Store, lock};
use crate::{sweep, time, tree};

/// A directory with the files of a layer to be. Dropping it before it is committed deletes it.
#[derive(Debug)]
pub struct PendingDir {
    /// Keeps the directory of this process.
    _store: Store,
    /// What is renamed; the files are in it.
    outer: PathBuf,
    files: PathBuf,
    renamed: bool,
    charge: Metered,
}

/// What became of a directory that was given to [`Store::commit_layer`].
#[derive(Debug)]
pub enum Committed {
    /// The files are in the store now, under their id.
    New(LayerRecord),
    /// The layer's files were there already and stay; the new ones are gone.
    Adopted(LayerRecord),
    /// The id stands for other bytes, which are not unpacked in the store: what was built on them must not be put on
    /// the new ones. Commit them under another id.
    Taken {
        /// What is known of the layer that has the id.
        record: LayerRecord,
        /// The directory, as it was.
        pending: PendingDir,
    },
}

impl Committed {
    /// Returns the record of the layer that has the id now.
    pub fn record(&self) -> &LayerRecord {
        match self {
            Self::New(record) | Self::Adopted(record) | Self::Taken { record, .. } => record,
        }
    }
}

impl PendingDir {
    pub(crate) fn create(store: &Store) -> Result<Self> {
        let outer = store.fresh();
        fs::DirBuilder::new().mode(0o700).create(&outer).at("create", &outer)?;
        let pending = Self {
            _store: store.clone(),
            files: outer.join(FILES),
            charge: store.metered(&outer),
            outer,
            renamed: false,
        };
        fs::create_dir(&pending.files).at("create", &pending.files)?;
        // Not by mode(): the umask would apply.
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&pending.files, mode).at("set the mode of", &pending.files)?;
        Ok(pending)
    }

    /// Returns the directory for the files: the root of the layer in overlay form.
    pub fn path(&self) -> &Path {
        &self.files
    }

    /// Makes room for what is about to be written here, `bytes` all in all. Who does not know is metered.
    ///
    /// # Errors
    ///
    /// [`Error::Full`](crate::Error::Full) if that is more than the cap leaves.
    pub fn reserve(&mut self, bytes: u64) -> Result<()> {
        self.charge.cover(bytes)
    }

    /// Wraps what is about to be written here, an archive, say: room is made for it while it is read.
    ///
    /// Reading fails with [`Error::Full`](crate::Error::Full) where that is more than the cap leaves.
    pub fn charged<R: Read>(&self, input: R) -> Charged<'_, R> {
        Charged::new(input, &self.charge)
    }

    /// Makes some room for a program that is about to write here.
    pub(crate) fn expect_writes(&self) {
        self.charge.expect_writes();
    }

    /// Returns a path beside the files, for what must be on the same file system and goes with them.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.outer.join(name)
    }

    /// Deletes everything beside the files.
    pub(crate) fn keep_files_only(&self) -> Result<()> {
        for name in sweep::names(&self.outer)? {
            if name != FILES {
                let path = self.outer.join(name);
                tree::remove(&path).at("delete", &path)?;
            }
        }
        Ok(())
    }
}

impl Drop for PendingDir {
    fn drop(&mut self) {
        if !self.renamed {
            // A leftover is in this process's own directory, which goes with the process.
            let _ = tree::remove(&self.outer);
        }
    }
}

impl Store {
    /// Makes an empty directory in the store, mode 0755, for the files of a layer.
    pub fn begin_snapshot(&self) -> Result<PendingDir> {
        self.check_ids()?;
        PendingDir::create(self)
    }

    /// Puts a finished directory into the store as the files of a layer, with its index, and holds the layer.
    ///
    /// Renaming and writing the row are one transaction: other processes see a layer with its bytes or none. If the
    /// layer's files are there already, they are adopted.
    pub fn commit_layer(
        &self,
        mut pending: PendingDir,
        id: LayerId,
        index: &Index,
        meta: &LayerMeta,
    ) -> Result<Committed> {
        let encoded = index.encode();
        pending.keep_files_only()?;
        let sealed = time::now();
        let disk = on_disk(&pending.outer).at("measure", &pending.outer)?;
        pending.charge.cover(disk)?;
        let mut blob = self.index_blob(&encoded)?;
        let unsynced = self.unsynced()?.map(str::to_owned);
        let target = self.0.layout.snapshot(id);
        let mut taken = false;
        let mut adopted = false;
        let result = self.0.db.write(|tx| {
            layers::put(tx, id, meta)?;
            let known = layers::entries(tx, id)?.flatten();
            let found = layers::presence(&self.0.layout, tx, id, &mut Vec::new())?;
            if found.snapshot {
                adopted = true;
            } else if known.is_some_and(|known| known != blob.digest && self.0.layout.blob(&known).exists()) {
                // Where the index that the layer had is gone too, nobody can hold these bytes against it.
                taken = true;
            } else {
                blob.install(tx, unsynced.as_deref())?;
                // Left by a transaction that was cut off, or claimed without its files.
                sweep::rename_to_trash(&self.0.layout, tx, &target, 0, 0)?;
                fs::rename(&pending.outer, &target).at("rename to", &target)?;
                pending.renamed = true;
                let sql =
                    "UPDATE layer SET entries = ?2, implied = ?3, snapshot = ?4, unsynced = ?5, disk = ?6, sealed = ?7
                           WHERE id = ?1";
                let implied = index.iter().any(|entry| entry.implied);
                let size = index.size() as i64;
                let mut update = tx.prepare_cached(sql).sql()?;
                update
                    .execute((id.as_bytes(), blob.digest.as_bytes(), implied, size, unsynced.as_deref(), disk as i64, sealed))
                    .sql()?;
                pending.charge.release(tx)?;
            }
            layers::hold(tx, self.0.holder.lease, id)?;
            layers::required(tx, id)
        });
        let record = match result {
            Ok(record) => record,
            Err(error) => {
                if pending.renamed {
                    // Back, so that dropping deletes it. Left there it would be a stray, which harms nobody.
                    pending.renamed = fs::rename(&target, &pending.outer).is_err();
                }
                return Err(error);
            }
        };
        if taken {
            return Ok(Committed::Taken { record, pending });
        }
        if adopted {
            return Ok(Committed::Adopted(record));
        }
        lock(&self.0.indexes).insert(id, std::sync::Arc::new(index.clone()));
        Ok(Committed::New(record))
    }

    fn index_blob(&self, encoded: &[u8]) -> Result<SealedBlob> {
        let mut writer = self.blob_writer()?;
        writer.write_all(encoded).at("write", &self.0.holder.dir)?;
        writer.seal(Some(&Digest::of(encoded)))
    }
}
