use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use cooper_layer::DiffId;
use cooper_oci::{Descriptor, Hasher, Timestamp};

use crate::error::{Error, Result};

type Open = dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync;

/// How to read a blob. Cloning does not copy the blob.
#[derive(Clone)]
pub enum Content {
    /// It is in memory.
    Bytes(Arc<[u8]>),
    /// It is a file.
    Path(PathBuf),
    /// It is opened by a call, any number of times.
    Open(Arc<Open>),
}

impl Content {
    /// Takes bytes from memory.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// Takes a function that opens the blob.
    pub fn from_fn(open: impl Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static) -> Self {
        Self::Open(Arc::new(open))
    }

    /// Opens the blob at its start.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            Self::Path(path) => Box::new(File::open(path)?),
            Self::Open(open) => open()?,
        })
    }

    /// Copies the blob and compares it with its descriptor. After an error the output is to be thrown away.
    pub(crate) fn copy(&self, descriptor: &Descriptor, out: &mut dyn Write) -> Result<()> {
        let digest = descriptor.digest;
        let damaged = |reason: String| Error::Damaged { digest, reason };
        let mut input = self.open().map_err(|source| Error::Blob { digest, source })?;
        let mut hasher = Hasher::new();
        let mut left = descriptor.size;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::Blob { digest, source }),
            };
            left = left
                .checked_sub(count as u64)
                .ok_or_else(|| damaged(format!("it has more than {} bytes", descriptor.size)))?;
            let data = buffer.get(..count).unwrap_or_default();
            hasher.update(data);
            out.write_all(data).map_err(Error::Write)?;
        }
        if left > 0 {
            return Err(damaged(format!("{left} of {} bytes are missing", descriptor.size)));
        }
        let found = hasher.finish();
        if found != digest { Err(damaged(format!("its digest is {found}"))) } else { Ok(()) }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Path(path) => write!(f, "{path:?}"),
            Self::Open(_) => f.write_str("a function"),
        }
    }
}

/// A layer that is finished: a blob with its two digests.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// Digest of the uncompressed tar stream.
    pub diff_id: DiffId,
    /// What the manifest says of the blob: media type, digest, size, other places. Annotations with which containerd and
    /// BuildKit keep their books are left out of the manifest.
    pub descriptor: Descriptor,
    /// The blob.
    pub content: Content,
    /// When the layer was made, for a history that does not say so.
    pub created: Option<Timestamp>,
    /// What made the layer, for a history that has no entry for it.
    pub created_by: String,
}
