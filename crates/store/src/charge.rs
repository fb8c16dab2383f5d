//! What unfinished things take on the disk, so that the cap holds while a build is under way, not only at its end.
//!
//! Every file or directory that is being written has a charge. Who knows how much is coming covers it before writing;
//! directories that programs write to are metered by a thread, which makes room ahead of them. The sum of a process's charges is a row that others see.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rusqlite::Transaction;

use crate::db::SqlContext as _;
use crate::error::{Error, Result};
use crate::store::{Inner, Store, lock};

/// Room is asked for in steps of this many bytes: each step is a write transaction.
const STEP: u64 = 4 << 20;

/// What is not worth a transaction of its own; [`headroom`] is what makes up for it.
const SMALL: u64 = 64 << 10;

/// No more than this is charged ahead of what is written.
const MOST_AHEAD: u64 = 64 << 20;

/// How often directories are metered, where it may matter: a program that writes 100 MB/s gets 1 MB further.
const PERIOD: Duration = Duration::from_millis(10);

/// How often it is looked whether there is anything to meter.
const IDLE: Duration = Duration::from_millis(20);

/// With so much room for every second, nothing that is written until the next look can reach the cap.
const FASTEST: u64 = 4 << 30;

/// The books of one handle.
#[derive(Debug)]
pub(crate) struct Accounts {
    pub(crate) cap: Option<u64>,
    /// Bytes of all charges.
    pub(crate) unfinished: Mutex<u64>,
    /// What running programs may write until they are looked at again. Room is made for it where that is possible, and
    /// nobody else is told of it.
    pub(crate) ahead: Mutex<u64>,
    metered: Mutex<Vec<Weak<Meter>>>,
    /// The thread that meters is there.
    metering: AtomicBool,
    /// What the metering thread was told when it asked for room.
    full: Mutex<Option<(u64, u64, u64, u64)>>,
}

impl Accounts {
    pub(crate) fn new(cap: Option<u64>) -> Self {
        Self {
            cap,
            unfinished: Mutex::default(),
            ahead: Mutex::default(),
            metered: Mutex::default(),
            metering: AtomicBool::new(false),
            full: Mutex::default(),
        }
    }
}

/// Returns what is kept free below a cap: small files are written without asking, the database's log grows by up to 4 MB
/// before it is folded in (80 KB for each opening of the store), and the store's own directories are not counted.
pub(crate) fn headroom(cap: u64) -> u64 {
    (cap / 64).clamp(1 << 20, 16 << 20).min(cap / 4)
}

/// Bytes of one unfinished thing.
#[derive(Debug)]
pub(crate) struct Charge {
    store: Store,
    bytes: u64,
}

impl Charge {
    /// Makes sure that the thing may have `bytes` all in all; asks for some more if it has to ask.
    pub(crate) fn cover(&mut self, bytes: u64) -> Result<()> {
        if bytes <= self.bytes || self.store.0.accounts.cap.is_none() {
            return Ok(());
        }
        let wanted = if bytes <= SMALL { bytes } else { bytes.div_ceil(STEP) * STEP };
        self.set(wanted);
        if wanted > SMALL && self.store.make_room().is_err() {
            // Near the cap every step counts.
            self.set(bytes);
            self.store.make_room()?;
        }
        Ok(())
    }

    fn set(&mut self, bytes: u64) {
        let mut sum = lock(&self.store.0.accounts.unfinished);
        *sum = sum.saturating_sub(self.bytes) + bytes;
        self.bytes = bytes;
    }

    /// Ends it: its bytes are counted as something finished from this transaction on.
    pub(crate) fn release(&mut self, tx: &Transaction<'_>) -> Result<()> {
        self.set(0);
        self.store.settle(tx)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = self.bytes;
        self.set(0);
        if bytes > SMALL {
            // What fails here is put right by the next transaction, or with the process.
            let _ = self.store.0.db.write(|tx| self.store.settle(tx));
        }
    }
}

/// A directory whose charge follows what is in it.
#[derive(Debug)]
pub(crate) struct Metered(Option<Arc<Meter>>);

#[derive(Debug)]
struct Meter {
    path: PathBuf,
    /// `None` when its bytes are counted as finished.
    charge: Mutex<Option<Own>>,
}

