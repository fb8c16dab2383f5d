//! A stand-in of Docker Hub on 127.0.0.1, written from its documented behaviour.
//!
//! Three servers on three ports, as there are three hosts: the registry, which answers 401 with the token server's
//! address until a token comes; the token server; and the content host, to which blobs are redirected by addresses
//! with a signature, and which refuses requests that carry credentials (as S3 does). Images are served from OCI
//! layouts. Faults can be ordered ([`Hub::order`]), and everything that was asked can be read ([`Hub::seen`]).

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use cooper_oci::{Digest, Index, media_type};

pub(crate) mod http;
use http::{Answer, Request, query};

/// One of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// As `registry-1.docker.io`.
    Registry,
    /// As `auth.docker.io`.
    Token,
    /// As `production.cloudflare.docker.com`.
    Content,
}

/// A request that came, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub server: Server,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The header `Range`.
    pub range: Option<String>,
    /// The status of the answer.
    pub status: u16,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Another answer, with `Retry-After` in seconds.
    Answer {
        /// The status.
        status: u16,
        /// Seconds to wait.
        retry_after: Option<u64>,
    },
    /// The connection ends after this many bytes of the body.
    Cut {
        /// Number of bytes.
        after: usize,
    },
    /// The last byte of the body is another one.
    Corrupt,
    /// Ranges are not known: the whole body comes.
    NoRanges,
    /// The connection ends before any answer.
    HangUp,
}

#[derive(Debug)]
struct Order {
    server: Server,
    part: String,
    times: u32,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    /// Layouts by repository and tag.
    images: BTreeMap<String, BTreeMap<String, PathBuf>>,
    private: BTreeMap<String, Login>,
    /// Scopes by token.
    tokens: BTreeMap<String, Vec<String>>,
    issued: u32,
    orders: VecDeque<Order>,
    seen: Vec<Seen>,
}

/// Who may read a private repository.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Identity token that stands for both.
    pub identity_token: String,
}

/// The running servers; they end with it.
#[derive(Debug)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    addresses: [SocketAddr; 3],
    stop: Arc<AtomicBool>,
}

