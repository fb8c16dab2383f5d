//! From nodes to stages and commands.

use super::fields::{parse_duration, parse_i32, to_duration};
use super::flags::{Fault, FlagType, Flags, IF_EXISTS};
use super::suggest::suggest;
use super::{
    Add, ArgPair, Command, CommandLine, Copy, Healthcheck, InlineFile, Instruction, Label, Network, Pair,
    Run, Security, SourceContent, Sources, Stage, mount,
};
use crate::error::{Error, Problem};
use crate::node::{Node, chomp_tabs};
use crate::parser::parse_heredoc_word;
use crate::quote::go_quote;
use std::collections::HashMap;
use std::time::Duration;

/// All keywords, in the order in which one is suggested for a misspelt one.
const KEYWORDS: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Stages of a Dockerfile, and the `ARG`s before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// `ARG` commands before the first `FROM`.
    pub meta_args: Vec<Command>,
    /// Stages in order.
    pub stages: Vec<Stage>,
}

/// Turns nodes into stages and commands, every flag and argument checked.
///
/// # Errors
/// The first node that is no valid instruction, or that stands before the first `FROM` without being an `ARG`.
pub fn parse(nodes: &[Node]) -> Result<Stages, Error> {
    let mut out = Stages::default();
    for node in nodes {
        let item = parse_one(node)?;
        match (item, out.stages.last_mut()) {
            (Item::Stage(stage), _) => out.stages.push(stage),
            (Item::Command(command), Some(stage)) => stage.commands.push(command),
            (Item::Command(command), None) if matches!(command.instruction, Instruction::Arg(_)) => {
                out.meta_args.push(command);
            }
            (Item::Command(_), None) => {
                return Err(no_stage(node));
            }
        }
    }
    Ok(out)
}

/// Lists everything that is wrong with nodes, and not the first fault alone: for editors and linters.
///
/// ```
/// use cooper_dockerfile::{instruction, parse};
///
/// let file = parse(b"COPY a b\nFROM\nRUN --mont=x y\n")?;
/// let errors: Vec<String> = instruction::errors(&file.nodes).iter().map(ToString::to_string).collect();
/// assert_eq!(errors[0], "no build stage in current context");
/// assert_eq!(errors.len(), 3);
/// # Ok::<(), cooper_dockerfile::Error>(())
/// ```
pub fn errors(nodes: &[Node]) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut in_stage = false;
    for node in nodes {
        let name = node.name();
        in_stage |= name == "from";
        match parse_one(node) {
            Err(error) => errors.push(error),
            Ok(_) if in_stage || name == "arg" => {}
            Ok(_) => errors.push(no_stage(node)),
        }
    }
    errors
}

fn no_stage(node: &Node) -> Error {
    Error { problem: Problem::NoStage, lines: node.lines, span: Some(node.span), prefixed: false }
}

/// What one node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A `FROM`, with no commands yet.
    Stage(Stage),
    /// Anything else.
    Command(Command),
}

/// Turns one node into the start of a stage or a command, for example a trigger of `ONBUILD`.
///
/// # Errors
/// What is wrong with it. BuildKit gives the message without its `dockerfile parse error` prefix where it parses
/// triggers: clear [`Error::prefixed`] there.
pub fn parse_one(node: &Node) -> Result<Item, Error> {
    item(node).map_err(|fault| Error {
        problem: fault.problem,
        lines: node.lines,
        span: Some(fault.span.unwrap_or(node.span)),
        prefixed: true,
    })
}

