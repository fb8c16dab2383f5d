//! The builders that are timed: cooper, and those peers that are there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sh;

const BASE: &str = "python:3.9-slim";
const WARM: &str = "FROM python:3.9-slim\nRUN true\n";

/// A builder that can be timed.
pub(super) trait Builder {
    fn name(&self) -> &'static str;
    /// Prepares a state that has the base image only.
    fn reset(&self, dir: &Path) -> Result<()>;
    /// The command that builds the context into an OCI archive.
    fn command(&self, dir: &Path, context: &Path, archive: &Path) -> Command;
}

/// Returns cooper, and each peer that is there, in a state of its own below `dir`; says which are not.
pub(super) fn all(cooper: PathBuf, base: &Path, dir: &Path) -> Result<Vec<Box<dyn Builder>>> {
    let base = base.to_owned();
    let mut builders: Vec<Box<dyn Builder>> = vec![Box::new(Cooper { binary: cooper, base: base.clone() })];
    if sh::which("buildah").is_some() {
        // buildah makes an image name of the layout's path, which not every path is good for.
        std::os::unix::fs::symlink(&base, dir.join(Buildah::BASE))?;
        builders.push(Box::new(Buildah));
    } else {
        println!("buildah is not there (apt-get install buildah)");
    }
    match std::env::var_os("BUILDKIT_BIN") {
        Some(bin) => builders.push(Box::new(BuildKit::start(PathBuf::from(bin), base, dir)?)),
        None => println!("BuildKit is not there (BUILDKIT_BIN names a folder with buildkitd and buildctl)"),
    }
    Ok(builders)
}

/// Writes a context that needs the base and nothing else.
fn warm(dir: &Path) -> Result<PathBuf> {
    let context = dir.join("warm");
    std::fs::create_dir_all(&context)?;
    std::fs::write(context.join("Dockerfile"), WARM)?;
    Ok(context)
}

struct Cooper {
    binary: PathBuf,
    base: PathBuf,
}

impl Builder for Cooper {
    fn name(&self) -> &'static str {
        "cooper"
    }

    fn reset(&self, dir: &Path) -> Result<()> {
        let store = dir.join("cooper");
        if store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
        sh::output(&mut self.command(dir, &warm(dir)?, &dir.join("warm.tar"))).map(drop)
    }

    fn command(&self, dir: &Path, context: &Path, archive: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(dir.join("cooper")).args(["build", "--progress", "plain", "-o"]);
        command.arg(format!("type=oci,dest={}", archive.display()));
        command.arg("--build-context").arg(format!("{BASE}=oci-layout://{}", self.base.display()));
        command.arg(context);
        command
    }
}

struct Buildah;

impl Buildah {
    /// The base's layout, in the folder that the command runs in.
    const BASE: &str = "base";

    fn base_command(dir: &Path) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(dir.join("buildah")).arg("--runroot").arg(dir.join("buildah-run"));
        command.args(["--storage-driver", "overlay"]);
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn reset(&self, dir: &Path) -> Result<()> {
        sh::output(Self::base_command(dir).args(["rmi", "--all", "--force"]))?;
        let layout = format!("oci:{}:3.9-slim", Self::BASE);
        sh::output(Self::base_command(dir).current_dir(dir).arg("pull").arg(layout))?;
        let images = sh::output(Self::base_command(dir).args(["images", "--quiet"]))?;
        let id = images.lines().next().context("buildah pulled no image")?.to_owned();
        sh::output(Self::base_command(dir).args(["tag", &id, "docker.io/library/python:3.9-slim"])).map(drop)
    }

    fn command(&self, dir: &Path, context: &Path, archive: &Path) -> Command {
        let mut command = Self::base_command(dir);
        // Chroot isolation and the host's network: no cgroups are needed. `--jobs 0` is as many as there are stages.
        command.args(["bud", "--layers", "--jobs", "0", "--isolation", "chroot", "--network", "host"]);
        command.args(["--pull-never", "--tag"]);
        command.arg(format!("oci-archive:{}", archive.display()));
        command.arg(context);
        command
    }
}

/// BuildKit with a daemon of its own, which ends with this value.
struct BuildKit {
    bin: PathBuf,
    address: String,
    base: PathBuf,
    digest: String,
    daemon: Child,
}

impl BuildKit {
    fn start(bin: PathBuf, base: PathBuf, dir: &Path) -> Result<Self> {
        let index: Value = serde_json::from_slice(&std::fs::read(base.join("index.json"))?)?;
        let digest = index["manifests"][0]["digest"].as_str().context("the base's layout has no image")?;
        let address = format!("unix://{}", dir.join("buildkit.sock").display());
        let log = std::fs::File::create(dir.join("buildkit.log"))?;
        let daemon = Command::new(bin.join("buildkitd"))
            .arg("--root")
            .arg(dir.join("buildkit"))
            .args(["--addr", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting buildkitd")?;
        let kit = Self { bin, address, base, digest: digest.to_owned(), daemon };
        for _ in 0..100 {
            if sh::output(kit.control().args(["debug", "workers"])).is_ok() {
                return Ok(kit);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(dir.join("buildkit.log")).unwrap_or_default();
        bail!("buildkitd does not answer:\n{log}")
    }

    fn control(&self) -> Command {
        let mut command = Command::new(self.bin.join("buildctl"));
        command.args(["--addr", &self.address]);
        command
    }
}

impl Builder for BuildKit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn reset(&self, dir: &Path) -> Result<()> {
        sh::output(self.control().args(["prune", "--all"]))?;
        sh::output(&mut self.command(dir, &warm(dir)?, &dir.join("warm.tar"))).map(drop)
    }

    fn command(&self, _: &Path, context: &Path, archive: &Path) -> Command {
        let mut command = self.control();
        command.args(["build", "--progress", "plain", "--frontend", "dockerfile.v0"]);
        for name in ["context", "dockerfile"] {
            command.arg("--local").arg(format!("{name}={}", context.display()));
        }
        command.arg("--oci-layout").arg(format!("base={}", self.base.display()));
        command.arg("--opt").arg(format!("context:{BASE}=oci-layout://base@{}", self.digest));
        command.arg("--output").arg(format!("type=oci,dest={}", archive.display()));
        command
    }
}

impl Drop for BuildKit {
    fn drop(&mut self) {
        // Politely: it has mounts to undo.
        let _ = Command::new("sh").args(["-c", &format!("kill {}", self.daemon.id())]).status();
        let _ = self.daemon.wait();
    }
}
