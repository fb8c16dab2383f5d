//! `--secret`, `--ssh` and `--allow`, in the words of docker buildx.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use cooper_engine::{AgentFrom, Entitlement, Given, SecretFrom};

use crate::args::Build;
use crate::report::Usage;

/// Collects what the flags give.
pub(crate) fn of(args: &Build) -> Result<Given> {
    let usage = |flag: &str, text: &str, error: anyhow::Error| Usage(format!("{flag} `{text}`: {error}"));
    let mut given = Given::default();
    for text in &args.secrets {
        let (id, from) = secret(text).map_err(|error| usage("--secret", text, error))?;
        given.secrets.insert(id, from);
    }
    for text in &args.ssh {
        let (id, from) = agent(text).map_err(|error| usage("--ssh", text, error))?;
        given.agents.insert(id, from);
    }
    for name in &args.allow {
        let one = Entitlement::named(name).ok_or_else(|| {
            usage("--allow", name, anyhow!("there is `network.host` and `security.insecure`"))
        })?;
        given.allowed.insert(one);
    }
    Ok(given)
}

/// Reads `id=ID[,src=FILE|,env=VARIABLE][,type=file|env]`.
fn secret(text: &str) -> Result<(String, SecretFrom)> {
    let mut words = BTreeMap::new();
    for word in text.split(',') {
        let (key, value) = word.split_once('=').ok_or_else(|| anyhow!("`{word}` is not KEY=VALUE"))?;
        let key = match key.to_lowercase().as_str() {
            "id" => "id",
            "src" | "source" => "src",
            "env" => "env",
            "type" if matches!(value, "file" | "env") => "type",
            "type" => return Err(anyhow!("there is no type `{value}` (file, env)")),
            other => return Err(anyhow!("there is no key `{other}` (id, src, env, type)")),
        };
        words.insert(key, value);
    }
    let id = words.get("id").filter(|id| !id.is_empty()).ok_or_else(|| anyhow!("it has no id"))?.to_string();
    let (src, env) = (words.get("src").copied(), words.get("env").copied());
    let env = match (env, words.get("type")) {
        (None, Some(&"env")) => Some(src.unwrap_or(&id)),
        // As docker does: with an id alone, a variable of this name comes before a file.
        (None, None) if src.is_none() && std::env::var_os(&id).is_some() => Some(&*id),
        (env, _) => env,
    };
    if let Some(variable) = env {
        let from = SecretFrom::Variable(variable.to_owned());
        return Ok((id, from));
    }
    let path = std::path::absolute(src.unwrap_or(&id))?;
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => Err(anyhow!("`{}` is a folder", path.display())),
        Ok(_) => Ok((id, SecretFrom::File(path))),
        Err(error) => Err(anyhow!("`{}`: {error}", path.display())),
    }
}

/// Reads `ID[=SOCKET|KEYFILE[,KEYFILE...]]`.
fn agent(text: &str) -> Result<(String, AgentFrom)> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    if id.is_empty() {
        return Err(anyhow!("it has no name; the usual one is `default`"));
    }
    let mut paths: Vec<PathBuf> =
        paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if paths.is_empty() {
        let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
        paths.push(socket.ok_or_else(|| anyhow!("SSH_AUTH_SOCK is not set, so there is no agent"))?.into());
    }
    let sockets = paths.iter().map(|path| is_socket(path)).collect::<Result<Vec<bool>>>()?;
    Ok((
        id.to_owned(),
        match (sockets.as_slice(), paths.as_slice()) {
            ([true], [socket]) => AgentFrom::Socket(std::path::absolute(socket)?),
            (sockets, _) if sockets.contains(&true) => {
                return Err(anyhow!("it is one socket, or files of keys"));
            }
            _ => AgentFrom::Keys(paths.iter().map(std::path::absolute).collect::<std::io::Result<_>>()?),
        },
    ))
}

fn is_socket(path: &Path) -> Result<bool> {
    let meta = std::fs::metadata(path).map_err(|error| anyhow!("`{}`: {error}", path.display()))?;
    Ok(meta.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let file = file.to_str().unwrap();
        let from = |text: &str| secret(text).ok();
        let variable = |name: &str| SecretFrom::Variable(name.to_owned());
        assert_eq!(from(&format!("id=a,src={file}")), Some(("a".into(), SecretFrom::File(file.into()))));
        assert_eq!(from(&format!("id=a,type=file,source={file}")).unwrap().1, SecretFrom::File(file.into()));
        assert_eq!(from("id=a,env=B").unwrap().1, variable("B"));
        assert_eq!(from("id=a,type=env,src=B").unwrap().1, variable("B"));
        assert_eq!(from("id=PATH").unwrap().1, variable("PATH"));
        for bad in ["src=a", "id=", "id=a,src=/nonexistent", "id=a,nope=1", "id=a,type=x", "a", "id=a,src=/"]
        {
            assert_eq!(from(bad), None, "{bad}");
        }
    }

    #[test]
    fn agents() {
        let dir = tempfile::tempdir().unwrap();
        let (key, socket) = (dir.path().join("key"), dir.path().join("socket"));
        std::fs::write(&key, "x").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let from = |text: String| agent(&text).ok();
        let (k, s) = (key.display(), socket.display());
        assert_eq!(from(format!("a={s}")), Some(("a".into(), AgentFrom::Socket(socket.clone()))));
        let keys = from(format!("default={k},{k}")).unwrap().1;
        assert_eq!(keys, AgentFrom::Keys(vec![key.clone(), key.clone()]));
        for bad in [format!("a={s},{k}"), format!("a={s},{s}"), format!("={k}"), "a=/nonexistent".to_owned()]
        {
            assert_eq!(from(bad.clone()), None, "{bad}");
        }
    }
}
