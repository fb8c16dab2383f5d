//! Where a user's things are, by the rules of the XDG base directory specification.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cooper_executor::namespace::{self, Mode};

/// Returns the folder of the state: what was asked for, else the user's or, as real root, the system's.
///
/// In a user namespace, as this process may have entered it by running itself again, everybody is root: only who is root
/// outside of one has the system's.
pub(crate) fn store(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = asked {
        return Ok(std::path::absolute(path)?);
    }
    if rustix::process::geteuid().is_root() && namespace::mode()? == Mode::Root {
        return Ok("/var/lib/cooper".into());
    }
    under("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("cooper"))
}

/// Returns the configuration file: `COOPER_CONFIG`, else the user's.
pub(crate) fn config() -> PathBuf {
    if let Some(path) = std::env::var_os("COOPER_CONFIG").filter(|path| !path.is_empty()) {
        return path.into();
    }
    under("XDG_CONFIG_HOME", ".config").unwrap_or_else(|_| "/etc".into()).join("cooper/config.toml")
}

fn under(variable: &str, fallback: &str) -> Result<PathBuf> {
    // The specification says that a relative path is to be ignored.
    if let Some(dir) = std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir);
    }
    match std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(fallback)),
        None => bail!("neither {variable} nor HOME says where the state is to be; give --root DIR"),
    }
}
