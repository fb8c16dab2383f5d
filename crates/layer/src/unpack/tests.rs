use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::merged::Merged;
use crate::options::{OverlayXattrs, Owners, ScanOptions, TarOptions};
use crate::scan::scan;
use crate::testing::{Archive, Model, find, model, path, privileged};
use crate::write::write_tar;

fn rootless() -> UnpackOptions {
    UnpackOptions {
        overlay: OverlayXattrs::User,
        owners: Owners::Record,
        devices: Devices::Record,
        ..UnpackOptions::default()
    }
}

fn unpack_into(directory: &Path, archive: &[u8], options: &UnpackOptions) -> Result<Unpacked> {
    unpack(archive, &Directory::open(directory).unwrap(), options)
}

/// Unpacks as anybody may.
fn try_unpack(archive: &[u8]) -> Result<(tempfile::TempDir, Unpacked)> {
    let scratch = tempfile::tempdir().unwrap();
    let unpacked = unpack_into(scratch.path(), archive, &rootless())?;
    Ok((scratch, unpacked))
}

fn error(archive: Archive) -> String {
    try_unpack(&archive.finish()).unwrap_err().to_string()
}

/// Lists an index in a line an entry.
fn lines(index: &Index) -> Vec<String> {
    index
        .iter()
        .map(|entry| {
            let kind = match &entry.kind {
                Kind::File { size, .. } => format!("file {size}"),
                Kind::Directory { opaque } => format!("dir{}", if *opaque { " opaque" } else { "" }),
                Kind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
                Kind::Whiteout => "whiteout".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            let link = entry.hard_link.map(|group| format!(" link {group}")).unwrap_or_default();
            let implied = if entry.implied { " implied" } else { "" };
            format!("{} {kind}{link}{implied}", String::from_utf8_lossy(entry.path.as_bytes()))
        })
        .collect()
}

fn round_trip(model: &Model, unpacking: &UnpackOptions) -> Result<(), TestCaseError> {
    let subsecond = TarOptions { subsecond: true, ..TarOptions::default() };
    let mut archive = Vec::new();
    let written = write_tar(&model.index, model, &mut archive, &subsecond).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let directory = Directory::open(scratch.path()).unwrap();
    let unpacked = unpack(&archive[..], &directory, unpacking).unwrap();
    prop_assert_eq!(&unpacked.index, &model.index);
    prop_assert_eq!((unpacked.diff_id, unpacked.tar_size), (written.diff_id, written.tar_size));
    for threads in [1, 3] {
        let options = ScanOptions { overlay: unpacking.overlay, owners: unpacking.owners, threads };
        let scanned = scan(&directory, Merged::new(&[]), &options).unwrap();
        prop_assert_eq!(&scanned, &model.index);
    }
    let mut again = Vec::new();
    write_tar(&model.index, &directory, &mut again, &subsecond).unwrap();
    prop_assert!(again == archive, "another tar from disk");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Tree, tar, directory, tree: nothing is lost, whoever looks.
    #[test]
    fn tree_to_tar_to_disk_and_back(model in model(false)) {
        round_trip(&model, &rootless())?;
    }

    #[test]
    fn privileged_tree_to_tar_to_disk_and_back(model in model(true)) {
        if privileged() {
            round_trip(&model, &UnpackOptions::default())?;
        }
    }

    /// Damage anywhere is an error or another layer, never a file outside and never a panic.
    #[test]
    fn damage_stays_inside(model in model(false), at: prop::sample::Index, byte: u8) {
        let mut archive = Vec::new();
        write_tar(&model.index, &model, &mut archive, &TarOptions::default()).unwrap();
        let at = at.index(archive.len());
        archive[at] = byte;
        let scratch = tempfile::tempdir().unwrap();
        let inside = scratch.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        drop(unpack_into(&inside, &archive, &rootless()));
        prop_assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}

#[test]
fn hostile_archives_are_refused() {
    let new = Archive::new;
    for (name, archive, reason) in [
        ("climbing", new().file("../x", ""), "leads out"),
        ("climbing inside", new().file("a/../../x", ""), "leads out"),
        ("climbing directory", new().directory("a/../.."), "leads out"),
        ("link target climbs", new().file("f", "").hard_link("l", "../../etc/passwd"), "leads out"),
        ("link to the outside", new().hard_link("l", "/etc/passwd"), "does not have before it"),
        ("link through a link", new().symlink("d", "/etc").hard_link("l", "d/passwd"), "does not have"),
        ("link to a directory", new().directory("d").hard_link("l", "d"), "a directory"),
        ("link to itself", new().file("f", "").hard_link("f", "f"), "itself"),
        ("link to later", new().hard_link("l", "f").file("f", ""), "does not have before it"),
        ("link to the root", new().hard_link("l", "."), "the root"),
        ("endless links", new().symlink("a", "b").symlink("b", "a").file("a/x", ""), "too many"),
        ("through a file", new().file("f", "").file("f/x", ""), "no directory"),
        ("whiteout of nothing", new().file(".wh.", ""), "hides nothing"),
        ("whiteout of .", new().file("d/.wh..", ""), "hides nothing"),
        ("whiteout of ..", new().file("d/.wh...", ""), "hides nothing"),
        ("opaque root", new().file(".wh..wh..opq", ""), "hides all"),
        ("inside a whiteout", new().file(".wh.a/b", ""), "marks a deletion"),
        ("empty link", new().symlink("l", ""), "without a target"),
        ("deep", new().file(&"d/".repeat(600), ""), "depth of a path"),
        ("long", new().file(&"n".repeat(5000), ""), "length of a path"),
        ("long link", new().symlink("l", &"n".repeat(5000)), "length of a link"),
    ] {
        let message = error(archive);
        assert!(message.contains(reason), "{name}: {message}");
    }
    let with = |kind, change: fn(&mut Member)| {
        let mut member = Member::new("x", kind);
        change(&mut member);
        error(new().add(&member, b""))
    };
    assert!(with(MemberKind::CharDevice, |_| {}).contains("0:0"));
    assert!(with(MemberKind::File, |m| m.uid = u64::from(u32::MAX)).contains("owner"));
    assert!(with(MemberKind::File, |m| m.gid = 1 << 40).contains("group"));
    // A name that no file system takes.
    assert!(error(new().file(&"n".repeat(256), "")).contains("cannot create"));
}

#[test]
fn bounds() {
    let archive = Archive::new().file("a/f", "12345").file("b", "123").directory("c").finish();
    let run = |change: fn(&mut Limits)| {
        let mut options = rootless();
        change(&mut options.limits);
        let scratch = tempfile::tempdir().unwrap();
        unpack_into(scratch.path(), &archive, &options).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(run(|_| {}), Ok(()));
    for (name, result) in [
        ("number of entries", run(|limits| limits.entries = 3)),
        ("size of all files", run(|limits| limits.total_size = 7)),
        ("size of a file", run(|limits| limits.file_size = 4)),
        ("depth of a path", run(|limits| limits.depth = 1)),
        ("size of names", run(|limits| limits.metadata = 5)),
        ("length of the stream", run(|limits| limits.stream = 2000)),
        ("length of a path", run(|limits| limits.path = 2)),
    ] {
        assert!(result.as_ref().is_err_and(|error| error.contains(name)), "{name}: {result:?}");
    }
    assert_eq!(run(|limits| (limits.entries, limits.total_size) = (4, 8)), Ok(()));

    // A size that the archive does not have costs nothing before it is missed.
    let mut member = Member::new("huge", MemberKind::File);
    member.size = 1 << 38;
    let mut writer = crate::tar::Writer::new(Vec::new());
    writer.append(&member).unwrap();
    let mut partial = Archive::new().file("a", "1").finish();
    partial.truncate(1024);
    let lie = {
        let mut block = partial[..512].to_vec();
        block[124..136].copy_from_slice(b"77777777777\0");
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
            .sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    assert!(try_unpack(&lie).unwrap_err().to_string().contains("ends within a member"));
}

#[test]
fn links_are_followed_inside_only() {
    let archive = Archive::new()
        .directory("usr")
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr")
        .symlink("up", "../../../..")
        .symlink("dangling", "/not/there")
        .file("lib/one", "1")
        .file("abs/two", "2")
        .file("up/three", "3")
        .file("dangling/four", "4")
        .hard_link("five", "lib/one")
        .finish();
    let (scratch, unpacked) = try_unpack(&archive).unwrap();
    assert_eq!(
        lines(&unpacked.index),
        [
            "abs -> /usr",
            "dangling -> /not/there",
            "five file 1 link 0",
            "lib -> usr/lib",
            "not dir implied",
            "not/there dir implied",
            "not/there/four file 1",
            "three file 1",
            "up -> ../../../..",
            "usr dir",
            "usr/lib dir",
            "usr/lib/one file 1 link 0",
            "usr/two file 1",
        ]
    );
    assert_eq!(std::fs::read(scratch.path().join("usr/lib/one")).unwrap(), b"1");
    assert!(!Path::new("/not/there").exists() && !Path::new("/three").exists());
}

#[test]
fn the_last_member_of_a_name_counts() {
    let archive = Archive::new()
        .file("a", "first")
        .file("a", "second!")
        .directory("d")
        .file("d/old", "")
        .file("d/deep/old", "")
        .symlink("d", "elsewhere")
        .file("l", "file")
        .hard_link("m", "l")
        .directory("l")
        .directory("k")
        .file("k/stays", "")
        .directory("k")
        .finish();
    let (scratch, unpacked) = try_unpack(&archive).unwrap();
    let expected = ["a file 7", "d -> elsewhere", "k dir", "k/stays file 0", "l dir", "m file 4"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(lines(&unpacked.index), expected);
    let found = find(scratch.path());
    assert_eq!(found.lines().count(), expected.len(), "{found}");
    assert_eq!(std::fs::read(scratch.path().join("m")).unwrap(), b"file");
}

#[test]
fn marks_hide_lower_layers_only() {
    let archive = Archive::new()
        .file("d/.wh.gone", "")
        .file("before", "1")
        .file(".wh.before", "")
        .file(".wh.after", "")
        .file("after", "1")
        .directory("dir")
        .file("dir/f", "1")
        .file(".wh.dir", "")
        .file("o/.wh..wh..opq", "")
        .file("o/f", "1")
        .file("f/x/.wh.y", "")
        .file("f", "now a file")
        .file(".wh..wh.plnk/1.2", "aufs")
        .file(".wh..wh.aufs", "")
        .finish();
    let (scratch, unpacked) = try_unpack(&archive).unwrap();
    assert_eq!(
        lines(&unpacked.index),
        [
            "after file 1",
            "before file 1",
            "d dir implied",
            "d/gone whiteout",
            "dir dir opaque",
            "dir/f file 1",
            "f file 10",
            "o dir opaque",
            "o/f file 1",
        ]
    );
    let gone = std::fs::symlink_metadata(scratch.path().join("d/gone")).unwrap();
    assert_eq!((gone.mode() & 0o170000, gone.rdev()), (0o020000, 0));
    let opaque = |name: &str| {
        let directory = std::fs::File::open(scratch.path().join(name)).unwrap();
        crate::directory::xattr(&directory, b"user.overlay.opaque").unwrap()
    };
    assert_eq!(opaque("dir").as_deref(), Some(&b"y"[..]));
    assert_eq!(opaque("o").as_deref(), Some(&b"y"[..]));
    assert_eq!(opaque("d"), None);
    // Written again the layer means the same.
    let directory = Directory::open(scratch.path()).unwrap();
    let mut again = Vec::new();
    write_tar(&unpacked.index, &directory, &mut again, &TarOptions::default()).unwrap();
    assert_eq!(try_unpack(&again).unwrap().1.index, unpacked.index);
}

#[test]
fn attributes_of_others_are_dropped() {
    let mut member = Member::new("f", MemberKind::File);
    for name in [
        "user.overlay.metacopy",
        "user.overlay.redirect",
        "trusted.overlay.opaque",
        "user.cooper.owner",
        "security.selinux",
        "user.kept",
    ] {
        member.xattrs.insert(name.into(), b"a\nb\0c".to_vec());
    }
    member.uid = 1000;
    member.gid = 5;
    let (scratch, unpacked) = try_unpack(&Archive::new().add(&member, b"").finish()).unwrap();
    let entry = unpacked.index.get(&path("f")).unwrap();
    assert_eq!(entry.xattrs.keys().collect::<Vec<_>>(), [&b"user.kept".to_vec()]);
    let file = std::fs::File::open(scratch.path().join("f")).unwrap();
    let mut names = crate::directory::xattr_names(&file).unwrap();
    names.retain(|name| name.starts_with(b"user."));
    names.sort();
    assert_eq!(names, [b"user.cooper.owner".to_vec(), b"user.kept".to_vec()]);
    assert_eq!(crate::directory::xattr(&file, b"user.kept").unwrap().unwrap(), b"a\nb\0c");
    assert_eq!(crate::directory::xattr(&file, b"user.cooper.owner").unwrap().unwrap(), b"1000:5");
}

#[test]
fn only_an_empty_directory_is_taken() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("there"), "").unwrap();
    let error = unpack_into(scratch.path(), &Archive::new().finish(), &rootless()).unwrap_err();
    assert!(error.to_string().contains("empty directory"));
}

#[test]
fn privileged_owners_devices_and_modes_are_set() {
    if !privileged() {
        return;
    }
    let mut suid = Member::new("bin/ping", MemberKind::File);
    (suid.mode, suid.uid, suid.gid, suid.size) = (0o6755, 12, 34, 1);
    suid.mtime = crate::time::Timestamp::new(1_234_567_890, 987_654_321);
    // cap_net_raw=ep, as in a version 2 attribute.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    suid.xattrs.insert(b"security.capability".to_vec(), capability.clone());
    let mut null = Member::new("dev/null", MemberKind::CharDevice);
    (null.mode, null.device, null.uid) = (0o666, (1, 3), 7);
    let mut link = Member::new("l", MemberKind::Symlink);
    (link.link, link.uid, link.gid) = (b"/etc/shadow".to_vec(), 9, 9);
    let mut closed = Member::new("closed", MemberKind::Directory);
    (closed.mode, closed.uid) = (0, 5);
    let archive = Archive::new()
        .add(&closed, b"")
        .file("closed/in", "x")
        .add(&suid, b"x")
        .add(&null, b"")
        .hard_link("dev/also", "dev/null")
        .add(&link, b"")
        .finish();
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let unpacked = unpack_into(scratch.path(), &archive, &UnpackOptions::default()).unwrap();
    assert!(unpacked.incomplete.is_empty());
    let listed = find(scratch.path());
    let expected = [
        "bin d 755 0:0 ",
        "bin/ping f 6755 12:34 1",
        "closed d 0 5:0 ",
        "closed/in f 644 0:0 1",
        "dev d 755 0:0 ",
        "dev/also c 666 7:0 0",
        "dev/null c 666 7:0 0",
        "l l 777 9:9 11 /etc/shadow",
    ];
    for (line, expected) in listed.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
    }
    assert_eq!(listed.lines().count(), expected.len(), "{listed}");
    let file = std::fs::File::open(scratch.path().join("bin/ping")).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_234_567_890, 987_654_321));
    assert_eq!(crate::directory::xattr(&file, b"security.capability").unwrap().unwrap(), capability);
    let node = std::fs::symlink_metadata(scratch.path().join("dev/also")).unwrap();
    assert_eq!((node.rdev(), node.nlink()), (rustix::fs::makedev(1, 3), 2));
}

