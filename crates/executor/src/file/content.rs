use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;

use cooper_layer::OWNER_XATTR;
use rustix::fs::{SeekFrom as Seek, XattrFlags};
use rustix::io::Errno;

use crate::file::root::{Meta, through};

/// Attributes that belong to overlayfs and to this builder, not to the image.
const OWN: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Copies the content of a file to an empty one: by sharing its blocks, else by the kernel, holes kept.
///
/// `share` remembers that the file systems cannot share, so that not every file asks.
pub(super) fn copy(from: OwnedFd, meta: &Meta, to: &File, share: &mut bool) -> io::Result<()> {
    if meta.size == 0 {
        return Ok(());
    }
    if *share {
        match rustix::fs::ioctl_ficlone(to, &from) {
            Ok(()) => return Ok(()),
            Err(_) => *share = false,
        }
    }
    let mut from = File::from(from);
    let mut to = to;
    // Only files that take less than their length have holes worth looking for.
    if meta.stored < meta.size && copy_pieces(&mut from, to, meta.size)? {
        return Ok(());
    }
    // The standard library asks the kernel to copy, and does it by hand where the kernel cannot.
    io::copy(&mut from, &mut to)?;
    Ok(())
}

/// Copies the parts that are not holes. Returns false, with nothing copied, where the file system does not tell them.
fn copy_pieces(from: &mut File, mut to: &File, size: u64) -> io::Result<bool> {
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&*from, Seek::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) if at == 0 => {
                from.rewind()?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*from, Seek::Hole(start))?;
        if end <= start {
            break;
        }
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut from.by_ref().take(end - start), &mut to)?;
        at = end;
    }
    to.set_len(size)?;
    Ok(true)
}

/// Copies extended attributes as far as source and destination allow: what the destination refuses is left out, as
/// BuildKit does.
pub(super) fn copy_attributes(from: &OwnedFd, to: &OwnedFd) {
    let (from, to) = (through(from), through(to));
    let Some(names) = attribute(|buffer| rustix::fs::listxattr(&*from, buffer)) else { return };
    for name in names.split(|&b| b == 0).filter(|name| is_of_image(name)) {
        if let Some(value) = attribute(|buffer| rustix::fs::getxattr(&*from, name, buffer)) {
            let _ = rustix::fs::setxattr(&*to, name, &value, XattrFlags::empty());
        }
    }
}

/// Tells whether an attribute may be copied.
pub(super) fn is_of_image(name: &[u8]) -> bool {
    !name.is_empty() && name != OWNER_XATTR.as_bytes() && !OWN.iter().any(|own| name.starts_with(own))
}

/// Reads into a buffer that grows to what is needed; `None` where there is nothing to read.
fn attribute(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Some(buffer);
            }
            // 64 KiB is the kernel's own bound on a value and on a list.
            Err(Errno::RANGE) if buffer.len() < 1 << 16 => buffer.resize(buffer.len() * 4, 0),
            Err(_) => return None,
        }
    }
}
