//! The same random steps on overlay mounts and on copies must leave the same.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooper_layer::{LayerId, TimeWindow, Timestamp};
use cooper_store::{Backend, Options, Store};

use super::help::{Random, commit, describe, layer_id, may_mount, scan};

const NAMES: &[&str] = &["a", "b", "c", "d"];

/// Draws a path of one to three names.
fn path(random: &mut Random) -> PathBuf {
    (0..=random.below(3)).map(|_| *random.pick(NAMES)).collect()
}

/// Does one random thing in a tree. Whether it works depends on what is there, and must be the same in both trees.
fn act(root: &Path, random: &mut Random) -> String {
    let (one, two) = (path(random), path(random));
    let (from, to) = (root.join(&one), root.join(&two));
    let number = random.below(3);
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let flags = rustix::fs::XattrFlags::empty();
    let what = random.below(20);
    let done = match what {
        0..=2 => fs::create_dir_all(&from),
        // Opening a pipe would wait for its other end.
        3..=4 if fs::metadata(&from).map_or(true, |found| found.is_file()) => {
            fs::write(&from, format!("{number}"))
        }
        5 if is_file(&from) => fs::File::options()
            .append(true)
            .open(&from)
            .and_then(|mut file| file.write_all(if number == 0 { b"" } else { b"more" })),
        6 if is_file(&from) => fs::File::options().read(true).write(true).open(&from).map(drop),
        7 => fs::remove_file(&from),
        8..=9 => fs::remove_dir_all(&from),
        10 if !is_dir(&from) => fs::rename(&from, &to),
        11 if !is_dir(&from) => fs::hard_link(&from, &to),
        12 => std::os::unix::fs::symlink(NAMES[number], &from),
        13 if is_file(&from) || is_dir(&from) => {
            let mode = [0o644, 0o755, 0o4711][number];
            fs::set_permissions(&from, fs::Permissions::from_mode(mode))
        }
        14 => std::os::unix::fs::lchown(&from, Some(number as u32), Some(0)),
        15 if is_file(&from) || is_dir(&from) => {
            // A literal time, or the one that it has.
            let time = match number {
                0 => UNIX_EPOCH + Duration::new(1_000_000, 5),
                _ => fs::metadata(&from).and_then(|found| found.modified()).unwrap(),
            };
            fs::File::open(&from).and_then(|file| file.set_modified(time))
        }
        16 => {
            let value = NAMES[number].as_bytes();
            rustix::fs::lsetxattr(&from, "user.a", value, flags).map_err(Into::into)
        }
        17 => rustix::fs::lremovexattr(&from, "user.a").map_err(Into::into),
        18 if is_dir(&from) => {
            // A directory that is emptied, and made again just as it was or not.
            let keep = fs::metadata(&from).unwrap();
            fs::remove_dir_all(&from).and_then(|()| fs::create_dir(&from)).and_then(|()| match number {
                0 => Ok(()),
                _ => fs::File::open(&from)?.set_modified(keep.modified()?),
            })
        }
        19 => {
            rustix::fs::mknodat(rustix::fs::CWD, &from, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
                .map_err(Into::into)
        }
        _ => Ok(()),
    };
    let done = done.map_err(|error| error.kind());
    format!("{what}/{number} {} {}: {done:?}", one.display(), two.display())
}

fn time(now: SystemTime) -> Timestamp {
    now.into()
}

/// Runs `steps` steps in both stores; each is a layer on the ones before.
fn compare(stores: [&Store; 2], seed: u64, steps: usize) {
    let mut layers: Vec<LayerId> = Vec::new();
    // A second back: new files may carry times from before the clock was read.
    let start = SystemTime::now() - Duration::from_secs(1);
    let now = time(start).seconds;
    for step in 0..steps {
        let mut logs = Vec::new();
        let mut uppers = Vec::new();
        let mut ids = Vec::new();
        let mut roots = Vec::new();
        for store in stores {
            let mut random = Random::new(seed * 1000 + step as u64);
            let workspace = store.workspace(&layers).unwrap();
            let count = random.below(if step == 0 { 60 } else { 15 });
            logs.push((0..count).map(|_| act(workspace.root(), &mut random)).collect::<Vec<_>>());
            roots.push(describe(workspace.root(), now));
            let pending = workspace.finish().unwrap();
            uppers.push(describe(pending.path(), now));
            let window = TimeWindow { start: time(start), end: time(SystemTime::now()) };
            ids.push(scan(store, pending.path(), &layers).content_id(Some(window)));
            let id = layer_id(&format!("{seed} {step}"));
            commit(store, pending, id, &layers);
        }
        layers.push(layer_id(&format!("{seed} {step}")));
        let context = || format!("seed {seed}, step {step}, {:#?}", logs[0]);
        assert_eq!(logs[0], logs[1], "{}", context());
        assert_eq!(ungrouped(&roots[0]), ungrouped(&roots[1]), "roots: {}", context());
        assert_eq!(uppers[0], uppers[1], "uppers: {}", context());
        assert_eq!(ids[0], ids[1], "indexes: {}", context());
        assert!(!uppers[0].contains("overlay"), "{}", uppers[0]);
        // What was committed shows what the step saw.
        for store in stores {
            let view = store.view(&layers).unwrap();
            let seen = describe(view.root(), now);
            assert_eq!(ungrouped(&seen), ungrouped(&roots[0]), "views: {}", context());
        }
    }
}

/// Takes groups of linked names out: on an overlay mount names of one file in a layer still count each other, though
/// writing to one does not change the other.
fn ungrouped(description: &str) -> String {
    let line = |line: &str| match line.split_once(" group ") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => line.to_owned(),
    };
    description.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn privileged_overlay_and_copy_agree_on_random_steps() {
    if !may_mount("overlay_and_copy_agree") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, backend| {
        let options = Options { backend, ..Default::default() };
        Store::open_with(dir.path().join(name), &options).unwrap()
    };
    let (overlay, copy) = (open("overlay", Backend::Overlay), open("copy", Backend::Copy));
    let seeds = std::env::var("COOPER_STORE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    for seed in 1..=seeds {
        compare([&overlay, &copy], seed, 5);
    }
    assert!(overlay.root().metadata().unwrap().ino() != copy.root().metadata().unwrap().ino());
}
