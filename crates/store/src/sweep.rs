//! Clearing up: what dead processes left, what a crash of the machine spoilt, and the trash.
//!
//! The cost of opening a store does not grow with it: all of its files are looked through only when a process is
//! found to have died.

use std::fs;
use std::path::{Path, PathBuf};

use cooper_layer::LayerId;
use cooper_oci::Digest;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::db::SqlContext as _;
use crate::environment::Boot;
use crate::error::{Error, IoContext as _, Result};
use crate::flights;
use crate::holder::{lock_of, random};
use crate::layout::Layout;
use crate::locks::ByteLocks;
use crate::store::Store;
use crate::tree;

impl Store {
    /// Deletes the trash that nobody can be using any more, and waits for it. Opening a store starts the same in the
    /// background.
    pub fn sweep(&self) -> Result<()> {
        let inner = &self.0;
        let rubbish = inner.db.read(|tx| deletable(&inner.layout, tx, Some(inner.holder.number)))?;
        for path in rubbish {
            delete_one(&path).at("delete", &path)?;
        }
        Ok(())
    }
}

/// Moves what dead processes left to the trash, forgets what may not have reached the disk before the machine went
/// down, and returns the trash that can be deleted. Runs in the write transaction that registers a new holder.
pub(crate) fn after_the_dead(
    layout: &Layout,
    tx: &Transaction<'_>,
    locks: &ByteLocks,
    boot: &Boot,
) -> Result<Vec<PathBuf>> {
    let holders: Vec<(i64, i64)> = {
        let mut rows = tx.prepare("SELECT number, lock FROM holder").sql()?;
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).sql()?.collect::<Result<_, _>>().sql()?
    };
    let path = layout.holders();
    let mut died = false;
    for (number, lock) in holders {
        if !locks.is_held(lock as u64).at("look at the locks of", &path)? {
            died = true;
            tx.execute("DELETE FROM holder WHERE number = ?1", [number]).sql()?;
        }
    }
    let tmp = layout.tmp();
    let orphaning = flights::orphaning(layout, tx)?;
    for name in names(&tmp)? {
        let known = match lock_of(&name) {
            Some(lock) if orphaning.contains(&lock) => true,
            Some(lock) => {
                let row = tx.query_row("SELECT 1 FROM holder WHERE lock = ?1", [lock as i64], |_| Ok(()));
                // A holder locks, then makes its row and directory in one transaction like this one.
                row.optional().sql()?.is_some() || locks.is_held(lock).at("look at the locks of", &path)?
            }
            None => false,
        };
        if !known {
            died = true;
            let bytes = match lock_of(&name) {
                Some(lock) => {
                    let sql = "DELETE FROM unfinished WHERE lock = ?1 RETURNING bytes";
                    tx.query_row(sql, [lock as i64], |row| row.get(0)).optional().sql()?.unwrap_or(0)
                }
                None => 0,
            };
            rename_to_trash(layout, tx, &tmp.join(name), 0, bytes)?;
        }
    }
    flights::forget(layout, tx)?;
    if let Boot::Known(boot) = boot {
        died |= forget_unsynced(layout, tx, boot)?;
    }
    if died {
        discard_strays(layout, tx)?;
    }
    forget_deleted(layout, tx)?;
    deletable(layout, tx, None)
}

/// Forgets files that were renamed in during an earlier boot and never synced: they may be empty or cut.
fn forget_unsynced(layout: &Layout, tx: &Transaction<'_>, boot: &str) -> Result<bool> {
    let ids = |sql: &str| -> Result<Vec<[u8; 32]>> {
        let mut rows = tx.prepare_cached(sql).sql()?;
        rows.query_map([boot], |row| row.get(0)).sql()?.collect::<Result<_, _>>().sql()
    };
    let layers = ids("SELECT id FROM layer WHERE unsynced IS NOT NULL AND unsynced <> ?1")?;
    let blobs = ids("SELECT digest FROM blob WHERE unsynced IS NOT NULL AND unsynced <> ?1")?;
    for id in &layers {
        let path = layout.snapshot(LayerId::new(Digest::from_bytes(*id)));
        rename_to_trash(layout, tx, &path, 0, 0)?;
        tx.execute("UPDATE layer SET snapshot = NULL, disk = 0, unsynced = NULL WHERE id = ?1", [id])
            .sql()?;
    }
    for digest in &blobs {
        rename_to_trash(layout, tx, &layout.blob(&Digest::from_bytes(*digest)), 0, 0)?;
        tx.execute("DELETE FROM blob WHERE digest = ?1", [digest]).sql()?;
    }
    Ok(!layers.is_empty() || !blobs.is_empty())
}

