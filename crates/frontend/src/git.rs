//! Git references as BuildKit writes them: `https://host/repo.git#ref:subdir`, `git@host:repo.git?tag=v1`, …

mod url;

use std::collections::{BTreeMap, BTreeSet};

use cooper_llb::caps;

use crate::gofmt::{parse_bool, quote};
use crate::path;

pub(crate) use url::Url;

/// A parsed git reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitRef {
    /// Repository, without fragment and query.
    pub(crate) remote: String,
    /// Branch, tag, commit or full ref name; empty if absent.
    pub(crate) reference: String,
    /// Commit that the reference must name; empty if absent.
    pub(crate) checksum: String,
    /// Directory within the repository; empty if absent.
    pub(crate) subdir: String,
    /// `github.com/owner/repo`: could be a local path as well.
    pub(crate) like_local: bool,
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) submodules: Option<bool>,
    /// `checkout` or `commit`; empty if absent.
    pub(crate) mtime: String,
    pub(crate) fetch_by_commit: bool,
}

/// What a text is, as far as git is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Something else: a path or another kind of URL.
    Other,
    /// A git reference that cannot be used.
    Bad(String),
    /// A git reference.
    Git(GitRef),
}

/// A repository's address, before anything Dockerfile-specific is decided.
struct Remote {
    scheme: String,
    path: String,
    fragment: String,
    query: BTreeMap<String, Vec<String>>,
    remote: String,
}

fn from_url(url: &Url) -> Remote {
    Remote {
        scheme: url.scheme.clone(),
        path: url.path.clone(),
        fragment: url.fragment.clone(),
        query: url::parse_query(&url.raw_query),
        remote: url.without_options(),
    }
}

/// Whether a text starts with a scheme and `://`; gives the scheme in lower case.
fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let valid = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    valid.then(|| scheme.to_ascii_lowercase())
}

/// `user@host:path?query#fragment`, the form of scp.
fn from_scp(text: &str) -> Option<(Remote, String)> {
    let (user, rest) = text.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    let name = |text: &str, extra: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    if !name(user, b"-_") || !name(host, b"-.") || rest.contains('\n') {
        return None;
    }
    let (rest, fragment) = match rest.split_once('#') {
        // A question mark within the fragment starts no query.
        Some((front, fragment)) => (front, fragment),
        None => (rest, ""),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let remote = format!("{user}@{host}:{path}");
    Some((
        Remote {
            scheme: "ssh".to_owned(),
            path: path.to_owned(),
            fragment: fragment.to_owned(),
            query: url::parse_query(query),
            remote,
        },
        host.to_owned(),
    ))
}

/// Parses what `ADD`, a build context or a named context names.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut git = GitRef::default();
    let remote = if text.starts_with("./") || text.starts_with("../") {
        return Parsed::Other;
    } else if text.starts_with("github.com/") {
        git.like_local = true;
        match Url::parse(&format!("https://{text}")) {
            Some(url) => from_url(&url),
            None => return Parsed::Other,
        }
    } else if let Some(scheme) = scheme(text) {
        if !matches!(scheme.as_str(), "http" | "https" | "ssh" | "git") {
            return Parsed::Other;
        }
        match Url::parse(text) {
            Some(url) => from_url(&url),
            None => return Parsed::Other,
        }
    } else {
        match from_scp(text) {
            Some((remote, _)) => remote,
            None => return Parsed::Other,
        }
    };
    if !git.like_local && matches!(remote.scheme.as_str(), "http" | "https") && !remote.path.ends_with(".git")
    {
        return Parsed::Other;
    }
    git.remote = remote.remote;
    if git.like_local {
        git.remote = git.remote.trim_start_matches("https://").to_owned();
    }
    if !remote.fragment.is_empty() {
        let (reference, subdir) = remote.fragment.split_once(':').unwrap_or((&remote.fragment, ""));
        git.reference = reference.to_owned();
        git.subdir = path::join(&["/", subdir]).trim_start_matches('/').to_owned();
    }
    match git.apply_query(&remote.query) {
        Ok(()) => Parsed::Git(git),
        Err(message) => Parsed::Bad(message),
    }
}

