use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cooper_oci::Reference;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::endpoint::{Endpoint, Endpoints};
use crate::http::{Hop, Http, Payload};
use crate::{Auth, Authorization, Challenge, Config, Error, Result, Tokens};

mod blob;
mod pull;
mod push;

pub use blob::BlobStream;
pub use pull::Document;
pub use push::Upload;

/// A client of all registries. Clones share connections and tokens.
///
/// All of it needs a tokio runtime.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: Arc<Http>,
    endpoints: Endpoints,
    auth: Arc<dyn Auth>,
    tokens: Tokens,
    /// By host and scopes. The inner lock is held while a token is fetched: others that need it wait for it.
    granted: Mutex<BTreeMap<(String, String), Arc<Slot>>>,
}

type Slot = tokio::sync::Mutex<Option<Authorization>>;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.0.endpoints).field("auth", &self.0.auth).finish()
    }
}

/// One request to an endpoint.
pub(crate) struct Call<'a> {
    what: &'a str,
    endpoint: &'a Endpoint,
    method: Method,
    url: Url,
    headers: HeaderMap,
    payload: Payload,
    /// What a token must allow.
    scopes: &'a [String],
    once: bool,
}

impl<'a> Call<'a> {
    fn new(what: &'a str, endpoint: &'a Endpoint, method: Method, url: Url, scopes: &'a [String]) -> Self {
        let (headers, payload) = (HeaderMap::new(), Payload::None);
        Self { what, endpoint, method, url, headers, payload, scopes, once: false }
    }
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    ///
    /// If a mirror or a certificate of the settings cannot be read.
    pub fn new(config: &Config, auth: Arc<dyn Auth>) -> Result<Self> {
        let endpoints = Endpoints::new(config)?;
        let http = Arc::new(Http::new(config, endpoints.plain().clone())?);
        let tokens = Tokens::new(http.clone());
        Ok(Self(Arc::new(Inner { http, endpoints, auth, tokens, granted: Mutex::default() })))
    }

    /// Sends a request, answers the registry's challenge, and returns the answer if it is a success.
    async fn call(&self, call: Call<'_>) -> Result<(Response, String)> {
        let key = (call.endpoint.login.clone(), call.scopes.join(" "));
        let slot = {
            let mut granted = self.0.granted.lock().unwrap_or_else(PoisonError::into_inner);
            granted.entry(key).or_default().clone()
        };
        // An upload's address may be at another host, which is none of the registry's business to log in to.
        let ours = call.endpoint.owns(&call.url);
        let mut used = if ours { slot.lock().await.clone().filter(Authorization::is_fresh) } else { None };
        let mut challenged = false;
        loop {
            let hop = Hop {
                what: call.what,
                method: call.method.clone(),
                url: call.url.clone(),
                headers: call.headers.clone(),
                payload: call.payload.clone(),
                authorization: used.clone(),
                once: call.once,
            };
            let (response, host) = self.0.http.follow_raw(hop).await?;
            if response.status().is_success() {
                return Ok((response, host));
            }
            let asked =
                response.status() == StatusCode::UNAUTHORIZED && ours && call.endpoint.owns(response.url());
            if !asked || challenged {
                return Err(self.0.http.refusal(call.what, host, response).await);
            }
            challenged = true;
            let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenges = Challenge::parse(headers.filter_map(|value| value.to_str().ok()));
            let mut granted = slot.lock().await;
            let other = granted.as_ref().filter(|other| other.is_fresh());
            let other =
                other.filter(|other| used.as_ref().is_none_or(|used| used.header() != other.header()));
            used = match other.cloned() {
                // Somebody else fetched one while this request was on its way.
                Some(other) => Some(other),
                None => {
                    let Some(mut challenge) = best(challenges) else {
                        return Err(self.0.http.refusal(call.what, host, response).await);
                    };
                    challenge.scopes.extend(call.scopes.iter().cloned());
                    let fresh = self.0.auth.authorize(&call.endpoint.login, &challenge, &self.0.tokens).await;
                    *granted = Some(fresh.map_err(|error| about(call.what, error))?);
                    granted.clone()
                }
            };
        }
    }

    /// Tries the places of a repository in order, until one can.
    async fn first<T, F>(&self, reference: &Reference, mut at: impl FnMut(Endpoint) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut failed = Vec::new();
        for endpoint in self.0.endpoints.pull(reference)? {
            match at(endpoint).await {
                Ok(found) => return Ok(found),
                Err(error) => failed.push(error),
            }
        }
        Err(all_failed(failed, reference))
    }
}

/// Bearer is preferred: it does not send the password to the registry itself.
fn best(challenges: Vec<Challenge>) -> Option<Challenge> {
    challenges.into_iter().min_by_key(|challenge| challenge.scheme != crate::Scheme::Bearer)
}

/// Names the operation in a failure to get credentials.
fn about(what: &str, error: Error) -> Error {
    match error {
        Error::Unauthorized { host, message, .. } => {
            Error::Unauthorized { what: what.to_owned(), host, message }
        }
        other => other,
    }
}

/// Makes one error of those of all places.
fn all_failed(mut failed: Vec<Error>, reference: &Reference) -> Error {
    match failed.pop() {
        None => Error::NoRegistry(reference.to_string()),
        Some(registry) if failed.is_empty() => registry,
        Some(registry) => Error::Mirrors { mirrors: failed, registry: Box::new(registry) },
    }
}

/// What a token must allow for pulling.
fn pull_scope(reference: &Reference) -> Vec<String> {
    vec![format!("repository:{}:pull", reference.path())]
}