/// Discards files that were renamed in by a transaction that was never committed.
pub(crate) fn discard_strays(layout: &Layout, tx: &Transaction<'_>) -> Result<()> {
    let memo = layout.memo();
    let mut row = tx.prepare("SELECT 1 FROM memo_file WHERE name = ?1").sql()?;
    for name in names(&memo)? {
        if !row.exists([&name]).sql()? {
            rename_to_trash(layout, tx, &memo.join(name), 0, 0)?;
        }
    }
    let places = [
        (layout.snapshots(), "SELECT 1 FROM layer WHERE id = ?1 AND snapshot IS NOT NULL"),
        (layout.blobs(), "SELECT 1 FROM blob WHERE digest = ?1"),
    ];
    for (dir, sql) in places {
        let mut row = tx.prepare(sql).sql()?;
        for name in names(&dir)? {
            let known = match Digest::from_hex(&name) {
                Ok(digest) => row.exists([digest.as_bytes()]).sql()?,
                Err(_) => false,
            };
            if !known {
                rename_to_trash(layout, tx, &dir.join(name), 0, 0)?;
            }
        }
    }
    Ok(())
}

/// Returns the highest number that a holder has or had.
pub(crate) fn last_holder(tx: &Transaction<'_>) -> Result<i64> {
    let last = tx.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'holder'", [], |row| row.get(0));
    Ok(last.optional().sql()?.unwrap_or(0))
}

/// Moves something to the trash under a name that says up to which holder it may be in use. Its bytes count until it is
/// deleted.
pub(crate) fn rename_to_trash(
    layout: &Layout,
    tx: &Transaction<'_>,
    path: &Path,
    holder: i64,
    bytes: u64,
) -> Result<()> {
    let name = format!("{holder}-{:016x}", random().at("read", "/dev/urandom")?);
    match fs::rename(path, layout.trash().join(&name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        answer => answer.at("discard", path)?,
    }
    let mut insert = tx.prepare_cached("INSERT INTO trash (name, bytes) VALUES (?1, ?2)").sql()?;
    insert.execute((name, bytes as i64)).sql()?;
    Ok(())
}

/// Stops counting trash that is deleted.
pub(crate) fn forget_deleted(layout: &Layout, tx: &Transaction<'_>) -> Result<()> {
    let rows: Vec<String> = {
        let mut rows = tx.prepare_cached("SELECT name FROM trash").sql()?;
        rows.query_map([], |row| row.get(0)).sql()?.collect::<Result<_, _>>().sql()?
    };
    let trash = layout.trash();
    for name in rows {
        if fs::symlink_metadata(trash.join(&name))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            tx.prepare_cached("DELETE FROM trash WHERE name = ?1").sql()?.execute([name]).sql()?;
        }
    }
    Ok(())
}

/// Lists the trash that nobody can be using: all holders that were there when it was discarded are gone.
pub(crate) fn deletable(layout: &Layout, tx: &Transaction<'_>, own: Option<i64>) -> Result<Vec<PathBuf>> {
    let oldest: Option<i64> = tx
        .query_row("SELECT min(number) FROM holder WHERE number IS NOT ?1", [own], |row| row.get(0))
        .sql()?;
    let trash = layout.trash();
    let mut out = Vec::new();
    for name in names(&trash)? {
        let until = name.split_once('-').and_then(|(number, _)| number.parse::<i64>().ok()).unwrap_or(0);
        // Nor what the handle that asks may have mounted itself.
        if oldest.is_none_or(|oldest| until < oldest) && own.is_none_or(|own| until < own || until == 0) {
            out.push(trash.join(name));
        }
    }
    Ok(out)
}

/// Deletes trash in the background. What is not done when the process ends, or is refused, waits for the next opening.
pub(crate) fn delete(layout: &Layout, rubbish: Vec<PathBuf>) {
    if rubbish.is_empty() {
        return;
    }
    debug_assert!(rubbish.iter().all(|path| path.starts_with(layout.trash())));
    // Without a thread it waits, too.
    let _ = std::thread::Builder::new().name("cooper-sweep".into()).spawn(move || {
        for path in rubbish {
            let _ = delete_one(&path);
        }
    });
}

pub(crate) fn delete_one(path: &Path) -> std::io::Result<()> {
    // A process that was killed in a mount namespace that it shared leaves its mounts behind.
    crate::mount::detach_below(path)?;
    tree::remove(path)
}

/// Lists a directory of the store. Names that are not text are none of ours and stay.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        let name = entry.map_err(|source| Error::io("list", dir, source))?.file_name();
        out.extend(name.into_string());
    }
    Ok(out)
}
