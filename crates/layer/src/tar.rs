//! The tar format: reading whatever archivers write, writing what Go's `archive/tar` would.
//!
//! [`Reader`] knows v7, USTAR, PAX and GNU headers, long names of both kinds, all four encodings of sparse files, and
//! extended attributes with any bytes in them. It reads as Go's reader does where archivers disagree, because that is
//! what container engines read layers with: global PAX headers are passed over, the size of links and directories
//! counts as zero, GNU long names win over PAX ones. [`Writer`] chooses headers as Go's writer does: USTAR where
//! everything fits, else PAX.
//!
//! Sources of the format: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended Header"; the GNU tar manual,
//! "Basic Tar Format" and "Storing Sparse Files".

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{Chunk, Reader};
pub use writer::Writer;

use crate::entry::Xattrs;
use crate::time::Timestamp;

/// Bytes in a block of the archive.
const BLOCK: usize = 512;

/// One member of an archive, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name as it is written: hostile, until cleaned.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Target of a link, as it is written; else empty.
    pub link: Vec<u8>,
    /// Length in bytes of a file once it is extracted, holes included; 0 for anything else.
    pub size: u64,
    /// The lower 12 bits of the mode.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Time of the last modification.
    pub mtime: Timestamp,
    /// Device number, major and minor; 0 for anything else.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Member {
    /// Makes a member of a kind with everything else empty.
    pub fn new(name: impl Into<Vec<u8>>, kind: MemberKind) -> Self {
        Self {
            name: name.into(),
            kind,
            link: Vec::new(),
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::EPOCH,
            device: (0, 0),
            xattrs: Xattrs::new(),
        }
    }
}

/// What a [`Member`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// Another name of an earlier member.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl MemberKind {
    /// The type flag that is written for it.
    const fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

#[cfg(test)]
mod tests;
