//! Trees as text: each line is `TYPE PATH [MODE] [= CONTENT or TARGET]`, with `d`, `f`, `l`, `p` (pipe), `s` (socket),
//! `h` (another name of the file behind `=`).

mod privileged;
mod unpacking;

use std::fmt::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use cooper_layer::Timestamp;

use super::*;

/// All files that a tree is made with are from then.
const OLD: Timestamp = Timestamp::new(1_000_000_000, 5);

fn make(root: &Path, tree: &str) {
    for line in tree.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, tail) = line.split_once(" = ").unwrap_or((line, ""));
        let mut words = head.split(' ');
        let (kind, path) = (words.next().unwrap(), root.join(words.next().unwrap()));
        let mode = words.next().map(|mode| u32::from_str_radix(mode, 8).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match kind {
            "d" => std::fs::create_dir_all(&path).unwrap(),
            "f" => std::fs::write(&path, tail).unwrap(),
            "l" => symlink(tail, &path).unwrap(),
            "h" => std::fs::hard_link(root.join(tail), &path).unwrap(),
            "s" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            "p" => {
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::from_raw_mode(0o600), 0)
                    .unwrap();
            }
            _ => panic!("{line}"),
        }
        if let Some(mode) = mode {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    age(root);
}

/// Gives everything the old time.
fn age(path: &Path) {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_dir() {
        for entry in path.read_dir().unwrap() {
            age(&entry.unwrap().path());
        }
    }
    let time = make::timespec(OLD);
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Writes a tree down, sorted. What is not from the old time ends in `new`.
fn show(root: &Path) -> String {
    fn walk(root: &Path, path: &Path, first: &mut std::collections::HashMap<u64, String>, out: &mut String) {
        let mut entries: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = path.symlink_metadata().unwrap();
            let (kind, mode) = (meta.file_type(), meta.mode() & 0o7777);
            if kind.is_symlink() {
                write!(out, "l {name} = {}", path.read_link().unwrap().display()).unwrap();
            } else if kind.is_dir() {
                write!(out, "d {name} {mode:o}").unwrap();
            } else if kind.is_fifo() {
                write!(out, "p {name} {mode:o}").unwrap();
            } else if let Some(first) = first.get(&meta.ino()) {
                write!(out, "h {name} = {first}").unwrap();
            } else {
                let content = std::fs::read_to_string(&path).unwrap();
                let content = if content.is_empty() { content } else { format!(" = {content}") };
                write!(out, "f {name} {mode:o}{content}").unwrap();
                first.insert(meta.ino(), name.clone());
            }
            let old = (meta.mtime(), meta.mtime_nsec()) == (OLD.seconds, OLD.nanos.into());
            writeln!(out, "{}", if old { "" } else { " new" }).unwrap();
            if kind.is_dir() {
                walk(root, &path, first, out);
            }
        }
    }
    let mut out = String::new();
    walk(root, root, &mut std::collections::HashMap::new(), &mut out);
    out
}

fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

struct Two {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
}

impl Two {
    fn new(from: &str, to: &str) -> Self {
        let two = Self { from: tempfile::tempdir().unwrap(), to: tempfile::tempdir().unwrap() };
        make(two.from.path(), from);
        make(two.to.path(), to);
        two
    }

    fn apply(&self, action: Action) -> Result<String, String> {
        let (from, to) = (Root::open(self.from.path()).unwrap(), Root::open(self.to.path()).unwrap());
        match apply(&action, &to, Some(&from)) {
            Ok(()) => Ok(show(self.to.path())),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                Err(format!("{error}{}", cause.unwrap_or_default()))
            }
        }
    }
}

/// A copy as `COPY` in a Dockerfile makes it.
fn dockerfile(src: &str, dest: &str) -> Copy {
    Copy {
        src: src.into(),
        dest: dest.into(),
        follow_links: true,
        dir_contents: true,
        create_dest_path: true,
        wildcards: true,
        allow_empty_wildcard: true,
        ..Copy::default()
    }
}

