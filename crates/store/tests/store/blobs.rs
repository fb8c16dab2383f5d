use std::fs;
use std::io::{Read as _, Write as _};

use cooper_oci::Digest;
use cooper_store::{Error, Loss};

use super::help::store;

#[test]
fn written_in_pieces_found_by_digest() {
    let (_dir, store) = store();
    let digest = Digest::of(b"hello world");
    assert_eq!(store.blob_path(&digest).unwrap(), None);
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello ").unwrap();
    writer.write_all(b"world").unwrap();
    assert_eq!(writer.size(), 11);
    assert_eq!(writer.commit(Some(&digest)).unwrap(), (digest, 11));
    assert_eq!(store.blob_size(&digest).unwrap(), Some(11));
    assert_eq!(store.read_blob(&digest).unwrap().as_deref(), Some(&b"hello world"[..]));
    let mut text = String::new();
    store.open_blob(&digest).unwrap().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello world");
    // Again, and from another side.
    assert_eq!(store.put_blob(b"hello world").unwrap(), digest);
    assert_eq!(store.usage().unwrap().blobs.count, 1);
}

#[test]
fn other_bytes_than_expected_are_not_stored() {
    let (_dir, store) = store();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"evil").unwrap();
    let expected = Digest::of(b"good");
    let error = writer.commit(Some(&expected)).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert_eq!(store.usage().unwrap().blobs.count, 0);
    assert_eq!(fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 0);
    let tmp = fs::read_dir(store.root().join("tmp")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 0);
}

#[test]
fn missing_cut_and_flipped_bytes_are_noticed_and_told_once() {
    let (_dir, store) = store();
    let damaged =
        [("is gone", None), ("bytes instead of", Some("cut")), ("another digest", Some("Some bytes"))];
    for (reason, bytes) in damaged {
        let digest = store.put_blob(b"some bytes").unwrap();
        let path = store.blob_path(&digest).unwrap().unwrap();
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        assert_eq!(store.read_blob(&digest).unwrap(), None, "{reason}");
        assert_eq!(store.read_blob(&digest).unwrap(), None, "{reason}");
        let losses = store.take_losses();
        assert!(
            matches!(&losses[..], [Loss::Blob { reason: found, .. }] if found.contains(reason)),
            "{losses:?}"
        );
        assert!(store.take_losses().is_empty());
    }
    // Healed by putting it again.
    let digest = store.put_blob(b"some bytes").unwrap();
    assert!(store.read_blob(&digest).unwrap().is_some());
}

#[test]
fn a_file_without_a_row_is_replaced() {
    let (_dir, store) = store();
    let digest = Digest::of(b"whole");
    let path = store.root().join("blobs/sha256").join(digest.hex());
    fs::write(&path, b"wh").unwrap();
    assert!(!store.has_blob(&digest).unwrap());
    store.put_blob(b"whole").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"whole");
}
