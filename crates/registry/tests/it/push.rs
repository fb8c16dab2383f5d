use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use cooper_oci::{Descriptor, Digest, Manifest, Platform, Reference, media_type};
use cooper_registry::{Client, Credentials, Error, Known, Upload};

use super::{anonymous, client, read};

/// A `docker-registry` of this test alone; it ends with it.
struct Registry {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts a registry, with basic authentication by an htpasswd file if one is given. `None`, noted as
/// skipped, where there is no program `docker-registry`.
fn start(htpasswd: Option<&str>) -> Option<Registry> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut config = format!(
        "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage:\n  filesystem: {{rootdirectory: '{}'}}\n  \
         delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n",
        path("data")
    );
    if let Some(line) = htpasswd {
        std::fs::write(path("htpasswd"), line).unwrap();
        config.push_str(&format!("auth:\n  htpasswd: {{realm: test, path: '{}'}}\n", path("htpasswd")));
    }
    std::fs::write(path("config.yml"), config).unwrap();
    let child = Command::new("docker-registry")
        .args(["serve", &path("config.yml")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            cooper_tests::skip("registry push", &format!("docker-registry: {error}"));
            return None;
        }
    };
    // The log tells which port the system chose.
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let host = loop {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "docker-registry ended");
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            break format!("127.0.0.1:{port}");
        }
    };
    // Nobody reads on: a full pipe would stop the registry.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Some(Registry { child, host, _dir: dir })
}

async fn push(client: &Client, reference: &Reference) -> Result<(Descriptor, Vec<u8>), Error> {
    let dir = tempfile::tempdir().unwrap();
    let big: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = dir.path().join("layer");
    std::fs::write(&file, &big).unwrap();
    let layer = Descriptor::of(media_type::OCI_LAYER, &big);
    client.push_blob(reference, &layer, &Upload::File(file)).await?;
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#;
    let upload = Upload::Bytes(Bytes::from_static(config));
    let config = Descriptor::of(media_type::OCI_CONFIG, config);
    client.push_blob(reference, &config, &upload).await?;
    let manifest = Manifest::new(config, vec![layer.clone()]).to_json().unwrap();
    client.push_manifest(reference, media_type::OCI_MANIFEST, Bytes::from(manifest)).await?;
    Ok((layer, big))
}

#[tokio::test]
async fn push_and_pull() {
    let Some(registry) = start(None) else { return };
    let client = anonymous();
    let reference: Reference = format!("{}/a/b:1", registry.host).parse().unwrap();
    let (layer, bytes) = push(&client, &reference).await.unwrap();

    let (top, image) = client.image(&reference, &Platform::new("linux", "amd64")).await.unwrap();
    assert_eq!(image.manifest.layers, std::slice::from_ref(&layer));
    assert_eq!(client.head(&reference).await.unwrap(), top.descriptor);
    assert_eq!(read(client.blob(&reference, &layer).unwrap()).await.unwrap(), bytes);
    assert!(client.has_blob(&reference, layer.digest).await.unwrap());
    assert!(!client.has_blob(&reference, Digest::of("nothing")).await.unwrap());

    // Once more: nothing is uploaded, and the manifest is the same.
    push(&client, &reference).await.unwrap();

    let other: Reference = format!("{}/c:1", registry.host).parse().unwrap();
    assert!(!client.has_blob(&other, layer.digest).await.unwrap());
    assert!(client.mount_blob(&other, "a/b", layer.digest).await.unwrap());
    assert!(client.has_blob(&other, layer.digest).await.unwrap());
    assert!(!client.mount_blob(&other, "a/b", Digest::of("nothing")).await.unwrap());
}

#[tokio::test]
async fn the_registry_refuses_wrong_bytes() {
    let Some(registry) = start(None) else { return };
    let reference: Reference = format!("{}/a:1", registry.host).parse().unwrap();
    let wrong = Descriptor::of(media_type::OCI_LAYER, b"one");
    let upload = Upload::Bytes(Bytes::from_static(b"two"));
    let error = anonymous().push_blob(&reference, &wrong, &upload).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error:?}");
}

#[tokio::test]
async fn basic_authentication() {
    // me:secret
    let line = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
    let Some(registry) = start(Some(line)) else { return };
    let reference: Reference = format!("{}/a:1", registry.host).parse().unwrap();
    let error = push(&anonymous(), &reference).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let with = |password: &str| {
        let password = Credentials::Password { user: "me".to_owned(), password: password.to_owned() };
        client(Known::anonymous().with(registry.host.clone(), password))
    };
    assert!(matches!(push(&with("wrong"), &reference).await, Err(Error::Unauthorized { .. })));
    push(&with("secret"), &reference).await.unwrap();
    with("secret").manifest(&reference).await.unwrap();
}
