//! Images from a stand-in of Docker Hub and from folders, into real stores.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

mod git;
mod web;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cooper_layer::{LayerId, Owners};
use cooper_oci::{Digest, Image, Manifest, Platform, Reference, media_type};
use cooper_registry::{Client, Config, Known};
use cooper_source::{Error, ImageName, Images, Resolved};
use cooper_store::{Options, Store};
use cooper_tests::hub::{Fault, Hub, Seen, Server};
use cooper_tests::layout::{Entry, Layout, Packing};

const PAYLOAD: usize = 1_500_000;

struct Setup {
    hub: Hub,
    layout: Layout,
    store: Store,
    images: Images,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::official(dir.path().join("layout"), "3.9-slim", PAYLOAD).unwrap();
        let hub = Hub::start().unwrap();
        hub.add("library/python", "3.9-slim", layout.dir());
        let store = store(&dir.path().join("store"));
        let images = images(&store, &hub.host());
        Self { hub, layout, store, images, _dir: dir }
    }

    async fn resolve(&self) -> Resolved {
        let found = self.images.resolve(&python(), &amd64()).await.unwrap();
        self.images.register(&found).await.unwrap();
        found
    }

    fn in_folder(&self, suffix: &str) -> ImageName {
        ImageName::layout(&format!("{}{suffix}", self.layout.dir().display()))
    }

    fn read(&self, layer: LayerId, path: &str) -> Vec<u8> {
        std::fs::read(self.store.snapshot_dir(layer).unwrap().unwrap().join(path)).unwrap()
    }

    fn here(&self, layer: LayerId) -> bool {
        self.store.snapshot_dir(layer).unwrap().is_some()
    }

    fn blob_requests(&self) -> Vec<Seen> {
        self.hub.seen().into_iter().filter(|seen| seen.server == Server::Content).collect()
    }
}

fn store(dir: &Path) -> Store {
    // Without privileges files keep the tester as their owner.
    let owners = if rustix::process::geteuid().is_root() { Owners::Set } else { Owners::Record };
    Store::open_with(dir, &Options { owners, ..Options::default() }).unwrap()
}

fn images(store: &Store, mirror: &str) -> Images {
    let mut config = Config::default();
    config.limits.first_wait = Duration::from_millis(5);
    // No registry of that name: nothing goes past the mirror.
    config.mirrors.insert("registry.invalid".to_owned(), vec![mirror.to_owned()]);
    Images::new(store.clone(), Arc::new(Client::new(&config, Arc::new(Known::anonymous())).unwrap()))
}

fn python() -> ImageName {
    ImageName::Registry("registry.invalid/library/python:3.9-slim".parse().unwrap())
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64")
}

