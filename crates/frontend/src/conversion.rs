//! One platform's conversion, from the text of the Dockerfile to a graph.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use cooper_dockerfile::ignore::Matcher;
use cooper_dockerfile::instruction::{self, Instruction, Stages as Parsed};
use cooper_dockerfile::shell::Lexer;
use cooper_dockerfile::{Dockerfile, Node, parse_directive};
use cooper_llb::{Marshalled, State, encode_definition};
use cooper_oci::{Platform, Timestamp};

use crate::args::{self, Platforms, Proxies};
use crate::asker::Asker;
use crate::built::{BuiltPlatform, Step as BuiltStep, UnknownArg, UnusedStage, Warning};
use crate::checks;
use crate::context::Inputs;
use crate::dispatch::Site;
use crate::env::EnvList;
use crate::error::LineRange;
use crate::failure::{Step, Stop, fail};
use crate::image;
use crate::lint::{self, Linter};
use crate::options::Options;
use crate::outline::{Facts, Outline};
use crate::path;
use crate::stage::{StageId, Stages};
use crate::suggest;

/// What is read of local contexts. It is known only when everything is converted, and it is part of the graph, so a
/// conversion runs once to learn it and once with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FollowPaths {
    context: Vec<String>,
    named: BTreeMap<StageId, Vec<String>>,
}

/// What one attempt comes to.
enum Converted {
    Done(Box<BuiltPlatform>),
    /// Other paths are read than it went out from.
    Again(FollowPaths),
}

/// A step before its vertex has a digest.
struct Note {
    stage: StageId,
    state: State,
    name: String,
    text: String,
    lines: Vec<LineRange>,
    ordinal: Option<(u32, u32)>,
    onbuild: bool,
}

/// A conversion under way.
pub(crate) struct Conversion<'a> {
    pub(crate) options: &'a Options,
    pub(crate) session: &'a str,
    pub(crate) asker: &'a Asker<'a>,
    pub(crate) inputs: &'a Inputs,
    pub(crate) host: Platform,
    pub(crate) platforms: Platforms,
    /// Arguments from outside.
    pub(crate) build_args: BTreeMap<String, String>,
    /// Arguments before the first stage, by value.
    pub(crate) args: EnvList,
    /// The same by name, with those that have no value.
    pub(crate) declared: BTreeSet<String>,
    /// What an outline says of them.
    pub(crate) facts: Facts,
    pub(crate) lexer: Lexer,
    pub(crate) linter: Linter,
    pub(crate) stages: Stages,
    pub(crate) proxies: Option<Proxies>,
    pub(crate) epoch: Option<Timestamp>,
    pub(crate) build_context: State,
    pub(crate) ignored: Option<Matcher>,
    /// Progress groups that were made.
    pub(crate) groups: usize,
    /// First lines of instructions with bytes that are not UTF-8, which LLB cannot hold.
    pub(crate) not_utf8: BTreeSet<u32>,
    /// Why the first step that has no form in LLB has none, and its lines.
    pub(crate) not_encodable: Option<(String, LineRange)>,
    pub(crate) purpose: Purpose,
    /// Number of the platform among those that are asked for.
    pub(crate) index: usize,
    follow: FollowPaths,
    /// Whether nothing is known yet of what is read, so that a guess is as good.
    guesses: bool,
    /// Stages of whose contexts it mattered what is read.
    asked: RefCell<BTreeSet<StageId>>,
    notes: Vec<Note>,
}

/// What a conversion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A graph of the target.
    Build,
    /// A graph of the target and of every other stage.
    BuildAll,
    /// What the checks find, in every stage unless there is a target.
    Lint,
    /// What the target takes from outside.
    Outline,
}

/// What does not depend on the platform.
pub(crate) struct Text<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) parsed: Result<Dockerfile, cooper_dockerfile::Error>,
    pub(crate) purpose: Purpose,
}

