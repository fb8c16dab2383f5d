use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use cooper_oci::{Digest, Timestamp};

use crate::event::{CANCELED, Event, EventKind, Stream, Warning};
use crate::lines::{Line, Lines, clean};

/// Nanoseconds between two status lines of the same thing, so that a download does not fill a log file.
const PAUSE: u64 = 1_000_000_000;

/// Renders events for people and log files: whole lines that are never taken back.
///
/// Each vertex gets a number when it first shows, and every line about it begins with that number. Its name stands on
/// a line of its own, after an empty one; when output goes from one vertex to another, the name of the other is
/// written again. A vertex that neither starts, prints nor completes is not shown.
///
/// Lines of output have the seconds since the vertex started. They come when they are complete, or the vertex is.
/// Where a line was overwritten (`\r`), its last state is shown; control sequences are left out.
#[derive(Debug, Clone, Default)]
pub struct Plain {
    rows: HashMap<Digest, Row>,
    /// The rows in the order in which they were first heard of.
    order: Vec<Digest>,
    numbers: u32,
    /// Whose name was written last, unless it has completed since.
    current: Option<Digest>,
    /// Something was written.
    begun: bool,
}

#[derive(Debug, Clone, Default)]
struct Row {
    /// Empty until it is told of.
    name: String,
    number: Option<u32>,
    started: Option<Timestamp>,
    ended: bool,
    /// What is to be said of it once it shows.
    notes: Vec<String>,
    stdout: Lines,
    stderr: Lines,
    parts: BTreeMap<String, Part>,
}

/// What a status line is about.
#[derive(Debug, Clone, Default)]
struct Part {
    written: Option<Timestamp>,
    /// What came too soon after that.
    held: Option<String>,
    done: bool,
}

impl Plain {
    /// Makes a renderer to which nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the lines that the event makes; often none.
    pub fn render(&mut self, event: &Event, out: &mut String) {
        let time = event.time;
        match &event.kind {
            EventKind::Vertex(vertex) => self.row(vertex.digest).name = clean(&vertex.name),
            EventKind::Started { vertex } => {
                let row = self.row(*vertex);
                row.started = Some(time);
                row.ended = false;
                row.parts.clear();
                self.show(*vertex, out);
            }
            EventKind::Completed { vertex, cached, error } => {
                self.complete(*vertex, time, *cached, error.as_deref(), out);
            }
            EventKind::Status { vertex, id, current, total, done } => {
                let text = status(id, *current, *total, *done);
                let part = self.row(*vertex).parts.entry(id.clone()).or_default();
                if part.done {
                    return;
                }
                let soon = part.written.is_some_and(|written| since(time, written) < PAUSE);
                if soon && !done {
                    part.held = Some(text);
                    return;
                }
                *part = Part { written: Some(time), held: None, done: *done };
                self.say(*vertex, &text, out);
            }
            EventKind::Log { vertex, stream, data } => {
                let row = self.row(*vertex);
                let lines = match stream {
                    Stream::Stdout => row.stdout.feed(time, data),
                    Stream::Stderr => row.stderr.feed(time, data),
                };
                self.print(*vertex, lines, out);
            }
            EventKind::Warning(warning) => {
                out.push_str(&warn(warning));
                self.begun = true;
            }
            EventKind::Merged { vertex, first, second } => {
                let text = format!("{} is the same as {}: runs once", clean(second), clean(first));
                self.note(*vertex, text, out);
            }
            EventKind::Reason { vertex, text } => self.note(*vertex, format!("({})", clean(text)), out),
        }
    }

    /// Appends what was held back: lines whose end has not come, and the last status of what is not done.
    pub fn finish(&mut self, out: &mut String) {
        for vertex in self.order.clone() {
            self.flush(vertex, out);
        }
    }

    fn complete(
        &mut self,
        vertex: Digest,
        time: Timestamp,
        cached: bool,
        error: Option<&str>,
        out: &mut String,
    ) {
        self.flush(vertex, out);
        let row = self.row(vertex);
        // The same is said once; but what had completed may still turn out to have failed.
        if row.ended && error.is_none() {
            return;
        }
        let spent = row.started.map_or(0, |started| since(time, started));
        match error {
            Some(error) if error.ends_with(CANCELED) => self.say(vertex, "CANCELED", out),
            Some(error) => {
                let mut lines = error.lines().map(clean);
                self.say(vertex, &format!("ERROR: {}", lines.next().unwrap_or_default()), out);
                lines.for_each(|line| self.say(vertex, &line, out));
            }
            None if cached => self.say(vertex, "CACHED", out),
            None => self.say(vertex, &format!("DONE {:.1}s", spent as f64 / 1e9), out),
        }
        self.row(vertex).ended = true;
        self.current = None;
    }

