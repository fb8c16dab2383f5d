//! Making room: random histories against a naive reckoning, and what must never go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use cooper_layer::LayerId;
use cooper_oci::Digest;
use cooper_store::{
    Backend, Committed, Error, ItemKind, LayerMeta, Lease, Options, OutputRecord, Prune, Publish, Record,
    Store,
};

use crate::store::help::{layer_id, scan, small_layer, store};

fn open(root: &Path, max_used: Option<u64>) -> Store {
    Store::open_with(root, &Options { backend: Backend::Copy, max_used, ..Options::default() }).unwrap()
}

/// A layer with one file of so many bytes.
fn layer(store: &Store, name: &str, bytes: usize) -> Result<LayerId, Error> {
    let mut pending = store.begin_snapshot()?;
    pending.reserve(bytes as u64)?;
    fs::write(pending.path().join("f"), vec![name.len() as u8; bytes]).unwrap();
    // Always the same, times too: an index that outlived its layer lets nothing else come under the name.
    fs::File::open(pending.path().join("f")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let id = layer_id(name);
    let index = scan(store, pending.path(), &[]);
    let committed = store.commit_layer(pending, id, &index, &LayerMeta::default())?;
    assert!(!matches!(committed, Committed::Taken { .. }));
    Ok(id)
}

fn record(name: &str, layers: &[LayerId]) -> Record {
    Record {
        key: Digest::of(name),
        outputs: vec![OutputRecord { result: Digest::of(name), layers: layers.to_vec() }],
        created: Default::default(),
        cost: Duration::ZERO,
        recipe: None,
        meta: serde_json::json!({ "name": name }),
    }
}

fn has(store: &Store, id: LayerId) -> bool {
    store.presence(&[id]).unwrap()[0].snapshot
}

/// Bytes of the blobs, snapshots and memo files that lie on the disk, reckoned without the database.
fn files(root: &Path) -> u64 {
    fn walk(path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::symlink_metadata(path).unwrap();
        let below = |path| fs::read_dir(path).unwrap().map(|entry| walk(&entry.unwrap().path())).sum::<u64>();
        found.blocks() * 512 + if found.is_dir() { below(path) } else { 0 }
    }
    ["blobs/sha256", "snapshots", "memo"]
        .iter()
        .flat_map(|dir| fs::read_dir(root.join(dir)).unwrap())
        .map(|entry| walk(&entry.unwrap().path()))
        .sum()
}

fn counted(store: &Store) -> u64 {
    let kinds = [ItemKind::Layer, ItemKind::Blob, ItemKind::Index, ItemKind::Memo];
    store.items().unwrap().iter().filter(|item| kinds.contains(&item.kind)).map(|item| item.bytes).sum()
}

#[test]
fn the_longest_unused_goes_first_and_what_is_held_stays() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), None);
    let names = ["a", "b", "c", "d"];
    let ids: Vec<_> = names.iter().map(|name| layer(&first, name, 1 << 20).unwrap()).collect();
    for (name, id) in names.iter().zip(&ids) {
        first.publish(&record(name, &[*id]), Publish::First).unwrap();
    }
    drop(first);
    let holder = open(dir.path(), None);
    assert!(holder.bind(&[Digest::of("a")]).unwrap()[0].is_some());
    let capped = open(dir.path(), Some(5 << 20));
    layer(&capped, "new", 1 << 20).unwrap();
    let here: Vec<bool> = ids.iter().map(|id| has(&capped, *id)).collect();
    assert!(here[0], "it is held");
    assert!(!here[1], "it is the oldest that nobody holds");
    assert!(here[3], "two were enough: {here:?}");
    // What is known stays: the record says what the step gave, and the index what is in it.
    assert!(capped.find(&Digest::of("b")).unwrap().is_some());
    assert!(capped.index(ids[1]).unwrap().is_some());
    assert!(capped.take_losses().is_empty(), "evicting is no loss");
    // The dead hold nothing.
    drop(holder);
    for number in 0..3 {
        layer(&capped, &format!("more {number}"), 900 << 10)
            .unwrap_or_else(|error| panic!("{number}: {error}"));
        if !has(&capped, ids[0]) {
            return;
        }
    }
    panic!("it is not held any more, and room was needed");
}

