use std::path::PathBuf;

use bytes::Bytes;
use cooper_oci::{Descriptor, Digest, Reference};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::{Call, Client};
use crate::endpoint::Endpoint;
use crate::http::Payload;
use crate::retry::back_off;
use crate::{Error, Result};

/// Where the bytes of a blob to push are. They must be readable again: an upload that breaks starts over.
#[derive(Debug, Clone)]
pub enum Upload {
    /// In memory.
    Bytes(Bytes),
    /// In a file, whole.
    File(PathBuf),
}

impl Client {
    /// Returns whether the repository has the blob.
    ///
    /// # Errors
    ///
    /// All of [`Error`] but [`Error::NotFound`].
    pub async fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool> {
        let what = format!("blob `{digest}` of `{}`", reference.name());
        let endpoint = self.0.endpoints.registry(reference)?;
        let url = endpoint.url(reference, &format!("blobs/{digest}"));
        match self.call(Call::new(&what, &endpoint, Method::HEAD, url, &push_scope(reference))).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks the registry to take a blob from another of its repositories; `false` if it must be uploaded.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn mount_blob(&self, reference: &Reference, from: &str, digest: Digest) -> Result<bool> {
        let what = format!("mounting blob `{digest}` of `{from}` into `{}`", reference.name());
        let endpoint = self.0.endpoints.registry(reference)?;
        let mut url = endpoint.url(reference, "blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let mut scopes = push_scope(reference);
        scopes.push(format!("repository:{from}:pull"));
        let mut call = Call::new(&what, &endpoint, Method::POST, url, &scopes);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let (response, host) = self.call(call).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // 202: the registry cannot or will not, and has opened an upload instead. It is closed again, best effort:
        // registries drop forgotten ones.
        if let Ok(url) = location(&what, &host, response.url(), response.headers()) {
            let _ = self.call(Call::new(&what, &endpoint, Method::DELETE, url, &scopes)).await;
        }
        Ok(false)
    }

    /// Uploads a blob, unless the repository has it.
    ///
    /// # Errors
    ///
    /// All of [`Error`]; the registry checks the digest.
    pub async fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        from: &Upload,
    ) -> Result<()> {
        if self.has_blob(reference, descriptor.digest).await? {
            return Ok(());
        }
        let what = format!("uploading blob `{}` to `{}`", descriptor.digest, reference.name());
        let endpoint = self.0.endpoints.registry(reference)?;
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match self.upload(&what, &endpoint, reference, descriptor, from).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passing = match &error {
                Error::Broken { .. } => true,
                Error::Status { status, .. } => *status >= 500,
                _ => false,
            };
            if !passing || tried >= self.0.http.limits.attempts {
                return Err(error);
            }
            tokio::time::sleep(back_off(&self.0.http.limits, tried)).await;
        }
    }

    async fn upload(
        &self,
        what: &str,
        endpoint: &Endpoint,
        reference: &Reference,
        descriptor: &Descriptor,
        from: &Upload,
    ) -> Result<()> {
        let scopes = push_scope(reference);
        let mut start =
            Call::new(what, endpoint, Method::POST, endpoint.url(reference, "blobs/uploads/"), &scopes);
        start.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let (response, host) = self.call(start).await?;
        let mut url = location(what, &host, response.url(), response.headers())?;
        url.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
        let mut put = Call::new(what, endpoint, Method::PUT, url, &scopes);
        put.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        put.payload = match from {
            Upload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
            Upload::File(path) => Payload::File { path: path.clone(), size: descriptor.size },
        };
        // An upload that broke is of no use: the next try needs a new one.
        put.once = true;
        self.call(put).await?;
        Ok(())
    }

    /// Pushes a manifest or index under the tag of `reference`, or under its digest if it has no tag. The blobs that
    /// it names must be there.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Descriptor> {
        let what = format!("pushing the manifest of `{reference}`");
        let endpoint = self.0.endpoints.registry(reference)?;
        let descriptor = Descriptor::of(media_type, &bytes);
        let version = reference.tag().map_or_else(|| descriptor.digest.to_string(), str::to_owned);
        let scopes = push_scope(reference);
        let url = endpoint.url(reference, &format!("manifests/{version}"));
        let mut call = Call::new(&what, &endpoint, Method::PUT, url, &scopes);
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| Error::MediaType { what: what.clone(), media_type: media_type.to_owned() })?;
        call.headers.insert(CONTENT_TYPE, kind);
        call.payload = Payload::Bytes(bytes);
        self.call(call).await?;
        Ok(descriptor)
    }
}

/// What a token must allow for pushing.
fn push_scope(reference: &Reference) -> Vec<String> {
    vec![format!("repository:{}:pull,push", reference.path())]
}

/// Reads where an upload goes on: an address, or a path at the same host.
fn location(what: &str, host: &str, base: &Url, headers: &HeaderMap) -> Result<Url> {
    let text = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    text.and_then(|text| base.join(text).ok()).ok_or_else(|| Error::Protocol {
        what: what.to_owned(),
        host: host.to_owned(),
        problem: "no address for the upload".to_owned(),
    })
}
