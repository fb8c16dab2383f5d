use std::fmt;
use std::str::FromStr;

use crate::{Digest, DigestError};

/// Docker Hub's name in references.
const HUB: &str = "docker.io";
/// An older name of Docker Hub, which still stands in scripts and configuration files.
const OLD_HUB: &str = "index.docker.io";
/// Where Docker Hub keeps official images.
const LIBRARY: &str = "library/";
/// The longest path; registries refuse more.
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image in a registry: `domain/path[:tag][@digest]`.
///
/// Made by [`Reference::parse_normalized`] from what a person writes. The grammar is distribution's, which docker,
/// containerd and podman share; `[::1]:5000/a` (an IPv6 host) is part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text does not name an image.
///
/// The texts are those that docker's tools print, because they are what people search for and what frontends
/// put into their own errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// There is an upper-case letter in the path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    PathUpperCase(String),
    /// The text would follow the grammar in lower case.
    #[error("repository name must be lowercase")]
    UpperCase,
    /// The path is longer than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// 64 hexadecimal digits: the id of an image, not a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Id(String),
    /// What follows `@` has the form of a digest but is none that can be checked.
    #[error("invalid digest in reference")]
    Digest(#[source] DigestError),
    /// A tag has other characters than letters, digits, `_`, `.`, `-`, starts with `.` or `-`, or is too long.
    #[error("invalid tag format")]
    Tag,
}

impl Reference {
    /// Reads what a person writes: `python` is `docker.io/library/python`, `me/tool:1` is `docker.io/me/tool:1`.
    ///
    /// No tag is added: see [`Reference::tag_or_latest`].
    ///
    /// # Errors
    ///
    /// See [`ReferenceError`].
    pub fn parse_normalized(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Id(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let path = rest.split(':').next().unwrap_or_default();
        if path.to_lowercase() != path {
            return Err(ReferenceError::PathUpperCase(path.to_owned()));
        }
        let whole = format!("{domain}/{rest}");
        match parse(&whole) {
            Err(ReferenceError::Format) if parse(&whole.to_lowercase()).is_ok() => {
                Err(ReferenceError::UpperCase)
            }
            other => other,
        }
    }

    /// Returns the registry: a host with an optional port, `docker.io` for Docker Hub.
    ///
    /// Empty where the first part looks like a host (it has a dot) but cannot be one, as in `a_b.c/d`: docker's
    /// tools accept such names, no registry serves them.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository within the registry, as `library/python`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns `domain/path`.
    pub fn name(&self) -> String {
        if self.domain.is_empty() { self.path.clone() } else { format!("{}/{}", self.domain, self.path) }
    }

    /// Returns the tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns whether there is neither a tag nor a digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// Returns this reference, with the tag `latest` if it has neither a tag nor a digest.
    pub fn tag_or_latest(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// Returns this reference with another tag.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Tag`] if `tag` is none.
    pub fn with_tag(mut self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        self.tag = Some(tag.to_owned());
        Ok(self)
    }

    /// Returns this reference with another digest.
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Returns the repository alone, without tag and digest.
    pub fn without_version(mut self) -> Self {
        self.tag = None;
        self.digest = None;
        self
    }

    /// Returns the short form that `docker images` shows: `python:3.9-slim`.
    ///
    /// Where the short form would be read as another image, it is the whole name: `docker.io/a.b/c` without its first
    /// part is an image of the host `a.b`.
    pub fn familiar(&self) -> String {
        let mut short = self.clone();
        if short.domain == HUB {
            short.domain.clear();
            if let Some(path) = short.path.strip_prefix(LIBRARY).filter(|path| !path.contains('/')) {
                short.path = path.to_owned();
            }
        }
        let text = short.to_string();
        if text.parse().as_ref() == Ok(self) { text } else { self.to_string() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse_normalized(text)
    }
}

/// Tells the registry from the path, and fills in Docker Hub's.
fn split_domain(text: &str) -> (String, String) {
    let Some((first, rest)) = text.split_once('/') else {
        // One part is never a host, so that `localhost:5000` is an image `localhost` with the tag `5000`.
        return (HUB.to_owned(), format!("{LIBRARY}{text}"));
    };
    let (domain, rest) = match first {
        "localhost" => (first, rest),
        OLD_HUB => (HUB, rest),
        _ if first.contains(['.', ':']) || first.to_lowercase() != first => (first, rest),
        _ => (HUB, text),
    };
    if domain == HUB && !rest.contains('/') {
        return (domain.to_owned(), format!("{LIBRARY}{rest}"));
    }
    (domain.to_owned(), rest.to_owned())
}

fn parse(text: &str) -> Result<Reference, ReferenceError> {
    let (domain, rest) = match text.split_once('/') {
        Some((domain, rest)) if is_domain(domain) => (domain, rest),
        _ => ("", text),
    };
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if !path.split('/').all(is_path_part) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
        return Err(ReferenceError::Format);
    }
    if path.len() > MAX_PATH {
        return Err(ReferenceError::TooLong);
    }
    Ok(Reference {
        domain: domain.to_owned(),
        path: path.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::parse).transpose().map_err(ReferenceError::Digest)?,
    })
}

/// A host name, an IPv4 address or an IPv6 address in brackets, and an optional port.
fn is_domain(text: &str) -> bool {
    let port = |text: &str| text.bytes().all(|c| c.is_ascii_digit()) && !text.is_empty();
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        return !address.is_empty()
            && address.bytes().all(|c| c.is_ascii_hexdigit() || c == b':')
            && (after.is_empty() || after.strip_prefix(':').is_some_and(port));
    }
    let (host, after) = match text.split_once(':') {
        Some((host, after)) => (host, Some(after)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    host.split('.').all(label) && after.is_none_or(port)
}

/// Runs of lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_part(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(plain) || !bytes.last().copied().is_some_and(plain) {
        return false;
    }
    bytes.split(|c| plain(*c)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|c| *c == b'-')
    })
}

fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'))
}

/// An algorithm (letters and digits, joined by `-_+.`), a colon and at least 32 hexadecimal digits.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let part = |part: &str| {
        part.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
            && part.bytes().all(|c| c.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && hex.len() >= 32
        && hex.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
