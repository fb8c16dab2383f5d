//! Dumps syntax trees and expanded words in bulk, to be compared with those of another parser.
//!
//!     corpus dump FILE              the tree of one Dockerfile as text
//!     corpus json FILE              the same as JSON
//!     corpus files ROOT LIST OUT    for each line `NAME<TAB>PATH` of LIST: OUT/NAME/ast.txt and ast.json
//!     corpus words CASES            JSON lines: words to be expanded; the answers as JSON lines
//!
//! Without arguments it dumps a small Dockerfile of its own.
#![allow(clippy::print_stdout, reason = "a program's output")]

use cooper_dockerfile::shell::Lexer;
use cooper_dockerfile::{dump, parse, to_json};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::path::Path;
use std::{env, fs};

const SAMPLE: &[u8] =
    b"# escape=`\nFROM alpine AS base\nRUN <<-EOF cat `\n  && true\n\thello\nEOF\nCMD [\"sh\"]\n";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => println!("{}", dump(&parse(SAMPLE)?.nodes)),
        ["dump", file] => println!("{}", dump(&parse(&fs::read(file)?)?.nodes)),
        ["json", file] => println!("{:#}", to_json(&parse(&fs::read(file)?))),
        ["files", root, list, out] => files(Path::new(root), &fs::read_to_string(list)?, Path::new(out))?,
        ["words", cases] => words(&fs::read_to_string(cases)?)?,
        _ => return Err("usage: corpus [dump FILE | json FILE | files ROOT LIST OUT | words CASES]".into()),
    }
    Ok(())
}

fn files(root: &Path, list: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut count = 0;
    for (name, path) in list.lines().filter_map(|line| line.split_once('\t')) {
        let file = parse(&fs::read(root.join(path))?);
        let dir = out.join(name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("ast.json"), to_json(&file).to_string())?;
        if let Ok(file) = file {
            fs::write(dir.join("ast.txt"), dump(&file.nodes) + "\n")?;
        }
        count += 1;
    }
    println!("{count} files");
    Ok(())
}

fn words(cases: &str) -> Result<(), Box<dyn Error>> {
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line)?;
        let text = |key: &str| case.get(key).and_then(Value::as_str).unwrap_or_default();
        let flag = |key: &str| case.get(key).and_then(Value::as_bool).unwrap_or_default();
        let env = case.get("env").and_then(Value::as_array).into_iter().flatten();
        let env: Vec<String> = env.filter_map(Value::as_str).map(str::to_owned).collect();
        let lexer = Lexer {
            escape: text("escape").chars().next().unwrap_or('\\'),
            raw_quotes: flag("raw_quotes"),
            raw_escapes: flag("raw_escapes"),
            skip_process_quotes: flag("skip_process_quotes"),
            skip_unset_env: flag("skip_unset_env"),
        };
        let mut answer = Map::new();
        answer.insert("id".into(), text("id").into());
        let result = if text("op") == "words" {
            lexer.process_words(text("word"), &env).map(|words| {
                answer.insert("words".into(), json!(words));
            })
        } else {
            lexer.process_word(text("word"), &env).map(|word| {
                answer.insert("result".into(), json!(word.text));
                for (key, names) in [("matched", word.matched), ("unmatched", word.unmatched)] {
                    if !names.is_empty() {
                        answer.insert(key.into(), json!(names));
                    }
                }
            })
        };
        answer.insert("ok".into(), result.is_ok().into());
        if let Err(error) = result {
            answer.insert("error".into(), error.to_string().into());
        }
        println!("{}", Value::Object(answer));
    }
    Ok(())
}
