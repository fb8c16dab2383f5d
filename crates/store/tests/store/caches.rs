use std::fs;
use std::path::Path;

use cooper_oci::Digest;
use cooper_store::{Cache, CacheTurn, CacheUse, Error, Store};

use super::help::store;

fn nothing(_: &Path) -> Result<(), Error> {
    Ok(())
}

fn turn(store: &Store, name: &str, using: CacheUse) -> Option<Cache> {
    match store.try_cache(name, None, using, nothing).unwrap() {
        CacheTurn::Taken(cache) => Some(cache),
        CacheTurn::Busy => None,
    }
}

#[test]
fn caches_are_shared_had_alone_or_had_in_turns() {
    let (dir, one) = store();
    // Another handle is as good as another process: locks belong to open files.
    let other = Store::open(dir.path().join("store")).unwrap();
    for (first, second, same) in [
        (CacheUse::Shared, CacheUse::Shared, Some(true)),
        (CacheUse::Shared, CacheUse::Locked, None),
        (CacheUse::Locked, CacheUse::Shared, None),
        (CacheUse::Locked, CacheUse::Locked, None),
        (CacheUse::Private, CacheUse::Private, Some(false)),
        (CacheUse::Locked, CacheUse::Private, Some(false)),
        (CacheUse::Private, CacheUse::Shared, None),
    ] {
        let name = format!("{first:?}-{second:?}");
        let a = turn(&one, &name, first).unwrap();
        fs::write(a.path().join("file"), "kept").unwrap();
        let b = turn(&other, &name, second);
        assert_eq!(b.as_ref().map(|b| b.path() == a.path()), same, "{name}");
        let path = a.path().to_owned();
        drop((a, b));
        // What was given back is what is taken first.
        let again = turn(&other, &name, second).unwrap();
        assert_eq!(again.path(), path, "{name}");
        assert_eq!(fs::read(again.path().join("file")).unwrap(), b"kept");
    }
}

#[test]
fn a_lock_that_was_handed_on_outlives_its_taker() {
    let (_dir, store) = store();
    let cache = turn(&store, "c", CacheUse::Locked).unwrap();
    let held = cache.hold().unwrap();
    drop(cache);
    assert!(turn(&store, "c", CacheUse::Locked).is_none());
    drop(held);
    assert!(turn(&store, "c", CacheUse::Locked).is_some());
}

#[test]
fn seeds_are_told_apart_and_a_failed_filling_leaves_nothing() {
    let (_dir, store) = store();
    let seed = Digest::of("seed");
    let fill = |path: &Path| -> Result<(), Error> {
        fs::write(path.join("seeded"), "").unwrap();
        Ok(())
    };
    #[derive(Debug)]
    enum Failed {
        Store(#[allow(dead_code)] Error),
        Fill,
    }
    impl From<Error> for Failed {
        fn from(error: Error) -> Self {
            Self::Store(error)
        }
    }
    let failed = store.try_cache("c", Some(&seed), CacheUse::Shared, |path| {
        fs::write(path.join("half"), "").unwrap();
        Err(Failed::Fill)
    });
    assert!(matches!(failed, Err(Failed::Fill)));
    let CacheTurn::Taken(seeded) = store.try_cache("c", Some(&seed), CacheUse::Shared, fill).unwrap() else {
        panic!("busy")
    };
    assert!(seeded.path().join("seeded").exists() && !seeded.path().join("half").exists());
    let plain = turn(&store, "c", CacheUse::Shared).unwrap();
    assert_ne!(plain.path(), seeded.path());
    assert_eq!(fs::read_dir(plain.path()).unwrap().count(), 0);
}

#[test]
fn caches_are_listed_and_taken_away_unless_somebody_has_them() {
    let (_dir, store) = store();
    let cache = turn(&store, "c", CacheUse::Shared).unwrap();
    let listed = store.caches().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].in_use && listed[0].name == "c" && listed[0].path == cache.path());
    let number = listed[0].number;
    assert!(!store.remove_cache(number).unwrap());
    drop(cache);
    assert!(!store.caches().unwrap()[0].in_use);
    assert!(store.remove_cache(number).unwrap());
    assert!(store.caches().unwrap().is_empty() && !listed[0].path.exists());
    // A new one has a new number: who still waits for the old one's lock finds no row.
    turn(&store, "c", CacheUse::Shared).unwrap();
    assert!(store.caches().unwrap()[0].number > number);
}
