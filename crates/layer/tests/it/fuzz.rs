//! Damaged archives, extension records and stored indexes. What is taken is consistent in itself, the same however its
//! bytes arrive, and the same when it is written and read again; unpacking stays in its folder.
//!
//! The example `fuzz` is the same for minutes.

use std::io::{self, Read, Write as _};

use cooper_layer::tar::{Chunk, Member, Reader, Writer};
use cooper_layer::{
    Devices, Directory, Entry, Index, Kind, LayerPath, Limits, OverlayXattrs, Owners, Timestamp,
    UnpackOptions, unpack,
};
use cooper_oci::{Digest, Hasher};
use cooper_tests::fuzz::Target;

use crate::raw::{Raw, pax_records};

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "tar",
        samples: archives,
        words: &[
            "../",
            "/",
            "\0",
            ".wh.",
            ".wh..wh..opq",
            "ustar\x0000",
            "ustar  \0",
            "00000000000\0",
            "77777777777\0",
        ],
        check: tar,
    },
    Target {
        name: "pax",
        samples: records,
        words: &[
            "path=",
            "linkpath=",
            "size=",
            "mtime=",
            "uid=",
            "SCHILY.xattr.user.a=",
            "GNU.sparse.major=1\n",
            "GNU.sparse.map=",
            "GNU.sparse.realsize=",
            "GNU.sparse.name=",
            "GNU.sparse.offset=",
            "30 ",
            "\n",
        ],
        check: pax,
    },
    Target { name: "index", samples: indexes, words: &["\u{0}\u{1}", "a/b", "cooper-index"], check: index },
];

/// Extension records of one member in bytes.
const EXTENSIONS: u64 = 1 << 17;

fn archives() -> Vec<Vec<u8>> {
    let every = Raw::new()
        .dir("d")
        .file("d/f", "content")
        .symlink("l", "d/f")
        .link("d/h", "d/f")
        .fifo("p")
        .device(b'3', "null", 1, 3)
        .file("d/.wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .pax(&[("path", b"long/name"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"1\n2")])
        .file("x", [7; 700])
        .global(&[("comment", b"x")])
        .gnu_long(b'L', "gnu".repeat(50))
        .gnu_long(b'K', "to".repeat(60))
        .symlink("y", "z")
        .end();
    let map = "2\n0\n4\n8\n4\n".to_owned() + &"\0".repeat(502) + "12345678";
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"20"),
        ("GNU.sparse.name", b"s"),
    ];
    let old: &[(&str, &[u8])] =
        &[("GNU.sparse.map", b"0,1,3,1"), ("GNU.sparse.size", b"5"), ("GNU.sparse.numblocks", b"2")];
    let holes = Raw::new().pax(sparse).file("s", map).pax(old).file("t", "12").file("u", "1").end();
    vec![every, holes]
}

fn records() -> Vec<Vec<u8>> {
    let lists: [&[(&str, &[u8])]; 4] = [
        &[("path", b"a/b"), ("size", b"1"), ("uid", b"5"), ("gid", b"6"), ("mtime", b"-1.25")],
        &[("SCHILY.xattr.user.a", b"x\ny"), ("linkpath", b"t"), ("comment", b"")],
        &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9"), ("GNU.sparse.numblocks", b"1")],
        &[
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"1"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.size", b"3"),
        ],
    ];
    lists.map(pax_records).to_vec()
}

fn indexes() -> Vec<Vec<u8>> {
    let path = |text: &str| LayerPath::new(text).unwrap();
    let entry = |text: &str, kind| Entry::new(path(text), kind, 0o755);
    let mut file = entry("d/f", Kind::File { size: 3, digest: Digest::of("abc") });
    (file.uid, file.hard_link, file.mtime) = (70_000, Some(0), Timestamp::new(-5, 7));
    file.xattrs.insert(b"user.a".to_vec(), vec![0, 10]);
    let second = Entry { path: path("d/g"), ..file.clone() };
    let all = vec![
        entry("d", Kind::Directory { opaque: true }),
        file,
        second,
        Entry { implied: true, ..entry("e", Kind::Directory { opaque: false }) },
        entry("l", Kind::Symlink { target: b"d/f".to_vec() }),
        entry("c", Kind::CharDevice { major: 1, minor: 300 }),
        entry("b", Kind::BlockDevice { major: 8, minor: 0 }),
        entry("p", Kind::Fifo),
        Entry::whiteout(path("w")),
    ];
    vec![Index::new(all).unwrap().encode(), Index::default().encode()]
}

