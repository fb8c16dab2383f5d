//! How a process is set up: where its state is, what it runs steps with, how it reaches registries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooper_executor::Runtime;
use serde::Deserialize;

use crate::error::Error;
use crate::size::MaxUsed;

/// How a process is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the store.
    pub root: PathBuf,
    /// Owners of files cannot be set (a user namespace with a single id): they are recorded.
    pub single_id: bool,
    /// What runs steps.
    pub runtime: Runtime,
    /// How registries are reached.
    pub registries: cooper_registry::Config,
    /// Most bytes that the store may take on the disk; `None`: no bound.
    pub max_used: Option<u64>,
}

/// A configuration file. An unknown key is an error: it would be a wish that nobody hears.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registry: BTreeMap<String, Registry>,
    #[serde(default)]
    store: StoreKeys,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StoreKeys {
    max_used: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    http: bool,
    ca: Option<PathBuf>,
}

/// Reads how registries are reached from a configuration file in TOML; without a file, the defaults.
///
/// ```toml
/// [registry."docker.io"]
/// mirrors = ["https://mirror.example.com"]   # asked first, in this order
///
/// [registry."registry.lan:5000"]
/// http = true                                # no TLS; loopback never has any
/// ca = "/etc/ssl/lan.pem"                    # one more certificate authority
/// ```
///
/// # Errors
///
/// If there is a file and it cannot be read or understood.
pub fn registries(path: &Path) -> Result<cooper_registry::Config, Error> {
    let mut config = cooper_registry::Config::default();
    let file = file(path)?;
    for (name, registry) in file.registry {
        if registry.http {
            config.plain_http.insert(name.clone());
        }
        if let Some(ca) = registry.ca {
            let pem = std::fs::read(&ca).map_err(|error| Error::Io { action: "read", path: ca, error })?;
            config.authorities.push(pem);
        }
        config.mirrors.insert(name, registry.mirrors);
    }
    config.mirrors.retain(|_, mirrors| !mirrors.is_empty());
    Ok(config)
}

/// Reads how much the store may take on the disk (`max-used` of `[store]`), if the file says so.
///
/// # Errors
///
/// If there is a file and it cannot be read or understood.
pub fn max_used(path: &Path) -> Result<Option<MaxUsed>, Error> {
    let Some(text) = file(path)?.store.max_used else { return Ok(None) };
    let bad = |why| Error::Environment(format!("`{}`: max-used: {why}", path.display()));
    text.parse().map(Some).map_err(bad)
}

fn file(path: &Path) -> Result<File, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(Error::Io { action: "read", path: path.to_owned(), error }),
    };
    toml::from_str(&text).map_err(|error| {
        Error::Environment(format!("`{}`: {}", path.display(), error.to_string().trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<cooper_registry::Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        registries(&path)
    }

    #[test]
    fn mirrors_and_plain_http() {
        let config = read(
            "[registry.\"docker.io\"]\nmirrors = [\"http://a\", \"b\"]\n[registry.\"r:5000\"]\nhttp = true\n",
        )
        .unwrap();
        assert_eq!(config.mirrors["docker.io"], ["http://a", "b"]);
        assert_eq!(config.mirrors.len(), 1);
        assert!(config.plain_http.contains("r:5000"));
        assert!(registries(Path::new("/nonexistent/config.toml")).unwrap().mirrors.is_empty());
    }

    #[test]
    fn how_much_the_store_may_take() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(max_used(&path).unwrap(), None);
        std::fs::write(&path, "[store]\nmax-used = \"20GB\"\n").unwrap();
        assert_eq!(max_used(&path).unwrap(), Some(MaxUsed::Bytes(20_000_000_000)));
        std::fs::write(&path, "[store]\nmax-used = \"much\"\n").unwrap();
        let error = max_used(&path).unwrap_err().to_string();
        assert!(error.contains("max-used: `much` is no size"), "{error}");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in ["[registry.x]\nmirror = []", "[registry]\nx = 1", "nonsense", "[other]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
