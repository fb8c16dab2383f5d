//! `cooper build`: from flags to a build, and what is said at its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use cooper_engine::{
    Cancel, Compression, Dest, Engine, Entitlement, Error, JobSpec, Logins, MaxUsed, NamedContext, Output,
    Runtime, Settings, registries,
};
use cooper_executor::namespace::{self, Mode};
use cooper_oci::Reference;
use tokio::runtime::Runtime as Tokio;

use crate::args::{Build, Network, Progress};
use crate::call::{self, Call};
use crate::context::{self, Inputs};
use crate::given;
use crate::missing::Roots;
use crate::output::{self, Kind};
use crate::paths;
use crate::report::{FailedBuild, Usage};
use crate::show::{self, Show};
use crate::{say, signals};

/// What a command works with.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) tokio: Tokio,
    logins: Arc<Logins>,
}

/// Enters the namespaces and opens the engine. Must be called before any thread is started.
///
/// `max_used` bounds the store while something is put into it; whoever only looks around gives no bound.
pub(crate) fn engine(
    root: Option<&Path>,
    runtime: Option<&str>,
    max_used: Option<MaxUsed>,
) -> Result<Opened> {
    let root = paths::store(root)?;
    let config = paths::config();
    let max_used = match max_used {
        Some(max_used) => max_used.bytes(&root).map_err(plain)?,
        None => None,
    };
    let mode = namespace::enter()?;
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let settings = Settings {
        root,
        single_id: mode == Mode::SingleId,
        runtime: which(runtime),
        registries: registries(&config).map_err(plain)?,
        max_used,
    };
    let logins = Arc::new(Logins::of_user());
    // The client of registries wants a runtime around it when it is made.
    let engine = tokio.block_on(async { Engine::open(&settings, logins.clone()) }).map_err(plain)?;
    Ok(Opened { engine, tokio, logins })
}

/// How much a build may make the store take: what was asked for, else what the configuration says, else a share of the disk.
pub(crate) fn max_used(args: &Build) -> Result<MaxUsed> {
    match args.max_used {
        Some(asked) => Ok(asked),
        None => Ok(cooper_engine::max_used(&paths::config()).map_err(plain)?.unwrap_or_default()),
    }
}

/// Wraps an error that belongs to no line of a Dockerfile.
pub(crate) fn plain(error: Error) -> anyhow::Error {
    FailedBuild { error, source: None, log: (Vec::new(), 0), roots: Roots::default() }.into()
}

/// Runs the build.
pub(crate) fn run(root: Option<&Path>, args: &Build) -> Result<()> {
    let inputs = context::of(args)?;
    let mut spec = spec(args, &inputs)?;
    if let Some(call) = Call::of(args)? {
        return call::run(root, args, call, &inputs, spec);
    }
    let to_stdout = spec
        .outputs
        .iter()
        .any(|output| matches!(output, Output::Oci { dest: Dest::Stdout, .. } | Output::Tar(Dest::Stdout)));
    let Opened { engine, tokio, logins } = engine(root, args.runtime.as_deref(), Some(max_used(args)?))?;
    let _stdin = inputs.read(&mut spec)?;
    let roots = Roots::of(&spec);
    let name = spec.dockerfile.1.clone();
    let dockerfile = spec.dockerfile.0.as_deref().or(spec.context.folder()).map(|dir| dir.join(&name));
    let show = Arc::new(Mutex::new(Show::new(args.shown(), dockerfile.clone())));
    let cancel = Cancel::new();
    let observer = {
        let show = show.clone();
        Box::new(move |event| show.lock().unwrap_or_else(PoisonError::into_inner).event(&event))
    };
    let result = tokio.block_on(async {
        tokio::spawn(signals::interrupted(cancel.clone()));
        engine.build(spec, observer, &cancel).await
    });
    let mut show = show.lock().unwrap_or_else(PoisonError::into_inner);
    show.finish();
    for warning in logins.take_warnings() {
        say::err(&format!("warning: {warning}\n"));
    }
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            let source = dockerfile.and_then(|path| Some((name, std::fs::read_to_string(path).ok()?)));
            let log = match &error {
                Error::FailedStep(step) => show.last_lines(step.vertex),
                _ => (Vec::new(), 0),
            };
            return Err(FailedBuild { error, source, log, roots }.into());
        }
    };
    if let Some(response) = &report.exported.response {
        if let Some(file) = &args.iidfile {
            write(file, response.image_id().to_string().as_bytes())?;
        }
        if let Some(file) = &args.metadata_file {
            let mut text = serde_json::to_vec_pretty(&response.metadata()?)?;
            text.push(b'\n');
            write(file, &text)?;
        }
    } else if args.iidfile.is_some() || args.metadata_file.is_some() {
        return Err(Usage(
            "--iidfile and --metadata-file need an output with an image (-o type=oci,...)".into(),
        )
        .into());
    }
    if args.quiet {
        if let Some(response) = &report.exported.response
            && !to_stdout
        {
            say::out(&format!("{}\n", response.image_id()))?;
        }
    } else if args.progress != Progress::Quiet {
        say::err(&show::summary(&report));
    }
    Ok(())
}

