//! What is known of a container between two calls: a folder with its name, and in that
//!
//! ```text
//! state.json   which process it is, since when, and from which bundle
//! start        a pipe that has a reader as long as the container waits for being started
//! ```

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Tried as _};

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) pid: i32,
    /// When the process started, in the kernel's ticks: numbers of processes are used again.
    pub(crate) started: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) annotations: Value,
}

/// The folder of one container.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    id: String,
    path: PathBuf,
}

/// How a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Stopped,
}

impl Folder {
    pub(crate) fn of(root: &Path, id: &str) -> Self {
        Self { id: id.to_owned(), path: root.join(id) }
    }

    /// Makes the folder; a container of that name must not be there.
    pub(crate) fn make(&self) -> Result<(), Error> {
        let failed = || Error::io(format!("make `{}`", self.path.display()));
        if let Some(parent) = self.path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed())?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(self.problem("exists already"))
            }
            made => made.map_err(failed()),
        }
    }

    pub(crate) fn save(&self, saved: &Saved) -> Result<(), Error> {
        let failed = || Error::io(format!("write the state of `{}`", self.id));
        let text = serde_json::to_vec(saved).map_err(std::io::Error::from).map_err(failed())?;
        let (new, path) = (self.path.join("state.json.new"), self.path.join("state.json"));
        let mut file = File::create(&new).map_err(failed())?;
        file.write_all(&text).map_err(failed())?;
        std::fs::rename(&new, &path).map_err(failed())
    }

    pub(crate) fn load(&self) -> Result<Saved, Error> {
        let text = match std::fs::read(self.path.join("state.json")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(self.problem("does not exist"));
            }
            read => read.map_err(Error::io(format!("read the state of `{}`", self.id)))?,
        };
        serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .map_err(Error::io(format!("read the state of `{}`", self.id)))
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Makes the pipe on which a created container waits, and opens it: for both sides, so that this does not wait.
    pub(crate) fn make_pipe(&self) -> Result<File, Error> {
        let path = self.path.join("start");
        let failed = || "make the pipe on which the container waits";
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).tried(failed)?;
        File::options().read(true).write(true).open(path).tried(failed)
    }

    /// Lets a created container go on.
    pub(crate) fn start(&self) -> Result<(), Error> {
        let path = self.path.join("start");
        // Without a reader this fails instead of waiting for one.
        let pipe = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let mut pipe = pipe.map_err(|_| self.problem("does not wait for being started"))?;
        // First: whoever sees the container run must not see it wait.
        std::fs::remove_file(&path).map_err(Error::io("remove the pipe on which the container waits"))?;
        pipe.write_all(&[0]).map_err(Error::io("let the container go on"))
    }

    pub(crate) fn status(&self, saved: &Saved) -> Status {
        if started(saved.pid) != Some(saved.started) {
            Status::Stopped
        } else if self.path.join("start").exists() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// The text that `state` prints.
    pub(crate) fn text(&self, saved: &Saved) -> String {
        let status = self.status(saved);
        let word = match status {
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
        };
        let text = json!({
            "ociVersion": "1.0.2",
            "id": self.id,
            "status": word,
            "pid": if status == Status::Stopped { 0 } else { saved.pid },
            "bundle": saved.bundle,
            "annotations": saved.annotations,
        });
        format!("{text:#}\n")
    }

    pub(crate) fn remove(&self) -> Result<(), Error> {
        std::fs::remove_dir_all(&self.path).map_err(Error::io(format!("remove `{}`", self.path.display())))
    }

    pub(crate) fn problem(&self, problem: &str) -> Error {
        Error::State { id: self.id.clone(), problem: problem.to_owned() }
    }
}

/// When a process started, in ticks since the machine did; `None` if it has ended.
pub(crate) fn started(pid: i32) -> Option<u64> {
    started_of(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn started_of(stat: &[u8]) -> Option<u64> {
    // The name may have anything in it; it ends with the last parenthesis.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = fields.split_whitespace();
    // A process that was not waited for yet has ended, too.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_process_started() {
        let line = |state: &str| {
            format!(
                "7 (a ) (b) {state} 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 99 1 18446744073709551615 0"
            )
        };
        assert_eq!(started_of(line("S").as_bytes()), Some(4711));
        assert_eq!(started_of(line("Z").as_bytes()), None);
        assert_eq!(started_of(b"nonsense"), None);
        assert!(started(std::process::id() as i32).is_some());
    }

    #[test]
    fn a_container_waits_until_it_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(dir.path(), "x");
        assert!(folder.load().unwrap_err().to_string().contains("does not exist"));
        folder.make().unwrap();
        assert!(folder.make().unwrap_err().to_string().contains("exists already"));
        let pid = std::process::id() as i32;
        let saved =
            Saved { pid, started: started(pid).unwrap(), bundle: "/b".into(), annotations: json!({}) };
        folder.save(&saved).unwrap();
        assert_eq!(folder.load().unwrap(), saved);
        assert_eq!(folder.status(&saved), Status::Running);
        assert!(folder.start().is_err());
        let mut pipe = folder.make_pipe().unwrap();
        assert_eq!(folder.status(&saved), Status::Created);
        folder.start().unwrap();
        let mut byte = [1];
        std::io::Read::read_exact(&mut pipe, &mut byte).unwrap();
        assert_eq!((byte, folder.status(&saved)), ([0], Status::Running));
        let another = Saved { started: 1, ..saved };
        assert_eq!(folder.status(&another), Status::Stopped);
        assert!(folder.text(&another).contains("\"status\": \"stopped\""));
        folder.remove().unwrap();
        assert!(!folder.exists());
    }
}
