use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooper_oci::{Digest, Timestamp};
use serde::Serialize;

use crate::event::{Event, EventKind, Stream, Vertex, Warning};

/// Renders events for programs: one JSON object a line, each a `client.SolveStatus` as BuildKit's clients write it for
/// `--progress=rawjson`.
///
/// Names and omissions are those of Go's encoding of that type (BuildKit `client/graph.go`); byte strings are base64,
/// times RFC 3339 as precise as nanoseconds. Each line about a vertex repeats all that is known of it. What
/// `SolveStatus` has no place for stands under the key `cooper`, which other readers skip: `place` (stage and line of
/// a vertex), `merged` and `reason`.
#[derive(Debug, Clone, Default)]
pub struct RawJson {
    vertices: HashMap<Digest, VertexJson>,
    /// When each status was first told of.
    begun: HashMap<(Digest, String), Timestamp>,
}

impl RawJson {
    /// Makes a renderer to which nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one line for the event.
    pub fn render(&mut self, event: &Event, out: &mut String) {
        let status = self.status(event);
        // Neither maps nor foreign types are in it: encoding cannot fail.
        if let Ok(line) = serde_json::to_string(&status) {
            out.push_str(&line);
            out.push('\n');
        }
    }

    fn status(&mut self, event: &Event) -> SolveStatus {
        let time = event.time;
        let mut status = SolveStatus::default();
        match &event.kind {
            EventKind::Vertex(vertex) => {
                let known = self.vertex(vertex.digest);
                known.name.clone_from(&vertex.name);
                known.inputs.clone_from(&vertex.inputs);
                status.vertexes = vec![known.clone()];
                status.cooper = Cooper::place(vertex);
            }
            EventKind::Started { vertex } => {
                let known = self.vertex(*vertex);
                *known = VertexJson {
                    started: Some(time),
                    completed: None,
                    cached: false,
                    error: String::new(),
                    ..known.clone()
                };
                status.vertexes = vec![known.clone()];
                self.begun.retain(|(of, _), _| of != vertex);
            }
            EventKind::Completed { vertex, cached, error } => {
                let known = self.vertex(*vertex);
                // Readers take an end without a beginning amiss, even that of a cached vertex.
                known.started.get_or_insert(time);
                known.completed = Some(time);
                known.cached = *cached;
                known.error = error.clone().unwrap_or_default();
                status.vertexes = vec![known.clone()];
            }
            EventKind::Status { vertex, id, current, total, done } => {
                let started = *self.begun.entry((*vertex, id.clone())).or_insert(time);
                status.statuses = vec![StatusJson {
                    id: id.clone(),
                    vertex: *vertex,
                    // What is done to it: the first of two words, as in `extracting sha256:…`.
                    name: id.split_once(' ').map(|(action, _)| action.to_owned()).unwrap_or_default(),
                    total: total.unwrap_or_default(),
                    current: *current,
                    timestamp: time,
                    started,
                    completed: done.then_some(time),
                }];
            }
            EventKind::Log { vertex, stream, data } => {
                let stream = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                status.logs =
                    vec![LogJson { vertex: *vertex, stream, data: STANDARD.encode(data), timestamp: time }];
            }
            EventKind::Warning(warning) => status.warnings = vec![WarningJson::new(warning)],
            EventKind::Merged { vertex, first, second } => {
                let merged = MergedJson { vertex: *vertex, first: first.clone(), second: second.clone() };
                status.cooper = Some(Cooper { merged: vec![merged], ..Cooper::default() });
            }
            EventKind::Reason { vertex, text } => {
                let reason = ReasonJson { vertex: *vertex, text: text.clone() };
                status.cooper = Some(Cooper { reason: vec![reason], ..Cooper::default() });
            }
        }
        status
    }

    fn vertex(&mut self, digest: Digest) -> &mut VertexJson {
        self.vertices.entry(digest).or_insert_with(|| VertexJson {
            digest,
            inputs: Vec::new(),
            name: String::new(),
            started: None,
            completed: None,
            cached: false,
            error: String::new(),
        })
    }
}

#[derive(Default, Serialize)]
struct SolveStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<VertexJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<StatusJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<LogJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cooper: Option<Cooper>,
}

#[derive(Debug, Clone, Serialize)]
struct VertexJson {
    digest: Digest,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Digest>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    cached: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Serialize)]
struct StatusJson {
    id: String,
    vertex: Digest,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "is_default")]
    total: u64,
    current: u64,
    timestamp: Timestamp,
    started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<Timestamp>,
}

#[derive(Serialize)]
struct LogJson {
    vertex: Digest,
    stream: u8,
    data: String,
    timestamp: Timestamp,
}

/// A remark; `vertex` and `detail` are left out, because the event has neither.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WarningJson {
    level: u8,
    short: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<SourceInfoJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    range: Vec<RangeJson>,
}

#[derive(Serialize)]
struct SourceInfoJson {
    filename: String,
}

#[derive(Serialize)]
struct RangeJson {
    start: PositionJson,
    end: PositionJson,
}

#[derive(Serialize)]
struct PositionJson {
    line: u32,
}

#[derive(Default, Serialize)]
struct Cooper {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    place: Vec<PlaceJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    merged: Vec<MergedJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reason: Vec<ReasonJson>,
}

#[derive(Serialize)]
struct PlaceJson {
    vertex: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct MergedJson {
    vertex: Digest,
    first: String,
    second: String,
}

#[derive(Serialize)]
struct ReasonJson {
    vertex: Digest,
    text: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Cooper {
    fn place(vertex: &Vertex) -> Option<Self> {
        if vertex.stage.is_none() && vertex.line.is_none() {
            return None;
        }
        let place = PlaceJson { vertex: vertex.digest, stage: vertex.stage.clone(), line: vertex.line };
        Some(Self { place: vec![place], ..Self::default() })
    }
}

impl WarningJson {
    fn new(warning: &Warning) -> Self {
        let (first, last) = warning.lines;
        // BuildKit's linter writes the line into the text too, and its clients take it from there.
        let place = if first > 0 { format!(" (line {first})") } else { String::new() };
        let range =
            RangeJson { start: PositionJson { line: first }, end: PositionJson { line: last.max(first) } };
        Self {
            level: 1,
            short: STANDARD.encode(format!("{}: {}{place}", warning.rule, warning.message)),
            url: warning.url.clone(),
            source_info: (!warning.file.is_empty())
                .then(|| SourceInfoJson { filename: warning.file.clone() }),
            range: if first > 0 { vec![range] } else { Vec::new() },
        }
    }
}
