use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cooper_layer::{DiffId, Index, LayerId, Timestamp};
use cooper_oci::Digest;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use crate::blobs;
use crate::db::SqlContext as _;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::loss::Loss;
use crate::store::{Store, lock};
use crate::{sweep, time};

/// What the store knows of one layer. It outlives the bytes: places come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// The layer.
    pub id: LayerId,
    /// Digest of the encoded [`Index`], a blob of the store; `None` while nobody has read the layer.
    pub index: Option<Digest>,
    /// Digest of the uncompressed tar stream, where it is known.
    pub diff_id: Option<DiffId>,
    /// When the layer was made: for a step the end of its run, which a cached rebuild puts into the image again.
    pub created: Timestamp,
    /// Sum of the lengths of the files in bytes, if they lie unpacked in the store.
    pub snapshot: Option<u64>,
    /// Tar streams of this layer. Their bytes may be gone: ask [`Store::has_blob`].
    pub blobs: Vec<LayerBlob>,
    /// Where a tar stream of the layer can be fetched.
    pub remotes: Vec<Remote>,
}

/// The tar stream of a layer, compressed or not, as a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the blob.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Media type, which names the compression.
    pub media_type: String,
    /// The compressor with its version and level, as its maker names it; `None` for bytes from outside.
    pub made_by: Option<String>,
}

/// Where a layer can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Repository, as `docker.io/library/python`.
    pub reference: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Media type, which names the compression.
    pub media_type: String,
}

/// What is told about a layer when it is put in. Places are added to those that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerMeta {
    /// Digest of the uncompressed tar stream, where it is known.
    pub diff_id: Option<DiffId>,
    /// When the layer was made. The first one that is told stays.
    pub created: Timestamp,
    /// Tar streams of the layer in the store.
    pub blobs: Vec<LayerBlob>,
    /// Where the layer can be fetched.
    pub remotes: Vec<Remote>,
}

/// Where the bytes of a layer can be had, looked up and checked to be there, but not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence {
    /// The store has a record of the layer.
    pub known: bool,
    /// Its files lie unpacked in the store.
    pub snapshot: bool,
    /// A blob of it is in the store.
    pub blob: bool,
    /// It can be fetched from somewhere.
    pub remote: bool,
}

impl Presence {
    /// Tells whether the bytes are in the store in some form.
    pub fn is_local(&self) -> bool {
        self.snapshot || self.blob
    }

    /// Tells whether the bytes can be had at all.
    pub fn is_anywhere(&self) -> bool {
        self.is_local() || self.remote
    }
}

impl Store {
    /// Returns what is known of a layer.
    pub fn layer(&self, id: LayerId) -> Result<Option<LayerRecord>> {
        self.0.db.read(|tx| record(tx, id))
    }

    /// Returns what is known of layers, in their order, all from one state of the store.
    pub fn layers(&self, ids: &[LayerId]) -> Result<Vec<Option<LayerRecord>>> {
        self.0.db.read(|tx| ids.iter().map(|id| record(tx, *id)).collect())
    }

    /// Lists all layers by id.
    pub fn all_layers(&self) -> Result<Vec<LayerRecord>> {
        self.0.db.read(|tx| {
            let mut ids = tx.prepare_cached("SELECT id FROM layer ORDER BY id").sql()?;
            let ids: Vec<[u8; 32]> =
                ids.query_map([], |row| row.get(0)).sql()?.collect::<Result<_, _>>().sql()?;
            let ids = ids.into_iter().map(|id| LayerId::new(Digest::from_bytes(id)));
            ids.filter_map(|id| record(tx, id).transpose()).collect()
        })
    }

    /// Finds layers by the digest of their tar stream: a step's output that was exported and pulled again is one.
    pub fn layers_by_diff_id(&self, diff_id: DiffId) -> Result<Vec<LayerId>> {
        self.0.db.read(|tx| {
            let mut query = tx.prepare_cached("SELECT id FROM layer WHERE diff_id = ?1 ORDER BY id").sql()?;
            let ids = query.query_map([diff_id.as_bytes()], |row| digest(row, 0)).sql()?;
            ids.map(|id| id.map(LayerId::new)).collect::<Result<_, _>>().sql()
        })
    }

    /// Tells where the bytes of layers can be had, in the order of `ids`. Costs a few microseconds a layer.
    ///
    /// Files that are claimed but missing are noticed here: they count as absent, and [`Store::take_losses`] tells.
    pub fn presence(&self, ids: &[LayerId]) -> Result<Vec<Presence>> {
        let mut gone = Vec::new();
        let found = self.0.db.read(|tx| {
            ids.iter().map(|id| presence(&self.0.layout, tx, *id, &mut gone)).collect::<Result<Vec<_>>>()
        })?;
        for id in gone {
            self.lose_missing(id)?;
        }
        Ok(found)
    }

