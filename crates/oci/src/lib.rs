//! Digests, references, platforms and the JSON of images: what every other crate has in common.
//!
//! What it holds: [`Digest`] and [`Hasher`]; [`Reference`], the name of an image in a registry; [`Platform`] and
//! [`PlatformMatcher`], which tells what runs where; the JSON of an [`Image`] (its configuration), a [`Manifest`]
//! and an [`Index`], read without loss and written as Go writes it ([`to_go_json`]), because their digests are
//! their names. What it leaves to others: nothing here reads a file, opens a connection or asks for the time.
//!
//! An [`Image`] is the configuration blob; a [`Manifest`] says where that blob and the layers are; an [`Index`]
//! lists the manifests of one tag by platform.
//!
//! ```
//! use cooper_oci::{Index, Platform, Reference};
//!
//! let reference: Reference = "python:3.9-slim".parse()?;
//! assert_eq!(reference.to_string(), "docker.io/library/python:3.9-slim");
//!
//! let index = Index::parse(br#"{"schemaVersion":2,"manifests":[
//!     {"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,
//!      "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
//!      "platform":{"os":"linux","architecture":"arm64","variant":"v8"}}]}"#)?;
//! let wanted: Platform = "linux/arm64".parse()?;
//! assert_eq!(index.candidates(&wanted).len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod digest;
mod image;
mod json;
mod manifest;
pub mod media_type;
mod platform;
mod reference;
mod timestamp;

pub use digest::{Digest, DigestError, Hasher};
pub use image::{Config, Healthcheck, History, Image, RootFs, chain_id};
pub use json::to_go_json;
pub use manifest::{Descriptor, Index, Manifest};
pub use platform::{Platform, PlatformError, PlatformMatcher};
pub use reference::{Reference, ReferenceError};
pub use timestamp::{Timestamp, TimestampError};
