//! Steps on this machine, in four parts: prepare, start, wait, commit.

mod agent;
mod bundle;
mod etc;
mod launch;
mod memory;
mod prepare;
mod program;
mod provided;
mod runtime;
mod seccomp;
mod view;
mod wait;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cooper_layer::{TimeWindow, Timestamp};
use rustix::time::ClockId;

use crate::cancel::Cancel;
use crate::error::StepError;
use crate::execute::{Done, Executor, Exit, Io, Output, RunFuture, Usage};
use crate::namespace::{self, Mode};
use crate::provide::{NothingProvided, Provider};
use crate::step::Step;
use crate::workspaces::Workspaces;

use launch::{Around, End, launch};
use prepare::Prepared;
use runtime::{Found, Kind, errors_of_log};

/// How a [`LocalExecutor`] runs steps.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which runtime.
    pub runtime: Runtime,
    /// A directory of its own for bundles and the runtime's state; made with mode 0700.
    pub state: PathBuf,
    /// Steps may ask for [`Security::Insecure`](crate::Security::Insecure).
    pub allow_insecure: bool,
}

/// Which runtime runs containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Runtime {
    /// crun, else runc, looked for in `PATH` and the usual directories.
    #[default]
    Search,
    /// As [`Search`](Self::Search), and where neither is there, [`Own`](Self::Own) with this program.
    SearchElse(PathBuf),
    /// This project's launcher: a program that is one when its first argument is `oci-runtime`.
    Own(PathBuf),
    /// This program, which takes the command line of runc: a path, or a name that is looked for likewise.
    Program(PathBuf),
}

/// Runs steps on this machine, each in a container made by crun, runc or this project's launcher.
///
/// The caller is root, or has entered a user namespace by [`namespace::enter`]. Each step has a pid namespace that the
/// kernel clears when this process ends, however it ends.
#[derive(Clone)]
pub struct LocalExecutor {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Found,
    state: PathBuf,
    allow_insecure: bool,
    mode: Mode,
    workspaces: Arc<dyn Workspaces>,
    provider: Arc<dyn Provider>,
}

impl LocalExecutor {
    /// Finds the runtime and makes the state directory. There are no secrets, agents and caches.
    pub fn new(config: Config, workspaces: Arc<dyn Workspaces>) -> Result<Self, StepError> {
        Self::providing(config, workspaces, Arc::new(NothingProvided))
    }

    /// The same, with secrets, agents and caches from `provider`.
    pub fn providing(
        config: Config,
        workspaces: Arc<dyn Workspaces>,
        provider: Arc<dyn Provider>,
    ) -> Result<Self, StepError> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

        let runtime = Found::search(&config.runtime)?;
        let failed = || StepError::io(format!("make the state directory `{}`", config.state.display()));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state).map_err(failed())?;
        // It may have been there with other permissions.
        std::fs::set_permissions(&config.state, std::fs::Permissions::from_mode(0o700)).map_err(failed())?;
        let state = config.state.canonicalize().map_err(failed())?;
        let mode = namespace::mode().map_err(StepError::io("read the id maps"))?;
        let allow_insecure = config.allow_insecure;
        let inner = Inner { runtime, state, allow_insecure, mode, workspaces, provider };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the name and version of the runtime, as `crun 1.8.1`.
    pub fn runtime(&self) -> &str {
        &self.inner.runtime.label
    }
}

impl std::fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalExecutor").field("runtime", &self.inner.runtime.label).finish_non_exhaustive()
    }
}

