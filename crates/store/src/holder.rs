use std::fs;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::db::{Db, SqlContext as _};
use crate::environment::Boot;
use crate::error::{Error, IoContext as _, Result};
use crate::layout::Layout;
use crate::locks::{ByteLocks, MASK};
use crate::sweep;

/// This handle's existence, as other processes see it: a row, a directory and a lock that is free when it has died.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) number: i64,
    /// The byte that it locks.
    pub(crate) lock: u64,
    /// The lease of everything that goes through the handle.
    pub(crate) lease: i64,
    /// Where its unfinished files are.
    pub(crate) dir: PathBuf,
    /// Keeps the lock.
    _locks: ByteLocks,
}

impl Holder {
    /// Registers a new holder, and clears up after those that died. Returns what is left to be deleted.
    pub(crate) fn register(layout: &Layout, db: &Db, boot: &Boot) -> Result<(Self, Vec<PathBuf>)> {
        let path = layout.holders();
        let locks = ByteLocks::open(&path).at("open", &path)?;
        // The lock first: whoever sees the row or the directory sees the lock held. Numbers are drawn, not counted, so
        // that they stay unique when somebody deletes the database.
        let lock = loop {
            let lock = random().at("read", "/dev/urandom")? & MASK;
            if locks.try_lock(lock).at("lock", &path)? {
                break lock;
            }
        };
        let dir = layout.tmp().join(format!("{lock:016x}"));
        let (number, lease, rubbish) = db.write(|tx| {
            let rubbish = sweep::after_the_dead(layout, tx, &locks, boot)?;
            tx.execute("INSERT INTO holder (lock, pid) VALUES (?1, ?2)", (lock as i64, std::process::id()))
                .sql()?;
            let number = tx.last_insert_rowid();
            tx.execute("INSERT INTO lease (holder, label) VALUES (?1, 'process')", [number]).sql()?;
            let lease = tx.last_insert_rowid();
            fs::DirBuilder::new().mode(0o700).create(&dir).at("create", &dir)?;
            Ok((number, lease, rubbish))
        })?;
        Ok((Self { number, lock, lease, dir, _locks: locks }, rubbish))
    }

    /// Deletes the row and with it the leases.
    pub(crate) fn release(&self, db: &Db) -> Result<()> {
        db.write(|tx| {
            tx.execute("DELETE FROM unfinished WHERE lock = ?1", [self.lock as i64]).sql()?;
            tx.execute("DELETE FROM holder WHERE number = ?1", [self.number]).sql()?;
            Ok(())
        })
    }
}

/// Draws a number that no process of this machine draws again.
pub(crate) fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Reads the lock of a holder from the name of its directory.
pub(crate) fn lock_of(name: &str) -> Option<u64> {
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