const CONTEXT: &str = "
    f a.txt 644 = alpha
    f b.txt 600 = beta
    d dir 750
    f dir/one 644 = 1
    d dir/sub 711
    f dir/sub/three 755 = 3
    d dir/empty 700
    l ln-f = a.txt
    l ln-d = dir
    l out = ../../../../../../etc/passwd
    l abs = /dir/one
    l dir/in = one
";

#[test]
fn copies_of_a_dockerfile() {
    let image = "
        d data 755
        f data/file 600 = old
        d data/dir 755
        l data/link = file
        l data/dirlink = dir
        l escape = /../../../../tmp
    ";
    // Source, destination, what is there afterwards beyond what was, or the error.
    let cases: [(&str, &str, Result<&str, &str>); 26] = [
        ("a.txt", "/new", Ok("f new 644 = alpha")),
        ("/a.txt", "new/", Ok("d new 755 new\nf new/a.txt 644 = alpha")),
        ("a.txt", "/x/y/z", Ok("d x 755 new\nd x/y 755 new\nf x/y/z 644 = alpha")),
        ("a.txt", "/data", Ok("d data 755 new\nf data/a.txt 644 = alpha")),
        ("a.txt", "/data/file", Ok("d data 755 new\nf data/file 644 = alpha")),
        ("a.txt", "/data/link", Ok("d data 755 new\nf data/file 644 = alpha")),
        ("a.txt", "/data/dirlink/", Ok("d data/dir 755 new\nf data/dir/a.txt 644 = alpha")),
        ("a.txt", "/data/../../../up", Ok("f up 644 = alpha")),
        ("a.txt", "/escape/esc", Ok("d tmp 755 new\nf tmp/esc 644 = alpha")),
        (
            "a.txt",
            "/data/file/x",
            Err("failed to make directory `/data/file`: Not a directory (os error 20)"),
        ),
        (
            "dir",
            "/d",
            Ok("d d 755\nd d/empty 700\nl d/in = one\nf d/one 644 = 1\nd d/sub 711\nf d/sub/three 755 = 3"),
        ),
        (
            "dir/",
            "/d/",
            Ok("d d 755\nd d/empty 700\nl d/in = one\nf d/one 644 = 1\nd d/sub 711\nf d/sub/three 755 = 3"),
        ),
        (
            "dir/.",
            "/d/",
            Ok("d d 755\nd d/empty 700\nl d/in = one\nf d/one 644 = 1\nd d/sub 711\nf d/sub/three 755 = 3"),
        ),
        (
            "dir/sub/..",
            "/d/",
            Ok("d d 755\nd d/empty 700\nl d/in = one\nf d/one 644 = 1\nd d/sub 711\nf d/sub/three 755 = 3"),
        ),
        ("dir/sub", "/data/dir", Ok("f data/dir/three 755 = 3")),
        ("dir/sub", "/data/dirlink", Ok("f data/dir/three 755 = 3")),
        ("dir", "/data/file", Err("cannot copy to non-directory: /data/file")),
        ("ln-f", "/w/", Ok("d w 755 new\nf w/ln-f 644 = alpha")),
        ("ln-d/sub", "/w", Ok("d w 755\nf w/three 755 = 3")),
        ("abs", "/w/", Ok("d w 755 new\nf w/abs 644 = 1")),
        ("out", "/w/", Err("\"/out\": not found")),
        ("a.txt/x", "/w/", Err("\"/a.txt/x\": not found")),
        ("*.txt", "/w/", Ok("d w 755 new\nf w/a.txt 644 = alpha\nf w/b.txt 600 = beta")),
        ("*.none", "/w/", Ok("")),
        ("d*/s?b/*", "/w", Ok("f w 755 = 3")),
        ("no/*", "/w", Err("\"/no\": not found")),
    ];
    for (src, dest, want) in cases {
        let two = Two::new(CONTEXT, image);
        let before = show(two.to.path());
        match (two.apply(Action::Copy(dockerfile(src, dest))), want) {
            (Ok(after), Ok(want)) => {
                let added: String = after
                    .lines()
                    .filter(|line| !before.lines().any(|old| old == *line))
                    .map(|line| format!("{line}\n"))
                    .collect();
                assert_eq!(added, lines(want), "{src} {dest}");
            }
            (Err(error), Err(want)) => assert_eq!(error, want, "{src} {dest}"),
            (got, _) => panic!("{src} {dest}: {got:?}"),
        }
    }
}

