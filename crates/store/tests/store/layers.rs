use std::fs;

use cooper_layer::{DiffId, Index, Timestamp};
use cooper_oci::Digest;
use cooper_store::{Committed, LayerBlob, LayerMeta, Loss, Remote, Store};

use super::help::{commit, layer_id, scan, small_layer, store};

#[test]
fn places_come_together() {
    let (_dir, store) = store();
    let id = layer_id("image layer");
    assert_eq!(store.layer(id).unwrap(), None);
    let remote = Remote {
        reference: "docker.io/library/python".into(),
        digest: Digest::of("compressed"),
        size: 10,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
    };
    let meta = LayerMeta {
        diff_id: Some(DiffId::new(*id.digest())),
        created: Timestamp::new(5, 7),
        remotes: vec![remote.clone()],
        ..Default::default()
    };
    let lazy = store.put_layer(id, &meta).unwrap();
    assert_eq!((lazy.snapshot, lazy.index, lazy.created), (None, None, Timestamp::new(5, 7)));
    assert_eq!(lazy.remotes, [remote]);
    let found = store.presence(&[id, layer_id("unknown")]).unwrap();
    assert!(found[0].remote && found[0].is_anywhere() && !found[0].is_local() && !found[1].known);

    let digest = store.put_blob(b"compressed").unwrap();
    let blob = LayerBlob {
        digest,
        size: 10,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        made_by: None,
    };
    let meta = LayerMeta { blobs: vec![blob.clone()], created: Timestamp::new(9, 9), ..Default::default() };
    let pulled = store.put_layer(id, &meta).unwrap();
    // What was told first stays.
    assert_eq!(pulled.created, Timestamp::new(5, 7));
    assert_eq!((pulled.blobs, pulled.remotes.len()), (vec![blob], 1));
    assert!(store.presence(&[id]).unwrap()[0].blob);

    let pending = store.begin_snapshot().unwrap();
    fs::write(pending.path().join("file"), "12345").unwrap();
    let done = commit(&store, pending, id, &[]);
    assert!(matches!(done, Committed::New(_)));
    assert_eq!(done.record().snapshot, Some(5));
    assert_eq!(done.record().remotes.len(), 1);
    assert_eq!(store.layers_by_diff_id(DiffId::new(*id.digest())).unwrap(), [id]);
    assert_eq!(store.all_layers().unwrap().len(), 1);
    let usage = store.usage().unwrap();
    assert_eq!((usage.layers, usage.snapshots.count, usage.snapshots.bytes), (1, 1, 5));
}

#[test]
fn the_first_files_stay() {
    let (_dir, store) = store();
    let id = small_layer(&store, "a");
    let pending = store.begin_snapshot().unwrap();
    fs::write(pending.path().join("name"), "later").unwrap();
    let path = pending.path().to_owned();
    assert!(matches!(commit(&store, pending, id, &[]), Committed::Adopted(_)));
    assert!(!path.exists());
    let dir = store.snapshot_dir(id).unwrap().unwrap();
    assert_eq!(fs::read_to_string(dir.join("name")).unwrap(), "a");
}

