//! What happens in a build, as an append-only log of events, and the texts that are made of it.
//!
//! What it holds: [`Event`], one thing that happened at one time, most often to one vertex; [`Log`], to which events
//! are only ever added and which any number of readers follow, each with its own [`Cursor`]; and two renderers,
//! [`Plain`] for people and log files and [`RawJson`] for programs, in the form of BuildKit's `client.SolveStatus`.
//!
//! What it leaves to others: how events come about (the engine), waiting for them, and every clock and terminal. A
//! renderer takes one event and appends to a `String` that the caller writes where it likes; all times, even those
//! that keep status lines from flooding, are those of the events. The display that redraws itself on a terminal is
//! the command line's, made from the same events.
//!
//! Two that are easily confused: a [`Vertex`] is said to exist, which shows nothing yet; it is
//! [`EventKind::Started`] or [`EventKind::Completed`] that makes it appear, so a plan of a hundred steps of which
//! three are needed shows three.
//!
//! ```
//! use cooper_oci::{Digest, Timestamp};
//! use cooper_progress::{Cursor, Event, EventKind, Log, Plain, Stream, Vertex};
//!
//! let (vertex, name) = (Digest::of("step"), "[base 2/3] COPY main.py .".to_owned());
//! let mut log = Log::new();
//! for (millis, kind) in [
//!     (0, EventKind::Vertex(Vertex { digest: vertex, name, inputs: vec![], stage: None, line: None })),
//!     (0, EventKind::Started { vertex }),
//!     (50, EventKind::Log { vertex, stream: Stream::Stdout, data: b"one line\nhalf".to_vec() }),
//!     (120, EventKind::Completed { vertex, cached: false, error: None }),
//! ] {
//!     log.push(Event { time: Timestamp::from_unix_nanos(millis * 1_000_000)?, kind });
//! }
//!
//! let (mut cursor, mut plain, mut text) = (Cursor::default(), Plain::new(), String::new());
//! for event in log.events_since(&mut cursor) {
//!     plain.render(event, &mut text);
//! }
//! plain.finish(&mut text);
//! assert_eq!(text, "#1 [base 2/3] COPY main.py .\n#1 0.050 one line\n#1 0.050 half\n#1 DONE 0.1s\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod event;
mod lines;
mod log;
mod plain;
mod rawjson;

pub use event::{CANCELED, Event, EventKind, Stream, Vertex, Warning};
pub use lines::clean;
pub use log::{Cursor, Log};
pub use plain::Plain;
pub use rawjson::RawJson;
