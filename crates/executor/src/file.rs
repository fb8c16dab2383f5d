//! File operations without a container, as BuildKit does them.
//!
//! An operation is data ([`Action`]); [`apply`] does one in a [`Root`]. Whatever links and names say, nothing outside of
//! the roots is read or written.
//!
//! ```
//! use cooper_executor::file::{Action, Copy, MakeFile, Root, apply};
//!
//! let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! let (from, to) = (Root::open(from.path())?, Root::open(to.path())?);
//! apply(&Action::MakeFile(MakeFile { path: "/a.txt".into(), mode: 0o644, data: b"hi".to_vec(), ..MakeFile::default() }), &from, None)?;
//! let copy = Copy { src: "*.txt".into(), dest: "/deep/er/".into(), wildcards: true, create_dest_path: true, ..Copy::default() };
//! apply(&Action::Copy(copy), &to, Some(&from))?;
//! assert_eq!(to.read_file("/deep/er/a.txt", 100)?, b"hi");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod content;
mod copy;
mod error;
mod make;
mod mode;
mod pattern;
mod root;
#[cfg(test)]
mod tests;
mod unpack;
mod view;

pub use action::{Action, Copy, Filter, MakeDir, MakeFile, Name, Owner, Remove, Symlink, Verdict};
pub use error::FileError;
pub use mode::ModeChange;
pub use pattern::{Pattern, is_pattern};
pub use root::Root;
pub use view::{MAX_LINKS, clean};

/// Does one operation in `root`. `source` is the root that a copy reads from; other operations do not look at it.
///
/// After an error a part of the operation may have been done.
pub fn apply(action: &Action, root: &Root, source: Option<&Root>) -> Result<(), FileError> {
    match action {
        Action::Copy(action) => {
            let source = source.ok_or(FileError::Unsupported("a copy without a source"))?;
            copy::copy(action, source, root)
        }
        Action::MakeFile(action) => make::file(root, action),
        Action::MakeDir(action) => make::dir(root, action),
        Action::Remove(action) => make::remove(root, action),
        Action::Symlink(action) => make::symlink(root, action),
    }
}
