//! Both renderers on timelines: as whole texts, and against what must hold of any timeline.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod any;
mod plain;
mod rawjson;

use cooper_oci::{Digest, Timestamp};
use cooper_progress::{Event, EventKind, Plain, Stream, Vertex};

fn id(name: &str) -> Digest {
    Digest::of(name)
}

/// An event so many milliseconds after 2020-01-02T03:04:05Z.
fn at(millis: u32, kind: EventKind) -> Event {
    let nanos = (1_577_934_245_000 + i128::from(millis)) * 1_000_000;
    Event { time: Timestamp::from_unix_nanos(nanos).unwrap(), kind }
}

fn told(name: &str) -> Event {
    let (digest, name) = (id(name), name.to_owned());
    at(0, EventKind::Vertex(Vertex { digest, name, inputs: vec![], stage: None, line: None }))
}

fn started(millis: u32, name: &str) -> Event {
    at(millis, EventKind::Started { vertex: id(name) })
}

fn done(millis: u32, name: &str) -> Event {
    at(millis, EventKind::Completed { vertex: id(name), cached: false, error: None })
}

fn cached(millis: u32, name: &str) -> Event {
    at(millis, EventKind::Completed { vertex: id(name), cached: true, error: None })
}

fn failed(millis: u32, name: &str, error: &str) -> Event {
    at(millis, EventKind::Completed { vertex: id(name), cached: false, error: Some(error.to_owned()) })
}

fn out(millis: u32, name: &str, text: &str) -> Event {
    log(millis, name, Stream::Stdout, text.as_bytes())
}

fn log(millis: u32, name: &str, stream: Stream, data: &[u8]) -> Event {
    at(millis, EventKind::Log { vertex: id(name), stream, data: data.to_vec() })
}

fn part(millis: u32, name: &str, of: &str, current: u64, total: Option<u64>, done: bool) -> Event {
    at(millis, EventKind::Status { vertex: id(name), id: of.to_owned(), current, total, done })
}

fn reason(millis: u32, name: &str, text: &str) -> Event {
    at(millis, EventKind::Reason { vertex: id(name), text: text.to_owned() })
}

fn merged(millis: u32, name: &str, first: &str, second: &str) -> Event {
    at(millis, EventKind::Merged { vertex: id(name), first: first.to_owned(), second: second.to_owned() })
}

fn plain(events: &[Event]) -> String {
    let (mut plain, mut text) = (Plain::new(), String::new());
    for event in events {
        plain.render(event, &mut text);
    }
    plain.finish(&mut text);
    let length = text.len();
    plain.finish(&mut text);
    assert_eq!(text.len(), length, "what is flushed is flushed once");
    text
}
