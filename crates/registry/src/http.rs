use std::collections::BTreeSet;
use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Once;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::io::AsyncReadExt;

use crate::retry::{back_off, is_passing, retry_after};
use crate::{Authorization, Config, Error, Limits, Result};

/// Browsers and docker stop at 10.
const MOST_REDIRECTS: usize = 10;
/// An error's text beyond this is of no use to anybody.
const LONGEST_MESSAGE: u64 = 16 << 10;
/// Tries of a connection that cannot be made at all: who is offline shall learn it soon.
const CONNECT_ATTEMPTS: u32 = 2;
const FILE_CHUNK: usize = 128 << 10;

/// Sends single requests: which hosts may be spoken to in plain text, redirects, tries, kinds of failure.
#[derive(Debug)]
pub(crate) struct Http {
    proxied: reqwest::Client,
    // A proxy cannot reach this machine's loopback.
    direct: reqwest::Client,
    /// Hosts that may be spoken to without TLS; `None` for all.
    plain: Option<BTreeSet<String>>,
    pub(crate) limits: Limits,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Hop<'a> {
    pub(crate) what: &'a str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    pub(crate) authorization: Option<Authorization>,
    /// Whether the caller does its own tries.
    pub(crate) once: bool,
}

/// What a request carries.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    None,
    Bytes(Bytes),
    File { path: PathBuf, size: u64 },
}

impl Http {
    pub(crate) fn new(config: &Config, plain: BTreeSet<String>) -> Result<Self> {
        Self::with(config, Some(plain))
    }

    /// As [`Http::new`], for addresses that say themselves whether TLS is wanted.
    pub(crate) fn anywhere(config: &Config) -> Result<Self> {
        Self::with(config, None)
    }

