//! Builds a small image with the engine alone, as root or as an ordinary user, and prints its digest.
//!
//! ```text
//! build
//! ```
//!
//! It makes a context with a Dockerfile and two files, a store and an OCI archive, all in one temporary folder that is
//! gone at the end. No step runs a command, so neither a base image nor a network is needed; a runtime (crun or runc)
//! must be installed all the same, for the engine looks for one when a build begins.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use cooper_engine::{Cancel, Dest, Engine, JobSpec, Known, Output, Runtime, Settings};
use cooper_executor::namespace::{self, Mode};

const DOCKERFILE: &str = "\
FROM scratch
COPY greeting.txt /srv/
COPY notes /srv/notes
LABEL org.opencontainers.image.title=greeting
";

fn main() -> Result<(), Box<dyn Error>> {
    // First of all: afterwards there are threads, and as an ordinary user `main` runs once more in the namespaces.
    let mode = namespace::enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(build(mode))
}

async fn build(mode: Mode) -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let context = scratch.path().join("context");
    std::fs::create_dir_all(context.join("notes"))?;
    std::fs::write(context.join("Dockerfile"), DOCKERFILE)?;
    std::fs::write(context.join("greeting.txt"), "hello\n")?;
    std::fs::write(context.join("notes/first.txt"), "one\n")?;

    let settings = Settings {
        root: scratch.path().join("store"),
        single_id: mode == Mode::SingleId,
        runtime: Runtime::Search,
        registries: Default::default(),
        max_used: None,
    };
    let engine = Engine::open(&settings, Arc::new(Known::anonymous()))?;
    let archive = scratch.path().join("greeting.tar");
    let spec = JobSpec {
        context: cooper_engine::Context::Folder(context),
        dockerfile: (None, "Dockerfile".into()),
        opts: Default::default(),
        contexts: Default::default(),
        given: Default::default(),
        jobs: 2,
        names: vec!["example.com/greeting:latest".into()],
        outputs: vec![Output::Oci { dest: Dest::File(archive.clone()), compression: Default::default() }],
    };
    let report = engine.build(spec, Box::new(|_| {}), &Cancel::new()).await?;

    let response = report.exported.response.ok_or("the build made no image")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "image    {}", response.digest)?;
    writeln!(out, "names    {}", response.names.join(", "))?;
    writeln!(out, "steps    {} ran, {} cached", report.ran.len(), report.cached)?;
    writeln!(out, "archive  {} bytes", std::fs::metadata(&archive)?.len())?;
    Ok(())
}
