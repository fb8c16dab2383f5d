use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use crate::http::{Hop, Http, Payload, classify};
use crate::{Config, Error, Result};

/// Loads what is at an address that a user wrote down: the same tries, limits, proxies and authorities as for
/// registries, but no logins, and plain `http:` wherever it is asked for. Clones share connections.
///
/// All of it needs a tokio runtime.
#[derive(Clone)]
pub struct Web(Arc<Http>);

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}

/// An answer, of which the body may be still to come.
#[derive(Debug)]
pub struct Page {
    what: String,
    host: String,
    response: Response,
}

impl Web {
    /// Makes a client.
    ///
    /// # Errors
    ///
    /// If a certificate of the settings cannot be read.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self(Arc::new(Http::anywhere(config)?)))
    }

    /// Asks for what is at `url`, without its body. An answer is a success, or "304 not modified" where `headers` set a
    /// condition.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn head(&self, url: &str, headers: &[(&str, &str)]) -> Result<Page> {
        self.ask(Method::HEAD, url, headers).await
    }

    /// As [`Web::head`], with the body.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Page> {
        self.ask(Method::GET, url, headers).await
    }

    /// Returns how often something is worth trying.
    pub fn attempts(&self) -> u32 {
        self.0.limits.attempts
    }

    async fn ask(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Page> {
        let mut parsed =
            Url::parse(url).map_err(|error| Error::Address(url.to_owned(), error.to_string()))?;
        // A login in the address goes with the request and into no message.
        let login = !parsed.username().is_empty() || parsed.password().is_some();
        let mut shown = parsed.clone();
        if login {
            let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        }
        let what = format!("`{shown}`");
        parsed.set_fragment(None);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let bad = || Error::Address(url.to_owned(), format!("the header `{name}` cannot be sent"));
            let name: HeaderName = name.parse().map_err(|_| bad())?;
            map.insert(name, HeaderValue::from_str(value).map_err(|_| bad())?);
        }
        let (headers, payload) = (map, Payload::None);
        let hop =
            Hop { what: &what, method, url: parsed, headers, payload, authorization: None, once: false };
        let (response, host) = self.0.follow_raw(hop).await?;
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Page { what, host, response });
        }
        Err(self.0.refusal(&what, host, response).await)
    }
}

impl Page {
    /// Tells whether what is known already is what would be sent.
    pub fn not_modified(&self) -> bool {
        self.response.status() == StatusCode::NOT_MODIFIED
    }

    /// Returns a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns the length of the body as it was announced.
    pub fn size(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Returns the next piece of the body.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] where the connection ends before the body does.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.response.chunk().await.map_err(|error| classify(&self.what, &self.host, 1, error))
    }
}
