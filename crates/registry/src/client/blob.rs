use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use cooper_oci::{Descriptor, Hasher, Reference, media_type};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::{Call, Client, all_failed, pull_scope};
use crate::endpoint::Endpoint;
use crate::http::{Hop, Payload, classify};
use crate::retry::back_off;
use crate::{Error, Result};

/// A server that sends one byte a connection must not be asked forever.
const MOST_BREAKS: u32 = 100;

/// The bytes of a blob as they come, checked against its descriptor.
///
/// A connection that breaks is made again from where it broke, at the next mirror if need be: who reads does not
/// notice. The end comes only after digest and size were found right.
#[derive(Debug)]
pub struct BlobStream {
    client: Client,
    reference: Reference,
    descriptor: Descriptor,
    what: String,
    places: VecDeque<Place>,
    failed: Vec<Error>,
    body: Option<Body>,
    hasher: Option<Hasher>,
    offset: u64,
    /// Breaks since the last byte, and all of them.
    breaks: (u32, u32),
    /// The place in front has answered a range wrongly: it is asked for the whole blob.
    whole: bool,
}

#[derive(Debug)]
enum Place {
    Endpoint(Box<Endpoint>),
    /// Where a descriptor's `urls` say that a blob lies which registries may not hold.
    Elsewhere(Url),
}

#[derive(Debug)]
struct Body {
    response: Response,
    host: String,
    /// Bytes in front that were had before: the server did not know ranges.
    skip: u64,
}

impl Client {
    /// Starts to load a blob of the repository of `reference`. Nothing is sent before the first
    /// [`BlobStream::next`].
    ///
    /// # Errors
    ///
    /// If the reference names no registry.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobStream> {
        let endpoints = self.0.endpoints.pull(reference)?.into_iter();
        let mut places: VecDeque<_> = endpoints.map(|endpoint| Place::Endpoint(Box::new(endpoint))).collect();
        if media_type::is_foreign_layer(&descriptor.media_type) {
            let urls = descriptor.urls.iter().filter_map(|text| Url::parse(text).ok());
            places.extend(urls.map(Place::Elsewhere));
        }
        Ok(BlobStream {
            client: self.clone(),
            reference: reference.clone(),
            descriptor: descriptor.clone(),
            what: format!("blob `{}` of `{}`", descriptor.digest, reference.name()),
            places,
            failed: Vec::new(),
            body: None,
            hasher: Some(Hasher::new()),
            offset: 0,
            breaks: (0, 0),
            whole: false,
        })
    }

    /// Loads a small blob, as an image's configuration.
    ///
    /// # Errors
    ///
    /// All of [`Error`]; [`Error::TooLarge`] if it is longer than the limit for documents.
    pub async fn small_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Bytes> {
        let mut stream = self.blob(reference, descriptor)?;
        let limit = self.0.http.limits.document;
        if descriptor.size > limit {
            return Err(Error::TooLarge { what: stream.what, limit });
        }
        let mut out = BytesMut::new();
        while let Some(chunk) = stream.next().await? {
            out.extend_from_slice(&chunk);
        }
        Ok(out.freeze())
    }
}

