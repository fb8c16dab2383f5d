use std::collections::BTreeMap;

use cooper_oci::{Digest, Platform};

/// What is to be converted: options in the form in which a BuildKit client sends them to a Dockerfile frontend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Frontend options by BuildKit's names: `target`, `platform` (comma separated), `filename`, `build-arg:NAME`,
    /// `label:NAME`, `context:NAME`, `no-cache` (empty: all stages), `add-hosts`, `hostname`, `shm-size`, `ulimit`,
    /// `cgroup-parent`, `force-network-mode`, `image-resolve-mode`, `multi-platform`, `contextkey`, `dockerfilekey`,
    /// `contextsubdir`, `all-stages` (`true`; not BuildKit's), `local-sessionid:NAME`, `sharedkey:localdir:NAME`, …
    pub opts: BTreeMap<String, String>,
    /// Platforms that steps can run on; the first is the build platform. The host's if it is empty.
    pub worker_platforms: Vec<Platform>,
    /// Id of the client's session, written into local sources.
    pub session: String,
}

/// Which registry state an image reference is resolved against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResolveMode {
    /// As the builder is configured.
    #[default]
    Default,
    /// Always ask the registry.
    Pull,
    /// An image that is here already will do.
    Local,
}

/// Asks for the configuration of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageQuestion {
    /// Normalised reference, `docker.io/library/alpine:3.19`.
    pub reference: String,
    /// Which manifest of an index is meant; `None` leaves it to the builder.
    pub platform: Option<Platform>,
    /// Where to look.
    pub mode: ResolveMode,
    /// Set where the image lies in an OCI layout of the client and not in a registry.
    pub layout: Option<LayoutStore>,
}

/// An OCI layout on the client's side.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayoutStore {
    /// Session that offers it.
    pub session: String,
    /// Name of the store within that session.
    pub store: String,
}

/// Asks for the content of a file in the result of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileQuestion {
    /// An encoded `pb.Definition` (BuildKit's LLB), usually one local source.
    pub definition: Vec<u8>,
    /// Path in its result, without a leading slash.
    pub path: String,
    /// At most this many bytes from the start are wanted; all if `None`.
    pub limit: Option<u64>,
}

/// Asks what is known of a git or http source without fetching all of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceQuestion {
    /// Identifier of the source as in LLB: `git://…`, `https://…`.
    pub identifier: String,
    /// Attributes of the source as in LLB.
    pub attrs: BTreeMap<String, String>,
}

/// One question that has to be answered before the conversion can go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ask {
    /// Resolve an image and read its configuration.
    Image {
        /// What is asked, the key in [`Answers::images`].
        question: ImageQuestion,
        /// What to show while it is under way, as `[internal] load metadata for …`.
        name: String,
    },
    /// Read a file.
    File {
        /// What is asked, the key in [`Answers::files`].
        question: FileQuestion,
        /// What to show while it is under way, as `[internal] load build definition from Dockerfile`.
        name: String,
    },
    /// Look at a remote source.
    Source {
        /// What is asked, the key in [`Answers::sources`].
        question: SourceQuestion,
        /// What to show while it is under way.
        name: String,
    },
}

/// The answer to an [`ImageQuestion`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The reference that was resolved; another one than was asked for where a policy or a mirror changed it.
    pub reference: String,
    /// Digest of the index or manifest that the reference names; `None` where the builder does not pin.
    pub digest: Option<Digest>,
    /// Bytes of the image configuration.
    pub config: Vec<u8>,
}

/// The answer to a [`SourceQuestion`]; all fields may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMetadata {
    /// Committer time of the commit, or the last-modified time of the file, in seconds since 1970.
    pub time: Option<i64>,
}

/// All answers so far. An `Err` holds the message of a failure; it fails the conversion where the answer matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Images by question.
    pub images: BTreeMap<ImageQuestion, Result<ResolvedImage, String>>,
    /// Files by question; `Ok(None)`: there is no such file.
    pub files: BTreeMap<FileQuestion, Result<Option<Vec<u8>>, String>>,
    /// Remote sources by question.
    pub sources: BTreeMap<SourceQuestion, Result<SourceMetadata, String>>,
}
