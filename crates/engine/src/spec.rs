//! What is to be built, as data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooper_layer::Compression;

use crate::given::Given;

/// One build: where things are, what the frontend is told, what is to come out.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// What COPY and ADD read from.
    pub context: Context,
    /// The folder that the Dockerfile is in (`None` for that of the context), and its name there.
    pub dockerfile: (Option<PathBuf>, String),
    /// Options of the frontend by BuildKit's names: `target`, `build-arg:NAME`, `label:NAME`, `platform`, ….
    pub opts: BTreeMap<String, String>,
    /// Named contexts, which stand for stages and images of their name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Secrets, agents, and what steps may do.
    pub given: Given,
    /// How many steps may run at the same time; at least 1.
    pub jobs: usize,
    /// Names for the image.
    pub names: Vec<String>,
    /// What is to come out; nothing: the result stays in the store.
    pub outputs: Vec<Output>,
}

/// What COPY and ADD read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A folder.
    Folder(PathBuf),
    /// A git repository, an archive, or a Dockerfile alone, by its address.
    Remote(String),
}

impl Context {
    /// Returns the folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder.
    Folder(PathBuf),
    /// An image of a registry, by its name.
    Image(String),
    /// A git repository or an archive, by its address.
    Remote(String),
    /// An image of an OCI layout: `DIR`, `DIR:TAG`, `DIR@DIGEST`.
    Layout(String),
}

/// One thing that comes out of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An OCI layout, as an archive or as a folder.
    Oci {
        /// Where to.
        dest: Dest,
        /// How new layers are compressed.
        compression: Compression,
    },
    /// The files of the result in a folder.
    Local(PathBuf),
    /// The files of the result as a tar archive.
    Tar(Dest),
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// A file, written beside and renamed.
    File(PathBuf),
    /// A folder.
    Folder(PathBuf),
    /// Standard output, written forwards.
    Stdout,
}
