use std::io;
use std::path::PathBuf;

use cooper_oci::Digest;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image or a tree could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to export.
    #[error("no image to export")]
    Nothing,
    /// The image's configuration lacks a field that it must have.
    #[error("image configuration has no `{0}`")]
    Config(&'static str),
    /// Two images are for the same platform.
    #[error("two images for platform `{0}`")]
    Platform(String),
    /// A name is none.
    #[error("`{name}` is not the name of an image")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: cooper_oci::ReferenceError,
    },
    /// A configuration, manifest or index cannot be written as JSON.
    #[error("cannot write image JSON")]
    Json(#[from] serde_json::Error),
    /// docker's form of an archive holds one platform.
    #[error("an archive for docker holds one platform, not {0} (use an OCI archive)")]
    DockerPlatforms(usize),
    /// A blob cannot be read.
    #[error("cannot read blob `{digest}`")]
    Blob {
        /// The blob.
        digest: Digest,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A blob's bytes are not those that its descriptor names.
    #[error("blob `{digest}` is damaged: {reason}")]
    Damaged {
        /// The blob.
        digest: Digest,
        /// In which way.
        reason: String,
    },
    /// The stream of an archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A file or folder of the destination refused something.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried, as a verb: `create`, `open`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The destination holds something that cannot be added to.
    #[error("`{}` {reason}", path.display())]
    Destination {
        /// The file or folder.
        path: PathBuf,
        /// What is in the way, and what to do.
        reason: String,
    },
    /// The tree cannot be read as a layer.
    #[error("cannot read the tree to export")]
    Tree(#[source] cooper_layer::Error),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::File { action, path: path.into(), source: source.into() }
    }
}