impl GitRef {
    fn apply_query(&mut self, query: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        let (mut tag, mut branch) = (String::new(), String::new());
        for (key, values) in query {
            let value = match values.as_slice() {
                [] => "",
                [value] => value.as_str(),
                _ => return Err(format!("query {} has multiple values", quote(key))),
            };
            let flag = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !flag {
                return Err(format!("query {} has no value", quote(key)));
            }
            let boolean = || match value {
                "" => Ok(true),
                value => parse_bool(value).ok_or_else(|| format!("invalid {key} value: {}", quote(value))),
            };
            match key.as_str() {
                "ref" => set(&mut self.reference, "ref", value)?,
                "tag" => tag = value.to_owned(),
                "branch" => branch = value.to_owned(),
                "subdir" => set(&mut self.subdir, "subdir", value)?,
                "checksum" | "commit" => self.checksum = value.to_owned(),
                "keep-git-dir" => self.keep_git_dir = Some(boolean()?),
                "submodules" => self.submodules = Some(boolean()?),
                "mtime" if matches!(value, "checkout" | "commit") => self.mtime = value.to_owned(),
                "mtime" => {
                    return Err(format!(
                        "invalid mtime value: {} (must be \"checkout\" or \"commit\")",
                        quote(value)
                    ));
                }
                "fetch-by-commit" => self.fetch_by_commit = boolean()?,
                _ => return Err(format!("unexpected query {}", quote(key))),
            }
        }
        if !tag.is_empty() {
            let full = with_prefix("refs/tags/", &tag);
            set(&mut self.reference, "ref", &full)?;
        }
        if !branch.is_empty() {
            if !tag.is_empty() {
                return Err("branch conflicts with tag".to_owned());
            }
            let full = with_prefix("refs/heads/", &branch);
            set(&mut self.reference, "ref", &full)?;
        }
        Ok(())
    }

    /// The identifier and attributes of the LLB source, and the capabilities that it needs.
    pub(crate) fn source(
        &self,
        keep_git_dir: bool,
        checksum: &str,
    ) -> (String, BTreeMap<String, String>, BTreeSet<&'static str>) {
        let mut url = self.remote.clone();
        if self.like_local {
            url = format!("https://{url}");
        }
        let (host, path, ssh) = match (scheme(&url), from_scp(&url)) {
            (Some(scheme), _) => match Url::parse(&url) {
                Some(parsed) => (parsed.host, parsed.path, scheme == "ssh"),
                None => (String::new(), url.clone(), false),
            },
            (None, Some((remote, host))) => (host, remote.path, true),
            (None, None) => (String::new(), url.clone(), false),
        };
        let mut id = format!("git://{host}{}", path::join(&["/", &path]));
        if !self.reference.is_empty() || !self.subdir.is_empty() {
            id.push('#');
            id.push_str(&self.reference);
            if !self.subdir.is_empty() {
                id.push(':');
                id.push_str(&self.subdir);
            }
        }
        let mut attrs = BTreeMap::new();
        let mut needs = BTreeSet::from([caps::SOURCE_GIT]);
        if ssh {
            // BuildKit's client asks the host for its keys and needs this for them; a pure function cannot ask, so the
            // keys are left to whoever fetches.
            needs.insert(caps::SOURCE_GIT_KNOWN_SSH_HOSTS);
        }
        let mut set = |key: &str, value: &str, cap: Option<&'static str>| {
            attrs.insert(key.to_owned(), value.to_owned());
            needs.extend(cap);
        };
        if keep_git_dir {
            set("git.keepgitdir", "true", Some(caps::SOURCE_GIT_KEEP_DIR));
        }
        if !url.is_empty() {
            set("git.fullurl", &url, Some(caps::SOURCE_GIT_FULL_URL));
        }
        set("git.authtokensecret", "GIT_AUTH_TOKEN", None);
        set("git.authheadersecret", "GIT_AUTH_HEADER", None);
        if ssh {
            set("git.mountsshsock", "default", Some(caps::SOURCE_GIT_MOUNT_SSH_SOCK));
        }
        if !checksum.is_empty() {
            set("git.checksum", checksum, Some(caps::SOURCE_GIT_CHECKSUM));
        }
        if self.submodules == Some(false) {
            set("git.skipsubmodules", "true", Some(caps::SOURCE_GIT_SKIP_SUBMODULES));
        }
        if !self.mtime.is_empty() {
            set("git.mtime", &self.mtime, Some(caps::SOURCE_GIT_MTIME));
        }
        if self.fetch_by_commit {
            set("git.fetchbycommit", "true", Some(caps::SOURCE_GIT_FETCH_BY_COMMIT));
        }
        (id, attrs, needs)
    }
}