    /// Gives up files that were not where the database says, if that is still so: they may just have been evicted, or even
    /// have come back.
    fn lose_missing(&self, id: LayerId) -> Result<()> {
        let mut gone = Vec::new();
        self.0.db.write(|tx| {
            presence(&self.0.layout, tx, id, &mut gone)?;
            if !gone.is_empty() {
                let sql = "UPDATE layer SET snapshot = NULL, disk = 0, unsynced = NULL WHERE id = ?1";
                tx.execute(sql, [id.as_bytes()]).sql()?;
            }
            Ok(())
        })?;
        if !gone.is_empty() {
            lock(&self.0.sound).remove(&id);
            self.note_loss(Loss::Snapshot { layer: id, reason: "is gone".to_owned() });
        }
        Ok(())
    }

    /// Tells the store of a layer, or of more places of one that it knows, and holds it. Returns all that is known.
    pub fn put_layer(&self, id: LayerId, meta: &LayerMeta) -> Result<LayerRecord> {
        self.0.db.write(|tx| {
            put(tx, id, meta)?;
            hold(tx, self.0.holder.lease, id)?;
            required(tx, id)
        })
    }

    /// Returns the entries of a layer, if somebody has read the layer and the index is undamaged.
    pub fn index(&self, id: LayerId) -> Result<Option<Arc<Index>>> {
        if let Some(index) = lock(&self.0.indexes).get(&id) {
            return Ok(Some(index.clone()));
        }
        let entries = self.0.db.read(|tx| entries(tx, id))?;
        let Some(entries) = entries.flatten() else { return Ok(None) };
        let Some(bytes) = self.read_blob(&entries)? else { return Ok(None) };
        let index = Arc::new(Index::decode(&bytes)?);
        lock(&self.0.indexes).insert(id, index.clone());
        Ok(Some(index))
    }

    /// Returns the directory with a layer's files in overlay form, if they are here. Nobody may write there.
    pub fn snapshot_dir(&self, id: LayerId) -> Result<Option<PathBuf>> {
        let found = self.presence(&[id])?;
        let here = found.first().is_some_and(|found| found.snapshot);
        Ok((here && self.is_sound(id)?).then(|| self.0.layout.files(id)))
    }

    /// Gives up a layer's files because they are missing or bad: from now on they count as not here.
    ///
    /// Processes that have them mounted keep them until they end.
    pub fn lose_snapshot(&self, id: LayerId, reason: impl Into<String>) -> Result<()> {
        let lost = self.0.db.write(|tx| {
            let last = sweep::last_holder(tx)?;
            let mut disk = tx.prepare_cached("SELECT disk FROM layer WHERE id = ?1").sql()?;
            let disk = disk.query_row([id.as_bytes()], |row| row.get(0)).optional().sql()?.unwrap_or(0);
            sweep::rename_to_trash(&self.0.layout, tx, &self.0.layout.snapshot(id), last, disk)?;
            let sql = "UPDATE layer SET snapshot = NULL, disk = 0, unsynced = NULL
                       WHERE id = ?1 AND snapshot IS NOT NULL";
            tx.execute(sql, [id.as_bytes()]).sql()
        })?;
        lock(&self.0.sound).remove(&id);
        if lost > 0 {
            self.note_loss(Loss::Snapshot { layer: id, reason: reason.into() });
        }
        Ok(())
    }
}

pub(crate) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}

pub(crate) fn optional_digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    let bytes: Option<[u8; 32]> = row.get(column)?;
    Ok(bytes.map(Digest::from_bytes))
}

pub(crate) fn record(tx: &Transaction<'_>, id: LayerId) -> Result<Option<LayerRecord>> {
    let mut query =
        tx.prepare_cached("SELECT entries, diff_id, created, snapshot FROM layer WHERE id = ?1").sql()?;
    let found = query.query_row([id.as_bytes()], |row| {
        Ok(LayerRecord {
            id,
            index: optional_digest(row, 0)?,
            diff_id: optional_digest(row, 1)?.map(DiffId::new),
            created: time::from_sql(row.get(2)?),
            snapshot: row.get(3)?,
            blobs: Vec::new(),
            remotes: Vec::new(),
        })
    });
    let Some(mut record) = found.optional().sql()? else { return Ok(None) };
    let sql = "SELECT digest, size, media_type, made_by FROM layer_blob WHERE layer = ?1";
    let mut query = tx.prepare_cached(sql).sql()?;
    let blobs = query.query_map([id.as_bytes()], |row| {
        let (size, media_type, made_by) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(LayerBlob { digest: digest(row, 0)?, size, media_type, made_by })
    });
    record.blobs = blobs.sql()?.collect::<Result<_, _>>().sql()?;
    let sql = "SELECT reference, digest, size, media_type FROM layer_remote WHERE layer = ?1";
    let mut query = tx.prepare_cached(sql).sql()?;
    let remotes = query.query_map([id.as_bytes()], |row| {
        let (reference, size, media_type) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok(Remote { reference, digest: digest(row, 1)?, size, media_type })
    });
    record.remotes = remotes.sql()?.collect::<Result<_, _>>().sql()?;
    Ok(Some(record))
}

