use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cooper_oci::{Descriptor, Digest, Index};
use cooper_registry::{Document, Documents};

use super::{blocking, kind_of};
use crate::{Error, Result};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd and docker write the whole name here, and only the tag above.
const FULL_NAME: &str = "io.containerd.image.name";
/// As for registries: no manifest, index or configuration is longer.
const LONGEST_DOCUMENT: u64 = 8 << 20;

/// A folder in the form of the OCI image layout specification.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Names a folder; it is made absolute, since records outlive the working directory.
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let absolute = fs::canonicalize(dir);
        Ok(Self { dir: absolute.map_err(|source| Error::Layout { path: dir.to_owned(), source })? })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// Opens a blob. Its bytes are not checked.
    pub(super) fn open(&self, digest: Digest) -> Result<File> {
        open(&self.blob_path(digest))
    }

    /// Finds what a tag, a digest or nothing names.
    pub(super) fn find(&self, reference: &str) -> Result<Document> {
        let path = self.dir.join("index.json");
        let bytes = read(&path)?;
        let index = Index::parse(&bytes).map_err(|source| Error::LayoutJson { path, source })?;
        if let Ok(digest) = reference.parse::<Digest>() {
            return self.by_digest(&index, digest);
        }
        let tag = if reference.is_empty() { "latest" } else { reference };
        let entries = || index.manifests.iter().filter(|entry| !entry.is_attestation());
        let named = |entry: &&Descriptor| {
            let name = |key| entry.annotations.get(key).map(String::as_str);
            let full = |name: &str| name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag);
            name(REF_NAME).is_some_and(full) || name(FULL_NAME).is_some_and(full)
        };
        let only = || {
            let mut all = entries();
            all.next().filter(|_| reference.is_empty() && all.next().is_none())
        };
        if let Some(entry) = entries().find(named).or_else(only) {
            let bytes = self.checked(entry)?;
            return Ok(Document { descriptor: entry.clone(), bytes });
        }
        // `podman save` and others put one entry a platform there and no name: the folder itself is the image.
        let unnamed =
            |entry: &Descriptor| !entry.annotations.contains_key(REF_NAME) && entry.platform.is_some();
        if reference.is_empty() && !index.manifests.is_empty() && entries().all(unnamed) {
            let descriptor = Descriptor::of(cooper_oci::media_type::OCI_INDEX, &bytes);
            return Ok(Document { descriptor, bytes });
        }
        let available = entries().filter_map(|entry| entry.annotations.get(REF_NAME).cloned()).collect();
        Err(Error::NoImage { dir: self.dir.clone(), name: tag.to_owned(), available })
    }

    /// A digest need not be listed: manifests inside an index are not.
    fn by_digest(&self, index: &Index, digest: Digest) -> Result<Document> {
        if let Some(entry) = index.manifests.iter().find(|entry| entry.digest == digest) {
            let bytes = self.checked(entry)?;
            return Ok(Document { descriptor: entry.clone(), bytes });
        }
        let path = self.blob_path(digest);
        let none = || {
            let available = index.manifests.iter().map(|entry| entry.digest.to_string()).collect();
            Error::NoImage { dir: self.dir.clone(), name: digest.to_string(), available }
        };
        if !path.exists() {
            return Err(none());
        }
        let bytes = read(&path)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(Error::LayoutBlob { path, problem: format!("has the digest `{found}`") });
        }
        let kind = kind_of(&bytes).ok_or_else(none)?;
        Ok(Document { descriptor: Descriptor::new(kind, digest, bytes.len() as u64), bytes })
    }

    fn checked(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let path = self.blob_path(descriptor.digest);
        let bytes = read(&path)?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(Error::LayoutBlob { path, problem: format!("has the digest `{found}`") });
        }
        if bytes.len() as u64 != descriptor.size {
            let problem = format!("has {} bytes, not {}", bytes.len(), descriptor.size);
            return Err(Error::LayoutBlob { path, problem });
        }
        Ok(bytes)
    }
}

impl Documents for Layout {
    type Error = Error;

    async fn document(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let (layout, descriptor) = (self.clone(), descriptor.clone());
        blocking(move || layout.checked(&descriptor)).await
    }
}

fn open(path: &Path) -> Result<File> {
    let fail = |source| Error::Layout { path: path.to_owned(), source };
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(fail)?.is_file() {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    File::open(path).map_err(fail)
}

fn read(path: &Path) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let taken = open(path)?.take(LONGEST_DOCUMENT + 1).read_to_end(&mut bytes);
    taken.map_err(|source| Error::Layout { path: path.to_owned(), source })?;
    if bytes.len() as u64 > LONGEST_DOCUMENT {
        let problem = format!("is longer than the limit of {LONGEST_DOCUMENT} bytes");
        return Err(Error::LayoutBlob { path: path.to_owned(), problem });
    }
    Ok(Bytes::from(bytes))
}
