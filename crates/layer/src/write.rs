use std::collections::HashMap;
use std::io::{self, Read, Write};

use cooper_oci::Hasher;

use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::id::DiffId;
use crate::index::Index;
use crate::options::TarOptions;
use crate::path::LayerPath;
use crate::tar::{Member, MemberKind, Writer};
use crate::time::Timestamp;

/// Where [`write_tar`] has the bytes of files from. A [`Directory`](crate::Directory) is one.
pub trait Contents {
    /// Opens a regular file of the index for reading.
    fn open(&self, entry: &Entry) -> io::Result<Box<dyn Read + '_>>;
}

/// What [`write_tar`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Digest of the stream.
    pub diff_id: DiffId,
    /// Length of the stream in bytes.
    pub tar_size: u64,
}

/// Writes a layer as a tar stream. Equal indexes give equal bytes.
///
/// Entries stand in the order of the index, directories before what is in them. A hidden path is an empty file
/// `.wh.NAME` with mode, owner and time zero, as containerd writes it; further names of a file are hard links to the
/// first; directories that are [`implied`](Entry::implied) are left out as they were in the archive that they come
/// from. No user or group names are written: they would be the host's. Headers are those of [`Writer`].
///
/// Every file is compared with the index while it is copied: one that changed is [`Error::Changed`], and nothing of
/// the stream may then be used.
pub fn write_tar(
    index: &Index,
    files: &dyn Contents,
    out: impl Write,
    options: &TarOptions,
) -> Result<Written> {
    let mut writer = Writer::new(Hashing { inner: out, hasher: Hasher::new(), size: 0 });
    let mut first_names: HashMap<u32, &LayerPath> = HashMap::new();
    let mut buffer = vec![0; 128 << 10];
    for entry in index {
        if entry.is_whiteout() {
            append(&mut writer, &mark(&entry.path, b".wh.", entry.path.name()))?;
            continue;
        }
        if entry.path.name().starts_with(b".wh.") {
            return Err(Error::entry(
                &entry.path,
                "cannot be in a layer: names that start with `.wh.` mark deletions there",
            ));
        }
        if !entry.implied {
            let mut member = member(entry, options);
            if let Some(group) = entry.hard_link {
                if let Some(first) = first_names.get(&group) {
                    member.kind = MemberKind::HardLink;
                    member.link = first.as_bytes().to_vec();
                    member.device = (0, 0);
                } else {
                    first_names.insert(group, &entry.path);
                }
            }
            append(&mut writer, &member)?;
            if member.kind == MemberKind::File {
                copy(entry, files, &mut writer, &mut buffer)?;
            }
        }
        if let Kind::Directory { opaque: true } = entry.kind {
            append(&mut writer, &mark(&entry.path.join_name(b"x"), b".wh..wh..opq", b""))?;
        }
    }
    let mut out = writer.finish().map_err(Error::Write)?;
    out.flush().map_err(Error::Write)?;
    Ok(Written { diff_id: DiffId::new(out.hasher.finish()), tar_size: out.size })
}

fn append<W: Write>(writer: &mut Writer<W>, member: &Member) -> Result<()> {
    writer.append(member).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::entry(
            &LayerPath::clean(&member.name).unwrap_or_default(),
            format!("cannot be written to a tar archive: {error}"),
        ),
        _ => Error::Write(error),
    })
}

/// Makes a file that only means something by its name, in the directory of `path`.
fn mark(path: &LayerPath, prefix: &[u8], name: &[u8]) -> Member {
    let mut full = path.parent().unwrap_or_default().as_bytes().to_vec();
    if !full.is_empty() {
        full.push(b'/');
    }
    full.extend_from_slice(prefix);
    full.extend_from_slice(name);
    Member::new(full, MemberKind::File)
}

fn member(entry: &Entry, options: &TarOptions) -> Member {
    let mut member = Member::new(entry.path.as_bytes(), MemberKind::File);
    match &entry.kind {
        Kind::File { size, .. } => member.size = *size,
        Kind::Directory { .. } => {
            member.kind = MemberKind::Directory;
            member.name.push(b'/');
        }
        Kind::Symlink { target } => {
            member.kind = MemberKind::Symlink;
            member.link.clone_from(target);
        }
        Kind::CharDevice { major, minor } => {
            member.kind = MemberKind::CharDevice;
            member.device = (*major, *minor);
        }
        Kind::BlockDevice { major, minor } => {
            member.kind = MemberKind::BlockDevice;
            member.device = (*major, *minor);
        }
        Kind::Fifo => member.kind = MemberKind::Fifo,
        Kind::Whiteout => {}
    }
    member.mode = entry.mode;
    (member.uid, member.gid) = (u64::from(entry.uid), u64::from(entry.gid));
    member.mtime = time(entry.mtime, options);
    member.xattrs.clone_from(&entry.xattrs);
    if options.capabilities_only {
        member.xattrs.retain(|name, _| name == b"security.capability");
    }
    member
}

fn time(mtime: Timestamp, options: &TarOptions) -> Timestamp {
    let mtime = options.latest.map_or(mtime, |latest| mtime.min(latest));
    if options.subsecond { mtime } else { mtime.truncated() }
}

