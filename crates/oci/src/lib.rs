//! Digests, references, platforms and the JSON of images: what every other crate has in common.
//!
//! Nothing here reads a file or opens a connection.

mod digest;
mod platform;

pub use digest::{Digest, DigestError, Hasher};
pub use platform::{Platform, PlatformError};
