use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file beside its place and renames it once it is whole: whoever is killed on the way leaves the old file.
///
/// A symbolic link at `path` is followed, so that it stays one. What is no regular file (`/dev/stdout`, a pipe) is
/// written to directly. The new file has the permissions of a plain `open`, as far as the process's mask says.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let path: PathBuf = match fs::canonicalize(path) {
        Ok(real) => real,
        // Nothing there yet, or a link to nothing: that link is replaced.
        Err(_) => path.to_owned(),
    };
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {
            let reason = "is a folder: name the file to write".to_owned();
            return Err(Error::Destination { path, reason });
        }
        Ok(metadata) if !metadata.is_file() => {
            let file = fs::OpenOptions::new().write(true).open(&path);
            let mut out = BufWriter::new(file.map_err(|source| Error::file("open", &path, source))?);
            write(&mut out)?;
            return out.flush().map_err(Error::Write);
        }
        _ => {}
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".cooper-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let temporary =
        builder.tempfile_in(folder).map_err(|source| Error::file("create a file in", folder, source))?;
    let mut out = BufWriter::with_capacity(1 << 20, temporary);
    write(&mut out)?;
    let temporary = out.into_inner().map_err(|error| Error::Write(error.into_error()))?;
    // Without this a crash soon after could leave the new name with no content.
    temporary.as_file().sync_data().map_err(|source| Error::file("write", &path, source))?;
    temporary.persist(&path).map_err(|error| Error::file("rename to", &path, error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out.tar");
        write_file(&path, |out| out.write_all(b"one").map_err(Error::Write)).unwrap();
        assert_eq!(text(&path), "one");
        let failed = write_file(&path, |out| {
            out.write_all(b"half").map_err(Error::Write)?;
            assert_eq!(text(&path), "one");
            Err(Error::Nothing)
        });
        assert!(failed.is_err());
        assert_eq!(text(&path), "one");
        write_file(&path, |out| out.write_all(b"two").map_err(Error::Write)).unwrap();
        assert_eq!(text(&path), "two");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "something is left over");
    }

    #[cfg(unix)]
    #[test]
    fn links_pipes_and_folders() {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("real"), "old").unwrap();
        symlink("real", at("link")).unwrap();
        write_file(&at("link"), |out| out.write_all(b"new").map_err(Error::Write)).unwrap();
        assert_eq!(text(&at("real")), "new");
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::metadata(at("real")).unwrap().permissions().mode() & 0o600, 0o600);
        assert!(write_file(scratch.path(), |_| Ok(())).unwrap_err().to_string().contains("is a folder"));
        assert!(write_file(&at("missing/out"), |_| Ok(())).is_err());

        let fifo = at("fifo");
        if !std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()) {
            return;
        }
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || text(&fifo)
        });
        write_file(&fifo, |out| out.write_all(b"through").map_err(Error::Write)).unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    }
}