pub(crate) fn required(tx: &Transaction<'_>, id: LayerId) -> Result<LayerRecord> {
    record(tx, id)?.ok_or(Error::NoLayer(id))
}

/// Returns the digest of a layer's index, if the layer is known and has one.
pub(crate) fn entries(tx: &Transaction<'_>, id: LayerId) -> Result<Option<Option<Digest>>> {
    let mut query = tx.prepare_cached("SELECT entries FROM layer WHERE id = ?1").sql()?;
    query.query_row([id.as_bytes()], |row| optional_digest(row, 0)).optional().sql()
}

/// Looks a layer's places up, and at the files; snapshots that are claimed but missing are added to `gone`.
pub(crate) fn presence(
    layout: &Layout,
    tx: &Transaction<'_>,
    id: LayerId,
    gone: &mut Vec<LayerId>,
) -> Result<Presence> {
    let mut query = tx.prepare_cached("SELECT snapshot IS NOT NULL FROM layer WHERE id = ?1").sql()?;
    let claimed: Option<bool> = query.query_row([id.as_bytes()], |row| row.get(0)).optional().sql()?;
    let Some(claimed) = claimed else { return Ok(Presence::default()) };
    let snapshot = claimed && fs::symlink_metadata(layout.files(id)).is_ok_and(|found| found.is_dir());
    if claimed && !snapshot {
        gone.push(id);
    }
    let sql = "SELECT blob.digest, blob.size FROM layer_blob JOIN blob USING (digest) WHERE layer = ?1";
    let mut query = tx.prepare_cached(sql).sql()?;
    let mut rows = query.query([id.as_bytes()]).sql()?;
    let mut blob = false;
    while let Some(row) = rows.next().sql()? {
        let (digest, size): (Digest, u64) = (digest(row, 0).sql()?, row.get(1).sql()?);
        blob |= fs::symlink_metadata(layout.blob(&digest)).is_ok_and(|found| found.len() == size);
    }
    let mut query = tx.prepare_cached("SELECT 1 FROM layer_remote WHERE layer = ?1").sql()?;
    let remote = query.exists([id.as_bytes()]).sql()?;
    Ok(Presence { known: true, snapshot, blob, remote })
}

/// Inserts a layer or adds to it.
pub(crate) fn put(tx: &Transaction<'_>, id: LayerId, meta: &LayerMeta) -> Result<()> {
    let sql = "INSERT INTO layer (id, diff_id, created) VALUES (?1, ?2, ?3)
               ON CONFLICT (id) DO UPDATE SET diff_id = coalesce(diff_id, excluded.diff_id)";
    let diff_id = meta.diff_id.as_ref().map(DiffId::as_bytes);
    tx.prepare_cached(sql).sql()?.execute((id.as_bytes(), diff_id, time::to_sql(meta.created))).sql()?;
    let sql = "INSERT INTO layer_blob (layer, digest, size, media_type, made_by) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT DO UPDATE SET made_by = coalesce(made_by, excluded.made_by)";
    let mut insert = tx.prepare_cached(sql).sql()?;
    for blob in &meta.blobs {
        let (digest, size) = (blob.digest.as_bytes(), blob.size as i64);
        insert.execute((id.as_bytes(), digest, size, &blob.media_type, &blob.made_by)).sql()?;
    }
    let sql =
        "INSERT INTO layer_remote (layer, reference, digest, size, media_type) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT DO NOTHING";
    let mut insert = tx.prepare_cached(sql).sql()?;
    for remote in &meta.remotes {
        let (digest, size) = (remote.digest.as_bytes(), remote.size as i64);
        insert.execute((id.as_bytes(), &remote.reference, digest, size, &remote.media_type)).sql()?;
    }
    Ok(())
}

/// Holds a layer with everything that its bytes can be had from, in the store.
pub(crate) fn hold(tx: &Transaction<'_>, lease: i64, id: LayerId) -> Result<()> {
    let sql = "INSERT INTO lease_layer (lease, layer) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    let added = tx.prepare_cached(sql).sql()?.execute((lease, id.as_bytes())).sql()?;
    if added > 0 {
        let sql = "UPDATE layer SET used = ?2, uses = uses + 1 WHERE id = ?1";
        tx.prepare_cached(sql).sql()?.execute((id.as_bytes(), time::now())).sql()?;
        if let Some(Some(entries)) = entries(tx, id)? {
            blobs::hold(tx, lease, &entries)?;
        }
    }
    Ok(())
}
