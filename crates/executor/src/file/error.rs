use std::io;

/// Why a file operation failed. Paths are those seen in the root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused something.
    #[error("failed to {what} `{path}`")]
    Io {
        /// What was tried: `open`, `copy`, …
        what: &'static str,
        /// Where.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The source does not exist, or the pattern has no match.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// A directory meets something else at its destination.
    #[error("cannot copy to non-directory: {0}")]
    NotDirectory(String),
    /// A file meets a directory at its destination.
    #[error("cannot replace to directory {0} with file")]
    IsDirectory(String),
    /// The path says nothing to work on, or is no path.
    #[error("invalid path `{0}`")]
    Path(String),
    /// Links refer to each other without end.
    #[error("too many links in `{0}`")]
    Loop(String),
    /// An archive that was to be unpacked is damaged or hostile.
    #[error("failed to unpack `{path}`")]
    Unpack {
        /// The archive.
        path: String,
        /// What is wrong with it.
        source: cooper_layer::Error,
    },
    /// A hard link of an archive leads to nothing in it.
    #[error("failed to unpack `{path}`: it is a hard link to `{target}`, which is not in the destination")]
    Link {
        /// The link.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Something that is not done here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

impl FileError {
    pub(crate) fn io(what: &'static str, path: impl AsRef<[u8]>) -> impl FnOnce(io::Error) -> Self {
        let path = format!("/{}", String::from_utf8_lossy(path.as_ref()).trim_start_matches('/'));
        move |source| Self::Io { what, path, source }
    }
}
