use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::options::OverlayXattrs;
use crate::testing::{path, privileged};

fn set_xattr(at: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(at, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn options() -> ScanOptions {
    ScanOptions { overlay: OverlayXattrs::User, ..ScanOptions::default() }
}

fn lower(paths: &[&str]) -> Index {
    let entries = paths.iter().map(|text| {
        let kind = if text.ends_with('/') {
            Kind::Directory { opaque: false }
        } else {
            Kind::File { size: 0, digest: Digest::of("") }
        };
        Entry::new(path(text.trim_end_matches('/')), kind, 0o755)
    });
    Index::new(entries.collect()).unwrap()
}

fn names(index: &Index) -> Vec<String> {
    index
        .iter()
        .map(|entry| {
            let mark = if entry.is_whiteout() { "-" } else { "" };
            format!("{mark}{}", String::from_utf8_lossy(entry.path.as_bytes()))
        })
        .collect()
}

#[test]
fn opaque_directories_become_whiteouts_all_the_way_down() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    std::fs::create_dir_all(at.join("d/same/new")).unwrap();
    std::fs::create_dir_all(at.join("plain")).unwrap();
    std::fs::write(at.join("d/kept"), "").unwrap();
    set_xattr(&at.join("d"), "user.overlay.opaque", b"y");
    set_xattr(&at.join("plain"), "user.overlay.opaque", b"x");
    let below =
        lower(&["d/", "d/kept", "d/gone", "d/same/", "d/same/x", "d/tree/", "d/tree/f", "plain/", "plain/f"]);
    let index = scan(&Directory::open(at).unwrap(), Merged::new(&[&below]), &options()).unwrap();
    assert_eq!(names(&index), ["d", "-d/gone", "d/kept", "d/same", "d/same/new", "-d/same/x", "-d/tree"]);
    assert!(index.is_explicit());
    // Over nothing there is nothing to hide.
    let alone = scan(&Directory::open(at).unwrap(), Merged::new(&[]), &options()).unwrap();
    assert_eq!(names(&alone), ["d", "d/kept", "d/same", "d/same/new", "plain"]);
}

#[test]
fn sockets_are_left_out_and_partial_copies_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
    std::fs::write(at.join("f"), "content").unwrap();
    let directory = Directory::open(at).unwrap();
    assert_eq!(names(&scan(&directory, Merged::new(&[]), &options()).unwrap()), ["f"]);
    set_xattr(&at.join("f"), "user.overlay.metacopy", b"");
    let error = scan(&directory, Merged::new(&[]), &options()).unwrap_err();
    assert!(error.to_string().contains("metacopy=off"), "{error}");
}

#[test]
fn recorded_owners_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    std::fs::write(at.join("f"), "").unwrap();
    std::fs::hard_link(at.join("f"), at.join("g")).unwrap();
    set_xattr(&at.join("f"), OWNER_XATTR, b"1000:50");
    symlink("target", at.join("l")).unwrap();
    std::fs::hard_link(at.join("l"), at.join("m")).unwrap();
    symlink("new target", at.join("n")).unwrap();
    let link = |at: &str, target: &str| {
        let mut entry = Entry::new(path(at), Kind::Symlink { target: target.into() }, 0o777);
        (entry.uid, entry.gid) = (7, 8);
        entry
    };
    let below = Index::new(vec![link("l", "target"), link("m", "target"), link("n", "old target")]).unwrap();
    let directory = Directory::open(at).unwrap();
    let run = |owners| {
        let options = ScanOptions { owners, ..options() };
        let index = scan(&directory, Merged::new(&[&below]), &options).unwrap();
        index.iter().map(|entry| (entry.uid, entry.gid, entry.xattrs.len())).collect::<Vec<_>>()
    };
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), 0);
    let file = (1000, 50, 0);
    assert_eq!(run(Owners::Record), [file, file, (7, 8, 0), (7, 8, 0), me]);
    assert_eq!(run(Owners::Set), [me; 5]);
}

#[test]
fn hard_links_are_hashed_once_and_grouped() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    std::fs::create_dir(at.join("d")).unwrap();
    for number in 0..300 {
        std::fs::write(at.join(format!("d/{number}")), format!("content {number}")).unwrap();
    }
    std::fs::hard_link(at.join("d/7"), at.join("seven")).unwrap();
    let directory = Directory::open(at).unwrap();
    let index = scan(&directory, Merged::new(&[]), &ScanOptions { threads: 4, ..options() }).unwrap();
    for number in 0..300 {
        let text = format!("content {number}");
        let entry = index.get(&path(&format!("d/{number}"))).unwrap();
        assert_eq!(entry.kind, Kind::File { size: text.len() as u64, digest: Digest::of(&text) });
        assert_eq!(entry.hard_link.is_some(), number == 7);
    }
    assert_eq!(index.get(&path("seven")).unwrap().hard_link, Some(0));
}