#[test]
fn trees_that_meet() {
    for (from, to, want) in [
        ("f t/dir = file", "d dir", Err("cannot replace to directory /dir with file")),
        ("f t/dir/x = x", "f dir = file", Err("cannot copy to non-directory: /dir")),
        ("f t/dir/x = x", "d real\nl dir = real", Err("cannot copy to non-directory: /dir")),
        ("f t/x 644 = new", "f y 600 = old\nl x = y", Ok("f x 644 = new\nf y 600 = old")),
        ("l t/x = elsewhere", "f x = old", Ok("l x = elsewhere")),
        ("l t/x = elsewhere", "l x = there", Ok("l x = elsewhere")),
        ("d t/d 700\nf t/d/x 644", "d d 755\nf d/y 644", Ok("d d 700\nf d/x 644\nf d/y 644")),
        ("f t/a 644 = 1\nh t/b = t/a\nf t/c 644 = 1", "", Ok("f a 644 = 1\nh b = a\nf c 644 = 1")),
        ("p t/p 622\nf t/x 644", "", Ok("p p 622\nf x 644")),
        ("s t/s 755\nf t/x 644", "", Ok("f s 755\nf x 644")),
        ("f t/s 4755\nd t/d 3770", "", Ok("d d 3770\nf s 4755")),
    ] {
        let got = Two::new(from, to).apply(Action::Copy(dockerfile("t", "/")));
        assert_eq!(got, want.map(lines).map_err(str::to_owned), "{from} onto {to}");
    }
    // With `replace`, whatever is in the way goes.
    for (from, to, want) in [
        ("f t/dir 644 = file", "f dir/x", "f dir 644 = file"),
        ("d t/dir 755\nf t/dir/x 644 = x", "f dir = file", "d dir 755\nf dir/x 644 = x"),
        (
            "d t/dir 755\nf t/dir/x 644 = x",
            "d real 755\nl dir = real",
            "d dir 755\nf dir/x 644 = x\nd real 755",
        ),
        (
            "d t/dir 755\nf t/dir/x 644 = x",
            "d dir 755\nf dir/y 644 = y",
            "d dir 755\nf dir/x 644 = x\nf dir/y 644 = y",
        ),
    ] {
        let copy = Copy { replace: true, ..dockerfile("t", "/") };
        assert_eq!(Two::new(from, to).apply(Action::Copy(copy)), Ok(lines(want)), "{from} onto {to}");
    }
}

#[test]
fn copies_of_plain_llb() {
    let plain = |src: &str, dest: &str| Copy { src: src.into(), dest: dest.into(), ..Copy::default() };
    let from = "d dir 700\nf dir/x 644 = x\nl link = dir\nf star* 644 = s";
    for (copy, to, want) in [
        // A directory itself: into one that is there, as one that is not.
        (
            plain("dir", "/there"),
            "d there 755",
            Ok("d there 755 new\nd there/dir 700\nf there/dir/x 644 = x"),
        ),
        (plain("dir", "/new"), "", Ok("d new 700\nf new/x 644 = x")),
        (plain("dir/.", "/there"), "d there 755", Ok("d there 755\nf there/x 644 = x")),
        (plain("link", "/new"), "", Ok("l new = dir")),
        (plain("link", "/"), "", Ok("l link = dir")),
        (plain("star*", "/n"), "", Ok("f n 644 = s")),
        (plain("dir/x", "/a/b"), "", Err("\"/a\": not found")),
        (plain("no", "/b"), "", Err("\"/no\": not found")),
        (Copy { wildcards: true, ..plain("n*", "/b") }, "", Err("\"/n*\": not found")),
        (Copy { wildcards: true, ..plain("link/*", "/b") }, "", Err("\"/link/*\": not found")),
        (
            Copy { mode: Some(0o1777), create_dest_path: true, dir_contents: true, ..plain("dir", "/d/e") },
            "",
            Ok("d d 777 new\nd d/e 777\nf d/e/x 1777 = x"),
        ),
        (
            Copy {
                mode_change: ModeChange::parse("u+s,go=u-w,+X"),
                create_dest_path: true,
                ..plain("dir", "/d/e")
            },
            "",
            Ok("d d 755 new\nd d/e 4755\nf d/e/x 4644 = x"),
        ),
        (
            Copy { mtime: Some(OLD), create_dest_path: true, ..plain("dir/x", "/d/e/") },
            "",
            Ok("d d 755\nd d/e 755\nf d/e/x 644 = x"),
        ),
    ] {
        let (src, dest) = (copy.src.clone(), copy.dest.clone());
        let got = Two::new(from, to).apply(Action::Copy(copy));
        assert_eq!(got, want.map(lines).map_err(str::to_owned), "{src} to {dest}");
    }
}

