use std::io;
use std::path::{Path, PathBuf};

use cooper_layer::LayerId;
use cooper_oci::Digest;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on something in the store failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as a verb: `create`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The database of the store could not be read or written.
    #[error("cannot {action} the store's database")]
    Database {
        /// What was tried, as a verb: `open`, `read`, `write`.
        action: &'static str,
        /// What SQLite answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store was written by a newer version of this program.
    #[error("store `{root}` has format {found}, this program knows formats up to {known}")]
    Newer {
        /// The store.
        root: PathBuf,
        /// The format number that it has.
        found: i64,
        /// The newest format number that is understood.
        known: i64,
    },
    /// The directory holds the database of another program.
    #[error("`{0}` is not a store: its database belongs to another program")]
    Foreign(PathBuf),
    /// Locks or shared memory do not work on the file system of the store.
    #[error("store `{root}` is on {kind}, where locks between processes cannot be trusted")]
    Filesystem {
        /// The store.
        root: PathBuf,
        /// The kind of file system: `NFS`, `virtiofs`.
        kind: &'static str,
    },
    /// The files of the store belong to other user ids than those of this process's namespace.
    #[error("store `{root}` was made under another mapping of user ids ({made}, now {now})")]
    Ids {
        /// The store.
        root: PathBuf,
        /// The mapping under which it was made.
        made: String,
        /// The mapping of this process.
        now: String,
    },
    /// What is in use does not fit under the cap, and nothing is left that could go.
    #[error(
        "the store would need {} and may take {}: {} are in use by this build, {} by others",
        mb(*need), mb(*cap), mb(*own), mb(*others)
    )]
    Full {
        /// Bytes that it would take with nothing in it but what is in use.
        need: u64,
        /// The cap, in bytes.
        cap: u64,
        /// Bytes that this process holds or is writing.
        own: u64,
        /// Bytes that other processes hold or are writing, and that are not in `own`.
        others: u64,
    },
    /// What was written is not what its digest says.
    #[error("expected {expected}, got {found}")]
    Mismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A layer is named that the store has never heard of.
    #[error("layer `{0}` is not in the store")]
    NoLayer(LayerId),
    /// A layer is known, but its files are not here: unpack or make it again.
    #[error("the files of layer `{0}` are not in the store")]
    Lost(LayerId),
    /// Something stored cannot be decoded.
    #[error("{what} in the store is damaged: {reason}")]
    Damaged {
        /// What it is, with its name.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Making a root file system of layers failed.
    #[error("cannot {action} for a root of {layers} layers")]
    Mount {
        /// What was tried: `mount an overlay`.
        action: &'static str,
        /// Number of layers.
        layers: usize,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A layer's files or index cannot be handled.
    #[error("layer cannot be handled")]
    Layer(#[from] cooper_layer::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    pub(crate) fn database(action: &'static str, source: rusqlite::Error) -> Self {
        Self::Database { action, source: Box::new(source) }
    }

    pub(crate) fn damaged(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged { what: what.into(), reason: reason.to_string() }
    }

    /// Returns what a person can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use the newer version, or another directory by --root".into()),
            Self::Foreign(_) => Some("name another directory by --root".into()),
            Self::Filesystem { .. } => {
                Some("name a directory on a local disk by --root (ext4, xfs, btrfs, tmpfs)".into())
            }
            Self::Ids { .. } => Some("name another directory by --root, one for each way of running".into()),
            Self::Full { need, own, others, .. } if others > own => Some(format!(
                "build again when the others are done, or allow more by --max-used {}",
                mb(*need)
            )),
            Self::Full { need, .. } => Some(format!("allow more by --max-used {}", mb(*need))),
            Self::Database { source, .. } => {
                let code =
                    source.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
                match code {
                    Some(rusqlite::ErrorCode::DiskFull) => Some("free some space on the store's disk".into()),
                    Some(rusqlite::ErrorCode::ReadOnly) => {
                        Some("the store, or the disk that it is on, is read-only".into())
                    }
                    Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                        Some("nothing in a store is more than a cache: delete its folder".into())
                    }
                    _ => None,
                }
            }
            Self::Io { source, .. } | Self::Mount { source, .. } => match source.raw_os_error() {
                Some(libc::ENOSPC) | Some(libc::EDQUOT) => Some("free some space on the store's disk".into()),
                Some(libc::EROFS) => Some("the store's disk is mounted read-only".into()),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Writes bytes as megabytes, rounded up, so that who allows as much as it says has enough.
fn mb(bytes: u64) -> String {
    format!("{}MB", bytes.div_ceil(1_000_000))
}

/// Adds the action and the path to an answer of the system.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::io(action, path.as_ref(), source))
    }
}
