//! Prints what a Dockerfile consists of: its arguments, its stages, what each takes from where, and what is doubtful.
//!
//!     outline [DOCKERFILE]
//!
//! Without an argument it reads a small Dockerfile of its own. Exits with an error if the file cannot be parsed.
#![allow(clippy::print_stdout, reason = "a program's output")]

use cooper_dockerfile::instruction::{self, Command, Instruction, Stage};
use cooper_dockerfile::{Dockerfile, Error, detect_syntax, parse};
use std::collections::BTreeMap;
use std::{env, fs};

const SAMPLE: &str = "\
# syntax=docker/dockerfile:1
# VERSION of the interpreter
ARG VERSION=3.9
# base has the program
FROM python:${VERSION}-slim AS base
WORKDIR app
COPY main.py .
FROM base AS part
run --mount=type=cache,target=/root/.cache python -m main
FROM scratch
ENV LANG C.UTF-8
COPY --from=part /app/out /out
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = match env::args_os().nth(1) {
        Some(path) => fs::read(path)?,
        None => SAMPLE.as_bytes().to_vec(),
    };
    let file = parse(&source).map_err(place)?;
    let all = instruction::parse(&file.nodes).map_err(place)?;
    if let Some(syntax) = detect_syntax(&source) {
        println!("syntax {}", syntax.first_word());
    }
    for command in &all.meta_args {
        print_args(command, "");
    }
    for (index, stage) in all.stages.iter().enumerate() {
        print_stage(index, stage);
    }
    for (line, note) in notes(&file, &all.stages) {
        println!("line {line}: {note}");
    }
    Ok(())
}

fn place(error: Error) -> String {
    format!("lines {}-{}: {error}", error.lines.start, error.lines.end)
}

fn print_stage(index: usize, stage: &Stage) {
    let name = if stage.name.is_empty() { index.to_string() } else { stage.name.clone() };
    println!("stage {name} from {} (line {}) {}", stage.base, stage.lines.start, stage.doc);
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for command in &stage.commands {
        *count.entry(command.instruction.name()).or_default() += 1;
        match &command.instruction {
            Instruction::Copy(copy) if !copy.from.is_empty() => println!("  takes files from {}", copy.from),
            Instruction::Run(run) => {
                for mount in run.mounts.iter().filter(|m| !m.from.is_empty()) {
                    println!("  mounts {}", mount.from);
                }
            }
            Instruction::Arg(_) => print_args(command, "  "),
            _ => {}
        }
    }
    let count: Vec<String> = count.iter().map(|(name, count)| format!("{count} {name}")).collect();
    println!("  {}", count.join(", "));
}

fn print_args(command: &Command, indent: &str) {
    if let Instruction::Arg(args) = &command.instruction {
        for arg in args {
            let value = arg.value.as_deref().unwrap_or("(no default)");
            println!("{indent}argument {} = {value} {}", arg.key, arg.doc);
        }
    }
}

/// What is doubtful, by line.
fn notes(file: &Dockerfile, stages: &[Stage]) -> Vec<(u32, String)> {
    let mut notes: Vec<(u32, String)> = Vec::new();
    notes.extend(file.warnings.iter().map(|w| (w.lines.start, w.text.clone())));
    for node in &file.nodes {
        let keyword = &node.keyword.text;
        if *keyword != keyword.to_uppercase() {
            notes.push((node.lines.start, format!("`{keyword}` is not in upper case")));
        }
    }
    for command in stages.iter().flat_map(|stage| &stage.commands) {
        let note = match &command.instruction {
            Instruction::Maintainer(_) => "MAINTAINER is deprecated: use a label",
            Instruction::Workdir(path) if !path.starts_with(['/', '$']) => {
                "WORKDIR depends on that of the base image"
            }
            Instruction::Env(pairs) if pairs.iter().any(|p| p.legacy) => {
                "the form `ENV key value` is old: use `ENV key=value`"
            }
            Instruction::Cmd(line) | Instruction::Entrypoint(line) if line.shell => {
                "the shell form does not pass signals on: use a JSON array"
            }
            _ => continue,
        };
        notes.push((command.lines.start, note.to_owned()));
    }
    notes.sort();
    notes
}
