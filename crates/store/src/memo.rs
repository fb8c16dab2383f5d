use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use cooper_layer::Timestamp;
use cooper_oci::Digest;
use rusqlite::OptionalExtension as _;

use crate::db::SqlContext as _;
use crate::error::{Error, IoContext as _, Result};
use crate::store::Store;
use crate::time;

/// Something remembered: it saves work, and losing it costs only that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memo {
    /// What was put.
    pub value: Vec<u8>,
    /// When it was put, by this machine's clock.
    pub written: Timestamp,
}

impl Memo {
    /// Returns how long ago it was put; `None` if that is in the future, because the clock was set back.
    pub fn age(&self) -> Option<Duration> {
        let nanos = time::now().checked_sub(time::to_sql(self.written))?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }
}

impl Store {
    /// Returns what is remembered under a key. Kinds are their owners' names, as `tag`, and keep keys apart.
    pub fn memo_get(&self, kind: &str, key: &Digest) -> Result<Option<Memo>> {
        self.0.db.read(|tx| {
            let sql = "SELECT value, written FROM memo WHERE kind = ?1 AND key = ?2";
            let mut query = tx.prepare_cached(sql).sql()?;
            let row = query.query_row((kind, key.as_bytes()), |row| {
                Ok(Memo { value: row.get(0)?, written: time::from_sql(row.get(1)?) })
            });
            row.optional().sql()
        })
    }

    /// Remembers a small value (up to some kilobytes; see [`put_memo_file`](Self::put_memo_file)), in the place of an
    /// earlier one.
    pub fn memo_put(&self, kind: &str, key: &Digest, value: &[u8]) -> Result<()> {
        self.0.db.write(|tx| {
            let sql = "INSERT INTO memo (kind, key, value, written) VALUES (?1, ?2, ?3, ?4)
                       ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, written = excluded.written";
            let mut insert = tx.prepare_cached(sql).sql()?;
            insert.execute((kind, key.as_bytes(), value, time::now())).sql()?;
            Ok(())
        })
    }

    /// Forgets what is remembered under a key.
    pub fn memo_remove(&self, kind: &str, key: &Digest) -> Result<()> {
        self.0.db.write(|tx| {
            let sql = "DELETE FROM memo WHERE kind = ?1 AND key = ?2";
            tx.prepare_cached(sql).sql()?.execute((kind, key.as_bytes())).sql()?;
            Ok(())
        })
    }

    /// Returns the file with a large remembered value, if there is one: flat, to be mapped or read at once.
    ///
    /// Nobody changes it: a new value is another file under the same name. After a crash of the machine it may be
    /// damaged, so its reader must check what it reads.
    pub fn memo_file(&self, kind: &str, key: &Digest) -> Result<Option<PathBuf>> {
        let path = self.memo_file_path(kind, key);
        match path.try_exists() {
            Ok(exists) => Ok(exists.then_some(path)),
            Err(error) => Err(Error::io("look at", path, error)),
        }
    }

    /// Remembers a large value as a file, in the place of an earlier one.
    pub fn put_memo_file(&self, kind: &str, key: &Digest, value: &[u8]) -> Result<PathBuf> {
        let (new, path) = (self.fresh(), self.memo_file_path(kind, key));
        let mut charge = self.charge();
        charge.cover(value.len() as u64)?;
        let write = || -> io::Result<()> { fs::File::create_new(&new)?.write_all(value) };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let written = write().at("write", &new).and_then(|()| {
            self.0.db.write(|tx| {
                fs::rename(&new, &path).at("rename to", &path)?;
                tx.prepare_cached("DELETE FROM memo_file WHERE name = ?1").sql()?.execute([&name]).sql()?;
                let sql = "INSERT INTO memo_file (name, size, used) VALUES (?1, ?2, ?3)";
                let mut insert = tx.prepare_cached(sql).sql()?;
                insert.execute((&name, value.len() as i64, time::now())).sql()?;
                charge.release(tx)
            })
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written.map(|()| path)
    }

    fn memo_file_path(&self, kind: &str, key: &Digest) -> PathBuf {
        // Kinds are not file names.
        let kind = kind.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        self.0.layout.memo().join(format!("{kind}-{}", key.hex()))
    }
}
