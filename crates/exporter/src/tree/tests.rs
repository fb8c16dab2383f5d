use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

/// A tree with a bit of everything that needs no privileges.
fn tree(at: &Path) {
    fs::create_dir_all(at.join("usr/bin")).unwrap();
    fs::write(at.join("usr/bin/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(at.join("usr/bin/tool"), at.join("usr/bin/same")).unwrap();
    symlink("tool", at.join("usr/bin/link")).unwrap();
    fs::create_dir(at.join("closed")).unwrap();
    fs::write(at.join("closed/in"), "x").unwrap();
    fs::set_permissions(at.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let status =
        std::process::Command::new("touch").args(["-d", "@1000000000.5"]).arg(at.join("usr")).status();
    assert!(status.unwrap().success());
}

fn open(at: &Path) {
    fs::set_permissions(at.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn index(at: &Path) -> Index {
    read(at).unwrap().1
}

#[test]
fn copies_all_of_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to/deep"));
    tree(&from);
    copy_tree(&from, &to, &TreeOptions::default()).unwrap();
    assert_eq!(index(&to), index(&from));
    assert_eq!(fs::metadata(to.join("usr/bin/same")).unwrap().nlink(), 2);
    // A second time over the first.
    fs::write(from.join("usr/bin/tool"), "changed").unwrap();
    open(&to);
    copy_tree(&from, &to, &TreeOptions::default()).unwrap();
    assert_eq!(index(&to), index(&from));
    let epoch = Timestamp::new(7, 0);
    open(&to);
    copy_tree(&from, &to, &TreeOptions { epoch: Some(epoch) }).unwrap();
    assert!(index(&to).iter().all(|entry| entry.mtime == epoch));
    open(&from);
    open(&to);
}

#[test]
fn what_is_there_stays_and_links_are_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    fs::create_dir_all(at("from/etc")).unwrap();
    fs::write(at("from/etc/new"), "new").unwrap();
    fs::write(at("from/file"), "new").unwrap();
    fs::create_dir_all(at("outside")).unwrap();
    fs::write(at("outside/file"), "old").unwrap();
    fs::create_dir_all(at("to")).unwrap();
    symlink(at("outside"), at("to/etc")).unwrap();
    symlink(at("outside/file"), at("to/file")).unwrap();
    fs::write(at("to/kept"), "kept").unwrap();
    copy_tree(&at("from"), &at("to"), &TreeOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(at("to/etc/new")).unwrap(), "new");
    assert_eq!(fs::read_to_string(at("to/file")).unwrap(), "new");
    assert_eq!(fs::read_to_string(at("to/kept")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(at("outside/file")).unwrap(), "old");
    assert!(!at("outside/new").exists());
    assert!(fs::symlink_metadata(at("to/etc")).unwrap().is_dir());

    // A folder in the place of a file is somebody's work.
    fs::remove_file(at("to/file")).unwrap();
    fs::create_dir(at("to/file")).unwrap();
    let error = copy_tree(&at("from"), &at("to"), &TreeOptions::default()).unwrap_err().to_string();
    assert!(error.contains("is a folder where the image has a file"), "{error}");
    let left: Vec<_> = fs::read_dir(at("to")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".tmp")), "{left:?}");
}

#[test]
fn as_a_tar_stream() {
    let scratch = tempfile::tempdir().unwrap();
    tree(scratch.path());
    let epoch = TreeOptions { epoch: Some(Timestamp::new(7, 0)) };
    let write = |options| {
        let mut out = Vec::new();
        write_tree_tar(scratch.path(), &mut out, options).unwrap();
        out
    };
    let archive = write(&epoch);
    assert_eq!(archive, write(&epoch));
    let mut reader = cooper_layer::tar::Reader::new(&archive[..], 1 << 20);
    let mut names = Vec::new();
    while let Some(member) = reader.next().unwrap() {
        assert_eq!(member.mtime, Timestamp::new(7, 0));
        names.push(format!("{} {:o}", String::from_utf8(member.name).unwrap(), member.mode));
    }
    assert_eq!(
        names,
        [
            "closed/ 555",
            "closed/in 644",
            "usr/ 755",
            "usr/bin/ 755",
            "usr/bin/link 777",
            "usr/bin/same 4755",
            "usr/bin/tool 4755"
        ]
    );
    assert_ne!(archive, write(&TreeOptions::default()));
    open(scratch.path());
}
