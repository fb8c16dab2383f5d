//! A folder of blobs, layers, snapshots and records, shared by any number of processes without a daemon.
//!
//! A [`Store`] keeps what a builder makes and what it has learned:
//!
//! - *blobs*: bytes by their SHA-256,
//! - *layers*: what one step wrote or one layer of an image, by [`LayerId`](cooper_layer::LayerId); a [`LayerRecord`]
//!   says what is in the layer and in which *places* its bytes are: unpacked here, as a blob here, in a registry,
//! - *records*: what a step with a certain key gave; the first one under a key wins, and who comes later adopts it,
//! - *memos*: whatever saves work and may be lost.
//!
//! From layers it makes root file systems: a [`Workspace`] to write to, a [`View`] to read.
//!
//! Two things that are easily confused: a *layer* is one layer alone, in overlay form, whatever it lies on; a
//! *chain* is a list of layers and nothing that is stored. And a record that is *found* says what a step gave,
//! not that the bytes are still here: ask [`Store::presence`].
//!
//! Left to others: what keys and ids are made of, when to run what (the solver and the engine), tar streams
//! (the layer crate), fetching (the source crate), mount namespaces (the executor; mounts are made in the
//! caller's).
//!
//! ```
//! use cooper_layer::{Index, LayerId};
//! use cooper_oci::Digest;
//! use cooper_store::{LayerMeta, OutputRecord, Publish, Record, Store};
//!
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path())?;
//!
//! let empty = LayerId::new(Digest::of("an empty layer"));
//! store.commit_layer(store.begin_snapshot()?, empty, &Index::default(), &LayerMeta::default())?;
//! assert!(store.presence(&[empty])?[0].snapshot);
//!
//! let record = Record {
//!     key: Digest::of("what a step reads and does"),
//!     outputs: vec![OutputRecord { result: Digest::of("its result"), layers: vec![empty] }],
//!     created: Default::default(),
//!     cost: std::time::Duration::from_secs(3),
//!     recipe: None,
//!     meta: Default::default(),
//! };
//! assert!(store.publish(&record, Publish::First)?.won);
//! assert_eq!(store.find(&record.key)?, Some(record));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On disk
//!
//! ```text
//! ROOT/                      mode 0700: layers hold set-user-id programs
//!   store.db -wal -shm       SQLite: which of the below counts, records, small memos, leases
//!   holders.lock             empty; byte n is locked by the living holder that drew n
//!   flights.lock             empty; byte n is locked by whoever runs a step whose key begins with n
//!   attempts.lock            empty; byte n is locked as long as a process of attempt n lives
//!   caches/NUMBER/           a directory that steps mount as a cache, see [`Cache`]
//!   caches.lock              empty; byte n is locked by those who use caches/n
//!   logs/NAME                what the attempt NAME prints, for those who wait for it
//!   blobs/sha256/HEX         a blob; entry indexes of layers are blobs, too
//!   snapshots/HEX/fs/        files of layer HEX in overlay form; never changed
//!   memo/KIND-HEX            a large memo; replaced as a whole
//!   tmp/LOCK/N               unfinished things of the holder LOCK
//!     N                        a blob or memo that is being written
//!     N/fs N/work N/root       upper directory, overlayfs' own, mount point (or full copy)
//!     N/lower N/*-base N/*-mend  mounts and layers that help with these
//!   trash/NUMBER-RANDOM      to be deleted when all holders up to NUMBER are gone
//!   empty/                   stays empty: lowest directory of mounts
//! ```
//!
//! Format number: `user_version` of the database; an older format is migrated when it is opened, a newer one
//! refused. How files are written (family of overlay attributes, owners set or only recorded, mapping of user
//! ids) is settled by who makes the store, and kept in its table `setting`.
//!
//! **Holders.** Opening a store draws a random number, locks that byte of `holders.lock`, and only then inserts
//! a row and makes `tmp/LOCK` in one transaction. The kernel frees the lock when the process dies, however it
//! dies; a number is never drawn again. So a row or directory whose lock is free belongs to the dead, and no
//! clock or pid is asked. Leases are rows that go with their holder's.
//!
//! **Flights.** Whoever runs a step holds the lock of its key from before its last look at the records until its own
//! record, or its failure, is published; others wait without any lock and adopt what they find ([`Flight`]). A run is
//! an *attempt* with a row, a log and a lock of its own, which the step's processes inherit: when the builder dies,
//! what it left is not touched before they are gone. Failures are kept while a holder lives that may have waited.
//!
//! **One mutex.** SQLite's write lock is the only lock between processes. What is published is renamed in and
//! gets its row inside one write transaction, so that others see both or neither.
//!
//! **What a crash leaves behind**, and what becomes of it:
//!
//! | The process dies | Left | Cleared up by |
//! |---|---|---|
//! | while writing a blob, unpacking, running a step | its `tmp/LOCK`, perhaps with mounts | the next opening moves it to the trash, detaches mounts, deletes |
//! | between renaming in and committing | a file without a row | counts as not there; replaced by the next commit of the same id, else swept by the next opening |
//! | after committing | nothing: all is there | |
//! | while deleting trash | the rest of it | the next opening |
//! | running a step | the row and the log of its attempt; its control group | who opens the store next, or runs the step next |
//! | holding leases | rows with a dead holder | the next opening |
//!
//! | The machine goes down | Left | Cleared up by |
//! |---|---|---|
//! | before [`Store::sync`] | rows whose files may be empty or cut, marked with the boot in which they came | the first opening in another boot forgets them: a miss |
//! | after it | nothing: all is there | |
//! | in a transaction | SQLite's log, with or without the last transactions | SQLite |
//!
//! Opening a store lists `tmp` and `trash` and looks at one lock a holder; only after a death are all files
//! compared with the rows. It takes about 1 ms.
//!
//! **Missing or damaged files.** What the database claims and the disk does not have is noticed when it is
//! asked for: it is given up, counts as not there from then on, and [`Store::take_losses`] tells once. Digests
//! of blobs are checked where the store reads them itself ([`Store::read_blob`], [`Store::index`]).
//!
//! # Why nothing is synced on the way
//!
//! A layer with 3,000 files of 4 KB, on ext4 on a virtual disk, two cores, both busy with other work:
//! committing it takes 3 to 14 ms as it is; with one `syncfs` before 0.16 to 1.4 s more, as that waits for
//! everything that anybody wrote; with an `fsync` a file 8 to 12 s more. So rows carry the boot in which their
//! files came, and one [`Store::sync`] at the end of a build takes the mark off. Killed processes lose nothing
//! by it: the kernel keeps what they wrote.

mod blobs;
mod caches;
mod charge;
mod check;
mod db;
mod environment;
mod error;
mod evict;
mod flights;
mod holder;
mod items;
mod layers;
mod layout;
mod leases;
mod locks;
mod loss;
mod memo;
mod mount;
mod records;
mod snapshots;
mod store;
mod sweep;
mod time;
mod tree;
mod usage;

pub use blobs::BlobWriter;
pub use caches::{Cache, CacheEntry, CacheTurn, CacheUse};
pub use charge::Charged;
pub use check::{Checked, Finding};
pub use error::{Error, Result};
pub use evict::{Prune, Pruned};
pub use flights::{Attempt, DeadAttempt, Failure, Flight, LogWriter};
pub use items::{Item, ItemKind, Keeper};
pub use layers::{LayerBlob, LayerMeta, LayerRecord, Presence, Remote};
pub use leases::Lease;
pub use loss::Loss;
pub use memo::Memo;
pub use mount::{View, Workspace};
pub use records::{OutputRecord, Publish, Published, Record};
pub use snapshots::{Committed, PendingDir};
pub use store::{Backend, Options, Store};
pub use usage::{Total, Usage};
