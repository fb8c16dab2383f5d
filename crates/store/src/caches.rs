//! Directories that outlive steps: cache mounts.
//!
//! A cache has a *name* and a *seed* (what it held when it was made), and one or more *instances*: numbered directories,
//! each with a row. Byte `n` of `caches.lock` is locked for reading by those who share instance `n`, and for writing by who
//! has it alone. Locks are taken on an open description of its own that can be handed to processes which outlive the
//! builder. Whoever takes an instance away must have the lock for writing, then delete the row, then the directory: who
//! waited for the lock looks at the row again.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cooper_layer::Timestamp;
use cooper_oci::Digest;
use rusqlite::OptionalExtension as _;

use crate::db::SqlContext as _;
use crate::error::{IoContext as _, Result};
use crate::layout::Layout;
use crate::locks::ByteLocks;
use crate::store::Store;

/// Who may use an instance of a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// Everybody who shares, one instance for all.
    Shared,
    /// One after the other, one instance for all.
    Locked,
    /// Everybody an instance alone: one that nobody has, else a new one.
    Private,
}

/// An instance of a cache, held until this is dropped or the last process that was given [`hold`](Self::hold) is gone.
#[derive(Debug)]
pub struct Cache {
    locks: ByteLocks,
    number: u64,
    path: PathBuf,
}

/// What [`Store::caches`] tells of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// Its number: its directory is `caches/NUMBER`.
    pub number: u64,
    /// The name that steps use.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When a step took it the last time.
    pub used: Timestamp,
    /// Its directory.
    pub path: PathBuf,
    /// A step has it.
    pub in_use: bool,
}

/// One attempt to have a cache.
#[derive(Debug)]
pub enum CacheTurn {
    /// It is there.
    Taken(Cache),
    /// Another has it: to be tried again a little later.
    Busy,
}

