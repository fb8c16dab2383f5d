//! Making room: what nobody holds and nobody has used for the longest time goes first.
//!
//! Bytes go, knowledge stays: a layer whose files are evicted keeps its record and its entry index, so that keys can
//! still be computed, and it is made or fetched again when its bytes are wanted. Only when nothing else is left do indexes
//! go. Then the layer is forgotten altogether, with every record that stands on it: should it be made again with other
//! bytes under the same name, nothing that was made of the old ones may be found.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cooper_layer::LayerId;
use cooper_oci::Digest;
use rusqlite::Transaction;

use crate::charge::headroom;
use crate::db::SqlContext as _;
use crate::error::{Error, IoContext as _, Result};
use crate::locks::ByteLocks;
use crate::store::{Store, lock};
use crate::{sweep, time};

/// Victims of one write transaction, which others wait for.
const BATCH: usize = 100;

/// Records and small memos have a bound of their own: about 100 MB of database.
pub(crate) const MAX_RECORDS: i64 = 200_000;

/// How long to wait for files that another process is deleting.
const DELETING: Duration = Duration::from_secs(60);

/// What to delete.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Only as long as the store takes more than this many bytes.
    pub until_below: Option<u64>,
    /// Only what was not used for this long.
    pub unused_for: Option<Duration>,
    /// Entry indexes, and with them the records of steps, too.
    pub all: bool,
    /// Only these, by the ids of [`Store::items`].
    pub only: Option<HashSet<String>>,
}

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Ids of what went, as [`Store::items`] has them, with their bytes on the disk.
    pub items: Vec<(String, u64)>,
}

impl Pruned {
    /// Returns the bytes that were freed.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Something that can go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Victim {
    /// 0: bytes that can be had again; 1: an index, with which knowledge goes.
    rank: u8,
    used: i64,
    kind: Kind,
    bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Snapshot([u8; 32]),
    Blob([u8; 32]),
    Index([u8; 32]),
    Memo(String),
}

impl Victim {
    fn id(&self) -> String {
        match &self.kind {
            Kind::Snapshot(id) => format!("layer:{}", Digest::from_bytes(*id).hex()),
            Kind::Blob(digest) => format!("blob:{}", Digest::from_bytes(*digest).hex()),
            Kind::Index(digest) => format!("index:{}", Digest::from_bytes(*digest).hex()),
            Kind::Memo(name) => format!("memo:{name}"),
        }
    }
}

const NOT_HELD_BLOB: &str = "NOT EXISTS (SELECT 1 FROM lease_blob WHERE lease_blob.blob = blob.digest)
    AND NOT EXISTS (SELECT 1 FROM layer_blob JOIN lease_layer USING (layer) WHERE layer_blob.digest = blob.digest)";

/// Lists what may go, the first to go first, at most `limit` of each kind.
///
/// An index is one only when the files of its layers are gone: without it they would be worth nothing.
fn victims(tx: &Transaction<'_>, rank: u8, before: i64, limit: usize) -> Result<Vec<Victim>> {
    let mut out = Vec::new();
    let mut add = |sql: &str, rank: u8, kind: fn([u8; 32]) -> Kind| -> Result<()> {
        let mut rows = tx.prepare_cached(sql).sql()?;
        let rows = rows.query_map((before, limit as i64), |row| {
            Ok(Victim { rank, kind: kind(row.get(0)?), bytes: row.get(1)?, used: row.get(2)? })
        });
        for row in rows.sql()? {
            out.push(row.sql()?);
        }
        Ok(())
    };
    if rank == 0 {
        let sql = "SELECT id, disk, used FROM layer WHERE snapshot IS NOT NULL AND used < ?1
                   AND NOT EXISTS (SELECT 1 FROM lease_layer WHERE lease_layer.layer = layer.id)
                   ORDER BY used LIMIT ?2";
        add(sql, 0, Kind::Snapshot)?;
        let sql = format!(
            "SELECT digest, (size + 4095) / 4096 * 4096, used FROM blob WHERE used < ?1 AND {NOT_HELD_BLOB}
             AND NOT EXISTS (SELECT 1 FROM layer WHERE layer.entries = blob.digest)
             ORDER BY used LIMIT ?2"
        );
        add(&sql, 0, Kind::Blob)?;
        let sql = "SELECT name, (size + 4095) / 4096 * 4096, used FROM memo_file WHERE used < ?1 ORDER BY used LIMIT ?2";
        let mut rows = tx.prepare_cached(sql).sql()?;
        let rows = rows.query_map((before, limit as i64), |row| {
            Ok(Victim { rank: 0, kind: Kind::Memo(row.get(0)?), bytes: row.get(1)?, used: row.get(2)? })
        });
        for row in rows.sql()? {
            out.push(row.sql()?);
        }
    } else {
        let sql = format!(
            "SELECT digest, (size + 4095) / 4096 * 4096, used FROM blob WHERE used < ?1 AND {NOT_HELD_BLOB}
             AND EXISTS (SELECT 1 FROM layer WHERE layer.entries = blob.digest)
             AND NOT EXISTS (SELECT 1 FROM layer WHERE layer.entries = blob.digest AND (layer.snapshot IS NOT NULL
                 OR EXISTS (SELECT 1 FROM lease_layer WHERE lease_layer.layer = layer.id)))
             ORDER BY used LIMIT ?2"
        );
        add(&sql, 1, Kind::Index)?;
    }
    out.sort();
    Ok(out)
}

