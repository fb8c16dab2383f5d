//! Which runtime, and how it is called.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Runtime;
use crate::error::StepError;
use crate::search;

/// A runtime that was found on this machine.
#[derive(Debug, Clone)]
pub(super) struct Found {
    path: PathBuf,
    /// What stands before the command line of runc: the subcommand, if the program is more than a runtime.
    first: Option<&'static str>,
    /// For a person: `crun 1.8.1`.
    pub(super) label: String,
    pub(super) kind: Kind,
}

/// Whose command line and habits it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Crun,
    Runc,
    /// The launcher of this project, which makes no control groups unless it is told of limits.
    Own,
}

/// The subcommand by which a program of this project is a runtime.
const OWN: &str = "oci-runtime";

impl Found {
    pub(super) fn search(runtime: &Runtime) -> Result<Self, StepError> {
        let installed = || search::program("crun").or_else(|| search::program("runc"));
        let (path, looked_for) = match runtime {
            Runtime::Own(program) => return Self::own(program),
            Runtime::SearchElse(program) => match installed() {
                None => return Self::own(program),
                found => (found, String::new()),
            },
            Runtime::Search => (installed(), "crun, runc".to_owned()),
            Runtime::Program(path) => {
                let found = if path.components().count() > 1 {
                    search::is_executable(path).then(|| path.clone())
                } else {
                    path.to_str().and_then(search::program)
                };
                (found, path.display().to_string())
            }
        };
        let path = path.ok_or(StepError::NoRuntime { looked_for })?;
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        Self::asked(path, None)
    }

    fn own(program: &Path) -> Result<Self, StepError> {
        Self::asked(program.to_owned(), Some(OWN))
    }

    /// Asks a program what it is.
    fn asked(path: PathBuf, first: Option<&'static str>) -> Result<Self, StepError> {
        let output = Command::new(&path)
            .args(first)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(StepError::io(format!("run `{} --version`", path.display())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default();
        let label = line.replace(" version ", " ");
        if !output.status.success() || label.is_empty() {
            return Err(StepError::Unsupported {
                what: format!("`{}` as a runtime", path.display()),
                remedy: "it must be crun, runc or a program with their command line".to_owned(),
            });
        }
        let kind = match first {
            Some(_) => Kind::Own,
            None if label.starts_with("crun") => Kind::Crun,
            None => Kind::Runc,
        };
        Ok(Self { path, first, label, kind })
    }

    /// Prepares a call. `dir` is the step's own directory; the runtime's state goes into it, and it learns nothing of the
    /// builder's environment.
    pub(super) fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XDG_RUNTIME_DIR", dir)
            .current_dir(dir)
            .args(self.first)
            .arg("--root")
            .arg(dir.join("state"))
            .arg("--log")
            .arg(dir.join("log"))
            .args(["--log-format", "json"]);
        if self.kind == Kind::Crun {
            // Steps have no limits of their own, so there is nothing to make groups for.
            command.arg("--cgroup-manager=disabled");
        }
        command
    }
}

/// Finds the errors in a log that a runtime wrote: one JSON object a line.
pub(super) fn errors_of_log(log: &str) -> Vec<String> {
    let mut errors: Vec<String> = Vec::new();
    for line in log.lines() {
        let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
        if let (Some("error" | "fatal" | "panic"), Some(message)) = (text("level"), text("msg"))
            && !errors.iter().any(|error| error == message)
        {
            errors.push(message.to_owned());
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs() {
        let log = "{\"msg\":\"careful\",\"level\":\"warning\"}\nnoise\n{\"level\":\"error\",\"msg\":\"no\",\"time\":\"t\"}\n\
                   {\"level\":\"error\",\"msg\":\"no\"}\n";
        assert_eq!(errors_of_log(log), ["no"]);
        assert!(errors_of_log("").is_empty());
    }

    #[test]
    fn a_runtime_that_is_none() {
        let missing = Found::search(&Runtime::Program("no-such-runtime".into())).unwrap_err();
        assert!(missing.to_string().contains("no-such-runtime"), "{missing}");
        assert!(matches!(
            Found::search(&Runtime::Program("/bin/false".into())),
            Err(StepError::Unsupported { .. })
        ));
    }
}
