//! The command line as data: the words of `docker buildx build` that cooper has so far.

use std::path::PathBuf;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cooper_engine::MaxUsed;

use crate::space::units;

/// Builds container images without a daemon.
#[derive(Debug, Parser)]
#[command(name = "cooper", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Folder of cooper's state [default: $XDG_DATA_HOME/cooper, as root /var/lib/cooper].
    #[arg(long, global = true, env = "COOPER_ROOT", value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Builds an image from a Dockerfile.
    #[command(after_help = BUILD_EXAMPLES)]
    Build(Box<Build>),
    /// Lists what the store keeps on the disk, and how much.
    #[command(after_help = DU_EXAMPLES)]
    Du(Du),
    /// Deletes what no process works with.
    #[command(after_help = PRUNE_EXAMPLES)]
    Prune(Prune),
    /// Looks after the store.
    #[command(subcommand)]
    Store(Store),
    /// Looks inside: what a Dockerfile becomes, what a name resolves to.
    #[command(subcommand)]
    Debug(Debug),
}

const BUILD_EXAMPLES: &str = "\
Examples:
  cooper build -t app:dev -o type=oci,dest=app.tar .     then: podman load -i app.tar
  cooper build --target test .                           builds one stage
  cooper build -o type=local,dest=out .                  the files of the last stage as a folder
  cooper build --build-context base=oci-layout://dir:tag .";

const DU_EXAMPLES: &str = "\
Examples:
  cooper du
  cooper du --filter type=layer --filter description~=apt
  cooper du --filter until=7d --verbose                  what was not used for a week
  cooper du --why-kept --filter inuse                    who works with what";

const PRUNE_EXAMPLES: &str = "\
Examples:
  cooper prune --filter until=7d                         what was not used for a week
  cooper prune --max-used-space 20GB                     the longest unused, down to 20 GB
  cooper prune --min-free-space 10%                      until a tenth of the disk is free
  cooper prune --all                                     everything, records of steps too";

/// Flags of `cooper du`.
#[derive(Debug, Args)]
pub(crate) struct Du {
    /// Only what fits: `until=24h`, `type=layer`, `id=HEX`, `description~=REGEX`, `inuse`, `shared`, `private`; all of them.
    #[arg(long = "filter", value_name = "KEY[=VALUE]")]
    pub(crate) filters: Vec<String>,

    /// Everything that is known of each thing.
    #[arg(long)]
    pub(crate) verbose: bool,

    /// Says of each thing who keeps it, or when it would go.
    #[arg(long)]
    pub(crate) why_kept: bool,

    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    pub(crate) format: Format,
}

/// Flags of `cooper prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only what fits, as in `cooper du`; all of them.
    #[arg(long = "filter", value_name = "KEY[=VALUE]")]
    pub(crate) filters: Vec<String>,

    /// What is known of layers and steps, too: not only bytes that can be had again.
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Stops when the store takes no more than this.
    #[arg(long, visible_alias = "max-used", value_name = "SIZE", value_parser = units::max_used)]
    pub(crate) max_used_space: Option<MaxUsed>,

    /// Keeps this much in any case.
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE", value_parser = units::max_used)]
    pub(crate) reserved_space: Option<MaxUsed>,

    /// Stops when this much of the disk is free.
    #[arg(long, value_name = "SIZE", value_parser = units::max_used)]
    pub(crate) min_free_space: Option<MaxUsed>,

    /// Only what was not used for this long, as `--filter until=`.
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) until: Option<Duration>,

    /// Everything that is known of each thing that goes.
    #[arg(long)]
    pub(crate) verbose: bool,

    /// Accepted, for scripts: nothing is asked anyway.
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Reads everything in the store and says what is damaged or does not belong there. Exit code 1 if something is.
    Check {
        /// Gives up what is damaged, to be made or fetched again when it is wanted, and deletes what does not belong.
        #[arg(long)]
        repair: bool,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Pretty,
    /// JSON, one object a line.
    Json,
}

