use std::collections::BTreeMap;

use cooper_oci::Digest;

use crate::path::LayerPath;
use crate::time::Timestamp;

/// Extended attributes by full name (`security.capability`, `user.note`); values are raw bytes.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// One path that a layer adds, changes or hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: LayerPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-user-id, set-group-id and sticky bit: the lower 12 bits of a mode.
    pub mode: u32,
    /// Owner inside the image. What could not be set on disk (single-id rootless) is still right here.
    pub uid: u32,
    /// Group inside the image, likewise.
    pub gid: u32,
    /// Time of the last modification of the content.
    pub mtime: Timestamp,
    /// Extended attributes that belong to the image: neither overlayfs' own, nor this crate's, nor those of the host's
    /// security modules.
    pub xattrs: Xattrs,
    /// Number of the group of paths that are names of one file; `None` for a file with one name in this layer.
    ///
    /// Groups are numbered from 0 in the order of their first path.
    pub hard_link: Option<u32>,
    /// The directory is no entry of the layer's archive: it was made because something below it is one.
    ///
    /// Its mode and owner are defaults (0755, 0:0) that must not replace those of a directory of the same path in a
    /// lower layer.
    pub implied: bool,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// SHA-256 of the content.
        digest: Digest,
    },
    /// A directory.
    Directory {
        /// Hides everything that lower layers have in it. Only layers unpacked from an archive have it; a scan writes
        /// whiteouts instead.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// Hides what lower layers have at this path. Mode, owner, time and attributes mean nothing.
    Whiteout,
}

impl Entry {
    /// Makes an entry with a mode and otherwise zeros: owner 0:0, time 0, no attributes.
    pub fn new(path: LayerPath, kind: Kind, mode: u32) -> Self {
        Self {
            path,
            kind,
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            mtime: Timestamp::EPOCH,
            xattrs: Xattrs::new(),
            hard_link: None,
            implied: false,
        }
    }

    /// Makes an entry that hides a path of lower layers.
    pub fn whiteout(path: LayerPath) -> Self {
        Self::new(path, Kind::Whiteout, 0)
    }

    /// Tells whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }

    /// Tells whether this hides a path instead of adding one.
    pub fn is_whiteout(&self) -> bool {
        matches!(self.kind, Kind::Whiteout)
    }

    /// Returns the length of a regular file in bytes, 0 for anything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}
