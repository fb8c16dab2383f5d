use std::io::Write as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::error::Result;

/// A member with its content.
type Full = (Member, Vec<u8>);

fn write(members: &[Full]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (member, content) in members {
        writer.append(member).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap()
}

fn read(archive: &[u8]) -> Result<Vec<Full>> {
    let mut reader = Reader::new(archive, 1 << 20);
    let mut members = Vec::new();
    while let Some(member) = reader.next()? {
        let mut content = Vec::new();
        while let Some(chunk) = reader.chunk()? {
            match chunk {
                Chunk::Data(data) => content.extend_from_slice(data),
                Chunk::Hole(length) => content.resize(content.len() + length as usize, 0),
            }
        }
        members.push((member, content));
    }
    Ok(members)
}

fn file(name: impl Into<Vec<u8>>, content: &[u8]) -> Full {
    let mut member = Member::new(name, MemberKind::File);
    (member.size, member.mode) = (content.len() as u64, 0o644);
    (member, content.to_vec())
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => "[a-z]{1,12}".prop_map(String::into_bytes),
        1 => "[a-z]{90,140}".prop_map(String::into_bytes),
        1 => prop::collection::vec(prop_oneof![1_u8..=b'.', b'0'..=255], 1..20),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join(&b'/'))
}

