//! Options of a build, read from the texts in which a client sends them.

mod csv;
mod resources;

use std::collections::BTreeMap;
use std::net::IpAddr;

use cooper_llb::pb;
use cooper_oci::Platform;

use crate::gofmt::{parse_bool, parse_int};
use crate::lint;
use crate::request::{Request, ResolveMode};

pub(crate) use resources::{Resources, Ulimit};

/// Which stages ignore the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum NoCache {
    #[default]
    Never,
    All,
    Stages(Vec<String>),
}

impl NoCache {
    /// Whether a stage of this name (empty: none) ignores the cache.
    pub(crate) fn applies_to(&self, stage: &str) -> bool {
        match self {
            NoCache::Never => false,
            NoCache::All => true,
            NoCache::Stages(names) => names.iter().any(|name| name.to_lowercase() == stage.to_lowercase()),
        }
    }
}

/// Options after parsing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) target: String,
    pub(crate) target_platforms: Vec<Platform>,
    pub(crate) build_platform: Platform,
    pub(crate) multi_platform: bool,
    pub(crate) resolve_mode: ResolveMode,
    pub(crate) extra_hosts: Vec<(String, IpAddr)>,
    pub(crate) shm_size: i64,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) resources: Option<Resources>,
    /// Network that steps get where they do not say.
    pub(crate) network: pb::NetMode,
    pub(crate) no_cache: NoCache,
    pub(crate) cache_namespace: String,
    pub(crate) cgroup_parent: String,
    pub(crate) hostname: String,
    pub(crate) lint: Option<lint::Config>,
    /// Whether stages are built, too, that the target does not need. BuildKit has no such option.
    pub(crate) all_stages: bool,
    /// Sessions of local sources that are not the request's own.
    pub(crate) local_sessions: BTreeMap<String, String>,
    /// All options as they came.
    pub(crate) raw: BTreeMap<String, String>,
}

impl Options {
    /// Reads the options of a request.
    ///
    /// # Errors
    ///
    /// With BuildKit's text for the first option that cannot be read.
    pub(crate) fn parse(request: &Request) -> Result<Options, String> {
        let raw = &request.opts;
        let get = |key: &str| raw.get(key).map(String::as_str).unwrap_or_default();
        let wrap = |what: &'static str| move |message: String| format!("{what}: {message}");
        refuse_unsupported(raw)?;
        let mut target_platforms = Vec::new();
        if !get("platform").is_empty() {
            for text in get("platform").split(',') {
                let platform = text
                    .parse::<Platform>()
                    .map_err(|error| format!("failed to parse target platform {text}: {error}"))?;
                target_platforms.push(platform.normalized());
            }
        }
        let resolve_mode = match get("image-resolve-mode") {
            "" | "default" => ResolveMode::Default,
            "pull" => ResolveMode::Pull,
            "local" => ResolveMode::Local,
            other => return Err(format!("invalid image-resolve-mode: {other}")),
        };
        let extra_hosts = parse_hosts(get("add-hosts")).map_err(wrap("failed to parse additional hosts"))?;
        let shm_size = match get("shm-size") {
            "" => 0,
            text => parse_int(text).map_err(wrap("failed to parse shm size"))?,
        };
        let ulimits = resources::parse_ulimits(get("ulimit")).map_err(wrap("failed to parse ulimit"))?;
        let resources = Resources::parse(raw).map_err(wrap("failed to parse resource limits"))?;
        let network = match get("force-network-mode") {
            "" | "sandbox" => pb::NetMode::Unset,
            "host" => pb::NetMode::Host,
            "none" => pb::NetMode::None,
            other => return Err(format!("invalid netmode {other}")),
        };
        let no_cache = match raw.get("no-cache").map(String::as_str) {
            None => NoCache::Never,
            Some("") => NoCache::All,
            Some(names) => NoCache::Stages(names.split(',').map(str::to_owned).collect()),
        };
        let several = target_platforms.len() > 1;
        let mut wanted = get("build-arg:BUILDKIT_MULTI_PLATFORM");
        if wanted.is_empty() {
            wanted = get("multi-platform");
        }
        let multi_platform = match wanted {
            "" => several,
            text => {
                let wanted = parse_bool(text)
                    .ok_or_else(|| format!("invalid boolean value for multi-platform: {text}"))?;
                if several && !wanted {
                    return Err(
                        "conflicting config: returning multiple target platforms is not allowed".to_owned()
                    );
                }
                wanted
            }
        };
        let lint = match raw.get("build-arg:BUILDKIT_DOCKERFILE_CHECK") {
            None => None,
            Some(text) => Some(
                lint::Config::parse(text)
                    .map_err(wrap("failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK"))?,
            ),
        };
        let sandbox_hostname = get("build-arg:BUILDKIT_SANDBOX_HOSTNAME");
        Ok(Options {
            build_args: with_prefix(raw, "build-arg:"),
            labels: with_prefix(raw, "label:"),
            target: get("target").to_owned(),
            target_platforms,
            build_platform: request.worker_platforms.first().cloned().unwrap_or_else(Platform::host),
            multi_platform,
            resolve_mode,
            extra_hosts,
            shm_size,
            ulimits,
            resources,
            network,
            no_cache,
            cache_namespace: get("build-arg:BUILDKIT_CACHE_MOUNT_NS").to_owned(),
            cgroup_parent: get("cgroup-parent").to_owned(),
            hostname: if sandbox_hostname.is_empty() { get("hostname") } else { sandbox_hostname }.to_owned(),
            lint,
            all_stages: parse_bool(get("all-stages")) == Some(true),
            local_sessions: with_prefix(raw, "local-sessionid:"),
            raw: raw.clone(),
        })
    }

