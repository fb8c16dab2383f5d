use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use cooper_oci::Digest;
use cooper_store::{Publish, Store};

use super::help::{Random, layer_id, may_mount, scan, small_layer, start, store};
use super::records::record;

/// The parts of tests that are processes of their own.
#[test]
#[ignore = "started by other tests as a process of its own"]
fn child() {
    let Ok(role) = std::env::var("COOPER_STORE_ROLE") else { panic!("not started by a test") };
    let arguments = std::env::var("COOPER_STORE_ARGUMENTS").unwrap();
    let arguments: Vec<_> = arguments.split('\n').collect();
    let root = Path::new(arguments[0]);
    match role.as_str() {
        "publish" => publish(root, arguments[1]),
        "write" => write(root, arguments[1].parse().unwrap()),
        "hold" => hold(root),
        "open" => super::flights::open_new(root),
        "mount" => mount(root),
        "fly" => super::flights::fly(root, arguments[1], arguments[2].parse().unwrap()),
        "attempt" => super::flights::attempt(root),
        "rootless" => super::mounts::rootless(root),
        other => panic!("unknown role {other}"),
    }
}

pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write a line: what the parent has read was true.
    out.write_all(format!("\n> {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Makes a layer and publishes it, as 15 others do at the same time.
fn publish(root: &Path, name: &str) {
    let store = Store::open(root).unwrap();
    say("ready");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    for round in 0..20 {
        let own = small_layer(&store, &format!("{name} {round}"));
        let shared = small_layer(&store, &format!("shared {round}"));
        let mine = record(&format!("key {round}"), name, &[shared, own]);
        let published = store.publish(&mine, Publish::First).unwrap();
        assert_eq!(published.won, published.record == mine);
        assert!(store.presence(&published.record.outputs[0].layers).unwrap().iter().all(|p| p.snapshot));
        say(&format!("{round} {} {}", published.won, published.record.outputs[0].result));
    }
}

/// Writes without end.
fn write(root: &Path, seed: u64) {
    let store = Store::open(root).unwrap();
    let mut random = Random::new(seed);
    for round in 0.. {
        let name = format!("{seed} {round}");
        let pending = store.begin_snapshot().unwrap();
        for number in 0..random.below(20) {
            fs::create_dir_all(pending.path().join(format!("d{}", number % 3))).unwrap();
            let size = random.below(20_000);
            fs::write(pending.path().join(format!("d{}/f{number}", number % 3)), vec![b'x'; size]).unwrap();
        }
        let index = scan(&store, pending.path(), &[]);
        let id = layer_id(&name);
        store.commit_layer(pending, id, &index, &Default::default()).unwrap();
        say(&format!("layer {name}"));
        let mut writer = store.blob_writer().unwrap();
        for _ in 0..random.below(10) {
            writer.write_all(&vec![round as u8; random.below(50_000)]).unwrap();
        }
        writer.write_all(name.as_bytes()).unwrap();
        let (digest, _) = writer.commit(None).unwrap();
        say(&format!("blob {}", digest.hex()));
        store.publish(&record(&name, &name, &[id]), Publish::First).unwrap();
        say(&format!("record {name}"));
        store.memo_put("memo", &Digest::of(&name), &vec![1; random.below(3000)]).unwrap();
        store.put_memo_file("file", &Digest::of("one"), &vec![1; 10_000]).unwrap();
    }
}

/// Holds a layer, and has unfinished work, until it is killed.
fn hold(root: &Path) {
    let store = Store::open(root).unwrap();
    store.hold_layers(&[layer_id("held")]).unwrap();
    let pending = store.begin_snapshot().unwrap();
    fs::write(pending.path().join("half"), "x").unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"half").unwrap();
    say("ready");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Mounts, in the namespace of who started it, until it is killed.
fn mount(root: &Path) {
    let store = Store::open(root).unwrap();
    let workspace = store.workspace(&[layer_id("a")]).unwrap();
    assert!(workspace.is_overlay());
    fs::write(workspace.root().join("half"), "x").unwrap();
    let _view = store.view(&[layer_id("a")]).unwrap();
    say("ready");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub(crate) fn lines(child: &mut std::process::Child) -> impl Iterator<Item = String> + use<> {
    let out = BufReader::new(child.stdout.take().unwrap());
    out.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("> ").map(str::to_owned))
}

#[test]
fn sixteen_processes_publish_one_key() {
    let (_dir, store) = store();
    let root = store.root().to_str().unwrap();
    let mut children: Vec<_> =
        (0..16).map(|number| start("publish", &[root, &format!("process {number}")])).collect();
    let mut outs: Vec<_> = children.iter_mut().map(lines).collect();
    for out in &mut outs {
        assert_eq!(out.next().as_deref(), Some("ready"));
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"!").unwrap();
    }
    let all: Vec<Vec<String>> = outs.into_iter().map(Iterator::collect).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for round in 0..20 {
        let answers: Vec<_> = all
            .iter()
            .flatten()
            .filter_map(|line| line.strip_prefix(&format!("{round} ")))
            .map(|line| line.split_once(' ').unwrap())
            .collect();
        assert_eq!(answers.len(), 16);
        assert_eq!(answers.iter().filter(|(won, _)| *won == "true").count(), 1, "{answers:?}");
        let results: BTreeSet<_> = answers.iter().map(|(_, result)| result).collect();
        assert_eq!(results.len(), 1, "{answers:?}");
        // And it is what everybody finds from now on.
        let found = store.find(&Digest::of(format!("key {round}"))).unwrap().unwrap();
        assert_eq!(results.first().unwrap().to_string(), found.outputs[0].result.to_string());
    }
    let usage = store.usage().unwrap();
    assert_eq!((usage.records, usage.layers, usage.snapshots.count, usage.holders), (20, 340, 340, 1));
    check(&store, 0);
}

/// Looks through a whole store: every row has its bytes, every file has its row, and nothing unfinished is left.
pub(crate) fn check(store: &Store, begun: usize) {
    let root = store.root();
    store.sweep().unwrap();
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(dir)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let layers = store.all_layers().unwrap();
    let claimed: BTreeSet<_> =
        layers.iter().filter(|layer| layer.snapshot.is_some()).map(|layer| layer.id.digest().hex()).collect();
    assert_eq!(names("snapshots"), claimed);
    for layer in layers.iter().filter(|layer| layer.snapshot.is_some()) {
        let index = store.index(layer.id).unwrap().expect("index of a layer with files");
        let dir = store.snapshot_dir(layer.id).unwrap().unwrap();
        assert_eq!(scan(store, &dir, &[]), *index);
    }
    let connection = rusqlite::Connection::open(root.join("store.db")).unwrap();
    let ok: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
    let mut query = connection.prepare("SELECT lower(hex(digest)) FROM blob").unwrap();
    let blobs: BTreeSet<String> =
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(names("blobs/sha256"), blobs);
    for blob in &blobs {
        assert!(store.read_blob(&Digest::from_hex(blob).unwrap()).unwrap().is_some());
    }
    assert_eq!(names("trash"), BTreeSet::new());
    assert_eq!(names("tmp").len(), 1 + begun, "{:?}", names("tmp"));
    assert_eq!(store.usage().unwrap().holders, 1 + begun as u64);
    assert!(store.take_losses().is_empty());
}

#[test]
fn killed_writers_leave_a_whole_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let rounds = std::env::var("COOPER_STORE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut random = Random::new(7);
    let mut done = 0;
    for round in 0..rounds {
        let start = |n: usize| start("write", &[root.to_str().unwrap(), &(round * 10 + n).to_string()]);
        let mut children: Vec<_> = (0..4).map(start).collect();
        let outs: Vec<_> = children.iter_mut().map(lines).collect();
        let readers: Vec<_> =
            outs.into_iter().map(|out| std::thread::spawn(move || out.collect::<Vec<_>>())).collect();
        std::thread::sleep(Duration::from_millis(300));
        for child in &mut children {
            std::thread::sleep(Duration::from_micros(random.below(200_000) as u64));
            child.kill().unwrap();
        }
        for mut child in children {
            child.wait().unwrap();
        }
        let store = Store::open(&root).unwrap();
        check(&store, 0);
        // What a writer was told is done is there.
        for line in readers.into_iter().flat_map(|reader| reader.join().unwrap()) {
            let (what, name) = line.split_once(' ').unwrap();
            done += 1;
            match what {
                "layer" => assert!(store.presence(&[layer_id(name)]).unwrap()[0].snapshot, "{line}"),
                "blob" => assert!(store.has_blob(&Digest::from_hex(name).unwrap()).unwrap(), "{line}"),
                "record" => assert!(store.find(&Digest::of(name)).unwrap().is_some(), "{line}"),
                _ => panic!("{line}"),
            }
        }
    }
    println!("{done} things were done by processes that were killed");
    assert!(done > rounds * 4, "the writers hardly ran: {done}");
}

#[test]
fn a_dead_process_lets_go_and_a_living_one_is_left_alone() {
    let (_dir, store) = store();
    small_layer(&store, "held");
    let root = store.root().to_str().unwrap().to_owned();
    let mut children = [start("hold", &[&root]), start("hold", &[&root])];
    for child in &mut children {
        let mut out = lines(child);
        assert_eq!(out.next().as_deref(), Some("ready"));
        // Keep the pipe open.
        std::mem::forget(out);
    }
    let [mut dead, mut living] = children;
    dead.kill().unwrap();
    dead.wait().unwrap();
    drop(store);
    let store = Store::open(&root).unwrap();
    check(&store, 1);
    let leases = || -> i64 {
        let connection = rusqlite::Connection::open(store.root().join("store.db")).unwrap();
        let sql = "SELECT count(*) FROM lease_layer JOIN lease ON lease = lease.id";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(leases(), 1);
    living.kill().unwrap();
    living.wait().unwrap();
    let again = Store::open(&root).unwrap();
    assert_eq!(leases(), 0);
    drop(store);
    check(&again, 0);
}

#[test]
fn privileged_mounts_of_a_dead_process_are_taken_away() {
    if !may_mount("mounts_of_a_dead_process") {
        return;
    }
    let (_dir, store) = store();
    small_layer(&store, "a");
    let root = store.root().to_str().unwrap().to_owned();
    let mut child = start("mount", &[&root]);
    let mut out = lines(&mut child);
    assert_eq!(out.next().as_deref(), Some("ready"));
    child.kill().unwrap();
    child.wait().unwrap();
    let mounts = || {
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        text.lines().filter(|line| line.contains(&root)).count()
    };
    assert_eq!(mounts(), 2);
    drop(store);
    let store = Store::open(&root).unwrap();
    check(&store, 0);
    assert_eq!(mounts(), 0);
    // The layer was below both.
    let dir = store.snapshot_dir(layer_id("a")).unwrap().unwrap();
    assert_eq!(fs::read_to_string(dir.join("name")).unwrap(), "a");
}

#[test]
fn files_renamed_in_by_a_transaction_that_was_cut_off_are_swept() {
    let (_dir, store) = store();
    let root = store.root().to_owned();
    small_layer(&store, "kept");
    let lost = small_layer(&store, "known, files not claimed");
    store.lose_snapshot(lost, "test").unwrap();
    store.take_losses();
    let stray = |name: &str| {
        let path = root.join("snapshots").join(layer_id(name).digest().hex());
        fs::create_dir_all(path.join("fs")).unwrap();
        fs::write(path.join("fs/half"), "x").unwrap();
    };
    // One is in the way of a layer that is committed before anybody sweeps.
    stray("later");
    stray("never");
    stray("known, files not claimed");
    fs::write(root.join("blobs/sha256").join(Digest::of("stray").hex()), "str").unwrap();
    let later = small_layer(&store, "later");
    let dir = store.snapshot_dir(later).unwrap().unwrap();
    assert!(dir.join("name").exists() && !dir.join("half").exists());
    // Whoever was cut off has died: its directory is still there, its lock is free.
    fs::create_dir(root.join("tmp/0123456789abcdef")).unwrap();
    fs::write(root.join("tmp/0123456789abcdef/0"), "x").unwrap();
    drop(store);
    let store = Store::open(&root).unwrap();
    check(&store, 0);
    assert_eq!(fs::read_dir(root.join("snapshots")).unwrap().count(), 2);
}
