use std::io::Write as _;

use cooper_layer::tar::{Member, MemberKind, Writer};
use cooper_layer::{Compression, Compressor};

use super::*;

fn member(name: &str, kind: MemberKind, mode: u32, body: &str) -> (Member, Vec<u8>) {
    let mut member = Member::new(name, kind);
    let ids = (rustix::process::getuid(), rustix::process::getgid());
    (member.uid, member.gid) = (ids.0.as_raw().into(), ids.1.as_raw().into());
    member.mode = mode;
    member.mtime = OLD;
    if matches!(kind, MemberKind::Symlink | MemberKind::HardLink) {
        member.link = body.as_bytes().to_vec();
        return (member, vec![]);
    }
    member.size = body.len() as u64;
    (member, body.as_bytes().to_vec())
}

fn archive(members: &[(Member, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (member, data) in members {
        writer.append(member).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap()
}

fn compressed(data: &[u8], compression: Compression) -> Vec<u8> {
    let mut compressor = Compressor::new(Vec::new(), compression, None).unwrap();
    compressor.write_all(data).unwrap();
    compressor.finish().unwrap().0
}

fn add(file: &[u8], to: &str, dest: &str) -> Result<String, String> {
    let two = Two::new("", to);
    std::fs::write(two.from.path().join("t.tar"), file).unwrap();
    age(two.from.path());
    two.apply(Action::Copy(Copy { unpack: true, ..dockerfile("t.tar", dest) }))
}

fn small() -> Vec<(Member, Vec<u8>)> {
    use MemberKind::{Directory, File, HardLink, Symlink};
    vec![
        member("./", Directory, 0o700, ""),
        member("t/", Directory, 0o1750, ""),
        member("t/h", File, 0o4755, "x"),
        member("t/x", HardLink, 0o4755, "t/h"),
        member("t/l", Symlink, 0o777, "../../../h"),
        member("p/q/deep", File, 0o644, "d"),
        member("empty", File, 0o600, ""),
    ]
}

#[test]
fn of_every_compression() {
    let want = lines(
        "d o 755 new
        f o/empty 600
        d o/p 755 new
        d o/p/q 755 new
        f o/p/q/deep 644 = d
        d o/t 1750
        f o/t/h 4755 = x
        l o/t/l = ../../../h
        h o/t/x = o/t/h",
    );
    let plain = archive(&small());
    let gzip = compressed(&plain, Compression::Gzip { level: 6 });
    let zstd = compressed(&plain, Compression::Zstd { level: 3 });
    for file in [&plain, &gzip, &zstd] {
        assert_eq!(add(file, "", "/o"), Ok(want.clone()));
    }
}

#[test]
fn what_is_no_archive_is_copied() {
    let gzip = compressed(b"no archive", Compression::Gzip { level: 6 });
    for file in [&b""[..], b"text", &[0; 10240], &gzip, &gzip[..20], b"BZh91AY&SY", b"\xfd7zXZ\0"] {
        let two = Two::new("", "");
        std::fs::write(two.from.path().join("t.tar"), file).unwrap();
        let copy = Copy { unpack: true, ..dockerfile("t.tar", "/o/") };
        let root = Root::open(two.to.path()).unwrap();
        apply(&Action::Copy(copy), &root, Some(&Root::open(two.from.path()).unwrap())).unwrap();
        assert_eq!(std::fs::read(two.to.path().join("o/t.tar")).unwrap(), file);
    }
}

#[test]
fn damage_behind_the_first_header_is_an_error() {
    let mut members = small();
    // Digits that do not compress to nothing.
    let noise: String =
        (0u32..60_000).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    members.push(member("noise", MemberKind::File, 0o600, &noise));
    let plain = archive(&members);
    let gzip = compressed(&plain, Compression::Gzip { level: 6 });
    for file in [&plain[..2000], &gzip[..gzip.len() / 2]] {
        let error = add(file, "", "/o").unwrap_err();
        assert!(error.starts_with("failed to unpack `/t.tar`"), "{error}");
    }
}

#[test]
fn onto_what_is_there() {
    use MemberKind::{Directory, File, Symlink};
    let members = [
        member("dir", File, 0o644, "file now"),
        member("file/", Directory, 0o755, ""),
        member("file/in", File, 0o644, "i"),
        member("kept/", Directory, 0o711, ""),
        member("link", Symlink, 0o777, "kept"),
        member("link/through", File, 0o644, "t"),
    ];
    let to = "f data/dir/x = x\nf data/file = old\nd data/kept 755\nf data/kept/y 600\nf data/link = l\nl at = data";
    let want = "l at = data
        d data 755 new
        f data/dir 644 = file now
        d data/file 755
        f data/file/in 644 = i
        d data/kept 711
        f data/kept/through 644 = t
        f data/kept/y 600
        l data/link = kept";
    assert_eq!(add(&archive(&members), to, "/at/"), Ok(lines(want)));
}

/// Whatever an archive says, it is unpacked as if its destination were the root of everything.
#[test]
fn hostile_archives_stay_inside() {
    use MemberKind::{Directory, File, HardLink, Symlink};
    let file = |name: &str| member(name, File, 0o644, "evil");
    let link = |name: &str, target: &str| member(name, Symlink, 0o777, target);
    for (name, members, want) in [
        ("dots", vec![file("../../x")], Ok("d o 755 new\nf o/x 644 = evil\nf outside 644 = safe")),
        ("absolute", vec![file("/outside")], Ok("d o 755 new\nf o/outside 644 = evil\nf outside 644 = safe")),
        (
            "through a link up",
            vec![link("up", ".."), file("up/outside")],
            Ok("d o 755 new\nf o/outside 644 = evil\nl o/up = ..\nf outside 644 = safe"),
        ),
        (
            "through an absolute link",
            vec![link("root", "/"), file("root/outside")],
            Ok("d o 755 new\nf o/outside 644 = evil\nl o/root = /\nf outside 644 = safe"),
        ),
        (
            "a link in the place of the file",
            vec![link("x", "../outside"), file("x")],
            Ok("d o 755 new\nf o/x 644 = evil\nf outside 644 = safe"),
        ),
        (
            "a hard link out",
            vec![member("h", HardLink, 0o644, "../outside")],
            Err("failed to unpack `/h`: it is a hard link to `../outside`, which is not in the destination"),
        ),
        (
            "a hard link through a link",
            vec![link("up", ".."), member("h", HardLink, 0o644, "up/outside")],
            Err("failed to unpack `/h`: it is a hard link to `up/outside`, which is not in the destination"),
        ),
        ("the root as a file", vec![file("/")], Err("invalid path `/`")),
        (
            "a directory that becomes a link",
            vec![member("d/", Directory, 0o755, ""), file("d/x"), link("d", "/"), file("d/y")],
            Ok("l o/d = /\nd o 755 new\nf o/y 644 = evil\nf outside 644 = safe"),
        ),
    ] {
        let got = add(&archive(&members), "f outside 644 = safe", "/o");
        let sorted = |text: String| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(got.map(sorted), want.map(lines).map(sorted).map_err(str::to_owned), "{name}");
    }
}

#[test]
fn archives_ask_for_no_more_than_layers_may() {
    use MemberKind::{Directory, File, Symlink};
    let after = |hostile: (Member, Vec<u8>)| archive(&[member("first", File, 0o644, "1"), hostile]);
    // A file that is one hole of 128 GiB, as old GNU archives have it.
    let mut hole = archive(&[member("s", File, 0o644, "")]);
    let size = [&[0x80, 0, 0, 0][..], &(1_u64 << 37).to_be_bytes()].concat();
    // The last header before the end's two blocks.
    let at = hole.len() - 3 * 512;
    let header = &mut hole[at..at + 512];
    header[156] = b'S';
    header[257..265].copy_from_slice(b"ustar  \0");
    header[386..398].copy_from_slice(&size);
    header[398..410].copy_from_slice(b"00000000000\0");
    header[483..495].copy_from_slice(&size);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    for (what, file) in [
        ("depth", after(member(&"d/".repeat(600), Directory, 0o755, ""))),
        ("name", after(member(&"n".repeat(5000), File, 0o644, ""))),
        ("link", after(member("l", Symlink, 0o777, &"t".repeat(5000)))),
        ("hole", hole),
    ] {
        let error = add(&file, "", "/o").unwrap_err();
        assert!(error.contains("above the limit"), "{what}: {error}");
    }
}
