//! The logins of the person who runs this: docker's and podman's files, and the helpers that they name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use cooper_registry::{
    Auth, AuthFuture, Authorization, Challenge, Credentials, Error as RegistryError, Tokens,
};
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

/// Docker Hub's name in references, and the one under which docker keeps its login.
const HUB: &str = "docker.io";
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// A helper may ask the person; one that waits for longer has nobody to ask.
const HELPER_TIME: Duration = Duration::from_secs(30);
/// What a helper prints is a name and a secret.
const LONGEST_FILE: u64 = 4 << 20;

/// Logins from `config.json` of docker and `auth.json` of podman, read when a registry asks.
///
/// Each file is looked at by docker's rules (a helper for the host, the general helper, the file itself) and by
/// podman's (the entry of the longest part of the repository's name counts). The first file that has something counts.
#[derive(Debug)]
pub struct Logins {
    files: Vec<PathBuf>,
    timeout: Duration,
    /// What helpers failed on, for a person: public images can be had all the same.
    warnings: Mutex<Vec<String>>,
}

/// Why a login could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LoginsError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not JSON of the known form.
    #[error("cannot understand `{path}`")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An entry of a file cannot be understood.
    #[error("the login for `{host}` in `{path}` is damaged")]
    Entry {
        /// The file.
        path: PathBuf,
        /// The key of the entry.
        host: String,
    },
    /// A credential helper failed.
    #[error("credential helper `{helper}` {problem}")]
    Helper {
        /// The program.
        helper: String,
        /// What happened.
        problem: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

impl Logins {
    /// Uses the files of this user: `REGISTRY_AUTH_FILE`, else docker's, then podman's.
    pub fn of_user() -> Self {
        Self::new(places(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)))
    }

    /// Uses these files, in order. Those that do not exist are passed over.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files, timeout: HELPER_TIME, warnings: Mutex::default() }
    }

    /// Returns what went wrong without being an error, and forgets it.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds the login for a host (as in references) and repositories there.
    ///
    /// # Errors
    ///
    /// If a file or a helper fails.
    pub async fn find(&self, host: &str, repositories: &[&str]) -> Result<Option<Credentials>, LoginsError> {
        for path in &self.files {
            let Some(file) = read(path)? else { continue };
            let helper = file
                .cred_helpers
                .iter()
                .find(|(key, _)| plain(key) == host)
                .map(|(_, helper)| helper.as_str());
            let helper = helper.or((!file.creds_store.is_empty()).then_some(file.creds_store.as_str()));
            if let Some(helper) = helper
                && let Some(found) = self.ask(helper, host).await?
            {
                return Ok(Some(found));
            }
            if let Some(found) = entry(path, &file, host, repositories)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Asks a credential helper by docker's protocol: the host on its input, JSON on its output.
    async fn ask(&self, helper: &str, host: &str) -> Result<Option<Credentials>, LoginsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            username: String,
            secret: String,
        }
        let program = format!("docker-credential-{helper}");
        let fail = |problem: String| LoginsError::Helper { helper: program.clone(), problem };
        // The name becomes that of a program: it must not become a path.
        if helper.contains('/') {
            return Err(fail("is not the name of a program".to_owned()));
        }
        let talk = async {
            let mut child = tokio::process::Command::new(&program)
                .arg("get")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut input) = child.stdin.take() {
                let name = if host == HUB { HUB_KEY } else { host };
                // One that ends without reading says why by its output.
                let _ = input.write_all(name.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(self.timeout, talk).await {
            Ok(output) => output.map_err(|error| fail(format!("cannot be run: {error}")))?,
            Err(_) => return Err(fail(format!("did not answer in {} s", self.timeout.as_secs_f32()))),
        };
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            if text.contains("credentials not found") {
                return Ok(None);
            }
            let text: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(fail(format!("failed: {text}")));
        }
        // The error of the parser would show a part of the secret.
        let answer: Answer =
            serde_json::from_slice(&output.stdout).map_err(|_| fail("answered no login".to_owned()))?;
        Ok(match (answer.username.as_str(), answer.secret) {
            (_, secret) if secret.is_empty() => None,
            ("<token>", secret) => Some(Credentials::IdentityToken(secret)),
            (user, password) => Some(Credentials::Password { user: user.to_owned(), password }),
        })
    }

    async fn answer(
        &self,
        host: &str,
        challenge: &Challenge,
        tokens: &Tokens,
    ) -> Result<Authorization, RegistryError> {
        let repositories: Vec<_> = challenge.repositories().collect();
        let failed = match self.find(host, &repositories).await {
            Ok(found) => return tokens.exchange(host, challenge, found.as_ref()).await,
            Err(error @ LoginsError::Helper { .. }) => error,
            Err(error) => return Err(RegistryError::Auth { host: host.to_owned(), source: error.into() }),
        };
        // Docker Desktop leaves the name of its helper in files that are read where it is not installed: what is
        // public can be had without it.
        match tokens.exchange(host, challenge, None).await {
            Ok(anonymous) => {
                let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
                warnings.push(format!("{failed}: asking `{host}` without a login"));
                Ok(anonymous)
            }
            Err(RegistryError::Unauthorized { .. }) => {
                Err(RegistryError::Auth { host: host.to_owned(), source: failed.into() })
            }
            Err(error) => Err(error),
        }
    }
}

