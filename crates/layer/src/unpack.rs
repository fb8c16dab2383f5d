use std::io::Read;

use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::id::DiffId;
use crate::index::Index;
use crate::options::UnpackOptions;

/// What [`unpack`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// What the layer says.
    pub index: Index,
    /// Digest of the stream, to be compared with what the image's configuration lists.
    pub diff_id: DiffId,
    /// Length of the stream in bytes.
    pub tar_size: u64,
}

/// Unpacks one layer's tar stream, alone, into an empty directory in overlay form.
pub fn unpack(_tar: impl Read, _into: &Directory, _options: &UnpackOptions) -> Result<Unpacked> {
    Err(Error::Index("not here yet"))
}
