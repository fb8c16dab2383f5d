//! Writes OCI layouts, archives and directories.
//!
//! What it holds: the last step of a build. [`prepare`] turns image configurations and finished layer blobs into the
//! configuration, manifest and index blobs of an image, byte for byte as BuildKit writes them; what comes out is
//! [`Prepared`], which knows every digest before a byte is sent. It can be written as an OCI archive (forwards only),
//! or into an OCI layout, next to what that already holds. [`copy_tree`] and [`write_tree_tar`] write a root file
//! system instead of an image. [`write_file`] writes a file beside its place and renames it.
//!
//! Two names of an image are easily confused: the *digest* is that of the manifest or index, the *image id* (as docker
//! shows it) that of the configuration. [`Response`] has both.
//!
//! Left to others: how layers are made and compressed (`cooper-layer`), where their blobs are (a [`Content`] says how to
//! read one), and registries.
//!
//! ```
//! use cooper_exporter::{Content, ImageSpec, LayerBlob, Options, prepare};
//! use cooper_layer::{Compression, Compressor};
//! use cooper_oci::{Image, media_type, Descriptor};
//!
//! // An empty layer: the two blocks that end an archive.
//! let mut compressor = Compressor::new(Vec::new(), Compression::default(), None)?;
//! std::io::Write::write_all(&mut compressor, &[0; 1024])?;
//! let (blob, info) = compressor.finish()?;
//!
//! let image = ImageSpec {
//!     config: Image { os: "linux".into(), architecture: "amd64".into(), ..Image::default() },
//!     layers: vec![LayerBlob {
//!         diff_id: info.diff_id,
//!         descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, info.digest, info.size),
//!         content: Content::bytes(blob),
//!         created: None,
//!         created_by: "nothing".into(),
//!     }],
//!     ..ImageSpec::default()
//! };
//! let prepared = prepare(vec![image], &Options { names: vec!["hello".into()], ..Options::default() })?;
//! assert_eq!(prepared.response().names, ["docker.io/library/hello:latest"]);
//!
//! let mut archive = Vec::new();
//! prepared.write_archive(&mut archive, &Default::default())?;
//! assert!(archive.starts_with(b"blobs/"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod content;
mod error;
mod file;
mod history;
mod image;
mod json;
#[cfg(target_os = "linux")]
mod layout;
mod prepared;
mod response;
#[cfg(target_os = "linux")]
mod tree;

pub use archive::ArchiveOptions;
pub use content::{Content, LayerBlob};
pub use error::{Error, Result};
pub use file::write_file;
pub use image::ImageSpec;
pub use prepared::{Options, Prepared, prepare};
pub use response::Response;
#[cfg(target_os = "linux")]
pub use tree::{TreeOptions, copy_tree, write_tree_tar};
