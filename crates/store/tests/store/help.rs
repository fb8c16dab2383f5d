use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cooper_layer::{Directory, Index, LayerId, Merged, ScanOptions};
use cooper_oci::Digest;
use cooper_store::{Committed, LayerMeta, PendingDir, Store};

/// A store in a directory of its own.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

pub(crate) fn layer_id(name: &str) -> LayerId {
    LayerId::new(Digest::of(name))
}

/// A committed layer with one file, always the same.
pub(crate) fn small_layer(store: &Store, name: &str) -> LayerId {
    let pending = store.begin_snapshot().unwrap();
    fs::write(pending.path().join("name"), name).unwrap();
    fs::File::open(pending.path().join("name")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let index = scan(store, pending.path(), &[]);
    let id = layer_id(name);
    store.commit_layer(pending, id, &index, &LayerMeta::default()).unwrap();
    id
}

pub(crate) fn scan(store: &Store, dir: &Path, lower: &[LayerId]) -> Index {
    let indexes = store.indexes(lower).unwrap();
    let refs: Vec<_> = indexes.iter().map(|index| &**index).collect();
    let options =
        ScanOptions { overlay: store.overlay_xattrs(), owners: store.owners(), ..Default::default() };
    cooper_layer::scan(&Directory::open(dir).unwrap(), Merged::new(&refs), &options).unwrap()
}

pub(crate) fn commit(store: &Store, pending: PendingDir, id: LayerId, lower: &[LayerId]) -> Committed {
    let index = scan(store, pending.path(), lower);
    store.commit_layer(pending, id, &index, &LayerMeta::default()).unwrap()
}

/// Starts a part of a test as a process of its own: the ignored test `child` of this binary.
pub(crate) fn start(role: &str, arguments: &[&str]) -> Child {
    start_by(Command::new(std::env::current_exe().unwrap()), role, arguments)
}

/// The same by a command that starts what it is given.
pub(crate) fn start_by(mut command: Command, role: &str, arguments: &[&str]) -> Child {
    command
        .args(["--exact", "store::crash::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("COOPER_STORE_ROLE", role)
        .env("COOPER_STORE_ARGUMENTS", arguments.join("\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Moves this thread into a mount namespace of its own. Tests that mount return early where that is refused, which is
/// a failure where CI asks for everything.
pub(crate) fn may_mount(test: &str) -> bool {
    // SAFETY: the thread is one of a test; it and all that it starts see the new namespace only.
    #[allow(unsafe_code)]
    let done = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    let done = done
        && rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
        )
        .is_ok();
    if !done {
        assert!(std::env::var_os("CI").is_none(), "{test} needs to mount");
        println!("{test}: skipped, mounting is refused here");
    }
    done
}

/// Draws numbers that are the same in every run (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        high as usize % bound
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Describes a tree, one line a file; times after `now` in seconds are only called that.
pub(crate) fn describe(root: &Path, now: i64) -> String {
    let mut out = String::new();
    let mut groups = Vec::new();
    describe_into(&mut out, root, root, now, &mut groups);
    out
}

fn describe_into(out: &mut String, root: &Path, dir: &Path, now: i64, groups: &mut Vec<u64>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let found = fs::symlink_metadata(&path).unwrap();
        let kind = found.file_type();
        let time = match found.mtime() {
            time if time >= now => "now".to_owned(),
            time => format!("{time}.{}", found.mtime_nsec()),
        };
        let name = path.strip_prefix(root).unwrap().display();
        if kind.is_char_device() && found.rdev() == 0 {
            writeln!(out, "{name} whiteout").unwrap();
            continue;
        }
        write!(out, "{name} {:o} {}:{} {time}", found.mode(), found.uid(), found.gid()).unwrap();
        if !kind.is_dir() && found.nlink() > 1 {
            let group = groups.iter().position(|inode| *inode == found.ino());
            let group = group.unwrap_or_else(|| {
                groups.push(found.ino());
                groups.len() - 1
            });
            write!(out, " group {group}").unwrap();
        }
        for name in ["user.a", "user.b", "trusted.overlay.opaque", "trusted.overlay.origin"] {
            let mut value = [0; 64];
            if let Ok(count) = rustix::fs::lgetxattr(&path, name, &mut value[..]) {
                write!(out, " {name}={:?}", String::from_utf8_lossy(&value[..count])).unwrap();
            }
        }
        if kind.is_file() {
            let content = fs::read(&path).unwrap();
            write!(out, " {} {}", content.len(), &Digest::of(&content).hex()[..8]).unwrap();
        } else if kind.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            write!(out, " -> {}", String::from_utf8_lossy(to.as_os_str().as_bytes())).unwrap();
        }
        out.push('\n');
        if kind.is_dir() {
            describe_into(out, root, &path, now, groups);
        }
    }
}
