//! Runs the built `cooper` in an environment of its own.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// Who runs the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The caller, who must be root.
    Root,
    /// An ordinary user without subordinate ids: one id is mapped, owners are recorded.
    SingleId,
    /// An ordinary user with subordinate ids, as distributions set them up.
    Subordinate,
}

/// The uid of the ordinary user: Debian's `nobody`, who is on every machine.
pub const NOBODY: u32 = 65534;

/// A store, a home and a scratch folder that no other test sees.
#[derive(Debug)]
pub struct Env {
    dir: TempDir,
    user: User,
}

/// What a finished `cooper` left.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Fails the test, with everything that was printed, unless the exit code is 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "cooper failed\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Returns the path of the built binary.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("COOPER_BIN") {
        return path.into();
    }
    // target/debug/deps/it-… -> target/debug/cooper
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("cooper");
    assert!(path.exists(), "`{}` is not built: run `cargo xtask test`", path.display());
    path
}

/// Returns the OCI layout of the base image, or notes that `test` is skipped.
pub fn base(test: &str) -> Option<PathBuf> {
    let Some(path) = std::env::var_os("COOPER_TEST_BASE").map(PathBuf::from) else {
        crate::skip(test, "COOPER_TEST_BASE is not set (run `cargo xtask test`)");
        return None;
    };
    Some(shared(&path))
}

/// Returns a copy of a file or folder that every user can read: the caller's home, where the original may be, is often
/// closed to others. Made once for all tests of a process, and found again by later processes.
fn shared(path: &Path) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let meta = std::fs::metadata(path).unwrap();
    // What it was, so that a newer one is another copy.
    let name = format!("{}-{}-{}", path.file_name().unwrap().to_string_lossy(), meta.ino(), meta.mtime());
    let folder = PathBuf::from("/var/tmp/cooper-it-shared");
    let target = folder.join(name);
    if !target.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let beside = folder.join(format!(".{}", std::process::id()));
        let status = Command::new("cp").args(["-r"]).arg(path).arg(&beside).status().unwrap();
        assert!(status.success());
        let status = Command::new("chmod").args(["-R", "a+rX"]).arg(&beside).status().unwrap();
        assert!(status.success());
        std::fs::rename(&beside, &target).unwrap();
    }
    target
}

impl Env {
    /// Makes a fresh environment for `user`.
    pub fn new(user: User) -> Self {
        let dir = tempfile::Builder::new().prefix("cooper-it-").tempdir_in("/var/tmp").unwrap();
        let env = Self { dir, user };
        for name in ["home", "store", "run", "ctx"] {
            let path = env.path(name);
            std::fs::create_dir(&path).unwrap();
            if user != User::Root {
                std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(env.dir.path(), open).unwrap();
        if user != User::Root {
            std::os::unix::fs::chown(env.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        env
    }

    /// Returns a path in the environment.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the context `ctx`, with its parents.
    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path("ctx").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Prepares `cooper WORDS` without starting it.
    pub fn command(&self, words: &[&str]) -> Command {
        let cooper = if self.user == User::Root { binary() } else { shared(&binary()) };
        // A shell starts what runs in its background with SIGINT ignored, and so might these tests have been started.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,TERM,HUP");
        match self.user {
            User::Root => drop(command.arg(&cooper)),
            User::SingleId => {
                let id = NOBODY.to_string();
                command.arg("setpriv").args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(&cooper);
            }
            User::Subordinate => {
                // Subordinate ids of `nobody` in a mount namespace of their own: the machine's files stay as they are.
                let ids = self.path("subids");
                std::fs::write(&ids, "nobody:200000:65536\n").unwrap();
                let script = "set -e; for f in subuid subgid; do touch /etc/$f 2>/dev/null || :; mount --bind \"$1\" /etc/$f; done; \
                     shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
                command.args(["unshare", "--mount", "sh", "-c", script, "sh"]).arg(&ids).arg(&cooper);
            }
        }
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("COOPER_ROOT", self.path("store"))
            .current_dir(self.path("ctx"));
        command
    }

    /// Runs `cooper WORDS` to its end.
    pub fn cooper(&self, words: &[&str]) -> Finished {
        self.command(words).output().unwrap().into()
    }

    /// Builds the context `ctx` into the OCI archive `out.tar`, with python:3.9-slim taken from the layout `base`.
    pub fn build(&self, base: &Path, words: &[&str]) -> Finished {
        let base = format!("python:3.9-slim=oci-layout://{}", base.display());
        let out = format!("type=oci,dest={}", self.path("out.tar").display());
        let mut all = vec!["build", ".", "--progress", "plain", "--build-context", &base, "-o", &out];
        all.extend(words);
        self.cooper(&all)
    }
}
