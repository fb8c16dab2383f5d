use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cooper_oci::{Descriptor, Digest, Platform, Reference, media_type};
use cooper_registry::{Client, Credentials, Error, Known};
use cooper_tests::hub::{Fault, Hub, Login, Seen, Server};
use cooper_tests::layout::{Entry, Layout, Packing};

use super::{anonymous, client, config, read};

const PAYLOAD: usize = 3 << 20;

struct Setup {
    hub: Hub,
    layout: Layout,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::official(dir.path(), "3.9-slim", PAYLOAD).unwrap();
        let hub = Hub::start().unwrap();
        hub.add("library/python", "3.9-slim", layout.dir());
        Self { hub, layout, _dir: dir }
    }

    fn reference(&self) -> Reference {
        format!("{}/library/python:3.9-slim", self.hub.host()).parse().unwrap()
    }

    fn bytes(&self, descriptor: &Descriptor) -> Vec<u8> {
        std::fs::read(self.layout.dir().join("blobs/sha256").join(descriptor.digest.hex())).unwrap()
    }

    async fn upper(&self, client: &Client) -> Descriptor {
        let (_, image) = client.image(&self.reference(), &amd64()).await.unwrap();
        image.manifest.layers[1].clone()
    }
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64")
}

fn at(seen: &[Seen], server: Server) -> Vec<&Seen> {
    seen.iter().filter(|seen| seen.server == server).collect()
}

#[tokio::test]
async fn python_comes_through_a_mirror() {
    let setup = Setup::new();
    let client = Client::new(&config(Some(setup.hub.host())), Arc::new(Known::anonymous())).unwrap();
    let reference: Reference = "python:3.9-slim".parse().unwrap();
    for (platform, arch) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64")] {
        let (top, image) = client.image(&reference, &platform.parse().unwrap()).await.unwrap();
        assert_eq!(top.descriptor.media_type, media_type::OCI_INDEX);
        assert_eq!(top.descriptor.digest, Digest::of(&top.bytes));
        assert_eq!(image.image.architecture, arch);
        assert_eq!(image.image.config.cmd, ["python3"]);
        for layer in &image.manifest.layers {
            let bytes = read(client.blob(&reference, layer).unwrap()).await.unwrap();
            assert_eq!(bytes, setup.bytes(layer));
        }
    }
    let head = client.head(&reference).await.unwrap();
    assert_eq!(head.media_type, media_type::OCI_INDEX);

    let seen = setup.hub.seen();
    assert!(at(&seen, Server::Registry).iter().all(|seen| seen.path.contains("ns=docker.io")));
    // One token serves all requests of a repository.
    assert_eq!(at(&seen, Server::Token).len(), 1);
    assert!(at(&seen, Server::Token)[0].path.contains("scope=repository%3Alibrary%2Fpython%3Apull"));
    // The redirect's target saw no credentials.
    let content = at(&seen, Server::Content);
    assert_eq!(content.len(), 6);
    assert!(content.iter().all(|seen| seen.authorization.is_none() && seen.status == 200), "{content:?}");
}