/// Converts for one platform; `None` for the one that nobody asked for. Gives findings of the checks even on failure.
pub(crate) fn run(
    options: &Options,
    session: &str,
    asker: &Asker<'_>,
    text: &Text<'_>,
    platform: Option<&Platform>,
    index: usize,
) -> (Step<BuiltPlatform>, Vec<Warning>) {
    let mut follow = None;
    loop {
        let linter = match linter(options, &text.inputs.source.text, index == 0) {
            Ok(linter) => linter,
            Err(message) => return (Err(fail(message)), Vec::new()),
        };
        let result = begin(options, session, asker, text, platform, index, follow.take(), &linter)
            .and_then(|(conversion, parsed)| conversion.convert(parsed));
        match result {
            Ok(Converted::Done(built)) => return (Ok(*built), linter.findings()),
            Ok(Converted::Again(learnt)) => follow = Some(learnt),
            Err(stop) => return (Err(stop), linter.findings()),
        }
    }
}

fn linter(options: &Options, text: &[u8], enabled: bool) -> Result<Linter, String> {
    let config = match &options.lint {
        Some(config) => config.clone(),
        None => {
            let directive = parse_directive(text, "check");
            // What follows the first space is a remark.
            let value = directive.as_ref().map(|found| found.value.as_str()).unwrap_or_default();
            lint::Config::parse(value.split(' ').next().unwrap_or_default())
                .map_err(|message| format!("failed to parse check options: {message}"))?
        }
    };
    Ok(Linter::new(config, enabled))
}

/// Looks at the target without making a graph of it. Gives findings of the checks even on failure.
///
/// As in BuildKit, platforms that were asked for do not matter here.
pub(crate) fn inspect(
    options: &Options,
    session: &str,
    asker: &Asker<'_>,
    text: &Text<'_>,
) -> (Step<Outline>, Vec<Warning>) {
    let linter = match linter(options, &text.inputs.source.text, true) {
        Ok(linter) => linter,
        Err(message) => return (Err(fail(message)), Vec::new()),
    };
    let result = begin(options, session, asker, text, None, 0, None, &linter)
        .and_then(|(conversion, parsed)| conversion.inspect(parsed));
    (result, linter.findings())
}

#[allow(clippy::too_many_arguments)]
fn begin<'a>(
    options: &'a Options,
    session: &'a str,
    asker: &'a Asker<'a>,
    text: &'a Text<'a>,
    platform: Option<&Platform>,
    index: usize,
    follow: Option<FollowPaths>,
    linter: &Linter,
) -> Step<(Conversion<'a>, Parsed)> {
    let (file, parsed) = parse(text, linter)?;
    let platforms = Platforms {
        build: options.build_platform.clone(),
        target: platform.unwrap_or(&options.build_platform).clone(),
        implicit: platform.is_none(),
    };
    let lexer = Lexer::new(file.escape);
    let last = parsed.stages.last().map(|stage| stage.name.as_str()).unwrap_or_default();
    let target = if options.target.is_empty() { last } else { &options.target };
    let predefined = args::predefined(&platforms, &options.build_args, target);
    // Bases must be names with the defaults, too.
    let defaults = args::declare(&predefined, &lexer, &parsed.meta_args, &BTreeMap::new());
    if let Ok(defaults) = &defaults {
        checks::default_bases(&parsed.stages, &lexer, &defaults.env, linter);
    }
    let globals = if options.build_args.is_empty() {
        defaults?
    } else {
        args::declare(&predefined, &lexer, &parsed.meta_args, &options.build_args)?
    };
    let mut conversion = Conversion {
        options,
        session,
        asker,
        inputs: text.inputs,
        host: Platform::host(),
        platforms,
        build_args: options.build_args.clone(),
        args: globals.env,
        declared: globals.names,
        facts: globals.facts,
        lexer,
        linter: linter.clone(),
        stages: Stages::default(),
        proxies: Proxies::from_args(&options.build_args),
        epoch: None,
        build_context: State::scratch(),
        ignored: None,
        groups: 0,
        not_utf8: not_utf8(file, &text.inputs.source.text),
        not_encodable: None,
        purpose: text.purpose,
        index,
        guesses: follow.is_none(),
        follow: follow.unwrap_or_default(),
        asked: RefCell::default(),
        notes: Vec::new(),
    };
    conversion.resolve_epoch(&parsed.stages)?;
    Ok((conversion, parsed))
}

