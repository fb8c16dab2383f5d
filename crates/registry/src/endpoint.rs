use std::collections::BTreeSet;

use cooper_oci::Reference;
use reqwest::Url;

use crate::http::{authority, is_loopback};
use crate::{Config, Error, Result};

/// Docker Hub's name in references, and the host of its registry.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// A place that serves a repository: the registry itself or a mirror.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Everything before `/v2/`, without a slash at the end.
    base: Url,
    /// The name under which credentials are kept.
    pub(crate) login: String,
    /// The registry that a mirror stands for.
    stands_for: Option<String>,
}

impl Endpoint {
    /// Returns the address of `path` under the repository of `reference`.
    pub(crate) fn url(&self, reference: &Reference, path: &str) -> Url {
        let mut url = self.base.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}/v2/{}/{path}", reference.path()));
        if let Some(domain) = &self.stands_for {
            // A mirror of several registries cannot tell otherwise; containerd does the same.
            url.query_pairs_mut().append_pair("ns", domain);
        }
        url
    }

    /// Returns host and port.
    pub(crate) fn host(&self) -> String {
        authority(&self.base)
    }

    /// Returns whether `url` is at this endpoint, so that its credentials may be sent there.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Returns the registry of `reference` itself.
    pub(crate) fn registry(reference: &Reference, plain: &BTreeSet<String>) -> Result<Self> {
        let domain = reference.domain();
        let host = if domain == HUB { HUB_HOST } else { domain };
        if host.is_empty() {
            return Err(Error::NoRegistry(reference.to_string()));
        }
        let scheme = if is_loopback(host) || plain.contains(host) { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{host}"))
            .map_err(|_| Error::NoRegistry(reference.to_string()))?;
        Ok(Self { base, login: domain.to_owned(), stands_for: None })
    }

    fn mirror(text: &str, domain: &str) -> Result<Self> {
        let bad = || Error::Setting(text.to_owned());
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            let scheme = if is_loopback(text) { "http" } else { "https" };
            format!("{scheme}://{text}")
        };
        let base = Url::parse(&whole).map_err(|_| bad())?;
        let usable =
            matches!(base.scheme(), "http" | "https") && base.host_str().is_some_and(|host| !host.is_empty());
        if !usable || base.query().is_some() || !base.username().is_empty() || base.password().is_some() {
            return Err(bad());
        }
        Ok(Self { login: authority(&base), base, stands_for: Some(domain.to_owned()) })
    }
}

/// The places of all registries, from the settings.
#[derive(Debug)]
pub(crate) struct Endpoints {
    mirrors: Vec<(String, Endpoint)>,
    plain: BTreeSet<String>,
}

impl Endpoints {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let mut plain = config.plain_http.clone();
        let mut mirrors = Vec::new();
        for (domain, list) in &config.mirrors {
            for text in list {
                let mirror = Endpoint::mirror(text, domain)?;
                if mirror.base.scheme() == "http" {
                    plain.insert(mirror.host());
                }
                mirrors.push((domain.clone(), mirror));
            }
        }
        Ok(Self { mirrors, plain })
    }

    /// Returns the hosts that may be spoken to without TLS.
    pub(crate) fn plain(&self) -> &BTreeSet<String> {
        &self.plain
    }

    /// Returns the places to pull `reference` from, in the order of trying; the registry itself is the last.
    pub(crate) fn pull(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let mirrors = self.mirrors.iter().filter(|(domain, _)| domain == reference.domain());
        let mut out: Vec<_> = mirrors.map(|(_, mirror)| mirror.clone()).collect();
        out.push(self.registry(reference)?);
        Ok(out)
    }

    /// Returns the registry itself, the only place to push to.
    pub(crate) fn registry(&self, reference: &Reference) -> Result<Endpoint> {
        Endpoint::registry(reference, &self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(config: &Config, reference: &str) -> Vec<String> {
        let reference: Reference = reference.parse().unwrap();
        let endpoints = Endpoints::new(config).unwrap().pull(&reference).unwrap();
        endpoints.iter().map(|place| place.url(&reference, "tags/list").to_string()).collect()
    }

    #[test]
    fn addresses() {
        let mut config = Config::default();
        assert_eq!(urls(&config, "python"), ["https://registry-1.docker.io/v2/library/python/tags/list"]);
        assert_eq!(urls(&config, "localhost:5000/a"), ["http://localhost:5000/v2/a/tags/list"]);
        assert_eq!(urls(&config, "[::1]:5000/a"), ["http://[::1]:5000/v2/a/tags/list"]);
        assert_eq!(urls(&config, "10.0.0.1/a"), ["https://10.0.0.1/v2/a/tags/list"]);
        config.plain_http.insert("10.0.0.1".to_owned());
        assert_eq!(urls(&config, "10.0.0.1/a"), ["http://10.0.0.1/v2/a/tags/list"]);
        config.mirrors.insert(
            "docker.io".to_owned(),
            ["m.example:5000", "http://10.0.0.2/hub/", "127.0.0.1:9"].map(str::to_owned).into(),
        );
        assert_eq!(
            urls(&config, "a/b"),
            [
                "https://m.example:5000/v2/a/b/tags/list?ns=docker.io",
                "http://10.0.0.2/hub/v2/a/b/tags/list?ns=docker.io",
                "http://127.0.0.1:9/v2/a/b/tags/list?ns=docker.io",
                "https://registry-1.docker.io/v2/a/b/tags/list",
            ]
        );
        assert!(Endpoints::new(&config).unwrap().plain().contains("10.0.0.2"));
    }

    #[test]
    fn refuses_what_is_no_host() {
        for bad in ["", "ftp://a", "https://", "https://user:pw@a", "a b", "https://a/?x=1"] {
            let mut config = Config::default();
            config.mirrors.insert("docker.io".to_owned(), vec![bad.to_owned()]);
            assert!(matches!(Endpoints::new(&config), Err(Error::Setting(_))), "{bad}");
        }
        let odd: Reference = "a_b.c/d".parse().unwrap();
        assert!(matches!(Endpoint::registry(&odd, &BTreeSet::new()), Err(Error::NoRegistry(_))));
    }
}
