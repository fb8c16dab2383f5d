use std::time::Duration;

use cooper_oci::Digest;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on what, and at which host. [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection: the name has no address, there is no route, nothing listens, nobody answers.
    #[error("{what}: cannot connect to `{host}`")]
    Unreachable {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What the system said.
        #[source]
        source: reqwest::Error,
    },
    /// What was written down is no address.
    #[error("`{0}` is no address that can be asked: {1}")]
    Address(String, String),
    /// A connection was made, but no trust: unknown authority, wrong name, or no TLS at the other end.
    #[error("{what}: no secure connection to `{host}`")]
    Tls {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What the TLS library said.
        #[source]
        source: reqwest::Error,
    },
    /// A connection broke again and again.
    #[error("{what}: the connection to `{host}` broke {attempts} times")]
    Broken {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// Number of tries.
        attempts: u32,
        /// The last failure; none if the body just ended early.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// 401: the registry wants to know who asks, or does not believe it.
    #[error("{what}: `{host}` asks for a login{}", said(.message))]
    Unauthorized {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What the registry said.
        message: String,
    },
    /// 403: the registry knows who asks and refuses.
    #[error("{what}: `{host}` denies access{}", said(.message))]
    Forbidden {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What the registry said.
        message: String,
    },
    /// 404.
    #[error("{what}: not found at `{host}`{}", said(.message))]
    NotFound {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What the registry said.
        message: String,
    },
    /// 429 to the last try, or with a longer wait than is allowed.
    #[error("{what}: `{host}` allows no more requests now{}", said(.message))]
    RateLimited {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What the registry said.
        message: String,
        /// How long it asked to wait.
        after: Option<Duration>,
    },
    /// Any other answer that is no success.
    #[error("{what}: `{host}` answered {status}{}", said(.message))]
    Status {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// The answer breaks the distribution protocol.
    #[error("{what}: `{host}` answered what a registry must not: {problem}")]
    Protocol {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{what}: `{host}` sent bytes with digest `{found}`, not `{expected}`")]
    Digest {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// There are more or fewer bytes than the descriptor says.
    #[error("{what}: `{host}` has {found} bytes, not {expected}")]
    Size {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
        /// What the descriptor says.
        expected: u64,
        /// What came, or was announced.
        found: u64,
    },
    /// A manifest or configuration is longer than is allowed.
    #[error("{what}: longer than the limit of {limit} bytes")]
    TooLarge {
        /// The operation and its object.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest, index or configuration cannot be read.
    #[error("{what}: cannot read it")]
    Json {
        /// The operation and its object.
        what: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest is of a kind that holds no image.
    #[error("{what}: `{media_type}` is no image")]
    MediaType {
        /// The operation and its object.
        what: String,
        /// The kind.
        media_type: String,
    },
    /// No image of the index runs on the platform.
    #[error("{what}: no image for `{wanted}` (there are: {})", list(.available))]
    NoPlatform {
        /// The operation and its object.
        what: String,
        /// The platform that was asked for.
        wanted: String,
        /// The platforms that there are.
        available: Vec<String>,
    },
    /// A redirect or a token server would leave TLS.
    #[error("{what}: refusing plain http to `{host}`")]
    PlainHttp {
        /// The operation and its object.
        what: String,
        /// Host and port.
        host: String,
    },
    /// Credentials could not be had.
    #[error("cannot get credentials for `{host}`")]
    Auth {
        /// Host and port.
        host: String,
        /// What the store of credentials said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The reference cannot be served by any registry.
    #[error("`{0}` names no registry")]
    NoRegistry(String),
    /// A setting is wrong.
    #[error("registry setting `{0}` is not a host or an http(s) address")]
    Setting(String),
    /// A certificate of the settings cannot be read.
    #[error("cannot set up TLS")]
    Setup(#[source] reqwest::Error),
    /// A file to push cannot be read.
    #[error("cannot read `{path}` to push it")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// All mirrors failed, and so did the registry itself.
    #[error("no mirror could serve it ({}), and neither could the registry itself", failures(.mirrors))]
    Mirrors {
        /// Failures of the mirrors, in order.
        mirrors: Vec<Error>,
        /// Failure of the registry.
        #[source]
        registry: Box<Error>,
    },
}

impl Error {
    /// Returns whether no host could be connected to at all: no name, no route, nobody there.
    ///
    /// False for everything that a host answered (401, 404, 429, …) and for failures of TLS: who gets one of those
    /// is connected and has another problem.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Mirrors { mirrors, registry } => {
                registry.is_unreachable() && mirrors.iter().all(Self::is_unreachable)
            }
            Self::Auth { source, .. } => source.downcast_ref::<Self>().is_some_and(Self::is_unreachable),
            _ => false,
        }
    }

    /// Returns whether a connection broke, so that trying again may help.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }

    /// Returns whether the registry says that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Mirrors { registry, .. } => registry.is_not_found(),
            _ => false,
        }
    }

    /// Returns what a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { host, .. } => format!(
                "check the network and the name `{host}`; behind a proxy set HTTPS_PROXY; a registry on this machine \
                 or a mirror can stand in (see `cooper build --build-context`)"
            ),
            Self::Tls { host, .. } => format!(
                "install the system's certificates (ca-certificates), add the authority of `{host}` to the \
                 settings, or allow plain http for it there"
            ),
            Self::Broken { .. } => "try again; what was loaded before is kept".to_owned(),
            Self::Unauthorized { host, .. } => {
                format!(
                    "check the name for typing errors; a private image needs `docker login {}`",
                    login_name(host)
                )
            }
            Self::Forbidden { host, .. } => format!(
                "the login for `{}` has no right to this; log in as another user or ask for the right",
                login_name(host)
            ),
            Self::NotFound { .. } => "check the name and the tag for typing errors".to_owned(),
            Self::RateLimited { host, after, .. } => {
                let wait =
                    after.map_or_else(|| "later".to_owned(), |after| format!("in {} s", after.as_secs()));
                format!(
                    "try again {wait}; `docker login {}` raises the limit of many registries",
                    login_name(host)
                )
            }
            Self::Digest { .. } | Self::Size { .. } => {
                "something between here and the registry changes data: try again without proxy or mirror"
                    .to_owned()
            }
            Self::NoPlatform { .. } => "choose another platform by --platform, or another image".to_owned(),
            Self::MediaType { media_type, .. }
                if media_type.starts_with("application/vnd.docker.distribution.manifest.v1") =>
            {
                "push the image again with a current docker: this format is no longer supported".to_owned()
            }
            Self::PlainHttp { host, .. } => {
                format!("allow plain http for `{host}` in the settings if you trust the way there")
            }
            Self::Auth { host, .. } => format!("log in again: docker login {}", login_name(host)),
            Self::Mirrors { registry, .. } => return registry.hint(),
            _ => return None,
        })
    }

    /// Returns the host that failed, for the list of failed mirrors.
    fn host(&self) -> &str {
        match self {
            Self::Unreachable { host, .. }
            | Self::Tls { host, .. }
            | Self::Broken { host, .. }
            | Self::Unauthorized { host, .. }
            | Self::Forbidden { host, .. }
            | Self::NotFound { host, .. }
            | Self::RateLimited { host, .. }
            | Self::Status { host, .. }
            | Self::Protocol { host, .. }
            | Self::Digest { host, .. }
            | Self::Size { host, .. }
            | Self::PlainHttp { host, .. }
            | Self::Auth { host, .. } => host,
            _ => "",
        }
    }

    fn in_short(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "no connection",
            Self::Tls { .. } => "no secure connection",
            Self::Broken { .. } => "connection broke",
            Self::Unauthorized { .. } => "asks for a login",
            Self::Forbidden { .. } => "denied",
            Self::NotFound { .. } => "not found",
            Self::RateLimited { .. } => "rate limit",
            Self::Digest { .. } | Self::Size { .. } => "wrong bytes",
            _ => "failed",
        }
    }
}

/// The name under which docker keeps a login: Docker Hub's differs from its host.
fn login_name(host: &str) -> &str {
    if host.ends_with("docker.io") { "docker.io" } else { host }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none that say so".to_owned() } else { items.join(", ") }
}

fn failures(errors: &[Error]) -> String {
    let short: Vec<_> =
        errors.iter().map(|error| format!("`{}`: {}", error.host(), error.in_short())).collect();
    short.join(", ")
}
