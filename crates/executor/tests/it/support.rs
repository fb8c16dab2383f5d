//! Roots made of this machine's programs, and workspaces that are plain copies.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use cooper_executor::{
    Access, Cancel, Config, Done, Executor, Io, LocalExecutor, Runtime, Step, StepError, Stream, Workspace,
    WorkspaceError, Workspaces,
};
use cooper_layer::{LayerId, TimeWindow};
use cooper_oci::Digest;
use tempfile::TempDir;

/// The programs of the test root.
const PROGRAMS: [&str; 24] = [
    "sh", "ls", "cat", "id", "sleep", "touch", "mkdir", "readlink", "stat", "hostname", "mount", "rm", "ln",
    "grep", "setarch", "true", "env", "chown", "setsid", "umount", "unshare", "mknod", "head", "chmod",
];

/// Notes why a test did not run; with CI=true that is a failure.
pub(crate) fn skip(test: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run: {why}");
    let _ = writeln!(std::io::stderr(), "skipped {test}: {why}");
}

/// Returns the runtimes of this machine, or notes that `test` is skipped.
pub(crate) fn runtimes(test: &str) -> Vec<&'static str> {
    if !rustix::process::geteuid().is_root() {
        skip(test, "it needs root");
        return vec![];
    }
    let found: Vec<_> = ["crun", "runc", "cooper"]
        .into_iter()
        .filter(|name| {
            if *name == "cooper" {
                return true;
            }
            let there = Command::new(name).arg("--version").output().is_ok();
            if !there {
                skip(test, &format!("`{name}` is not installed"));
            }
            there
        })
        .collect();
    found
}

/// What the executor is told for one of those names.
pub(crate) fn runtime_of(name: &str) -> Runtime {
    if name == "cooper" { Runtime::Own(example()) } else { Runtime::Program(name.into()) }
}

/// A root with a shell and some programs, made once; tests take copies.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let dir = TEMPLATE.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("cooper-root-").tempdir_in("/var/tmp").unwrap();
        let root = dir.path().join("root");
        for name in PROGRAMS {
            let output = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
            let path = String::from_utf8(output.stdout).unwrap();
            let path =
                if path.trim().starts_with('/') { path.trim().to_owned() } else { format!("/bin/{name}") };
            let ldd = Command::new("ldd").arg(&path).output().unwrap();
            let ldd = String::from_utf8(ldd.stdout).unwrap();
            for file in ldd.split_whitespace().filter(|word| word.starts_with('/')) {
                copy(Path::new(file), &root.join(file.trim_start_matches('/')));
            }
            copy(Path::new(&path), &root.join("bin").join(name));
        }
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
            .unwrap();
        std::fs::write(root.join("etc/group"), "root:x:0:\napp:x:1001:\nextra:x:1002:app\n").unwrap();
        for path in [dir.path(), &root] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    });
    // The static is never dropped, so each run would leave one; the directory is small and removed by the last test run.
    Box::leak(dir.path().join("root").into_boxed_path())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    if !to.exists() {
        std::fs::copy(from, to).unwrap();
    }
}

/// Makes a fresh copy of the root at `to`.
pub(crate) fn root_at(to: &Path) {
    let status = Command::new("cp").arg("-a").arg(template()).arg(to).status().unwrap();
    assert!(status.success());
}

/// Directories for layers: each opening for writing is a copy, and what is committed is a layer.
#[derive(Clone, Default)]
pub(crate) struct Copies(Arc<Mutex<HashMap<LayerId, PathBuf>>>);

struct Copied {
    dir: TempDir,
    root: PathBuf,
    layers: Copies,
}

impl Copies {
    /// Adds a directory as a layer.
    pub(crate) fn add(&self, name: &str, path: &Path) -> LayerId {
        let id = LayerId::from(Digest::of(name));
        self.0.lock().unwrap().insert(id, path.to_owned());
        id
    }

    /// Returns the directory of a layer.
    pub(crate) fn path(&self, id: LayerId) -> PathBuf {
        self.0.lock().unwrap()[&id].clone()
    }
}

