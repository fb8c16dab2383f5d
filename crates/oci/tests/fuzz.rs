//! Damaged JSON and names: no panic, nothing slow, and what is taken means the same when it is written again.
//!
//! The example `fuzz` is the same for minutes.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

use cooper_oci::{Descriptor, Digest, Image, Index, Manifest, Platform, Reference, Timestamp, media_type};
use cooper_tests::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "json",
        samples: documents,
        words: &[
            "null",
            "{\"a\":",
            "[[[[[[[[",
            "\"config\":",
            "\"layers\":[",
            "\"mediaType\":",
            "\\u0000",
            "\\ud800",
            "1e400",
            "sha256:",
            "\"created\":\"0001-01-01T00:00:00Z\"",
        ],
        check: json,
    },
    Target {
        name: "reference",
        samples: names,
        words: &[
            "@sha256:",
            ":",
            "/",
            "..",
            "__",
            "localhost",
            "[::1]:5000",
            "docker.io/",
            "library/",
            "linux/arm/v7",
        ],
        check: reference,
    },
];

fn documents() -> Vec<Vec<u8>> {
    let layer = Descriptor::of(media_type::OCI_LAYER, b"layer");
    let manifest =
        Manifest::new(Descriptor::of(media_type::OCI_CONFIG, b"{}"), vec![layer]).to_json().unwrap();
    let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    entry.platform = Some(Platform::new("linux", "arm64").with_variant("v8"));
    entry.annotations.insert("a".to_owned(), "b".to_owned());
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-02-29T23:59:60.123456789+01:00","config":{{"Env":["A=b"],
        "Cmd":["sh","-c","x"],"Entrypoint":null,"ExposedPorts":{{"80/tcp":{{}}}},"Volumes":{{"/v":{{}}}},"Labels":{{"l":"v"}},
        "Healthcheck":{{"Test":["CMD","x"],"Interval":30000000000}},"StopSignal":"SIGTERM","User":"1:2"}},
        "rootfs":{{"type":"layers","diff_ids":["{0}","{0}"]}},"history":[{{"created_by":"RUN","empty_layer":true}}],"other":[1.5,{{}}]}}"#,
        Digest::of("x")
    );
    vec![manifest, Index::new(vec![entry]).to_json().unwrap(), config.into_bytes()]
}

fn json(bytes: &[u8]) -> Result<bool, String> {
    let mut taken = false;
    if let Ok(value) = Manifest::parse(bytes) {
        taken = true;
        same("manifest", &value, value.to_json(), Manifest::parse)?;
    }
    if let Ok(value) = Index::parse(bytes) {
        taken = true;
        same("index", &value, value.to_json(), Index::parse)?;
        // Nothing of it may trip over what came from outside.
        value.candidates(&Platform::new("linux", "amd64"));
        value.platforms();
    }
    if let Ok(value) = Image::parse(bytes) {
        taken = true;
        same("image", &value, value.to_json(), Image::parse)?;
    }
    Ok(taken)
}

fn same<T: PartialEq + std::fmt::Debug, E: std::fmt::Display>(
    what: &str,
    value: &T,
    written: Result<Vec<u8>, E>,
    parse: fn(&[u8]) -> Result<T, E>,
) -> Result<(), String> {
    let written = written.map_err(|error| format!("{what} cannot be written: {error}"))?;
    let again = parse(&written).map_err(|error| format!("{what} cannot be read again: {error}"))?;
    if again == *value { Ok(()) } else { Err(format!("{what} {value:?} became {again:?}")) }
}

fn names() -> Vec<Vec<u8>> {
    let digest = Digest::of("x");
    [
        "python:3.9-slim",
        "docker.io/library/python",
        "localhost:5000/a/b-c__d.e:tag",
        "[2001:db8::1]:443/x",
        &format!("example.com/a@{digest}"),
        &format!("a:b@{digest}"),
        &digest.to_string(),
        "linux/arm/v7",
        "linux/amd64",
        "windows/amd64",
        "2024-02-29T23:59:59.123456789+01:00",
        "0001-01-01T00:00:00Z",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn reference(bytes: &[u8]) -> Result<bool, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut taken = false;
    if let Ok(value) = text.parse::<Reference>() {
        taken = true;
        let written = value.to_string();
        if written.parse().as_ref() != Ok(&value) {
            return Err(format!("`{text}` is written as `{written}`, which is something else"));
        }
        let familiar = value.familiar();
        if Reference::parse_normalized(&familiar).or_else(|_| familiar.parse()).as_ref() != Ok(&value) {
            return Err(format!("`{text}` is familiar as `{familiar}`, which is something else"));
        }
        if value.path().split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(format!("`{text}` has the path `{}`", value.path()));
        }
    }
    if let Ok(value) = text.parse::<Digest>() {
        taken = true;
        if value.to_string() != text {
            return Err(format!("digest `{text}` is written as `{value}`"));
        }
    }
    if let Ok(value) = text.parse::<Platform>() {
        taken = true;
        if value.full().parse::<Platform>().map(|again| again.normalized()).as_ref()
            != Ok(&value.normalized())
        {
            return Err(format!("platform `{text}` is written as `{}`", value.full()));
        }
    }
    if let Ok(value) = text.parse::<Timestamp>() {
        taken = true;
        if value.to_string().parse() != Ok(value) {
            return Err(format!("time `{text}` is written as `{value}`"));
        }
    }
    Ok(taken)
}

#[test]
fn damaged_documents_and_names() {
    for target in TARGETS {
        cooper_tests::fuzz::sample(target, 5000);
    }
}
