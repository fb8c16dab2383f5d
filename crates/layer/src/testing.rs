//! Trees for tests: made at random, kept in memory, and put on disk by calls that share nothing with the code under test.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cooper_oci::Digest;
use proptest::prelude::*;

use crate::entry::{Entry, Kind};
use crate::index::Index;
use crate::path::LayerPath;
use crate::tar::{Member, MemberKind, Writer};
use crate::time::Timestamp;
use crate::write::Contents;

/// An index with the content of its files.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) index: Index,
    pub(crate) content: BTreeMap<LayerPath, Vec<u8>>,
}

impl Contents for Model {
    fn open(&self, entry: &Entry) -> io::Result<Box<dyn Read + '_>> {
        let content = self.content.get(&entry.path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(content.as_slice()))
    }
}

pub(crate) fn path(text: &str) -> LayerPath {
    LayerPath::new(text).unwrap()
}

/// Tells whether this process may make devices and give files away.
pub(crate) fn privileged() -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let device = std::process::Command::new("mknod")
        .args([scratch.path().join("null").as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()])
        .output()
        .is_ok_and(|output| output.status.success());
    let may = device && rustix::process::geteuid().is_root();
    if !may {
        assert!(std::env::var_os("CI").is_none(), "root is needed");
        eprintln!("skipped: needs root and device nodes");
    }
    may
}

/// Strategy for a layer. Without `owners` everything belongs to root and nothing needs privileges.
pub(crate) fn model(owners: bool) -> impl Strategy<Value = Model> {
    let name = prop_oneof![
        6 => "[a-d]",
        1 => "[a-z]{100,120}",
        1 => prop::collection::vec(prop_oneof![1_u8..=b'.', b'0'..=255], 1..6).prop_map(|b| {
            // Built from bytes, as names need not be text.
            b.into_iter().map(char::from).collect::<String>()
        }),
    ];
    let at = prop::collection::vec(name, 1..5);
    let id = if owners { (0_u32..70_000).boxed() } else { Just(0).boxed() };
    let item = (
        at,
        0_u32..9,
        prop::collection::vec(any::<u8>(), 0..2000),
        0_u32..0o10000,
        (id.clone(), id),
        (0_i64..4_000_000_000, 0_u32..1_000_000_000),
        prop::option::weighted(0.2, prop::collection::vec(any::<u8>(), 1..40)),
    );
    prop::collection::vec(item, 0..25).prop_map(move |items| {
        let mut entries: BTreeMap<LayerPath, Entry> = BTreeMap::new();
        let mut content = BTreeMap::new();
        for (at, kind, data, mode, (uid, gid), (seconds, nanos), note) in items {
            let parts: Vec<Vec<u8>> =
                at.iter().map(|part| part.chars().map(|c| c as u32 as u8).collect()).collect();
            if parts.iter().any(|part| matches!(part.as_slice(), b"." | b"..") || part.starts_with(b".wh.")) {
                continue;
            }
            let mut here = LayerPath::root();
            let mut blocked = false;
            for part in &parts[..parts.len() - 1] {
                if blocked {
                    break;
                }
                here = here.join_name(part);
                let parent = entries.entry(here.clone()).or_insert_with_key(|path| {
                    Entry::new(path.clone(), Kind::Directory { opaque: false }, 0o755)
                });
                blocked = !parent.is_directory();
            }
            let at = here.join_name(&parts[parts.len() - 1]);
            if blocked || entries.contains_key(&at) {
                continue;
            }
            let kind = match kind {
                0..=2 => Kind::File { size: data.len() as u64, digest: Digest::of(&data) },
                3 => Kind::Directory { opaque: false },
                4 => Kind::Symlink { target: parts.concat() },
                5 => Kind::Fifo,
                6 if owners => Kind::CharDevice { major: 1, minor: u32::from(data.len() as u8) + 1 },
                7 if owners => Kind::BlockDevice { major: 7, minor: data.len() as u32 },
                6..=8 => Kind::Whiteout,
                _ => unreachable!(),
            };
            let mut entry = Entry::new(at.clone(), kind, if owners { mode } else { mode | 0o700 });
            (entry.uid, entry.gid, entry.mtime) = (uid, gid, Timestamp::new(seconds, nanos));
            match entry.kind {
                Kind::Whiteout => entry = Entry::whiteout(at.clone()),
                Kind::Symlink { .. } => entry.mode = 0o777,
                Kind::File { .. } => drop(content.insert(at.clone(), data)),
                _ => {}
            }
            if let Some(note) = note
                && matches!(entry.kind, Kind::File { .. } | Kind::Directory { .. })
            {
                entry.xattrs.insert(b"user.note".to_vec(), note);
            }
            entries.insert(at, entry);
        }
        // Every third file or pipe gets a second name.
        let linked: Vec<Entry> = entries
            .values()
            .filter(|entry| matches!(entry.kind, Kind::File { .. } | Kind::Fifo))
            .step_by(3)
            .cloned()
            .collect();
        for (number, mut entry) in linked.into_iter().enumerate() {
            let other = LayerPath::new(format!("link{number}")).unwrap();
            entry.hard_link = Some(number as u32);
            if let Some(data) = content.get(&entry.path).cloned() {
                content.insert(other.clone(), data);
            }
            entries.insert(other.clone(), Entry { path: other, ..entry.clone() });
            entries.insert(entry.path.clone(), entry);
        }
        Model { index: Index::new(entries.into_values().collect()).unwrap(), content }
    })
}

/// Shorthand for archives written by hand.
pub(crate) struct Archive(Writer<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    pub(crate) fn add(mut self, member: &Member, content: &[u8]) -> Self {
        self.0.append(member).unwrap();
        io::Write::write_all(&mut self.0, content).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        let mut member = Member::new(name, MemberKind::File);
        (member.size, member.mode) = (content.len() as u64, 0o644);
        self.add(&member, content.as_bytes())
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        let mut member = Member::new(name, MemberKind::Directory);
        member.mode = 0o750;
        self.add(&member, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let mut member = Member::new(name, MemberKind::Symlink);
        (member.link, member.mode) = (target.into(), 0o777);
        self.add(&member, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        let mut member = Member::new(name, MemberKind::HardLink);
        member.link = target.into();
        self.add(&member, b"")
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// Lists a tree with `find`: an independent look at what is on disk.
pub(crate) fn find(root: &Path) -> String {
    let output = std::process::Command::new("find")
        .args([root.as_os_str(), std::ffi::OsStr::from_bytes(b"-mindepth"), "1".as_ref()])
        .args(["-printf", "%P %y %m %U:%G %s %l\n"])
        .output()
        .unwrap();
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines.join("\n")
}