prop_compose! {
    fn member()(
        name in name(),
        link in name(),
        kind in 0_usize..7,
        content in prop::collection::vec(any::<u8>(), 0..1500),
        mode in 0_u32..0o10000,
        uid in prop_oneof![0_u64..3000, 2_097_150..2_097_155_u64, Just(5_000_000_000)],
        gid in 0_u64..3_000_000,
        seconds in prop_oneof![0_i64..2_000_000_000, -5_i64..5, Just(1 << 40)],
        nanos in prop_oneof![Just(0_u32), 0_u32..1_000_000_000],
        xattrs in prop::collection::btree_map("user\\.[a-z]{1,9}", prop::collection::vec(any::<u8>(), 1..60), 0..3),
        device in (0_u32..100_000, 0_u32..100_000),
    ) -> Full {
        use MemberKind::*;
        let kind = [File, HardLink, Symlink, CharDevice, BlockDevice, Directory, Fifo][kind];
        let mut member = Member::new(name, kind);
        if matches!(kind, HardLink | Symlink) {
            member.link = link;
        }
        if kind == Directory {
            member.name.push(b'/');
        }
        if matches!(kind, CharDevice | BlockDevice) {
            member.device = device;
        }
        let content = if kind == File { content } else { Vec::new() };
        (member.size, member.mode, member.uid, member.gid) = (content.len() as u64, mode, uid, gid);
        member.mtime = Timestamp::new(seconds, nanos);
        member.xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        (member, content)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn round_trip(members in prop::collection::vec(member(), 0..8)) {
        let archive = write(&members);
        prop_assert_eq!(archive.len() % BLOCK, 0);
        prop_assert_eq!(read(&archive).unwrap(), members);
    }

    /// An independent reader sees the same.
    #[test]
    fn another_reader_agrees(mut members in prop::collection::vec(member(), 0..6)) {
        use tar_core::parse::{Limits, ParseEvent, Parser};
        for (member, _) in &mut members {
            // It reads no times before 1970.
            member.mtime.seconds = member.mtime.seconds.max(0);
        }
        let archive = write(&members);
        let mut parser = Parser::new(Limits::default());
        let mut rest = &archive[..];
        let mut seen = Vec::new();
        loop {
            match parser.parse(rest).unwrap() {
                ParseEvent::Entry { consumed, entry } => {
                    let xattrs = entry.xattrs.iter()
                        .map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Xattrs>();
                    seen.push((entry.path.to_vec(), entry.uid, entry.mode & 0o7777, entry.size, xattrs));
                    rest = &rest[consumed + entry.padded_size() as usize..];
                }
                ParseEvent::End { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        let expected: Vec<_> = members.iter().map(|(m, _)| {
            (m.name.clone(), m.uid, m.mode, m.size, m.xattrs.clone())
        }).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn damage_never_panics(members in prop::collection::vec(member(), 1..4), at: prop::sample::Index, bit in 0_u32..8) {
        let mut archive = write(&members);
        let at = at.index(archive.len());
        archive[at] ^= 1_u8 << bit;
        drop(read(&archive));
        drop(read(&archive[..at]));
    }
}

#[test]
fn headers_as_go_chooses_them() {
    let plain = write(&[file("etc/passwd", b"root")]);
    assert_eq!(plain.len(), 512 + 512 + 1024);
    assert_eq!(&plain[257..265], b"ustar\x0000");
    assert_eq!(&plain[100..108], b"0000644\0");
    assert_eq!(&plain[124..136], b"00000000004\0");
    assert_eq!(&plain[329..345], b"0000000\x000000000\0");
    assert_eq!(plain[154..156], *b"\0 ");

    // 101 to 256 bytes of ASCII are split if there is a slash in the right place.
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(99));
    let split = write(&[file(long.as_str(), b"")]);
    assert_eq!(split.len(), 512 + 1024);
    assert!(split[345..].starts_with("d".repeat(150).as_bytes()));
    assert!(split.starts_with("f".repeat(99).as_bytes()));

    // All else needs PAX: here a name without a slash, one that is not ASCII, an attribute, a fraction of a second.
    let mut attribute = file("a/b", b"");
    attribute.0.xattrs.insert(b"security.capability".to_vec(), b"1\n2".to_vec());
    let mut fraction = file("a/b", b"");
    fraction.0.mtime = Timestamp::new(1, 5);
    for (member, record, pax_name) in [
        (file("n".repeat(101), b""), format!("111 path={}\n", "n".repeat(101)), "PaxHeaders.0/nnnnnn"),
        (file("é", b""), "11 path=é\n".to_owned(), "PaxHeaders.0\0"),
        (attribute, "40 SCHILY.xattr.security.capability=1\n2\n".to_owned(), "a/PaxHeaders.0/b\0"),
        (fraction, "21 mtime=1.000000005\n".to_owned(), "a/PaxHeaders.0/b\0"),
    ] {
        let archive = write(&[member]);
        assert_eq!(archive.len(), 3 * 512 + 1024);
        assert_eq!(archive[156], b'x');
        assert!(archive.starts_with(pax_name.as_bytes()));
        assert!(archive[512..].starts_with(record.as_bytes()), "{record}");
    }

    let mut directory = Member::new("dir/", MemberKind::Directory);
    directory.xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
    assert!(write(&[(directory, vec![])]).starts_with(b"dir/PaxHeaders.0\0"));
}

/// Every header byte is Go's, for names, numbers, times and attributes at and around all bounds.
#[test]
fn headers_equal_those_of_go() {
    let unhex = |text: &str| -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    let mut compared = 0;
    for line in include_str!("testdata/go-headers.txt").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('|').collect();
        let number = |at: usize| fields[at].parse::<i64>().unwrap();
        use MemberKind::*;
        let kinds = [File, HardLink, Symlink, CharDevice, BlockDevice, Directory, Fifo];
        let mut member = Member::new(unhex(fields[1]), kinds[number(0) as usize]);
        member.link = unhex(fields[2]);
        (member.mode, member.uid, member.gid) = (number(3) as u32, number(4) as u64, number(5) as u64);
        (member.size, member.mtime) = (number(6) as u64, Timestamp::new(number(7), number(8) as u32));
        member.device = (number(9) as u32, number(10) as u32);
        if let Some((name, value)) = fields[11].split_once('=') {
            member.xattrs.insert(name.as_bytes().to_vec(), unhex(value));
        }
        let mut writer = Writer::new(Vec::new());
        writer.append(&member).unwrap();
        let header = writer.into_inner();
        let found = format!("{} {}", header.len(), cooper_oci::Digest::of(&header).hex());
        assert_eq!(found, fields[12], "{line}\n{}", header.escape_ascii());
        compared += 1;
    }
    assert_eq!(compared, 200);
}

#[test]
fn wrong_lengths_are_errors() {
    let mut writer = Writer::new(Vec::new());
    writer.append(&file("a", b"123").0).unwrap();
    assert!(writer.write_all(b"1234").is_err());
    writer.write_all(b"12").unwrap();
    assert!(writer.append(&file("b", b"").0).is_err());
    assert!(writer.finish().is_err());
}

#[test]
fn what_no_archive_is() {
    let good = write(&[file("a", &[7; 2000]), file("b", b"x")]);
    for cut in [1, 511, 513, 1000, 2559, 3000, 3100] {
        assert!(read(&good[..cut]).is_err(), "cut at {cut}");
    }
    // A cut between members, or after one end block, cannot be told from an archive that ends there.
    assert_eq!(read(&good[..2560]).unwrap().len(), 1);
    assert_eq!(read(&good[..good.len() - 512]).unwrap().len(), 2);
    assert!(read(&[b'x'; 1024]).is_err());
    assert!(read(b"").unwrap().is_empty());
    // A header hidden behind one end block.
    let one = &good[..2560];
    assert!(read(&[one, &[0; 512], one].concat()).is_err());

    let with_record = |key: &str, value: &str| {
        let mut data = Vec::new();
        pax::put(&mut data, key.as_bytes(), value.as_bytes());
        let mut block = [0; 512];
        block[156] = b'x';
        header::put_octal(&mut block, header::SIZE, data.len() as i64);
        header::seal(&mut block);
        data.resize(512, 0);
        read(&[&block[..], &data, &good].concat())
    };
    for (key, value) in [
        ("size", "99999"),
        ("size", "99999999999999999"),
        ("size", "18446744073709551615"),
        ("size", "-1"),
        ("uid", "-1"),
        ("mtime", "x"),
        ("GNU.sparse.map", "0,1,2"),
        ("GNU.sparse.map", "0,2000"),
        ("GNU.sparse.major", "2"),
    ] {
        assert!(with_record(key, value).is_err(), "{key}={value}");
    }
    assert_eq!(with_record("path", "zz").unwrap()[0].0.name, b"zz");
    // An empty value takes an earlier one back.
    assert_eq!(with_record("path", "").unwrap()[0].0.name, b"a");
}

/// Runs a program, or says why not.
fn run(program: &str, arguments: &[&str], directory: &std::path::Path) -> Option<Vec<u8>> {
    match Command::new(program).args(arguments).current_dir(directory).env("LC_ALL", "C").output() {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{program} {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(output.stdout)
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{program}: {error}");
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}

#[test]
fn gnu_tar_and_sparse_files_of_every_format() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let data = std::fs::File::create(at.join("holes")).unwrap();
    use std::os::unix::fs::FileExt as _;
    data.set_len(40 << 20).unwrap();
    // More pieces than a GNU header and its first extension hold.
    let mut expected = vec![0; 40 << 20];
    for piece in 0..60_usize {
        let offset = piece * 500_000 + 4096;
        data.write_all_at(&[piece as u8 + 1; 5000], offset as u64).unwrap();
        expected[offset..offset + 5000].fill(piece as u8 + 1);
    }
    let long = format!("{}/{}", "d".repeat(140), "n".repeat(140));
    std::fs::create_dir(at.join("d".repeat(140))).unwrap();
    std::fs::write(at.join(&long), b"long").unwrap();
    std::os::unix::fs::symlink("t".repeat(200), at.join("link")).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let arguments = [&["--sparse", "-cf", "-"], format, &["holes", &long, "link"]].concat();
        let Some(archive) = run("tar", &arguments, at) else { return };
        assert!(archive.len() < 2 << 20, "{format:?} is not sparse: {}", archive.len());
        let members = read(&archive).unwrap();
        assert_eq!(members.len(), 3, "{format:?}");
        assert_eq!((&*members[0].0.name, members[0].0.size), (&b"holes"[..], 40 << 20), "{format:?}");
        assert!(members[0].1 == expected, "{format:?}");
        assert_eq!(members[1].0.name, long.as_bytes());
        assert_eq!(members[2].0.link, "t".repeat(200).as_bytes());
    }
}

#[test]
fn gnu_tar_lists_what_the_writer_wrote() {
    let scratch = tempfile::tempdir().unwrap();
    let mut big = file("n".repeat(150), b"content");
    big.0.xattrs.insert(b"user.note".to_vec(), b"a\nb".to_vec());
    let mut directory = Member::new("dir/", MemberKind::Directory);
    directory.mode = 0o1777;
    let mut link = Member::new("dir/link", MemberKind::Symlink);
    link.link = "t".repeat(180).into();
    std::fs::write(scratch.path().join("a.tar"), write(&[big, (directory, vec![]), (link, vec![])])).unwrap();
    let Some(listing) = run("tar", &["-tvf", "a.tar"], scratch.path()) else { return };
    let listing = String::from_utf8(listing).unwrap();
    assert!(listing.contains(&"n".repeat(150)) && listing.contains(&"t".repeat(180)), "{listing}");
    assert!(listing.contains("drwxrwxrwt"), "{listing}");
}

#[test]
fn python_tarfile_in_all_formats() {
    let scratch = tempfile::tempdir().unwrap();
    let script = r#"
import tarfile, io, sys
for name, fmt in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
    with tarfile.open(name + ".tar", "w", format=fmt) as t:
        i = tarfile.TarInfo("d" * 90 + "/" + "f" * 80); i.size = 3; i.mode = 0o4755; i.uid = 1000; i.mtime = 7
        t.addfile(i, io.BytesIO(b"abc"))
        if name != "ustar":
            i = tarfile.TarInfo("\u00fc" * 120); i.size = 1; i.uid = 3000000; i.mtime = 7 if name == "gnu" else 7.5
            t.addfile(i, io.BytesIO(b"x"))
        i = tarfile.TarInfo("dev"); i.type = tarfile.CHRTYPE; i.devmajor = 5; i.devminor = 1
        t.addfile(i)
"#;
    if run("python3", &["-c", script], scratch.path()).is_none() {
        return;
    }
    for format in ["ustar", "gnu", "pax"] {
        let members =
            read(&std::fs::read(scratch.path().join(format).with_extension("tar")).unwrap()).unwrap();
        let first = &members[0].0;
        assert_eq!(first.name, format!("{}/{}", "d".repeat(90), "f".repeat(80)).as_bytes());
        assert_eq!((first.mode, first.uid, first.mtime), (0o4755, 1000, Timestamp::new(7, 0)));
        assert_eq!(members[0].1, b"abc");
        assert_eq!(members.last().unwrap().0.device, (5, 1));
        if format != "ustar" {
            assert_eq!((&*members[1].0.name, members[1].0.uid), ("ü".repeat(120).as_bytes(), 3_000_000));
            assert_eq!(members[1].0.mtime.nanos, if format == "pax" { 500_000_000 } else { 0 });
        }
    }
}
