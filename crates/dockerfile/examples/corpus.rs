//! Dumps syntax trees in bulk, to be compared with those of another parser.
//!
//!     corpus dump FILE              the tree of one Dockerfile as text
//!     corpus json FILE              the same as JSON
//!     corpus files ROOT LIST OUT    for each line `NAME<TAB>PATH` of LIST: OUT/NAME/ast.txt and ast.json
//!
//! Without arguments it dumps a small Dockerfile of its own.
#![allow(clippy::print_stdout, reason = "a program's output")]

use cooper_dockerfile::{dump, parse, to_json};
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
        _ => return Err("usage: corpus [dump FILE | json FILE | files ROOT LIST OUT]".into()),
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