fn silent(_: u64, _: u64) {}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_registry() {
    let setup = Setup::new();
    let found = setup.resolve().await;
    assert_eq!(found.image.config.cmd, ["python3"]);
    assert_eq!(found.platform, amd64());
    assert_eq!(found.config, found.image.to_json().unwrap());
    assert_eq!(
        found.layers.iter().map(|layer| *layer.id.digest()).collect::<Vec<_>>(),
        found.image.rootfs.diff_ids
    );
    // Nothing but the configuration was loaded.
    assert_eq!(setup.blob_requests().len(), 1);

    let mut pulls = tokio::task::JoinSet::new();
    let most = Arc::new(Mutex::new((0, 0)));
    for _ in 0..4 {
        for layer in &found.layers {
            let (images, id, most) = (setup.images.clone(), layer.id, most.clone());
            pulls.spawn(async move {
                let note = move |read, total| {
                    let mut most = most.lock().unwrap();
                    *most = (*most).max((read, total));
                };
                images.pull(id, note).await
            });
        }
    }
    while let Some(done) = pulls.join_next().await {
        done.unwrap().unwrap();
    }
    // One download a layer.
    assert_eq!(setup.blob_requests().len(), 2);
    let (base, upper) = (found.layers[0].id, found.layers[1].id);
    assert_eq!(setup.read(base, "etc/arch"), b"amd64\n");
    assert_eq!(setup.read(upper, "opt/payload").len(), PAYLOAD);
    let size = found.layers[1].descriptor.size;
    assert_eq!(*most.lock().unwrap(), (size, size));
    for layer in &found.layers {
        assert!(setup.store.has_blob(&layer.descriptor.digest).unwrap());
        let record = setup.store.layer(layer.id).unwrap().unwrap();
        assert_eq!(record.diff_id.unwrap().digest(), layer.id.digest());
        assert_eq!(record.remotes[0].reference, "registry.invalid/library/python");
        assert!(setup.store.index(layer.id).unwrap().is_some());
    }

    // Once more: one question about the tag, nothing else.
    setup.hub.seen();
    let again = setup.resolve().await;
    assert_eq!((again.digest, again.manifest), (found.digest, found.manifest));
    setup.images.pull(upper, silent).await.unwrap();
    let seen = setup.hub.seen();
    assert_eq!(seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(), ["HEAD"], "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_platforms_share_what_is_equal() {
    let setup = Setup::new();
    let amd = setup.resolve().await;
    let arm = setup.images.resolve(&python(), &"linux/arm64".parse().unwrap()).await.unwrap();
    assert_eq!(arm.digest, amd.digest);
    assert_ne!(arm.manifest, amd.manifest);
    assert_eq!(arm.layers[1], amd.layers[1]);
    setup.images.register(&arm).await.unwrap();
    setup.images.pull(arm.layers[0].id, silent).await.unwrap();
    assert_eq!(setup.read(arm.layers[0].id, "etc/arch"), b"arm64\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_is_known_needs_no_network() {
    let setup = Setup::new();
    let found = setup.resolve().await;
    let nowhere = images(&setup.store, "127.0.0.1:1");
    let reference: Reference = "registry.invalid/library/python".parse().unwrap();
    let pinned = ImageName::Registry(reference.with_digest(found.digest));
    assert_eq!(nowhere.resolve(&pinned, &amd64()).await.unwrap().manifest, found.manifest);
    let error = nowhere.resolve(&python(), &amd64()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    let error = nowhere.pull(found.layers[0].id, silent).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(matches!(nowhere.pull(LayerId::new(Digest::of("x")), silent).await, Err(Error::Nowhere(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_files_come_from_the_blob_and_lost_blobs_from_the_registry() {
    let setup = Setup::new();
    let found = setup.resolve().await;
    let layer = &found.layers[1];
    setup.images.pull(layer.id, silent).await.unwrap();
    setup.blob_requests();

    setup.store.lose_snapshot(layer.id, "test").unwrap();
    setup.images.pull(layer.id, silent).await.unwrap();
    assert!(setup.here(layer.id));
    assert_eq!(setup.blob_requests(), []);

    // A bit flips on the disk; the length stays.
    setup.store.lose_snapshot(layer.id, "test").unwrap();
    let path = setup.store.blob_path(&layer.descriptor.digest).unwrap().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    setup.images.pull(layer.id, silent).await.unwrap();
    assert_eq!(setup.blob_requests().len(), 1);
    assert_eq!(setup.read(layer.id, "opt/payload").len(), PAYLOAD);
    assert!(setup.store.read_blob(&layer.descriptor.digest).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_alone() {
    let setup = Setup::new();
    let found = setup.resolve().await;
    let layer = &found.layers[1];
    setup.blob_requests();
    let (one, other) = tokio::join!(setup.images.load(layer.id, silent), setup.images.load(layer.id, silent));
    one.unwrap();
    other.unwrap();
    assert_eq!(setup.blob_requests().len(), 1);
    assert!(!setup.here(layer.id), "nothing is unpacked");
    let record = setup.store.layer(layer.id).unwrap().unwrap();
    assert!(record.blobs.iter().any(|blob| blob.digest == layer.descriptor.digest && blob.made_by.is_none()));

    // What is here is unpacked without the network, and a lost archive is loaded again for a layer that is unpacked.
    setup.images.pull(layer.id, silent).await.unwrap();
    assert_eq!(setup.blob_requests(), []);
    setup.store.lose_blob(&layer.descriptor.digest, "test").unwrap();
    setup.images.load(layer.id, silent).await.unwrap();
    assert_eq!(setup.blob_requests().len(), 1);
    assert!(matches!(setup.images.load(LayerId::new(Digest::of("x")), silent).await, Err(Error::Nowhere(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_downloads() {
    let setup = Setup::new();
    let found = setup.resolve().await;
    let layer = found.layers[1].id;
    setup.hub.order(Server::Content, "/data", 1, Fault::Cut { after: 700_000 });
    setup.images.pull(layer, silent).await.unwrap();
    assert_eq!(setup.read(layer, "opt/payload").len(), PAYLOAD);

    // What the registry says is the error, not that the stream ended.
    let other = found.layers[0].id;
    setup.hub.order(Server::Content, "/data", 1, Fault::Answer { status: 404, retry_after: None });
    match setup.images.pull(other, silent).await.unwrap_err() {
        Error::Registry(cooper_registry::Error::Mirrors { mirrors, .. }) => {
            assert!(mirrors[0].is_not_found())
        }
        error => panic!("{error:?}"),
    }
    setup.hub.order(Server::Content, "/data", 1, Fault::Corrupt);
    assert!(setup.images.pull(other, silent).await.is_err());
    assert!(!setup.here(other));
    setup.images.pull(other, silent).await.unwrap();
    assert!(setup.here(other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_leaves_nothing_and_blocks_nobody() {
    let setup = Setup::new();
    let layer = setup.resolve().await.layers[1].id;
    let came = Arc::new(AtomicU64::new(0));
    let counter = came.clone();
    setup.hub.order(Server::Content, "/data", 1000, Fault::Cut { after: 1000 });
    let images = setup.images.clone();
    let pull = tokio::spawn(async move {
        images.pull(layer, move |read, _| counter.store(read, Ordering::SeqCst)).await
    });
    while came.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    assert!(!setup.here(layer));
    let second = images_of(&setup);
    second.pull(layer, silent).await.unwrap();
    assert!(setup.here(layer));
}

/// Another client of the same store, with a hub that has no faults.
fn images_of(setup: &Setup) -> Images {
    let hub = Box::leak(Box::new(Hub::start().unwrap()));
    hub.add("library/python", "3.9-slim", setup.layout.dir());
    images(&setup.store, &hub.host())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_folder() {
    let setup = Setup::new();
    let by_tag = setup.images.resolve(&setup.in_folder(":3.9-slim"), &amd64()).await.unwrap();
    let from_registry = setup.resolve().await;
    assert_eq!((by_tag.digest, by_tag.manifest), (from_registry.digest, from_registry.manifest));
    assert_eq!(by_tag.layers, from_registry.layers);
    for suffix in [String::new(), format!("@{}", by_tag.digest), format!("@{}", by_tag.manifest)] {
        let found = setup.images.resolve(&setup.in_folder(&suffix), &amd64()).await.unwrap();
        assert_eq!(found.manifest, by_tag.manifest, "{suffix}");
    }
    setup.hub.seen();
    let (other, dir) = (tempfile::tempdir().unwrap(), setup.layout.dir());
    let store = store(other.path());
    let images = images(&store, "127.0.0.1:1");
    let layers = images.register(&by_tag).await.unwrap();
    for layer in &layers {
        images.pull(*layer, silent).await.unwrap();
    }
    assert_eq!(setup.hub.seen(), []);
    let record = store.layer(layers[0]).unwrap().unwrap();
    assert_eq!(record.remotes[0].reference, format!("oci-layout:{}", dir.canonicalize().unwrap().display()));
    let arch = store.snapshot_dir(layers[0]).unwrap().unwrap().join("etc/arch");
    assert_eq!(std::fs::read(arch).unwrap(), b"amd64\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_with_faults() {
    let setup = Setup::new();
    let resolve = async |name: &ImageName| setup.images.resolve(name, &amd64()).await;
    match resolve(&setup.in_folder(":4")).await.unwrap_err() {
        Error::NoImage { available, .. } => assert_eq!(available, ["3.9-slim"]),
        error => panic!("{error:?}"),
    }
    let absent = setup.in_folder(&format!("@{}", Digest::of("x")));
    assert!(matches!(resolve(&absent).await, Err(Error::NoImage { .. })));
    assert!(matches!(resolve(&ImageName::layout("/no/such/folder")).await, Err(Error::Layout { .. })));
    let file = setup.in_folder("/oci-layout");
    let error = resolve(&file).await.unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("unpack")), "{error:?}");

    let found = resolve(&setup.in_folder("")).await.unwrap();
    let blob = |digest: Digest| setup.layout.dir().join("blobs/sha256").join(digest.hex());
    let layer = blob(found.layers[0].descriptor.digest);
    let mut bytes = std::fs::read(&layer).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    setup.images.register(&found).await.unwrap();
    assert!(setup.images.pull(found.layers[0].id, silent).await.is_err());
    assert!(!setup.here(found.layers[0].id));

    std::fs::write(blob(found.manifest), b"{}").unwrap();
    assert!(matches!(resolve(&setup.in_folder("")).await, Err(Error::LayoutBlob { .. })));
    std::fs::write(setup.layout.dir().join("index.json"), b"[").unwrap();
    assert!(matches!(resolve(&setup.in_folder("")).await, Err(Error::LayoutJson { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_lie() {
    let setup = Setup::new();
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(dir.path()).unwrap();
    let mut layer = layout.layer(&[Entry::File("a", b"a")], Packing::Gzip).unwrap();
    layer.diff_id = Digest::of("another");
    let image = layout.image("linux/amd64", Image::default(), std::slice::from_ref(&layer)).unwrap();
    layout.tag("wrong-layer", image).unwrap();
    let config = layout.blob(media_type::OCI_CONFIG, &Image::default().to_json().unwrap()).unwrap();
    let manifest = Manifest::new(config, vec![layer.descriptor.clone()]).to_json().unwrap();
    let manifest = layout.blob(media_type::OCI_MANIFEST, &manifest).unwrap();
    layout.tag("too-few", manifest).unwrap();

    let name = |tag: &str| ImageName::layout(&format!("{}:{tag}", dir.path().display()));
    let found = setup.images.resolve(&name("wrong-layer"), &amd64()).await.unwrap();
    setup.images.register(&found).await.unwrap();
    match setup.images.pull(found.layers[0].id, silent).await.unwrap_err() {
        Error::DiffId { layer, .. } => assert_eq!(*layer.digest(), Digest::of("another")),
        error => panic!("{error:?}"),
    }
    assert!(!setup.here(found.layers[0].id));
    assert!(matches!(setup.images.resolve(&name("too-few"), &amd64()).await, Err(Error::Image { .. })));
}

#[test]
fn names_of_layouts() {
    let digest = Digest::of("x");
    for (text, dir, reference) in [
        ("a/b", "a/b", ""),
        ("a/b:tag", "a/b", "tag"),
        ("a:b/c", "a:b/c", ""),
        (&format!("a/b@{digest}"), "a/b", &digest.to_string()),
        (&format!("a/b:tag@{digest}"), "a/b", &digest.to_string()),
        ("a@b/c", "a@b/c", ""),
    ] {
        let name = ImageName::layout(text);
        assert_eq!(name, ImageName::Layout { dir: dir.into(), reference: reference.to_owned() }, "{text}");
        assert_eq!(ImageName::layout(name.to_string().trim_start_matches("oci-layout://")), name, "{text}");
    }
}
