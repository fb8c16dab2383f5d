//! Files from the web.

use cooper_layer::{Kind, LayerId, LayerPath, Timestamp};
use cooper_oci::Digest;
use cooper_registry::{Config, Web};
use cooper_source::{Error, UrlFile, Urls};
use cooper_store::Store;
use cooper_tests::layout::gzip;
use cooper_tests::site::{Page, Site};

struct Setup {
    site: Site,
    store: Store,
    urls: Urls,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = super::store(&dir.path().join("store"));
        let mut config = Config::default();
        config.limits.first_wait = std::time::Duration::from_millis(5);
        let urls = Urls::new(store.clone(), Web::new(&config).unwrap());
        Self { site: Site::start().unwrap(), store, urls, _dir: dir }
    }

    fn file(&self, path: &str) -> UrlFile {
        UrlFile { url: self.site.url(path), name: "f".into(), checksum: None, mode: None }
    }

    async fn resolve(&self, file: &UrlFile) -> Result<LayerId, Error> {
        self.urls.resolve(file, |_, _| {}).await
    }

    fn text(&self, layer: LayerId) -> String {
        std::fs::read_to_string(self.store.snapshot_dir(layer).unwrap().unwrap().join("f")).unwrap()
    }
}

fn page(body: &str, headers: &[(&'static str, &str)]) -> Page {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Page { body: body.into(), headers, ..Page::default() }
}

#[tokio::test]
async fn a_file_is_as_the_server_says() {
    let setup = Setup::new();
    let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    setup.site.put("/a", page("content", &[modified]));
    let layer = setup.resolve(&setup.file("/a")).await.unwrap();
    assert_eq!(setup.text(layer), "content");
    let index = setup.store.index(layer).unwrap().unwrap();
    let entry = index.get(&LayerPath::new("f").unwrap()).unwrap();
    assert_eq!(
        (entry.mode, entry.uid, entry.gid, entry.mtime),
        (0o600, 0, 0, Timestamp::new(784_111_777, 0))
    );
    assert_eq!(entry.kind, Kind::File { size: 7, digest: Digest::of("content") });
    // The disk says the same, for those who read there.
    let meta = setup.store.snapshot_dir(layer).unwrap().unwrap().join("f").metadata().unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o600, 784_111_777));

    let with_mode = UrlFile { mode: Some(0o644), ..setup.file("/a") };
    let other = setup.resolve(&with_mode).await.unwrap();
    assert_ne!(other, layer);
    assert_eq!(setup.store.index(other).unwrap().unwrap().iter().next().unwrap().mode, 0o644);
}

#[tokio::test]
async fn what_has_not_changed_is_not_loaded_again() {
    let setup = Setup::new();
    setup.site.put("/tagged", page("1", &[("ETag", "\"x\"")]));
    setup.site.put("/headless", Page { no_head: true, ..page("1", &[("ETag", "\"x\"")]) });
    setup.site.put("/plain", page("1", &[]));
    for (path, again) in [
        ("/tagged", &["HEAD /tagged 304"][..]),
        ("/headless", &["HEAD /headless 405", "GET /headless 304"]),
        ("/plain", &["GET /plain 200"]),
    ] {
        let first = setup.resolve(&setup.file(path)).await.unwrap();
        setup.site.seen();
        assert_eq!(setup.resolve(&setup.file(path)).await.unwrap(), first);
        assert_eq!(setup.site.seen(), again);
        // Without its bytes the tag is worth nothing.
        setup.store.lose_snapshot(first, "test").unwrap();
        assert_eq!(setup.resolve(&setup.file(path)).await.unwrap(), first);
        assert_eq!(setup.site.seen(), [format!("GET {path} 200")]);
    }
    setup.site.put("/tagged", page("2", &[("ETag", "\"y\"")]));
    let changed = setup.resolve(&setup.file("/tagged")).await.unwrap();
    assert_eq!(setup.text(changed), "2");
}

#[tokio::test]
async fn a_checksum_needs_no_network_twice() {
    let setup = Setup::new();
    setup.site.put("/a", page("content", &[]));
    let right = UrlFile { checksum: Some(Digest::of("content")), ..setup.file("/a") };
    let layer = setup.resolve(&right).await.unwrap();
    setup.site.seen();
    // From wherever it is.
    let elsewhere = UrlFile { url: setup.site.url("/elsewhere"), ..right.clone() };
    assert_eq!(setup.resolve(&elsewhere).await.unwrap(), layer);
    assert_eq!(setup.site.seen(), [""; 0]);
    let wrong = UrlFile { checksum: Some(Digest::of("other")), ..setup.file("/a") };
    let error = setup.resolve(&wrong).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "digest mismatch for {}: {} (expected: {})",
            wrong.url,
            Digest::of("content"),
            Digest::of("other")
        )
    );
    // What was refused is nowhere.
    assert!(setup.resolve(&wrong).await.is_err());
}

#[tokio::test]
async fn broken_connections_redirects_and_compression() {
    let setup = Setup::new();
    let long = "long ".repeat(100_000);
    setup.site.put("/cut", Page { cuts: 2, ..page(&long, &[]) });
    let layer = setup.resolve(&setup.file("/cut")).await.unwrap();
    assert_eq!(setup.text(layer), long);
    assert_eq!(setup.site.seen().len(), 3);

    setup.site.put("/moved", Page { status: 302, ..page("", &[("Location", "/cut")]) });
    assert_eq!(setup.resolve(&setup.file("/moved")).await.unwrap(), layer);

    // Compressed for the way, not asked whether one can read it.
    let packed = Page { body: gzip(b"content"), ..page("", &[("Content-Encoding", "gzip")]) };
    setup.site.put("/packed", packed.clone());
    let layer = setup.resolve(&setup.file("/packed")).await.unwrap();
    assert_eq!(setup.text(layer), "content");
    // An archive stays one.
    setup.site.put("/archive", Page { headers: Vec::new(), ..packed });
    let layer = setup.resolve(&setup.file("/archive")).await.unwrap();
    let path = setup.store.snapshot_dir(layer).unwrap().unwrap().join("f");
    assert_eq!(std::fs::read(path).unwrap(), gzip(b"content"));
}

#[tokio::test]
async fn what_cannot_be_had() {
    let setup = Setup::new();
    setup.site.put("/private", Page { status: 403, ..page("", &[]) });
    setup.site.put("/cut", Page { cuts: 99, ..page("long", &[]) });
    for (file, message) in [
        (setup.file("/none"), "not found"),
        (setup.file("/private"), "denies access"),
        (setup.file("/cut"), "broke"),
        (UrlFile { url: "http://127.0.0.1:1/f".into(), ..setup.file("") }, "cannot connect"),
        (UrlFile { name: "../f".into(), ..setup.file("/private") }, "cannot be called `../f`"),
        (UrlFile { name: "a/b".into(), ..setup.file("/private") }, "cannot be called `a/b`"),
        (UrlFile { name: String::new(), ..setup.file("/private") }, "cannot be called"),
        (UrlFile { url: "nothing".into(), ..setup.file("") }, "no address"),
    ] {
        let error = setup.resolve(&file).await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    // A login in an address is in no message.
    let address = setup.site.url("/none").replace("http://", "http://user:secret@");
    let error = setup.resolve(&UrlFile { url: address, ..setup.file("") }).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
}
