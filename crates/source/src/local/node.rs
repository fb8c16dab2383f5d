use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::io::Errno;

/// One path of a folder, as a reader of the folder sees it: the owner is always 0:0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits: the lower 12 bits of a mode.
    pub mode: u32,
    /// Extended attributes that are copied: all but those of the system and of overlayfs.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(Vec<u8>),
    /// A device: whether it is a block device, and its number.
    Device(bool, u64),
    /// A named pipe.
    Fifo,
    /// A socket; a copy makes an empty file of it.
    Socket,
}

/// Looks at a path itself, not at what a link points to.
pub(super) fn look(path: &Path) -> io::Result<Node> {
    let meta = fs::symlink_metadata(path)?;
    let file_type = meta.file_type();
    let kind = if file_type.is_file() {
        NodeKind::File(meta.len())
    } else if file_type.is_dir() {
        NodeKind::Directory
    } else if file_type.is_symlink() {
        NodeKind::Symlink(fs::read_link(path)?.as_os_str().as_bytes().to_vec())
    } else if file_type.is_fifo() {
        NodeKind::Fifo
    } else if file_type.is_socket() {
        NodeKind::Socket
    } else {
        NodeKind::Device(file_type.is_block_device(), meta.rdev())
    };
    Ok(Node { kind, mode: meta.mode() & 0o7777, xattrs: xattrs(path)? })
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut out = BTreeMap::new();
    // Most files have none; the kernel then writes nothing into the buffer.
    let mut names = vec![0_u8; 1024];
    let length = loop {
        match rustix::fs::llistxattr(path, &mut names) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 16 => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(out),
            Err(error) => return Err(error.into()),
        }
    };
    for name in names.get(..length).unwrap_or_default().split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let copied = name == b"security.capability"
            || !(name.starts_with(b"security.")
                || name.starts_with(b"system.")
                || name.starts_with(b"trusted.")
                || name.starts_with(b"user.overlay."));
        if !copied {
            continue;
        }
        // An attribute's value has at most 64 KiB (XATTR_SIZE_MAX).
        let mut value = vec![0_u8; 1 << 16];
        match rustix::fs::lgetxattr(path, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                out.insert(name.to_vec(), value);
            }
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(out)
}
