//! Prints a definition as JSON or for Graphviz, or checks that encoded definitions come out as they went in.
//!
//! `dump_llb FILE [--dot]`, `dump_llb --round-trip FOLDER` (every `llb.pb` below it); without arguments a small graph of
//! its own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

use std::error::Error;
use std::path::Path;

use cooper_llb::{
    CopyOptions, FileActions, Graph, OpOptions, Run, State, decode_definition, decode_op, encode_definition,
    encode_op, to_dot, to_json_lines,
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => print!("{}", to_dot(&sample()?.marshal(&"linux/amd64".parse()?))?),
        ["--round-trip", folder] => {
            let mut count = Count::default();
            round_trip(Path::new(folder), &mut count)?;
            let Count { files, ops, bad_files, bad_ops } = count;
            println!("{files} definitions, {ops} ops; differ: {bad_files} definitions, {bad_ops} ops");
            if bad_files + bad_ops > 0 {
                return Err("some bytes did not come out as they went in".into());
            }
        }
        [file, rest @ ..] => {
            let definition = decode_definition(&std::fs::read(file)?)?;
            print!(
                "{}",
                if rest.contains(&"--dot") { to_dot(&definition)? } else { to_json_lines(&definition)? }
            );
        }
    }
    Ok(())
}

fn sample() -> Result<State, Box<dyn Error>> {
    let context = State::local("context", Default::default(), OpOptions::default().name("load the context"));
    let base = State::image("docker.io/library/python:3.9-slim", Default::default(), OpOptions::default());
    let copy = FileActions::new().copy(&context, "main.py", "/", CopyOptions::default());
    let base = base.file(copy, OpOptions::default().name("COPY main.py /"));
    let run = |text: &str| Run { args: vec!["/bin/sh".into(), "-c".into(), text.into()], ..Run::default() };
    let one = base.run(run("python main.py"), OpOptions::default())?;
    let two = base.run(run("echo B && python main.py"), OpOptions::default())?;
    Ok(State::merge(&[one, two], OpOptions::default()))
}

#[derive(Default)]
struct Count {
    files: usize,
    ops: usize,
    bad_files: usize,
    bad_ops: usize,
}

fn round_trip(folder: &Path, count: &mut Count) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            round_trip(&path, count)?;
        } else if path.ends_with("llb.pb") {
            let bytes = std::fs::read(&path)?;
            let definition = decode_definition(&bytes)?;
            Graph::new(&definition)?;
            count.files += 1;
            if encode_definition(&definition) != bytes {
                count.bad_files += 1;
                eprintln!("differs: {}", path.display());
            }
            for op in &definition.def {
                count.ops += 1;
                if encode_op(&decode_op(op)?) != *op {
                    count.bad_ops += 1;
                }
            }
        }
    }
    Ok(())
}
