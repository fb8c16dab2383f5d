use std::sync::Arc;

use cooper_layer::Timestamp;

use crate::file::mode::ModeChange;
use crate::file::root::Root;
use crate::user::{self, UserError};

/// One operation on files.
#[derive(Debug, Clone)]
pub enum Action {
    /// Copies from a second root.
    Copy(Copy),
    /// Makes a file, or replaces the content of one.
    MakeFile(MakeFile),
    /// Makes a directory.
    MakeDir(MakeDir),
    /// Removes a file or a tree.
    Remove(Remove),
    /// Makes a symbolic link.
    Symlink(Symlink),
}

/// Owner and group as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A user or group as an operation names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A name, to be found in a root's `/etc/passwd` or `/etc/group`.
    Name(String),
    /// A number.
    Id(u32),
}

impl Owner {
    /// Finds the owner that names stand for, as BuildKit does.
    ///
    /// A user alone brings its group from `/etc/passwd`; a number brings itself as group. A name that is not found is 0,
    /// and a group that is not found leaves the user's. `None` as a root means that there is none to look in: a name is
    /// an error then.
    pub fn find(
        user: Option<(&Name, Option<&Root>)>,
        group: Option<(&Name, Option<&Root>)>,
    ) -> Result<Self, UserError> {
        let mut owner = Self::default();
        match user {
            Some((Name::Name(name), Some(root))) => {
                if let Some((uid, gid)) = user::user_by_name(root, name)? {
                    owner = Self { uid, gid };
                }
            }
            Some((Name::Name(name), None)) => return Err(UserError::NoUser(name.clone())),
            Some((Name::Id(id), _)) => owner = Self { uid: *id, gid: *id },
            None => {}
        }
        match group {
            Some((Name::Name(name), Some(root))) => {
                if let Some(gid) = user::group_by_name(root, name)? {
                    owner.gid = gid;
                }
            }
            Some((Name::Name(name), None)) => return Err(UserError::NoGroup(name.clone())),
            Some((Name::Id(id), _)) => owner.gid = *id,
            None => {}
        }
        Ok(owner)
    }
}

/// What a [`Filter`] says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is copied, and what is in it is asked about.
    Take,
    /// It is not copied, but what is in it is asked about; its directory is made once something in it is taken.
    Look,
    /// Neither it nor anything in it is copied.
    Skip,
}

/// Says which paths are taken. Paths are relative, with `/` between components; the second argument says whether it is a
/// directory.
pub type Filter = Arc<dyn Fn(&[u8], bool) -> Verdict + Send + Sync>;

/// Copies files between roots (or inside one).
#[derive(Clone, Default)]
pub struct Copy {
    /// What to copy, as a path in the source root. A trailing `/` or `/.` changes nothing but is allowed.
    pub src: String,
    /// Where to, as a path in the destination root. A trailing `/` says that it is a directory.
    pub dest: String,
    /// Owner of everything copied and of directories made on the way; `None` keeps the source's (0:0 for made ones).
    pub owner: Option<Owner>,
    /// Mode of everything copied but links, and of directories made on the way; `None` keeps the source's (0755 for
    /// made ones).
    pub mode: Option<u32>,
    /// How the source's mode of everything copied but links is changed; `mode` does not count then. Directories made on
    /// the way are none of it.
    pub mode_change: Option<ModeChange>,
    /// Follows a link that `src` itself is. Links inside a copied tree are always copied as links.
    pub follow_links: bool,
    /// Copies what is in a directory instead of the directory.
    pub dir_contents: bool,
    /// Unpacks a source that is a tar archive, plain, gzip or zstd.
    pub unpack: bool,
    /// Makes missing parents of the destination.
    pub create_dest_path: bool,
    /// Takes `*`, `?` and `[...]` in `src` as a pattern.
    pub wildcards: bool,
    /// A pattern without a match copies nothing instead of being an error.
    pub allow_empty_wildcard: bool,
    /// Modification time of everything copied and of directories made on the way; `None` keeps the source's.
    pub mtime: Option<Timestamp>,
    /// Something of another type at a destination is removed instead of being an error.
    pub replace: bool,
    /// Which paths are taken, relative to what `src` (or one match of it) names; `None` for all. What is named itself is
    /// always taken, as BuildKit does: only what is in it is asked about.
    pub filter: Option<Filter>,
    /// Which paths of the source are there at all, relative to its root: what `.dockerignore` hides of a local context.
    pub ignore: Option<Filter>,
    /// Owner that everything in the source is taken to have; a local context's files are 0:0.
    pub source_owner: Option<Owner>,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copy").field("src", &self.src).field("dest", &self.dest).finish_non_exhaustive()
    }
}

/// Writes a file.
#[derive(Debug, Clone, Default)]
pub struct MakeFile {
    /// Where. The parent must exist.
    pub path: String,
    /// Permission bits of a file that is made; an existing one keeps its own.
    pub mode: u32,
    /// The content.
    pub data: Vec<u8>,
    /// The owner; `None` leaves it.
    pub owner: Option<Owner>,
    /// The modification time; `None` for now.
    pub mtime: Option<Timestamp>,
}

/// Makes a directory. One that exists is left as it is.
#[derive(Debug, Clone, Default)]
pub struct MakeDir {
    /// Where.
    pub path: String,
    /// Permission bits of it and of its made parents.
    pub mode: u32,
    /// Makes missing parents.
    pub parents: bool,
    /// The owner of it and of its made parents; `None` for 0:0.
    pub owner: Option<Owner>,
    /// The modification time; `None` for now.
    pub mtime: Option<Timestamp>,
}

/// Removes a file or a tree.
#[derive(Debug, Clone, Default)]
pub struct Remove {
    /// What. A link is removed itself.
    pub path: String,
    /// Nothing there is no error.
    pub allow_not_found: bool,
    /// Takes `*`, `?` and `[...]` in `path` as a pattern.
    pub wildcards: bool,
}

/// Makes a symbolic link.
#[derive(Debug, Clone, Default)]
pub struct Symlink {
    /// What the link says, as it is.
    pub target: String,
    /// Where the link is made.
    pub path: String,
    /// The owner; `None` for 0:0.
    pub owner: Option<Owner>,
    /// The modification time; `None` for now.
    pub mtime: Option<Timestamp>,
}
