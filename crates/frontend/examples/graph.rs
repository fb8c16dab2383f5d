//! Converts a Dockerfile, with an answer made up for every question, and prints the graph that it becomes.
//!
//! `graph [DOCKERFILE] [KEY=VALUE …]`: the pairs are options by BuildKit's names, such as `target=build` or
//! `build-arg:VERSION=2`. Without a file two stages are converted that run the same command, which is one vertex.
#![allow(clippy::print_stdout, reason = "an example prints")]

#[path = "../tests/stub/mod.rs"]
mod stub;

use std::error::Error;

use stub::{Stub, draw};

const SAMPLE: &str = "\
FROM python:3.9-slim AS base
COPY main.py .
FROM base AS part_1
RUN python -m main
FROM base AS part_2
RUN python -m main
FROM scratch
COPY --from=part_1 /out /1
COPY --from=part_2 /out /2
";

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let text = match words.next() {
        Some(file) => std::fs::read(&file)?,
        None => SAMPLE.as_bytes().to_vec(),
    };
    let mut build = Stub::new(text);
    build.opts = words
        .filter_map(|word| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let (built, rounds) = build.rounds();
    for (number, asks) in rounds.iter().enumerate() {
        println!("round {}: {} questions at once", number + 1, asks.len());
    }
    let built = built?;
    for warning in &built.warnings {
        println!("{}: {}", warning.rule, warning.message);
    }
    for platform in &built.platforms {
        println!("{}\n{}", platform.id, draw(platform));
    }
    Ok(())
}
