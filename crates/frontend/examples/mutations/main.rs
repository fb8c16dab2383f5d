//! Damages Dockerfiles, ignore files and words, and makes sure that everything that is done with them ends.
//!
//! `mutations [--seed N] [--count N] [--large N] [--json]`: each trial has a seed of its own, from N on, so that one that
//! fails can be repeated alone with `--count 1`. With `--large 100000` come texts that are large in one
//! way: a line of 10 MB, so many instructions, so many stages, deep expansions. A panic, or an input that takes more than its time, ends it
//! with exit code 1.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

mod mutate;
#[path = "../../tests/stub/mod.rs"]
mod stub;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cooper_dockerfile::shell::Lexer;
use serde_json::{Value, json};

/// No damaged text has more than a few kilobytes, so this is long.
const TRIAL: Duration = Duration::from_secs(2);

/// What large texts may take; anything quadratic takes hours for them.
const LARGE: Duration = Duration::from_secs(60);

/// After this the process is ended: something never comes back.
const STUCK: Duration = Duration::from_secs(120);

/// When what runs now has begun, in milliseconds since the start; and a number that says what it is.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (seed, count) = (number("--seed", 1), number("--count", 2_000));
    let start = Instant::now();
    std::thread::spawn(move || watch(start));
    let mut failures = Vec::new();
    let (mut converted, mut slowest) = (0_u64, Duration::ZERO);
    for seed in seed..seed.saturating_add(count) {
        match timed(start, seed, move || mutate::trial(seed)) {
            Ok((good, took)) => {
                converted += u64::from(good);
                slowest = slowest.max(took);
                if took > TRIAL {
                    failures.push(format!("seed {seed} took {took:?}"));
                }
            }
            Err(()) => failures.push(format!("seed {seed} panicked")),
        }
    }
    let mut large = Vec::new();
    let many = number("--large", 0);
    if many > 0 {
        for (what, text) in large_texts(usize::try_from(many).unwrap_or(1)) {
            eprintln!("{what}");
            large.push(report(
                what,
                timed(start, u64::MAX, move || mutate::exercise(text.as_bytes())),
                &mut failures,
            ));
        }
        for (what, word) in large_words() {
            let expand = move || {
                Lexer::new('\\').process_word(&word, &vec![format!("A={}", "x".repeat(1 << 20))]).is_ok()
            };
            large.push(report(what, timed(start, u64::MAX, expand), &mut failures));
        }
    }
    let result = json!({
        "trials": count,
        "converted": converted,
        "slowest_ms": slowest.as_secs_f64() * 1e3,
        "large": large,
        "failures": failures,
    });
    if words.iter().any(|word| word == "--json") {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn timed(
    start: Instant,
    number: u64,
    work: impl FnOnce() -> bool + std::panic::UnwindSafe,
) -> Result<(bool, Duration), ()> {
    let begun = start.elapsed();
    NUMBER.store(number, Ordering::Relaxed);
    BEGUN.store(u64::try_from(begun.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    let good = catch_unwind(work).map_err(drop)?;
    Ok((good, start.elapsed().saturating_sub(begun)))
}

fn watch(start: Instant) {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let begun = Duration::from_millis(BEGUN.load(Ordering::Relaxed));
        if start.elapsed().saturating_sub(begun) > STUCK {
            eprintln!("seed {} does not end", NUMBER.load(Ordering::Relaxed));
            std::process::exit(1);
        }
    }
}

fn report(what: &str, outcome: Result<(bool, Duration), ()>, failures: &mut Vec<String>) -> Value {
    match outcome {
        Ok((good, took)) => {
            if took > LARGE {
                failures.push(format!("{what} took {took:?}"));
            }
            json!({ "what": what, "seconds": took.as_secs_f64(), "result": if good { "done" } else { "an error" } })
        }
        Err(()) => {
            failures.push(format!("{what} panicked"));
            json!({ "what": what, "result": "a panic" })
        }
    }
}

fn large_texts(many: usize) -> Vec<(&'static str, String)> {
    let numbered = |first: &str, line: &dyn Fn(usize) -> String| {
        let mut text = first.to_owned();
        (0..many).for_each(|number| text.push_str(&line(number)));
        text
    };
    vec![
        ("a line of 10 MB", format!("FROM a\nRUN {}\n", "x".repeat(10 << 20))),
        ("10 MB in lines that continue", format!("FROM a\nRUN a {}b\n", "x \\\n".repeat(10 << 18))),
        ("many instructions RUN", numbered("FROM a\n", &|n| format!("RUN echo {n}\n"))),
        ("many instructions ENV", numbered("FROM a\n", &|n| format!("ENV A{}=$A{n}\n", n % 50))),
        ("many instructions LABEL", numbered("FROM a\n", &|n| format!("LABEL a{n}=b\n"))),
        ("many instructions COPY", numbered("FROM a\n", &|n| format!("COPY f{n} /\n"))),
        ("many instructions ARG in front", numbered("", &|n| format!("ARG A{n}=1\n")) + "FROM a\n"),
        ("many words", format!("FROM a\nLABEL {}\n", "a=b \\\n".repeat(many))),
        ("many heredocs", numbered("FROM a\n", &|n| format!("RUN <<E\necho {n}\nE\n"))),
        ("many stages", numbered("", &|n| format!("FROM scratch AS s{n}\n"))),
        (
            "many stages on each other",
            numbered("FROM a AS s\n", &|n| {
                if n == 0 {
                    "FROM s AS s0\nRUN a\n".into()
                } else {
                    format!("FROM s{} AS s{n}\nRUN {n}\n", n - 1)
                }
            }),
        ),
        (
            "many stages that copy from each other",
            numbered("FROM scratch AS s\nCOPY a /\n", &|n| {
                if n == 0 {
                    "FROM scratch AS s0\nCOPY --from=s / /\n".into()
                } else {
                    format!("FROM scratch AS s{n}\nCOPY --from=s{} / /\n", n - 1)
                }
            }),
        ),
        ("many lists in lists", format!("FROM a\nRUN {}{}\n", "[".repeat(30_000), "]".repeat(30_000))),
        ("1,000 triggers", "FROM a\n".to_owned() + &"ONBUILD RUN a\n".repeat(1_000) + "FROM a\n"),
    ]
}

fn large_words() -> Vec<(&'static str, String)> {
    vec![
        ("200,000 expansions in each other", "${B:-".repeat(200_000) + &"}".repeat(200_000)),
        ("200,000 expansions after each other", "$B${C}".repeat(100_000)),
        ("a word that grows", "\"${A//x/$A}\"".repeat(100)),
        ("a pattern with many stars", "${A#*y*y*y*y*y*y*y*y*z}".to_owned()),
        ("quotes that are open", "\"'".repeat(100_000)),
    ]
}
