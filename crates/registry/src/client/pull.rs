use bytes::Bytes;
use cooper_oci::{Descriptor, Digest, Reference, media_type};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{Call, Client, pull_scope};
use crate::endpoint::Endpoint;
use crate::{Error, Result};

/// The header in which registries name the digest of a manifest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A manifest or an index, as the registry has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it is, its digest (of these very bytes) and its size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Bytes,
}

impl Client {
    /// Fetches the manifest or index that `reference` names; `latest` if it has neither tag nor digest.
    ///
    /// # Errors
    ///
    /// All of [`Error`]; among them [`Error::Digest`] if the reference has a digest and the bytes have another.
    pub async fn manifest(&self, reference: &Reference) -> Result<Document> {
        let reference = reference.clone().tag_or_latest();
        let what = format!("manifest of `{reference}`");
        self.first(&reference, |endpoint| {
            let (reference, what) = (&reference, &what);
            async move {
                let mut tried = 0;
                loop {
                    tried += 1;
                    match self.manifest_at(&endpoint, reference, what).await {
                        Err(Error::Broken { .. }) if tried < self.0.http.limits.attempts => {}
                        other => return other,
                    }
                    tokio::time::sleep(crate::retry::back_off(&self.0.http.limits, tried)).await;
                }
            }
        })
        .await
    }

    async fn manifest_at(&self, endpoint: &Endpoint, reference: &Reference, what: &str) -> Result<Document> {
        let scopes = pull_scope(reference);
        let url = endpoint.url(reference, &format!("manifests/{}", version(reference)));
        let mut call = Call::new(what, endpoint, Method::GET, url, &scopes);
        call.headers.insert(ACCEPT, accepted());
        let (response, host) = self.call(call).await?;
        let named = media_type_of(response.headers());
        let announced = content_digest(response.headers());
        let bytes = self.0.http.document(what, &host, response, self.0.http.limits.document).await?;
        let found = Digest::of(&bytes);
        if let Some(expected) = reference.digest().or(announced).filter(|expected| *expected != found) {
            return Err(Error::Digest { what: what.to_owned(), host, expected, found });
        }
        let kind = kind_of(what, &host, &named, &bytes)?;
        Ok(Document { descriptor: Descriptor::new(kind, found, bytes.len() as u64), bytes })
    }

    /// Asks what `reference` names without fetching it; Docker Hub does not count this against its limit.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn head(&self, reference: &Reference) -> Result<Descriptor> {
        let reference = reference.clone().tag_or_latest();
        let what = format!("digest of `{reference}`");
        let quick = self
            .first(&reference, |endpoint| {
                let (reference, what) = (&reference, &what);
                async move { self.head_at(&endpoint, reference, what).await }
            })
            .await?;
        match quick {
            Some(found) => Ok(found),
            // The registry leaves the digest out: only the bytes tell.
            None => Ok(self.manifest(&reference).await?.descriptor),
        }
    }

    async fn head_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        what: &str,
    ) -> Result<Option<Descriptor>> {
        let scopes = pull_scope(reference);
        let url = endpoint.url(reference, &format!("manifests/{}", version(reference)));
        let mut call = Call::new(what, endpoint, Method::HEAD, url, &scopes);
        call.headers.insert(ACCEPT, accepted());
        let (response, _) = self.call(call).await?;
        let size = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let kind = media_type_of(response.headers());
        let digest = content_digest(response.headers()).or(reference.digest());
        Ok(match (digest, size) {
            (Some(digest), Some(size)) if known(&kind) => Some(Descriptor::new(kind, digest, size)),
            _ => None,
        })
    }
}

/// The last part of a manifest's address: the digest where there is one, since it is what counts.
fn version(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    }
}

fn accepted() -> HeaderValue {
    HeaderValue::from_static(
        "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
         application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
    )
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

fn media_type_of(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

fn known(kind: &str) -> bool {
    media_type::is_manifest(kind) || media_type::is_index(kind)
}

/// Tells what a document is, from the header and from itself; they must agree, and it must be one thing.
///
/// A document that reads as a manifest and as an index would be two images under one digest (CVE-2021-41190).
fn kind_of(what: &str, host: &str, header: &str, bytes: &[u8]) -> Result<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        schema_version: i64,
        config: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.to_owned(), source })?;
    let bad = |problem: String| Error::Protocol { what: what.to_owned(), host: host.to_owned(), problem };
    let is_manifest = shape.config.is_some() || shape.layers.is_some();
    let is_index = shape.manifests.is_some();
    if is_manifest && is_index {
        return Err(bad("a document that is a manifest and an index at once".to_owned()));
    }
    let own = shape.media_type.filter(|own| !own.is_empty());
    let kind = match (own, header) {
        (Some(own), header) if own == header || !known(header) => own,
        (Some(own), header) => return Err(bad(format!("a document of type `{own}` sent as `{header}`"))),
        (None, header) if known(header) => header.to_owned(),
        (None, _) if is_index => media_type::OCI_INDEX.to_owned(),
        (None, _) if is_manifest => media_type::OCI_MANIFEST.to_owned(),
        (None, _) if shape.schema_version == 1 => media_type::DOCKER_SCHEMA1.to_owned(),
        (None, header) => header.to_owned(),
    };
    if !known(&kind) {
        return Err(Error::MediaType { what: what.to_owned(), media_type: kind });
    }
    if media_type::is_index(&kind) != is_index || media_type::is_manifest(&kind) != is_manifest {
        return Err(bad(format!("a document of type `{kind}` that has other content")));
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let kind = |header: &str, body: &str| kind_of("x", "h", header, body.as_bytes());
        let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(kind(media_type::OCI_MANIFEST, manifest).unwrap(), media_type::OCI_MANIFEST);
        assert_eq!(kind(media_type::DOCKER_MANIFEST, manifest).unwrap(), media_type::DOCKER_MANIFEST);
        assert_eq!(kind("text/plain", manifest).unwrap(), media_type::OCI_MANIFEST);
        assert_eq!(kind("", index).unwrap(), media_type::OCI_INDEX);
        let named = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::DOCKER_INDEX);
        assert_eq!(kind("application/json", &named).unwrap(), media_type::DOCKER_INDEX);
        assert_eq!(kind(media_type::DOCKER_INDEX, &named).unwrap(), media_type::DOCKER_INDEX);

        for (header, body) in [
            (media_type::OCI_INDEX, named.as_str()),
            (media_type::OCI_INDEX, manifest),
            (media_type::OCI_MANIFEST, index),
            ("", r#"{"manifests":[],"layers":[]}"#),
        ] {
            assert!(matches!(kind(header, body), Err(Error::Protocol { .. })), "{header} {body}");
        }
        let first = kind("", r#"{"schemaVersion":1,"fsLayers":[]}"#).unwrap_err();
        assert!(first.hint().is_some_and(|hint| hint.contains("push the image again")), "{first:?}");
        assert!(matches!(kind("", "{}"), Err(Error::MediaType { .. })));
        assert!(matches!(kind("", "<html>"), Err(Error::Json { .. })));
    }
}
