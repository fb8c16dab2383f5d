use std::collections::BTreeMap;

use super::*;

/// Tells whether owners can be set; without that the tests here mean nothing.
fn able() -> bool {
    let able = rustix::process::geteuid().is_root();
    assert!(able || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "needs root");
    if !able {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: needs root\n");
    }
    able
}

fn chown(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
}

fn owners(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, path: &Path, out: &mut BTreeMap<String, String>) {
        for entry in path.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            out.insert(name, format!("{}:{} {:o}", meta.uid(), meta.gid(), meta.mode() & 0o7777));
            if meta.is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(path, owner)| ((*path).to_owned(), (*owner).to_owned())).collect()
}

#[test]
fn privileged_owners() {
    if !able() {
        return;
    }
    let from = "d d 700\nf d/f 4755\nl d/l = f\nd d/e 2770";
    let own = |two: &Two| {
        for (path, uid, gid) in [("d", 5, 6), ("d/f", 1000, 2000), ("d/l", 7, 8), ("d/e", 33, 34)] {
            chown(&two.from.path().join(path), uid, gid);
        }
        // Owning changes modes.
        make(two.from.path(), "d d 700\nd d/e 2770");
        std::fs::set_permissions(two.from.path().join("d/f"), std::fs::Permissions::from_mode(0o4755))
            .unwrap();
    };
    for (copy, want) in [
        (
            dockerfile("d", "/x/y/"),
            map(&[
                ("x", "0:0 755"),
                ("x/y", "0:0 755"),
                ("x/y/f", "1000:2000 4755"),
                ("x/y/l", "7:8 777"),
                ("x/y/e", "33:34 2770"),
            ]),
        ),
        (
            Copy { owner: Some(Owner { uid: 1, gid: 2 }), mode: Some(0o705), ..dockerfile("d", "/x/y/") },
            map(&[
                ("x", "1:2 705"),
                ("x/y", "1:2 705"),
                ("x/y/f", "1:2 705"),
                ("x/y/l", "1:2 777"),
                ("x/y/e", "1:2 705"),
            ]),
        ),
        (
            Copy { source_owner: Some(Owner::default()), ..dockerfile("d", "/x/") },
            map(&[("x", "0:0 755"), ("x/f", "0:0 4755"), ("x/l", "0:0 777"), ("x/e", "0:0 2770")]),
        ),
    ] {
        let two = Two::new(from, "");
        own(&two);
        two.apply(Action::Copy(copy)).unwrap();
        assert_eq!(owners(two.to.path()), want);
    }
    // An existing destination keeps its owner and mode; what is in it does not.
    let two = Two::new(from, "d x 711\nd x/e 755");
    own(&two);
    chown(&two.to.path().join("x"), 9, 9);
    two.apply(Action::Copy(Copy { owner: Some(Owner { uid: 1, gid: 2 }), ..dockerfile("d", "/x") })).unwrap();
    let want = map(&[("x", "9:9 711"), ("x/f", "1:2 4755"), ("x/l", "1:2 777"), ("x/e", "1:2 2770")]);
    assert_eq!(owners(two.to.path()), want);

    let two = Two::new("", "");
    let owner = Some(Owner { uid: 3, gid: 4 });
    two.apply(Action::MakeDir(MakeDir {
        path: "a/b".into(),
        mode: 0o755,
        parents: true,
        owner,
        ..MakeDir::default()
    }))
    .unwrap();
    two.apply(Action::MakeFile(MakeFile { path: "a/f".into(), mode: 0o600, owner, ..MakeFile::default() }))
        .unwrap();
    two.apply(Action::Symlink(Symlink {
        path: "a/l".into(),
        target: "f".into(),
        owner,
        ..Symlink::default()
    }))
    .unwrap();
    let want = map(&[("a", "3:4 755"), ("a/b", "3:4 755"), ("a/f", "3:4 600"), ("a/l", "3:4 777")]);
    assert_eq!(owners(two.to.path()), want);
}

