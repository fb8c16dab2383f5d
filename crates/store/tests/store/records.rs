use std::time::{Duration, Instant};

use cooper_layer::{LayerId, Timestamp};
use cooper_oci::Digest;
use cooper_store::{Error, OutputRecord, Publish, Record, Store};

use super::help::{layer_id, small_layer, store};

pub(crate) fn record(key: &str, result: &str, layers: &[LayerId]) -> Record {
    Record {
        key: Digest::of(key),
        outputs: vec![OutputRecord { result: Digest::of(result), layers: layers.to_vec() }],
        created: Timestamp::new(1_700_000_000, 123_456_789),
        cost: Duration::from_millis(1500),
        recipe: Some(Digest::of("recipe")),
        meta: serde_json::json!({"z": 1, "a": ["b"]}),
    }
}

#[test]
fn what_is_published_is_found() {
    let (_dir, store) = store();
    let (a, b) = (small_layer(&store, "a"), small_layer(&store, "b"));
    let mut one = record("one", "r1", &[a, b]);
    one.outputs.push(OutputRecord { result: Digest::of("r2"), layers: vec![] });
    let published = store.publish(&one, Publish::First).unwrap();
    assert!(published.won);
    assert_eq!(published.record, one);
    let unknown = Digest::of("unknown");
    let found = store.find_all(&[unknown, one.key]).unwrap();
    assert_eq!(found, [None, Some(one.clone())]);
    assert_eq!(store.bind(&[one.key, unknown]).unwrap(), [Some(one.clone()), None]);
    assert_eq!(store.find_by_recipe(&Digest::of("recipe")).unwrap(), [one.clone()]);
    assert_eq!(store.all_keys().unwrap(), [one.key]);
}

#[test]
fn the_first_wins_unless_forced() {
    let (_dir, store) = store();
    let (a, b) = (small_layer(&store, "a"), small_layer(&store, "b"));
    let (first, second) = (record("k", "first", &[a]), record("k", "second", &[b]));
    assert!(store.publish(&first, Publish::First).unwrap().won);
    let lost = store.publish(&second, Publish::First).unwrap();
    assert!(!lost.won && lost.record == first);
    assert!(!store.publish(&second, Publish::FirstWithBytes).unwrap().won);
    assert!(store.replace(&second).unwrap().won);
    assert_eq!(store.find(&first.key).unwrap(), Some(second.clone()));
    // Publishing again what is there.
    assert!(store.publish(&second, Publish::First).unwrap().won);
}

#[test]
fn a_record_without_bytes_gives_way_where_bytes_are_asked_for() {
    let (_dir, store) = store();
    let (a, b) = (small_layer(&store, "a"), small_layer(&store, "b"));
    let (first, second) = (record("k", "first", &[a]), record("k", "second", &[b]));
    store.publish(&first, Publish::First).unwrap();
    store.lose_snapshot(a, "test").unwrap();
    // It still is a record: what only needs its id is served.
    assert_eq!(store.find(&first.key).unwrap(), Some(first));
    assert!(!store.publish(&second, Publish::First).unwrap().won);
    assert!(store.publish(&second, Publish::FirstWithBytes).unwrap().won);
}

#[test]
fn layers_must_be_known() {
    let (_dir, store) = store();
    let error = store.publish(&record("k", "r", &[layer_id("unknown")]), Publish::First).unwrap_err();
    assert!(matches!(error, Error::NoLayer(_)), "{error}");
    assert_eq!(store.usage().unwrap().records, 0);
}

#[test]
fn looking_up_180_among_many_is_quick() {
    let (_dir, store) = store();
    let chain: Vec<_> = (0..20).map(|number| small_layer(&store, &format!("layer {number}"))).collect();
    // One transaction would be quicker to fill with; this is also a test of many.
    for number in 0..2_000 {
        store.publish(&record(&format!("key {number}"), "r", &chain), Publish::First).unwrap();
    }
    let keys: Vec<_> = (0..180).map(|number| Digest::of(format!("key {}", number * 11))).collect();
    let store = Store::open(store.root()).unwrap();
    store.find_all(&keys[..1]).unwrap();
    let start = Instant::now();
    let found = store.find_all(&keys).unwrap();
    let took = start.elapsed();
    println!("180 records in {took:?}");
    assert!(found.iter().all(Option::is_some));
    // 4 ms alone on the machine without optimisation; the bound is for one that is busy.
    assert!(took < Duration::from_millis(500), "{took:?}");
    let start = Instant::now();
    assert!(store.presence(&chain).unwrap().iter().all(|found| found.snapshot));
    println!("presence of 20 layers in {:?}", start.elapsed());
}
