use std::io;

use crate::path::LayerPath;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a layer could not be read, unpacked, scanned or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream is not a tar archive, or a damaged one.
    #[error("bad tar archive at byte {offset}: {reason}")]
    Tar {
        /// Position of the header in the uncompressed stream, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading the layer's stream failed.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// Writing the layer's stream failed.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// An entry's name or link leads out of the layer.
    #[error("`{name}` leads out of the layer")]
    Escape {
        /// The name as it stands in the archive.
        name: String,
    },
    /// An entry cannot be what it says it is.
    #[error("entry `{path}`: {reason}")]
    Entry {
        /// The entry.
        path: LayerPath,
        /// What is wrong with it.
        reason: String,
    },
    /// A bound of [`Limits`](crate::Limits) was passed.
    #[error("layer is refused: {what} is above the limit of {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A system call on a file of the layer failed.
    #[error("cannot {action} `{path}`")]
    File {
        /// What was tried, as a verb: `create`, `open`, `set the owner of`.
        action: &'static str,
        /// The entry.
        path: LayerPath,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A file's bytes are not those that the index names.
    #[error("`{path}` changed while it was read: {reason}")]
    Changed {
        /// The file.
        path: LayerPath,
        /// In which way.
        reason: String,
    },
    /// A stored index cannot be decoded.
    #[error("bad layer index: {0}")]
    Index(&'static str),
    /// A text or a byte string is not a path inside a layer.
    #[error("`{0}` is not a path inside a layer")]
    Path(String),
    /// The compression of a blob is none that this crate reads.
    #[error("compression {0} is not supported (gzip, zstd or none)")]
    Compression(&'static str),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &LayerPath, source: impl Into<io::Error>) -> Self {
        Self::File { action, path: path.clone(), source: source.into() }
    }

    /// Takes a crossed bound out of the failed read that it came through.
    pub(crate) fn lifted(self) -> Self {
        let Self::Read(error) = self else { return self };
        match error.downcast::<Self>() {
            Ok(limit @ Self::Limit { .. }) => limit,
            Ok(other) => Self::Read(io::Error::other(other)),
            Err(error) => Self::Read(error),
        }
    }

    pub(crate) fn entry(path: &LayerPath, reason: impl Into<String>) -> Self {
        Self::Entry { path: path.clone(), reason: reason.into() }
    }
}