fn item(node: &Node) -> Result<Item, Fault> {
    let args = arguments(node);
    let instruction = match node.name().as_str() {
        "from" => return from(node, &args).map(Item::Stage),
        "add" => Instruction::Add(add(node, &args)?),
        "arg" => Instruction::Arg(arg(node, &args)?),
        "cmd" => {
            no_flags(node)?;
            Instruction::Cmd(command_line(node, &args))
        }
        "copy" => Instruction::Copy(copy(node, &args)?),
        "entrypoint" => {
            no_flags(node)?;
            Instruction::Entrypoint(command_line(node, &args))
        }
        "env" => {
            no_flags(node)?;
            Instruction::Env(pairs("ENV", &args)?)
        }
        "expose" => {
            at_least_one("EXPOSE", &args)?;
            no_flags(node)?;
            let mut ports = owned(&args);
            ports.sort_unstable();
            Instruction::Expose(ports)
        }
        "healthcheck" => Instruction::Healthcheck(healthcheck(node, &args)?),
        "label" => {
            no_flags(node)?;
            Instruction::Label(Label { labels: pairs("LABEL", &args)?, literal: false })
        }
        "maintainer" => {
            let text = exactly_one("MAINTAINER", &args)?;
            no_flags(node)?;
            Instruction::Maintainer(text)
        }
        "onbuild" => Instruction::Onbuild(onbuild(node, &args)?),
        "run" => Instruction::Run(run(node, &args)?),
        "shell" => {
            no_flags(node)?;
            match (args.is_empty(), node.json) {
                (true, _) => return Err(Problem::AtLeastOne("SHELL").into()),
                (false, true) => Instruction::Shell(owned(&args)),
                (false, false) => return Err(Problem::NotJson("SHELL").into()),
            }
        }
        // Flags are split off but never looked at, as in BuildKit.
        "stopsignal" => Instruction::StopSignal(exactly_one("STOPSIGNAL", &args)?),
        "user" => {
            let user = exactly_one("USER", &args)?;
            no_flags(node)?;
            Instruction::User(user)
        }
        "volume" => {
            at_least_one("VOLUME", &args)?;
            no_flags(node)?;
            let volumes: Vec<String> = args.iter().map(|v| v.trim().to_owned()).collect();
            if volumes.iter().any(String::is_empty) {
                return Err(Problem::EmptyVolume.into());
            }
            Instruction::Volume(volumes)
        }
        "workdir" => {
            let path = exactly_one("WORKDIR", &args)?;
            no_flags(node)?;
            Instruction::Workdir(path)
        }
        _ => {
            let name = node.keyword.text.clone();
            let hint = suggest(&name, KEYWORDS, false);
            return Err(Problem::UnknownInstruction { name, hint }.into());
        }
    };
    Ok(Item::Command(Command {
        keyword: node.keyword.text.clone(),
        text: node.original.trim().to_owned(),
        lines: node.lines,
        span: node.span,
        comments: node.comments.clone(),
        instruction,
    }))
}

/// The words of a node; those of `ONBUILD` are its trigger's, keyword first.
fn arguments(node: &Node) -> Vec<&str> {
    let mut out: Vec<&str> = Vec::new();
    let mut node = node;
    loop {
        out.extend(node.args.iter().map(|word| word.text.as_str()));
        match &node.child {
            Some(child) => {
                out.push(&child.keyword.text);
                node = child;
            }
            None => return out,
        }
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|a| (*a).to_owned()).collect()
}

fn at_least_one(name: &'static str, args: &[&str]) -> Result<(), Problem> {
    if args.is_empty() { Err(Problem::AtLeastOne(name)) } else { Ok(()) }
}

fn exactly_one(name: &'static str, args: &[&str]) -> Result<String, Problem> {
    match args {
        [one] => Ok((*one).to_owned()),
        _ => Err(Problem::ExactlyOne(name)),
    }
}

fn no_flags(node: &Node) -> Result<(), Fault> {
    Flags::parse(&node.flags, &[]).map(drop)
}

fn pairs(name: &'static str, args: &[&str]) -> Result<Vec<Pair>, Problem> {
    at_least_one(name, args)?;
    let mut pairs = Vec::with_capacity(args.len() / 3);
    for triple in args.chunks(3) {
        let [key, value, separator] = *triple else {
            return Err(Problem::TwoArguments(name));
        };
        if key.is_empty() {
            return Err(Problem::BlankName(name));
        }
        pairs.push(Pair { key: key.to_owned(), value: value.to_owned(), legacy: separator.is_empty() });
    }
    Ok(pairs)
}

/// Text after the name in the first comment that starts with it.
fn doc(comments: &[String], name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let after = |line: &String| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    comments.iter().find_map(after).unwrap_or_default()
}

fn from(node: &Node, args: &[&str]) -> Result<Stage, Fault> {
    let (base, name) = match args {
        [base] => (*base, String::new()),
        [base, word, name] if fold_eq(word, "as") => {
            let lower = name.to_lowercase();
            if !is_stage_name(&lower) {
                return Err(Problem::StageName(go_quote(name.as_bytes())).into());
            }
            (*base, lower)
        }
        _ => return Err(Problem::FromArguments.into()),
    };
    let flags = Flags::parse(&node.flags, &[("platform", FlagType::String)])?;
    Ok(Stage {
        doc: doc(&node.comments, &name),
        name,
        as_keyword: args.get(1).copied().unwrap_or_default().to_owned(),
        written_name: args.get(2).copied().unwrap_or_default().to_owned(),
        base: base.to_owned(),
        platform: flags.string("platform"),
        commands: Vec::new(),
        keyword: node.keyword.text.clone(),
        text: node.original.trim().to_owned(),
        lines: node.lines,
        span: node.span,
        comments: node.comments.clone(),
    })
}

