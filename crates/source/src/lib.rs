//! Sources: from a name to a pinned identity and layers.
//!
//! What it holds: [`Images`] finds out what an image's name stands for ([`Images::resolve`]: digests, configuration,
//! layers; no layer is loaded) and later brings single layers into a store ([`Images::pull`]), from a registry, from
//! an OCI layout or from a blob that the store has.
//!
//! [`Urls`] loads single files from the web, `Repositories` trees from git.
//!
//! [`local::Folder`] is a folder of the user's, read only where somebody asks.
//!
//! What it leaves to others: how registries are spoken to (`cooper-registry`), how layers are unpacked
//! (`cooper-layer`) and kept (`cooper-store`), what a source is used for.
//!
//! An image's identity is its layers, not its name: [`Resolved::layers`] are known without loading them, so that a
//! build whose results are all at hand pulls nothing.
//!
//! ```
//! use cooper_source::ImageName;
//!
//! let name = ImageName::layout("/srv/images/base:3.9-slim");
//! assert_eq!(name, ImageName::Layout { dir: "/srv/images/base".into(), reference: "3.9-slim".into() });
//! ```

mod blocking;
mod error;
#[cfg(target_os = "linux")]
mod git;
mod image;
mod kept;
#[cfg(target_os = "linux")]
pub mod local;
mod piped;
mod url;

pub use error::{Error, Result, WrongFile};
#[cfg(target_os = "linux")]
pub use git::{GitLogin, GitTree, Repositories};
pub use image::{ImageLayer, ImageName, Images, Resolved};
pub use url::{UrlFile, Urls};