/// Hides what `hidden` says and looks into `look`.
fn filter(look: &'static [&'static str], hidden: &'static [&'static str]) -> Filter {
    Arc::new(move |path: &[u8], directory| {
        let path = std::str::from_utf8(path).unwrap();
        if hidden.contains(&path) {
            Verdict::Skip
        } else if look.contains(&path) {
            assert!(directory, "{path}");
            Verdict::Look
        } else {
            Verdict::Take
        }
    })
}

#[test]
fn filters() {
    let from = "
        d t 755
        d t/a 700
        d t/a/b 711
        f t/a/b/keep 644
        f t/a/b/drop 644
        d t/c 755
        f t/c/drop 644
        f t/top 644
    ";
    for (name, look, hidden, want) in [
        ("drop one", &[][..], &["a/b/drop", "c"][..], "d a 700\nd a/b 711\nf a/b/keep 644\nf top 644"),
        // A directory that is only looked into is made once something in it is taken, and not otherwise.
        (
            "look",
            &["a", "a/b", "c"],
            &["a/b/drop", "c/drop", "top"],
            "d a 700 new\nd a/b 711 new\nf a/b/keep 644",
        ),
    ] {
        let copy = Copy { filter: Some(filter(look, hidden)), ..dockerfile("t", "/") };
        assert_eq!(Two::new(from, "").apply(Action::Copy(copy)), Ok(lines(want)), "{name}");
    }
    // What is named itself is taken whatever the filter says.
    let copy = Copy { filter: Some(filter(&[], &["top", "t/top", ""])), ..dockerfile("t/top", "/") };
    assert_eq!(Two::new(from, "").apply(Action::Copy(copy)), Ok("f top 644\n".into()));

    // What is hidden of the source is not there, also not for patterns and links.
    let from = format!("{from}\nl link = t/c/drop\nl good = t/top");
    let hide = |src: &str, dest: &str| Copy {
        ignore: Some(filter(&["t/c", "t/a", "t/a/b"], &["t/c/drop", "t/a/b/drop"])),
        ..dockerfile(src, dest)
    };
    for (src, dest, want) in [
        ("t", "/", Ok("d a 700\nd a/b 711\nf a/b/keep 644\nf top 644")),
        ("t/*", "/w", Ok("d w 755 new\nd w/b 711\nf w/b/keep 644\nf w/top 644")),
        ("t/c/drop", "/", Err("\"/t/c/drop\": not found")),
        ("t/c", "/", Err("\"/t/c\": not found")),
        ("link", "/", Err("\"/link\": not found")),
        ("good", "/", Ok("f good 644")),
        ("t/?/*/dr*", "/", Ok("")),
    ] {
        let got = Two::new(&from, "").apply(Action::Copy(hide(src, dest)));
        assert_eq!(got, want.map(lines).map_err(str::to_owned), "{src} {dest}");
    }
}

#[test]
fn a_copy_of_a_root_into_itself_ends() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), "d a 755\nf a/x 644 = x");
    let root = Root::open(dir.path()).unwrap();
    apply(&Action::Copy(dockerfile("a", "/a/b/")), &root, Some(&root)).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("a/b/x")).unwrap(), "x");
    assert!(!dir.path().join("a/b/b").exists());
}

