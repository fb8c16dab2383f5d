use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use cooper_layer::{Entry, Index, Kind, LayerId, LayerPath, OverlayXattrs, Owners};
use cooper_store::{Backend, Committed, LayerMeta, Options, Store};

use super::help::{commit, layer_id, may_mount, scan, small_layer, store};

fn copying(root: &Path) -> Store {
    let options = Options { backend: Backend::Copy, ..Default::default() };
    Store::open_with(root, &options).unwrap()
}

/// Both ways of making roots, as far as they are allowed.
fn backends(test: &str, run: impl Fn(&Store, bool)) {
    let dir = tempfile::tempdir().unwrap();
    run(&copying(&dir.path().join("copy")), false);
    if may_mount(test) {
        let options = Options { backend: Backend::Overlay, ..Default::default() };
        run(&Store::open_with(dir.path().join("overlay"), &options).unwrap(), true);
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
    }
}

/// Runs something in a workspace and commits what it wrote.
fn step(store: &Store, lower: &[LayerId], name: &str, run: impl FnOnce(&Path)) -> LayerId {
    let workspace = store.workspace(lower).unwrap();
    run(workspace.root());
    let pending = workspace.finish().unwrap();
    let id = layer_id(name);
    assert!(matches!(commit(store, pending, id, lower), Committed::New(_)));
    id
}

fn entries(store: &Store, id: LayerId) -> Vec<String> {
    let index = store.index(id).unwrap().unwrap();
    let name = |entry: &Entry| {
        let sign = if entry.is_whiteout() { "-" } else { "" };
        format!("{sign}{}", String::from_utf8_lossy(entry.path.as_bytes()))
    };
    index.iter().map(name).collect()
}

