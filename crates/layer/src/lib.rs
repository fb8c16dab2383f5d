//! Image layers: tar, whiteouts, diff, safe unpacking, compression, entry index.
//!
//! A layer is known here in four forms, and this crate turns one into another:
//!
//! - a *directory* in overlay form: what overlayfs has as an upper or lower directory ([`Directory`]),
//! - an [`Index`]: the sorted list of what the layer adds, changes and hides, with a digest of every file,
//! - a *tar stream*, whose SHA-256 is the [`DiffId`],
//! - a *blob*: the tar stream, compressed ([`Compressor`], [`Decompressor`]).
//!
//! [`unpack`] makes directory and index from a tar stream, [`scan`] makes the index of a directory that a step wrote,
//! [`write_tar`] makes the tar stream from both. [`Merged`] answers what is seen where layers lie on each other.
//!
//! Two ids that are easily confused: a [`DiffId`] names bytes of a tar stream, [`Index::content_id`] names what the
//! layer says, with times of the step's own run left out. A [`LayerId`] is what a store files a layer under.
//!
//! Left to others: where layers are kept, how they are mounted, and which of them make an image.
//!
//! ```
//! use cooper_layer::{Compression, Compressor, Decompressor};
//! use std::io::{Read, Write};
//!
//! let mut compressor = Compressor::new(Vec::new(), Compression::default(), None)?;
//! compressor.write_all(b"a tar stream")?;
//! let (blob, info) = compressor.finish()?;
//! assert_eq!(info.size, blob.len() as u64);
//!
//! let mut back = String::new();
//! Decompressor::new(&blob[..])?.read_to_string(&mut back)?;
//! assert_eq!(back, "a tar stream");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compress;
mod decompress;
#[cfg(target_os = "linux")]
mod directory;
mod entry;
mod error;
mod id;
mod index;
mod merged;
mod options;
mod path;
#[cfg(target_os = "linux")]
mod restore;
#[cfg(target_os = "linux")]
mod scan;
pub mod tar;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod testing;
mod time;
#[cfg(target_os = "linux")]
mod unpack;
mod write;

pub use compress::{BlobInfo, Compression, Compressor};
pub use decompress::{Decompressor, Detected};
#[cfg(target_os = "linux")]
pub use directory::Directory;
pub use entry::{Entry, Kind, Xattrs};
pub use error::{Error, Result};
pub use id::{DiffId, LayerId};
pub use index::Index;
pub use merged::Merged;
pub use options::{
    Devices, Limits, OWNER_XATTR, OverlayXattrs, Owners, ScanOptions, TarOptions, UnpackOptions,
};
pub use path::LayerPath;
#[cfg(target_os = "linux")]
pub use restore::restore_times;
#[cfg(target_os = "linux")]
pub use scan::scan;
pub use time::{TimeWindow, Timestamp};
#[cfg(target_os = "linux")]
pub use unpack::{Unpacked, unpack};
pub use write::{Contents, Written, write_tar};