    /// An option's text; empty if it is absent.
    pub(crate) fn raw(&self, key: &str) -> &str {
        self.raw.get(key).map(String::as_str).unwrap_or_default()
    }
}

/// Options that would be ignored silently otherwise: those that BuildKit had once, and those that are not here yet.
fn refuse_unsupported(raw: &BTreeMap<String, String>) -> Result<(), String> {
    if let Some((key, _)) = raw.iter().find(|(key, _)| key.starts_with("attest:")) {
        return Err(format!("option `{key}`: attestations are not supported yet, leave it out"));
    }
    if let Some(request) = raw.get("requestid") {
        return Err(format!("unsupported request {request}"));
    }
    if let Some(syntax) = raw.get("build-arg:BUILDKIT_SYNTAX") {
        let image = syntax.split_whitespace().next().unwrap_or_default();
        if !image.is_empty() && !crate::is_built_in(image) {
            return Err(format!(
                "build argument `BUILDKIT_SYNTAX`: `{image}` is another frontend; built in is docker/dockerfile: leave it out, or build with BuildKit"
            ));
        }
    }
    if raw.get("override-copy-image").is_some_and(|value| !value.is_empty()) {
        return Err("support for \"override-copy-image\" was removed in BuildKit 0.11".to_owned());
    }
    let disabled = raw.get("build-arg:BUILDKIT_DISABLE_FILEOP").and_then(|value| parse_bool(value));
    if disabled == Some(true) {
        return Err(
            "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11".to_owned()
        );
    }
    Ok(())
}

fn with_prefix(raw: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    raw.iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
        .collect()
}

fn parse_hosts(text: &str) -> Result<Vec<(String, IpAddr)>, String> {
    let mut hosts = Vec::new();
    if text.is_empty() {
        return Ok(hosts);
    }
    for field in csv::fields(text)? {
        let lower = field.to_lowercase();
        let (host, ip) = lower.split_once('=').ok_or_else(|| format!("invalid key-value pair {field}"))?;
        let address: IpAddr = ip.parse().map_err(|_| format!("failed to parse IP {ip}"))?;
        hosts.push((host.to_owned(), address.to_canonical()));
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(opts: &[(&str, &str)]) -> Result<Options, String> {
        let opts = opts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::parse(&Request { opts, ..Request::default() })
    }

    #[test]
    fn reads() {
        let options = parse(&[
            ("add-hosts", "A=1.2.3.4,b=::ffff:1.2.3.4"),
            ("no-cache", "one,Two"),
            ("build-arg:X", "y"),
            ("platform", "linux/amd64,linux/arm64"),
        ])
        .unwrap();
        assert_eq!(
            options.extra_hosts.iter().map(|(host, ip)| format!("{host} {ip}")).collect::<Vec<_>>(),
            ["a 1.2.3.4", "b 1.2.3.4"]
        );
        assert!(options.no_cache.applies_to("two") && !options.no_cache.applies_to(""));
        assert!(options.multi_platform && options.build_args.contains_key("X"));
        assert!(parse(&[("no-cache", "")]).unwrap().no_cache.applies_to(""));
    }

    #[test]
    fn refuses() {
        for (key, value, message) in [
            ("add-hosts", "a", "failed to parse additional hosts: invalid key-value pair a"),
            ("add-hosts", "a=b", "failed to parse additional hosts: failed to parse IP b"),
            ("shm-size", "x", "failed to parse shm size: strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("force-network-mode", "x", "invalid netmode x"),
            ("image-resolve-mode", "x", "invalid image-resolve-mode: x"),
            ("multi-platform", "x", "invalid boolean value for multi-platform: x"),
            ("ulimit", "x=1", "failed to parse ulimit: invalid ulimit type: x"),
            ("attest:sbom", "", "option `attest:sbom`: attestations are not supported yet, leave it out"),
            ("requestid", "frontend.lint", "unsupported request frontend.lint"),
            ("memory", "-1", "failed to parse resource limits: invalid memory value: -1: must be > 0"),
        ] {
            assert_eq!(parse(&[(key, value)]).unwrap_err(), message);
        }
    }
}