impl Store {
    /// Evicts until everything, what is being written included, fits under the cap.
    pub(crate) fn make_room(&self) -> Result<()> {
        let Some(cap) = self.0.accounts.cap else { return Ok(()) };
        let target = cap - headroom(cap);
        // What programs may write next: good to have, no more.
        let ahead = *lock(&self.0.accounts.ahead);
        let start = Instant::now();
        loop {
            let step = self.0.db.write(|tx| {
                self.settle(tx)?;
                let mut sums = self.sums(tx)?;
                if sums.total() + ahead <= target {
                    return Ok(Step::Fits);
                }
                // The dead hold nothing.
                self.bury(tx)?;
                sums = self.sums(tx)?;
                if sums.total() + ahead <= target {
                    return Ok(Step::Fits);
                }
                let excess = (sums.wanted() + ahead).saturating_sub(target);
                if excess == 0 {
                    return Ok(Step::Deleting);
                }
                let mut freed = 0;
                let mut count = 0;
                for rank in [0, 1] {
                    for victim in victims(tx, rank, i64::MAX, BATCH)? {
                        if freed >= excess || count >= BATCH {
                            break;
                        }
                        self.evict(tx, &victim)?;
                        freed += victim.bytes;
                        count += 1;
                    }
                }
                if count == 0 && sums.wanted() <= target {
                    return Ok(if sums.total() <= target { Step::Fits } else { Step::Deleting });
                }
                if count == 0 {
                    let own = self.own(tx)?;
                    // A larger cap has a larger headroom.
                    let need = sums.wanted() + headroom(sums.wanted() + headroom(u64::MAX));
                    return Ok(Step::Full {
                        need,
                        own,
                        others: sums.wanted().saturating_sub(own + sums.database),
                    });
                }
                Ok(Step::Deleting)
            })?;
            match step {
                Step::Fits => return Ok(()),
                Step::Full { need, own, others } => return Err(Error::Full { need, cap, own, others }),
                Step::Deleting => {
                    if !self.delete_trash()? {
                        if start.elapsed() > DELETING {
                            let (need, own) =
                                self.0.db.read(|tx| Ok((self.sums(tx)?.total(), self.own(tx)?)))?;
                            return Err(Error::Full { need, cap, own, others: need.saturating_sub(own) });
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            }
        }
    }

    /// Deletes what was evicted, whoever did it; tells whether there was anything.
    fn delete_trash(&self) -> Result<bool> {
        let rubbish =
            self.0.db.read(|tx| sweep::deletable(&self.0.layout, tx, Some(self.0.holder.number)))?;
        let any = !rubbish.is_empty();
        for path in rubbish {
            // What is refused is counted until somebody can.
            let _ = sweep::delete_one(&path);
        }
        self.0.db.write(|tx| sweep::forget_deleted(&self.0.layout, tx))?;
        Ok(any)
    }

    /// Clears up after processes that have died since this one opened the store.
    fn bury(&self, tx: &Transaction<'_>) -> Result<()> {
        // Of a description of its own: to its own, a lock that it has looks free.
        let path = self.0.layout.holders();
        let locks = ByteLocks::open(&path).at("open", &path)?;
        sweep::after_the_dead(&self.0.layout, tx, &locks, &self.0.environment.boot)?;
        Ok(())
    }

    /// Takes one thing out. If the transaction fails after all, the row is there without its file: that is noticed when
    /// it is wanted, as any loss.
    fn evict(&self, tx: &Transaction<'_>, victim: &Victim) -> Result<()> {
        let layout = &self.0.layout;
        match &victim.kind {
            Kind::Snapshot(id) => {
                let layer = LayerId::new(Digest::from_bytes(*id));
                sweep::rename_to_trash(layout, tx, &layout.snapshot(layer), 0, victim.bytes)?;
                let sql = "UPDATE layer SET snapshot = NULL, disk = 0, unsynced = NULL WHERE id = ?1";
                tx.prepare_cached(sql).sql()?.execute([id]).sql()?;
            }
            Kind::Blob(digest) | Kind::Index(digest) => {
                let path = layout.blob(&Digest::from_bytes(*digest));
                sweep::rename_to_trash(layout, tx, &path, 0, victim.bytes)?;
                tx.prepare_cached("DELETE FROM blob WHERE digest = ?1").sql()?.execute([digest]).sql()?;
                if matches!(victim.kind, Kind::Index(_)) {
                    self.forget_layers(tx, digest)?;
                }
            }
            Kind::Memo(name) => {
                sweep::rename_to_trash(layout, tx, &layout.memo().join(name), 0, victim.bytes)?;
                tx.prepare_cached("DELETE FROM memo_file WHERE name = ?1").sql()?.execute([name]).sql()?;
            }
        }
        Ok(())
    }

    /// Forgets the layers that have this index, and all records with one of them in a chain.
    fn forget_layers(&self, tx: &Transaction<'_>, index: &[u8; 32]) -> Result<()> {
        let gone: HashSet<[u8; 32]> = {
            let mut rows = tx.prepare_cached("SELECT id FROM layer WHERE entries = ?1").sql()?;
            rows.query_map([index], |row| row.get(0)).sql()?.collect::<Result<_, _>>().sql()?
        };
        let mut keys: Vec<[u8; 32]> = Vec::new();
        {
            // About 20 ms for 100,000 records, and only when nothing but indexes is left.
            let mut rows = tx.prepare_cached("SELECT key, layers FROM output").sql()?;
            let mut rows = rows.query([]).sql()?;
            while let Some(row) = rows.next().sql()? {
                let chain = row.get_ref(1).sql()?.as_blob().unwrap_or_default();
                if chain.as_chunks::<32>().0.iter().any(|layer| gone.contains(layer)) {
                    keys.push(row.get(0).sql()?);
                }
            }
        }
        for key in keys {
            tx.prepare_cached("DELETE FROM record WHERE key = ?1").sql()?.execute([key]).sql()?;
        }
        for id in gone {
            lock(&self.0.indexes).remove(&LayerId::new(Digest::from_bytes(id)));
            tx.prepare_cached("DELETE FROM layer WHERE id = ?1").sql()?.execute([id]).sql()?;
        }
        Ok(())
    }

    /// Deletes what nobody holds, the longest unused first.
    pub fn prune(&self, what: &Prune) -> Result<Pruned> {
        let before = match what.unused_for {
            Some(age) => time::now().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)),
            None => i64::MAX,
        };
        let mut out = Pruned::default();
        // With a selection anything may be among those that are passed over.
        let limit = if what.only.is_some() { usize::MAX >> 1 } else { BATCH };
        for rank in if what.all { 0..2 } else { 0..1 } {
            loop {
                let done = self.0.db.write(|tx| {
                    self.bury(tx)?;
                    let mut left = what
                        .until_below
                        .map(|most| self.sums(tx).map(|sums| sums.wanted().saturating_sub(most)));
                    let mut left = left.take().transpose()?;
                    let mut done = Vec::new();
                    for victim in victims(tx, rank, before, limit)? {
                        if done.len() >= BATCH || left == Some(0) {
                            break;
                        }
                        if what.only.as_ref().is_some_and(|only| !only.contains(&victim.id())) {
                            continue;
                        }
                        self.evict(tx, &victim)?;
                        left = left.map(|left| left.saturating_sub(victim.bytes));
                        done.push((victim.id(), victim.bytes));
                    }
                    Ok(done)
                })?;
                self.delete_trash()?;
                if done.is_empty() {
                    break;
                }
                out.items.extend(done);
            }
        }
        Ok(out)
    }

    /// Forgets the records and small memos that were not used for the longest time, beyond their bound.
    pub(crate) fn trim_records(&self, most: i64) -> Result<()> {
        let over = |kind: &str| -> Result<i64> {
            self.0.db.read(|tx| {
                let sql = "SELECT count FROM total WHERE kind = ?1";
                let count: i64 = tx.prepare_cached(sql).sql()?.query_row([kind], |row| row.get(0)).sql()?;
                Ok(count - most)
            })
        };
        for (kind, sql) in [
            ("record", "DELETE FROM record WHERE key IN (SELECT key FROM record ORDER BY used LIMIT ?1)"),
            (
                "memo",
                "DELETE FROM memo WHERE (kind, key) IN (SELECT kind, key FROM memo ORDER BY written LIMIT ?1)",
            ),
        ] {
            while let count @ 1.. = over(kind)? {
                self.0.db.write(|tx| tx.prepare_cached(sql).sql()?.execute([count.min(1000)]).sql())?;
            }
        }
        Ok(())
    }

    /// Returns what this process holds and writes, in bytes on the disk.
    fn own(&self, tx: &Transaction<'_>) -> Result<u64> {
        let held = "SELECT layer FROM lease_layer JOIN lease ON lease.id = lease WHERE holder = ?1";
        let sql = format!(
            "SELECT (SELECT coalesce(sum(disk), 0) FROM layer WHERE snapshot IS NOT NULL AND id IN ({held}))
                 + (SELECT coalesce(sum((size + 4095) / 4096 * 4096), 0) FROM blob WHERE digest IN (
                     SELECT blob FROM lease_blob JOIN lease ON lease.id = lease WHERE holder = ?1
                     UNION SELECT digest FROM layer_blob WHERE layer IN ({held})))"
        );
        let held: i64 =
            tx.prepare_cached(&sql).sql()?.query_row([self.0.holder.number], |row| row.get(0)).sql()?;
        Ok(held as u64 + *lock(&self.0.accounts.unfinished))
    }

    /// Adds up what the store takes on the disk.
    pub(crate) fn sums(&self, tx: &Transaction<'_>) -> Result<Sums> {
        let mut rows =
            tx.prepare_cached("SELECT sum(bytes), sum(iif(kind = 'trash', bytes, 0)) FROM total").sql()?;
        let (all, trash): (i64, i64) = rows.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).sql()?;
        // A file that is being replaced counts as 0 for a moment.
        let database = self.0.layout.database_files().into_iter();
        let database =
            database.filter_map(|path| std::fs::metadata(path).ok()).map(|found| found.len()).sum();
        Ok(Sums { all: all.max(0) as u64, trash: trash.max(0) as u64, database })
    }
}

/// What the store takes on the disk.
pub(crate) struct Sums {
    /// Everything that is counted by the database, trash included.
    all: u64,
    trash: u64,
    /// The database's own files.
    pub(crate) database: u64,
}

impl Sums {
    pub(crate) fn total(&self) -> u64 {
        self.all + self.database
    }

    /// What it takes when all trash is deleted.
    fn wanted(&self) -> u64 {
        self.total().saturating_sub(self.trash)
    }
}

enum Step {
    Fits,
    /// Something is in the trash, and deleting it helps.
    Deleting,
    Full {
        need: u64,
        own: u64,
        others: u64,
    },
}