impl Hub {
    /// Starts the three servers on free ports.
    ///
    /// # Errors
    ///
    /// If 127.0.0.1 cannot be listened on.
    pub fn start() -> io::Result<Self> {
        let listen = || TcpListener::bind(("127.0.0.1", 0));
        let listeners = [listen()?, listen()?, listen()?];
        let mut addresses = [listeners[0].local_addr()?; 3];
        for (address, listener) in addresses.iter_mut().zip(&listeners) {
            *address = listener.local_addr()?;
        }
        let hub = Self { state: Arc::default(), addresses, stop: Arc::default() };
        for (server, listener) in
            [Server::Registry, Server::Token, Server::Content].into_iter().zip(listeners)
        {
            let (state, stop) = (hub.state.clone(), hub.stop.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let state = state.clone();
                    thread::spawn(move || drop(connection(server, &stream, &state, addresses)));
                }
            });
        }
        Ok(hub)
    }

    /// Serves an image of an OCI layout as `repository` (`library/python`) and `tag`.
    ///
    /// It is the layout's entry with that name, or its only one; a layout with several others is served as an index.
    pub fn add(&self, repository: &str, tag: &str, layout: impl Into<PathBuf>) {
        self.state().images.entry(repository.to_owned()).or_default().insert(tag.to_owned(), layout.into());
    }

    /// Lets only `login` read a repository.
    pub fn protect(&self, repository: &str, login: Login) {
        self.state().private.insert(repository.to_owned(), login);
    }

    /// Orders a fault for the next `times` requests at `server` whose path holds `part`.
    pub fn order(&self, server: Server, part: &str, times: u32, fault: Fault) {
        self.state().orders.push_back(Order { server, part: part.to_owned(), times, fault });
    }

    /// Takes back all faults that are still ordered.
    pub fn forgive(&self) {
        self.state().orders.clear();
    }

    /// Makes all tokens invalid.
    pub fn forget_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Returns the host and port of the registry: a mirror of `docker.io` for a client's settings, or the first part
    /// of a reference.
    pub fn host(&self) -> String {
        self.addresses[0].to_string()
    }

    /// Returns what was asked since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for address in self.addresses {
            // Wakes the thread that waits for connections.
            drop(TcpStream::connect_timeout(&address, Duration::from_secs(1)));
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connection(
    server: Server,
    stream: &TcpStream,
    state: &Mutex<State>,
    addresses: [SocketAddr; 3],
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let fault = take_fault(server, &request, state);
        let mut answer = match &fault {
            Some(Fault::HangUp) => return Ok(()),
            Some(Fault::Answer { status, retry_after }) => {
                Answer::refusal(*status, "FAULT", "ordered by the test")
                    .with("Retry-After", retry_after.map(|seconds| seconds.to_string()).as_deref())
            }
            _ => match server {
                Server::Registry => registry(&request, state, addresses),
                Server::Token => token(&request, state),
                Server::Content => content(&request, state, fault == Some(Fault::NoRanges)),
            },
        };
        if fault == Some(Fault::Corrupt)
            && let Some(last) = answer.body.last_mut()
        {
            *last ^= 1;
        }
        lock(state).seen.push(Seen {
            server,
            method: request.method.clone(),
            path: request.path.clone(),
            authorization: request.header("authorization").map(str::to_owned),
            range: request.header("range").map(str::to_owned),
            status: answer.status,
        });
        let cut = match fault {
            Some(Fault::Cut { after }) => Some(after),
            _ => None,
        };
        answer.write(&mut &*stream, request.method == "HEAD", cut)?;
        if cut.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

fn take_fault(server: Server, request: &Request, state: &Mutex<State>) -> Option<Fault> {
    let mut state = lock(state);
    let fits =
        |order: &&mut Order| order.server == server && order.times > 0 && request.path.contains(&order.part);
    let order = state.orders.iter_mut().find(fits)?;
    order.times -= 1;
    Some(order.fault.clone())
}

fn registry(request: &Request, state: &Mutex<State>, addresses: [SocketAddr; 3]) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    let Some(rest) = path.strip_prefix("/v2/") else {
        return Answer::refusal(404, "NOT_FOUND", "page not found");
    };
    let (repository, kind, name) = match rest.rsplitn(3, '/').collect::<Vec<_>>()[..] {
        [name, kind, repository] => (repository, kind, name),
        _ => ("", "", ""),
    };
    if let Err(error) = allowed(request, repository, state) {
        let scope = if repository.is_empty() {
            String::new()
        } else {
            format!(",scope=\"repository:{repository}:pull\"")
        };
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"registry.docker.io\"{scope}{error}",
            addresses[1]
        );
        return Answer::refusal(401, "UNAUTHORIZED", "authentication required")
            .with("Www-Authenticate", Some(&challenge));
    }
    match kind {
        "" => Answer::json(200, "{}"),
        "manifests" => manifest(repository, name, state),
        "blobs" => {
            let Ok(digest) = name.parse::<Digest>() else {
                return Answer::refusal(
                    400,
                    "DIGEST_INVALID",
                    "provided digest did not match uploaded content",
                );
            };
            match find_blob(repository, digest, state) {
                None => Answer::refusal(404, "BLOB_UNKNOWN", "blob unknown to registry"),
                Some(_) => Answer::json(307, "").with(
                    "Location",
                    Some(&format!(
                        "http://{}/{repository}/{digest}/data?verify=1-signature%3D",
                        addresses[2]
                    )),
                ),
            }
        }
        _ => Answer::refusal(404, "UNSUPPORTED", "the operation is unsupported"),
    }
}

/// Returns why a request may not read `repository`, as the rest of a challenge.
fn allowed(request: &Request, repository: &str, state: &Mutex<State>) -> Result<(), &'static str> {
    let Some(token) = request.header("authorization") else { return Err("") };
    let state = lock(state);
    let scopes = token.strip_prefix("Bearer ").and_then(|token| state.tokens.get(token));
    let Some(scopes) = scopes else { return Err(",error=\"invalid_token\"") };
    let wanted = format!("repository:{repository}:");
    if repository.is_empty() || scopes.iter().any(|scope| scope.starts_with(&wanted)) {
        Ok(())
    } else {
        Err(",error=\"insufficient_scope\"")
    }
}

fn manifest(repository: &str, name: &str, state: &Mutex<State>) -> Answer {
    let bytes = match name.parse::<Digest>() {
        Ok(digest) => find_blob(repository, digest, state).or_else(|| {
            // The layout's own index, served as an image.
            let tags = lock(state).images.get(repository).cloned().unwrap_or_default();
            let tops = tags.into_iter().filter_map(|(tag, dir)| top(&dir, &tag));
            tops.into_iter().find(|bytes| Digest::of(bytes) == digest)
        }),
        Err(_) => {
            let dir = lock(state).images.get(repository).and_then(|tags| tags.get(name)).cloned();
            dir.and_then(|dir| top(&dir, name))
        }
    };
    let Some(bytes) = bytes else { return Answer::refusal(404, "MANIFEST_UNKNOWN", "manifest unknown") };
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let kind = match json.get("mediaType").and_then(|kind| kind.as_str()) {
        Some(kind) => kind.to_owned(),
        None if json.get("manifests").is_some() => media_type::OCI_INDEX.to_owned(),
        None => media_type::OCI_MANIFEST.to_owned(),
    };
    let digest = Digest::of(&bytes).to_string();
    Answer::new(200, &kind, bytes)
        .with("Docker-Content-Digest", Some(&digest))
        .with("Docker-Distribution-Api-Version", Some("registry/2.0"))
        .with("Ratelimit-Limit", Some("100;w=21600"))
        .with("Ratelimit-Remaining", Some("99;w=21600"))
}