fn set(slot: &mut String, what: &str, value: &str) -> Result<(), String> {
    if !slot.is_empty() && slot != value {
        return Err(format!("{what} conflicts: {} vs {}", quote(slot), quote(value)));
    }
    *slot = value.to_owned();
    Ok(())
}

fn with_prefix(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Whether `ADD` downloads this: an http(s) URL that is no git repository.
pub(crate) fn is_http(text: &str) -> bool {
    (text.starts_with("http://") || text.starts_with("https://")) && !matches!(parse(text), Parsed::Git(_))
}

/// The name under which `ADD URL` stores a file: the last element of its path.
pub(crate) fn http_filename(text: &str) -> String {
    let name = Url::parse(text).map(|url| path::base(&url.path).to_owned()).unwrap_or_default();
    if matches!(name.as_str(), "" | "." | "/") { "__unnamed__".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> GitRef {
        match parse(text) {
            Parsed::Git(git) => git,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn reads_references() {
        for (text, remote, reference, subdir) in [
            ("https://github.com/a/b.git", "https://github.com/a/b.git", "", ""),
            ("https://github.com/a/b.git#v1:/docs/", "https://github.com/a/b.git", "v1", "docs"),
            ("git@github.com:a/b.git#main", "git@github.com:a/b.git", "main", ""),
            ("git://host/b?ref=x&subdir=y", "git://host/b", "x", "y"),
            ("ssh://git@host:22/b.git?tag=v1", "ssh://git@host:22/b.git", "refs/tags/v1", ""),
            ("https://host/b.git?branch=x", "https://host/b.git", "refs/heads/x", ""),
            ("github.com/a/b", "github.com/a/b", "", ""),
        ] {
            let got = git(text);
            assert_eq!(
                (got.remote.as_str(), got.reference.as_str(), got.subdir.as_str()),
                (remote, reference, subdir)
            );
        }
        assert!(git("github.com/a/b").like_local);
        assert_eq!(git("https://h/b.git?keep-git-dir&submodules=0").keep_git_dir, Some(true));
        assert_eq!(git("https://h/b.git?submodules=0").submodules, Some(false));
    }

    #[test]
    fn knows_what_is_no_git() {
        for text in [
            "./github.com/a",
            "a/b",
            "https://host/file.tar",
            "ftp://x/y.git",
            "https://h:x/b.git",
            "",
            "a@b",
        ] {
            assert_eq!(parse(text), Parsed::Other, "{text}");
        }
        assert!(is_http("https://host/file.tar") && !is_http("https://host/b.git") && !is_http("git@h:b"));
    }

    #[test]
    fn refuses_bad_queries() {
        for (text, message) in [
            ("https://h/b.git?ref=", "query \"ref\" has no value"),
            ("https://h/b.git?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("https://h/b.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("https://h/b.git?x=1", "unexpected query \"x\""),
            ("https://h/b.git?submodules=maybe", "invalid submodules value: \"maybe\""),
            ("https://h/b.git?branch=a&tag=b", "branch conflicts with tag"),
            ("https://h/b.git?mtime=x", "invalid mtime value: \"x\" (must be \"checkout\" or \"commit\")"),
        ] {
            assert_eq!(parse(text), Parsed::Bad(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn makes_sources() {
        let (id, attrs, caps) = git("https://github.com/a/b.git#v1:docs").source(true, "abc");
        assert_eq!(id, "git://github.com/a/b.git#v1:docs");
        assert_eq!(attrs.get("git.fullurl").map(String::as_str), Some("https://github.com/a/b.git"));
        assert_eq!(attrs.get("git.checksum").map(String::as_str), Some("abc"));
        assert!(caps.contains("source.git.keepgitdir"));
        assert_eq!(git("git@h.x:a/b.git").source(false, "").0, "git://h.x/a/b.git");
    }

    #[test]
    fn names_downloads() {
        for (text, name) in [
            ("https://h/a/b.tar.gz?x=/y", "b.tar.gz"),
            ("https://h", "__unnamed__"),
            ("https://h/", "__unnamed__"),
            ("https://h/%zz", "__unnamed__"),
            ("https://h/a%20b", "a b"),
        ] {
            assert_eq!(http_filename(text), name, "{text}");
        }
    }
}