/// Flags of `cooper build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The context, what COPY and ADD read from: a folder, a git repository, the URL of an archive, or `-`.
    #[arg(value_name = "PATH")]
    pub(crate) context: PathBuf,

    /// The Dockerfile [default: PATH/Dockerfile]; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// A name for the image; may be given several times.
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<String>,

    /// Where the result goes: type=oci|local|tar,dest=PATH[,key=value...]; `-` is standard output.
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(crate) outputs: Vec<String>,

    /// The stage to build [default: the last one].
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Sets a build argument; without a value it is taken from the environment.
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// A further context, or what an image name stands for: `NAME=DIR | URL | docker-image://REF | oci-layout://DIR[:TAG|@DIGEST]`.
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub(crate) build_contexts: Vec<String>,

    /// Platforms to build for [default: this machine's].
    #[arg(long = "platform", value_name = "OS/ARCH[,...]", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,

    /// Sets a label of the image.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,

    /// Adds a line to /etc/hosts of every step.
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub(crate) add_hosts: Vec<String>,

    /// Network of the steps.
    #[arg(long, value_enum, default_value_t = Network::Default)]
    pub(crate) network: Network,

    /// A secret for `RUN --mount=type=secret`: `id=ID[,src=FILE|,env=VARIABLE]`.
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=VARIABLE]")]
    pub(crate) secrets: Vec<String>,

    /// An SSH agent for `RUN --mount=type=ssh`: the running one, a socket, or private keys.
    #[arg(long = "ssh", value_name = "ID[=SOCKET|KEYFILE[,...]]")]
    pub(crate) ssh: Vec<String>,

    /// What steps may do: network.host, security.insecure.
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,

    /// A resource limit of the steps' processes.
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<String>,

    /// Size of /dev/shm of the steps: bytes, or with k, m or g.
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,

    /// Runs every step again, whatever is cached.
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Runs the steps of these stages again.
    #[arg(long = "no-cache-filter", value_name = "STAGE[,...]", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,

    /// Asks the registry even for images that are already here.
    #[arg(long)]
    pub(crate) pull: bool,

    /// Writes the digest of the image configuration to a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Writes what was built (digests, names) to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Builds every stage, also those that the target does not need; the image is the target's.
    #[arg(long)]
    pub(crate) all_stages: bool,

    /// What to do: build, check, outline or targets; with `,format=json` for scripts.
    #[arg(long, value_name = "METHOD[,format=json]", default_value = "build", conflicts_with = "check")]
    pub(crate) call: String,

    /// Runs the build checks and builds nothing, as --call=check.
    #[arg(long)]
    pub(crate) check: bool,

    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,

    /// Prints only the image digest.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// How many steps may run at the same time [default: twice the number of processors].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) jobs: Option<u32>,

    /// Most that the store may take on the disk, as 20GB, 40% or none [default: max-used of the configuration, else 60% of the
    /// disk]. What was not used for the longest time goes.
    #[arg(long, env = "COOPER_MAX_USED", value_name = "SIZE", value_parser = units::max_used)]
    pub(crate) max_used: Option<MaxUsed>,

    /// The runtime of the steps: crun, runc, cooper (its own) or a path [default: the first that is there].
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<String>,
}

impl Build {
    /// How progress is shown, --quiet considered.
    pub(crate) fn shown(&self) -> Progress {
        if self.quiet { Progress::Quiet } else { self.progress }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// What the step says; the host's where it says nothing.
    Default,
    /// The host's.
    Host,
    /// No network at all.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Plain lines (the terminal display comes later).
    Auto,
    /// One line an event.
    Plain,
    /// One JSON object a line, as buildx writes it.
    Rawjson,
    /// Nothing but errors.
    Quiet,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// Resolves an image name to a digest.
    Resolve {
        /// The name, as FROM would have it.
        image: String,
        /// Prints JSON; a failure says whether the registry could be reached at all.
        #[arg(long)]
        json: bool,
    },
    /// Converts a Dockerfile and prints its LLB: JSON, one vertex a line, as `buildctl debug dump-llb` prints it.
    DumpLlb {
        /// The Dockerfile.
        file: PathBuf,
        /// Graphviz's language.
        #[arg(long)]
        dot: bool,
    },
    /// Times the conversion of every Dockerfile of a conformance corpus, several times over, on one thread.
    Speed {
        /// The file with one case a line.
        #[arg(long)]
        cases: PathBuf,
        /// The folder that the cases' Dockerfiles are relative to.
        #[arg(long)]
        root: PathBuf,
    },
    /// Converts every case of a conformance corpus and writes the results for comparison.
    Conformance {
        /// The file with one case a line.
        #[arg(long)]
        cases: PathBuf,
        /// The folder that the cases' Dockerfiles are relative to.
        #[arg(long)]
        root: PathBuf,
        /// The folder to write to.
        #[arg(long)]
        out: PathBuf,
    },
}
