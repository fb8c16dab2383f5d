//! A registry that does everything wrong. Each fault ends in a success by trying again or in a clear error, soon; and
//! no other host ever sees a credential.

mod host;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cooper_oci::{Descriptor, Digest, Reference, media_type};
use cooper_registry::{Client, Credentials, Error, Known};

use super::{config, read};
use host::{Answers, Ask, Host, Reply, head, status, unauthorized, with_body};

/// One fault.
struct Case {
    name: &'static str,
    manifest: Answers,
    blob: Answers,
    token: Answers,
    /// What the other host answers.
    other: Answers,
    expected: fn(&Result<Vec<u8>, Error>) -> bool,
}

fn redirect(to: &str) -> Reply {
    with_body("307 Away", &[("Location", to)], b"")
}

fn layer() -> Vec<u8> {
    (0..75_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn document() -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    cooper_oci::Manifest::new(config, vec![Descriptor::of(media_type::OCI_LAYER, &layer())])
        .to_json()
        .unwrap()
}

// Right answers.

fn good_manifest(_: &Ask<'_>) -> Reply {
    let body = document();
    let digest = Digest::of(&body).to_string();
    with_body(
        "200 OK",
        &[("Content-Type", media_type::OCI_MANIFEST), ("Docker-Content-Digest", &digest)],
        &body,
    )
}

fn good_blob(ask: &Ask<'_>) -> Reply {
    match ask.range {
        Some(from) if from < ask.data.len() => {
            let range = format!("bytes {from}-{}/{}", ask.data.len() - 1, ask.data.len());
            with_body("206 Part", &[("Content-Range", &range)], &ask.data[from..])
        }
        _ => with_body("200 OK", &[], ask.data),
    }
}

fn good_token(_: &Ask<'_>) -> Reply {
    with_body("200 OK", &[], br#"{"token":"fresh","expires_in":300}"#)
}

fn nobody(_: &Ask<'_>) -> Reply {
    status("418 Not asked")
}

/// The first half of the blob, whatever is asked; its length says that all comes.
fn half(ask: &Ask<'_>) -> Vec<u8> {
    let length = ask.data.len().to_string();
    [&head("200 OK", &[("Content-Length", &length)]), &ask.data[..ask.data.len() / 2]].concat()
}

/// Half the blob the first time, then something else.
fn half_then(ask: &Ask<'_>, then: Answers) -> Reply {
    if ask.nth == 0 { Reply::Bytes(half(ask)) } else { then(ask) }
}

fn once(ask: &Ask<'_>, fault: Reply, then: Answers) -> Reply {
    if ask.nth == 0 { fault } else { then(ask) }
}

fn chunked(parts: &[&[u8]], end: &[u8]) -> Vec<u8> {
    let mut out = head("200 OK", &[("Transfer-Encoding", "chunked")]);
    for part in parts {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(end);
    out
}

macro_rules! fails {
    ($pattern:pat) => {
        |result| matches!(result, Err($pattern))
    };
}

fn loads(result: &Result<Vec<u8>, Error>) -> bool {
    result.as_ref().is_ok_and(|bytes| *bytes == layer())
}

fn case(name: &'static str, expected: fn(&Result<Vec<u8>, Error>) -> bool) -> Case {
    Case { name, manifest: good_manifest, blob: good_blob, token: good_token, other: nobody, expected }
}

fn manifest(name: &'static str, manifest: Answers, expected: fn(&Result<Vec<u8>, Error>) -> bool) -> Case {
    Case { manifest, ..case(name, expected) }
}

fn blob(name: &'static str, blob: Answers, expected: fn(&Result<Vec<u8>, Error>) -> bool) -> Case {
    Case { blob, ..case(name, expected) }
}

fn token(name: &'static str, token: Answers, expected: fn(&Result<Vec<u8>, Error>) -> bool) -> Case {
    Case { token, ..case(name, expected) }
}

fn away(
    name: &'static str,
    blob: Answers,
    other: Answers,
    expected: fn(&Result<Vec<u8>, Error>) -> bool,
) -> Case {
    Case { blob, other, ..case(name, expected) }
}

/// Cuts, stalls and what is no HTTP.
fn broken() -> Vec<Case> {
    vec![
        case("no fault", loads),
        manifest("hangs up once", |ask| once(ask, Reply::Bytes(vec![]), good_manifest), loads),
        manifest("always hangs up", |_| Reply::Bytes(vec![]), fails!(Error::Broken { .. })),
        manifest(
            "cut in the head",
            |_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
            fails!(Error::Broken { .. }),
        ),
        manifest(
            "cut in the manifest, once",
            |ask| {
                once(
                    ask,
                    Reply::Bytes([&*head("200 OK", &[("Content-Length", "900")]), b"{"].concat()),
                    good_manifest,
                )
            },
            loads,
        ),
        manifest(
            "stalls before an answer, once",
            |ask| once(ask, Reply::Stall(vec![]), good_manifest),
            loads,
        ),
        manifest("always stalls", |_| Reply::Stall(vec![]), fails!(Error::Broken { .. })),
        manifest(
            "no HTTP",
            |_| Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            fails!(Error::Broken { .. }),
        ),
        manifest("zeros", |_| Reply::Endless(vec![], &[0; 4096]), fails!(Error::Broken { .. })),
        manifest(
            "endless head",
            |_| Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more and more and more\r\n"),
            fails!(Error::Broken { .. }),
        ),
        manifest(
            "only interim answers",
            |_| Reply::Endless(vec![], b"HTTP/1.1 102 Wait\r\n\r\n"),
            fails!(Error::Broken { .. }),
        ),
        blob("cut in the blob, once", |ask| half_then(ask, good_blob), loads),
        blob(
            "cut before the blob, always",
            |_| Reply::Bytes(head("200 OK", &[("Content-Length", "300000")])),
            fails!(Error::Broken { .. }),
        ),
        blob("stalls in the blob, once", |ask| once(ask, Reply::Stall(half(ask)), good_blob), loads),
        blob("stalls in the blob, always", |ask| Reply::Stall(half(ask)), fails!(Error::Broken { .. })),
        blob("bad chunk", |_| Reply::Bytes(chunked(&[], b"zz\r\n")), fails!(Error::Broken { .. })),
        blob(
            "chunk of 2^64",
            |_| Reply::Bytes(chunked(&[], b"ffffffffffffffffff\r\n")),
            fails!(Error::Broken { .. }),
        ),
        blob(
            "chunks without an end, once",
            |ask| once(ask, Reply::Bytes(chunked(&[&ask.data[..1000]], b"")), good_blob),
            loads,
        ),
    ]
}

/// Lies about sizes, digests and kinds.
fn lies() -> Vec<Case> {
    vec![
        manifest(
            "digest that is another",
            |_| with_body("200 OK", &[("Docker-Content-Digest", &Digest::of("x").to_string())], &document()),
            fails!(Error::Digest { .. }),
        ),
        manifest(
            "page for people",
            |_| with_body("200 OK", &[("Content-Type", "text/html")], b"<html>Log in</html>"),
            fails!(Error::Json { .. }),
        ),
        manifest("nothing", |_| with_body("200 OK", &[], b""), fails!(Error::Json { .. })),
        manifest("no content", |_| status("204 Nothing"), |result| result.is_err()),
        manifest(
            "endless manifest",
            |_| Reply::Endless(head("200 OK", &[]), &[b' '; 65536]),
            fails!(Error::TooLarge { .. }),
        ),
        manifest(
            "JSON of ten thousand levels",
            |_| with_body("200 OK", &[], "[".repeat(10_000).as_bytes()),
            fails!(Error::Json { .. }),
        ),
        manifest(
            "JSON that is not UTF-8",
            |_| with_body("200 OK", &[], b"{\"mediaType\":\"\xff\"}"),
            fails!(Error::Json { .. }),
        ),
        manifest(
            "two kinds at once",
            |_| with_body("200 OK", &[], br#"{"manifests":[],"layers":[]}"#),
            fails!(Error::Protocol { .. }),
        ),
        manifest(
            "another kind than it says",
            |_| with_body("200 OK", &[("Content-Type", media_type::OCI_INDEX)], &document()),
            fails!(Error::Protocol { .. }),
        ),
        blob(
            "wrong bytes",
            |ask| with_body("200 OK", &[], &vec![7; ask.data.len()]),
            fails!(Error::Digest { .. }),
        ),
        blob(
            "wrong bytes behind right ones",
            |ask| {
                half_then(ask, |ask| {
                    let from = ask.range.unwrap_or_default();
                    with_body(
                        "206 Part",
                        &[("Content-Range", &format!("bytes {from}-"))],
                        &vec![7; ask.data.len() - from],
                    )
                })
            },
            fails!(Error::Digest { .. }),
        ),
        blob(
            "blob that is longer",
            |ask| with_body("200 OK", &[], &[ask.data, b"more"].concat()),
            fails!(Error::Size { .. }),
        ),
        blob(
            "blob that is shorter",
            |ask| with_body("200 OK", &[], &ask.data[1..]),
            fails!(Error::Size { .. }),
        ),
        blob(
            "blob without a length that is longer",
            |ask| Reply::Bytes(chunked(&[&[ask.data, b"more"].concat()], b"0\r\n\r\n")),
            fails!(Error::Size { .. }),
        ),
        blob(
            "blob without a length or an end",
            |ask| Reply::Endless([&*head("200 OK", &[]), &ask.data[..100]].concat(), &[7; 65536]),
            |result| matches!(result, Err(Error::Size { .. } | Error::Digest { .. })),
        ),
        blob(
            "blob without a length that is shorter",
            |ask| Reply::Bytes(chunked(&[&ask.data[..1000]], b"0\r\n\r\n")),
            fails!(Error::Broken { .. }),
        ),
        blob(
            "no content for a blob",
            |_| Reply::Bytes(head("204 Nothing", &[])),
            fails!(Error::Size { .. } | Error::Broken { .. } | Error::Status { .. }),
        ),
        blob(
            "ranges that are not known",
            |ask| half_then(ask, |ask| with_body("200 OK", &[], ask.data)),
            loads,
        ),
        blob(
            "range from elsewhere",
            |ask| {
                half_then(ask, |ask| match ask.range {
                    Some(_) => with_body(
                        "206 Part",
                        &[("Content-Range", "bytes 299999-299999/300000")],
                        &ask.data[299_999..],
                    ),
                    None => with_body("200 OK", &[], ask.data),
                })
            },
            loads,
        ),
        blob(
            "range that does not say which",
            |ask| {
                half_then(ask, |ask| match ask.range {
                    Some(from) => with_body("206 Part", &[], &ask.data[from..]),
                    None => with_body("200 OK", &[], ask.data),
                })
            },
            loads,
        ),
        blob(
            "range that nobody asked for",
            |ask| with_body("206 Part", &[("Content-Range", "bytes 100-")], &ask.data[100..]),
            fails!(Error::Protocol { .. }),
        ),
    ]
}

/// Refusals.
fn refusals() -> Vec<Case> {
    vec![
        manifest("401 without a question", |_| status("401 Who"), fails!(Error::Unauthorized { .. })),
        manifest("401 to everything", |_| unauthorized("Basic realm=x"), fails!(Error::Unauthorized { .. })),
        manifest(
            "401 with a question that is none",
            |_| unauthorized("=\"\\,,, Bearer,=,"),
            |result| result.is_err(),
        ),
        manifest("403", |_| status("403 No"), fails!(Error::Forbidden { .. })),
        manifest("404", |_| status("404 Not here"), fails!(Error::NotFound { .. })),
        manifest("418", |_| status("418 Teapot"), fails!(Error::Status { status: 418, .. })),
        manifest("599", |_| status("599 Odd"), fails!(Error::Status { status: 599, .. })),
        manifest("500 once", |ask| once(ask, status("500 Oh"), good_manifest), loads),
        manifest("502 once", |ask| once(ask, status("502 Oh"), good_manifest), loads),
        manifest("503 always", |_| status("503 Oh"), fails!(Error::Status { status: 503, .. })),
        manifest("504 twice", |ask| if ask.nth < 2 { status("504 Oh") } else { good_manifest(ask) }, loads),
        manifest(
            "429 once",
            |ask| once(ask, with_body("429 Slow", &[("Retry-After", "0")], b""), good_manifest),
            loads,
        ),
        manifest(
            "429 for an hour",
            |_| with_body("429 Slow", &[("Retry-After", "3600")], b""),
            fails!(Error::RateLimited { after: Some(_), .. }),
        ),
        manifest(
            "429 until the end of time",
            |_| with_body("429 Slow", &[("Retry-After", "18446744073709551615")], b""),
            fails!(Error::RateLimited { .. }),
        ),
        manifest("429 always", |_| status("429 Slow"), fails!(Error::RateLimited { .. })),
        manifest(
            "503 with a date that is none",
            |ask| once(ask, with_body("503 Oh", &[("Retry-After", "Feb 31")], b""), good_manifest),
            loads,
        ),
        manifest(
            "refusal without an end",
            |_| Reply::Endless(head("400 Bad", &[]), &[b'x'; 65536]),
            fails!(Error::Status { status: 400, .. }),
        ),
        manifest(
            "refusal that stalls",
            |_| Reply::Stall(head("404 Not here", &[("Content-Length", "9")])),
            fails!(Error::NotFound { .. }),
        ),
        blob(
            "401 in the middle, once",
            |ask| if ask.nth == 1 { unauthorized("Basic realm=x") } else { half_then(ask, good_blob) },
            loads,
        ),
        blob(
            "401 from the middle on",
            |ask| half_then(ask, |_| unauthorized("Basic realm=x")),
            fails!(Error::Unauthorized { .. }),
        ),
        blob(
            "403 in the middle",
            |ask| half_then(ask, |_| status("403 No")),
            fails!(Error::Forbidden { .. }),
        ),
        blob(
            "404 in the middle",
            |ask| half_then(ask, |_| status("404 Not here")),
            fails!(Error::NotFound { .. }),
        ),
        blob(
            "416 for a rest",
            |ask| {
                half_then(ask, |ask| match ask.range {
                    Some(_) => status("416 No such range"),
                    None => with_body("200 OK", &[], ask.data),
                })
            },
            loads,
        ),
        blob(
            "416 always",
            |ask| half_then(ask, |_| status("416 No such range")),
            fails!(Error::Status { status: 416, .. }),
        ),
        blob(
            "429 in the middle, once",
            |ask| if ask.nth == 1 { status("429 Slow") } else { half_then(ask, good_blob) },
            loads,
        ),
        blob(
            "500 in the middle, once",
            |ask| if ask.nth == 1 { status("500 Oh") } else { half_then(ask, good_blob) },
            loads,
        ),
        blob(
            "500 from the middle on",
            |ask| half_then(ask, |_| status("500 Oh")),
            fails!(Error::Status { status: 500, .. }),
        ),
    ]
}

/// Redirects.
fn redirects() -> Vec<Case> {
    vec![
        away("to another host", |ask| redirect(&format!("http://{}/blobs/x", ask.there)), good_blob, loads),
        away(
            "to another host that cuts",
            |ask| redirect(&format!("http://{}/blobs/x", ask.there)),
            |ask| half_then(ask, good_blob),
            loads,
        ),
        away(
            "to another host that asks for a login",
            |ask| redirect(&format!("http://{}/blobs/x", ask.there)),
            |_| unauthorized("Basic realm=mine"),
            fails!(Error::Unauthorized { .. }),
        ),
        away(
            "to another host that asks for a token",
            |ask| redirect(&format!("http://{}/blobs/x", ask.there)),
            |ask| unauthorized(&format!("Bearer realm=\"http://{}/token\"", ask.here)),
            fails!(Error::Unauthorized { .. }),
        ),
        away(
            "to another host and back",
            |ask| {
                if ask.nth == 0 { redirect(&format!("http://{}/blobs/x", ask.there)) } else { good_blob(ask) }
            },
            |ask| redirect(&format!("http://{}/blobs/back", ask.there)),
            fails!(Error::Unauthorized { .. }),
        ),
        away(
            "to another host and back, for ever",
            |ask| redirect(&format!("http://{}/blobs/x", ask.there)),
            |ask| redirect(&format!("http://{}/blobs/x", ask.there)),
            |result| result.is_err(),
        ),
        blob(
            "in a ring",
            |ask| redirect(&format!("http://{}/blobs/ring", ask.here)),
            fails!(Error::Protocol { .. }),
        ),
        blob("to nowhere", |_| with_body("307 Away", &[], b""), fails!(Error::Protocol { .. })),
        blob("to what is no address", |_| redirect("http://["), fails!(Error::Protocol { .. })),
        blob("to a file", |_| redirect("file:///etc/passwd"), fails!(Error::Protocol { .. })),
        blob("to another scheme", |_| redirect("gopher://127.0.0.1/"), fails!(Error::Protocol { .. })),
        blob(
            "out of this machine in plain text",
            |_| redirect("http://registry.invalid/blob"),
            fails!(Error::PlainHttp { .. }),
        ),
        blob("to nobody", |_| redirect("http://127.0.0.1:1/blob"), fails!(Error::Unreachable { .. })),
        away("of a manifest to another host", good_blob, good_manifest, loads),
    ]
}

/// Token servers.
fn tokens() -> Vec<Case> {
    fn asking(ask: &Ask<'_>) -> Reply {
        if ask.authorized {
            good_manifest(ask)
        } else {
            unauthorized(&format!("Bearer realm=\"http://{}/token\"", ask.here))
        }
    }
    let with = |case: Case| Case { manifest: asking, ..case };
    vec![
        with(token("token after a question", good_token, loads)),
        with(token("token server that is down, once", |ask| once(ask, status("503 Oh"), good_token), loads)),
        with(token("token server that refuses", |_| status("401 No"), fails!(Error::Unauthorized { .. }))),
        with(token(
            "token that is no JSON",
            |_| with_body("200 OK", &[], b"<html>"),
            fails!(Error::Json { .. }),
        )),
        with(token(
            "token with a line break",
            |_| with_body("200 OK", &[], br#"{"token":"a\r\nX-Evil: 1"}"#),
            fails!(Error::Protocol { .. }),
        )),
        with(token("no token", |_| with_body("200 OK", &[], b"{}"), fails!(Error::Protocol { .. }))),
        with(token(
            "endless token",
            |_| Reply::Endless(head("200 OK", &[]), &[b' '; 65536]),
            fails!(Error::TooLarge { .. }),
        )),
        with(Case {
            other: good_token,
            ..token(
                "token server that sends elsewhere",
                |ask| redirect(&format!("http://{}/token", ask.there)),
                loads,
            )
        }),
        manifest(
            "token server that is no address",
            |_| unauthorized("Bearer realm=\"::::\""),
            fails!(Error::Protocol { .. }),
        ),
        manifest(
            "token server that is a file",
            |_| unauthorized("Bearer realm=\"file:///etc/passwd\""),
            fails!(Error::Protocol { .. }),
        ),
        manifest(
            "token server in plain text",
            |_| unauthorized("Bearer realm=\"http://token.invalid/\""),
            fails!(Error::PlainHttp { .. }),
        ),
        manifest(
            "token server that is nobody",
            |_| unauthorized("Bearer realm=\"http://127.0.0.1:1/\""),
            fails!(Error::Unreachable { .. }),
        ),
    ]
}

/// A pull: the manifest by its tag, then its layer. Returns the layer and the requests of the other host.
async fn pull(case: &Case) -> (Result<Vec<u8>, Error>, Vec<Option<String>>) {
    let ((registry, here), (content, there)) = (Host::listen(), Host::listen());
    let other = Host::start(content, here.clone(), false, vec![("", case.other)]);
    let answers = vec![("/token", case.token), ("/manifests/", case.manifest), ("/blobs/", case.blob)];
    let registry = Host::start(registry, there, true, answers);
    let mut config = config(None);
    config.limits.attempts = 3;
    config.limits.idle = Duration::from_millis(300);
    config.limits.longest_wait = Duration::from_millis(200);
    let password = Credentials::Password { user: "me".to_owned(), password: "secret".to_owned() };
    let client = Client::new(&config, Arc::new(Known::anonymous().with(here.clone(), password))).unwrap();
    let reference: Reference = format!("{}/a/b:1", registry.address).parse().unwrap();
    let result = async {
        client.manifest(&reference).await?;
        read(client.blob(&reference, &Descriptor::of(media_type::OCI_LAYER, &layer()))?).await
    };
    let result = result.await;
    let seen = other.seen.lock().unwrap().clone();
    (result, seen)
}

async fn run(cases: Vec<Case>) {
    let mut failed = Vec::new();
    for case in &cases {
        let start = Instant::now();
        let (result, other) = pull(case).await;
        if !(case.expected)(&result) {
            failed.push(format!("{}: {:?}", case.name, result.as_ref().map(Vec::len)));
        }
        if let Err(error) = &result {
            let text = error.to_string();
            if text.is_empty() || text.chars().any(char::is_control) || text.contains("secret") {
                failed.push(format!("{}: `{text}`", case.name));
            }
        }
        if other.iter().any(Option::is_some) {
            failed.push(format!("{}: another host got credentials: {other:?}", case.name));
        }
        if start.elapsed() > Duration::from_secs(10) {
            failed.push(format!("{}: took {:?}", case.name, start.elapsed()));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[tokio::test]
async fn broken_connections() {
    run(broken()).await;
}

#[tokio::test]
async fn lies_about_sizes_digests_and_kinds() {
    run(lies()).await;
}

#[tokio::test]
async fn refusals_at_every_moment() {
    run(refusals()).await;
}

#[tokio::test]
async fn redirects_of_all_kinds() {
    run(redirects()).await;
}

#[tokio::test]
async fn token_servers() {
    run(tokens()).await;
}
