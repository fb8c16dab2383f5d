mod unchanged;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cooper_oci::{Digest, Hasher};
use rustix::fs::{AtFlags, FileType, Stat};

use crate::directory::{Directory, belongs_to_image, xattr, xattr_names};
use crate::entry::{Entry, Kind, Xattrs};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::merged::Merged;
use crate::options::{OWNER_XATTR, Owners, ScanOptions};
use crate::path::LayerPath;
use crate::time::Timestamp;

/// Lists what a step wrote, from the upper directory of its overlay mount, and hashes every file of it.
///
/// `lower` are the layers below. They turn an opaque directory into a whiteout for each name that it hides, so that the
/// index means the same wherever it is used later.
///
/// What is there and as it was below is left out: files that were copied up but not changed, directories of which only the time moved.
///
/// The mount must be gone or quiet. Sockets are left out, as no archive can hold them. Directories that overlayfs moved
/// or files whose data it left below (`redirect_dir`, `metacopy`) are errors: mount with both off. The root itself is no
/// entry.
pub fn scan(upper: &Directory, lower: Merged<'_>, options: &ScanOptions) -> Result<Index> {
    let mut scan = Scan {
        upper,
        lower,
        overlay: ["opaque", "redirect", "metacopy", "whiteout"]
            .map(|name| options.overlay.name(name).into_bytes()),
        owners: options.owners,
        entries: Vec::new(),
        files: HashMap::new(),
        owner_of: HashMap::new(),
        to_hash: Vec::new(),
    };
    // A stack instead of recursion: how deep a tree is was chosen by the step.
    let mut todo = vec![Todo { path: LayerPath::root(), hidden: false, entry: None }];
    while let Some(next) = todo.pop() {
        scan.directory(next, &mut todo)?;
    }
    let Scan { mut entries, to_hash, .. } = scan;
    let digests = hash(upper, &entries, &to_hash, options.threads)?;
    let mut by_file: HashMap<u32, Digest> = HashMap::new();
    for (at, digest) in to_hash.iter().zip(digests) {
        if let Some(group) = entries.get(*at).and_then(|entry| entry.hard_link) {
            by_file.insert(group, digest);
        }
    }
    for entry in &mut entries {
        if let Kind::File { digest, .. } = &mut entry.kind
            && let Some(found) = entry.hard_link.and_then(|group| by_file.get(&group))
        {
            *digest = *found;
        }
    }
    unchanged::drop(&mut entries, lower);
    Index::new(entries)
}

/// A directory that is to be listed.
struct Todo {
    path: LayerPath,
    /// What lower layers have here cannot be seen, as a directory above is opaque.
    hidden: bool,
    /// Position of its entry; the root has none.
    entry: Option<usize>,
}

struct Scan<'a> {
    upper: &'a Directory,
    lower: Merged<'a>,
    /// Names of overlayfs' attributes: opaque, redirect, metacopy, whiteout.
    overlay: [Vec<u8>; 4],
    owners: Owners,
    entries: Vec<Entry>,
    /// Number of each file by device and inode.
    files: HashMap<(u64, u64), u32>,
    /// Owners that were found in lower layers, by number of the file.
    owner_of: HashMap<u32, (u32, u32)>,
    /// Positions of entries whose file is to be hashed, one for each file.
    to_hash: Vec<usize>,
}

