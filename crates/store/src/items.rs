//! What is in a store, one by one, for people: sizes that add up, who keeps what, what would go first.

use cooper_oci::Digest;
use serde::Serialize;

use crate::db::SqlContext as _;
use crate::error::Result;
use crate::store::Store;

/// What kind of thing an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ItemKind {
    /// The files of a layer, unpacked.
    Layer,
    /// An archive of a layer, or a configuration.
    Blob,
    /// The list of entries of a layer.
    Index,
    /// Something remembered to save work.
    Memo,
    /// What a process is writing.
    Unfinished,
    /// Deleted, but still on the disk: somebody may be using it.
    Rubbish,
    /// The database of the store.
    Database,
}

/// Why an item stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "why", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Keeper {
    /// A process works with it.
    Process {
        /// Its process id, as it was when it opened the store.
        pid: u32,
        /// What the lease is called.
        lease: String,
    },
    /// A layer that is there is worth nothing without it, or a layer that is held can be had from it.
    Layer {
        /// The layer's id.
        id: String,
    },
    /// It is part of the store itself.
    Store,
}

/// One thing that takes space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name: `layer:HEX`, `blob:HEX`, `index:HEX`, `memo:NAME`.
    pub id: String,
    /// What it is.
    pub kind: ItemKind,
    /// Bytes on the disk, in whole blocks. The sum of all is what the store takes.
    pub bytes: u64,
    /// When it was made, in nanoseconds since 1970.
    pub created: Option<i64>,
    /// When it was used last, in nanoseconds since 1970.
    pub used: Option<i64>,
    /// How many processes have used it.
    pub uses: u64,
    /// Several results stand on it; its bytes are counted here, once.
    pub shared: bool,
    /// What made it, if that is known.
    pub description: String,
    /// Who keeps it. Nobody: it goes when room is needed.
    pub kept: Vec<Keeper>,
}

impl Item {
    /// Tells whether it would go when room is needed.
    pub fn is_reclaimable(&self) -> bool {
        self.kept.is_empty()
    }
}

