//! One runner a key, between processes: who runs, what the others see of it, and what became of it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use cooper_oci::Digest;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::db::SqlContext as _;
use crate::error::{IoContext as _, Result};
use crate::holder::random;
use crate::layout::Layout;
use crate::locks::{ByteLocks, MASK};
use crate::store::Store;
use crate::sweep;

/// Somebody's wish to do what has a key, which one at a time may: the others wait, and take over what came of it.
///
/// The protocol, for a caller with a limited number of job slots:
///
/// 1. [`Store::flight`], once; from here on a failure that somebody publishes counts for this wish, too.
/// 2. With a slot: [`try_lock`](Self::try_lock). It never blocks. If another has the lock, give the slot back, wait
///    until it [`is_free`](Self::is_free) (nobody tells: ask every 20 to 50 ms), look for [`failures`](Self::failures) and
///    the record under the key, and only then begin here again.
/// 3. Locked: look the record up once more, for it may have been published between the last look and the lock.
/// 4. See to what dead [`predecessors`](Self::predecessors) left, then [`begin`](Self::begin) and run.
/// 5. Publish: the record, or [`fail`](Self::fail). Then drop the flight, which unlocks. Never the other way round: whoever
///    finds the lock free and nothing published runs the step.
///
/// The lock is the kernel's and goes with this value, or with the process, however that dies. Two keys may share a
/// lock (its number is 62 bits of the key): then one waits for nothing, once.
#[derive(Debug)]
pub struct Flight {
    store: Store,
    key: Digest,
    /// An open description of its own: a lock belongs to one, so that two flights of one process exclude each other.
    locks: ByteLocks,
    /// The last failure that was published before the first try.
    mark: i64,
}

/// A failure that a runner published for those who waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the runner said; its form is the runner's business.
    pub what: Vec<u8>,
    /// The name of the attempt, for [`Flight::log`].
    pub attempt: u64,
}

/// One run of what has a key. Dropping it ends it: its log goes, and others need not clear up after it.
///
/// Its lock is apart from that of the flight, and can be handed to processes that outlive the builder: as long as one of
/// them has it, the attempt counts as running.
#[derive(Debug)]
pub struct Attempt {
    store: Store,
    name: u64,
    locks: ByteLocks,
    log: File,
}

/// What an attempt left whose builder died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadAttempt {
    /// Its name.
    pub name: u64,
    /// What [`Flight::begin`] was told about where its processes are.
    pub place: String,
    /// Some process still has its lock.
    pub running: bool,
}

impl Store {
    /// Announces the wish to do what has a key. Nothing is locked by it.
    pub fn flight(&self, key: &Digest) -> Result<Flight> {
        // Before the first try, never after: what is published between the two must not be missed.
        let mark = self.0.db.read(|tx| {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'failure'";
            Ok(tx.query_row(sql, [], |row| row.get(0)).optional().sql()?.unwrap_or(0))
        })?;
        let path = self.0.layout.flight_locks();
        let locks = ByteLocks::open(&path).at("open", &path)?;
        Ok(Flight { store: self.clone(), key: *key, locks, mark })
    }

    /// Lists attempts whose builders are dead: what they left outside of the store is for the caller to clear up, who then
    /// says so by [`forget_attempt`](Self::forget_attempt).
    pub fn dead_attempts(&self) -> Result<Vec<DeadAttempt>> {
        let sql = "SELECT name, place FROM attempt WHERE NOT EXISTS
                   (SELECT 1 FROM holder WHERE holder.lock = attempt.holder)";
        let rows = self.0.db.read(|tx| {
            let mut rows = tx.prepare_cached(sql).sql()?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).sql()?.collect::<Result<_, _>>().sql()
        })?;
        self.with_locks(rows)
    }

    /// Forgets an attempt of which nothing is left outside of the store, and deletes its log unless others may want that.
    pub fn forget_attempt(&self, name: u64) -> Result<()> {
        let failed = self.0.db.write(|tx| {
            tx.execute("DELETE FROM attempt WHERE name = ?1", [name as i64]).sql()?;
            let mut failed = tx.prepare_cached("SELECT 1 FROM failure WHERE attempt = ?1").sql()?;
            failed.exists([name as i64]).sql()
        })?;
        if !failed {
            // Gone already is as good.
            let _ = fs::remove_file(log_path(&self.0.layout, name));
        }
        Ok(())
    }

    fn with_locks(&self, rows: Vec<(i64, String)>) -> Result<Vec<DeadAttempt>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.0.layout.attempt_locks();
        let locks = ByteLocks::open(&path).at("open", &path)?;
        let look = |(name, place): (i64, String)| {
            let running = locks.is_held(name as u64).at("look at the locks of", &path)?;
            Ok(DeadAttempt { name: name as u64, place, running })
        };
        rows.into_iter().map(look).collect()
    }
}