/// As a charge, but without keeping the store open: the thread that meters must not.
#[derive(Debug)]
struct Own {
    store: Weak<Inner>,
    /// What is charged.
    bytes: u64,
    /// What was there when it was measured last.
    measured: u64,
    /// What somebody said that there will be.
    reserved: u64,
    /// What a program that writes here may begin with; 0 where none does.
    spare: u64,
    /// What it may write until it is measured again.
    ahead: u64,
}

impl Own {
    /// Charges what was measured; looks ahead by what came since the last time, twice, or by what a new program may begin
    /// with. Tells whether there is more to be done.
    fn follow(&mut self, bytes: u64) -> bool {
        let growth = bytes.saturating_sub(self.measured);
        self.measured = bytes;
        self.look_ahead(if self.spare > 0 {
            self.spare.max(growth.saturating_mul(2)).min(MOST_AHEAD)
        } else {
            0
        });
        let wanted = bytes.max(self.reserved);
        let changed = wanted.abs_diff(self.bytes) > SMALL;
        if changed {
            self.set(wanted);
        }
        changed
    }

    fn look_ahead(&mut self, bytes: u64) {
        if let Some(inner) = self.store.upgrade() {
            let mut sum = lock(&inner.accounts.ahead);
            *sum = sum.saturating_sub(self.ahead) + bytes;
        }
        self.ahead = bytes;
    }

    fn set(&mut self, bytes: u64) {
        if let Some(inner) = self.store.upgrade() {
            let mut sum = lock(&inner.accounts.unfinished);
            *sum = sum.saturating_sub(self.bytes) + bytes;
        }
        self.bytes = bytes;
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.set(0);
        self.look_ahead(0);
    }
}

impl Metered {
    /// Makes sure that the directory may have `bytes` all in all.
    pub(crate) fn cover(&self, bytes: u64) -> Result<()> {
        let Some(meter) = &self.0 else { return Ok(()) };
        let store = {
            let mut own = lock(&meter.charge);
            let Some(own) = own.as_mut() else { return Ok(()) };
            own.reserved = own.reserved.max(bytes);
            if bytes <= own.bytes {
                return Ok(());
            }
            own.set(bytes);
            own.store.upgrade()
        };
        store.map_or(Ok(()), |inner| Store(inner).make_room())
    }

    /// As [`cover`](Self::cover), in steps where there is room for them.
    fn cover_in_steps(&self, bytes: u64) -> Result<()> {
        if self.cover(bytes.div_ceil(STEP) * STEP).is_ok() {
            return Ok(());
        }
        if let Some(own) =
            self.0.as_ref().map(|meter| lock(&meter.charge)).as_deref_mut().and_then(Option::as_mut)
        {
            own.reserved = bytes - 1;
            own.set(bytes - 1);
        }
        self.cover(bytes)
    }

    /// Makes some room for a program that is about to write here, if there can be any.
    pub(crate) fn expect_writes(&self) {
        let Some(meter) = &self.0 else { return };
        let store = {
            let mut own = lock(&meter.charge);
            let Some(own) = own.as_mut() else { return };
            let Some(inner) = own.store.upgrade() else { return };
            own.spare = inner.accounts.cap.map_or(0, |cap| (cap / 16).min(MOST_AHEAD));
            own.look_ahead(own.spare);
            Store(inner)
        };
        // It may write less than would fit. What it does write is noticed.
        let _ = store.make_room();
    }

    pub(crate) fn release(&self, tx: &Transaction<'_>) -> Result<()> {
        let Some(meter) = &self.0 else { return Ok(()) };
        let store = lock(&meter.charge).take().and_then(|own| own.store.upgrade());
        store.map_or(Ok(()), |inner| Store(inner).settle(tx))
    }
}

/// Hands on what it reads, and makes room for as many bytes in a directory first.
#[derive(Debug)]
pub struct Charged<'a, R> {
    input: R,
    into: &'a Metered,
    read: u64,
    covered: u64,
}

impl<'a, R> Charged<'a, R> {
    pub(crate) fn new(input: R, into: &'a Metered) -> Self {
        Self { input, into, read: 0, covered: 0 }
    }
}

impl<R: Read> Read for Charged<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read += count as u64;
        if self.read > self.covered {
            self.into.cover_in_steps(self.read)?;
            self.covered = self.read.div_ceil(STEP) * STEP;
        }
        Ok(count)
    }
}

impl Store {
    pub(crate) fn charge(&self) -> Charge {
        Charge { store: self.clone(), bytes: 0 }
    }

