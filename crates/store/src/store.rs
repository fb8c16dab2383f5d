use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cooper_layer::{Index, LayerId, OverlayXattrs, Owners};
use rusqlite::OptionalExtension as _;

use crate::charge::Accounts;
use crate::db::{Db, SqlContext as _};
use crate::environment::{Boot, Environment};
use crate::error::{Error, IoContext as _, Result};
use crate::evict::MAX_RECORDS;
use crate::holder::Holder;
use crate::layout::Layout;
use crate::loss::Loss;
use crate::sweep;
use crate::tree;

/// A folder of blobs, layers, snapshots and records, shared with other processes.
///
/// Clones are cheap and mean the same store. All methods block, and may be called from many threads at once.
///
/// One handle is one *holder*: whatever is committed, published or bound through it stays in the store at least until
/// its last clone, [`PendingDir`](crate::PendingDir), [`Workspace`](crate::Workspace) and [`View`](crate::View) is
/// dropped, or the process dies.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) layout: Layout,
    pub(crate) db: Db,
    pub(crate) holder: Holder,
    pub(crate) environment: Environment,
    pub(crate) backend: Backend,
    pub(crate) overlay_refused: std::sync::OnceLock<String>,
    pub(crate) indexes: Mutex<HashMap<LayerId, Arc<Index>>>,
    /// Layers whose files were looked at.
    pub(crate) sound: Mutex<HashSet<LayerId>>,
    pub(crate) losses: Mutex<Vec<Loss>>,
    pub(crate) accounts: Accounts,
    next: AtomicU64,
}

/// How roots are put together out of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Overlay mounts, or copies where the kernel refuses those.
    #[default]
    Auto,
    /// Overlay mounts; a refusal is an error.
    Overlay,
    /// Full copies: slow, but without any privilege.
    Copy,
}

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How roots are put together.
    pub backend: Backend,
    /// What to do about owners of files when this opens a new store; an existing store keeps what it was made with.
    pub owners: Owners,
    /// Most bytes that the store may take on the disk while this handle writes to it: what was not used for the longest
    /// time goes, and what does not fit all the same is [`Error::Full`]. `None`: no bound.
    pub max_used: Option<u64>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.layout.root).finish()
    }
}

impl Store {
    /// Opens a store, making it if it is not there, and clears up after processes that died.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(root, &Options::default())
    }

    /// Opens a store with options.
    pub fn open_with(root: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let layout = Layout::create(root.as_ref())?;
        let db = Db::open(&layout.root, layout.database())?;
        let environment = Environment::of(&db, options)?;
        let (holder, rubbish) = Holder::register(&layout, &db, &environment.boot)?;
        sweep::delete(&layout, rubbish);
        Ok(Self(Arc::new(Inner {
            layout,
            db,
            holder,
            environment,
            backend: options.backend,
            overlay_refused: std::sync::OnceLock::new(),
            indexes: Mutex::default(),
            sound: Mutex::default(),
            losses: Mutex::default(),
            accounts: Accounts::new(options.max_used),
            next: AtomicU64::new(0),
        })))
    }

    /// Returns the directory of the store, absolute.
    pub fn root(&self) -> &Path {
        &self.0.layout.root
    }

    /// Returns the family of overlay attributes that the store's snapshots are written in: what unpacking and scanning
    /// must be told.
    pub fn overlay_xattrs(&self) -> OverlayXattrs {
        self.0.environment.xattrs
    }

    /// Returns what is done about owners in this store: what unpacking and scanning must be told.
    pub fn owners(&self) -> Owners {
        self.0.environment.owners
    }

    /// Makes sure that everything in the store survives a power cut. Takes as long as the disk needs for all that was
    /// written to it lately; best done once, at the end of a build.
    ///
    /// What a crash of the machine finds unsynced is forgotten when the store is opened next, never trusted. A crash of
    /// processes alone loses nothing.
    pub fn sync(&self) -> Result<()> {
        self.trim_records(MAX_RECORDS)?;
        let Boot::Known(boot) = &self.0.environment.boot else { return Ok(()) };
        let list = |table: &str, column: &str| -> Result<Vec<Vec<u8>>> {
            self.0.db.read(|tx| {
                let sql = format!("SELECT {column} FROM {table} WHERE unsynced = ?1");
                let mut rows = tx.prepare_cached(&sql).sql()?;
                rows.query_map([boot], |row| row.get(0)).sql()?.collect::<Result<_, _>>().sql()
            })
        };
        let (layers, blobs) = (list("layer", "id")?, list("blob", "digest")?);
        if layers.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        self.sync_files()?;
        self.0.db.write(|tx| {
            for (table, column, ids) in [("layer", "id", &layers), ("blob", "digest", &blobs)] {
                let sql = format!("UPDATE {table} SET unsynced = NULL WHERE {column} = ?1 AND unsynced = ?2");
                let mut update = tx.prepare_cached(&sql).sql()?;
                for id in ids {
                    update.execute((id, boot)).sql()?;
                }
            }
            Ok(())
        })
    }

    pub(crate) fn sync_files(&self) -> Result<()> {
        let root = &self.0.layout.root;
        let dir = fs::File::open(root).at("open", root)?;
        rustix::fs::syncfs(&dir).at("sync", root)
    }

    /// Returns what to write into `unsynced`; syncs first where a later crash could not be noticed.
    pub(crate) fn unsynced(&self) -> Result<Option<&str>> {
        match &self.0.environment.boot {
            Boot::Known(boot) => Ok(Some(boot)),
            Boot::Unknown => self.sync_files().map(|()| None),
        }
    }

    /// Returns what was found missing or damaged since this was last asked; each is told once.
    pub fn take_losses(&self) -> Vec<Loss> {
        std::mem::take(&mut *lock(&self.0.losses))
    }

    pub(crate) fn note_loss(&self, loss: Loss) {
        let mut losses = lock(&self.0.losses);
        if !losses.contains(&loss) {
            losses.push(loss);
        }
    }

    /// Makes an empty directory, closed to others, that goes with this handle or is cleared up after its process.
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = self.fresh();
        fs::DirBuilder::new().mode(0o700).create(&path).at("create", &path)?;
        Ok(path)
    }

    /// Tells whether the store is still where it was opened: nobody has deleted it, or put another in its place.
    pub fn is_whole(&self) -> bool {
        self.0.holder.dir.is_dir() && self.0.layout.database().is_file()
    }

    /// Returns a path for something new; it is this process's alone, and nothing is there.
    pub(crate) fn fresh(&self) -> PathBuf {
        self.0.holder.dir.join(self.0.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Returns one of the store's settings.
    pub(crate) fn setting(db: &Db, name: &str) -> Result<Option<String>> {
        db.read(|tx| {
            tx.query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
                .optional()
                .sql()
        })
    }

    /// Refuses to touch files under another mapping of ids than the one they were written under.
    pub(crate) fn check_ids(&self) -> Result<()> {
        let environment = &self.0.environment;
        if environment.made_ids == environment.ids {
            return Ok(());
        }
        Err(Error::Ids {
            root: self.0.layout.root.clone(),
            made: environment.made_ids.clone(),
            now: environment.ids.clone(),
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What fails here is done by the next process that opens the store: the lock is free from now on.
        let _ = tree::remove(&self.holder.dir);
        let _ = self.holder.release(&self.db);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
