//! Runs one OCI bundle, by the command line of runc.
//!
//! What it holds: a container runtime in two halves. The pure one reads a command line and a `config.json` and decides
//! everything (which namespaces, which mounts with which bits, which capabilities, the seccomp filter as a program for the
//! kernel). The other half does it with system calls, in an order in which nothing of the image is ever looked up by the
//! machine's rules. What a configuration asks for and is not done is refused by name.
//!
//! What it leaves to others: what is run and why, the root's layers, a supervisor that outlives nobody (the executor has
//! one around every runtime), networks, hooks. It needs Linux 5.12.
//!
//! ```
//! // A program calls this first, before it starts any thread, with what follows its name or its subcommand.
//! let code = cooper_launcher::main(["--version".into()]);
//! assert_eq!(code, 0);
//! let code = cooper_launcher::main(["run".into()]);
//! assert_eq!(code, 1, "a name is missing");
//! ```
//!
//! ```text
//! cooper oci-runtime run ── protect: itself again, from a read-only mount of its file
//!                        └─ plan: config.json -> everything decided
//!                        └─ run: copy into the namespaces ─┬─ waits, passes signals on, exits as the container does
//!                                                          └─ init: mounts, pivot, user, filter, exec
//! ```

mod command;
mod config;
mod error;
mod init;
mod log;
mod maps;
mod plan;
mod protect;
mod run;
mod seccomp;
mod state;
mod sys;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use command::{Command, Create, HELP, Line};
pub use error::Error;
use state::{Folder, Status};

/// What went wrong is told by this exit code, as by runc; the message tells it from a container that exits with it.
const FAILED: i32 = 1;

/// Runs one command and returns the exit code: the container's for `run`, else 0 or 1.
///
/// Must be called before any thread exists, and only by a program that passes its arguments on to it when it is executed
/// again: before a container is made, the process replaces itself with the same program from a file that cannot be
/// written to.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let line = match command::parse(args) {
        Ok(line) => line,
        Err(error) => {
            log::Log::default().error(&error);
            return FAILED;
        }
    };
    let log = log::Log { file: line.log.clone(), json: line.json };
    match dispatch(line) {
        Ok(code) => code,
        Err(error) => {
            log.error(&error);
            FAILED
        }
    }
}

fn dispatch(line: Line) -> Result<i32, Error> {
    let root = line.root.unwrap_or_else(default_root);
    match line.command {
        Command::Version => {
            print(&format!("cooper-launcher version {}\nspec: 1.0.2\n", env!("CARGO_PKG_VERSION")))
        }
        Command::Help => print(HELP),
        Command::Create(create) => make(&root, &create),
        Command::Start(id) => {
            Folder::of(&root, &id).start()?;
            Ok(0)
        }
        Command::State(id) => {
            let folder = Folder::of(&root, &id);
            print(&folder.text(&folder.load()?))
        }
        Command::Kill { id, signal, all } => run::kill(&Folder::of(&root, &id), signal, all).map(|()| 0),
        Command::Delete { id, force } => delete(&Folder::of(&root, &id), force).map(|()| 0),
    }
}

fn make(root: &std::path::Path, create: &Create) -> Result<i32, Error> {
    protect::run_from_a_copy()?;
    run::create(root, create)
}

fn delete(folder: &Folder, force: bool) -> Result<(), Error> {
    if force && !folder.exists() {
        return Ok(());
    }
    match folder.load() {
        Ok(saved) if folder.status(&saved) != Status::Stopped => {
            if !force {
                return Err(folder.problem("has not stopped; --force kills it"));
            }
            run::kill_and_wait(&saved)?;
        }
        // Somebody died while making it.
        Err(_) if force => {}
        other => drop(other?),
    }
    folder.remove()
}

/// Where states are if nobody says.
fn default_root() -> PathBuf {
    if rustix::process::geteuid().is_root() && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        return "/run/cooper-launcher".into();
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    dir.join("cooper-launcher")
}

fn print(text: &str) -> Result<i32, Error> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::io("write to standard output"))?;
    Ok(0)
}
