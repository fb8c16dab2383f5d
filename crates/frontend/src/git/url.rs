//! URLs with the leniency and the strictness of Go's `net/url`, as far as sources of a build need them.

use std::collections::BTreeMap;

/// A URL with an authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    /// In lower case.
    pub(crate) scheme: String,
    /// User and password, each decoded.
    user: Option<(String, Option<String>)>,
    /// Host and port.
    pub(crate) host: String,
    /// Decoded path.
    pub(crate) path: String,
    /// The path as written, where that is a valid encoding.
    raw_path: String,
    /// Whether a lone question mark ended it.
    force_query: bool,
    /// Query as written.
    pub(crate) raw_query: String,
    /// Decoded fragment.
    pub(crate) fragment: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Host,
    User,
    Path,
}

/// Whether a byte of a part has to be written as `%XX`.
fn must_escape(byte: u8, part: Part) -> bool {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        return false;
    }
    match part {
        Part::Host => !b"!$&'()*+,;=:[]<>\"".contains(&byte),
        Part::User => !b"$&+,;=".contains(&byte),
        Part::Path => !b"$&+,/:;=@".contains(&byte),
    }
}

fn escape(text: &str, part: Part) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if must_escape(byte, part) {
            out.push_str(&format!("%{byte:02X}"))
        } else {
            out.push(char::from(byte))
        }
    }
    out
}

/// Decodes `%XX`, and `+` in queries; `None` if an escape is broken. Bytes that are no UTF-8 become U+FFFD.
fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let value = digit()? * 16 + digit()?;
                out.push(u8::try_from(value).ok()?);
            }
            b'+' if plus => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Some(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Reads `a=b&c`; pairs that cannot be decoded are left out.
pub(crate) fn parse_query(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescape(key, true), unescape(value, true)) {
            out.entry(key).or_default().push(value);
        }
    }
    out
}

impl Url {
    /// Parses `scheme://…`; `None` where Go's parser fails.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return None;
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let mut url = Url { fragment: unescape(fragment, false)?, ..Url::default() };
        let (scheme, rest) = rest.split_once(':')?;
        let mut letters = scheme.bytes();
        let valid = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !valid {
            return None;
        }
        url.scheme = scheme.to_ascii_lowercase();
        let rest = match rest.strip_suffix('?') {
            Some(front) if !front.contains('?') => {
                url.force_query = true;
                front
            }
            _ => match rest.split_once('?') {
                Some((front, query)) => {
                    url.raw_query = query.to_owned();
                    front
                }
                None => rest,
            },
        };
        let rest = rest.strip_prefix("//")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (rest.get(..at)?, rest.get(at..)?),
            None => (rest, ""),
        };
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                url.user = Some(parse_user(user)?);
                host
            }
            None => authority,
        };
        url.host = parse_host(host)?;
        url.path = unescape(path, false)?;
        if valid_path(path) {
            url.raw_path = path.to_owned();
        }
        Some(url)
    }

    /// The URL without query and fragment.
    pub(crate) fn without_options(&self) -> String {
        let user = match &self.user {
            None => String::new(),
            Some((name, None)) => format!("{}@", escape(name, Part::User)),
            Some((name, Some(password))) => {
                format!("{}:{}@", escape(name, Part::User), escape(password, Part::User))
            }
        };
        let path =
            if self.raw_path.is_empty() { escape(&self.path, Part::Path) } else { self.raw_path.clone() };
        let query = if self.force_query { "?" } else { "" };
        format!("{}://{user}{}{path}{query}", self.scheme, escape(&self.host, Part::Host))
    }
}

fn parse_user(text: &str) -> Option<(String, Option<String>)> {
    let valid =
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte));
    if !valid {
        return None;
    }
    match text.split_once(':') {
        None => Some((unescape(text, false)?, None)),
        Some((name, password)) => Some((unescape(name, false)?, Some(unescape(password, false)?))),
    }
}

fn parse_host(text: &str) -> Option<String> {
    let port = |text: &str| {
        text.is_empty()
            || text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if text.starts_with('[') {
        let (_, after) = text.rsplit_once(']')?;
        if !port(after) {
            return None;
        }
    } else if let Some(colon) = text.rfind(':')
        && !port(text.get(colon..)?)
    {
        return None;
    }
    if text.bytes().any(|byte| byte.is_ascii() && byte != b'%' && must_escape(byte, Part::Host)) {
        return None;
    }
    // An ASCII byte may not be hidden behind an escape in a host.
    let decoded = unescape(text, false)?;
    if text.contains('%') && decoded.is_ascii() { None } else { Some(decoded) }
}

/// Whether a path as written is one of the possible encodings of itself.
fn valid_path(path: &str) -> bool {
    path.bytes().all(|byte| b"!$&'()*+,;=:@[]%".contains(&byte) || !must_escape(byte, Part::Path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_or_repairs_paths() {
        for (text, expected) in [
            ("HTTPS://u:p%40@Host:1/a(b)%20c?q#f", "https://u:p%40@Host:1/a(b)%20c"),
            ("https://h/a b{}", "https://h/a%20b%7B%7D"),
            ("https://h/x.git?", "https://h/x.git?"),
            ("https://h", "https://h"),
            ("https://[::1]:80/x", "https://[::1]:80/x"),
        ] {
            assert_eq!(Url::parse(text).unwrap().without_options(), expected);
        }
    }

    #[test]
    fn refuses() {
        for text in ["https://h:x/", "https://a b/", "https://h/%zz", "https://h/\n", "no", "://x", "https:x"]
        {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn queries() {
        let query = parse_query("a=1&b&a=x+y&%zz=1&c;d&=e");
        let pairs: Vec<_> = query.iter().map(|(key, values)| (key.as_str(), values.join(","))).collect();
        assert_eq!(pairs, [("", "e".to_owned()), ("a", "1,x y".to_owned()), ("b", String::new())]);
    }
}
