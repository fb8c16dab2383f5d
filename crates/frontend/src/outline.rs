//! What can be given to a build from outside: arguments, secrets, agents.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cooper_dockerfile::instruction::{ArgPair, Stage};

use crate::error::LineRange;
use crate::stage::{StageId, Stages};

/// What a target takes from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Name of the target; empty if it has none.
    pub name: String,
    /// Text of the comment above its `FROM`; empty if there is none.
    pub description: String,
    /// Arguments that count for it, by line.
    pub args: Vec<OutlineArg>,
    /// Secrets that its steps mount, by line.
    pub secrets: Vec<OutlineMount>,
    /// Agents that its steps mount, by line.
    pub ssh: Vec<OutlineMount>,
}

/// A build argument of an outline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// Its value: the one that was given, or the default; empty if there is none.
    pub value: String,
    /// Text of the comment above the `ARG`; empty if there is none.
    pub description: String,
    /// Lines of the `ARG`.
    pub lines: LineRange,
}

/// A secret or an agent of an outline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
    /// Lines of the `RUN`.
    pub lines: LineRange,
}

/// A stage that can be built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its name; empty if it has none.
    pub name: String,
    /// Text of the comment above its `FROM`; empty if there is none.
    pub description: String,
    /// Whether it is what a build without a target builds.
    pub default: bool,
    /// What it starts from, as written.
    pub base: String,
    /// Its `--platform`, as written; empty if there is none.
    pub platform: String,
    /// Lines of its `FROM`.
    pub lines: LineRange,
}

impl Target {
    /// The targets of a file.
    pub(crate) fn list(stages: &[Stage]) -> Vec<Target> {
        let last = stages.len().saturating_sub(1);
        let target = |(index, stage): (usize, &Stage)| Target {
            name: stage.name.clone(),
            description: stage.doc.clone(),
            default: index == last,
            base: stage.base.clone(),
            platform: stage.platform.clone(),
            lines: stage.lines.into(),
        };
        stages.iter().enumerate().map(target).collect()
    }
}

#[derive(Clone, Debug)]
struct Declared {
    arg: OutlineArg,
    /// Arguments that its default refers to.
    refers: BTreeSet<String>,
}

/// What is learnt of one stage while it is converted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Shared by all stages that declare nothing of their own.
    declared: Rc<BTreeMap<String, Declared>>,
    /// Names that are declared in the stage or used in its `FROM`.
    pub(crate) used: BTreeSet<String>,
    secrets: BTreeMap<String, OutlineMount>,
    ssh: BTreeMap<String, OutlineMount>,
}

impl Facts {
    /// Notes an argument with its value; a later `ARG` of the same name replaces an earlier one.
    pub(crate) fn declare(&mut self, pair: &ArgPair, lines: &[LineRange], mut refers: BTreeSet<String>) {
        // An argument that refers to itself means the one before, and so what that one refers to.
        if refers.remove(&pair.key)
            && let Some(before) = self.declared.get(&pair.key)
        {
            refers.extend(before.refers.iter().cloned());
        }
        let arg = OutlineArg {
            name: pair.key.clone(),
            value: pair.value.clone().unwrap_or_default(),
            description: pair.doc.clone(),
            lines: lines.first().copied().unwrap_or_default(),
        };
        Rc::make_mut(&mut self.declared).insert(pair.key.clone(), Declared { arg, refers });
    }

    /// Notes a secret; the first mount of it counts.
    pub(crate) fn secret(&mut self, id: &str, required: bool, lines: &[LineRange]) {
        mount(&mut self.secrets, id, required, lines);
    }

    /// Notes an agent; the first mount of it counts.
    pub(crate) fn agent(&mut self, id: &str, required: bool, lines: &[LineRange]) {
        mount(&mut self.ssh, if id.is_empty() { "default" } else { id }, required, lines);
    }

    /// The arguments that are used, and those that their defaults refer to.
    fn args(&self) -> Vec<&OutlineArg> {
        let mut all = BTreeSet::new();
        let mut todo: Vec<&String> = self.used.iter().collect();
        while let Some(name) = todo.pop() {
            if all.insert(name)
                && let Some(declared) = self.declared.get(name)
            {
                todo.extend(&declared.refers);
            }
        }
        all.into_iter().filter_map(|name| self.declared.get(name)).map(|declared| &declared.arg).collect()
    }
}

fn mount(mounts: &mut BTreeMap<String, OutlineMount>, id: &str, required: bool, lines: &[LineRange]) {
    mounts.entry(id.to_owned()).or_insert_with(|| OutlineMount {
        name: id.to_owned(),
        required,
        lines: lines.first().copied().unwrap_or_default(),
    });
}

impl Stages {
    /// What a target takes from outside, its own stages' and those of everything that it is made from.
    pub(crate) fn outline(&self, target: StageId) -> Outline {
        let mut args = BTreeMap::new();
        let mut secrets = BTreeMap::new();
        let mut ssh = BTreeMap::new();
        // The nearest stage that knows a name describes it: bases first, then what commands read.
        let mut todo = vec![target];
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            let stage = self.get(id);
            for arg in stage.facts.args() {
                args.entry(arg.name.clone()).or_insert_with(|| arg.clone());
            }
            for (name, secret) in &stage.facts.secrets {
                secrets.entry(name.clone()).or_insert_with(|| secret.clone());
            }
            for (name, agent) in &stage.facts.ssh {
                ssh.entry(name.clone()).or_insert_with(|| agent.clone());
            }
            todo.extend(stage.reads.iter().rev().map(|(id, _)| *id));
            todo.extend(stage.base);
        }
        let stage = &self.get(target).stage;
        let mut args: Vec<OutlineArg> = args.into_values().collect();
        args.sort_by_key(|arg| arg.lines.start);
        let by_line = |mounts: BTreeMap<String, OutlineMount>| {
            let mut mounts: Vec<OutlineMount> = mounts.into_values().collect();
            mounts.sort_by_key(|mount| mount.lines.start);
            mounts
        };
        Outline {
            name: stage.name.clone(),
            description: stage.doc.clone(),
            args,
            secrets: by_line(secrets),
            ssh: by_line(ssh),
        }
    }
}
