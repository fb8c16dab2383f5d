//! Which stages there are, what each is built on and what its commands read: everything before a base is resolved.

use std::collections::BTreeSet;

use cooper_dockerfile::instruction::{self, Command, Instruction, Stage};
use cooper_dockerfile::shell::{EmptyEnv, Expansion};
use cooper_oci::Platform;

use crate::checks;
use crate::conversion::Conversion;
use crate::error::LineRange;
use crate::failure::{Step, Stop, fail};
use crate::named::ContextOptions;
use crate::stage::{Planned, SCRATCH, StageId, Stages};
use crate::suggest;

impl Conversion<'_> {
    /// Makes a state for every stage of the file.
    pub(crate) fn plan_stages(&mut self, stages: Vec<Stage>) -> Step<()> {
        for (index, stage) in stages.into_iter().enumerate() {
            self.plan_stage(index, stage)?;
        }
        Ok(())
    }

    fn plan_stage(&mut self, index: usize, mut stage: Stage) -> Step<()> {
        let linter = self.linter.for_comments(&stage.comments);
        let lines = LineRange::from(stage.lines);
        let base = self.lexer.process_word(&stage.base, &self.args);
        let unmatched = match &base {
            Ok(word) => &word.unmatched,
            Err(error) => &error.seen.unmatched,
        };
        checks::undeclared_in_from(unmatched, &self.args, &self.declared, lines, &linter);
        let base = base.map_err(|error| Stop::from(error).at(&[lines]))?;
        let mut used = base.matched;
        if base.text.is_empty() {
            return Err(fail(format!("base name ({}) should not be blank", stage.base)).at(&[lines]));
        }
        stage.base = base.text;
        let platform = self.plan_platform(&stage, &linter, &mut used)?;
        let named = if stage.name.is_empty() {
            None
        } else {
            let options = ContextOptions { platform: platform.clone(), ..ContextOptions::default() };
            self.named_context(&stage.name, options)?
        };
        let steps = stage.commands.iter().filter(|command| counts(&command.instruction)).count();
        let id = self.stages.create(stage, vec![lines]);
        self.stages.get_mut(id).facts = self.facts.clone();
        let state = self.stages.get_mut(id);
        state.platform = platform;
        if named.is_some() {
            state.named = named.map(|context| context.for_stage(id));
            self.stages.register(id);
            self.stages.get_mut(id).base = None;
            return Ok(());
        }
        if state.stage.name.is_empty() {
            state.shown = format!("stage-{index}");
        }
        self.stages.register(id);
        self.stages.get_mut(id).facts.used.extend(used);
        let ignore_cache = self.options.no_cache.applies_to(&self.stages.get(id).stage.name);
        let state = self.stages.get_mut(id);
        let pulls = state.stage.base != SCRATCH && state.base.is_none();
        state.steps = steps + usize::from(pulls);
        state.ignore_cache = ignore_cache;
        Ok(())
    }

    /// Reads `--platform`; adds the arguments that it uses to `used`.
    fn plan_platform(
        &mut self,
        stage: &Stage,
        linter: &crate::lint::Linter,
        used: &mut BTreeSet<String>,
    ) -> Step<Option<Platform>> {
        if stage.platform.is_empty() {
            return Ok(None);
        }
        let lines = LineRange::from(stage.lines);
        let (word, error) = match self.lexer.process_word(&stage.platform, &self.args) {
            Ok(word) => (word, None),
            Err(error) => {
                // What was seen up to the fault is checked all the same.
                let seen = (*error.seen).clone();
                let (matched, unmatched) = (seen.matched, seen.unmatched);
                (Expansion { text: String::new(), matched, unmatched }, Some(error))
            }
        };
        checks::undeclared_in_from(&word.unmatched, &self.args, &self.declared, lines, linter);
        checks::platform_flag(stage, &word, &self.args, linter);
        if let Some(error) = error {
            return Err(Stop::from(error).context("failed to process arguments for platform ").at(&[lines]));
        }
        let near = || word.unmatched.iter().find_map(|name| suggest::nearest(name, self.args.vars().keys()));
        if word.text.is_empty() {
            let message = format!("empty platform value from expression {}", stage.platform);
            return Err(fail(message).at(&[lines]).suggest(near()));
        }
        match word.text.parse::<Platform>() {
            Ok(platform) => {
                used.extend(word.matched);
                Ok(Some(platform))
            }
            Err(error) => Err(fail(format!("failed to parse platform {}: {error}", stage.platform))
                .at(&[lines])
                .at(&[lines])
                .suggest(near())),
        }
    }

    /// The stage that is asked for.
    pub(crate) fn find_target(&self) -> Step<StageId> {
        let wanted = self.options.target.as_str();
        if wanted.is_empty() {
            return self
                .stages
                .order
                .last()
                .copied()
                .ok_or_else(|| fail("dockerfile contains no stages to build"));
        }
        self.stages.find(wanted).ok_or_else(|| {
            let message = format!("target stage {} could not be found", crate::gofmt::quote(wanted));
            fail(message).suggest(suggest::nearest(wanted, self.stages.names()))
        })
    }

    /// Finds what commands read, and refuses circles.
    pub(crate) fn plan_reads(&mut self) -> Step<()> {
        for id in self.stages.order.clone() {
            let commands = std::mem::take(&mut self.stages.get_mut(id).stage.commands);
            for command in commands {
                // BuildKit gives no place for these.
                let lines = LineRange::from(command.lines);
                let planned = self.plan_command(command, false).map_err(|stop| stop.near(lines))?;
                self.add_reads(id, &planned);
                self.stages.get_mut(id).commands.push(planned);
            }
        }
        if let Some((id, lines)) = self.stages.circle() {
            let name = &self.stages.get(id).shown;
            let mut stop = fail(format!("circular dependency detected on stage: {name}"));
            for line in lines {
                stop = stop.at(&[line]);
            }
            return Err(stop);
        }
        if let [only] = *self.stages.order.as_slice() {
            self.stages.get_mut(only).shown.clear();
        }
        Ok(())
    }

    fn add_reads(&mut self, id: StageId, planned: &Planned) {
        let lines = planned.command.lines.into();
        for source in &planned.sources {
            self.stages.note_read(id, *source, lines);
            if self.stages.get(*source).unregistered && !self.stages.order.contains(source) {
                self.stages.register(*source);
            }
        }
    }

    fn plan_command(&mut self, command: Command, onbuild: bool) -> Step<Planned> {
        let lines = vec![LineRange::from(command.lines)];
        let sources = match &command.instruction {
            Instruction::Copy(copy) if !copy.from.is_empty() => {
                vec![copy_source(&mut self.stages, &self.lexer, &copy.from, lines)?]
            }
            Instruction::Run(run) => run
                .mounts
                .iter()
                .map(|mount| {
                    let from = if mount.from.is_empty() { SCRATCH } else { &mount.from };
                    match self.stages.find(from) {
                        Some(id) => id,
                        None => self.stages.create_unregistered(from, Vec::new()),
                    }
                })
                .collect(),
            _ => Vec::new(),
        };
        Ok(Planned { command, sources, onbuild })
    }

    /// Reads ONBUILD triggers into commands in front of a stage's own. Tells whether they read other stages.
    pub(crate) fn plan_triggers(&mut self, id: StageId, triggers: &[String]) -> Step<bool> {
        let lines = self.stages.get(id).stage.lines;
        let mut planned = Vec::new();
        let mut reads = false;
        for trigger in triggers {
            let file = cooper_dockerfile::parse(trigger.as_bytes()).map_err(Stop::from)?;
            let [node] = file.nodes.as_slice() else {
                return Err(fail("onbuild trigger should be a single expression"));
            };
            let mut node = node.clone();
            node.lines = lines;
            let item = instruction::parse_one(&node).map_err(|mut error| {
                error.prefixed = false;
                Stop::from(error)
            })?;
            let instruction::Item::Command(command) = item else {
                return Err(fail("*instructions.Stage is not a command type").at(&[lines.into()]));
            };
            let command = self.plan_command(command, true)?;
            reads |= !command.sources.is_empty();
            self.add_reads(id, &command);
            planned.push(command);
        }
        let stage = self.stages.get_mut(id);
        stage.steps += planned.len();
        stage.commands.splice(0..0, planned);
        Ok(reads)
    }
}

/// Whether an instruction is a numbered step.
fn counts(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_)
    )
}

fn copy_source(
    stages: &mut Stages,
    lexer: &cooper_dockerfile::shell::Lexer,
    from: &str,
    lines: Vec<LineRange>,
) -> Step<StageId> {
    let expanded = lexer.process_word(from, &EmptyEnv).map_err(Stop::from)?;
    if expanded.text != from {
        return Err(fail(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ));
    }
    match crate::gofmt::parse_int(from) {
        Ok(index) => usize::try_from(index)
            .ok()
            .and_then(|index| stages.order.get(index).copied())
            .ok_or_else(|| fail(format!("invalid stage index {index}"))),
        Err(_) => Ok(match stages.find(from) {
            Some(id) => id,
            None => stages.create_unregistered(from, lines),
        }),
    }
}