#[test]
fn devices_by_rule() {
    let mut null = Member::new("null", MemberKind::CharDevice);
    (null.mode, null.device) = (0o666, (1, 3));
    let archive = Archive::new().add(&null, b"").hard_link("also", "null").finish();
    let (scratch, unpacked) = try_unpack(&archive).unwrap();
    assert_eq!(unpacked.incomplete, [path("also"), path("null")]);
    assert_eq!(unpacked.index.len(), 2);
    assert_eq!(find(scratch.path()), "");
    let scratch = tempfile::tempdir().unwrap();
    let refuse = UnpackOptions { devices: Devices::Refuse, ..rootless() };
    assert!(unpack_into(scratch.path(), &archive, &refuse).unwrap_err().to_string().contains("device node"));
}

#[test]
fn sparse_files_stay_sparse() {
    let scratch = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(scratch.path().join("holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 5 << 20).unwrap();
    file.set_len(9 << 20).unwrap();
    let archive = match std::process::Command::new("tar")
        .args(["--sparse", "--format=posix", "-cf", "-", "holes"])
        .current_dir(scratch.path())
        .output()
    {
        Ok(output) => output.stdout,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "tar: {error}");
            return eprintln!("skipped: tar: {error}");
        }
    };
    let (unpacked, result) = try_unpack(&archive).unwrap();
    let at = unpacked.path().join("holes");
    let metadata = std::fs::metadata(&at).unwrap();
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let content = std::fs::read(&at).unwrap();
    assert!(content == std::fs::read(scratch.path().join("holes")).unwrap());
    let digest = cooper_oci::Digest::of(&content);
    assert_eq!(result.index.entries()[0].kind, Kind::File { size: 9 << 20, digest });
}

/// What follows the end of the archive counts for the digest: registries hash all bytes.
#[test]
fn the_whole_stream_is_hashed() {
    let mut archive = Archive::new().file("f", "x").finish();
    archive.extend_from_slice(&[0; 7000]);
    let (_scratch, unpacked) = try_unpack(&archive).unwrap();
    assert_eq!(unpacked.diff_id.digest(), &cooper_oci::Digest::of(&archive));
    assert_eq!(unpacked.tar_size, archive.len() as u64);
}
