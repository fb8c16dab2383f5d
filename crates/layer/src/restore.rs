use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::directory::{Directory, times};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::index::Index;

/// Gives files that were unpacked from the archive of a scanned directory the times that they had there: archives
/// have whole seconds.
///
/// `unpacked` is what the archive says, `scanned` what the directory said. Returns `false`, with nothing changed, if they
/// differ in more than parts of seconds: then the archive was made of something else.
///
/// # Errors
///
/// [`Error::File`] if a time cannot be set.
pub fn restore_times(files: &Directory, unpacked: &Index, scanned: &Index) -> Result<bool> {
    let same = |(unpacked, scanned): (&Entry, &Entry)| {
        *unpacked == Entry { mtime: scanned.mtime.truncated(), ..scanned.clone() }
    };
    if unpacked.len() != scanned.len() || !unpacked.iter().zip(scanned).all(same) {
        return Ok(false);
    }
    for entry in scanned.iter().filter(|entry| entry.mtime.nanos > 0) {
        let failed = |source| Error::file("set the time of", &entry.path, source);
        let parent = files.open_directory(&entry.path.parent().unwrap_or_default()).map_err(failed)?;
        match rustix::fs::utimensat(parent, entry.path.name(), &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        {
            // A device that was only recorded.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(source) => return Err(failed(source.into())),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::{Merged, Owners, ScanOptions, TarOptions, Timestamp, UnpackOptions, scan, unpack, write_tar};

    fn options() -> (ScanOptions, UnpackOptions) {
        (
            ScanOptions { owners: Owners::Record, ..ScanOptions::default() },
            UnpackOptions { owners: Owners::Record, ..UnpackOptions::default() },
        )
    }

    #[test]
    fn what_comes_back_from_an_archive_is_what_was_scanned() {
        let (scanning, unpacking) = options();
        let here = tempfile::tempdir().unwrap();
        std::fs::create_dir(here.path().join("d")).unwrap();
        std::fs::write(here.path().join("d/f"), "text").unwrap();
        std::fs::hard_link(here.path().join("d/f"), here.path().join("d/g")).unwrap();
        std::os::unix::fs::symlink("f", here.path().join("d/l")).unwrap();
        let directory = Directory::open(here.path()).unwrap();
        let scanned = scan(&directory, Merged::new(&[]), &scanning).unwrap();
        assert!(scanned.iter().any(|entry| entry.mtime.nanos > 0), "no clock is that coarse");
        let mut tar = Vec::new();
        write_tar(&scanned, &directory, &mut tar, &TarOptions::default()).unwrap();

        let there = tempfile::tempdir().unwrap();
        let files = Directory::open(there.path()).unwrap();
        let unpacked = unpack(&tar[..], &files, &unpacking).unwrap().index;
        assert_ne!(unpacked, scanned);
        let mut other = scanned.entries().to_vec();
        other.last_mut().unwrap().mode ^= 0o1;
        let before = std::fs::metadata(there.path().join("d/f")).unwrap().mtime_nsec();
        assert!(!restore_times(&files, &unpacked, &Index::new(other).unwrap()).unwrap());
        let mut later = scanned.entries().to_vec();
        later.last_mut().unwrap().mtime = Timestamp::new(5, 0);
        assert!(!restore_times(&files, &unpacked, &Index::new(later).unwrap()).unwrap());
        assert_eq!(before, std::fs::metadata(there.path().join("d/f")).unwrap().mtime_nsec());

        assert!(restore_times(&files, &unpacked, &scanned).unwrap());
        assert_eq!(scan(&files, Merged::new(&[]), &scanning).unwrap(), scanned);
    }
}
