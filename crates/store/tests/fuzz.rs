//! Damaged files of a store. Whatever stands in the database, a call gives an answer or an error; and damage to a blob
//! or an index is noticed: never are other bytes given out than those that were put in.
//!
//! The example `fuzz` is the same for minutes.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use cooper_layer::{Entry, Index, Kind, LayerId, LayerPath};
use cooper_oci::Digest;
use cooper_store::{LayerBlob, LayerMeta, OutputRecord, Publish, Record, Store};
use cooper_tests::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "store",
        samples: databases,
        words: &["SQLite format 3\0", "CREATE TABLE", "sha256:", "{\"", "null"],
        check: database,
    },
    Target { name: "store-files", samples: files, words: &["cooper-index\u{1}"], check: file },
];

const BLOB: &[u8] = b"the bytes of a blob, long enough to be damaged in many ways";

fn layer() -> LayerId {
    LayerId::new(Digest::of("a layer"))
}

fn key() -> Digest {
    Digest::of("a key")
}

fn listing() -> Index {
    let path = LayerPath::new("f").unwrap();
    let entry = Entry::new(path, Kind::File { size: 3, digest: Digest::of("abc") }, 0o644);
    Index::new(vec![entry]).unwrap()
}

/// A store with one of everything, closed.
static SAMPLE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = Store::open(&root).unwrap();
    let blob = store.put_blob(BLOB).unwrap();
    let pending = store.begin_snapshot().unwrap();
    fs::write(pending.path().join("f"), "abc").unwrap();
    let kept = LayerBlob {
        digest: blob,
        size: BLOB.len() as u64,
        media_type: "text/plain".to_owned(),
        made_by: None,
    };
    let meta = LayerMeta { blobs: vec![kept], ..LayerMeta::default() };
    store.commit_layer(pending, layer(), &listing(), &meta).unwrap();
    let record = Record {
        key: key(),
        outputs: vec![OutputRecord { result: Digest::of("a result"), layers: vec![layer()] }],
        created: Default::default(),
        cost: Duration::from_secs(3),
        recipe: Some(Digest::of("a recipe")),
        meta: Default::default(),
    };
    store.publish(&record, Publish::First).unwrap();
    store.memo_put("kind", &key(), b"a memo").unwrap();
    store.put_memo_file("large", &key(), b"a memo in a file").unwrap();
    store.sync().unwrap();
    drop(store);
    // All of it into the database itself: what is in the log would hide the damage.
    let database = rusqlite::Connection::open(root.join("store.db")).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(database);
    (dir, root)
});

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn databases() -> Vec<Vec<u8>> {
    vec![fs::read(SAMPLE.1.join("store.db")).unwrap()]
}

fn files() -> Vec<Vec<u8>> {
    vec![listing().encode(), BLOB.to_vec()]
}

/// Asks for everything. Answers are what they were, or there is none.
fn ask(root: &Path) -> Result<bool, String> {
    let Ok(store) = Store::open(root) else { return Ok(false) };
    let mut all = true;
    let blob = Digest::of(BLOB);
    match store.read_blob(&blob) {
        Ok(Some(bytes)) if bytes != BLOB => return Err("other bytes under a digest".to_owned()),
        Ok(Some(_)) => {}
        _ => all = false,
    }
    match store.index(layer()) {
        Ok(Some(index)) => {
            // Which index a layer has is the database's word; that it is one is not.
            let _ = index.size();
            all &= *index == listing();
        }
        _ => all = false,
    }
    all &= store.find(&key()).is_ok_and(|found| found.is_some());
    all &= store.presence(&[layer()]).is_ok() && store.all_layers().is_ok() && store.usage().is_ok();
    all &= store.find_by_recipe(&Digest::of("a recipe")).is_ok();
    all &= store.memo_get("kind", &key()).is_ok() && store.memo_file("large", &key()).is_ok();
    drop(store.snapshot_dir(layer()));
    drop(store.bind(&[key()]));
    drop(store.dead_attempts());
    drop(store.sweep());
    // What is put in after that comes out as it was, if it is taken.
    if let Ok(digest) = store.put_blob(b"new")
        && let Ok(Some(bytes)) = store.read_blob(&digest)
        && bytes != b"new"
    {
        return Err("other bytes than were put in".to_owned());
    }
    store.take_losses();
    Ok(all)
}

fn database(bytes: &[u8]) -> Result<bool, String> {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("store");
    copy(&SAMPLE.1, &root);
    fs::write(root.join("store.db"), bytes).unwrap();
    let answer = ask(&root);
    let beside = fs::read_dir(scratch.path()).unwrap().count();
    if beside == 1 { answer } else { Err(format!("{beside} names beside the store")) }
}

/// The input takes the place of the layer's index, or of the blob.
fn file(bytes: &[u8]) -> Result<bool, String> {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("store");
    copy(&SAMPLE.1, &root);
    let is_index = bytes.starts_with(b"cooper");
    let name = if is_index { Digest::of(listing().encode()) } else { Digest::of(BLOB) };
    let place = root.join("blobs/sha256").join(name.hex());
    if !place.exists() {
        return Err(format!("there is no `{}` in the sample", place.display()));
    }
    fs::write(&place, bytes).unwrap();
    let same = Digest::of(bytes) == name;
    let taken = ask(&root)?;
    if taken == same { Ok(taken) } else { Err(format!("damaged: {}, all there: {taken}", !same)) }
}

#[test]
fn damaged_stores() {
    cooper_tests::fuzz::sample(&TARGETS[0], 150);
    cooper_tests::fuzz::sample(&TARGETS[1], 150);
}
