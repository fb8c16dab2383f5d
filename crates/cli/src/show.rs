//! What is shown while a build runs, and the summary at its end.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cooper_engine::{RanStep, Report};
use cooper_oci::Digest;
use cooper_progress::{Event, EventKind, Plain, RawJson};

use crate::args::Progress;
use crate::report;

/// How many of the last lines of a failed step are shown with its error.
const LINES: usize = 20;

/// Shows events as they come.
pub(crate) struct Show {
    mode: Mode,
    logs: HashMap<Digest, Tail>,
    text: String,
    dockerfile: Option<PathBuf>,
    /// The text of the Dockerfile, once a warning was shown.
    source: Option<String>,
}

enum Mode {
    Plain(Plain),
    RawJson(RawJson),
    Quiet,
}

/// The last lines of a log.
#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
    count: usize,
    rest: Vec<u8>,
}

impl Tail {
    fn push(&mut self, data: &[u8]) {
        self.rest.extend_from_slice(data);
        while let Some(end) = self.rest.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line);
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.count += 1;
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        let text = String::from_utf8_lossy(line);
        // What a progress bar leaves on the line is its last state.
        let text = text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or_default();
        self.lines.push_back(text.chars().filter(|c| !c.is_control() || *c == '\t').collect());
    }
}

impl Show {
    /// `dockerfile` is where the lines of warnings are to be found.
    pub(crate) fn new(progress: Progress, dockerfile: Option<PathBuf>) -> Self {
        let mode = match progress {
            Progress::Auto | Progress::Plain => Mode::Plain(Plain::new()),
            Progress::Rawjson => Mode::RawJson(RawJson::new()),
            Progress::Quiet => Mode::Quiet,
        };
        Self { mode, logs: HashMap::new(), text: String::new(), dockerfile, source: None }
    }

    /// Shows one event.
    pub(crate) fn event(&mut self, event: &Event) {
        if let EventKind::Log { vertex, data, .. } = &event.kind {
            self.logs.entry(*vertex).or_default().push(data);
        }
        match &mut self.mode {
            Mode::Plain(plain) => match &event.kind {
                EventKind::Warning(warning) => {
                    let dockerfile = self.dockerfile.as_deref();
                    let source = self.source.get_or_insert_with(|| {
                        dockerfile.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default()
                    });
                    let title = format!("{}: {}", warning.rule, warning.message);
                    let shown = report::warning(&title, &warning.url, &warning.file, source, warning.lines);
                    self.text.push_str(&shown);
                }
                _ => plain.render(event, &mut self.text),
            },
            Mode::RawJson(json) => json.render(event, &mut self.text),
            Mode::Quiet => {}
        }
        self.flush();
    }

    /// Shows what was held back.
    pub(crate) fn finish(&mut self) {
        if let Mode::Plain(plain) = &mut self.mode {
            plain.finish(&mut self.text);
        }
        self.flush();
    }

    fn flush(&mut self) {
        // Nobody may be listening any more; that is no reason to stop a build.
        let _ = std::io::stderr().write_all(self.text.as_bytes());
        self.text.clear();
    }

    /// Returns the last lines that a step printed, and how many there were.
    pub(crate) fn last_lines(&mut self, vertex: Digest) -> (Vec<String>, usize) {
        let Some(tail) = self.logs.get_mut(&vertex) else { return (Vec::new(), 0) };
        if !tail.rest.is_empty() {
            let rest = std::mem::take(&mut tail.rest);
            tail.line(&rest);
        }
        (tail.lines.iter().cloned().collect(), tail.count)
    }
}

/// Writes what a build came to: what ran at the same time, what was merged, digest, size, time, how to load it.
pub(crate) fn summary(report: &Report) -> String {
    let mut out = String::from("\n");
    for (one, other, both) in overlaps(&report.ran) {
        let _ = writeln!(out, "  at the same time: {one} and {other} ({})", seconds(both));
    }
    for merge in &report.merged {
        let _ = writeln!(
            out,
            "  same as {}: {} (`{}`), runs once",
            merge.first,
            merge.second,
            shortened(&merge.text)
        );
    }
    if !report.unused.is_empty() {
        let names: Vec<String> = report
            .unused
            .iter()
            .map(|stage| format!("{} (line {})", stage.name, stage.lines.start))
            .collect();
        let _ = writeln!(out, "  not needed: {}", names.join(", "));
    }
    for arg in &report.unknown_args {
        let hint =
            arg.suggestion.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
        let _ = writeln!(out, "  build argument `{}` is declared by no ARG{hint}", arg.name);
    }
    let exported = &report.exported;
    if let Some(response) = &exported.response {
        let names = response.names.join(", ");
        let (size, added) = (bytes(exported.size), bytes(exported.added));
        let _ = writeln!(out, "  {}  {size} (+{added} on its base)  {names}", response.digest);
    }
    for path in &exported.written {
        let _ = writeln!(out, "  written: {}", path.display());
    }
    let _ = writeln!(
        out,
        "  {}: {} {} ran, {} cached, {} merged",
        seconds(report.took),
        report.ran.len(),
        if report.ran.len() == 1 { "step" } else { "steps" },
        report.cached,
        report.merged.len()
    );
    if exported.response.is_some()
        && let Some(archive) = exported.written.iter().find(|path| path.is_file())
    {
        let _ = writeln!(out, "  load it:  podman load -i {}", archive.display());
    }
    out
}

/// Lists pairs of steps that ran at the same time, the longest overlaps first.
fn overlaps(ran: &[RanStep]) -> Vec<(String, String, Duration)> {
    /// What lasts shorter is an accident of scheduling, not worth a line.
    const WORTH: Duration = Duration::from_millis(200);
    let mut out = Vec::new();
    for (at, one) in ran.iter().enumerate() {
        for other in ran.iter().skip(at + 1) {
            let both = one.end.min(other.end).saturating_sub(one.start.max(other.start));
            if both >= WORTH {
                let name = |step: &RanStep| step.places.first().cloned().unwrap_or_default();
                out.push((name(one), name(other), both));
            }
        }
    }
    out.sort_by_key(|(_, _, both)| std::cmp::Reverse(*both));
    out.truncate(8);
    out
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_ran_at_the_same_time() {
        let step = |name: &str, start: u64, end: u64| RanStep {
            places: vec![name.to_owned()],
            text: String::new(),
            start: Duration::from_millis(start),
            end: Duration::from_millis(end),
        };
        let ran = [step("a", 0, 3000), step("b", 1000, 4000), step("c", 3100, 3200), step("d", 4000, 5000)];
        assert_eq!(overlaps(&ran), [("a".to_owned(), "b".to_owned(), Duration::from_secs(2))]);
    }

    #[test]
    fn the_end_of_a_log() {
        let mut tail = Tail::default();
        for number in 0..30 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        tail.push(b"10%\r100%\x1b[0m\npar");
        assert_eq!(tail.count, 31);
        assert_eq!(tail.lines.len(), LINES);
        assert_eq!(tail.lines.back().unwrap(), "100%[0m");
    }

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (41_300_000, "41.3 MB"),
            (2_500_000_000, "2.50 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