impl Scan<'_> {
    fn directory(&mut self, Todo { path, mut hidden, entry }: Todo, todo: &mut Vec<Todo>) -> Result<()> {
        let path = &path;
        let fd = self.upper.open_directory(path).map_err(|error| Error::file("open", path, error))?;
        if let Some(at) = entry {
            let (attributes, owner) = self.attributes(fd.as_fd(), path)?;
            hidden |= attributes.opaque;
            if let Some(entry) = self.entries.get_mut(at) {
                entry.xattrs = attributes.xattrs;
                if let Some((uid, gid)) = owner {
                    (entry.uid, entry.gid) = (uid, gid);
                }
            }
        }
        let mut names = HashSet::new();
        let failed = |error| Error::file("read", path, error);
        let list = rustix::fs::Dir::read_from(&fd).map_err(failed)?;
        for item in list {
            let item = item.map_err(failed)?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let at = path.join_name(name);
            let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| Error::file("stat", &at, error))?;
            names.insert(name.to_vec());
            self.object(fd.as_fd(), at, &stat, hidden, todo)?;
        }
        if hidden {
            for (name, _) in self.lower.children(path) {
                if !names.contains(name) {
                    self.entries.push(Entry::whiteout(path.join_name(name)));
                }
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        parent: BorrowedFd<'_>,
        path: LayerPath,
        stat: &Stat,
        hidden: bool,
        todo: &mut Vec<Todo>,
    ) -> Result<()> {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Kind::File { size: stat.st_size as u64, digest: Digest::from_bytes([0; 32]) }
            }
            FileType::Directory => Kind::Directory { opaque: false },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, path.name(), Vec::new())
                    .map_err(|error| Error::file("read", &path, error))?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice if (major, minor) == (0, 0) => {
                self.entries.push(Entry::whiteout(path));
                return Ok(());
            }
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => return Ok(()),
            FileType::Unknown => return Err(Error::entry(&path, "is of an unknown type")),
        };
        let mut entry = Entry::new(path, kind, stat.st_mode);
        (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
        entry.mtime = Timestamp::new(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        match entry.kind {
            Kind::Directory { .. } => {
                todo.push(Todo { path: entry.path.clone(), hidden, entry: Some(self.entries.len()) });
            }
            Kind::File { size, .. } => {
                let file = self
                    .upper
                    .open_file(&entry.path)
                    .map_err(|error| Error::file("open", &entry.path, error))?;
                let (attributes, owner) = self.attributes(file.as_fd(), &entry.path)?;
                if attributes.whiteout && size == 0 {
                    self.entries.push(Entry::whiteout(entry.path));
                    return Ok(());
                }
                entry.xattrs = attributes.xattrs;
                if let Some((uid, gid)) = owner {
                    (entry.uid, entry.gid) = (uid, gid);
                }
            }
            _ => {}
        }
        if !entry.is_directory() {
            let next = self.files.len() as u32;
            let file = *self.files.entry((stat.st_dev, stat.st_ino)).or_insert(next);
            entry.hard_link = Some(file);
            if file != next {
                // Names of one file cannot differ, wherever an owner was found.
                if let Some((uid, gid)) = self.owner_of.get(&file) {
                    (entry.uid, entry.gid) = (*uid, *gid);
                }
            } else if matches!(entry.kind, Kind::File { .. }) {
                self.to_hash.push(self.entries.len());
            } else if self.owners == Owners::Record
                && let Some(below) = self.lower.get(&entry.path)
                && below.kind == entry.kind
            {
                // What cannot carry the attribute has the owner of the same thing below: it was copied up.
                (entry.uid, entry.gid) = (below.uid, below.gid);
                self.owner_of.insert(file, (below.uid, below.gid));
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Reads the attributes of a file or directory, and the owner that could not be set.
    fn attributes(&self, fd: BorrowedFd<'_>, path: &LayerPath) -> Result<(Attributes, Option<(u32, u32)>)> {
        let failed = |error| Error::file("read the attributes of", path, error);
        let [opaque, redirect, metacopy, whiteout] = &self.overlay;
        let mut found = Attributes::default();
        let mut owner = None;
        for name in xattr_names(fd).map_err(failed)? {
            if name == *redirect || name == *metacopy {
                return Err(Error::entry(
                    path,
                    "was moved or changed in part only by overlayfs: mount with `redirect_dir=off,metacopy=off`",
                ));
            }
            let ours = name == *opaque || name == OWNER_XATTR.as_bytes();
            if name == *whiteout {
                found.whiteout = true;
            } else if ours || belongs_to_image(&name) {
                let Some(value) = xattr(fd, &name).map_err(failed)? else { continue };
                if name == *opaque {
                    // `x` only says that whiteouts of another form may be inside.
                    found.opaque = value == b"y";
                } else if ours {
                    if self.owners == Owners::Record {
                        owner = Some(parse_owner(&value).ok_or_else(|| {
                            let value = String::from_utf8_lossy(&value).into_owned();
                            Error::entry(path, format!("has `{value}` in `{OWNER_XATTR}`, which is no owner"))
                        })?);
                    }
                } else {
                    found.xattrs.insert(name, value);
                }
            }
        }
        Ok((found, owner))
    }
}

#[derive(Default)]
struct Attributes {
    xattrs: Xattrs,
    opaque: bool,
    whiteout: bool,
}

fn parse_owner(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Hashes files with several threads; answers in the order of the questions.
fn hash(upper: &Directory, entries: &[Entry], which: &[usize], threads: usize) -> Result<Vec<Digest>> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let next = AtomicUsize::new(0);
    let digests = Mutex::new(vec![Digest::from_bytes([0; 32]); which.len()]);
    let work = || -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = which.get(number).and_then(|at| entries.get(*at)) else { return Ok(()) };
            let digest = hash_file(upper, entry, &mut buffer).inspect_err(|_| {
                // Let the others stop as well.
                next.store(which.len(), Ordering::Relaxed);
            })?;
            let mut digests = digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(slot) = digests.get_mut(number) {
                *slot = digest;
            }
        }
    };
    let threads = threads.min(which.len());
    if threads <= 1 {
        work()?;
    } else {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Error::Read(io::Error::other("a hashing thread is gone"))))
            })
        })?;
    }
    Ok(digests.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn hash_file(upper: &Directory, entry: &Entry, buffer: &mut [u8]) -> Result<Digest> {
    let failed = |error| Error::file("read", &entry.path, error);
    let mut file = upper.open_file(&entry.path).map_err(failed)?;
    let mut hasher = Hasher::new();
    let mut size = 0_u64;
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if size != entry.size() {
        let reason = format!("{size} bytes instead of {}", entry.size());
        return Err(Error::Changed { path: entry.path.clone(), reason });
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests;
