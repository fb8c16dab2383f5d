//! Running `git`, apart from the user's settings.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::{Error, Result};

/// What of the environment git is told: how to get out, and whom to trust.
const PASSED: [&str; 12] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// An error's text beyond this is of no use to anybody.
const LONGEST_MESSAGE: usize = 2000;

/// How to log in.
#[derive(Clone, Default)]
pub struct GitLogin {
    /// The value of an `Authorization:` header for the remote's host.
    pub header: Option<String>,
    /// The socket of an ssh agent.
    pub agent: Option<PathBuf>,
    /// Lines for ssh's `known_hosts`; without them the user's own are read.
    pub known_hosts: Option<String>,
}

impl std::fmt::Debug for GitLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A secret is in it.
        f.debug_struct("GitLogin").field("header", &self.header.is_some()).finish_non_exhaustive()
    }
}

/// One repository, in a folder of its own.
#[derive(Debug, Clone)]
pub(super) struct Git {
    dir: PathBuf,
    remote: String,
    repository: PathBuf,
    tree: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    protocols: &'static str,
}

impl Git {
    /// Prepares for a bare repository in `dir`.
    pub(super) fn new(dir: &Path, remote: &str, login: &GitLogin) -> Result<Self> {
        let mut environment: Vec<(OsString, OsString)> =
            PASSED.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
        let mut set = |name: &str, value: OsString| environment.push((name.into(), value));
        for (name, value) in [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            // Messages are looked at.
            ("LC_ALL", "C"),
        ] {
            set(name, value.into());
        }
        let mut ssh = "ssh -F /dev/null -o BatchMode=yes".to_owned();
        if let Some(lines) = &login.known_hosts {
            let path = dir.join("known_hosts");
            std::fs::write(&path, lines).map_err(|source| Error::GitDir { path: path.clone(), source })?;
            ssh.push_str(&format!(" -o UserKnownHostsFile={}", path.display()));
        }
        set("GIT_SSH_COMMAND", ssh.into());
        if let Some(agent) = &login.agent {
            set("SSH_AUTH_SOCK", agent.into());
        }
        if let Some(header) = &login.header {
            // Not as an argument, which every user of the machine could read.
            let path = dir.join("login");
            let mut file = std::fs::File::options();
            let text = format!(
                "[http \"{}\"]\n\textraHeader = {}\n",
                scope(remote),
                quoted(&format!("Authorization: {header}"))
            );
            file.write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|source| Error::GitDir { path: path.clone(), source })?;
            environment.retain(|(name, _)| name != "GIT_CONFIG_GLOBAL");
            environment.push(("GIT_CONFIG_GLOBAL".into(), path.into()));
        }
        Ok(Self {
            dir: dir.to_owned(),
            remote: remote.to_owned(),
            repository: dir.join("repository"),
            tree: None,
            environment,
            protocols: "http:https:ssh:git",
        })
    }

    /// Returns the folder for everything.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the same for a working tree.
    pub(super) fn in_tree(&self, tree: &Path, repository: &Path) -> Self {
        Self { tree: Some(tree.to_owned()), repository: repository.to_owned(), ..self.clone() }
    }

    /// Returns the same with leave to read repositories of this machine, which no submodule has.
    pub(super) fn local(&self) -> Self {
        Self { protocols: "file", ..self.clone() }
    }

    /// Runs git and returns what it printed. `what` names the operation on the remote.
    pub(super) async fn run(&self, what: &'static str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.env_clear().envs(self.environment.iter().cloned());
        command.env("GIT_ALLOW_PROTOCOL", self.protocols);
        // ssh reads its own files there.
        command.envs(std::env::var_os("HOME").map(|home| ("HOME", home)));
        command.arg("--git-dir").arg(&self.repository);
        if let Some(tree) = &self.tree {
            command.arg("--work-tree").arg(tree);
        }
        command.args(arguments).current_dir(self.tree.as_deref().unwrap_or(&self.dir));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let fail = |message: String| Error::Git { what, remote: redacted(&self.remote), message };
        let output = command.output().await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NoGit,
            _ => fail(error.to_string()),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(fail(message(&output.stderr, &self.remote)))
    }
}

/// Returns what git said, for people.
fn message(stderr: &[u8], remote: &str) -> String {
    let text = String::from_utf8_lossy(stderr).replace(remote, &redacted(remote));
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").chars().filter(|c| !c.is_control()).take(LONGEST_MESSAGE).collect()
}

/// Leaves the login out of an address.
pub(super) fn redacted(remote: &str) -> String {
    let Some((scheme, rest)) = remote.split_once("://") else { return remote.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    // A name without a password says how ssh logs in.
    let host = match host.rsplit_once('@') {
        Some((login, host)) if login.contains(':') || scheme != "ssh" => host,
        _ => host,
    };
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

/// Returns the part of an address that a login is for: nothing goes to other hosts, where a redirect may lead.
fn scope(remote: &str) -> String {
    let address = redacted(remote);
    let Some((scheme, rest)) = address.split_once("://") else { return address };
    format!("{scheme}://{}/", rest.split('/').next().unwrap_or_default())
}

/// Writes a value of git's settings.
fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_logins() {
        for (remote, shown, at) in [
            ("https://user:pass@host/a/b.git", "https://host/a/b.git", "https://host/"),
            ("https://token@host:8443/b.git", "https://host:8443/b.git", "https://host:8443/"),
            ("https://host", "https://host", "https://host/"),
            ("ssh://git@host/a.git", "ssh://git@host/a.git", "ssh://git@host/"),
            ("ssh://git:x@host/a.git", "ssh://host/a.git", "ssh://host/"),
            ("git@host:a.git", "git@host:a.git", "git@host:a.git"),
        ] {
            assert_eq!((redacted(remote).as_str(), scope(remote).as_str()), (shown, at));
        }
        let said = message(b"fatal: unable to access 'https://u:p@h/x/':\n\n no\n", "https://u:p@h/x");
        assert_eq!(said, "fatal: unable to access 'https://h/x/':; no");
    }

    #[test]
    fn values_of_settings() {
        assert_eq!(quoted("a \"b\" \\ # ;\n"), r#""a \"b\" \\ # ;\n""#);
    }
}