impl Flight {
    /// Takes the lock if nobody has it. Taking it twice is taking it once.
    pub fn try_lock(&self) -> Result<bool> {
        let path = self.store.0.layout.flight_locks();
        self.locks.try_lock(self.byte()).at("lock", &path)
    }

    /// Gives the lock back.
    pub fn unlock(&self) -> Result<()> {
        let path = self.store.0.layout.flight_locks();
        self.locks.unlock(self.byte()).at("unlock", &path)
    }

    /// Tells whether nobody else has the lock, without taking it.
    pub fn is_free(&self) -> Result<bool> {
        let path = self.store.0.layout.flight_locks();
        Ok(!self.locks.is_held(self.byte()).at("look at the locks of", &path)?)
    }

    /// Lists failures that were published under the key since [`Store::flight`], by who was running then or has run since;
    /// the latest first.
    pub fn failures(&self) -> Result<Vec<Failure>> {
        self.store.0.db.read(|tx| {
            let sql = "SELECT what, attempt FROM failure WHERE key = ?1 AND number > ?2 ORDER BY number DESC";
            let mut query = tx.prepare_cached(sql).sql()?;
            let rows = query.query_map((self.key.as_bytes(), self.mark), |row| {
                Ok(Failure { what: row.get(0)?, attempt: row.get::<_, i64>(1)? as u64 })
            });
            rows.sql()?.collect::<Result<_, _>>().sql()
        })
    }

    /// Returns the name of the attempt that runs now, or of one whose builder has died.
    pub fn running(&self) -> Result<Option<u64>> {
        self.store.0.db.read(|tx| {
            let sql = "SELECT name FROM attempt WHERE key = ?1 ORDER BY number DESC LIMIT 1";
            let mut query = tx.prepare_cached(sql).sql()?;
            let name = query.query_row([self.key.as_bytes()], |row| row.get::<_, i64>(0));
            Ok(name.optional().sql()?.map(|name| name as u64))
        })
    }

    /// Opens what an attempt prints, as the attempt writes it; `None` if the attempt has ended, other than by a failure
    /// that it published.
    pub fn log(&self, attempt: u64) -> Result<Option<File>> {
        let path = log_path(&self.store.0.layout, attempt);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("open", path),
        }
    }

    /// Lists earlier attempts at the key that were not ended by their builders. To be asked under the lock.
    pub fn predecessors(&self) -> Result<Vec<DeadAttempt>> {
        let rows = self.store.0.db.read(|tx| {
            let mut rows = tx.prepare_cached("SELECT name, place FROM attempt WHERE key = ?1").sql()?;
            let rows = rows.query_map([self.key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.sql()?.collect::<Result<_, _>>().sql()
        })?;
        self.store.with_locks(rows)
    }

    /// Begins an attempt. `place` is told to whoever has to clear up if this process dies.
    pub fn begin(&self, place: &str) -> Result<Attempt> {
        let layout = &self.store.0.layout;
        let path = layout.attempt_locks();
        let locks = ByteLocks::open(&path).at("open", &path)?;
        // The lock first: who sees the row sees the lock held.
        let name = loop {
            let name = random().at("read", "/dev/urandom")? & MASK;
            if locks.try_lock(name).at("lock", &path)? {
                break name;
            }
        };
        let file = log_path(layout, name);
        let log = File::create_new(&file).at("create", &file)?;
        let attempt = Attempt { store: self.store.clone(), name, locks, log };
        self.store.0.db.write(|tx| {
            let sql = "INSERT INTO attempt (key, name, holder, place) VALUES (?1, ?2, ?3, ?4)";
            let holder = self.store.0.holder.lock as i64;
            let mut insert = tx.prepare_cached(sql).sql()?;
            insert.execute((self.key.as_bytes(), name as i64, holder, place)).sql()?;
            Ok(())
        })?;
        Ok(attempt)
    }

    /// Publishes the failure of an attempt to those who wait, and ends it. Its log stays as long as any of them lives.
    pub fn fail(&self, attempt: Attempt, what: &[u8]) -> Result<()> {
        self.store.0.db.write(|tx| {
            let sql = "INSERT INTO failure (key, attempt, what, until) VALUES (?1, ?2, ?3, ?4)";
            let until = sweep::last_holder(tx)?;
            let mut insert = tx.prepare_cached(sql).sql()?;
            insert.execute((self.key.as_bytes(), attempt.name as i64, what, until)).sql()?;
            Ok(())
        })
    }

    fn byte(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self.key.as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) & MASK
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Closing would do, but for a moment a process that was just forked may have a copy of the descriptor.
        let _ = self.unlock();
    }
}

