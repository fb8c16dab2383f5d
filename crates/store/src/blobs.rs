use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::PathBuf;

use cooper_oci::{Digest, Hasher};
use rusqlite::{OptionalExtension as _, Transaction};

use crate::charge::Charge;
use crate::db::SqlContext as _;
use crate::error::{Error, IoContext as _, Result};
use crate::loss::Loss;
use crate::store::Store;
use crate::time;

impl Store {
    /// Tells whether a blob is here, with a file of the right length. Its bytes are not read.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_path(digest)?.is_some())
    }

    /// Returns where the bytes of a blob are, if they are here.
    pub fn blob_path(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        Ok(self.blob_size(digest)?.map(|_| self.0.layout.blob(digest)))
    }

    /// Returns the length of a blob in bytes, if it is here.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(size) = self.0.db.read(|tx| row(tx, digest))? else { return Ok(None) };
        match fs::symlink_metadata(self.0.layout.blob(digest)) {
            Ok(found) if found.is_file() && found.len() == size => Ok(Some(size)),
            Ok(found) => {
                let reason = format!("has {} bytes instead of {size}", found.len());
                self.lose_blob(digest, reason).map(|()| None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.lose_blob(digest, "is gone").map(|()| None)
            }
            Err(error) => Err(Error::io("look at", self.0.layout.blob(digest), error)),
        }
    }

    /// Opens a blob for reading, if it is here. Its bytes are not checked.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>> {
        let Some(path) = self.blob_path(digest)? else { return Ok(None) };
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    /// Reads a whole blob and checks its digest. One that is damaged is given up and counts as not here.
    pub fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_blob(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", self.0.layout.blob(digest))?;
        if Digest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        self.lose_blob(digest, "its bytes have another digest").map(|()| None)
    }

    /// Starts a new blob.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let path = self.fresh();
        let file = File::options().write(true).create_new(true).open(&path).at("create", &path)?;
        Ok(BlobWriter {
            store: self.clone(),
            path,
            file,
            hasher: Hasher::new(),
            size: 0,
            renamed: false,
            charge: self.charge(),
        })
    }

    /// Stores bytes as a blob.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.hold_blob_if_here(&digest)? {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).at("write", &writer.path)?;
        writer.commit(Some(&digest)).map(|(digest, _)| digest)
    }

    /// Gives a blob up because it is missing or damaged: from now on it counts as not here.
    pub fn lose_blob(&self, digest: &Digest, reason: impl Into<String>) -> Result<()> {
        let path = self.0.layout.blob(digest);
        let lost = self.0.db.write(|tx| {
            let last = crate::sweep::last_holder(tx)?;
            let bytes = row(tx, digest)?.unwrap_or(0);
            crate::sweep::rename_to_trash(&self.0.layout, tx, &path, last, bytes)?;
            tx.execute("DELETE FROM blob WHERE digest = ?1", [digest.as_bytes()]).sql()
        })?;
        if lost > 0 {
            self.note_loss(Loss::Blob { digest: *digest, reason: reason.into() });
        }
        Ok(())
    }

    /// Holds a blob that is here; tells whether it is.
    pub(crate) fn hold_blob_if_here(&self, digest: &Digest) -> Result<bool> {
        if self.blob_size(digest)?.is_none() {
            return Ok(false);
        }
        self.0.db.write(|tx| {
            let here = row(tx, digest)?.is_some();
            if here {
                hold(tx, self.0.holder.lease, digest)?;
            }
            Ok(here)
        })
    }
}

/// Returns the length that a blob should have.
pub(crate) fn row(tx: &Transaction<'_>, digest: &Digest) -> Result<Option<u64>> {
    let mut query = tx.prepare_cached("SELECT size FROM blob WHERE digest = ?1").sql()?;
    query.query_row([digest.as_bytes()], |row| row.get(0)).optional().sql()
}

pub(crate) fn hold(tx: &Transaction<'_>, lease: i64, digest: &Digest) -> Result<()> {
    let sql = "INSERT INTO lease_blob (lease, blob) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    if tx.prepare_cached(sql).sql()?.execute((lease, digest.as_bytes())).sql()? > 0 {
        let sql = "UPDATE blob SET used = ?2, uses = uses + 1 WHERE digest = ?1";
        tx.prepare_cached(sql).sql()?.execute((digest.as_bytes(), time::now())).sql()?;
    }
    Ok(())
}

/// A blob that is being written. Dropping it before [`commit`](Self::commit) deletes what was written.
///
/// Writes go to the file as they come: buffer small ones.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    renamed: bool,
    charge: Charge,
}

impl BlobWriter {
    /// Returns the number of bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the blob and puts it into the store. Returns its digest and length in bytes.
    ///
    /// With `expected`, other bytes are [`Error::Mismatch`] and nothing is stored.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let store = self.store.clone();
        let unsynced = store.unsynced()?;
        let mut sealed = self.seal(expected)?;
        let out = (sealed.digest, sealed.size);
        store.0.db.write(|tx| sealed.install(tx, unsynced))?;
        Ok(out)
    }

    /// Ends the blob without putting it into the store yet.
    pub(crate) fn seal(self, expected: Option<&Digest>) -> Result<SealedBlob> {
        let digest = self.hasher.clone().finish();
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(Error::Mismatch { expected: *expected, found: digest });
        }
        Ok(SealedBlob { digest, size: self.size, writer: self })
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.charge.cover(self.size + bytes.len() as u64)?;
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.renamed {
            // A leftover is in this process's own directory, which goes with the process.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A blob whose bytes are complete.
#[derive(Debug)]
pub(crate) struct SealedBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    writer: BlobWriter,
}

impl SealedBlob {
    /// Renames the blob in and inserts its row, unless it is there already; holds it.
    ///
    /// A file without a row may be the leftover of a crash and is replaced.
    pub(crate) fn install(&mut self, tx: &Transaction<'_>, unsynced: Option<&str>) -> Result<()> {
        let store = self.writer.store.clone();
        let path = store.0.layout.blob(&self.digest);
        let here = row(tx, &self.digest)? == Some(self.size)
            && fs::symlink_metadata(&path).is_ok_and(|found| found.len() == self.size);
        if !here {
            fs::rename(&self.writer.path, &path).at("rename to", &path)?;
            self.writer.renamed = true;
            let sql = "INSERT INTO blob (digest, size, created, unsynced, used) VALUES (?1, ?2, ?3, ?4, ?3)
                       ON CONFLICT (digest) DO UPDATE SET size = excluded.size, created = excluded.created,
                           unsynced = excluded.unsynced, used = excluded.used";
            let created = time::now();
            let mut insert = tx.prepare_cached(sql).sql()?;
            insert.execute((self.digest.as_bytes(), self.size as i64, created, unsynced)).sql()?;
            self.writer.charge.release(tx)?;
        }
        hold(tx, store.0.holder.lease, &self.digest)
    }
}