fn copy<W: Write>(
    entry: &Entry,
    files: &dyn Contents,
    writer: &mut Writer<W>,
    buffer: &mut [u8],
) -> Result<()> {
    let Kind::File { size, digest } = &entry.kind else { return Ok(()) };
    let failed = |source| Error::file("read", &entry.path, source);
    let changed = |reason: String| Error::Changed { path: entry.path.clone(), reason };
    let mut file = files.open(entry).map_err(|source| Error::file("open", &entry.path, source))?;
    let mut hasher = Hasher::new();
    let mut left = *size;
    loop {
        let count = match file.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        if count == 0 {
            break;
        }
        left = left.checked_sub(count as u64).ok_or_else(|| changed(format!("more than {size} bytes")))?;
        let data = buffer.get(..count).unwrap_or_default();
        hasher.update(data);
        writer.write_all(data).map_err(Error::Write)?;
    }
    if left > 0 {
        return Err(changed(format!("{} bytes instead of {size}", size - left)));
    }
    let found = hasher.finish();
    if found != *digest {
        return Err(changed(format!("its digest is {found} instead of {digest}")));
    }
    Ok(())
}

/// Counts and hashes the stream.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..taken).unwrap_or_default());
        self.size += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use cooper_oci::Digest;

    use super::*;
    use crate::tar::Reader;

    struct Text(&'static str);

    impl Contents for Text {
        fn open(&self, _: &Entry) -> io::Result<Box<dyn Read + '_>> {
            Ok(Box::new(self.0.as_bytes()))
        }
    }

    fn path(text: &str) -> LayerPath {
        LayerPath::new(text).unwrap()
    }

    fn file(at: &str) -> Entry {
        let mut entry = Entry::new(path(at), Kind::File { size: 3, digest: Digest::of("abc") }, 0o644);
        entry.mtime = Timestamp::new(1000, 7);
        entry
    }

    fn list(entries: Vec<Entry>, options: &TarOptions) -> Vec<String> {
        let mut out = Vec::new();
        let index = Index::new(entries).unwrap();
        let written = write_tar(&index, &Text("abc"), &mut out, options).unwrap();
        assert_eq!(written.diff_id.digest(), &Digest::of(&out));
        assert_eq!(written.tar_size, out.len() as u64);
        let mut reader = Reader::new(&out[..], 1 << 20);
        let mut lines = Vec::new();
        while let Some(member) = reader.next().unwrap() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            lines.push(format!(
                "{:?} {} {} {:o} {}.{}",
                member.kind,
                text(&member.name),
                text(&member.link),
                member.mode,
                member.mtime.seconds,
                member.mtime.nanos
            ));
        }
        lines
    }

    #[test]
    fn attributes_but_capabilities_can_be_left_out() {
        let mut entry = file("f");
        for name in ["security.capability", "user.note"] {
            entry.xattrs.insert(name.into(), b"x".to_vec());
        }
        for (capabilities_only, expected) in [(false, 2), (true, 1)] {
            let options = TarOptions { capabilities_only, ..TarOptions::default() };
            let mut out = Vec::new();
            write_tar(&Index::new(vec![entry.clone()]).unwrap(), &Text("abc"), &mut out, &options).unwrap();
            let member = Reader::new(&out[..], 1 << 20).next().unwrap().unwrap();
            assert_eq!(member.xattrs.len(), expected);
            assert!(member.xattrs.contains_key(&b"security.capability"[..]));
        }
    }

    #[test]
    fn what_a_layer_looks_like() {
        let mut one = file("d/one");
        one.hard_link = Some(0);
        let two = Entry { path: path("a"), ..one.clone() };
        let implied =
            Entry { implied: true, ..Entry::new(path("i"), Kind::Directory { opaque: false }, 0o755) };
        let entries = vec![
            one,
            two,
            Entry::new(path("d"), Kind::Directory { opaque: true }, 0o1777),
            Entry::whiteout(path("d/gone")),
            Entry::whiteout(path("gone")),
            implied,
            file("i/f"),
        ];
        let listed = list(entries, &TarOptions::default());
        same(
            &listed,
            &[
                "File a  644 1000.0",
                "Directory d/  1777 0.0",
                "File d/.wh..wh..opq  0 0.0",
                "File d/.wh.gone  0 0.0",
                "HardLink d/one a 644 1000.0",
                "File .wh.gone  0 0.0",
                "File i/f  644 1000.0",
            ],
        );
    }

    fn same(found: &[String], expected: &[&str]) {
        assert_eq!(found, expected, "\n{}", found.join("\n"));
    }

    #[test]
    fn times() {
        let run = |options| list(vec![file("f")], &options).remove(0);
        let latest = |seconds| Some(Timestamp::new(seconds, 0));
        assert!(
            run(TarOptions { latest: None, subsecond: true, ..TarOptions::default() }).ends_with(" 1000.7")
        );
        assert!(
            run(TarOptions { latest: latest(1000), subsecond: true, ..TarOptions::default() })
                .ends_with(" 1000.0")
        );
        assert!(
            run(TarOptions { latest: latest(5), subsecond: false, ..TarOptions::default() })
                .ends_with(" 5.0")
        );
        assert!(
            run(TarOptions { latest: latest(5000), subsecond: false, ..TarOptions::default() })
                .ends_with(" 1000.0")
        );
    }

    #[test]
    fn refused() {
        let write = |entry: Entry, text| {
            let index = Index::new(vec![entry]).unwrap();
            write_tar(&index, &Text(text), io::sink(), &TarOptions::default()).unwrap_err().to_string()
        };
        assert!(write(file("f"), "abd").contains("its digest is"));
        assert!(write(file("f"), "ab").contains("2 bytes instead of 3"));
        assert!(write(file("f"), "abcd").contains("more than 3 bytes"));
        assert!(write(file(".wh.f"), "abc").contains("mark deletions"));
        let mut odd = file("f");
        odd.xattrs.insert(b"user.a=b".to_vec(), vec![1]);
        assert!(write(odd, "abc").contains("attribute whose name"));
    }
}
