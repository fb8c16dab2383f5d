//! How a process is set up: where its state is, what it runs steps with, how it reaches registries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooper_executor::Runtime;
use serde::Deserialize;

use crate::error::Error;

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
}

/// A configuration file. An unknown key is an error: it would be a wish that nobody hears.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registry: BTreeMap<String, Registry>,
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
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(config),
        Err(error) => return Err(Error::Io { action: "read", path: path.to_owned(), error }),
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        Error::Environment(format!("`{}`: {}", path.display(), error.to_string().trim_end()))
    })?;
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
    fn what_is_not_understood_is_an_error() {
        for text in ["[registry.x]\nmirror = []", "[registry]\nx = 1", "nonsense", "[other]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