/// Owners that cannot be set are written down, and read back from a source that has them so.
#[test]
fn owners_are_recorded() {
    let two = Two::new("d d 755\nf d/f 444\nl d/l = f", "");
    let file = two.from.path().join("d/f");
    if rustix::fs::setxattr(&file, "user.cooper.test", b"x", rustix::fs::XattrFlags::empty()).is_err() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "needs a file system with user attributes"
        );
        return;
    }
    let record = |path: &Path| Root::open(path).unwrap().with_owners(cooper_layer::Owners::Record);
    let (from, to) = (record(two.from.path()), record(two.to.path()));
    let copy = Copy {
        owner: Some(Owner { uid: 1, gid: 2 }),
        source_owner: Some(Owner::default()),
        ..dockerfile("d", "/x/")
    };
    apply(&Action::Copy(copy), &to, Some(&from)).unwrap();
    let note = |path: &Path| {
        let mut buffer = [0; 32];
        let length = rustix::fs::getxattr(path, cooper_layer::OWNER_XATTR, &mut buffer[..]).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    };
    assert_eq!(note(&two.to.path().join("x")).as_deref(), Some("1:2"));
    assert_eq!(note(&two.to.path().join("x/f")).as_deref(), Some("1:2"));
    // What an attribute says of the image is copied, what it says to this builder is not.
    assert!(rustix::fs::getxattr(two.to.path().join("x/f"), "user.cooper.test", &mut [0; 8][..]).is_ok());

    let third = tempfile::tempdir().unwrap();
    apply(&Action::Copy(dockerfile("x", "/z/")), &record(third.path()), Some(&to)).unwrap();
    assert_eq!(note(&third.path().join("z/f")).as_deref(), Some("1:2"));
    assert_eq!(note(&third.path().join("z")), None);
    // Back to root: the note goes.
    let copy = Copy { owner: Some(Owner::default()), ..dockerfile("x/f", "/z/f") };
    apply(&Action::Copy(copy), &record(third.path()), Some(&to)).unwrap();
    assert_eq!(note(&third.path().join("z/f")), None);
}

#[test]
fn privileged_devices_and_capabilities() {
    if !able() {
        return;
    }
    let two = Two::new("f d/f 755 = x", "");
    let node = two.from.path().join("d/n");
    let device = rustix::fs::makedev(1, 3);
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(rustix::fs::CWD, &node, rustix::fs::FileType::CharacterDevice, mode, device).unwrap();
    // cap_net_raw, effective and permitted, revision 2.
    let capability = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(two.from.path().join("d/f"), "security.capability", &capability, none).unwrap();
    let (from, to) = (Root::open(two.from.path()).unwrap(), Root::open(two.to.path()).unwrap());
    let copy = Copy { owner: Some(Owner { uid: 1, gid: 2 }), ..dockerfile("d", "/") };
    apply(&Action::Copy(copy), &to, Some(&from)).unwrap();
    let meta = two.to.path().join("n").symlink_metadata().unwrap();
    assert_eq!((meta.rdev(), meta.mode() & 0o7777, meta.uid()), (device, 0o640, 1));
    let mut found = [0; 32];
    let length =
        rustix::fs::getxattr(two.to.path().join("f"), "security.capability", &mut found[..]).unwrap();
    assert_eq!(found[..length], capability);
}

#[test]
fn owners_by_name() {
    let two = Two::new("", "f etc/passwd = app:x:1000:1001::/:\nf etc/group = staff:x:50:");
    std::fs::write(two.to.path().join("etc/passwd"), "app:x:1000:1001::/:\n").unwrap();
    let root = Root::open(two.to.path()).unwrap();
    let empty = Root::open(two.from.path()).unwrap();
    let name = |name: &str| Name::Name(name.to_owned());
    let (app, staff, no) = (name("app"), name("staff"), name("no"));
    for (user, group, want) in [
        (Some((&app, Some(&root))), None, (1000, 1001)),
        (Some((&app, Some(&root))), Some((&staff, Some(&root))), (1000, 50)),
        (Some((&app, Some(&root))), Some((&no, Some(&root))), (1000, 1001)),
        (Some((&no, Some(&root))), None, (0, 0)),
        (Some((&app, Some(&empty))), None, (0, 0)),
        (Some((&Name::Id(7), None)), None, (7, 7)),
        (Some((&Name::Id(7), None)), Some((&Name::Id(8), None)), (7, 8)),
        (None, Some((&staff, Some(&root))), (0, 50)),
        (None, None, (0, 0)),
    ] {
        assert_eq!(Owner::find(user, group).unwrap(), Owner { uid: want.0, gid: want.1 });
    }
    assert!(Owner::find(Some((&app, None)), None).is_err());
    assert!(Owner::find(None, Some((&staff, None))).is_err());
}