    fn with(config: &Config, plain: Option<BTreeSet<String>>) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        // Another library may have chosen one before: it serves as well.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let mut authorities = Vec::new();
        for pem in &config.authorities {
            authorities.extend(reqwest::Certificate::from_pem_bundle(pem).map_err(Error::Setup)?);
        }
        let builder = || {
            reqwest::Client::builder()
                .user_agent(&config.user_agent)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(config.limits.connect)
                .read_timeout(config.limits.idle)
                .http2_adaptive_window(true)
                .referer(false)
        };
        let trusting = |builder: reqwest::ClientBuilder| {
            if authorities.is_empty() { builder } else { builder.tls_certs_merge(authorities.clone()) }
        };
        Ok(Self {
            proxied: trusting(builder()).build().map_err(Error::Setup)?,
            direct: trusting(builder().no_proxy()).build().map_err(Error::Setup)?,
            plain,
            limits: config.limits.clone(),
        })
    }

    /// Returns whether `host` may be spoken to without TLS.
    pub(crate) fn is_plain(&self, host: &str) -> bool {
        is_loopback(host) || self.plain.as_ref().is_none_or(|plain| plain.contains(host))
    }

    /// Sends a request and follows redirects; credentials stay with the origin that they were meant for.
    ///
    /// Returns answers that are a success, and 401 and all others as errors, with the host that answered.
    pub(crate) async fn follow(&self, hop: Hop<'_>) -> Result<(Response, String)> {
        let (response, host) = self.follow_raw(hop.clone()).await?;
        if response.status().is_success() {
            return Ok((response, host));
        }
        Err(self.refusal(hop.what, host, response).await)
    }

    /// As [`Http::follow`], but every final status is returned.
    pub(crate) async fn follow_raw(&self, mut hop: Hop<'_>) -> Result<(Response, String)> {
        for _ in 0..=MOST_REDIRECTS {
            let host = authority(&hop.url);
            let response = self.send(&hop, &host).await?;
            let followed = matches!(hop.method, Method::GET | Method::HEAD)
                && matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !followed {
                return Ok((response, host));
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target =
                target.and_then(|target| hop.url.join(target).ok()).ok_or_else(|| Error::Protocol {
                    what: hop.what.to_owned(),
                    host,
                    problem: "a redirect to nowhere".to_owned(),
                })?;
            if target.origin() != hop.url.origin() {
                hop.authorization = None;
            }
            hop.url = target;
        }
        Err(Error::Protocol {
            what: hop.what.to_owned(),
            host: authority(&hop.url),
            problem: format!("more than {MOST_REDIRECTS} redirects"),
        })
    }

    /// Sends one request, again where trying again may help.
    async fn send(&self, hop: &Hop<'_>, host: &str) -> Result<Response> {
        let plain = match hop.url.scheme() {
            "https" => false,
            "http" => true,
            other => {
                let problem = format!("an address with `{other}:`");
                return Err(Error::Protocol { what: hop.what.to_owned(), host: host.to_owned(), problem });
            }
        };
        if plain && !self.is_plain(host) {
            return Err(Error::PlainHttp { what: hop.what.to_owned(), host: host.to_owned() });
        }
        let mut tried = 0;
        loop {
            tried += 1;
            let wait = match self.request(hop, host).await?.send().await {
                Ok(response) => {
                    let status = response.status();
                    let after = retry_after(response.headers());
                    let too_long = after.is_some_and(|after| after > self.limits.longest_wait);
                    if hop.once || !is_passing(status) || tried >= self.limits.attempts || too_long {
                        return Ok(response);
                    }
                    after.unwrap_or_else(|| back_off(&self.limits, tried))
                }
                Err(error) => {
                    let error = classify(hop.what, host, tried, error);
                    let most = match error {
                        Error::Broken { .. } => self.limits.attempts,
                        Error::Unreachable { .. } => CONNECT_ATTEMPTS.min(self.limits.attempts),
                        _ => return Err(error),
                    };
                    if hop.once || tried >= most {
                        return Err(error);
                    }
                    back_off(&self.limits, tried)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn request(&self, hop: &Hop<'_>, host: &str) -> Result<reqwest::RequestBuilder> {
        let client = if is_loopback(host) { &self.direct } else { &self.proxied };
        let mut request = client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
        if let Some(authorization) = &hop.authorization {
            let mut value = HeaderValue::from_str(authorization.header()).map_err(|_| Error::Auth {
                host: host.to_owned(),
                source: "there are control characters in the credentials".into(),
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        Ok(match &hop.payload {
            Payload::None => request,
            Payload::Bytes(bytes) => request.body(bytes.clone()),
            Payload::File { path, size } => {
                let file = tokio::fs::File::open(path).await;
                let file = file.map_err(|source| Error::File { path: path.clone(), source })?;
                request
                    .header(CONTENT_LENGTH, *size)
                    .body(reqwest::Body::wrap_stream(chunks(file.take(*size))))
            }
        })
    }

    /// Reads the body of a small answer.
    pub(crate) async fn document(
        &self,
        what: &str,
        host: &str,
        mut response: Response,
        limit: u64,
    ) -> Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(body.freeze()),
                Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => {
                    return Err(Error::TooLarge { what: what.to_owned(), limit });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => return Err(classify(what, host, 1, error)),
            }
        }
    }

    /// Makes the error of an answer that is no success.
    pub(crate) async fn refusal(&self, what: &str, host: String, response: Response) -> Error {
        let status = response.status();
        let after = retry_after(response.headers());
        let what = what.to_owned();
        let body = self.document(&what, &host, response, LONGEST_MESSAGE).await.unwrap_or_default();
        let message = message(&body);
        match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized { what, host, message },
            StatusCode::FORBIDDEN => Error::Forbidden { what, host, message },
            StatusCode::NOT_FOUND => Error::NotFound { what, host, message },
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { what, host, message, after },
            status => Error::Status { what, host, status: status.as_u16(), message },
        }
    }
}

/// Reads a file in pieces.
fn chunks(file: tokio::io::Take<tokio::fs::File>) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = BytesMut::with_capacity(FILE_CHUNK);
        let length = file.read_buf(&mut chunk).await?;
        Ok((length > 0).then(|| (chunk.freeze(), file)))
    })
}

/// Host and port of an address, as they stand in references.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns whether `host` (with an optional port) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Tells the kinds of failure apart by what lies under reqwest's error.
pub(crate) fn classify(what: &str, host: &str, attempts: u32, error: reqwest::Error) -> Error {
    let (what, host) = (what.to_owned(), host.to_owned());
    // The address can hold a signature, and the message names the host already.
    let error = error.without_url();
    let connecting = error.is_connect();
    let mut tls = false;
    let mut link: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(cause) = link {
        tls |= cause.is::<rustls::Error>();
        let system = cause.downcast_ref::<io::Error>();
        // Somebody took the connection and dropped it in the middle of the handshake.
        let dropped = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        tls |= connecting && system.is_some_and(|system| dropped.contains(&system.kind()));
        // `source` of an `io::Error` passes over the error that it wraps.
        link = match system.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    if tls {
        Error::Tls { what, host, source: error }
    } else if connecting || error.is_dns() {
        Error::Unreachable { what, host, source: error }
    } else {
        Error::Broken { what, host, attempts, source: Some(error) }
    }
}

/// Finds the text for people in an error of the distribution protocol, of OAuth2, or of anything else.
fn message(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let text = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(|text| text.as_str()).map(str::to_owned)
    };
    let errors = json.get("errors").and_then(|errors| errors.as_array());
    let texts: Vec<String> = errors
        .into_iter()
        .flatten()
        .filter_map(|error| {
            text(error, "message").filter(|text| !text.is_empty()).or_else(|| text(error, "code"))
        })
        .collect();
    let found = if texts.is_empty() {
        ["details", "message", "error_description", "error"]
            .iter()
            .find_map(|key| text(&json, key))
            .unwrap_or_default()
    } else {
        texts.join("; ")
    };
    // It is shown to people: no control characters, and no novel.
    found.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#, "no; X"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"error":"invalid_grant"}"#, "invalid_grant"),
            ("<html>", ""),
            (r#"{"errors":[{"message":"a\u001b[31mb"}]}"#, "a[31mb"),
        ] {
            assert_eq!(message(body.as_bytes()), expected);
        }
    }

    #[test]
    fn loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "[::2]", "example.com:127"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
