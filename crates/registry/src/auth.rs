use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::{Error, Result};

mod challenge;
mod token;

pub use challenge::{Challenge, Scheme};
pub use token::Tokens;

/// The future of [`Auth::authorize`].
pub type AuthFuture<'a> = Pin<Box<dyn Future<Output = Result<Authorization>> + Send + 'a>>;

/// Answers the question of a registry who is asking.
///
/// An implementation may hold passwords and exchange them through [`Tokens`], or may ask somebody else who does:
/// the client sees only the finished header.
pub trait Auth: Send + Sync + fmt::Debug {
    /// Returns the header that answers `challenge` of `host` (with its port, as in references; `docker.io` for
    /// Docker Hub).
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] if there is nothing to answer with.
    fn authorize<'a>(&'a self, host: &'a str, challenge: &'a Challenge, tokens: &'a Tokens)
    -> AuthFuture<'a>;
}

/// The value of an `Authorization` header and how long it holds. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct Authorization {
    header: String,
    expires: Option<Instant>,
}

impl Authorization {
    /// Makes a bearer token, valid for `lifetime` from now; without one it holds until it is refused.
    pub fn bearer(token: &str, lifetime: Option<Duration>) -> Self {
        // A tenth is kept back for the time that requests take.
        let expires = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime - lifetime / 10));
        Self { header: format!("Bearer {token}"), expires }
    }

    /// Makes a user and password.
    pub fn basic(user: &str, password: &str) -> Self {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Self { header: format!("Basic {text}"), expires: None }
    }

    /// Returns the header's value.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Returns whether it can still be used.
    pub fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.header.split(' ').next().unwrap_or_default();
        f.debug_struct("Authorization").field("scheme", &scheme).field("expires", &self.expires).finish()
    }
}

/// What a person has for a registry. Its `Debug` form does not show secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user name and a password (or what stands for one).
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token of OAuth2, which docker calls an identity token.
    IdentityToken(String),
    /// A bearer token that is sent as it is.
    RegistryToken(String),
}

impl Credentials {
    /// Reads `user:password` in base64, as docker's and podman's files keep it; `None` if it is something else.
    pub fn from_basic(text: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        // Old versions of docker wrote a zero at the end.
        let password = password.trim_end_matches('\0');
        Some(Self::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// An [`Auth`] from a table of hosts. The default has none: all public images can be read with it.
#[derive(Debug, Clone, Default)]
pub struct Known(BTreeMap<String, Credentials>);

impl Known {
    /// Makes a table without entries.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Adds what `host` (as in references) is answered.
    pub fn with(mut self, host: impl Into<String>, credentials: Credentials) -> Self {
        self.0.insert(host.into(), credentials);
        self
    }
}

impl Auth for Known {
    fn authorize<'a>(
        &'a self,
        host: &'a str,
        challenge: &'a Challenge,
        tokens: &'a Tokens,
    ) -> AuthFuture<'a> {
        Box::pin(tokens.exchange(host, challenge, self.0.get(host)))
    }
}

/// Says that a registry wants a login and there is none.
fn no_credentials(host: &str, challenge: &Challenge) -> Error {
    Error::Unauthorized {
        what: format!("access to {}", challenge.object()),
        host: host.to_owned(),
        message: "no credentials are stored for it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let all = format!(
            "{:?} {:?} {:?} {:?}",
            Authorization::basic("user", "hunter2"),
            Authorization::bearer("hunter2", None),
            Credentials::Password { user: "user".into(), password: "hunter2".into() },
            Known::anonymous().with("h", Credentials::IdentityToken("hunter2".into())),
        );
        assert!(!all.contains("hunter2") && !all.contains("dXNlcjpodW50ZXIy"), "{all}");
    }

    #[test]
    fn basic_reads_back() {
        let password = Credentials::Password { user: "Aladdin".into(), password: "open:sesame".into() };
        assert_eq!(Credentials::from_basic("QWxhZGRpbjpvcGVuOnNlc2FtZQ=="), Some(password));
        for bad in ["", "%", "QQ=="] {
            assert_eq!(Credentials::from_basic(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_end() {
        assert!(Authorization::bearer("a", None).is_fresh());
        assert!(Authorization::bearer("a", Some(Duration::from_secs(60))).is_fresh());
        assert!(!Authorization::bearer("a", Some(Duration::ZERO)).is_fresh());
        assert_eq!(
            Authorization::basic("Aladdin", "open sesame").header(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }
}