/// Parses the text and its instructions, checks included.
fn parse<'a>(text: &'a Text<'_>, linter: &Linter) -> Step<(&'a Dockerfile, Parsed)> {
    if text.inputs.source.text.is_empty() {
        return Err(fail("the Dockerfile cannot be empty"));
    }
    let file = text.parsed.as_ref().map_err(|error| Stop::from(error.clone()))?;
    for warning in &file.warnings {
        if warning.rule == lint::NO_EMPTY_CONTINUATION.name() {
            let message = "Empty continuation line".to_owned();
            linter.report(&lint::NO_EMPTY_CONTINUATION, &[warning.lines.into()], message);
        }
    }
    let parsed = instruction::parse(&file.nodes);
    checks::instructions(&file.nodes, parsed.as_ref().err().map(|error| error.lines), linter);
    let parsed = parsed.map_err(Stop::from)?;
    if parsed.stages.is_empty() {
        return Err(fail("dockerfile contains no stages to build"));
    }
    checks::stage_names(&parsed.stages, linter);
    checks::keyword_casing(&parsed.stages, linter);
    Ok((file, parsed))
}

/// First lines of instructions that have bytes in their words or files which are not UTF-8.
fn not_utf8(file: &Dockerfile, text: &[u8]) -> BTreeSet<u32> {
    let bad = |node: &&Node| {
        let words = node.flags.iter().chain(&node.args).any(|word| word.raw.is_some());
        words || node.heredocs.iter().any(|heredoc| std::str::from_utf8(heredoc.span.of(text)).is_err())
    };
    file.nodes.iter().filter(bad).map(|node| node.lines.start).collect()
}