impl Attempt {
    /// Returns its name: a number that no other attempt has.
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Returns a descriptor that keeps the attempt's lock, for a process that outlives this one.
    pub fn hold(&self) -> Result<OwnedFd> {
        self.locks.file().as_fd().try_clone_to_owned().at("copy a descriptor of", self.store.root())
    }

    /// Returns what writes the log.
    pub fn log_writer(&self) -> Result<LogWriter> {
        let copy = self.log.try_clone().at("copy a descriptor of", self.store.root())?;
        Ok(LogWriter(Some(copy)))
    }
}

/// Writes the log of an attempt.
#[derive(Debug)]
pub struct LogWriter(Option<File>);

impl LogWriter {
    /// Appends to the log that those who wait read. What cannot be written they do not see; the run goes on.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.0.as_mut().is_some_and(|log| log.write_all(bytes).is_err()) {
            // A log with a hole would tell of something that never was.
            self.0 = None;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // What fails here is done when the store is opened after this process's end.
        let _ = self.store.forget_attempt(self.name);
    }
}

fn log_path(layout: &Layout, attempt: u64) -> PathBuf {
    layout.logs().join(format!("{attempt:016x}"))
}

/// Lists the holders that died while processes of their attempts go on: their directories are in use.
pub(crate) fn orphaning(layout: &Layout, tx: &Transaction<'_>) -> Result<Vec<u64>> {
    let sql = "SELECT holder, name FROM attempt WHERE NOT EXISTS
               (SELECT 1 FROM holder WHERE holder.lock = attempt.holder)";
    let rows: Vec<(i64, i64)> = {
        let mut rows = tx.prepare_cached(sql).sql()?;
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).sql()?.collect::<Result<_, _>>().sql()?
    };
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let path = layout.attempt_locks();
    let locks = ByteLocks::open(&path).at("open", &path)?;
    let mut out = Vec::new();
    for (holder, name) in rows {
        if locks.is_held(name as u64).at("look at the locks of", &path)? {
            out.push(holder as u64);
        }
    }
    Ok(out)
}

/// Forgets failures for which nobody can be waiting any more, and deletes logs that nobody will read.
pub(crate) fn forget(layout: &Layout, tx: &Transaction<'_>) -> Result<()> {
    // Those who waited were there when it was published.
    let sql = "DELETE FROM failure WHERE NOT EXISTS (SELECT 1 FROM holder WHERE number <= failure.until)";
    tx.prepare_cached(sql).sql()?.execute([]).sql()?;
    let mut known = tx
        .prepare_cached(
            "SELECT 1 FROM attempt WHERE name = ?1 UNION ALL SELECT 1 FROM failure WHERE attempt = ?1",
        )
        .sql()?;
    let logs = layout.logs();
    for name in sweep::names(&logs)? {
        let used = match u64::from_str_radix(&name, 16) {
            Ok(attempt) => known.exists([attempt as i64]).sql()? || is_attempted(layout, attempt)?,
            Err(_) => false,
        };
        if !used {
            // Gone already is as good.
            let _ = fs::remove_file(logs.join(name));
        }
    }
    Ok(())
}

/// Tells whether an attempt is alive, whose row may be about to come.
fn is_attempted(layout: &Layout, attempt: u64) -> Result<bool> {
    let path = layout.attempt_locks();
    let locks = ByteLocks::open(&path).at("open", &path)?;
    locks.is_held(attempt).at("look at the locks of", &path)
}