impl Store {
    /// Lists everything that takes space, the largest first. Costs a walk through the whole database.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut items = self.0.db.read(|tx| {
            let mut items = Vec::new();
            let mut made: std::collections::HashMap<[u8; 32], (String, u64)> = Default::default();
            {
                let mut rows = tx.prepare("SELECT layers, meta FROM output JOIN record USING (key)").sql()?;
                let mut rows = rows.query([]).sql()?;
                while let Some(row) = rows.next().sql()? {
                    let chain = row.get_ref(0).sql()?.as_blob().unwrap_or_default().as_chunks::<32>().0;
                    for layer in chain {
                        made.entry(*layer).or_default().1 += 1;
                    }
                    if let Some(last) = chain.last() {
                        let meta: serde_json::Value =
                            serde_json::from_str(row.get_ref(1).sql()?.as_str().unwrap_or_default())
                                .unwrap_or_default();
                        if let Some(name) = meta.get("name").and_then(serde_json::Value::as_str) {
                            made.entry(*last).or_default().0 = name.to_owned();
                        }
                    }
                }
            }
            {
                // Layers of images are not made by a step.
                let mut rows = tx.prepare("SELECT layer, min(reference) FROM layer_remote GROUP BY layer").sql()?;
                let mut rows = rows.query([]).sql()?;
                while let Some(row) = rows.next().sql()? {
                    let made = made.entry(row.get(0).sql()?).or_default();
                    if made.0.is_empty() {
                        made.0 = format!("layer of {}", row.get::<_, String>(1).sql()?);
                    }
                }
            }
            let mut layers = tx
                .prepare("SELECT id, disk, created, used, uses FROM layer WHERE snapshot IS NOT NULL")
                .sql()?;
            let mut rows = layers.query([]).sql()?;
            while let Some(row) = rows.next().sql()? {
                let id: [u8; 32] = row.get(0).sql()?;
                let (description, readers) = made.get(&id).cloned().unwrap_or_default();
                items.push(Item {
                    id: format!("layer:{}", Digest::from_bytes(id).hex()),
                    kind: ItemKind::Layer,
                    bytes: row.get(1).sql()?,
                    created: row.get(2).sql()?,
                    used: row.get(3).sql()?,
                    uses: row.get(4).sql()?,
                    shared: readers > 1,
                    description,
                    kept: Vec::new(),
                });
                let sql = "SELECT DISTINCT pid, label FROM lease_layer JOIN lease ON lease.id = lease
                           JOIN holder ON holder.number = holder WHERE layer = ?1 ORDER BY pid, label";
                keep(tx, sql, &id, &mut items)?;
            }
            let mut blobs = tx
                .prepare(
                    "SELECT digest, (size + 4095) / 4096 * 4096, created, used, uses,
                         (SELECT count(*) FROM layer WHERE entries = digest),
                         (SELECT count(*) FROM layer_blob WHERE layer_blob.digest = blob.digest) FROM blob",
                )
                .sql()?;
            let mut rows = blobs.query([]).sql()?;
            while let Some(row) = rows.next().sql()? {
                let digest: [u8; 32] = row.get(0).sql()?;
                let (indexes, archives): (u64, u64) = (row.get(5).sql()?, row.get(6).sql()?);
                let (kind, name) =
                    if indexes > 0 { (ItemKind::Index, "index") } else { (ItemKind::Blob, "blob") };
                items.push(Item {
                    id: format!("{name}:{}", Digest::from_bytes(digest).hex()),
                    kind,
                    bytes: row.get(1).sql()?,
                    created: row.get(2).sql()?,
                    used: row.get(3).sql()?,
                    uses: row.get(4).sql()?,
                    shared: indexes + archives > 1,
                    description: match (kind, archives) {
                        (ItemKind::Index, _) => "entries of a layer".into(),
                        (_, 0) => String::new(),
                        _ => "archive of a layer".into(),
                    },
                    kept: Vec::new(),
                });
                let sql = "SELECT DISTINCT pid, label FROM lease_blob JOIN lease ON lease.id = lease
                           JOIN holder ON holder.number = holder WHERE blob = ?1 ORDER BY pid, label";
                keep(tx, sql, &digest, &mut items)?;
                let sql = "SELECT id FROM layer WHERE entries = ?1 AND (snapshot IS NOT NULL
                               OR EXISTS (SELECT 1 FROM lease_layer WHERE lease_layer.layer = layer.id))
                           UNION SELECT layer FROM layer_blob JOIN lease_layer USING (layer) WHERE digest = ?1";
                let mut layers = tx.prepare_cached(sql).sql()?;
                let layers = layers.query_map([&digest], |row| row.get::<_, [u8; 32]>(0)).sql()?;
                for layer in layers {
                    let id = Digest::from_bytes(layer.sql()?).hex();
                    if let Some(item) = items.last_mut() {
                        item.kept.push(Keeper::Layer { id });
                    }
                }
            }
            let mut others = tx
                .prepare(
                    "SELECT 'memo:' || name, 'memo', (size + 4095) / 4096 * 4096, used FROM memo_file
                     UNION ALL SELECT printf('unfinished:%016x', lock), 'unfinished', bytes, NULL FROM unfinished
                     UNION ALL SELECT 'rubbish:' || name, 'rubbish', bytes, NULL FROM trash",
                )
                .sql()?;
            let mut rows = others.query([]).sql()?;
            while let Some(row) = rows.next().sql()? {
                let kind: String = row.get(1).sql()?;
                items.push(Item {
                    id: row.get(0).sql()?,
                    kind: match kind.as_str() {
                        "memo" => ItemKind::Memo,
                        "unfinished" => ItemKind::Unfinished,
                        _ => ItemKind::Rubbish,
                    },
                    bytes: row.get(2).sql()?,
                    created: None,
                    used: row.get(3).sql()?,
                    uses: 0,
                    shared: false,
                    description: String::new(),
                    kept: if kind == "memo" { Vec::new() } else { vec![Keeper::Store] },
                });
            }
            items.push(Item {
                id: "database".into(),
                kind: ItemKind::Database,
                bytes: self.sums(tx)?.database,
                created: None,
                used: None,
                uses: 0,
                shared: false,
                description: "records of steps, small memos".into(),
                kept: vec![Keeper::Store],
            });
            Ok(items)
        })?;
        items.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
        Ok(items)
    }
}

/// Adds the processes that hold the last item.
fn keep(tx: &rusqlite::Transaction<'_>, sql: &str, id: &[u8; 32], items: &mut [Item]) -> Result<()> {
    let mut rows = tx.prepare_cached(sql).sql()?;
    let rows = rows.query_map([id], |row| Ok(Keeper::Process { pid: row.get(0)?, lease: row.get(1)? }));
    for row in rows.sql()? {
        if let Some(item) = items.last_mut() {
            item.kept.push(row.sql()?);
        }
    }
    Ok(())
}