impl Conversion<'_> {
    fn convert(mut self, parsed: Parsed) -> Step<Converted> {
        let (target, reachable) = self.dispatch_all(parsed)?;
        self.stages.mark_path(target, "/".to_owned());
        for id in self.other_ends(target) {
            self.stages.mark_path(id, "/".to_owned());
        }
        let learnt = FollowPaths { context: self.context_paths(), named: self.follow_of_named() };
        if learnt != self.follow {
            return Ok(Converted::Again(learnt));
        }
        Ok(Converted::Done(Box::new(self.finish(target, &reachable)?)))
    }

    fn inspect(mut self, parsed: Parsed) -> Step<Outline> {
        let (target, _) = self.dispatch_all(parsed)?;
        if self.purpose == Purpose::Lint {
            self.linter.verdict().map_err(fail)?;
        }
        Ok(self.stages.outline(target))
    }

    /// Whether all stages are looked at, whatever the target needs.
    pub(crate) fn lints_all(&self) -> bool {
        self.purpose == Purpose::Lint && self.options.target.is_empty()
    }

    fn dispatch_all(&mut self, parsed: Parsed) -> Step<(StageId, BTreeSet<StageId>)> {
        self.plan_stages(parsed.stages)?;
        let target = self.find_target()?;
        self.plan_reads()?;
        // The ignore file is asked for together with the base images.
        let patterns = self.inputs.ignore_patterns(self.options, self.session, self.asker);
        let reachable = self.resolve_stages(target)?;
        let patterns = patterns?;
        if !patterns.is_empty() {
            self.ignored = Some(Matcher::new(&patterns).map_err(|error| fail(error.to_string()))?);
        }
        if self.guesses {
            self.follow.context = self.guessed_paths(&reachable);
        }
        self.build_context = self.inputs.context(self.options, self.session, &self.follow.context, &patterns);
        self.dispatch_stages(&reachable)?;
        Ok((target, reachable))
    }

    fn finish(mut self, target: StageId, reachable: &BTreeSet<StageId>) -> Step<BuiltPlatform> {
        let stage = self.stages.get_mut(target);
        let history = stage.history.to_vec();
        stage.image.history.extend(history);
        for (key, value) in &self.options.labels {
            stage.image.config.labels.insert(key.clone(), value.clone());
        }
        self.linter.verdict().map_err(fail)?;
        if let Some((why, lines)) = &self.not_encodable {
            return Err(fail(format!("failed to marshal LLB definition: {why}")).near(*lines));
        }
        image::set_target(&mut stage.image, &self.platforms.target, self.platforms.implicit);
        let stage = self.stages.get(target);
        let marshalled = stage.state.marshal_named(&self.platforms.target);
        let marshal = |id: &StageId| self.stages.get(*id).state.marshal_named(&self.platforms.target);
        let others: Vec<Marshalled> = self.other_ends(target).iter().map(marshal).collect();
        let json = |image: &cooper_oci::Image| {
            image.to_json().map_err(|error| fail(format!("failed to marshal image config: {error}")))
        };
        let base_image = match &stage.base_image {
            Some(image) => Some(json(image)?),
            None => None,
        };
        let target_platform = match self.platforms.implicit {
            true => self.host.clone(),
            false => self.platforms.target.clone(),
        };
        let platform = export_platform(&target_platform, &stage.image);
        Ok(BuiltPlatform {
            id: target_platform.normalized().full(),
            platform,
            image: json(&stage.image)?,
            base_image,
            epoch: self
                .epoch
                .map(|time| i64::try_from(time.unix_nanos() / 1_000_000_000).unwrap_or_default()),
            steps: self.steps(reachable, &marshalled, &others),
            unused_stages: self.unused(reachable),
            unknown_args: self.unknown_args(),
            definition: encode_definition(&marshalled.definition),
            others: others
                .iter()
                .map(|other| encode_definition(&other.definition))
                .filter(|definition| !definition.is_empty())
                .collect(),
        })
    }

    /// Where all stages are built: the stages that neither the target nor another such stage is made from.
    fn other_ends(&self, target: StageId) -> Vec<StageId> {
        let mut ends = Vec::new();
        if self.purpose == Purpose::BuildAll {
            let mut covered = self.stages.reachable(target);
            for id in self.stages.order.iter().rev() {
                if !covered.contains(id) && !self.stages.get(*id).unregistered {
                    ends.push(*id);
                    covered.extend(self.stages.reachable(*id));
                }
            }
        }
        ends
    }

    fn steps(
        &self,
        reachable: &BTreeSet<StageId>,
        marshalled: &Marshalled,
        others: &[Marshalled],
    ) -> Vec<BuiltStep> {
        let mut steps = Vec::new();
        for note in &self.notes {
            let stage = self.stages.get(note.stage);
            if stage.unregistered || !reachable.contains(&note.stage) {
                continue;
            }
            // A step of an unused part of a used stage has no vertex: nothing but its configuration counts.
            let mut graphs = std::iter::once(marshalled).chain(others);
            let Some(vertex) = graphs.find_map(|graph| graph.digest(&note.state)) else { continue };
            steps.push(BuiltStep {
                vertex,
                // Where there is one stage only, BuildKit's names of steps have none.
                stage: match (stage.shown.as_str(), stage.stage.name.as_str()) {
                    ("", "") => format!("stage-{}", note.stage),
                    ("", written) => written.to_owned(),
                    (shown, _) => shown.to_owned(),
                },
                stage_index: note.stage,
                lines: note.lines.first().copied().unwrap_or_default(),
                text: note.text.clone(),
                name: note.name.clone(),
                ordinal: note.ordinal,
                onbuild: note.onbuild,
            });
        }
        steps
    }

    /// Arguments that were given and mean nothing here, proxies and those of the builder itself apart.
    fn unknown_args(&self) -> Vec<UnknownArg> {
        if self.options.build_args.is_empty() {
            return Vec::new();
        }
        let all = self.stages.order.iter().map(|id| self.stages.get(*id));
        let in_stages = all.flat_map(|stage| {
            // Those of stages that were not converted stand in their commands, the others have none left.
            let commands = stage.commands.iter().filter_map(|planned| match &planned.command.instruction {
                Instruction::Arg(pairs) => Some(pairs.iter().map(|pair| pair.key.as_str())),
                _ => None,
            });
            commands.flatten().chain(stage.args.iter().map(|arg| arg.key.as_str()))
        });
        let declared: BTreeSet<&str> = self
            .declared
            .iter()
            .map(String::as_str)
            .chain(self.args.vars().keys())
            .chain(in_stages)
            .collect();
        let known = |name: &str| {
            declared.contains(name)
                || name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
                || name.to_lowercase().ends_with("_proxy")
        };
        let unknown = self.options.build_args.keys().filter(|name| !known(name));
        unknown
            .map(|name| UnknownArg {
                name: name.clone(),
                suggestion: suggest::nearest(name, declared.iter().copied()),
            })
            .collect()
    }

    fn unused(&self, reachable: &BTreeSet<StageId>) -> Vec<UnusedStage> {
        let unused = |id: &&StageId| !reachable.contains(*id) && !self.stages.get(**id).unregistered;
        self.stages
            .order
            .iter()
            .filter(unused)
            .map(|id| {
                let stage = self.stages.get(*id);
                UnusedStage {
                    name: stage.shown.clone(),
                    lines: stage.lines.first().copied().unwrap_or_default(),
                }
            })
            .collect()
    }

    /// Remembers what a command became.
    pub(crate) fn note_step(&mut self, id: StageId, name: String, site: Option<&Site>) {
        let stage = self.stages.get(id);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        self.notes.push(Note {
            stage: id,
            state: stage.state.clone(),
            name,
            text: site.map_or_else(|| stage.stage.text.clone(), |site| site.text.clone()),
            lines: site.map_or_else(|| stage.lines.clone(), |site| site.lines.clone()),
            ordinal: (stage.steps > 0).then(|| (number(stage.step), number(stage.steps))),
            onbuild: site.is_some_and(|site| site.onbuild),
        });
    }

    /// What is read of a local context that a stage stands for, as far as it is known by now.
    pub(crate) fn follow_paths(&self, id: Option<StageId>) -> Vec<String> {
        self.asked.borrow_mut().extend(id);
        id.and_then(|id| self.follow.named.get(&id)).cloned().unwrap_or_default()
    }

    fn context_paths(&self) -> Vec<String> {
        let all = self.stages.order.iter().flat_map(|id| &self.stages.get(*id).context_paths);
        relative(all.cloned().collect())
    }

    /// What commands read of the build context if their words mean what is written, as they mostly do. Where they do not,
    /// the conversion runs again.
    fn guessed_paths(&self, reachable: &BTreeSet<StageId>) -> Vec<String> {
        let mut paths = BTreeSet::new();
        for id in reachable {
            let stage = self.stages.get(*id);
            let commands = stage.commands.iter().filter(|_| !stage.dispatched);
            for planned in commands {
                let sources = match &planned.command.instruction {
                    Instruction::Add(add) => add.sources.paths.as_slice(),
                    Instruction::Copy(copy) if planned.sources.is_empty() => copy.sources.paths.as_slice(),
                    _ => continue,
                };
                let local = sources
                    .iter()
                    .filter(|path| !path.starts_with("http://") && !path.starts_with("https://"));
                paths.extend(local.map(|path| path::join(&["/", path])));
            }
        }
        relative(paths)
    }

    fn follow_of_named(&self) -> BTreeMap<StageId, Vec<String>> {
        let paths = |id: &StageId| (*id, relative(self.stages.paths_of(*id).clone()));
        let asked = self.asked.borrow();
        let ids = self.stages.order.iter().filter(|id| asked.contains(id));
        ids.map(paths).filter(|(_, paths)| !paths.is_empty()).collect()
    }
}

/// Absolute paths as a local source's list of what is read of it; an empty list means everything.
fn relative(paths: BTreeSet<String>) -> Vec<String> {
    if paths.contains("/") {
        return Vec::new();
    }
    let mut list: Vec<String> = paths.iter().map(|path| path::join(&[".", path])).collect();
    list.sort();
    list
}

/// The platform of a result; a Windows image adds the version that it is for.
fn export_platform(platform: &Platform, image: &cooper_oci::Image) -> Platform {
    let mut platform = platform.normalized();
    if platform.os == "windows" && image.os == "windows" {
        if platform.os_version.is_empty() {
            platform.os_version.clone_from(&image.os_version);
        }
        if platform.os_features.is_empty() {
            platform.os_features.clone_from(&image.os_features);
        }
        platform = platform.normalized();
    }
    platform
}
