//! The stand-in of python:3.9-slim, made from Debian's packages, for machines that cannot reach docker.io.
//!
//! It is an OCI layout in the user's cache folder, written by cooper's own crates: a root that `debootstrap` makes becomes
//! one layer, under a configuration like the real image's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cooper_exporter::{Content, ImageSpec, LayerBlob, Options, prepare};
use cooper_layer::{Compression, Compressor, Directory, Merged, ScanOptions, TarOptions, scan, write_tar};
use cooper_oci::{Descriptor, History, Image, Timestamp, media_type};
use serde_json::json;

use crate::{sh, tools};

/// Part of the folder's name; a change of what is in the image wants another number.
const VERSION: &str = "python-3.9-slim-1";
const SUITE: &str = "bullseye";
/// Where Debian's packages are, first the ordinary archive, then the one for suites that have left it.
const ARCHIVES: [&str; 2] = ["http://deb.debian.org/debian", "http://archive.debian.org/debian"];
const PACKAGES: &str = "python3.9-minimal,libpython3.9-stdlib,ca-certificates";
/// When the stand-in says it was made: fixed, so that builds on it do not depend on the day it was.
const CREATED: &str = "2025-01-01T00:00:00Z";

/// Returns the layout's folder, whether or not it is there.
fn folder() -> Result<PathBuf> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => bail!("neither XDG_CACHE_HOME nor HOME says where the cache folder is"),
    };
    Ok(cache.join("cooper").join(VERSION))
}

/// Tells whether the stand-in is there.
pub(crate) fn is_there() -> Result<bool> {
    Ok(folder()?.join("index.json").exists())
}

/// Returns the folder of the stand-in, making it if it is not there.
pub(crate) fn python(fresh: bool) -> Result<PathBuf> {
    let folder = folder()?;
    if folder.join("index.json").exists() && !fresh {
        return Ok(folder);
    }
    if !tools::can_install() {
        bail!(
            "the stand-in of python:3.9-slim is made by debootstrap, which needs root on Debian; \
             run once as root: XDG_CACHE_HOME={} cargo xtask fixture",
            folder.parent().and_then(Path::parent).unwrap_or(&folder).display()
        );
    }
    tools::ensure(tools::FIXTURE, "the stand-in of python:3.9-slim", true)?;
    println!(
        "making the stand-in of python:3.9-slim from Debian {SUITE} (1 to 2 minutes) in {}",
        folder.display()
    );
    let scratch = tempfile::Builder::new().prefix("cooper-fixture-").tempdir_in("/var/tmp")?;
    let root = scratch.path().join("root");
    bootstrap(&root)?;
    link_python(&root)?;
    let layout = scratch.path().join("layout");
    write_image(&root, &layout, scratch.path())?;
    // The cache is on another file system, perhaps: copied beside, then renamed.
    let parent = folder.parent().context("the cache folder has no parent")?;
    std::fs::create_dir_all(parent)?;
    let beside = tempfile::Builder::new().prefix(".fixture-").tempdir_in(parent)?;
    sh::run(sh::command("cp", ["-a"]).arg(layout.join(".")).arg(beside.path()))?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::rename(beside.keep(), &folder)?;
    // The folder that was renamed is private; others may read what it holds.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

fn bootstrap(root: &Path) -> Result<()> {
    let mut failures = Vec::new();
    for archive in ARCHIVES {
        let _ = std::fs::remove_dir_all(root);
        let include = format!("--include={PACKAGES}");
        let mut command = sh::command("debootstrap", ["--variant=minbase", &include, SUITE]);
        command.arg(root).arg(archive);
        match sh::output(&mut command) {
            Ok(_) => {
                sh::run(
                    sh::command("rm", ["-rf"]).args(
                        ["var/cache/apt/archives", "var/lib/apt/lists", "debootstrap", "dev"]
                            .map(|dir| root.join(dir)),
                    ),
                )?;
                // Published images have no device nodes either.
                std::fs::create_dir(root.join("dev"))?;
                return Ok(());
            }
            Err(error) => failures.push(format!("{archive}: {error:#}")),
        }
    }
    bail!("debootstrap could not make a Debian {SUITE} with {PACKAGES}:\n{}", failures.join("\n"))
}

/// The real image has its interpreter in /usr/local/bin.
fn link_python(root: &Path) -> Result<()> {
    let bin = root.join("usr/local/bin");
    std::fs::create_dir_all(&bin)?;
    for name in ["python", "python3", "python3.9"] {
        std::os::unix::fs::symlink("/usr/bin/python3.9", bin.join(name))?;
    }
    Ok(())
}

fn write_image(root: &Path, layout: &Path, scratch: &Path) -> Result<()> {
    let directory = Directory::open(root)?;
    let index = scan(&directory, Merged::new(&[]), &ScanOptions::default())?;
    let blob = scratch.join("layer.tar.gz");
    let file = std::io::BufWriter::new(std::fs::File::create(&blob)?);
    let mut compressor = Compressor::new(file, Compression::Gzip { level: 1 }, None)?;
    write_tar(&index, &directory, &mut compressor, &TarOptions::default())?;
    let (_, info) = compressor.finish()?;
    let created: Timestamp = CREATED.parse()?;
    let layer = LayerBlob {
        diff_id: info.diff_id,
        descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, info.digest, info.size),
        content: Content::Path(blob),
        created: Some(created),
        created_by: format!("debootstrap {SUITE}"),
    };
    // Environment and command are the real image's.
    let config = json!({
        "architecture": cooper_oci::Platform::host().architecture,
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "PYTHON_VERSION=3.9.2"],
            "Cmd": ["python3"],
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let mut config = Image::parse(&serde_json::to_vec(&config)?)?;
    config.history = vec![History {
        created: Some(created),
        created_by: format!("debootstrap --variant=minbase {SUITE}"),
        ..History::default()
    }];
    let image = ImageSpec { config, layers: vec![layer], ..ImageSpec::default() };
    prepare(vec![image], &Options { names: vec!["python:3.9-slim".into()], ..Options::default() })?
        .write_layout(layout)?;
    Ok(())
}

/// Returns a layout of the real image, pulled through cooper into the cache folder.
pub(crate) fn real(cooper: &Path) -> Result<PathBuf> {
    let layout = folder()?.with_file_name("python-3.9-slim-real");
    if !layout.join("index.json").exists() {
        let scratch = tempfile::tempdir()?;
        std::fs::write(scratch.path().join("Dockerfile"), "FROM python:3.9-slim\n")?;
        let output = format!("type=oci,tar=false,dest={}", layout.display());
        std::fs::create_dir_all(layout.parent().context("the cache folder has no parent")?)?;
        let root = scratch.path().join("store");
        sh::run(
            sh::command(
                &cooper.to_string_lossy(),
                ["--root", &root.to_string_lossy(), "build", "-t", "python:3.9-slim", "-o", &output],
            )
            .arg(scratch.path()),
        )?;
    }
    Ok(layout)
}
