use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cooper_layer::LayerId;
use cooper_oci::Digest;

use crate::error::{Error, IoContext as _, Result};

/// Where things are; drawn in the comment of the crate.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    /// Makes the directories that are missing, closed to other users: layers hold set-user-id programs.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        let make = |path: &Path| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.at("create", path)
        };
        make(root)?;
        let root = root.canonicalize().at("find", root)?;
        refuse_shared(&root)?;
        let layout = Self { root };
        for dir in [
            layout.blobs(),
            layout.snapshots(),
            layout.tmp(),
            layout.trash(),
            layout.memo(),
            layout.logs(),
            layout.caches(),
        ] {
            make(&dir)?;
        }
        // Lower directory of every view, so that even a single layer goes through overlayfs.
        let empty = layout.empty();
        make(&empty)?;
        fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).at("set the mode of", &empty)?;
        Ok(layout)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("store.db")
    }

    /// The database with its log and their index.
    pub(crate) fn database_files(&self) -> [PathBuf; 3] {
        ["store.db", "store.db-wal", "store.db-shm"].map(|name| self.root.join(name))
    }

    pub(crate) fn holders(&self) -> PathBuf {
        self.root.join("holders.lock")
    }

    pub(crate) fn flight_locks(&self) -> PathBuf {
        self.root.join("flights.lock")
    }

    pub(crate) fn attempt_locks(&self) -> PathBuf {
        self.root.join("attempts.lock")
    }

    /// What attempts print.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, layer: LayerId) -> PathBuf {
        self.snapshots().join(layer.digest().hex())
    }

    /// The layer's files, in the directory that is renamed as a whole.
    pub(crate) fn files(&self, layer: LayerId) -> PathBuf {
        self.snapshot(layer).join(FILES)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub(crate) fn memo(&self) -> PathBuf {
        self.root.join("memo")
    }
}

/// Name of the directory with a layer's files inside its snapshot.
///
/// It is not the snapshot itself, because its mode and owner are those of an image's root, under which a user without
/// capabilities may be unable to rename it.
pub(crate) const FILES: &str = "fs";

/// File systems whose locks or shared memory do not reach all who use them (`statfs(2)`, `linux/magic.h`).
const SHARED: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p, shared with a virtual machine's host"),
    (0x6a65_6a63, "virtiofs, shared with a virtual machine's host"),
    (0x786f_4256, "a folder shared by VirtualBox"),
    (0xbacb_acbc, "a folder shared by VMware"),
    (0x7c7c_6673, "a folder shared by Parallels"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x4750_4653, "GPFS"),
    (0x1980_0202, "BeeGFS"),
];

/// FUSE: local ones (fuse-overlayfs) and network ones (sshfs) look alike, and virtiofs did before Linux 5.4's own number.
const FUSE: u64 = 0x6573_5546;

fn refuse_shared(root: &Path) -> Result<()> {
    let answer = rustix::fs::statfs(root).at("look at the file system of", root)?;
    match shared(answer.f_type as u64) {
        Some(kind) => Err(Error::Filesystem { root: root.to_owned(), kind }),
        None => Ok(()),
    }
}

fn shared(magic: u64) -> Option<&'static str> {
    // Some architectures have a signed 32-bit field.
    let magic = magic & 0xffff_ffff;
    if magic == FUSE {
        return Some("FUSE, which may be a network or a virtual machine's host");
    }
    SHARED.iter().find(|(known, _)| *known == magic).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_shared_file_systems_are_refused() {
        // Numbers of statfs(2)'s manual page.
        for bad in [0x6969, 0x0102_1997, 0x6573_5546, 0xffff_ffff_ff53_4d42] {
            assert!(shared(bad).is_some(), "{bad:x}");
        }
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs, f2fs, bcachefs
        for good in [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x2fc1_2fc1,
            0xf2f5_2010,
            0xca45_1a4e,
        ] {
            assert_eq!(shared(good), None, "{good:x}");
        }
        let error = Error::Filesystem { root: "/mnt".into(), kind: "NFS" };
        assert!(error.hint().unwrap().contains("--root"));
    }

    #[test]
    fn closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("a/b")).unwrap();
        let mode = layout.root.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