/// What a real overlay mount leaves in its upper directory, applied to the lower layer's index, is what was seen on the
/// mount.
#[test]
fn privileged_a_real_overlay_mount() {
    if !privileged() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    // A tmpfs of its own, as an overlay's upper directory cannot be on every file system; all in a mount namespace that
    // ends with the shell.
    let script = r#"
set -e
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir low up work root
mkdir -p low/d/sub low/e low/swap
echo 1 > low/d/one; echo 2 > low/d/sub/two; echo 3 > low/e/three; echo 4 > low/gone; echo 5 > low/swap/five; echo 6 > low/kept
echo 7 > low/chmod
mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work,redirect_dir=off,metacopy=off root
rm root/gone
rm -r root/d; mkdir -p root/d/sub; echo new > root/d/sub/new
rm -r root/swap; echo file > root/swap
chmod 600 root/chmod
ln root/chmod root/other
(cd root && find . -mindepth 1 | sort) > seen
umount root
tar -C up --xattrs --xattrs-include='*' -cf up.tar .
tar -C low -cf low.tar .
cp up.tar low.tar seen "$2"
"#;
    let (mount, out) = (scratch.path().join("mount"), scratch.path().join("out"));
    std::fs::create_dir(&mount).unwrap();
    std::fs::create_dir(&out).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&mount, &out])
        .output()
        .unwrap();
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        return eprintln!("skipped: {reason}");
    }
    let up = scratch.path().join("up");
    std::fs::create_dir(&up).unwrap();
    let status = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-xpf"])
        .arg(out.join("up.tar"))
        .arg("-C")
        .arg(&up)
        .status()
        .unwrap();
    assert!(status.success());
    let low = scratch.path().join("low");
    std::fs::create_dir(&low).unwrap();
    let archive = std::fs::read(out.join("low.tar")).unwrap();
    let low =
        crate::unpack(&archive[..], &Directory::open(&low).unwrap(), &Default::default()).unwrap().index;
    let index = scan(&Directory::open(&up).unwrap(), Merged::new(&[&low]), &ScanOptions::default()).unwrap();
    assert_eq!(
        names(&index),
        ["chmod", "d", "-d/one", "d/sub", "d/sub/new", "-d/sub/two", "-gone", "other", "swap"]
    );
    assert_eq!(index.get(&path("other")).unwrap().hard_link, Some(0));

    let both = [&low, &index];
    let merged = Merged::new(&both);
    let mut seen = Vec::new();
    let mut todo = vec![LayerPath::root()];
    while let Some(directory) = todo.pop() {
        for (_, entry) in merged.children(&directory) {
            seen.push(format!("./{}", String::from_utf8_lossy(entry.path.as_bytes())));
            if entry.is_directory() {
                todo.push(entry.path.clone());
            }
        }
    }
    seen.sort();
    let expected = std::fs::read_to_string(out.join("seen")).unwrap();
    let mut expected: Vec<&str> = expected.lines().collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

/// Makes the same tree twice and changes one; says what the layer holds.
fn changed(change: impl Fn(&Path)) -> Vec<String> {
    let make = |at: &Path| {
        std::fs::create_dir_all(at.join("d/e")).unwrap();
        for name in ["d/e/f", "d/g"] {
            std::fs::write(at.join(name), "text").unwrap();
        }
        symlink("f", at.join("d/e/l")).unwrap();
        for name in ["d/e/f", "d/g", "d/e", "d"] {
            set_time(&at.join(name), 1000);
        }
        let time = rustix::fs::Timespec { tv_sec: 1000, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, at.join("d/e/l"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    let (below, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(below.path());
    make(above.path());
    change(above.path());
    let index = |at: &Path, lower: &[&Index]| {
        scan(&Directory::open(at).unwrap(), Merged::new(lower), &options()).unwrap()
    };
    names(&index(above.path(), &[&index(below.path(), &[])]))
}

fn set_time(at: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    std::fs::File::open(at).unwrap().set_modified(time).unwrap();
}

#[test]
fn what_was_copied_up_unchanged_is_left_out() {
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(changed(|_| ()), [""; 0]);
    assert_eq!(changed(|at| set_time(&at.join("d"), 2000)), [""; 0], "the time of a directory");
    assert_eq!(changed(|at| set_time(&at.join("d/e/f"), 2000)), ["d", "d/e", "d/e/f"], "that of a file");
    assert_eq!(
        changed(|at| {
            std::fs::write(at.join("d/g"), "TEXT").unwrap();
            set_time(&at.join("d/g"), 1000);
        }),
        ["d", "d/g"],
        "the same size and time"
    );
    assert_eq!(
        changed(
            |at| std::fs::set_permissions(at.join("d/e"), std::fs::Permissions::from_mode(0o700)).unwrap()
        ),
        ["d", "d/e"],
    );
    assert_eq!(
        changed(|at| set_xattr(&at.join("d/e/f"), "user.note", b"x")),
        ["d", "d/e", "d/e/f"],
        "an attribute"
    );
    assert_eq!(
        changed(|at| std::fs::hard_link(at.join("d/g"), at.join("d/e/new")).unwrap()),
        ["d", "d/e", "d/e/new"],
        "a new name of an old file"
    );
    assert_eq!(
        changed(|at| {
            std::fs::remove_file(at.join("d/e/l")).unwrap();
            symlink("g", at.join("d/e/l")).unwrap();
        }),
        ["d", "d/e", "d/e/l"],
    );
}