#[tokio::test]
async fn one_token_for_many_at_once() {
    let setup = Setup::new();
    let client = anonymous();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (client, reference) = (client.clone(), setup.reference());
        tasks.spawn(async move { client.head(&reference).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(at(&setup.hub.seen(), Server::Token).len(), 1);
}

#[tokio::test]
async fn a_forgotten_token_is_fetched_again() {
    let setup = Setup::new();
    let client = anonymous();
    client.manifest(&setup.reference()).await.unwrap();
    setup.hub.forget_tokens();
    client.manifest(&setup.reference()).await.unwrap();
    assert_eq!(at(&setup.hub.seen(), Server::Token).len(), 2);
}

#[tokio::test]
async fn private_repositories() {
    let setup = Setup::new();
    let login = Login {
        user: "me".to_owned(),
        password: "p w&%".to_owned(),
        identity_token: "refresh+/=".to_owned(),
    };
    setup.hub.protect("library/python", login);
    let host = setup.hub.host();

    let error = anonymous().manifest(&setup.reference()).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { .. }), "{error:?}");
    assert!(!error.is_unreachable());
    assert!(error.hint().is_some_and(|hint| hint.contains(&format!("docker login {host}"))), "{error:?}");

    let password =
        |password: &str| Credentials::Password { user: "me".to_owned(), password: password.to_owned() };
    for good in [password("p w&%"), Credentials::IdentityToken("refresh+/=".to_owned())] {
        let client = client(Known::anonymous().with(host.clone(), good));
        let layer = setup.upper(&client).await;
        assert_eq!(
            read(client.blob(&setup.reference(), &layer).unwrap()).await.unwrap(),
            setup.bytes(&layer)
        );
    }
    for bad in [
        password("wrong"),
        Credentials::IdentityToken("x".to_owned()),
        Credentials::RegistryToken("x".into()),
    ] {
        let client = client(Known::anonymous().with(host.clone(), bad));
        let error = client.manifest(&setup.reference()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    }
    // Credentials of another host are not for this one.
    let other = client(Known::anonymous().with("docker.io", password("p w&%")));
    setup.hub.seen();
    assert!(other.manifest(&setup.reference()).await.is_err());
    assert!(at(&setup.hub.seen(), Server::Token).iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn refusals_have_their_own_kinds() {
    let setup = Setup::new();
    let client = anonymous();
    let missing: Reference = format!("{}/library/python:4", setup.hub.host()).parse().unwrap();
    let error = client.manifest(&missing).await.unwrap_err();
    assert!(error.is_not_found() && !error.is_unreachable());
    assert!(error.to_string().contains("manifest unknown"), "{error}");

    let nobody: Reference = format!("{}/library/nobody", setup.hub.host()).parse().unwrap();
    assert!(matches!(client.manifest(&nobody).await, Err(Error::Unauthorized { .. })));

    let status = |status| Fault::Answer { status, retry_after: None };
    setup.hub.order(Server::Registry, "manifests", 1, status(403));
    assert!(matches!(client.manifest(&setup.reference()).await, Err(Error::Forbidden { .. })));
    setup.hub.order(Server::Registry, "manifests", 1, status(418));
    assert!(matches!(client.manifest(&setup.reference()).await, Err(Error::Status { status: 418, .. })));
    setup.hub.order(Server::Registry, "manifests", 5, status(503));
    setup.hub.seen();
    assert!(matches!(client.manifest(&setup.reference()).await, Err(Error::Status { status: 503, .. })));
    assert_eq!(setup.hub.seen().len(), 5);
}

#[tokio::test]
async fn rate_limits_are_waited_for() {
    let setup = Setup::new();
    let client = anonymous();
    client.head(&setup.reference()).await.unwrap();
    setup.hub.order(Server::Registry, "manifests", 1, Fault::Answer { status: 429, retry_after: Some(1) });
    let start = Instant::now();
    client.manifest(&setup.reference()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    // A wait beyond the limit is an error at once.
    setup.hub.order(Server::Registry, "manifests", 1, Fault::Answer { status: 429, retry_after: Some(3600) });
    setup.hub.seen();
    let error = client.manifest(&setup.reference()).await.unwrap_err();
    assert_eq!(setup.hub.seen().len(), 1);
    assert!(!error.is_unreachable());
    match &error {
        Error::RateLimited { after, .. } => assert_eq!(*after, Some(Duration::from_secs(3600))),
        other => panic!("{other:?}"),
    }
    assert!(error.hint().is_some_and(|hint| hint.contains("in 3600 s")));
}

#[tokio::test]
async fn passing_faults_are_survived() {
    let setup = Setup::new();
    let client = anonymous();
    let down = Fault::Answer { status: 502, retry_after: None };
    setup.hub.order(Server::Token, "token", 1, down.clone());
    setup.hub.order(Server::Registry, "manifests", 1, down);
    setup.hub.order(Server::Registry, "manifests", 1, Fault::HangUp);
    setup.hub.order(Server::Registry, "manifests", 1, Fault::Cut { after: 10 });
    client.manifest(&setup.reference()).await.unwrap();
}

#[tokio::test]
async fn a_broken_blob_goes_on_where_it_broke() {
    let setup = Setup::new();
    let client = anonymous();
    let layer = setup.upper(&client).await;
    for at_once in [1 << 20, 1] {
        setup.hub.order(Server::Content, "/data", 2, Fault::Cut { after: at_once });
    }
    setup.hub.order(Server::Content, "/data", 1, Fault::HangUp);
    setup.hub.seen();
    let mut stream = client.blob(&setup.reference(), &layer).unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&chunk);
        assert_eq!(stream.offset(), bytes.len() as u64);
    }
    assert!(stream.next().await.unwrap().is_none());
    assert_eq!(bytes, setup.bytes(&layer));
    let seen = setup.hub.seen();
    let ranges: Vec<_> =
        at(&seen, Server::Content).into_iter().filter_map(|seen| seen.range.clone()).collect();
    let (first, second) = (1 << 20, 2 << 20);
    assert_eq!(
        ranges,
        [
            format!("bytes={first}-"),
            format!("bytes={second}-"),
            format!("bytes={}-", second + 1),
            format!("bytes={}-", second + 2),
        ]
    );
    assert!(at(&seen, Server::Content).iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start() {
    let setup = Setup::new();
    let client = anonymous();
    let layer = setup.upper(&client).await;
    setup.hub.order(Server::Content, "/data", 1, Fault::Cut { after: 1_000_000 });
    setup.hub.order(Server::Content, "/data", 1, Fault::NoRanges);
    assert_eq!(read(client.blob(&setup.reference(), &layer).unwrap()).await.unwrap(), setup.bytes(&layer));
}

#[tokio::test]
async fn a_server_that_always_breaks_is_given_up() {
    let setup = Setup::new();
    let client = anonymous();
    let layer = setup.upper(&client).await;
    setup.hub.order(Server::Content, "/data", 1000, Fault::Cut { after: 0 });
    setup.hub.seen();
    let error = read(client.blob(&setup.reference(), &layer).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    assert!(!error.is_unreachable());
    assert_eq!(at(&setup.hub.seen(), Server::Content).len(), 5);
}

#[tokio::test]
async fn wrong_bytes_are_noticed() {
    let setup = Setup::new();
    let client = anonymous();
    let layer = setup.upper(&client).await;
    setup.hub.order(Server::Content, "/data", 1, Fault::Corrupt);
    let mut stream = client.blob(&setup.reference(), &layer).unwrap();
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end came"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Digest { expected, .. } if *expected == layer.digest), "{error:?}");
    assert!(stream.next().await.unwrap().is_none());

    let mut shorter = layer.clone();
    shorter.size -= 1;
    let error = read(client.blob(&setup.reference(), &shorter).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Size { .. }), "{error:?}");

    let top = client.manifest(&setup.reference()).await.unwrap();
    let by_digest = setup.reference().with_digest(top.descriptor.digest);
    assert_eq!(client.manifest(&by_digest).await.unwrap(), top);
    setup.hub.order(Server::Registry, "manifests", 2, Fault::Corrupt);
    assert!(matches!(client.manifest(&by_digest).await, Err(Error::Digest { .. })));
    assert!(matches!(client.manifest(&setup.reference()).await, Err(Error::Digest { .. })));
}

#[tokio::test]
async fn a_mirror_that_fails_gives_way() {
    let (bad, good) = (Setup::new(), Setup::new());
    let mut config = config(None);
    config.mirrors.insert("docker.io".to_owned(), vec![bad.hub.host(), good.hub.host()]);
    let client = Client::new(&config, Arc::new(Known::anonymous())).unwrap();
    let reference: Reference = "python:3.9-slim".parse().unwrap();
    bad.hub.order(Server::Registry, "manifests", 1, Fault::Answer { status: 404, retry_after: None });
    let (_, image) = client.image(&reference, &amd64()).await.unwrap();

    // In the middle of a blob too: what the first mirror sent counts.
    let layer = &image.manifest.layers[1];
    bad.hub.order(Server::Content, "/data", 1, Fault::Cut { after: 2_000_000 });
    bad.hub.order(Server::Content, "/data", 100, Fault::HangUp);
    good.hub.seen();
    assert_eq!(read(client.blob(&reference, layer).unwrap()).await.unwrap(), good.bytes(layer));
    let ranges: Vec<_> = good.hub.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges, ["bytes=2000000-", "bytes=2000000-"]);
}

#[tokio::test]
async fn no_image_for_the_platform() {
    let setup = Setup::new();
    let error = anonymous().image(&setup.reference(), &Platform::new("linux", "s390x")).await.unwrap_err();
    match &error {
        Error::NoPlatform { available, .. } => assert_eq!(available, &["linux/amd64", "linux/arm64/v8"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn images_of_other_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(dir.path()).unwrap();
    let layer = layout.layer(&[Entry::File("a", b"a")], Packing::Plain).unwrap();
    let mut image = layout.image("linux/arm64", cooper_oci::Image::default(), &[layer]).unwrap();
    layout.tag("alone", image.clone()).unwrap();
    image.platform = None;
    let unnamed = layout.index(vec![image.clone()]).unwrap();
    layout.tag("unnamed", unnamed.clone()).unwrap();
    let nested = layout.index(vec![unnamed]).unwrap();
    layout.tag("nested", nested).unwrap();
    let artifact = layout.attestation(&image).unwrap();
    layout.tag("artifact", artifact).unwrap();
    let hub = Hub::start().unwrap();
    for tag in ["alone", "unnamed", "nested", "artifact"] {
        hub.add("a/b", tag, dir.path());
    }
    let client = anonymous();
    let find = async |tag: &str, platform: &str| {
        let reference: Reference = format!("{}/a/b:{tag}", hub.host()).parse().unwrap();
        client.image(&reference, &platform.parse().unwrap()).await
    };
    // A manifest that stands alone is taken, and says what it is.
    assert_eq!(find("alone", "linux/amd64").await.unwrap().1.image.architecture, "arm64");
    assert_eq!(find("unnamed", "linux/arm64").await.unwrap().1.image.architecture, "arm64");
    assert!(matches!(find("unnamed", "linux/amd64").await, Err(Error::NoPlatform { .. })));
    assert_eq!(find("nested", "linux/arm64").await.unwrap().1.image.architecture, "arm64");
}

#[tokio::test]
async fn long_documents_are_refused() {
    let setup = Setup::new();
    let mut config = config(None);
    config.limits.document = 100;
    let client = Client::new(&config, Arc::new(Known::anonymous())).unwrap();
    let error = client.manifest(&setup.reference()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 100, .. }), "{error:?}");
}

#[tokio::test]
async fn unreachable_is_told_from_everything_else() {
    let client = anonymous();
    // Nobody listens: the port was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody: Reference = format!("127.0.0.1:{port}/a").parse().unwrap();
    let error = client.manifest(&nobody).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    let layer = Descriptor::of(media_type::OCI_LAYER, b"x");
    assert!(read(client.blob(&nobody, &layer).unwrap()).await.unwrap_err().is_unreachable());

    let no_name: Reference = "registry.invalid/a".parse().unwrap();
    assert!(client.manifest(&no_name).await.unwrap_err().is_unreachable());

    // A mirror that answers is a connection, although the registry has no name.
    let setup = Setup::new();
    let mut config = config(None);
    config.mirrors.insert("registry.invalid".to_owned(), vec![setup.hub.host()]);
    let mirrored = Client::new(&config, Arc::new(Known::anonymous())).unwrap();
    let error = mirrored.manifest(&no_name).await.unwrap_err();
    assert!(matches!(&error, Error::Mirrors { registry, .. } if registry.is_unreachable()), "{error:?}");
    assert!(!error.is_unreachable());

    // Something listens and speaks no TLS: that is not "no network".
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            drop(std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    let mut config = super::config(None);
    config.mirrors.insert("registry.invalid".to_owned(), vec![format!("https://{address}")]);
    let tls = Client::new(&config, Arc::new(Known::anonymous())).unwrap();
    match tls.manifest(&no_name).await.unwrap_err() {
        Error::Mirrors { mirrors, .. } => assert!(matches!(mirrors[0], Error::Tls { .. }), "{mirrors:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn plain_http_is_for_this_machine_or_by_permission() {
    // A token server outside, in plain text: the password would go there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            let mut stream = stream.unwrap();
            drop(std::io::Read::read(&mut stream, &mut [0; 4096]));
            let answer = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\
                          WWW-Authenticate: Bearer realm=\"http://tokens.example/token\"\r\n\r\n";
            drop(std::io::Write::write_all(&mut stream, answer.as_bytes()));
        }
    });
    let reference: Reference = format!("{address}/a").parse().unwrap();
    let error = anonymous().manifest(&reference).await.unwrap_err();
    assert!(matches!(&error, Error::PlainHttp { host, .. } if host == "tokens.example"), "{error:?}");
}
