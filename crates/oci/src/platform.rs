use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod choice;
pub use choice::PlatformMatcher;

/// An operating system and processor, as manifests name them (OCI image specification, "Image Index").
///
/// Parsing keeps what was written (`linux/arm64/v8` stays so); [`Platform::normalized`] gives the one form in
/// which two platforms may be compared. The rules are those of containerd, which docker's tools share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Platform {
    /// GOARCH: `amd64`, `arm64`, …
    #[serde(default, deserialize_with = "crate::json::null_default")]
    pub architecture: String,
    /// GOOS: `linux`, `windows`, …
    #[serde(default, deserialize_with = "crate::json::null_default")]
    pub os: String,
    /// Version of the operating system; only Windows images set it.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "crate::json::null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features of the operating system that the image needs.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "crate::json::null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the processor: `v7`, `v8`, …
    #[serde(
        default,
        deserialize_with = "crate::json::null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub variant: String,
}

/// Why a text is not a platform.
///
/// The texts are those that docker's tools print, because they are what people search for and what frontends
/// put into their own errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The text holds a `*`.
    #[error("{0:?}: wildcards not yet supported: invalid argument")]
    Wildcard(String),
    /// The first part is not an operating system with an optional `(version+features)`.
    #[error(
        "{part:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must match {pattern:?}: \
         invalid argument", pattern = OS_PATTERN
    )]
    Os {
        /// The part between slashes.
        part: String,
        /// The whole text.
        text: String,
    },
    /// A later part has characters other than letters, digits, `_`, `.` and `-`, or is empty.
    #[error(
        "{part:?} is an invalid component of {text:?}: platform specifier component must match {pattern:?}: \
         invalid argument", pattern = PART_PATTERN
    )]
    Part {
        /// The part between slashes.
        part: String,
        /// The whole text.
        text: String,
    },
    /// A `%` in the version or features is not followed by two hexadecimal digits, or the result is not UTF-8.
    #[error("{text:?} has invalid OS options: invalid URL escape in {part:?}")]
    Escape {
        /// The part that cannot be decoded.
        part: String,
        /// The whole text.
        text: String,
    },
    /// One part alone, which is neither a known operating system nor a known architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// More than three parts.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    TooManyParts(String),
}

