//! The database: a small pool of connections and the two kinds of transaction.

mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Result};

/// How long to wait for other processes' write transactions. They take milliseconds; the bound is for a stopped
/// process.
const BUSY: Duration = Duration::from_secs(60);

/// Connections that are idle are kept up to this number.
const POOL: usize = 8;

#[derive(Debug)]
pub(crate) struct Db {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    // SQLite's busy handler sleeps; threads of one process wait for each other without that.
    writer: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is valid at every moment: a panicked holder changes nothing about it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Db {
    /// Opens or makes the database of the store at `root`.
    pub(crate) fn open(root: &Path, path: PathBuf) -> Result<Self> {
        let mut connection = connect(&path)?;
        schema::migrate(root, &mut connection)?;
        Ok(Self { path, idle: Mutex::new(vec![connection]), writer: Mutex::new(()) })
    }

    /// Runs queries that all see one state of the database.
    pub(crate) fn read<T>(&self, run: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        self.with(TransactionBehavior::Deferred, run)
    }

    /// Runs a write transaction: the only mutex between processes. An error rolls it back.
    ///
    /// Files are renamed inside of it, so it must not wait for anything slow.
    pub(crate) fn write<T>(&self, run: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let _turn = lock(&self.writer);
        self.with(TransactionBehavior::Immediate, run)
    }

    fn with<T>(
        &self,
        behavior: TransactionBehavior,
        run: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let idle = lock(&self.idle).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let transaction = connection
            .transaction_with_behavior(behavior)
            .map_err(|source| Error::database("lock", source))?;
        let out = run(&transaction)?;
        transaction.commit().map_err(|source| Error::database("commit to", source))?;
        let mut idle = lock(&self.idle);
        if idle.len() < POOL {
            idle.push(connection);
        }
        Ok(out)
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        // Before journal_mode: changing that takes a lock, which another process may hold.
        connection.busy_timeout(BUSY)?;
        write_ahead(&connection)?;
        // A power cut may lose the last transactions, never the order of them; see the module comment of the crate.
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // The last process to close would wait for the disk five times, to no use: the next one reads the log, which
        // is moved into the database whenever it reaches 4 MB.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(|source| Error::database("open", source))
}

/// Turns the log on. Of processes that make a store at the same moment all but one may be refused at once, without the
/// busy handler being asked: two that both read would wait for each other.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && start.elapsed() < BUSY =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            answer => return answer,
        }
    }
}

/// Adds what was tried to an answer of SQLite.
pub(crate) trait SqlContext<T> {
    fn sql(self) -> Result<T>;
}

impl<T> SqlContext<T> for rusqlite::Result<T> {
    fn sql(self) -> Result<T> {
        self.map_err(|source| Error::database("use", source))
    }
}