#[test]
fn privileged_a_step_sees_the_layers_and_leaves_what_it_wrote() {
    backends("a_step_sees_the_layers", |store, overlay| {
        let base = step(store, &[], "base", |root| {
            assert_eq!(fs::read_dir(root).unwrap().count(), 0);
            fs::create_dir_all(root.join("etc/deep")).unwrap();
            fs::write(root.join("etc/a"), "a").unwrap();
            fs::write(root.join("etc/b"), "b").unwrap();
            fs::write(root.join("etc/deep/c"), "c").unwrap();
        });
        assert_eq!(entries(store, base), ["etc", "etc/a", "etc/b", "etc/deep", "etc/deep/c"]);
        let workspace = store.workspace(&[base]).unwrap();
        assert_eq!((workspace.is_overlay(), workspace.layers()), (overlay, &[base][..]));
        drop(workspace);
        let top = step(store, &[base], "top", |root| {
            assert_eq!(fs::read_to_string(root.join("etc/deep/c")).unwrap(), "c");
            fs::write(root.join("etc/a"), "changed").unwrap();
            fs::remove_file(root.join("etc/b")).unwrap();
            fs::remove_dir_all(root.join("etc/deep")).unwrap();
            fs::write(root.join("new"), "new").unwrap();
        });
        assert_eq!(entries(store, top), ["etc", "etc/a", "-etc/b", "-etc/deep", "new"]);
        let view = store.view(&[base, top]).unwrap();
        let read = |path: &str| fs::read_to_string(view.root().join(path)).ok();
        assert_eq!(read("etc/a").as_deref(), Some("changed"));
        assert_eq!(read("new").as_deref(), Some("new"));
        assert_eq!((read("etc/b"), read("etc/deep/c")), (None, None));
        // The base is as it was.
        let view = store.view(&[base]).unwrap();
        assert_eq!(fs::read_to_string(view.root().join("etc/a")).unwrap(), "a");
        if overlay {
            let error = fs::write(view.root().join("etc/a"), "x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        }
    });
}

#[test]
fn privileged_a_directory_made_again_hides_by_whiteouts() {
    backends("a_directory_made_again", |store, _| {
        let base = step(store, &[], "base", |root| {
            fs::create_dir_all(root.join("d/sub")).unwrap();
            fs::create_dir_all(root.join("d/again/in")).unwrap();
            fs::write(root.join("d/a"), "a").unwrap();
            fs::write(root.join("d/b"), "b").unwrap();
            fs::write(root.join("f"), "f").unwrap();
        });
        let top = step(store, &[base], "top", |root| {
            fs::remove_dir_all(root.join("d")).unwrap();
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/b"), "other").unwrap();
            // Overlayfs does not mark this one: what is above it hides it.
            fs::create_dir(root.join("d/again")).unwrap();
            fs::remove_file(root.join("f")).unwrap();
            fs::create_dir(root.join("f")).unwrap();
        });
        assert_eq!(entries(store, top), ["d", "-d/a", "d/again", "-d/again/in", "d/b", "-d/sub", "f"]);
        // On disk, too: a directory of the layer that is laid on something else must mean the same.
        let dir = store.snapshot_dir(top).unwrap().unwrap();
        assert_eq!(fs::symlink_metadata(dir.join("d/a")).unwrap().rdev(), 0);
        let mut value = [0; 8];
        assert!(rustix::fs::lgetxattr(dir.join("d"), "trusted.overlay.opaque", &mut value[..]).is_err());
    });
}

#[test]
fn privileged_what_was_only_opened_or_put_back_is_not_written() {
    backends("what_was_only_opened", |store, _| {
        let base = step(store, &[], "base", |root| {
            fs::create_dir_all(root.join("var/lib")).unwrap();
            for name in ["lock", "mode", "time", "moved", "linked"] {
                fs::write(root.join("var/lib").join(name), name).unwrap();
            }
        });
        let open = |path: &Path| fs::File::options().read(true).write(true).open(path).unwrap();
        let top = step(store, &[base], "top", |root| {
            let lib = root.join("var/lib");
            let before = fs::metadata(&lib).unwrap().modified().unwrap();
            drop(open(&lib.join("lock")));
            fs::set_permissions(lib.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::set_permissions(lib.join("mode"), fs::Permissions::from_mode(0o644)).unwrap();
            let time = fs::metadata(lib.join("time")).unwrap().modified().unwrap();
            fs::write(lib.join("time"), "TIME").unwrap();
            fs::write(lib.join("time"), "time").unwrap();
            open(&lib.join("time")).set_modified(time).unwrap();
            fs::rename(lib.join("moved"), lib.join("away")).unwrap();
            fs::rename(lib.join("away"), lib.join("moved")).unwrap();
            fs::hard_link(lib.join("linked"), lib.join("second")).unwrap();
            fs::remove_file(lib.join("second")).unwrap();
            fs::File::open(&lib).unwrap().set_modified(before).unwrap();
        });
        assert_eq!(entries(store, top), Vec::<String>::new());
        let top = step(store, &[base], "link", |root| {
            fs::hard_link(root.join("var/lib/linked"), root.join("second")).unwrap();
        });
        // The layer says what is new, as BuildKit's differ does; on disk both are still one file for later steps.
        assert_eq!(entries(store, top), ["second"]);
        let dir = store.snapshot_dir(top).unwrap().unwrap();
        let inode = |name: &str| fs::metadata(dir.join(name)).unwrap().ino();
        assert_eq!(inode("second"), inode("var/lib/linked"));
    });
}

#[test]
fn privileged_names_of_one_file_in_a_layer_are_written_apart() {
    backends("names_of_one_file", |store, _| {
        let base = step(store, &[], "base", |root| {
            fs::write(root.join("a"), "1").unwrap();
            fs::hard_link(root.join("a"), root.join("b")).unwrap();
        });
        let index = store.index(base).unwrap().unwrap();
        assert!(index.iter().all(|entry| entry.hard_link == Some(0)));
        let top = step(store, &[base], "top", |root| {
            fs::write(root.join("a"), "2").unwrap();
            assert_eq!(fs::read_to_string(root.join("b")).unwrap(), "1");
        });
        assert_eq!(entries(store, top), ["a"]);
    });
}

#[test]
fn privileged_a_directory_that_an_archive_left_out_keeps_its_mode() {
    backends("a_directory_that_an_archive_left_out", |store, _| {
        let base = step(store, &[], "base", |root| {
            fs::create_dir_all(root.join("tmp/in")).unwrap();
            fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
            fs::set_permissions(root.join("tmp/in"), fs::Permissions::from_mode(0o700)).unwrap();
        });
        let pending = store.begin_snapshot().unwrap();
        fs::create_dir_all(pending.path().join("tmp/in")).unwrap();
        fs::write(pending.path().join("tmp/in/file"), "x").unwrap();
        let scanned = scan(store, pending.path(), &[]);
        let implied = |entry: &Entry| matches!(entry.kind, Kind::Directory { .. });
        let entries = scanned.iter().map(|entry| Entry { implied: implied(entry), ..entry.clone() });
        let index = Index::new(entries.collect()).unwrap();
        let middle = layer_id("middle");
        store.commit_layer(pending, middle, &index, &LayerMeta::default()).unwrap();

        let mode = |root: &Path, path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
        let top = step(store, &[base, middle], "top", |root| {
            assert_eq!((mode(root, "tmp"), mode(root, "tmp/in")), (0o1777, 0o700));
            fs::write(root.join("tmp/new"), "x").unwrap();
        });
        let index = store.index(top).unwrap().unwrap();
        let paths: Vec<_> = index.iter().map(|entry| (entry.path.clone(), entry.mode)).collect();
        let path = |text: &str| LayerPath::new(text).unwrap();
        assert_eq!(paths, [(path("tmp"), 0o1777), (path("tmp/new"), 0o644)]);
        for (layers, tmp, inner) in [(&[base, middle, top][..], 0o1777, 0o700), (&[middle], 0o755, 0o755)] {
            let view = store.view(layers).unwrap();
            assert_eq!((mode(view.root(), "tmp"), mode(view.root(), "tmp/in")), (tmp, inner));
            assert!(view.root().join("tmp/in/file").exists());
        }
    });
}

#[test]
fn privileged_more_layers_than_the_kernel_takes() {
    if !may_mount("more_layers_than_the_kernel_takes") {
        return;
    }
    let (_dir, store) = store();
    let mut layers: Vec<LayerId> = Vec::new();
    for number in 0..1010 {
        let pending = store.begin_snapshot().unwrap();
        fs::write(pending.path().join(format!("f{number}")), "x").unwrap();
        if number > 0 {
            // Each removes what the one before made; the last of the lowest ones does it across the seam.
            let gone = pending.path().join(format!("f{}", number - 1));
            let mode = rustix::fs::Mode::empty();
            rustix::fs::mknodat(rustix::fs::CWD, &gone, rustix::fs::FileType::CharacterDevice, mode, 0)
                .unwrap();
        }
        let id = layer_id(&format!("layer {number}"));
        store.commit_layer(pending, id, &Index::default(), &LayerMeta::default()).unwrap();
        layers.push(id);
    }
    for count in [1, 2, 499, 500, 501, 510, 999] {
        let view = store.view(&layers[..count]).unwrap();
        let names: Vec<_> = fs::read_dir(view.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [format!("f{}", count - 1).as_str()], "{count}");
        let workspace = store.workspace(&layers[..count]).unwrap();
        assert!(workspace.is_overlay(), "{count}");
        fs::write(workspace.root().join("new"), "x").unwrap();
        let pending = workspace.finish().unwrap();
        assert!(pending.path().join("new").exists());
    }
    // Above that, a copy.
    let workspace = store.workspace(&layers).unwrap();
    assert!(!workspace.is_overlay());
    assert_eq!(fs::read_dir(workspace.root()).unwrap().count(), 1);
    // That is no reason to copy others.
    assert!(store.workspace(&layers[..3]).unwrap().is_overlay());
}

#[test]
fn privileged_dropping_leaves_no_mount_and_no_file() {
    if !may_mount("dropping_leaves_no_mount") {
        return;
    }
    let (_dir, store) = store();
    let base = small_layer(&store, "a");
    let tmp = fs::read_dir(store.root().join("tmp")).unwrap().next().unwrap().unwrap().path();
    let mounts = || {
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        text.lines().filter(|line| line.contains(store.root().to_str().unwrap())).count()
    };
    let workspace = store.workspace(&[base]).unwrap();
    let view = store.view(&[base]).unwrap();
    assert_eq!(mounts(), 2);
    // Somebody still has a file of it open.
    let open = fs::File::create(workspace.root().join("open")).unwrap();
    drop(workspace);
    drop(view);
    assert_eq!(mounts(), 0);
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    drop(open);
    let other = store.workspace(&[base, layer_id("unknown")]);
    assert!(matches!(other, Err(cooper_store::Error::Lost(_))));
    assert_eq!((mounts(), fs::read_dir(&tmp).unwrap().count()), (0, 0));
}

#[test]
fn what_is_copied_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = copying(dir.path());
    let base = step(&store, &[], "base", |root| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/set"), "x").unwrap();
        fs::set_permissions(root.join("d/set"), fs::Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::symlink("../nowhere", root.join("d/link")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("d"), "user.a", b"1", flags).unwrap();
        rustix::fs::setxattr(root.join("d/set"), "user.b", b"2", flags).unwrap();
        fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o2555)).unwrap();
    });
    let now = i64::MAX;
    let view = store.view(&[base]).unwrap();
    let copy = super::help::describe(view.root(), now);
    assert_eq!(copy, super::help::describe(&store.snapshot_dir(base).unwrap().unwrap(), now));
    assert!(copy.contains("4755") || copy.contains("104755"), "{copy}");
}

