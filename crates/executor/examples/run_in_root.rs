//! Runs a command in a root directory, through crun, runc or the project's own launcher; as an ordinary user in namespaces of its own.
//!
//! ```text
//! run_in_root [--runtime crun|runc|cooper|PATH] [--user USER] [--cwd DIR] [--network none] ROOT COMMAND [ARGUMENT...]
//! run_in_root
//! ```
//!
//! Without arguments it runs `echo` and `id` in a root made of this machine's shell.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use cooper_executor::namespace;
use cooper_executor::{
    Access, Cancel, Config, Executor, Io, LocalExecutor, Network, Runtime, Step, Stream, Workspace,
    WorkspaceError, Workspaces,
};
use cooper_layer::{LayerId, TimeWindow};

/// Shows one directory, whatever layers are asked for; it is written to in place.
struct InPlace(PathBuf);

impl Workspaces for InPlace {
    fn open(&self, _: &[LayerId], _: Access) -> Result<Box<dyn Workspace>, WorkspaceError> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl Workspace for InPlace {
    fn root(&self) -> &Path {
        &self.0
    }

    fn commit(self: Box<Self>, _: TimeWindow) -> Result<LayerId, WorkspaceError> {
        Err("this directory keeps what is written to it by itself".into())
    }
}

fn main() -> ExitCode {
    // The executor's own runtime is called so.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "oci-runtime") {
        return ExitCode::from(u8::try_from(cooper_launcher::main(args)).unwrap_or(1));
    }
    // Before anything else, as long as there is one thread.
    let result = namespace::enter().map_err(Into::into).and_then(run);
    result.unwrap_or_else(|error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        // The one place of this program that prints.
        let _ = writeln!(std::io::stderr(), "error: {text}");
        ExitCode::from(125)
    })
}

fn run(mode: namespace::Mode) -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let mut runtime = Runtime::SearchElse("/proc/self/exe".into());
    let mut step = Step::new(vec![], vec![]);
    step.process.env = vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    step.mounts.iter_mut().for_each(|mount| mount.output = false);
    while let Some(flag) = args.next_if(|arg| arg.starts_with("--")) {
        let value = args.next().ok_or_else(|| format!("`{flag}` needs a value"))?;
        match &*flag {
            "--runtime" if value == "cooper" => runtime = Runtime::Own("/proc/self/exe".into()),
            "--runtime" => runtime = Runtime::Program(value.into()),
            "--user" => step.process.user = value,
            "--cwd" => step.process.cwd = value,
            "--network" if value == "none" => step.network = Network::None,
            _ => return Err(format!("`{flag} {value}` is not known").into()),
        }
    }
    let dir = tempfile::tempdir()?;
    let root = match args.next() {
        Some(root) => {
            step.process.args = args.collect();
            PathBuf::from(root)
        }
        None => {
            let sample = format!("echo hello from a container, seen from {mode:?}; id");
            step.process.args = ["sh", "-c", &sample].map(str::to_owned).to_vec();
            sample_root(dir.path())?
        }
    };

    let config = Config { runtime, state: dir.path().join("state"), allow_insecure: false };
    let executor = LocalExecutor::new(config, Arc::new(InPlace(root.canonicalize()?)))?;
    let io = Io::new(|stream, bytes| {
        let _ = match stream {
            Stream::Stdout => std::io::stdout().write_all(bytes),
            Stream::Stderr => std::io::stderr().write_all(bytes),
        };
    });
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done = tokio.block_on(executor.run(&step, io, &Cancel::new()))?;
    Ok(ExitCode::from(u8::try_from(done.exit.code).unwrap_or(1)))
}

/// Makes a root of this machine's shell and what it is linked with.
fn sample_root(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let root = dir.join("root");
    for program in ["/bin/sh", "/usr/bin/id"] {
        let output = Command::new("ldd").arg(program).output()?;
        let text = String::from_utf8(output.stdout)?;
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain([program]) {
            let copy = root.join(file.trim_start_matches('/'));
            std::fs::create_dir_all(copy.parent().ok_or("a file without a directory")?)?;
            std::fs::copy(file, copy)?;
        }
    }
    Ok(root)
}
