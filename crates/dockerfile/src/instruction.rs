//! Typed instructions: what the words of a Dockerfile mean.
//!
//! [`parse`] turns nodes into stages and commands with every flag checked. No variable is expanded here, since values
//! depend on the build; [`Command::expand`] does that with a function of the caller, word by word and in the order in
//! which BuildKit does it.

mod build;
mod expand;
mod fields;
mod flags;
mod mount;
mod suggest;

pub use build::{Item, Stages, errors, parse, parse_one};
pub use expand::Expander;
pub use fields::parse_size;

use crate::position::{Lines, Span};
use std::time::Duration;

/// A stage: one `FROM` and the commands up to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Name after `AS`, in lower case; empty if there is none.
    pub name: String,
    /// The word `AS` as written; empty if there is no name.
    pub as_keyword: String,
    /// The name as written; empty if there is none.
    pub written_name: String,
    /// The word after `FROM`: an image, a stage, a named context or `scratch`; not expanded.
    pub base: String,
    /// Value of `--platform`, not expanded; empty if absent.
    pub platform: String,
    /// Commands in order.
    pub commands: Vec<Command>,
    /// The keyword as written (`FROM`, `from`, ...).
    pub keyword: String,
    /// Text of the doc comment above: `# NAME text`; empty if there is none.
    pub doc: String,
    /// The instruction as one line, continuations joined, trimmed.
    pub text: String,
    /// Lines of the `FROM`.
    pub lines: Lines,
    /// Bytes of the `FROM`.
    pub span: Span,
    /// Comment lines directly above, without `#`.
    pub comments: Vec<String>,
}

/// One instruction inside a stage, or an `ARG` before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The keyword as written (`RUN`, `run`, ...).
    pub keyword: String,
    /// The instruction as one line, continuations joined, trimmed, without heredoc bodies. Bytes that are not UTF-8
    /// are replaced; `span` leads to them.
    pub text: String,
    /// Lines from the keyword to the last continuation or heredoc terminator.
    pub lines: Lines,
    /// Bytes of the same.
    pub span: Span,
    /// Comment lines directly above, without `#`.
    pub comments: Vec<String>,
    /// What it says.
    pub instruction: Instruction,
}

/// The meaning of one command. Words are as written: quotes and variables are still in them, except in JSON forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`
    Add(Add),
    /// `ARG`
    Arg(Vec<ArgPair>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`; ports sorted as texts, as BuildKit does
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Label),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: the trigger as a Dockerfile of its own, heredocs included
    Onbuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

impl Instruction {
    /// The keyword in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Instruction::Add(_) => "add",
            Instruction::Arg(_) => "arg",
            Instruction::Cmd(_) => "cmd",
            Instruction::Copy(_) => "copy",
            Instruction::Entrypoint(_) => "entrypoint",
            Instruction::Env(_) => "env",
            Instruction::Expose(_) => "expose",
            Instruction::Healthcheck(_) => "healthcheck",
            Instruction::Label(_) => "label",
            Instruction::Maintainer(_) => "maintainer",
            Instruction::Onbuild(_) => "onbuild",
            Instruction::Run(_) => "run",
            Instruction::Shell(_) => "shell",
            Instruction::StopSignal(_) => "stopsignal",
            Instruction::User(_) => "user",
            Instruction::Volume(_) => "volume",
            Instruction::Workdir(_) => "workdir",
        }
    }
}

/// A name and a value of `ENV` or `LABEL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
    /// Whether it was written in the old form, `KEY value`, without an equals sign.
    pub legacy: bool,
}

/// One name of `ARG`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArgPair {
    /// Name.
    pub key: String,
    /// Default value; `None` where no `=` was written.
    pub value: Option<String>,
    /// Text of the doc comment above: `# KEY text`; empty if there is none.
    pub doc: String,
}

/// `LABEL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Labels in order.
    pub labels: Vec<Pair>,
    /// Whether words are taken literally: labels that come from options and not from the text.
    pub literal: bool,
}