/// Returns the bytes that a tag of a layout names.
fn top(dir: &std::path::Path, tag: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(dir.join("index.json")).ok()?;
    let index = Index::parse(&bytes).ok()?;
    let named = |name: &String| name == tag || name.ends_with(&format!(":{tag}"));
    let by_name = index
        .manifests
        .iter()
        .find(|entry| entry.annotations.get("org.opencontainers.image.ref.name").is_some_and(named));
    let only = if index.manifests.len() == 1 { index.manifests.first() } else { None };
    match by_name.or(only) {
        Some(entry) => fs::read(dir.join("blobs/sha256").join(entry.digest.hex())).ok(),
        None => Some(bytes),
    }
}

fn find_blob(repository: &str, digest: Digest, state: &Mutex<State>) -> Option<Vec<u8>> {
    let dirs: Vec<PathBuf> = lock(state).images.get(repository)?.values().cloned().collect();
    dirs.iter().find_map(|dir| fs::read(dir.join("blobs/sha256").join(digest.hex())).ok())
}

fn token(request: &Request, state: &Mutex<State>) -> Answer {
    let fields = match request.method.as_str() {
        "GET" => query(request.path.split_once('?').map_or("", |(_, query)| query)),
        "POST" => query(&String::from_utf8_lossy(&request.body)),
        _ => return Answer::refusal(405, "UNSUPPORTED", "method not allowed"),
    };
    let mut state = lock(state);
    let mut granted = Vec::new();
    let scopes = fields.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
    for scope in scopes {
        let repository = scope.split(':').nth(1).unwrap_or_default();
        let may = match state.private.get(repository) {
            // Nobody learns whether a repository exists: there just is no right in the token.
            None => state.images.contains_key(repository),
            Some(login) => {
                let basic = http::basic(&login.user, &login.password);
                let refresh = |(name, value): &(String, String)| {
                    name == "refresh_token" && !value.is_empty() && *value == login.identity_token
                };
                request.header("authorization") == Some(&basic) || fields.iter().any(refresh)
            }
        };
        if may {
            granted.push(format!("repository:{repository}:pull"));
        }
    }
    let wrong_password = request.header("authorization").is_some_and(|sent| {
        !state.private.values().any(|login| http::basic(&login.user, &login.password) == sent)
    });
    if wrong_password {
        return Answer::json(401, r#"{"details":"incorrect username or password"}"#);
    }
    state.issued += 1;
    let token = format!("hub-token-{}", state.issued);
    state.tokens.insert(token.clone(), granted);
    Answer::json(
        200,
        &format!(
            r#"{{"token":"{token}","access_token":"{token}","expires_in":300,"issued_at":"2024-01-01T00:00:00Z"}}"#
        ),
    )
}

fn content(request: &Request, state: &Mutex<State>, no_ranges: bool) -> Answer {
    if request.header("authorization").is_some() {
        return Answer::refusal(400, "InvalidArgument", "only one auth mechanism allowed");
    }
    let (path, signature) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if signature != "verify=1-signature%3D" {
        return Answer::refusal(403, "AccessDenied", "the signature is wrong");
    }
    let parts = path.trim_matches('/').rsplitn(3, '/').collect::<Vec<_>>();
    let found = match parts[..] {
        ["data", digest, repository] => {
            digest.parse().ok().and_then(|digest| find_blob(repository, digest, state))
        }
        _ => None,
    };
    let Some(mut bytes) = found else { return Answer::refusal(404, "NoSuchKey", "no such key") };
    let start = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start {
        Some(start) if !no_ranges => {
            let whole = bytes.len();
            if start >= whole {
                return Answer::refusal(416, "InvalidRange", "the range is not satisfiable");
            }
            let rest = bytes.split_off(start);
            let range = format!("bytes {start}-{}/{whole}", whole - 1);
            Answer::new(206, "application/octet-stream", rest).with("Content-Range", Some(&range))
        }
        _ => Answer::new(200, "application/octet-stream", bytes).with("Accept-Ranges", Some("bytes")),
    }
}

/// Reads lines of a head and a body; shared by the module below.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    let length = reader.take(64 << 10).read_line(&mut text)?;
    Ok((length > 0).then(|| text.trim_end().to_owned()))
}