/// Case-insensitive equality by Unicode's simple folding, for which `ſ` is an `s`.
fn fold_eq(word: &str, ascii: &str) -> bool {
    let fold = |c: char| if c == 'ſ' { 's' } else { c.to_ascii_lowercase() };
    word.chars().map(fold).eq(ascii.chars())
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

fn arg(node: &Node, args: &[&str]) -> Result<Vec<ArgPair>, Problem> {
    at_least_one("ARG", args)?;
    let pair = |word: &&str| {
        let (key, value) = match word.split_once('=') {
            Some(("", _)) => return Err(Problem::BlankName("ARG")),
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (*word, None),
        };
        Ok(ArgPair { key: key.to_owned(), value, doc: doc(&node.comments, key) })
    };
    args.iter().map(pair).collect()
}

fn sources(node: &Node, args: &[&str], name: &'static str) -> Result<Sources, Problem> {
    let Some((dest, rest)) = args.split_last() else {
        return Err(Problem::NoDestination(name));
    };
    if let Ok(Some(_)) = parse_heredoc_word(dest) {
        return Err(Problem::HeredocDestination(name));
    }
    // Of two heredocs with one name the last gives the content of both.
    let bodies: HashMap<&str, &str> =
        node.heredocs.iter().map(|h| (h.name.as_str(), h.content.as_str())).collect();
    let mut out = Sources { dest: (*dest).to_owned(), ..Sources::default() };
    for word in rest {
        match parse_heredoc_word(word) {
            Ok(Some(heredoc)) => {
                let data = bodies.get(heredoc.name.as_str()).copied().unwrap_or_default();
                let data = if heredoc.chomp { chomp_tabs(data) } else { data.to_owned() };
                out.contents.push(SourceContent { path: heredoc.name, data, expand: heredoc.expand });
            }
            _ => out.paths.push((*word).to_owned()),
        }
    }
    Ok(out)
}

fn needs_destination(name: &'static str, args: &[&str]) -> Result<(), Problem> {
    if args.len() < 2 { Err(Problem::NoDestination(name)) } else { Ok(()) }
}

fn add(node: &Node, args: &[&str]) -> Result<Add, Fault> {
    needs_destination("ADD", args)?;
    let flags = Flags::parse(
        &node.flags,
        &[
            ("chown", FlagType::String),
            ("chmod", FlagType::String),
            ("link", FlagType::Bool),
            ("keep-git-dir", FlagType::Bool),
            ("checksum", FlagType::String),
            ("unpack", FlagType::Bool),
            ("exclude", FlagType::Strings),
        ],
    )?;
    Ok(Add {
        sources: sources(node, args, "ADD")?,
        chown: flags.string("chown"),
        chmod: flags.string("chmod"),
        link: flags.boolean("link").unwrap_or(false),
        exclude: flags.strings("exclude"),
        keep_git_dir: flags.boolean("keep-git-dir"),
        checksum: flags.string("checksum"),
        unpack: flags.boolean("unpack"),
    })
}

fn copy(node: &Node, args: &[&str]) -> Result<Copy, Fault> {
    needs_destination("COPY", args)?;
    let flags = Flags::parse(
        &node.flags,
        &[
            ("chown", FlagType::String),
            ("from", FlagType::String),
            ("chmod", FlagType::String),
            ("link", FlagType::Bool),
            ("exclude", FlagType::Strings),
            ("parents", FlagType::Bool),
            (IF_EXISTS, FlagType::Bool),
        ],
    )?;
    Ok(Copy {
        sources: sources(node, args, "COPY")?,
        from: flags.string("from"),
        chown: flags.string("chown"),
        chmod: flags.string("chmod"),
        link: flags.boolean("link").unwrap_or(false),
        exclude: flags.strings("exclude"),
        parents: flags.boolean("parents").unwrap_or(false),
        if_exists: flags.boolean(IF_EXISTS).unwrap_or(false),
    })
}

/// The arguments of a JSON array, or all of the text as one.
fn json_or_line(node: &Node, args: &[&str]) -> Vec<String> {
    if node.json || args.is_empty() { owned(args) } else { vec![args.join(" ")] }
}

fn command_line(node: &Node, args: &[&str]) -> CommandLine {
    CommandLine { args: json_or_line(node, args), shell: !node.json }
}

fn run(node: &Node, args: &[&str]) -> Result<Run, Fault> {
    let flags = Flags::parse(
        &node.flags,
        &[
            ("device", FlagType::Strings),
            ("mount", FlagType::Strings),
            ("network", FlagType::String),
            ("security", FlagType::String),
        ],
    )?;
    let devices = flags.read("device", mount::parse_device)?;
    let mount_flags = flags.strings("mount");
    let mounts = flags.read("mount", |text| mount::parse::<Problem>(text, None))?;
    let network = flags.read("network", |text| match text {
        "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(Problem::Network(go_quote(other.as_bytes()))),
    })?;
    let security = flags.read("security", |text| match text {
        "sandbox" => Ok(Security::Sandbox),
        "insecure" => Ok(Security::Insecure),
        other => Err(Problem::Security(go_quote(other.as_bytes()))),
    })?;
    let file = |h: &crate::node::Heredoc| InlineFile {
        name: h.name.clone(),
        data: h.content.clone(),
        chomp: h.chomp,
    };
    Ok(Run {
        line: command_line(node, args),
        files: node.heredocs.iter().map(file).collect(),
        mount_flags,
        mounts,
        network: network.into_iter().next().unwrap_or_default(),
        security: security.into_iter().next().unwrap_or_default(),
        devices,
        flags_used: flags.used(),
    })
}

fn onbuild(node: &Node, args: &[&str]) -> Result<String, Fault> {
    at_least_one("ONBUILD", args)?;
    no_flags(node)?;
    let trigger = args.first().copied().unwrap_or_default().trim().to_uppercase();
    match trigger.as_str() {
        "ONBUILD" => return Err(Problem::OnbuildChained.into()),
        "MAINTAINER" | "FROM" => return Err(Problem::OnbuildTrigger(trigger).into()),
        _ => {}
    }
    let mut text = strip_onbuild(&node.original).to_owned();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}

/// What follows the keyword; everything where the text does not start with it.
fn strip_onbuild(text: &str) -> &str {
    let blank = ['\t', '\n', '\u{c}', '\r', ' '];
    let start = text.trim_start_matches(blank);
    match start.split_at_checked("ONBUILD".len()) {
        Some((keyword, rest)) if keyword.eq_ignore_ascii_case("ONBUILD") => rest.trim_start_matches(blank),
        _ => text,
    }
}

fn healthcheck(node: &Node, args: &[&str]) -> Result<Healthcheck, Fault> {
    let Some((first, args)) = args.split_first() else {
        return Err(Problem::AtLeastOne("HEALTHCHECK").into());
    };
    let kind = first.to_uppercase();
    if kind == "NONE" {
        // Flags of NONE are ignored, as in BuildKit.
        if !args.is_empty() {
            return Err(Problem::HealthcheckNone.into());
        }
        return Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() });
    }
    let flags = Flags::parse(
        &node.flags,
        &[
            ("interval", FlagType::String),
            ("timeout", FlagType::String),
            ("start-period", FlagType::String),
            ("start-interval", FlagType::String),
            ("retries", FlagType::String),
        ],
    )?;
    if kind != "CMD" {
        return Err(Problem::HealthcheckType(go_quote(kind.as_bytes())).into());
    }
    let command = json_or_line(node, args);
    if command.is_empty() {
        return Err(Problem::HealthcheckNoCommand.into());
    }
    let mut test = vec![if node.json { "CMD" } else { "CMD-SHELL" }.to_owned()];
    test.extend(command);
    Ok(Healthcheck {
        test,
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(&flags)?,
    })
}

fn interval(flags: &Flags<'_>, name: &str) -> Result<Duration, Fault> {
    let read = |text: &str| {
        let ns = if text.is_empty() { 0 } else { parse_duration(text).map_err(Problem::Duration)? };
        // Below a millisecond the health check of a container would busy the engine; zero asks for the default.
        if ns != 0 && ns < 1_000_000 {
            return Err(Problem::IntervalTooShort(go_quote(name.as_bytes())));
        }
        Ok(to_duration(ns))
    };
    Ok(flags.read(name, read)?.into_iter().next().unwrap_or_default())
}

fn retries(flags: &Flags<'_>) -> Result<i32, Fault> {
    let read = |text: &str| {
        if text.is_empty() {
            return Ok(0);
        }
        let invalid = |reason| Problem::Number { reason, value: go_quote(text.as_bytes()) };
        match parse_i32(text).map_err(invalid)? {
            number if number < 0 => Err(Problem::NegativeRetries(i64::from(number))),
            number => Ok(number),
        }
    };
    Ok(flags.read("retries", read)?.into_iter().next().unwrap_or_default())
}
