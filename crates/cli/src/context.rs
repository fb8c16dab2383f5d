//! What a build reads: a folder, an address, or standard input.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cooper_engine::{Context, JobSpec};
use cooper_executor::file::{Action, Copy, Root, apply};
use tempfile::TempDir;

use crate::args::Build;
use crate::report::Usage;

/// What comes from standard input, as on docker's command line.
const STDIN: &str = "-";

/// The default name of a Dockerfile.
const DOCKERFILE: &str = "Dockerfile";

/// What the context and the Dockerfile of a build are.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) context: Context,
    pub(crate) dockerfile: (Option<PathBuf>, String),
    stdin: Option<Stdin>,
}

/// What standard input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stdin {
    /// An archive with the context, or a Dockerfile alone.
    Context,
    Dockerfile,
}

/// Standard input in a folder, which goes with it.
#[derive(Debug)]
pub(crate) struct Read(#[allow(dead_code, reason = "kept for its end")] Vec<TempDir>);

/// Says what the words on the command line mean. Standard input is not read yet.
///
/// # Errors
///
/// Words that mean nothing, as wrong usage.
pub(crate) fn of(args: &Build) -> Result<Inputs> {
    let usage = |text: String| anyhow::Error::from(Usage(text));
    let given = args.context.display().to_string();
    let file_from_stdin = args.file.as_deref() == Some(Path::new(STDIN));
    let (context, mut stdin) = match std::fs::metadata(&args.context) {
        Ok(meta) if meta.is_dir() => (Context::Folder(args.context.clone()), None),
        _ if given == STDIN => (Context::Folder(PathBuf::new()), Some(Stdin::Context)),
        _ if is_remote(&given) => (Context::Remote(given), None),
        Ok(_) => return Err(usage(format!("the context `{given}` is no folder"))),
        Err(error) => return Err(usage(format!("cannot open the context `{given}`: {error}"))),
    };
    let dockerfile = match (&args.file, &context) {
        (Some(_), _) if file_from_stdin => {
            if stdin.is_some() {
                return Err(usage("context and Dockerfile cannot both come from standard input".into()));
            }
            stdin = Some(Stdin::Dockerfile);
            (None, DOCKERFILE.to_owned())
        }
        (None, _) => (None, DOCKERFILE.to_owned()),
        // Relative to the context where that is not here yet.
        (Some(file), Context::Remote(_)) => (None, file.display().to_string()),
        (Some(file), _) if stdin == Some(Stdin::Context) => (None, file.display().to_string()),
        (Some(file), Context::Folder(_)) => {
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| usage(format!("`{}` names no file", file.display())))?;
            let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (Some(dir.to_owned()), name.to_owned())
        }
    };
    Ok(Inputs { context, dockerfile, stdin })
}

/// Tells whether this is an address, by the rules of docker's command line.
pub(crate) fn is_remote(text: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|start| text.starts_with(start))
}

impl Inputs {
    /// Reads standard input where it is meant, into a folder of its own. To be called by who has the right to set owners.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is a damaged archive.
    pub(crate) fn read(&self, spec: &mut JobSpec) -> Result<Read> {
        let Some(stdin) = self.stdin else { return Ok(Read(Vec::new())) };
        let folder = || tempfile::Builder::new().prefix("cooper-stdin-").tempdir();
        let taken = folder().context("cannot make a folder for standard input")?;
        let path = taken.path().join(DOCKERFILE);
        let mut file = std::fs::File::create_new(&path).context("cannot keep standard input")?;
        let size =
            std::io::copy(&mut std::io::stdin().lock(), &mut file).context("cannot read standard input")?;
        if size == 0 {
            return Err(
                Usage("standard input is empty: it should be an archive or a Dockerfile".into()).into()
            );
        }
        if stdin == Stdin::Dockerfile {
            spec.dockerfile.0 = Some(taken.path().to_owned());
            return Ok(Read(vec![taken]));
        }
        let unpacked = folder().context("cannot make a folder for standard input")?;
        let from = Root::open(taken.path()).context("cannot open the folder of standard input")?;
        let to = Root::open(unpacked.path()).context("cannot open the folder of standard input")?;
        // What is no archive is copied as it is: the Dockerfile.
        let copy = Copy { src: DOCKERFILE.into(), dest: "/".into(), unpack: true, ..Copy::default() };
        apply(&Action::Copy(copy), &to, Some(&from)).context("cannot unpack standard input")?;
        spec.context = Context::Folder(unpacked.path().to_owned());
        let named = Path::new(&spec.dockerfile.1);
        if let (Some(dir), Some(name)) = (named.parent(), named.file_name()) {
            spec.dockerfile = (Some(unpacked.path().join(dir)), name.to_string_lossy().into_owned());
        }
        Ok(Read(vec![unpacked]))
    }
}