impl BlobStream {
    /// Returns the next piece, `None` after the last one was checked.
    ///
    /// # Errors
    ///
    /// All of [`Error`]. After one the stream is at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.hasher.is_none() {
                return Ok(None);
            }
            if self.offset == self.descriptor.size && self.body.is_some() {
                return self.finish();
            }
            match self.piece().await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(error) => {
                    self.body = None;
                    self.give_way(error).await?;
                }
            }
        }
    }

    /// Returns how many bytes came so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let host = self.body.take().map(|body| body.host).unwrap_or_default();
        let found = self.hasher.take().map(Hasher::finish);
        let expected = self.descriptor.digest;
        match found {
            Some(found) if found != expected => {
                Err(Error::Digest { what: self.what.clone(), host, expected, found })
            }
            _ => Ok(None),
        }
    }

    /// Reads a piece, after connecting if need be; `None` where there is more to do.
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        if self.body.is_none() {
            self.body = Some(self.open().await?);
            return Ok(None);
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        let chunk = body.response.chunk().await;
        let chunk = chunk.map_err(|error| classify(&self.what, &body.host, self.breaks.1 + 1, error))?;
        let Some(mut chunk) = chunk else {
            let (what, host) = (self.what.clone(), body.host.clone());
            return Err(Error::Broken { what, host, attempts: self.breaks.1 + 1, source: None });
        };
        if body.skip > 0 {
            let skipped = chunk.split_to(usize::try_from(body.skip).unwrap_or(usize::MAX).min(chunk.len()));
            body.skip -= skipped.len() as u64;
        }
        let rest = self.descriptor.size - self.offset;
        if chunk.len() as u64 > rest {
            let found = self.offset + chunk.len() as u64;
            self.hasher = None;
            let (what, host) = (self.what.clone(), body.host.clone());
            return Err(Error::Size { what, host, expected: self.descriptor.size, found });
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        self.offset += chunk.len() as u64;
        self.breaks.0 = 0;
        Ok(Some(chunk))
    }

    async fn open(&self) -> Result<Body> {
        let range = (self.offset > 0 && !self.whole).then(|| format!("bytes={}-", self.offset));
        let range = range.and_then(|range| HeaderValue::from_str(&range).ok());
        let (response, host) = match self.places.front() {
            None => return Err(Error::NoRegistry(self.reference.to_string())),
            Some(Place::Endpoint(endpoint)) => {
                let scopes = pull_scope(&self.reference);
                let url = endpoint.url(&self.reference, &format!("blobs/{}", self.descriptor.digest));
                let mut call = Call::new(&self.what, endpoint, Method::GET, url, &scopes);
                call.headers.extend(range.map(|range| (RANGE, range)));
                self.client.call(call).await?
            }
            Some(Place::Elsewhere(url)) => {
                let hop = Hop {
                    what: &self.what,
                    method: Method::GET,
                    url: url.clone(),
                    headers: range.into_iter().map(|range| (RANGE, range)).collect(),
                    payload: Payload::None,
                    authorization: None,
                    once: false,
                };
                self.client.0.http.follow(hop).await?
            }
        };
        let skip = if response.status() == StatusCode::PARTIAL_CONTENT {
            let start =
                response.headers().get(CONTENT_RANGE).and_then(|value| range_start(value.to_str().ok()?));
            // A range from elsewhere would put wrong bytes behind right ones.
            start.filter(|start| *start <= self.offset).map(|start| self.offset - start).ok_or_else(|| {
                let problem = format!("another range than from byte {}", self.offset);
                Error::Protocol { what: self.what.clone(), host: host.clone(), problem }
            })?
        } else {
            if let Some(found) = response.content_length().filter(|length| *length != self.descriptor.size) {
                let (what, expected) = (self.what.clone(), self.descriptor.size);
                return Err(Error::Size { what, host, expected, found });
            }
            self.offset
        };
        Ok(Body { response, host, skip })
    }

    /// Decides after a failure: the same place again, the next one, or none.
    async fn give_way(&mut self, error: Error) -> Result<()> {
        let limits = &self.client.0.http.limits;
        self.breaks = (self.breaks.0 + 1, self.breaks.1 + 1);
        // 416, or another range than was asked for: some servers and caches do not know what they have.
        let out_of_range = matches!(error, Error::Status { status: 416, .. } | Error::Protocol { .. });
        let again = out_of_range && self.offset > 0 && !self.whole;
        let broken = matches!(error, Error::Broken { .. }) || again;
        if self.hasher.is_none() || self.breaks.1 > MOST_BREAKS {
            self.hasher = None;
            return Err(error);
        }
        if broken && self.breaks.0 < limits.attempts {
            self.whole |= again;
            tokio::time::sleep(back_off(limits, self.breaks.0)).await;
            return Ok(());
        }
        self.places.pop_front();
        (self.breaks.0, self.whole) = (0, false);
        self.failed.push(error);
        if self.places.is_empty() {
            self.hasher = None;
            return Err(all_failed(std::mem::take(&mut self.failed), &self.reference));
        }
        Ok(())
    }
}

/// Reads the first byte's position of `bytes 10-99/100`.
fn range_start(text: &str) -> Option<u64> {
    text.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range_start("bytes 10-99/100"), Some(10));
        assert_eq!(range_start("bytes 0-0/*"), Some(0));
        for bad in ["", "bytes */100", "items 1-2/3", "bytes x-2/3"] {
            assert_eq!(range_start(bad), None, "{bad}");
        }
    }
}