#[test]
fn what_is_in_use_and_does_not_fit_is_an_error_that_names_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Some(4 << 20));
    let kept = layer(&store, "kept", 2 << 20).unwrap();
    let error = layer(&store, "too much", 3 << 20).unwrap_err();
    let Error::Full { need, cap, own, .. } = error else { panic!("{error}") };
    assert_eq!(cap, 4 << 20);
    assert!(own >= 5 << 20 && need > own && need < 7 << 20, "{need} {own}");
    assert!(error.hint().unwrap().contains("--max-used"));
    assert!(has(&store, kept));
    // A blob notices while it is written, not at its end.
    let mut writer = store.blob_writer().unwrap();
    let written = (0..8).take_while(|_| writer.write_all(&[7; 1 << 20]).is_ok()).count();
    assert!(written <= 1, "{written} MB went through");
    drop(writer);
    // Dropping gives the room back.
    layer(&store, "fits", 200 << 10).unwrap();
    assert!(store.measure().unwrap() <= 4 << 20);
}

#[test]
fn without_its_index_a_layer_is_forgotten_with_all_that_stands_on_it() {
    let (_dir, store) = store();
    let (below, above) = (small_layer(&store, "below"), small_layer(&store, "above"));
    store.publish(&record("on both", &[below, above]), Publish::First).unwrap();
    store.publish(&record("alone", &[above]), Publish::First).unwrap();
    let root = store.root().to_owned();
    drop(store);
    let store = open(&root, None);
    let bytes = store.prune(&Prune::default()).unwrap();
    assert_eq!(bytes.items.len(), 2, "{bytes:?}");
    assert!(store.find(&Digest::of("on both")).unwrap().is_some(), "records outlive bytes");
    let index = store.layer(below).unwrap().unwrap().index.unwrap();
    let only = Some([format!("index:{}", index.hex())].into());
    assert_eq!(store.prune(&Prune { all: true, only, ..Prune::default() }).unwrap().items.len(), 1);
    assert!(store.layer(below).unwrap().is_none() && store.find(&Digest::of("on both")).unwrap().is_none());
    assert!(store.find(&Digest::of("alone")).unwrap().is_some());
    store.prune(&Prune { all: true, ..Prune::default() }).unwrap();
    assert_eq!((counted(&store), files(&root)), (0, 0));
}

#[test]
fn changed_files_are_noticed_when_they_are_used_and_told_once() {
    let (_dir, store) = store();
    let id = small_layer(&store, "text");
    let root = store.root().to_owned();
    drop(store);
    let file = root.join("snapshots").join(id.digest().hex()).join("fs/name");
    let when = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "tex7").unwrap();
    fs::File::open(&file).unwrap().set_modified(when).unwrap();
    let store = open(&root, None);
    assert!(matches!(store.view(&[id]), Err(Error::Lost(lost)) if lost == id));
    let losses = store.take_losses();
    assert_eq!(losses.len(), 1);
    assert!(losses[0].to_string().contains("`name` has other contents"), "{}", losses[0]);
    assert!(store.view(&[id]).is_err() && store.take_losses().is_empty());
    // Touched, but the same: no loss.
    small_layer(&store, "text");
    fs::write(&file, "text").unwrap();
    drop(store);
    let store = open(&root, None);
    assert!(store.view(&[id]).is_ok());
}