#[test]
fn an_id_whose_files_are_gone_is_not_given_other_bytes() {
    let (_dir, store) = store();
    let id = small_layer(&store, "a");
    let index = store.index(id).unwrap().unwrap();
    let old = store.snapshot_dir(id).unwrap().unwrap();
    store.lose_snapshot(id, "test").unwrap();

    let other = store.begin_snapshot().unwrap();
    fs::write(other.path().join("name"), "other").unwrap();
    let Committed::Taken { record, pending } = commit(&store, other, id, &[]) else { panic!("not taken") };
    assert_eq!(record.snapshot, None);
    assert_eq!(fs::read_to_string(pending.path().join("name")).unwrap(), "other");
    let free = layer_id("free");
    assert!(matches!(commit(&store, pending, free, &[]), Committed::New(_)));

    // The same bytes, times included, may come back.
    let same = store.begin_snapshot().unwrap();
    fs::write(same.path().join("name"), "a").unwrap();
    fs::File::open(same.path().join("name")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(scan(&store, same.path(), &[]), *index);
    assert!(matches!(commit(&store, same, id, &[]), Committed::New(_)));
    assert!(old.join("name").exists());
}

#[test]
fn an_id_of_which_nothing_is_left_is_free() {
    let (_dir, store) = store();
    let id = small_layer(&store, "a");
    store.lose_snapshot(id, "test").unwrap();
    let record = store.layer(id).unwrap().unwrap();
    store.lose_blob(&record.index.unwrap(), "test").unwrap();
    let other = store.begin_snapshot().unwrap();
    fs::write(other.path().join("name"), "other").unwrap();
    let index = scan(&store, other.path(), &[]);
    assert!(matches!(commit(&store, other, id, &[]), Committed::New(_)));
    assert_eq!(*store.index(id).unwrap().unwrap(), index);
}

#[test]
fn missing_files_are_noticed_and_told_once() {
    let (_dir, store) = store();
    let id = small_layer(&store, "a");
    let dir = store.snapshot_dir(id).unwrap().unwrap();
    fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    assert!(!store.presence(&[id]).unwrap()[0].snapshot);
    assert_eq!(store.snapshot_dir(id).unwrap(), None);
    assert_eq!(store.layer(id).unwrap().unwrap().snapshot, None);
    let losses = store.take_losses();
    assert!(matches!(&losses[..], [Loss::Snapshot { layer, .. }] if *layer == id), "{losses:?}");
    assert!(store.take_losses().is_empty());
    assert!(matches!(store.view(&[id]), Err(cooper_store::Error::Lost(lost)) if lost == id));
}

#[test]
fn a_damaged_index_counts_as_none() {
    let (_dir, store) = store();
    let id = small_layer(&store, "a");
    let digest = store.layer(id).unwrap().unwrap().index.unwrap();
    let path = store.blob_path(&digest).unwrap().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let other = Store::open(store.root()).unwrap();
    assert_eq!(other.index(id).unwrap(), None);
    assert_eq!(other.take_losses().len(), 1);
}

#[test]
fn files_that_others_may_have_mounted_are_kept_till_they_are_gone() {
    let (_dir, store) = store();
    let id = small_layer(&store, "a");
    let other = Store::open(store.root()).unwrap();
    let trash = || fs::read_dir(store.root().join("trash")).unwrap().count();
    store.lose_snapshot(id, "test").unwrap();
    store.sweep().unwrap();
    assert_eq!(trash(), 1);
    let root = store.root().to_owned();
    drop(other);
    // This handle itself may have it mounted.
    store.sweep().unwrap();
    assert_eq!(trash(), 1);
    drop(store);
    let store = Store::open(&root).unwrap();
    store.sweep().unwrap();
    assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
}

#[test]
fn leases_are_rows_of_their_holder() {
    let (_dir, store) = store();
    let id = small_layer(&store, "a");
    let lease = store.lease("job 1").unwrap();
    lease.hold_layers(&[id]).unwrap();
    let blob = store.put_blob(b"x").unwrap();
    assert!(lease.hold_blob(&blob).unwrap());
    assert!(!lease.hold_blob(&Digest::of("unknown")).unwrap());
    assert!(lease.hold_layers(&[layer_id("unknown")]).is_err());
    let rows = || {
        let connection = rusqlite::Connection::open(store.root().join("store.db")).unwrap();
        let count = |table: &str| -> i64 {
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        (count("lease"), count("lease_layer"), count("lease_blob"))
    };
    // The layer with its index, and the blob, by the handle and by the lease.
    assert_eq!(rows(), (2, 2, 4));
    drop(lease);
    assert_eq!(rows(), (1, 1, 2));
    let empty = Index::default();
    let meta = LayerMeta::default();
    store.commit_layer(store.begin_snapshot().unwrap(), layer_id("empty"), &empty, &meta).unwrap();
    assert_eq!(rows(), (1, 2, 3));
}
