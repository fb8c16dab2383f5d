//! Replays a build as plain text and as JSON lines, as `--progress=plain` and `--progress=rawjson` show it.
//!
//! `replay [plain|rawjson]`; without an argument both, one after the other. The build is a small one that is built in:
//! a step that is cached, two that are one, a download, and one that fails.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

use std::error::Error;

use cooper_oci::{Digest, Timestamp};
use cooper_progress::{Cursor, Event, EventKind, Log, Plain, RawJson, Stream, Vertex, Warning};

fn main() -> Result<(), Box<dyn Error>> {
    let form = std::env::args().nth(1);
    let log = sample()?;
    let (mut plain, mut raw) = (Plain::new(), RawJson::new());
    let (mut plain_text, mut raw_text) = (String::new(), String::new());
    for event in log.events_since(&mut Cursor::default()) {
        plain.render(event, &mut plain_text);
        raw.render(event, &mut raw_text);
    }
    plain.finish(&mut plain_text);
    match form.as_deref() {
        Some("plain") => print!("{plain_text}"),
        Some("rawjson") => print!("{raw_text}"),
        None => print!("{plain_text}\n{raw_text}"),
        Some(other) => {
            eprintln!("`{other}` is no form (expected `plain` or `rawjson`)");
            std::process::exit(2);
        }
    }
    Ok(())
}

fn sample() -> Result<Log, Box<dyn Error>> {
    let base = Digest::of("base");
    let (pull, run, test) = (Digest::of("pull"), Digest::of("run"), Digest::of("test"));
    let vertex = |digest, name: &str, inputs: &[Digest], stage: &str, line| {
        let (name, stage) = (name.to_owned(), Some(stage.to_owned()));
        EventKind::Vertex(Vertex { digest, name, inputs: inputs.to_vec(), stage, line: Some(line) })
    };
    let layer = |current, done| {
        let id = "extracting sha256:4f1c".to_owned();
        EventKind::Status { vertex: pull, id, current, total: Some(40_100_000), done }
    };
    let print = |vertex, stream, text: &str| EventKind::Log { vertex, stream, data: text.into() };
    let done = |vertex, cached, error: Option<&str>| EventKind::Completed {
        vertex,
        cached,
        error: error.map(str::to_owned),
    };
    let warning = Warning {
        rule: "FromAsCasing".to_owned(),
        message: "'as' and 'FROM' do not match in case".to_owned(),
        file: "Dockerfile".to_owned(),
        lines: (1, 1),
        url: String::new(),
    };
    let (first, second) = ("part_1 line 6".to_owned(), "part_2 line 9".to_owned());
    let failed = "`python -m test` failed with exit code 1";
    let mut log = Log::new();
    for (millis, kind) in [
        (0, vertex(base, "[base 1/1] FROM python:3.9-slim", &[], "base", 1)),
        (0, vertex(pull, "[tools 1/1] FROM alpine", &[], "tools", 3)),
        (0, vertex(run, "[part_1 1/1] RUN python -m main", &[base], "part_1", 6)),
        (0, vertex(test, "[test 1/1] RUN python -m test", &[run, pull], "test", 12)),
        (0, EventKind::Warning(warning)),
        (1, EventKind::Merged { vertex: run, first, second }),
        (5, done(base, true, None)),
        (10, EventKind::Started { vertex: pull }),
        (20, EventKind::Reason { vertex: run, text: "no earlier result".to_owned() }),
        (20, EventKind::Started { vertex: run }),
        (300, layer(1_200_000, false)),
        (600, layer(20_000_000, false)),
        (900, print(run, Stream::Stdout, "tick 1\ntick")),
        (1_100, print(run, Stream::Stdout, " 2\n 10%\r 50%\r\x1b[32m100%\x1b[0m\n")),
        (1_400, layer(40_100_000, true)),
        (1_410, done(pull, false, None)),
        (3_200, done(run, false, None)),
        (3_210, EventKind::Started { vertex: test }),
        (3_600, print(test, Stream::Stderr, "no module named test")),
        (3_700, done(test, false, Some(failed))),
    ] {
        let nanos = (1_577_934_245_000 + millis) * 1_000_000;
        log.push(Event { time: Timestamp::from_unix_nanos(nanos)?, kind });
    }
    Ok(log)
}