/// Makes the checksums of what looks like headers right, or all damage would end there.
fn seal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Gives a few bytes a read.
struct Crumbs<'a>(&'a [u8], usize);

impl Read for Crumbs<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 700 + 1;
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}

type Members = Vec<(Member, Digest)>;

/// Reads an archive: its members with the digests of what they hold, and how it ended.
fn read(input: impl Read) -> Result<(Members, Option<String>), String> {
    let mut reader = Reader::new(input, EXTENSIONS);
    let mut members = Vec::new();
    loop {
        let member = match reader.next() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok((members, None)),
            Err(error) => return Ok((members, Some(error.to_string()))),
        };
        let mut hasher = Hasher::new();
        let (mut length, mut broken) = (0_u64, None);
        loop {
            match reader.chunk() {
                Ok(Some(Chunk::Data([]))) => return Err(format!("an empty piece of {member:?}")),
                Ok(Some(Chunk::Data(data))) => {
                    hasher.update(data);
                    length += data.len() as u64;
                }
                Ok(Some(Chunk::Hole(hole))) => {
                    hasher.update(b"hole");
                    hasher.update(hole.to_le_bytes());
                    length += hole;
                }
                Ok(None) => break,
                Err(error) => {
                    broken = Some(error.to_string());
                    break;
                }
            }
        }
        if broken.is_none() && length != member.size {
            return Err(format!("{length} bytes of {member:?}"));
        }
        if broken.is_some() {
            return Ok((members, broken));
        }
        members.push((member, hasher.finish()));
    }
}

fn tar(bytes: &[u8]) -> Result<bool, String> {
    let mut bytes = bytes.to_vec();
    // One in eight keeps its damaged sums.
    let draw = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
    if draw % 8 != 0 {
        seal(&mut bytes);
    }
    let taken = archive(&bytes)?;
    if draw % 4 == 1 {
        unpacks_inside(&bytes)?;
    }
    Ok(taken)
}

fn pax(bytes: &[u8]) -> Result<bool, String> {
    let bytes = Raw::new().pax_bytes(bytes).file("f", "1").symlink("l", "t").end();
    archive(&bytes)
}

fn archive(bytes: &[u8]) -> Result<bool, String> {
    // Chunks of data come as the reader below gives them, or not: only their sum counts.
    let whole = read(bytes)?;
    let crumbs = read(Crumbs(bytes, 0))?;
    if whole != crumbs {
        return Err(format!("whole {whole:?}, in crumbs {crumbs:?}"));
    }
    let (members, end) = whole;
    for (member, _) in &members {
        let mut writer = Writer::new(Vec::new());
        // The writer refuses what no archive can say; sizes are without data here.
        let plain = Member { size: 0, ..member.clone() };
        if writer.append(&plain).is_err() {
            continue;
        }
        writer.flush().map_err(|error| error.to_string())?;
        let written = writer.finish().map_err(|error| error.to_string())?;
        let again = read(&written[..])?;
        if again.0.len() != 1 || again.0[0].0 != plain {
            return Err(format!("{plain:?} was written and read as {again:?}"));
        }
    }
    Ok(end.is_none() && !members.is_empty())
}

fn unpacks_inside(bytes: &[u8]) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let inside = scratch.path().join("in");
    std::fs::create_dir(&inside).map_err(|error| error.to_string())?;
    let limits = Limits { entries: 2000, total_size: 4 << 20, holes: 4 << 20, ..Limits::default() };
    let options = UnpackOptions {
        overlay: OverlayXattrs::User,
        owners: Owners::Record,
        devices: Devices::Record,
        limits,
    };
    let directory = Directory::open(&inside).map_err(|error| error.to_string())?;
    if let Ok(unpacked) = unpack(bytes, &directory, &options) {
        let again = Index::decode(&unpacked.index.encode()).map_err(|error| error.to_string())?;
        if again != unpacked.index {
            return Err(format!("{:?} is stored as {again:?}", unpacked.index));
        }
    }
    let names: Vec<_> = std::fs::read_dir(scratch.path()).into_iter().flatten().collect();
    if names.len() == 1 { Ok(()) } else { Err(format!("beside the layer: {names:?}")) }
}

fn index(bytes: &[u8]) -> Result<bool, String> {
    let Ok(index) = Index::decode(bytes) else { return Ok(false) };
    match Index::decode(&index.encode()) {
        Ok(again) if again == index => Ok(true),
        other => Err(format!("{index:?} became {other:?}")),
    }
}

#[test]
fn damaged_archives_and_indexes() {
    for target in TARGETS {
        cooper_tests::fuzz::sample(target, 2000);
    }
}