    fn flush(&mut self, vertex: Digest, out: &mut String) {
        let row = self.row(vertex);
        let lines = row.stdout.end().into_iter().chain(row.stderr.end()).collect();
        let held: Vec<String> = row.parts.values_mut().filter_map(|part| part.held.take()).collect();
        self.print(vertex, lines, out);
        held.iter().for_each(|text| self.say(vertex, text, out));
    }

    fn print(&mut self, vertex: Digest, lines: Vec<Line>, out: &mut String) {
        for (time, text) in lines {
            let started = *self.row(vertex).started.get_or_insert(time);
            let millis = since(time, started) / 1_000_000;
            let clock = format!("{}.{:03}", millis / 1000, millis % 1000);
            if text.is_empty() {
                self.say(vertex, &clock, out);
            } else {
                self.say(vertex, &format!("{clock} {text}"), out);
            }
        }
    }

    /// Says something about a vertex, once that is shown for a better reason.
    fn note(&mut self, vertex: Digest, text: String, out: &mut String) {
        let row = self.row(vertex);
        if row.number.is_none() {
            row.notes.push(text);
        } else {
            self.say(vertex, &text, out);
        }
    }

    fn say(&mut self, vertex: Digest, text: &str, out: &mut String) {
        let number = self.show(vertex, out);
        line(number, text, out);
    }

    /// Makes the vertex the one whose name was written last, and returns its number.
    fn show(&mut self, vertex: Digest, out: &mut String) -> u32 {
        let next = self.numbers + 1;
        let row = self.row(vertex);
        let number = *row.number.get_or_insert(next);
        let notes = std::mem::take(&mut row.notes);
        let name = if row.name.is_empty() { vertex.to_string() } else { row.name.clone() };
        self.numbers = self.numbers.max(number);
        if self.current != Some(vertex) {
            if self.begun {
                out.push('\n');
            }
            line(number, &name, out);
            self.current = Some(vertex);
            self.begun = true;
        }
        for note in notes {
            line(number, &note, out);
        }
        number
    }

    fn row(&mut self, vertex: Digest) -> &mut Row {
        self.rows.entry(vertex).or_insert_with(|| {
            self.order.push(vertex);
            Row::default()
        })
    }
}

fn line(number: u32, text: &str, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "#{number} {text}");
}

fn warn(warning: &Warning) -> String {
    let (rule, message, file) = (clean(&warning.rule), clean(&warning.message), clean(&warning.file));
    let place = match (file.is_empty(), warning.lines.0) {
        (true, 0) => String::new(),
        (true, first) => format!(" (line {first})"),
        (false, 0) => format!(" ({file})"),
        (false, first) => format!(" ({file}:{first})"),
    };
    format!("WARNING: {rule}: {message}{place}\n")
}

fn status(id: &str, current: u64, total: Option<u64>, done: bool) -> String {
    let mut text = clean(id);
    match total {
        Some(total) => text.push_str(&format!(" {} / {}", size(current), size(total))),
        None if current > 0 => text.push_str(&format!(" {}", size(current))),
        None => {}
    }
    if done {
        text.push_str(" done");
    }
    text
}

/// Returns the nanoseconds from `earlier` to `time`; 0 where clocks say that there are less than none.
fn since(time: Timestamp, earlier: Timestamp) -> u64 {
    u64::try_from((time.unix_nanos() - earlier.unix_nanos()).max(0)).unwrap_or(u64::MAX)
}

/// Writes a number of bytes in decimal units, as registries and disks count.
fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1e3;
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        // 999.95 would be written as 1000.0.
        if value < 999.95 {
            return format!("{value:.1}{unit}");
        }
        value /= 1e3;
    }
    format!("{value:.1}EB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0kB"),
            (12_345_678, "12.3MB"),
            (999_949_999, "999.9MB"),
            (999_999_999, "1.0GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn clocks_that_run_backwards() {
        let at = |seconds| Timestamp::from_unix_seconds(seconds).unwrap();
        assert_eq!(since(at(3), at(1)), 2_000_000_000);
        assert_eq!(since(at(1), at(3)), 0);
    }
}