#[test]
fn check_finds_and_repairs() {
    let (_dir, store) = store();
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|name| small_layer(&store, name)).collect();
    let blob = store.put_blob(b"bytes").unwrap();
    assert_eq!(store.check(false).unwrap().findings, []);
    let root = store.root().to_owned();
    fs::write(root.join("snapshots").join(ids[0].digest().hex()).join("fs/name"), "A").unwrap();
    fs::remove_dir_all(root.join("snapshots").join(ids[1].digest().hex())).unwrap();
    fs::write(root.join("blobs/sha256").join(blob.hex()), "bytez").unwrap();
    fs::write(root.join("blobs/sha256/stray"), "x").unwrap();
    let found = store.check(false).unwrap().findings;
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(store.check(true).unwrap().findings.len(), 4);
    assert_eq!(store.check(false).unwrap().findings, []);
    assert!(has(&store, ids[2]) && !has(&store, ids[0]) && !store.has_blob(&blob).unwrap());
}

/// A generator of numbers, seeded (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A store with the layers that it holds, and leases with theirs.
type Handle = (Store, BTreeSet<LayerId>, Vec<(Lease, LayerId)>);

/// Handles come and go, publish, bind, lease, lose files, forget to commit; after every move the books must be those of a
/// walk over the disk, nothing that is held may be gone, and nothing may be above the cap.
#[test]
fn random_histories() {
    const CAP: u64 = 6 << 20;
    for seed in 1..=4 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let dir = tempfile::tempdir().unwrap();
        let mut handles: Vec<Handle> = Vec::new();
        let mut damaged: BTreeMap<LayerId, ()> = BTreeMap::new();
        for step in 0..60 {
            if handles.is_empty() || (handles.len() < 3 && random.below(8) == 0) {
                handles.push((open(dir.path(), Some(CAP)), BTreeSet::new(), Vec::new()));
            }
            let at = random.below(handles.len() as u64) as usize;
            let name = random.below(25).to_string();
            let id = layer_id(&name);
            match random.below(9) {
                0..=3 => {
                    let (store, held, _) = &mut handles[at];
                    // The size is the name's, so that an id is one layer.
                    let size = 50_000 + 20_000 * name.parse::<usize>().unwrap();
                    match layer(store, &name, size) {
                        Ok(id) => {
                            held.insert(id);
                            damaged.remove(&id);
                            store.publish(&record(&name, &[id]), Publish::FirstWithBytes).unwrap();
                        }
                        Err(Error::Full { need, .. }) => assert!(need > CAP, "{need}"),
                        Err(error) => panic!("{error}"),
                    }
                }
                4 | 5 => {
                    let (store, held, _) = &mut handles[at];
                    let found = store.bind(&[Digest::of(&name)]).unwrap();
                    if found[0].is_some() && has(store, id) {
                        held.insert(id);
                    }
                }
                6 => {
                    let (store, _, leases) = &mut handles[at];
                    let lease = store.lease("test").unwrap();
                    if lease.hold_layers(&[id]).is_ok() && has(store, id) {
                        leases.push((lease, id));
                    }
                }
                7 => drop(handles.swap_remove(at)),
                _ => {
                    // Somebody deletes files behind everybody's back.
                    let path = dir.path().join("snapshots").join(id.digest().hex());
                    if fs::remove_dir_all(path).is_ok() {
                        damaged.insert(id, ());
                        let any = open(dir.path(), Some(CAP));
                        assert!(!has(&any, id));
                    }
                }
            }
            let looking = open(dir.path(), None);
            assert_eq!(counted(&looking), files(dir.path()), "seed {seed}, step {step}");
            let measured = looking.measure().unwrap();
            assert!(measured <= CAP, "seed {seed}, step {step}: {measured}");
            for (_, held, leases) in &handles {
                for id in held.iter().chain(leases.iter().map(|(_, id)| id)) {
                    let here = has(&looking, *id);
                    assert!(here || damaged.contains_key(id), "seed {seed}, step {step}: {id} was held");
                }
            }
        }
        drop(handles);
        let checked = open(dir.path(), None).check(false).unwrap();
        assert_eq!(checked.findings, [], "seed {seed}");
    }
}