impl Executor for LocalExecutor {
    fn run<'a>(&'a self, step: &'a Step, io: Io, cancel: &'a Cancel) -> RunFuture<'a> {
        let inner = Arc::clone(&self.inner);
        let step = step.clone();
        // Dropping the future cancels too, so that no thread goes on alone.
        let dropped = CancelOnDrop(cancel.child());
        Box::pin(async move {
            let cancel = dropped.0.clone();
            let run = tokio::task::spawn_blocking(move || inner.run(&step, io, &cancel));
            let result = run.await;
            drop(dropped);
            match result {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(StepError::Cancelled),
                },
            }
        })
    }
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Inner {
    fn run(&self, step: &Step, mut io: Io, cancel: &Cancel) -> Result<Done, StepError> {
        if cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let started = Instant::now();
        let prepared = Prepared::new(self, step, io.name.as_deref(), cancel)?;
        let (end, times) = self.start_and_wait(&prepared, &mut io, cancel)?;
        let exit = self.exit(&prepared, end, cancel)?;
        let success = exit == 0 && step.process.valid_exit_codes.is_empty()
            || step.process.valid_exit_codes.contains(&exit);
        let exit = Exit { code: exit, success };
        let usage = Usage { wall: started.elapsed(), user: times.user, system: times.system };
        let served_by = self.runtime.label.clone();
        let start = prepared.start;
        let workspaces = prepared.finish();
        let window = TimeWindow { start, end: now(ClockId::Realtime) };
        let mut outputs = Vec::new();
        if success {
            for (mount, workspace) in workspaces {
                let dest = step.mounts.get(mount).map(|mount| mount.dest.as_str()).unwrap_or_default();
                let failed = |source| StepError::Workspace {
                    what: format!("keep what was written to `{dest}`"),
                    source,
                };
                outputs.push(Output { mount, layer: workspace.commit(window).map_err(failed)? });
            }
        }
        Ok(Done { exit, outputs, usage, window, served_by })
    }

    fn start_and_wait(
        &self,
        prepared: &Prepared,
        io: &mut Io,
        cancel: &Cancel,
    ) -> Result<(End, launch::Times), StepError> {
        let dir = prepared.dir.path();
        let mut command = self.runtime.command(dir);
        command.arg("run").arg("--bundle").arg(dir).arg(&prepared.id);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut launched = launch(command, self.around(prepared, io.held.as_ref()))?;
        let result = wait::stream(&mut launched, io, cancel);
        if result.is_err() {
            launched.kill();
        }
        let ended = launched.wait().map_err(StepError::io("wait for the runtime"));
        result.map_err(StepError::io("read the output of the step"))?;
        ended
    }

    fn around(&self, prepared: &Prepared, held: Option<&OwnedFd>) -> Around {
        // Those that make no control groups of their own.
        let groupless = self.runtime.kind != Kind::Runc;
        let sandbox = prepared.sandbox;
        Around {
            // Other runtimes make groups themselves, which have such a filter. In a user namespace no node is of use.
            devices: (sandbox && groupless && self.mode == Mode::Root).then(|| prepared.group.clone()),
            still_sys: sandbox && self.mode != Mode::Root,
            empty_cgroups: self.runtime.kind == Kind::Crun,
            held: held.into_iter().chain(&prepared.held).map(OwnedFd::as_raw_fd).collect(),
        }
    }

    /// Tells the end of the step's process from failures of everything around it.
    fn exit(&self, prepared: &Prepared, end: End, cancel: &Cancel) -> Result<i32, StepError> {
        match end {
            // An end that came before the cancellation counts.
            End::Exited(code) => {
                let log = std::fs::read(prepared.dir.path().join("log")).unwrap_or_default();
                let errors = errors_of_log(&String::from_utf8_lossy(&log));
                // A runtime that fails gives an exit code like any failing step; only its log tells them apart.
                if code == 0 || errors.is_empty() {
                    return Ok(code);
                }
                self.clean_up(prepared);
                Err(StepError::Runtime { runtime: self.runtime.label.clone(), message: errors.join("; ") })
            }
            End::Killed => {
                self.clean_up(prepared);
                if cancel.is_cancelled() {
                    Err(StepError::Cancelled)
                } else {
                    Err(StepError::Runtime {
                        runtime: self.runtime.label.clone(),
                        message: "it was killed (out of memory?)".to_owned(),
                    })
                }
            }
        }
    }

    /// Takes away what a killed runtime leaves outside of the step's directory: its control groups.
    fn clean_up(&self, prepared: &Prepared) {
        if self.runtime.kind != Kind::Runc {
            return;
        }
        let mut command = self.runtime.command(prepared.dir.path());
        command.args(["delete", "--force"]).arg(&prepared.id);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        // What is left then are empty groups; the step's own outcome is more important.
        if let Ok(launched) = launch(command, Around::default()) {
            let _ = launched.wait();
        }
    }
}

/// Reads a clock.
fn now(clock: ClockId) -> Timestamp {
    let time = rustix::time::clock_gettime(clock);
    Timestamp::new(time.tv_sec, time.tv_nsec as u32)
}