#[test]
fn making_and_removing() {
    let image = "d d 755\nf d/f 640 = old\nl link = d/f\nl dangling = d/new\nl dirlink = d\nl out = /../../etc\np pipe 600";
    let file = |path: &str| MakeFile {
        path: path.into(),
        mode: 0o4751,
        data: b"new".to_vec(),
        ..MakeFile::default()
    };
    let dir = |path: &str| MakeDir { path: path.into(), mode: 0o1711, ..MakeDir::default() };
    let remove = |path: &str| Remove { path: path.into(), ..Remove::default() };
    type Want<'a> = Result<(&'a str, &'a str), &'a str>;
    let cases: [(Action, Want<'_>); 26] = [
        // Lines that went, lines that came.
        (Action::MakeFile(file("/n")), Ok(("", "f n 751 = new new"))),
        (Action::MakeFile(MakeFile { mtime: Some(OLD), ..file("n") }), Ok(("", "f n 751 = new"))),
        (Action::MakeFile(file("/link")), Ok(("f d/f 640 = old", "f d/f 640 = new new"))),
        (Action::MakeFile(file("/dangling")), Ok(("d d 755", "d d 755 new\nf d/new 751 = new new"))),
        (Action::MakeFile(file("/d")), Err("failed to write `/d`: Is a directory (os error 21)")),
        (Action::MakeFile(file("/pipe")), Err("failed to write `/pipe`: not a regular file")),
        (
            Action::MakeFile(file("/no/n")),
            Err("failed to write `/no/n`: No such file or directory (os error 2)"),
        ),
        (Action::MakeDir(dir("/n")), Ok(("", "d n 711 new"))),
        (Action::MakeDir(dir("/d")), Ok(("", ""))),
        (Action::MakeDir(dir("/link")), Ok(("", ""))),
        (
            Action::MakeDir(dir("/a/b")),
            Err("failed to make directory `/a/b`: No such file or directory (os error 2)"),
        ),
        (Action::MakeDir(MakeDir { parents: true, ..dir("a/b/") }), Ok(("", "d a 711 new\nd a/b 711 new"))),
        (
            Action::MakeDir(MakeDir { parents: true, mtime: Some(OLD), ..dir("out/x") }),
            Ok(("", "d etc 711 new\nd etc/x 711")),
        ),
        (
            Action::MakeDir(MakeDir { parents: true, ..dir("/d/f/x") }),
            Err("failed to look at `/d/f/x`: Not a directory (os error 20)"),
        ),
        (
            Action::Symlink(Symlink {
                target: "../x".into(),
                path: "d/l".into(),
                mtime: Some(OLD),
                ..Symlink::default()
            }),
            Ok(("d d 755", "d d 755 new\nl d/l = ../x")),
        ),
        (
            Action::Symlink(Symlink { target: "x".into(), path: "link".into(), ..Symlink::default() }),
            Err("failed to make link `/link`: File exists (os error 17)"),
        ),
        (Action::Remove(remove("/d/f")), Ok(("d d 755\nf d/f 640 = old", "d d 755 new"))),
        (Action::Remove(remove("/dirlink/f")), Ok(("d d 755\nf d/f 640 = old", "d d 755 new"))),
        (Action::Remove(remove("/link")), Ok(("l link = d/f", ""))),
        (Action::Remove(remove("/d")), Ok(("d d 755\nf d/f 640 = old", ""))),
        (Action::Remove(remove("/dangling")), Err("\"/dangling\": not found")),
        (
            Action::Remove(Remove { allow_not_found: true, ..remove("/dangling") }),
            Ok(("l dangling = d/new", "")),
        ),
        (Action::Remove(Remove { allow_not_found: true, ..remove("/no/no") }), Ok(("", ""))),
        (Action::Remove(remove("/no")), Err("\"/no\": not found")),
        (Action::Remove(remove("/../")), Err("invalid path `/`")),
        (
            Action::Remove(Remove { wildcards: true, ..remove("/*link") }),
            Ok(("l dirlink = d\nl link = d/f", "")),
        ),
    ];
    for (action, want) in cases {
        let what = format!("{action:?}");
        let two = Two::new("", image);
        let before = show(two.to.path());
        match (two.apply(action), want) {
            (Ok(after), Ok((went, came))) => {
                let without = |all: &str, of: &str| -> String {
                    all.lines()
                        .filter(|line| !of.lines().any(|other| other == *line))
                        .map(|line| format!("{line}\n"))
                        .collect()
                };
                assert_eq!(
                    (without(&before, &after), without(&after, &before)),
                    (lines(went), lines(came)),
                    "{what}"
                );
            }
            (Err(error), Err(want)) => assert_eq!(error, want, "{what}"),
            (got, _) => panic!("{what}: {got:?}"),
        }
    }
}

#[test]
fn holes_stay_holes() {
    let two = Two::new("", "");
    let from = std::fs::File::create(two.from.path().join("sparse")).unwrap();
    from.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&from, b"middle", 32 << 20).unwrap();
    drop(from);
    two.apply(Action::Copy(dockerfile("sparse", "/copy"))).unwrap_err_or_content();
    let copy = std::fs::File::open(two.to.path().join("copy")).unwrap();
    let meta = copy.metadata().unwrap();
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() < 2048, "{} blocks", meta.blocks());
    let mut found = [0; 6];
    std::os::unix::fs::FileExt::read_exact_at(&copy, &mut found, 32 << 20).unwrap();
    assert_eq!(&found, b"middle");
}

