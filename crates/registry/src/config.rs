use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How registries are reached. The default knows Docker Hub's hosts, TLS everywhere but on loopback, no mirror.
#[derive(Debug, Clone)]
pub struct Config {
    /// Mirrors by the registry that they stand for (`docker.io`), tried in order before it when pulling.
    ///
    /// A mirror is a host with an optional port, or an http(s) address with an optional path before `/v2/`. An
    /// address with `http:` is a permission to use plain http there.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts (with their port, as in references) that are spoken to in plain http. Loopback always is.
    pub plain_http: BTreeSet<String>,
    /// More certificate authorities than the system's, each a PEM file's content.
    pub authorities: Vec<Vec<u8>>,
    /// What is sent as `User-Agent`.
    pub user_agent: String,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            plain_http: BTreeSet::new(),
            authorities: Vec::new(),
            user_agent: concat!("cooper/", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: Limits::default(),
        }
    }
}

/// Bounds on sizes, tries and times.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest manifest, index or configuration, in bytes. Registries themselves stop at 4 MiB.
    pub document: u64,
    /// Tries of one request, and tries in a row of one blob that bring no byte.
    pub attempts: u32,
    /// First wait between two tries; it doubles.
    pub first_wait: Duration,
    /// Longest wait between two tries. A `Retry-After` above it is an error at once.
    pub longest_wait: Duration,
    /// Time for making a connection.
    pub connect: Duration,
    /// Time without a byte after which a connection counts as broken.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document: 8 << 20,
            attempts: 5,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(60),
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(60),
        }
    }
}