/// What a process in a user namespace with a single id does; see the test below.
pub(super) fn rootless(root: &Path) {
    let options = Options { owners: Owners::Record, ..Default::default() };
    let store = Store::open_with(root, &options).unwrap();
    assert_eq!((store.overlay_xattrs(), store.owners()), (OverlayXattrs::User, Owners::Record));
    let base = step(&store, &[], "base", |root| {
        fs::create_dir_all(root.join("d/sub")).unwrap();
        fs::write(root.join("d/a"), "a").unwrap();
    });
    // The attribute that unpacking leaves where it may not set an owner.
    let dir = store.snapshot_dir(base).unwrap().unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("d/a"), "user.cooper.owner", b"5:6", flags).unwrap();
    let workspace = store.workspace(&[base]).unwrap();
    super::crash::say(&format!("overlay {}", workspace.is_overlay()));
    fs::set_permissions(workspace.root().join("d/a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir(workspace.root().join("d/sub")).unwrap();
    let pending = workspace.finish().unwrap();
    let top = layer_id("top");
    assert!(matches!(commit(&store, pending, top, &[base]), Committed::New(_)));
    assert_eq!(entries(&store, top), ["d", "d/a", "-d/sub"]);
    let index = store.index(top).unwrap().unwrap();
    let changed = index.get(&LayerPath::new("d/a").unwrap()).unwrap();
    assert_eq!((changed.uid, changed.gid, changed.mode), (5, 6, 0o600));
    super::crash::say("done");
}

#[test]
fn privileged_in_a_user_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    let mut child = super::help::start_by(command, "rootless", &[root.to_str().unwrap()]);
    let said: Vec<_> = super::crash::lines(&mut child).collect();
    if !child.wait().unwrap().success() && said.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "this test needs user namespaces");
        println!("in_a_user_namespace: skipped, user namespaces are refused here");
        return;
    }
    assert_eq!(said, ["overlay true", "done"]);
    // Outside, the owners of its files mean something else.
    let store = Store::open(&root).unwrap();
    assert_eq!(store.usage().unwrap().snapshots.count, 2);
    let error = store.view(&[layer_id("base")]).unwrap_err();
    assert!(matches!(error, cooper_store::Error::Ids { .. }), "{error}");
    assert!(error.hint().is_some());
}