/// The tree of a sparse file is no text.
trait Unread {
    fn unwrap_err_or_content(self);
}

impl Unread for Result<String, String> {
    fn unwrap_err_or_content(self) {
        assert!(self.unwrap().starts_with("f copy 644 = \0"));
    }
}

mod against_the_kernel {
    use proptest::prelude::*;
    use rustix::fs::OFlags;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        "[abc]"
    }

    fn path() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![4 => name(), 1 => Just("..".to_owned()), 1 => Just(".".to_owned())],
            1..5,
        )
        .prop_flat_map(|parts| (Just(parts.join("/")), any::<bool>()))
        .prop_map(|(path, absolute)| if absolute { format!("/{path}") } else { path })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// A root full of links to everywhere: what is found is what the kernel finds when it takes the root for `/`.
        #[test]
        fn resolving(links in proptest::collection::vec((path(), path()), 0..8), asked in path()) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
            std::fs::create_dir_all(dir.path().join("b")).unwrap();
            std::fs::write(dir.path().join("b/a"), "").unwrap();
            let root = Root::open(dir.path()).unwrap();
            // `.` and `..` behind what is missing are forgiven here, and not by the kernel.
            let forgiven = links.iter().any(|(_, target)| target.contains('.'));
            for (at, target) in links {
                // Made through the crate, so that a link that leads out would be noticed below.
                let _ = apply(&Action::Symlink(Symlink { target, path: at, ..Symlink::default() }), &root, None);
            }
            let ours = view::View::whole(&root).find(asked.as_bytes(), true);
            let cleaned = String::from_utf8(view::joined(&clean(asked.as_bytes()))).unwrap();
            match root.open_in_root(Path::new(&format!("/{cleaned}")), OFlags::PATH) {
                Ok(fd) => {
                    let found = ours.unwrap();
                    let meta = found.meta.unwrap();
                    let stat = rustix::fs::fstat(fd).unwrap();
                    prop_assert_eq!(meta.inode, (stat.st_dev, stat.st_ino), "{} is {:?}", asked, found.path);
                }
                Err(error) => match ours {
                    Ok(found) => prop_assert!(found.meta.is_none() || forgiven, "{}: {:?}, {}", asked, found.path, error),
                    // Both gave up; which of them met the loop first depends on what is missing in it.
                    Err(FileError::Loop(_)) => {}
                    Err(FileError::Io { source, .. }) => prop_assert_eq!(source.kind(), std::io::ErrorKind::NotADirectory),
                    Err(other) => prop_assert!(false, "{other}"),
                },
            }
        }
    }
}
