use std::io;
use std::path::PathBuf;

use cooper_layer::LayerId;
use cooper_oci::Digest;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a source could not be resolved or brought into the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A registry failed.
    #[error(transparent)]
    Registry(#[from] cooper_registry::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cooper_store::Error),
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer `{layer}`")]
    Unpack {
        /// The layer.
        layer: LayerId,
        /// What is wrong with it.
        #[source]
        source: cooper_layer::Error,
    },
    /// A file of an OCI layout cannot be read.
    #[error("cannot read `{path}` of an OCI layout")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A document of an OCI layout cannot be understood.
    #[error("cannot understand `{path}` of an OCI layout")]
    LayoutJson {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A blob of an OCI layout is damaged.
    #[error("`{path}` of an OCI layout {problem}")]
    LayoutBlob {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An OCI layout has no image of that name.
    #[error("OCI layout `{dir}` has no image `{name}` (there are: {})", list(.available))]
    NoImage {
        /// The folder.
        dir: PathBuf,
        /// The tag or digest that was asked for.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Manifest and configuration of an image do not fit together.
    #[error("image `{name}` is inconsistent: {problem}")]
    Image {
        /// The image.
        name: String,
        /// What does not fit.
        problem: String,
    },
    /// The layer's tar stream is not the one that the image's configuration lists.
    #[error("layer `{layer}` unpacks to a tar stream with digest `{found}`")]
    DiffId {
        /// The layer, by the digest that it should have.
        layer: LayerId,
        /// What it has.
        found: Digest,
    },
    /// The store knows no place where the layer could be had.
    #[error("layer `{0}` is neither in the store nor anywhere known")]
    Nowhere(LayerId),
    /// The store has other content under the layer's id.
    #[error("layer `{0}` is recorded with other content than was pulled")]
    Taken(LayerId),
    /// Something ran on a thread of its own and was stopped.
    #[error("the program is ending")]
    Stopped,
}

impl Error {
    /// Returns whether there was no connection at all; see [`cooper_registry::Error::is_unreachable`].
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_unreachable())
    }

    /// Returns what a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Layout { path, source } if source.kind() == io::ErrorKind::NotADirectory => Some(format!(
                "unpack the archive into a folder and name that (`{}` is in a file)",
                path.display()
            )),
            Self::Layout { .. } | Self::LayoutJson { .. } => {
                Some("an OCI layout is a folder with `oci-layout`, `index.json` and `blobs`".to_owned())
            }
            Self::LayoutBlob { .. } | Self::Image { .. } | Self::DiffId { .. } => {
                Some("the image is damaged: make or fetch it again".to_owned())
            }
            Self::Taken(_) => {
                Some("this is a fault of the store: use another one by --root, and report it".to_owned())
            }
            _ => None,
        }
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none with a name".to_owned() } else { items.join(", ") }
}