/// Sources and destination of `ADD` and `COPY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Paths or URLs.
    pub paths: Vec<String>,
    /// Files whose content is in the Dockerfile.
    pub contents: Vec<SourceContent>,
    /// Destination.
    pub dest: String,
}

/// A file given by a heredoc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceContent {
    /// Name of the file: the heredoc's word.
    pub path: String,
    /// Content, leading tabs removed for `<<-`.
    pub data: String,
    /// Whether variables in the content are expanded: the word was not quoted.
    pub expand: bool,
}

/// `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Add {
    /// Sources and destination.
    pub sources: Sources,
    /// `--chown`; empty if absent.
    pub chown: String,
    /// `--chmod`; empty if absent.
    pub chmod: String,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
    /// `--keep-git-dir`, if written.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`; empty if absent.
    pub checksum: String,
    /// `--unpack`, if written.
    pub unpack: Option<bool>,
}

/// `COPY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// Sources and destination.
    pub sources: Sources,
    /// `--from`; empty if absent.
    pub from: String,
    /// `--chown`; empty if absent.
    pub chown: String,
    /// `--chmod`; empty if absent.
    pub chmod: String,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--if-exists`: a source that is not there is left out. Not BuildKit's.
    pub if_exists: bool,
}

/// A command line of `CMD`, `ENTRYPOINT` or `RUN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Arguments of the JSON form, or one text for the shell.
    pub args: Vec<String>,
    /// Whether the stage's shell runs it (not the JSON form).
    pub shell: bool,
}

/// A heredoc of `RUN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InlineFile {
    /// The heredoc's word.
    pub name: String,
    /// Body as written, leading tabs still there.
    pub data: String,
    /// Whether it is `<<-`: leading tabs are to be removed.
    pub chomp: bool,
}

/// `RUN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub line: CommandLine,
    /// Heredocs in order.
    pub files: Vec<InlineFile>,
    /// Values of `--mount` as written, in order; [`Command::expand`] reads them again with variables expanded.
    pub mount_flags: Vec<String>,
    /// `--mount`. Only `from` is reliable before [`Command::expand`]: the other fields wait for variables.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`, in order.
    pub devices: Vec<Device>,
    /// Names of the flags that were written, in order, each once.
    pub flags_used: Vec<String>,
}

/// Type of a `RUN --mount`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MountType {
    /// `bind`, the default
    #[default]
    Bind,
    /// `cache`
    Cache,
    /// `tmpfs`
    Tmpfs,
    /// `secret`
    Secret,
    /// `ssh`
    Ssh,
}

/// Sharing mode of a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// `shared`
    Shared,
    /// `private`
    Private,
    /// `locked`
    Locked,
}

/// One `RUN --mount`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type`
    pub kind: MountType,
    /// `from`; empty if absent
    pub from: String,
    /// `source`, `src`; empty if absent
    pub source: String,
    /// `target`, `dst`, `destination`; empty if absent
    pub target: String,
    /// Read-only as written, or by the type's default.
    pub read_only: bool,
    /// `size` in bytes, 0 if absent; `tmpfs` only
    pub size: i64,
    /// `id`; empty if absent
    pub id: String,
    /// `sharing`, if written; `cache` only
    pub sharing: Option<Sharing>,
    /// `required`; `secret` and `ssh` only
    pub required: bool,
    /// `env`, if written: the variable that holds a secret; empty asks for the default name
    pub env: Option<String>,
    /// `mode`
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// `default`
    #[default]
    Default,
    /// `none`
    None,
    /// `host`
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// `sandbox`, the default
    #[default]
    Sandbox,
    /// `insecure`
    Insecure,
}

/// `RUN --device`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// CDI name; empty if absent.
    pub name: String,
    /// `required`
    pub required: bool,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` / `CMD-SHELL` with its arguments.
    pub test: Vec<String>,
    /// `--interval`; zero if absent
    pub interval: Duration,
    /// `--timeout`; zero if absent
    pub timeout: Duration,
    /// `--start-period`; zero if absent
    pub start_period: Duration,
    /// `--start-interval`; zero if absent
    pub start_interval: Duration,
    /// `--retries`; 0 if absent
    pub retries: i32,
}