// What the errors name as the expected form; the checks below are written out by hand.
const OS_PATTERN: &str = "^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.%-]*)((?:\\+[A-Za-z0-9_.%-]+)*)\\))?$";
const PART_PATTERN: &str = "^[A-Za-z0-9_.-]+$";

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_ARCH: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// Makes a platform of an operating system and an architecture, as they are.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }
    }

    /// Returns this platform with a variant.
    pub fn with_variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = variant.into();
        self
    }

    /// Returns the platform that this program was compiled for, with Go's names.
    pub fn host() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        let little = cfg!(target_endian = "little");
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if little => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            "mips" if little => "mipsle",
            "mips64" if little => "mips64le",
            other => other,
        };
        // `arm` has no default variant in manifests: v7 is what Rust's and Go's hard-float targets need.
        let variant = if architecture == "arm" { "v7" } else { "" };
        Self::new(os, architecture).with_variant(variant)
    }

    /// Returns the one form that equal platforms share: aliases resolved, default variants dropped, features sorted.
    ///
    /// An empty operating system becomes the host's.
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal_arch(&self.architecture, &self.variant);
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Self {
            architecture,
            os: normal_os(&self.os),
            os_version: self.os_version.clone(),
            os_features,
            variant,
        }
    }

    /// Returns whether an image for `image` runs here, by the rules of [`PlatformMatcher`].
    pub fn runs(&self, image: &Self) -> bool {
        PlatformMatcher::new(self).rank(image).is_some()
    }

    /// Returns the text with the version and features in parentheses, as `windows(10.0.17763+win32k)/amd64`.
    ///
    /// [`Display`](fmt::Display) leaves them out, as `docker` does.
    pub fn full(&self) -> String {
        if self.os.is_empty() || (self.os_version.is_empty() && self.os_features.is_empty()) {
            return self.to_string();
        }
        let mut features = self.os_features.clone();
        features.sort();
        features.dedup();
        let mut os = format!("{}({}", self.os, encode(&self.os_version));
        for feature in features.iter().filter(|feature| !feature.is_empty()) {
            os.push('+');
            os.push_str(&encode(feature));
        }
        os.push(')');
        join(&[&os, &self.architecture, &self.variant])
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&join(&[&self.os, &self.architecture, &self.variant]))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        if text.contains('*') {
            return Err(PlatformError::Wildcard(text.to_owned()));
        }
        let mut parts = text.splitn(4, '/');
        let first = parts.next().unwrap_or_default();
        let mut platform = parse_os(first, text)?;
        let rest: Vec<&str> = parts.collect();
        for part in &rest {
            if part.is_empty() || !part.bytes().all(|c| is_word(c) || matches!(c, b'.' | b'-')) {
                return Err(PlatformError::Part { part: (*part).to_owned(), text: text.to_owned() });
            }
        }
        match rest[..] {
            [] => {
                if KNOWN_OS.contains(&platform.os.as_str()) {
                    let host = Self::host();
                    platform.architecture = host.architecture;
                    return Ok(platform);
                }
                let (architecture, variant) = normal_arch(first, "");
                if !KNOWN_ARCH.contains(&architecture.as_str()) {
                    return Err(PlatformError::Unknown(text.to_owned()));
                }
                let variant = without_default(&architecture, variant);
                Ok(Self { os: Self::host().os, architecture, variant, ..platform })
            }
            [architecture] => {
                let (architecture, variant) = normal_arch(architecture, "");
                let variant = without_default(&architecture, variant);
                Ok(Self { architecture, variant, ..platform })
            }
            [architecture, variant] => {
                let (architecture, mut variant) = normal_arch(architecture, variant);
                // Who writes the default variant wants to read it again.
                if architecture == "arm64" && variant.is_empty() {
                    variant.push_str("v8");
                }
                Ok(Self { architecture, variant, ..platform })
            }
            _ => Err(PlatformError::TooManyParts(text.to_owned())),
        }
    }
}

/// Drops the `v7` that normalising adds to a plain `arm`: it was not written.
fn without_default(architecture: &str, variant: String) -> String {
    if architecture == "arm" && variant == "v7" { String::new() } else { variant }
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

fn parse_os(part: &str, text: &str) -> Result<Platform, PlatformError> {
    let bad = || PlatformError::Os { part: part.to_owned(), text: text.to_owned() };
    let (name, options) = match part.split_once('(') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(')').ok_or_else(bad)?)),
        None => (part, None),
    };
    if name.is_empty() || !name.bytes().all(|c| is_word(c) || c == b'-') {
        return Err(bad());
    }
    let mut platform = Platform { os: normal_os(name), ..Platform::default() };
    let Some(options) = options else { return Ok(platform) };
    let mut pieces = options.split('+');
    let allowed = |piece: &str| piece.bytes().all(|c| is_word(c) || matches!(c, b'.' | b'%' | b'-'));
    let version = pieces.next().unwrap_or_default();
    if !allowed(version) {
        return Err(bad());
    }
    let decoded = |piece: &str| {
        decode(piece).ok_or_else(|| PlatformError::Escape { part: piece.to_owned(), text: text.to_owned() })
    };
    platform.os_version = decoded(version)?;
    for feature in pieces {
        if feature.is_empty() || !allowed(feature) {
            return Err(bad());
        }
        let feature = decoded(feature)?;
        if !feature.is_empty() {
            platform.os_features.push(feature);
        }
    }
    Ok(platform)
}

fn normal_os(os: &str) -> String {
    if os.is_empty() {
        return Platform::host().os;
    }
    match os.to_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normal_arch(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

/// Escapes the five characters that separate the parts of a platform's text.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => out.push_str("%25"),
            '+' => out.push_str("%2B"),
            '(' => out.push_str("%28"),
            ')' => out.push_str("%29"),
            '/' => out.push_str("%2F"),
            other => out.push(other),
        }
    }
    out
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|c| char::from(c).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