/// Writes a small file beside its place and renames it.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inner = || -> std::io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        std::fs::write(&beside, bytes)?;
        std::fs::rename(&beside, path).inspect_err(|_| {
            let _ = std::fs::remove_file(&beside);
        })
    };
    inner().with_context(|| format!("cannot write `{}` in `{}`", path.display(), dir.display()))
}

fn usage(text: String) -> anyhow::Error {
    Usage(text).into()
}

/// Says in the engine's terms what the flags ask for.
fn spec(args: &Build, inputs: &Inputs) -> Result<JobSpec> {
    for name in &args.tags {
        if let Err(error) = Reference::parse_normalized(name) {
            return Err(usage(format!("-t `{name}`: {error}")));
        }
    }
    let mut opts = BTreeMap::new();
    if let Some(target) = &args.target {
        opts.insert("target".to_owned(), target.clone());
    }
    if !args.platforms.is_empty() {
        opts.insert("platform".to_owned(), args.platforms.join(","));
    }
    for given in &args.build_args {
        // As docker does: a name alone takes the value of the environment, and is not set if that has none.
        let (name, value) = match given.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (given.as_str(), std::env::var(given).ok()),
        };
        if let Some(value) = value {
            opts.insert(format!("build-arg:{name}"), value);
        }
    }
    for label in &args.labels {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        opts.insert(format!("label:{key}"), value.to_owned());
    }
    if !args.add_hosts.is_empty() {
        let hosts: Result<Vec<String>> = args
            .add_hosts
            .iter()
            .map(|line| {
                let split = line.split_once('=').or_else(|| line.split_once(':'));
                let (host, ip) = split.ok_or_else(|| usage(format!("--add-host `{line}` is not HOST:IP")))?;
                Ok(format!("{host}={ip}"))
            })
            .collect();
        opts.insert("add-hosts".to_owned(), hosts?.join(","));
    }
    match args.network {
        Network::Default => {}
        Network::Host => drop(opts.insert("force-network-mode".to_owned(), "host".to_owned())),
        Network::None => drop(opts.insert("force-network-mode".to_owned(), "none".to_owned())),
    }
    if !args.ulimits.is_empty() {
        opts.insert("ulimit".to_owned(), args.ulimits.join(","));
    }
    if let Some(size) = &args.shm_size {
        let bytes = cooper_dockerfile::instruction::parse_size(size)
            .ok_or_else(|| usage(format!("--shm-size `{size}` is not a size as 64m")))?;
        opts.insert("shm-size".to_owned(), bytes.to_string());
    }
    if args.no_cache {
        opts.insert("no-cache".to_owned(), String::new());
    } else if !args.no_cache_filter.is_empty() {
        opts.insert("no-cache".to_owned(), args.no_cache_filter.join(","));
    }
    if args.all_stages {
        opts.insert("all-stages".to_owned(), "true".to_owned());
    }
    if args.pull {
        opts.insert("image-resolve-mode".to_owned(), "pull".to_owned());
    }
    let contexts = args.build_contexts.iter().map(|text| named_context(text)).collect::<Result<_>>()?;
    let outputs: Vec<Output> = args.outputs.iter().map(|spec| output(spec)).collect::<Result<_>>()?;
    let has_image = outputs.iter().any(|output| matches!(output, Output::Oci { .. }));
    if !has_image && (args.iidfile.is_some() || args.metadata_file.is_some()) {
        return Err(usage(
            "--iidfile and --metadata-file need an output with an image (-o type=oci,...)".into(),
        ));
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut given = given::of(args)?;
    if args.network == Network::Host {
        // Who asks for it for all steps has allowed it.
        given.allowed.insert(Entitlement::NetworkHost);
    }
    Ok(JobSpec {
        given,
        context: inputs.context.clone(),
        dockerfile: inputs.dockerfile.clone(),
        opts,
        contexts,
        jobs: args.jobs.map_or(2 * processors, |jobs| jobs as usize),
        names: args.tags.clone(),
        outputs,
    })
}

