use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use super::{Authorization, Challenge, Credentials, Scheme, no_credentials};
use crate::http::{Hop, Http, Payload};
use crate::{Error, Result};

/// The lifetime of a token whose server names none (distribution's specification).
const DEFAULT_LIFETIME: u64 = 60;
/// Token servers of large registries send a few KiB.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Exchanges credentials for what a challenge wants: fetches tokens from token servers.
#[derive(Debug, Clone)]
pub struct Tokens {
    http: Arc<Http>,
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Tokens {
    pub(crate) fn new(http: Arc<Http>) -> Self {
        Self { http }
    }

    /// Returns the answer to `challenge` of `host` for `credentials`; without any, an anonymous token.
    ///
    /// A password is sent by basic authentication, to the token server that the registry names; an identity token by
    /// OAuth2's refresh grant.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] if the registry wants a password and there is none, and all errors of a request.
    pub async fn exchange(
        &self,
        host: &str,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<Authorization> {
        match (challenge.scheme, credentials) {
            (_, Some(Credentials::RegistryToken(token))) => Ok(Authorization::bearer(token, None)),
            (Scheme::Basic, Some(Credentials::Password { user, password })) => {
                Ok(Authorization::basic(user, password))
            }
            (Scheme::Basic, _) => Err(no_credentials(host, challenge)),
            (Scheme::Bearer, credentials) => self.token(host, challenge, credentials).await,
        }
    }

    async fn token(
        &self,
        host: &str,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<Authorization> {
        let what = format!("getting a token for {}", challenge.object());
        let mut url = Url::parse(&challenge.realm).map_err(|_| Error::Protocol {
            what: what.clone(),
            host: host.to_owned(),
            problem: format!("the token server's address `{}` is none", challenge.realm),
        })?;
        let mut fields = Vec::new();
        if !challenge.service.is_empty() {
            fields.push(("service", challenge.service.as_str()));
        }
        let mut headers = HeaderMap::new();
        let (method, payload) = if let Some(Credentials::IdentityToken(token)) = credentials {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", "cooper"),
            ]);
            // OAuth2 has one field for all scopes, distribution's own protocol one each.
            let scopes = challenge.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            fields.push(("scope", &scopes));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Method::POST, Payload::Bytes(Bytes::from(form(&fields))))
        } else {
            if let Some(Credentials::Password { user, .. }) = credentials {
                fields.push(("account", user));
            }
            fields.extend(challenge.scopes.iter().map(|scope| ("scope", scope.as_str())));
            url.query_pairs_mut().extend_pairs(fields);
            (Method::GET, Payload::None)
        };
        let authorization = match credentials {
            Some(Credentials::Password { user, password }) => Some(Authorization::basic(user, password)),
            _ => None,
        };
        let hop = Hop { what: &what, method, url, headers, payload, authorization, once: false };
        let (response, server) = self.http.follow(hop).await?;
        let body = self.http.document(&what, &server, response, LONGEST_ANSWER).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|source| Error::Json { what: what.clone(), source })?;
        let token =
            answer.token.filter(|token| !token.is_empty()).or(answer.access_token).unwrap_or_default();
        // It becomes a header: a line break in it would be another header.
        if token.is_empty() || !token.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(Error::Protocol {
                what,
                host: server,
                problem: "there is no token in the answer".to_owned(),
            });
        }
        let lifetime = Duration::from_secs(answer.expires_in.filter(|s| *s > 0).unwrap_or(DEFAULT_LIFETIME));
        Ok(Authorization::bearer(&token, Some(lifetime)))
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    // `Url` is the one encoder of forms at hand.
    let ordered: BTreeMap<_, _> = fields.iter().copied().collect();
    let Ok(mut url) = Url::parse("http://form.invalid/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(ordered);
    url.query().unwrap_or_default().to_owned()
}