    /// Meters a directory from now on, where there is a cap.
    pub(crate) fn metered(&self, path: &Path) -> Metered {
        let accounts = &self.0.accounts;
        if accounts.cap.is_none() {
            return Metered(None);
        }
        let own =
            Own { store: Arc::downgrade(&self.0), bytes: 0, measured: 0, reserved: 0, spare: 0, ahead: 0 };
        let charge = Mutex::new(Some(own));
        let meter = Arc::new(Meter { path: path.to_owned(), charge });
        lock(&accounts.metered).push(Arc::downgrade(&meter));
        if !accounts.metering.swap(true, Ordering::SeqCst) {
            let store = Arc::downgrade(&self.0);
            let run = move || {
                while let Some(rest) = measure_all(&store) {
                    std::thread::sleep(rest);
                }
            };
            if std::thread::Builder::new().name("cooper-meter".into()).spawn(run).is_err() {
                // Then what is being written is counted when it is done.
                accounts.metering.store(false, Ordering::SeqCst);
            }
        }
        Metered(Some(meter))
    }

    /// Tells whether what running programs have written is more than the cap allows: they should be stopped.
    pub fn overfull(&self) -> Option<Error> {
        let full = *lock(&self.0.accounts.full);
        full.map(|(need, cap, own, others)| Error::Full { need, cap, own, others })
    }

    /// Writes the sum of this process's charges where others see it.
    pub(crate) fn settle(&self, tx: &Transaction<'_>) -> Result<()> {
        if self.0.accounts.cap.is_none() {
            return Ok(());
        }
        let bytes = *lock(&self.0.accounts.unfinished);
        let sql = "INSERT INTO unfinished (lock, bytes) VALUES (?1, ?2)
                   ON CONFLICT (lock) DO UPDATE SET bytes = excluded.bytes";
        tx.prepare_cached(sql).sql()?.execute((self.0.holder.lock as i64, bytes as i64)).sql()?;
        Ok(())
    }
}

/// Measures all directories once. Returns how long to wait for the next time, nothing when the store is closed.
///
/// It is kept open no longer than needed: whoever drops the last handle should be the one that closes it.
fn measure_all(store: &Weak<Inner>) -> Option<Duration> {
    let start = std::time::Instant::now();
    let meters: Vec<Arc<Meter>> = {
        let inner = store.upgrade()?;
        let mut all = lock(&inner.accounts.metered);
        all.retain(|meter| meter.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    };
    let mut changed = false;
    let idle = meters.is_empty();
    for meter in meters {
        // Gone meanwhile, or changing under the walk: the next time, then.
        let Ok(bytes) = on_disk(&meter.path) else { continue };
        if let Some(own) = lock(&meter.charge).as_mut() {
            changed |= own.follow(bytes);
        }
    }
    let walk = start.elapsed();
    let inner = store.upgrade()?;
    let full = *lock(&inner.accounts.full);
    if changed || full.is_some() {
        let answer = Store(inner.clone()).make_room();
        *lock(&inner.accounts.full) = match answer {
            Err(Error::Full { need, cap, own, others }) => Some((need, cap, own, others)),
            _ => None,
        };
    }
    let total = inner.db.read(|tx| Store(inner.clone()).sums(tx)).map_or(u64::MAX, |sums| sums.total());
    let room = inner.accounts.cap.unwrap_or(u64::MAX).saturating_sub(total);
    let harmless = Duration::from_millis(room / (FASTEST / 1000)).min(Duration::from_secs(1));
    // Directories of very many files: a quarter of a processor, and four looks a second, at least.
    let rest = (walk * 3).min(Duration::from_millis(250));
    Some(if idle { IDLE } else { PERIOD }.max(harmless).max(rest))
}

/// Adds up what a tree takes on the disk: blocks, linked files once. Mounts below it are not entered.
pub(crate) fn on_disk(path: &Path) -> io::Result<u64> {
    let top = fs::symlink_metadata(path)?;
    let device = top.dev();
    let mut sum = top.blocks() * 512;
    let mut linked = HashSet::new();
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // A program may be deleting it, or have closed it to everybody.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let Ok(entry) = entry else { continue };
            let Ok(found) = entry.metadata() else { continue };
            if found.dev() != device || (!found.is_dir() && found.nlink() > 1 && !linked.insert(found.ino()))
            {
                continue;
            }
            sum += found.blocks() * 512;
            if found.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(sum)
}