fn named_context(text: &str) -> Result<(String, NamedContext)> {
    let Some((name, source)) =
        text.split_once('=').filter(|(name, source)| !name.is_empty() && !source.is_empty())
    else {
        return Err(usage(format!("--build-context `{text}` is not NAME=SOURCE")));
    };
    let context = match source.split_once("://") {
        _ if context::is_remote(source) && !Path::new(source).is_dir() => {
            NamedContext::Remote(source.to_owned())
        }
        Some(("docker-image", image)) => NamedContext::Image(image.to_owned()),
        Some(("oci-layout", layout)) => {
            // A relative folder is relative to where the command runs, whatever the process does later.
            NamedContext::Layout(std::path::absolute(layout)?.to_string_lossy().into_owned())
        }
        Some((scheme, _)) => {
            return Err(usage(format!("--build-context `{name}`: there is no source `{scheme}://`")));
        }
        None => {
            if !Path::new(source).is_dir() {
                return Err(usage(format!("--build-context `{name}`: `{source}` is no folder")));
            }
            NamedContext::Folder(source.into())
        }
    };
    Ok((name.to_owned(), context))
}

fn output(spec: &str) -> Result<Output> {
    let parsed = output::Output::parse(spec).map_err(|error| usage(error.to_string()))?;
    let file = |dest: Option<PathBuf>| dest.map_or(Dest::Stdout, Dest::File);
    let level = |default: i32| parsed.level.unwrap_or(default);
    Ok(match parsed.kind {
        Kind::Oci => Output::Oci {
            compression: match parsed.compression {
                output::Compression::Gzip => {
                    Compression::Gzip { level: u32::try_from(level(6)).unwrap_or(1) }
                }
                output::Compression::Zstd => Compression::Zstd { level: level(3) },
                output::Compression::Uncompressed => Compression::None,
            },
            dest: match (parsed.dest, parsed.tar) {
                (Some(folder), false) => Dest::Folder(folder),
                (dest, _) => file(dest),
            },
        },
        Kind::Local => match parsed.dest {
            Some(folder) => Output::Local(folder),
            None => return Err(usage("output type=local needs dest=FOLDER".into())),
        },
        Kind::Tar => Output::Tar(file(parsed.dest)),
    })
}

/// This program's file, also when another has been put at its place meanwhile.
const SELF: &str = "/proc/self/exe";

/// Which runtime `--runtime` means; without it the first of crun, runc and this program that is there.
fn which(runtime: Option<&str>) -> Runtime {
    match runtime {
        None => Runtime::SearchElse(SELF.into()),
        Some("cooper") => Runtime::Own(SELF.into()),
        Some(program) => Runtime::Program(program.into()),
    }
}