impl Workspaces for Copies {
    fn open(&self, layers: &[LayerId], _: Access) -> Result<Box<dyn Workspace>, WorkspaceError> {
        let dir = tempfile::Builder::new().prefix("cooper-ws-").tempdir_in("/var/tmp")?;
        let root = dir.path().join("root");
        match layers {
            [] => std::fs::create_dir(&root)?,
            [layer] => {
                let status = Command::new("cp").arg("-a").arg(self.path(*layer)).arg(&root).status()?;
                assert!(status.success());
            }
            _ => return Err("one layer is enough for a test".into()),
        }
        Ok(Box::new(Copied { dir, root, layers: self.clone() }))
    }
}

impl Workspace for Copied {
    fn root(&self) -> &Path {
        &self.root
    }

    fn commit(self: Box<Self>, _: TimeWindow) -> Result<LayerId, WorkspaceError> {
        let Self { dir, layers, .. } = *self;
        let path = dir.keep();
        Ok(layers.add(&path.to_string_lossy(), &path.join("root")))
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1 {
            for path in self.0.lock().unwrap().values() {
                let parent = path.parent().unwrap();
                if parent.to_string_lossy().contains("cooper-ws-") {
                    let _ = std::fs::remove_dir_all(parent);
                }
            }
        }
    }
}

/// An executor with a root to run in.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) layers: Copies,
    pub(crate) root: LayerId,
    pub(crate) executor: LocalExecutor,
}

/// What a step wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) result: Result<Done, StepError>,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> (String, Done) {
        match self.result {
            Ok(done) if done.exit.success => (self.stdout, done),
            other => panic!("{other:?}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn error(self) -> StepError {
        match self.result {
            Err(error) => error,
            Ok(done) => panic!("{done:?}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr),
        }
    }
}

impl Bench {
    pub(crate) fn new(runtime: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("cooper-bench-").tempdir_in("/var/tmp").unwrap();
        let layers = Copies::default();
        let root = dir.path().join("root");
        root_at(&root);
        let root = layers.add("root", &root);
        let config =
            Config { runtime: runtime_of(runtime), state: dir.path().join("state"), allow_insecure: false };
        let executor = LocalExecutor::new(config, Arc::new(layers.clone())).unwrap();
        Self { dir, layers, root, executor }
    }

    /// The directory that the root is copied from.
    pub(crate) fn root_dir(&self) -> PathBuf {
        self.layers.path(self.root)
    }

    /// A step that runs a line of shell.
    pub(crate) fn sh(&self, line: &str) -> Step {
        self.step(&["/bin/sh", "-c", line])
    }

    pub(crate) fn step(&self, args: &[&str]) -> Step {
        let mut step = Step::new(args.iter().map(|arg| (*arg).to_owned()).collect(), vec![self.root]);
        step.process.env = vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        step
    }

    pub(crate) fn run(&self, step: &Step) -> Ran {
        self.run_with(step, &Cancel::new())
    }

    pub(crate) fn run_with(&self, step: &Step, cancel: &Cancel) -> Ran {
        let output = Arc::new(Mutex::new((Vec::new(), Vec::new())));
        let sink = Arc::clone(&output);
        let io = Io::new(move |stream, bytes| {
            let mut output = sink.lock().unwrap();
            match stream {
                Stream::Stdout => output.0.extend_from_slice(bytes),
                Stream::Stderr => output.1.extend_from_slice(bytes),
            }
        });
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = tokio.block_on(self.executor.run(step, io, cancel));
        let output = output.lock().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { stdout: text(&output.0), stderr: text(&output.1), result }
    }

    /// Runs a line of shell and returns what it wrote and the committed root.
    #[track_caller]
    pub(crate) fn ok(&self, step: &Step) -> (String, PathBuf) {
        let (stdout, done) = self.run(step).ok();
        let layer = done.outputs.iter().find(|output| output.mount == 0).unwrap().layer;
        (stdout, self.layers.path(layer))
    }
}

/// Lists everything below a directory, sorted.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let output =
        Command::new("find").arg(root).args(["-mindepth", "1", "-printf", "%P\\n"]).output().unwrap();
    let mut lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Returns the built example `run_in_root`: a builder that can be killed, or run as somebody else.
pub(crate) fn example() -> PathBuf {
    // target/debug/deps/it-… -> target/debug/examples/run_in_root
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("examples/run_in_root");
    assert!(path.exists(), "`{}` is not built: run all tests, or `cargo build --examples`", path.display());
    path
}

/// Waits until something is so, though not without end.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "waited too long for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
