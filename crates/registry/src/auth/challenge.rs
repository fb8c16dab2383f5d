use std::collections::BTreeSet;

/// How a registry wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// User and password in each request.
    Basic,
    /// A token from a server that the challenge names.
    Bearer,
}

/// A registry's answer to a request that it will not serve without knowing who asks (RFC 9110, "WWW-Authenticate";
/// distribution's "Token Authentication Specification").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// How to answer.
    pub scheme: Scheme,
    /// For bearer: the address of the token server. For basic: a text for people.
    pub realm: String,
    /// The registry's name at the token server.
    pub service: String,
    /// What the token must allow, as `repository:library/python:pull`: what the registry named and what the client
    /// will need.
    pub scopes: BTreeSet<String>,
    /// Why an earlier answer was refused, as `insufficient_scope`.
    pub error: String,
}

impl Challenge {
    /// Reads the challenges of all `WWW-Authenticate` headers of an answer; unknown schemes are left out.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let mut out = Vec::new();
        for header in headers {
            let mut text = header;
            let mut current: Option<Self> = None;
            while let Some((name, rest)) = word(text) {
                match parameter(rest) {
                    Some((value, rest)) => {
                        text = rest;
                        if let Some(challenge) = &mut current {
                            challenge.set(name, value);
                        }
                    }
                    None => {
                        out.extend(current.take());
                        current = match name.to_ascii_lowercase().as_str() {
                            "basic" => Some(Self::new(Scheme::Basic)),
                            "bearer" => Some(Self::new(Scheme::Bearer)),
                            _ => None,
                        };
                        text = rest;
                    }
                }
            }
            out.extend(current);
        }
        out
    }

    fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            realm: String::new(),
            service: String::new(),
            scopes: BTreeSet::new(),
            error: String::new(),
        }
    }

    fn set(&mut self, name: &str, value: String) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => self.realm = value,
            "service" => self.service = value,
            "scope" => self.scopes.extend(value.split_ascii_whitespace().map(str::to_owned)),
            "error" => self.error = value,
            _ => {}
        }
    }

    /// Returns the repositories that the scopes name, for people and for stores with a login per repository.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().filter_map(|scope| {
            let rest = scope.strip_prefix("repository:")?;
            Some(rest.rsplit_once(':').map_or(rest, |(path, _)| path))
        })
    }

    pub(super) fn object(&self) -> String {
        let names: Vec<_> = self.repositories().map(|name| format!("`{name}`")).collect();
        if names.is_empty() { "the registry".to_owned() } else { names.join(", ") }
    }
}

/// Takes a token of RFC 9110 off the front, with commas and spaces before it. `None` at the end, or where the text
/// follows no grammar: the rest is then of no use.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(c))
        .unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

/// Takes `=value` or `="value"` off the front.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text.get(..end)?.to_owned(), text.get(end..)?));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    // No closing quote: what there is counts.
    Some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub() {
        let found = Challenge::parse([
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/python:pull,push repository:a/b:pull",error="insufficient_scope""#,
        ]);
        let [challenge] = &found[..] else { panic!("{found:?}") };
        assert_eq!(challenge.scheme, Scheme::Bearer);
        assert_eq!(challenge.realm, "https://auth.docker.io/token");
        assert_eq!(challenge.service, "registry.docker.io");
        assert_eq!(
            challenge.scopes.iter().map(String::as_str).collect::<Vec<_>>(),
            ["repository:a/b:pull", "repository:library/python:pull,push"]
        );
        assert_eq!(challenge.repositories().collect::<Vec<_>>(), ["a/b", "library/python"]);
        assert_eq!(challenge.error, "insufficient_scope");
    }

    #[test]
    fn several_and_odd_ones() {
        let schemes = |headers: &[&str]| -> Vec<(Scheme, String)> {
            Challenge::parse(headers.iter().copied())
                .into_iter()
                .map(|found| (found.scheme, found.realm))
                .collect()
        };
        let basic = |realm: &str| (Scheme::Basic, realm.to_owned());
        let bearer = |realm: &str| (Scheme::Bearer, realm.to_owned());
        assert_eq!(
            schemes(&[r#"Basic realm="a \"b\", c", Bearer realm=x"#]),
            [basic("a \"b\", c"), bearer("x")]
        );
        assert_eq!(schemes(&["basic realm=a", "BEARER realm = \"b\""]), [basic("a"), bearer("b")]);
        assert_eq!(schemes(&["Negotiate, NTLM, Digest realm=x, Basic"]), [basic("")]);
        assert_eq!(schemes(&["", ",,,", "=", "\"", "Basic realm=\"open"]), [basic("open")]);
        assert_eq!(schemes(&["Bearer é", "Bearer realm=\"é\""]), [bearer(""), bearer("é")]);
    }
}