impl Auth for Logins {
    fn authorize<'a>(
        &'a self,
        host: &'a str,
        challenge: &'a Challenge,
        tokens: &'a Tokens,
    ) -> AuthFuture<'a> {
        Box::pin(self.answer(host, challenge, tokens))
    }
}

/// Lists where logins may be, from the environment.
fn places(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = variable("HOME");
    let mut out = Vec::new();
    out.extend(
        variable("DOCKER_CONFIG")
            .or(home.as_ref().map(|home| home.join(".docker")))
            .map(|dir| dir.join("config.json")),
    );
    out.extend(variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")));
    let config = variable("XDG_CONFIG_HOME").or(home.map(|home| home.join(".config")));
    out.extend(config.map(|dir| dir.join("containers/auth.json")));
    out
}

fn read(path: &Path) -> Result<Option<File>, LoginsError> {
    let fail = |source| LoginsError::Read { path: path.to_owned(), source };
    let length = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(fail(error)),
    };
    if length > LONGEST_FILE {
        return Err(fail(io::Error::new(io::ErrorKind::FileTooLarge, "longer than any list of logins")));
    }
    let text = fs::read(path).map_err(fail)?;
    // `docker logout` can leave nothing behind.
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| LoginsError::Parse { path: path.to_owned(), source })
}

/// Finds the entry of the longest part of a repository's name: `host/a/b`, `host/a`, `host`.
fn entry(
    path: &Path,
    file: &File,
    host: &str,
    repositories: &[&str],
) -> Result<Option<Credentials>, LoginsError> {
    let fits = |key: &str| {
        key == host
            || key.strip_prefix(host).and_then(|rest| rest.strip_prefix('/')).is_some_and(|scope| {
                let inside = |name: &&str| {
                    *name == scope || name.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'))
                };
                !repositories.is_empty() && repositories.iter().all(inside)
            })
    };
    let found = file.auths.iter().map(|(key, entry)| (plain(key), entry)).filter(|(key, _)| fits(key));
    let Some((key, entry)) = found.max_by_key(|(key, _)| key.len()) else { return Ok(None) };
    Ok(if !entry.registrytoken.is_empty() {
        Some(Credentials::RegistryToken(entry.registrytoken.clone()))
    } else if !entry.identitytoken.is_empty() {
        Some(Credentials::IdentityToken(entry.identitytoken.clone()))
    } else if !entry.auth.is_empty() {
        let damaged = || LoginsError::Entry { path: path.to_owned(), host: key };
        Some(Credentials::from_basic(&entry.auth).ok_or_else(damaged)?)
    } else if !entry.username.is_empty() {
        Some(Credentials::Password { user: entry.username.clone(), password: entry.password.clone() })
    } else {
        // Docker marks so what a helper keeps.
        None
    })
}

/// Returns a file's key as references write it: docker's have a scheme and a version, podman's may have a path.
fn plain(key: &str) -> String {
    let without = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = match without {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2"),
    };
    let (host, path) = name.split_once('/').map_or((name, None), |(host, path)| (host, Some(path)));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { HUB } else { host };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests;
