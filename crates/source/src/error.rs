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
    /// A file cannot be had from its address.
    #[error(transparent)]
    Url(Box<cooper_registry::Error>),
    /// What an address gave is not what was asked for. The words are BuildKit's.
    #[error("digest mismatch for {}: {} (expected: {})", .0.url, .0.found, .0.expected)]
    Checksum(Box<WrongFile>),
    /// A downloaded file cannot be written.
    #[error("cannot keep what `{url}` gave")]
    WriteUrl {
        /// The address.
        url: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A downloaded file cannot be called so.
    #[error("a downloaded file cannot be called `{0}`")]
    FileName(String),
    /// There is no git.
    #[error("`git` is not installed")]
    NoGit,
    /// Git failed.
    #[error("cannot {what} `{remote}`: {message}")]
    Git {
        /// The operation.
        what: &'static str,
        /// The address, without a login.
        remote: String,
        /// What git said.
        message: String,
    },
    /// A repository does not have what is asked for.
    #[error("git repository `{remote}`: {problem}")]
    GitTree {
        /// The address, without a login.
        remote: String,
        /// What is wrong.
        problem: String,
    },
    /// A folder for a repository or its tree cannot be used.
    #[error("cannot use `{path}` for a git repository")]
    GitDir {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something ran on a thread of its own and was stopped.
    #[error("the program is ending")]
    Stopped,
}

/// A file that is another one than was asked for.
#[derive(Debug)]
pub struct WrongFile {
    /// The address.
    pub url: String,
    /// What was asked for.
    pub expected: Digest,
    /// What came.
    pub found: Digest,
}

impl Error {
    /// Returns whether there was no connection at all; see [`cooper_registry::Error::is_unreachable`].
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_unreachable(),
            Self::Url(error) => error.is_unreachable(),
            _ => false,
        }
    }

    /// Returns what a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Url(error) => url_hint(error),
            Self::Checksum(_) => Some(
                "the file has changed, or somebody has changed it: look at it before you correct the checksum".to_owned(),
            ),
            Self::NoGit => Some("install git, or COPY a clone of the repository".to_owned()),
            Self::Git { message, .. } => git_hint(message),
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

/// Returns what a person can do about what git says.
fn git_hint(message: &str) -> Option<String> {
    let has = |text: &str| message.contains(text);
    let hint = if has("could not read Username") || has("Authentication failed") || has("returned error: 40")
    {
        "a private repository needs a token: --secret id=GIT_AUTH_TOKEN,env=NAME"
    } else if has("Permission denied (publickey") || has("Host key verification failed") {
        "ssh needs the host's key in `~/.ssh/known_hosts`, and your agent: --ssh default"
    } else if has("Could not resolve host") || has("Failed to connect") || has("Could not connect") {
        "check the network and the address; behind a proxy set HTTPS_PROXY"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Returns what a person can do about an address, of which the hints for registries do not speak.
fn url_hint(error: &cooper_registry::Error) -> Option<String> {
    use cooper_registry::Error;
    match error {
        Error::Unreachable { host, .. } => {
            Some(format!("check the network and the name `{host}`; behind a proxy set HTTPS_PROXY"))
        }
        Error::NotFound { .. } => Some("check the address for typing errors".to_owned()),
        Error::Unauthorized { .. } | Error::Forbidden { .. } => {
            Some("the file is not for everybody: load it yourself, and COPY it".to_owned())
        }
        Error::RateLimited { .. } => Some("try again later".to_owned()),
        error => error.hint(),
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none with a name".to_owned() } else { items.join(", ") }
}
