//! What a build is given beside its files: secrets, SSH agents, and what its steps may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a build is given beside its files. None of it is in a key, and no value of a secret is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Where secrets are, by their names.
    pub secrets: BTreeMap<String, SecretFrom>,
    /// SSH agents, by their names.
    pub agents: BTreeMap<String, AgentFrom>,
    /// What steps may do that not every build may.
    pub allowed: BTreeSet<Entitlement>,
}

/// Where a secret is. It is read each time a step needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment; one that is not set is an empty secret, as for BuildKit.
    Variable(String),
}

/// What answers as an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFrom {
    /// A running agent, by its socket.
    Socket(PathBuf),
    /// Private keys in files: this process answers for them.
    Keys(Vec<PathBuf>),
}

/// What a step may do if the build was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --network=host`.
    NetworkHost,
    /// `RUN --security=insecure`.
    SecurityInsecure,
}

impl Entitlement {
    /// Returns its name: `network.host`, `security.insecure`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        }
    }

    /// Finds the one with a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::NetworkHost, Self::SecurityInsecure].into_iter().find(|one| one.name() == name)
    }
}

/// Larger secrets are refused, as by BuildKit: they are for passwords and keys.
const MAX_SECRET: u64 = 500 << 10;

impl Given {
    /// Reads a secret; `None` if the build was given none of this name. The error names the place, never the value.
    pub(crate) fn secret(&self, id: &str) -> std::io::Result<Option<Vec<u8>>> {
        use std::io::Read as _;
        use std::os::unix::ffi::OsStringExt as _;

        let value = match self.secrets.get(id) {
            None => return Ok(None),
            Some(SecretFrom::Variable(name)) => std::env::var_os(name).unwrap_or_default().into_vec(),
            Some(SecretFrom::File(path)) => {
                let named = |error: std::io::Error| {
                    std::io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
                };
                let file = std::fs::File::open(path).map_err(named)?;
                let mut value = Vec::new();
                file.take(MAX_SECRET + 1).read_to_end(&mut value).map_err(named)?;
                value
            }
        };
        if value.len() as u64 > MAX_SECRET {
            return Err(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                format!("secret {id} too big. max size 500KB"),
            ));
        }
        Ok(Some(value))
    }

    /// Returns the agent of this name; no name means `default`.
    pub(crate) fn agent(&self, id: &str) -> Option<&AgentFrom> {
        self.agents.get(if id.is_empty() { "default" } else { id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, size: usize| {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            SecretFrom::File(path)
        };
        let given = Given {
            secrets: BTreeMap::from([
                ("small".to_owned(), write("small", 3)),
                ("most".to_owned(), write("most", 500 << 10)),
                ("big".to_owned(), write("big", (500 << 10) + 1)),
                ("gone".to_owned(), SecretFrom::File(dir.path().join("gone"))),
                ("unset".to_owned(), SecretFrom::Variable("COOPER_TEST_UNSET".to_owned())),
                ("set".to_owned(), SecretFrom::Variable("PATH".to_owned())),
            ]),
            ..Given::default()
        };
        assert_eq!(given.secret("other").unwrap(), None);
        assert_eq!(given.secret("small").unwrap().unwrap(), b"xxx");
        assert_eq!(given.secret("most").unwrap().unwrap().len(), 500 << 10);
        assert!(given.secret("big").unwrap_err().to_string().contains("max size 500KB"));
        assert!(given.secret("gone").unwrap_err().to_string().contains("gone"));
        assert_eq!(given.secret("unset").unwrap().unwrap(), b"");
        assert!(!given.secret("set").unwrap().unwrap().is_empty());
    }

    #[test]
    fn names() {
        for one in [Entitlement::NetworkHost, Entitlement::SecurityInsecure] {
            assert_eq!(Entitlement::named(one.name()), Some(one));
        }
        assert_eq!(Entitlement::named("device"), None);
        let given = Given {
            agents: BTreeMap::from([("default".to_owned(), AgentFrom::Keys(vec![]))]),
            ..Given::default()
        };
        assert!(given.agent("").is_some() && given.agent("default").is_some() && given.agent("x").is_none());
    }
}
