use std::fs;
use std::path::Path;

use cooper_oci::Digest;
use cooper_store::{Error, Store};

use super::help::{small_layer, store};

#[test]
fn opens_what_it_made() {
    let (dir, first) = store();
    let id = small_layer(&first, "a");
    let (root, owners, xattrs) = (first.root().to_owned(), first.owners(), first.overlay_xattrs());
    drop(first);
    assert!(dir.path().join("store").is_dir());
    let again = Store::open(&root).unwrap();
    assert!(again.layer(id).unwrap().is_some());
    assert_eq!((again.owners(), again.overlay_xattrs()), (owners, xattrs));
    assert!(again.take_losses().is_empty());
}

#[test]
fn a_closed_handle_leaves_nothing() {
    let (_dir, store) = store();
    let root = store.root().to_owned();
    let other = Store::open(&root).unwrap();
    let pending = other.begin_snapshot().unwrap();
    let writer = other.blob_writer().unwrap();
    assert_eq!(store.usage().unwrap().holders, 2);
    drop(other);
    // What was begun keeps its process's directory.
    assert_eq!(store.usage().unwrap().holders, 2);
    drop(writer);
    drop(pending);
    assert_eq!(store.usage().unwrap().holders, 1);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 1);
    drop(store);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_newer_format_and_a_foreign_database_are_refused() {
    let (_dir, store) = store();
    let root = store.root().to_owned();
    drop(store);
    let database = root.join("store.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 1000).unwrap();
    drop(connection);
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 1000, .. }), "{error}");
    assert!(error.to_string().contains("1000"));
    assert!(error.hint().is_some());

    let other = root.with_file_name("other");
    fs::create_dir(&other).unwrap();
    let connection = rusqlite::Connection::open(other.join("store.db")).unwrap();
    connection.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(connection);
    assert!(matches!(Store::open(&other), Err(Error::Foreign(_))));
}

#[test]
fn what_a_crash_of_the_machine_left_unsynced_is_not_trusted() {
    let (_dir, store) = store();
    let root = store.root().to_owned();
    let synced = small_layer(&store, "synced");
    let kept = store.put_blob(b"kept").unwrap();
    store.sync().unwrap();
    let unsynced = small_layer(&store, "unsynced");
    let gone = store.put_blob(b"gone").unwrap();
    drop(store);
    // Another boot: what the kernel says is constant, so the rows are given another one.
    let connection = rusqlite::Connection::open(root.join("store.db")).unwrap();
    for table in ["layer", "blob"] {
        let sql = format!("UPDATE {table} SET unsynced = 'earlier' WHERE unsynced IS NOT NULL");
        assert!(connection.execute(&sql, []).unwrap() > 0);
    }
    drop(connection);

    let store = Store::open(&root).unwrap();
    let found = store.presence(&[synced, unsynced]).unwrap();
    assert!(found[0].snapshot && found[1].known && !found[1].snapshot);
    assert!(store.has_blob(&kept).unwrap() && !store.has_blob(&gone).unwrap());
    assert!(store.index(synced).unwrap().is_some() && store.index(unsynced).unwrap().is_none());
    store.sweep().unwrap();
    let left = |dir: &str| fs::read_dir(root.join(dir)).unwrap().count();
    assert_eq!((left("trash"), left("snapshots")), (0, 1));
    // The same again is welcome.
    small_layer(&store, "unsynced");
    assert!(store.presence(&[unsynced]).unwrap()[0].snapshot);
}

#[test]
fn sixteen_threads_open_a_new_store_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let open = |number: usize| {
        let store = Store::open(&root).unwrap();
        store.put_blob(&number.to_ne_bytes()).unwrap();
        store.memo_put("number", &Digest::of("x"), &number.to_ne_bytes()).unwrap();
    };
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || open(number));
        }
    });
    assert_eq!(Store::open(&root).unwrap().usage().unwrap().blobs.count, 16);
}

#[test]
fn memos_keep_age_and_files_are_replaced() {
    let (_dir, store) = store();
    let key = Digest::of("key");
    assert_eq!(store.memo_get("tag", &key).unwrap(), None);
    store.memo_put("tag", &key, b"one").unwrap();
    store.memo_put("tag", &key, b"two").unwrap();
    store.memo_put("other", &key, b"three").unwrap();
    let memo = store.memo_get("tag", &key).unwrap().unwrap();
    assert_eq!(memo.value, b"two");
    assert!(memo.age().unwrap().as_secs() < 60);
    store.memo_remove("tag", &key).unwrap();
    assert_eq!(store.memo_get("tag", &key).unwrap(), None);

    assert_eq!(store.memo_file("stat/../cache", &key).unwrap(), None);
    let path = store.put_memo_file("stat/../cache", &key, b"old").unwrap();
    let mut old = fs::File::open(&path).unwrap();
    store.put_memo_file("stat/../cache", &key, b"new value").unwrap();
    assert_eq!(fs::read(store.memo_file("stat/../cache", &key).unwrap().unwrap()).unwrap(), b"new value");
    // Who reads the old one reads on.
    assert_eq!(std::io::read_to_string(&mut old).unwrap(), "old");
    assert_eq!(path.parent(), Some(store.root().join("memo")).as_deref());
    assert_eq!(store.usage().unwrap().memos.bytes, 5 + 9);
    assert!(Path::new(&path).exists());
}