impl Store {
    /// Tries to take an instance of a cache without waiting. `fill` puts into a new one what it holds at first; if it
    /// fails, nothing is left.
    pub fn try_cache<E: From<crate::Error>>(
        &self,
        name: &str,
        seed: Option<&Digest>,
        using: CacheUse,
        mut fill: impl FnMut(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<CacheTurn, E> {
        loop {
            let rows = self.instances(name, seed)?;
            let known = match using {
                CacheUse::Private => rows.as_slice(),
                CacheUse::Shared | CacheUse::Locked => rows.get(..1).unwrap_or_default(),
            };
            let mut turn = None;
            for number in known {
                turn = self.try_instance(*number, using, &mut fill)?;
                if turn.is_some() {
                    break;
                }
            }
            match turn {
                Some(Some(cache)) => return Ok(CacheTurn::Taken(cache)),
                // It was taken away meanwhile.
                Some(None) => {}
                None if known.is_empty() || using == CacheUse::Private => {
                    self.insert(name, seed, known.len())?;
                }
                None => return Ok(CacheTurn::Busy),
            }
        }
    }

    /// Lists all instances, by number.
    pub fn caches(&self) -> Result<Vec<CacheEntry>> {
        let inner = &self.0;
        let path = inner.layout.cache_locks();
        let locks = ByteLocks::open(&path).at("open", &path)?;
        let rows: Vec<(i64, String, i64, i64)> = inner.db.read(|tx| {
            let mut rows =
                tx.prepare_cached("SELECT number, name, created, used FROM cache ORDER BY number").sql()?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .sql()?
                .collect::<std::result::Result<_, _>>()
                .sql()
        })?;
        rows.into_iter()
            .map(|(number, name, created, used)| {
                let number = number as u64;
                Ok(CacheEntry {
                    number,
                    name,
                    created: crate::time::from_sql(created),
                    used: crate::time::from_sql(used),
                    path: inner.layout.cache(number),
                    in_use: locks.is_held(number).at("look at the locks of", &path)?,
                })
            })
            .collect()
    }

    /// Takes an instance away, unless a step has it. Tells whether it is gone.
    pub fn remove_cache(&self, number: u64) -> Result<bool> {
        let inner = &self.0;
        let locks_path = inner.layout.cache_locks();
        let locks = ByteLocks::open(&locks_path).at("open", &locks_path)?;
        if !locks.try_lock(number).at("lock", &locks_path)? {
            return Ok(false);
        }
        inner.db.write(|tx| {
            tx.execute("DELETE FROM cache WHERE number = ?1", [number as i64]).sql()?;
            Ok(())
        })?;
        let path = inner.layout.cache(number);
        if path.exists() {
            crate::tree::remove(&path).at("delete", &path)?;
        }
        Ok(true)
    }

    /// The numbers of the instances, lowest first.
    fn instances(&self, name: &str, seed: Option<&Digest>) -> Result<Vec<u64>> {
        self.0.db.read(|tx| {
            let sql = "SELECT number FROM cache WHERE name = ?1 AND seed = ?2 ORDER BY number";
            let mut rows = tx.prepare_cached(sql).sql()?;
            let seed = seed_bytes(seed);
            rows.query_map((name, seed), |row| Ok(row.get::<_, i64>(0)? as u64))
                .sql()?
                .collect::<std::result::Result<_, _>>()
                .sql()
        })
    }

    /// Adds an instance, unless another process was faster: there are more than `known` then.
    fn insert(&self, name: &str, seed: Option<&Digest>, known: usize) -> Result<()> {
        let now = crate::time::now();
        self.0.db.write(|tx| {
            let seed = seed_bytes(seed);
            let sql = "SELECT count(*) FROM cache WHERE name = ?1 AND seed = ?2";
            let there: i64 = tx.query_row(sql, (name, &seed), |row| row.get(0)).sql()?;
            if there as usize <= known {
                let sql = "INSERT INTO cache (name, seed, created, used) VALUES (?1, ?2, ?3, ?3)";
                tx.execute(sql, (name, &seed, now)).sql()?;
            }
            Ok(())
        })
    }

    /// `None`: busy. `Some(None)`: it is no more.
    fn try_instance<E: From<crate::Error>>(
        &self,
        number: u64,
        using: CacheUse,
        fill: &mut impl FnMut(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<Option<Cache>>, E> {
        let inner = &self.0;
        let locks_path = inner.layout.cache_locks();
        // A description of its own: it is handed on with its lock.
        let locks = ByteLocks::open(&locks_path).at("open", &locks_path)?;
        let shared = using == CacheUse::Shared;
        let lock = |exclusive: bool| {
            if exclusive { locks.try_lock(number) } else { locks.try_share(number) }.at("lock", &locks_path)
        };
        if !lock(!shared)? {
            return Ok(None);
        }
        let Some(filled) = self.touch(number)? else { return Ok(Some(None)) };
        let cache = Cache { path: inner.layout.cache(number), locks, number };
        if filled && cache.path.is_dir() {
            return Ok(Some(Some(cache)));
        }
        // Filled by one alone; whoever shares gives the lock for writing back afterwards.
        if shared && !cache.locks.try_lock(number).at("lock", &locks_path)? {
            return Ok(None);
        }
        // Between the two locks another may have filled it and gone.
        match self.touch(number)? {
            None => return Ok(Some(None)),
            Some(true) if cache.path.is_dir() => {}
            Some(_) => self.fill(&cache, fill)?,
        }
        if shared && !cache.locks.try_share(number).at("lock", &locks_path)? {
            return Ok(None);
        }
        Ok(Some(Some(cache)))
    }

    fn fill<E: From<crate::Error>>(
        &self,
        cache: &Cache,
        fill: &mut impl FnMut(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let path = &cache.path;
        if path.exists() {
            // Somebody died in here.
            crate::tree::remove(path).at("delete", path)?;
        }
        fs::DirBuilder::new().mode(0o755).create(path).at("create", path)?;
        if let Err(error) = fill(path) {
            let _ = crate::tree::remove(path);
            return Err(error);
        }
        self.0.db.write(|tx| {
            tx.execute("UPDATE cache SET filled = 1 WHERE number = ?1", [cache.number as i64]).sql()?;
            Ok(())
        })?;
        Ok(())
    }

    /// Notes that an instance is used now; tells whether it is filled, `None` if there is no such instance.
    fn touch(&self, number: u64) -> Result<Option<bool>> {
        let now = crate::time::now();
        self.0.db.write(|tx| {
            let sql = "UPDATE cache SET used = ?2 WHERE number = ?1 RETURNING filled";
            tx.query_row(sql, (number as i64, now), |row| row.get(0)).optional().sql()
        })
    }
}

/// NULL is not equal to itself in SQL.
fn seed_bytes(seed: Option<&Digest>) -> Vec<u8> {
    seed.map(|seed| seed.as_bytes().to_vec()).unwrap_or_default()
}

impl Cache {
    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a descriptor that has the lock: as long as a process has it open, the instance is held.
    pub fn hold(&self) -> Result<OwnedFd> {
        self.locks.file().as_fd().try_clone_to_owned().at("hold", &self.path)
    }
}

impl Layout {
    pub(crate) fn cache_locks(&self) -> PathBuf {
        self.root.join("caches.lock")
    }

    pub(crate) fn caches(&self) -> PathBuf {
        self.root.join("caches")
    }

    pub(crate) fn cache(&self, number: u64) -> PathBuf {
        self.caches().join(number.to_string())
    }
}
