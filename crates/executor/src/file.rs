//! File operations without a container, as BuildKit does them.
//!
//! An operation is data ([`Action`]); [`apply`] does one in a [`Root`]. Whatever links and names say, nothing outside of
//! the roots is read or written.

mod action;
mod error;
mod root;

pub use action::{Action, Copy, Filter, MakeDir, MakeFile, Name, Owner, Remove, Symlink, Verdict};
pub use error::FileError;
pub use root::Root;

/// Does one operation in `root`. `source` is the root that a copy reads from; other operations do not look at it.
pub fn apply(_action: &Action, _root: &Root, _source: Option<&Root>) -> Result<(), FileError> {
    Err(FileError::Unsupported("file operations"))
}
