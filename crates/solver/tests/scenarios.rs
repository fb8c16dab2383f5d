//! Scenarios: what goes in and what comes out, as text in `tests/scenarios/*.txt`.
//!
//! A line that begins with `>` is a command, the lines below it are the requests that follow. Everything is named by
//! short words. With `UPDATE_SCENARIOS=1` the files are rewritten: read the difference before you commit it.
//!
//! ```text
//! > vertex NAME [xN] [forced NONCE] [<- INPUT[.OUTPUT] ...]     a source if it has no inputs
//! > want DEMAND JOB TARGET[.OUTPUT] ...                         grows what is below the targets, and opens the demand
//! > drop DEMAND
//! > pinned NAME PIN | unpinned NAME
//! > keyed NAME KEY | unkeyed NAME | keymiss NAME RESULT
//! > hit NAME RESULT ... | miss NAME
//! > begun NAME
//! > ran NAME RESULT ... | failed NAME [own] | missing NAME RESULT | stale NAME
//! > kept NAME [RESULT ...] | adopted NAME RESULT ... | unkept NAME
//! > lost RESULT
//! ```
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;

use cooper_solver::{
    AskId, DemandId, Edge, Event, Failure, FlightId, JobId, Kept, Key, Node, Nonce, Note, Out, Pin, Ran,
    Request, ResultId, Solver, Unkeyed, VertexId,
};

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the scenarios are gone");
    let mut wrong = Vec::new();
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = play(&expected);
        if actual == expected {
            continue;
        }
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(&file, actual).unwrap();
        } else {
            wrong.push(format!("{}:\n{actual}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "these came out differently:\n{}", wrong.join("\n"));
}

/// Plays the commands of a scenario and returns its text with the requests that really follow.
fn play(text: &str) -> String {
    let mut stage = Stage::default();
    let mut played = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix('>') {
            writeln!(played, "{line}").unwrap();
            let words: Vec<&str> = command.split_whitespace().collect();
            for event in stage.events(&words) {
                let mut requests = Vec::new();
                match stage.solver.handle(event, &mut requests) {
                    Ok(()) => {}
                    Err(misuse) => writeln!(played, "misuse: {misuse}").unwrap(),
                }
                for request in requests {
                    writeln!(played, "{}", stage.show(request)).unwrap();
                }
            }
        } else if line.starts_with('#') || line.is_empty() {
            writeln!(played, "{line}").unwrap();
        }
    }
    played
}

#[derive(Default)]
struct Stage {
    solver: Solver<&'static str>,
    nodes: Vec<Node>,
    asks: HashMap<(&'static str, String), AskId>,
    flights: HashMap<String, FlightId>,
    made: HashMap<String, Vec<Out>>,
    names: BTreeMap<FlightId, String>,
}

/// A word as an id: its letters, then zeroes.
fn id(word: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..word.len()].copy_from_slice(word.as_bytes());
    bytes
}

fn word(bytes: [u8; 32]) -> String {
    String::from_utf8(bytes.iter().copied().take_while(|&byte| byte != 0).collect()).unwrap()
}

fn edge(word: &str) -> Edge {
    let (vertex, output) = word.split_once('.').unwrap_or((word, "0"));
    Edge { vertex: VertexId(id(vertex)), output: output.parse().unwrap() }
}

fn outs(words: &[&str]) -> Vec<Out> {
    words.iter().map(|word| Out { result: ResultId(id(word)) }).collect()
}

fn failure(error: &'static str, adoptable: bool) -> Failure<&'static str> {
    Failure { error, adoptable }
}

impl Stage {
    fn ask(&self, kind: &'static str, name: &str) -> AskId {
        *self.asks.get(&(kind, name.to_owned())).unwrap_or(&AskId(0))
    }

    fn flight(&self, name: &str) -> FlightId {
        *self.flights.get(name).unwrap_or(&FlightId(0))
    }

    fn vertex(&mut self, words: &[&str]) {
        let (head, inputs) = match words.iter().position(|&word| word == "<-") {
            Some(at) => (&words[..at], &words[at + 1..]),
            None => (words, &[][..]),
        };
        let after = |name: &str| head.iter().skip_while(|&&word| word != name).nth(1);
        self.nodes.retain(|node| node.vertex != VertexId(id(head[0])));
        self.nodes.push(Node {
            vertex: VertexId(id(head[0])),
            inputs: inputs.iter().map(|word| edge(word)).collect(),
            outputs: head.iter().skip(1).find_map(|word| word.strip_prefix('x')?.parse().ok()).unwrap_or(1),
            pin: inputs.is_empty(),
            nonce: after("forced").map(|nonce| Nonce(id(nonce))),
        });
    }

    fn below(&self, targets: &[Edge]) -> Vec<Node> {
        let mut wanted: Vec<VertexId> = targets.iter().map(|edge| edge.vertex).collect();
        let mut nodes: Vec<Node> = Vec::new();
        for node in self.nodes.iter().rev() {
            if wanted.contains(&node.vertex) {
                wanted.extend(node.inputs.iter().map(|edge| edge.vertex));
                nodes.insert(0, node.clone());
            }
        }
        nodes
    }

    fn events(&mut self, words: &[&str]) -> Vec<Event<&'static str>> {
        let (command, name, rest) = (words[0], words[1], &words[2..]);
        let event = match command {
            "vertex" => {
                self.vertex(&words[1..]);
                return Vec::new();
            }
            "want" => {
                let targets: Vec<Edge> = rest[1..].iter().map(|word| edge(word)).collect();
                let (demand, job) = (DemandId(name.parse().unwrap()), JobId(rest[0].parse().unwrap()));
                let nodes = self.below(&targets);
                return vec![Event::Grow { demand, nodes }, Event::Demand { demand, job, targets }];
            }
            "drop" => Event::Drop { demand: DemandId(name.parse().unwrap()) },
            "pinned" => Event::Pinned { ask: self.ask("pin", name), pin: Ok(Pin(id(rest[0]))) },
            "unpinned" => {
                Event::Pinned { ask: self.ask("pin", name), pin: Err(failure("no such image", false)) }
            }
            "keyed" => Event::Keyed { ask: self.ask("key", name), key: Ok(Key(id(rest[0]))) },
            "unkeyed" => Event::Keyed {
                ask: self.ask("key", name),
                key: Err(Unkeyed::Failed(failure("no such file", true))),
            },
            "keymiss" => {
                Event::Keyed { ask: self.ask("key", name), key: Err(Unkeyed::Missing(ResultId(id(rest[0])))) }
            }
            "hit" => Event::Found { ask: self.ask("find", name), hit: Some(outs(rest)) },
            "miss" => Event::Found { ask: self.ask("find", name), hit: None },
            "begun" => Event::Begun { flight: self.flight(name) },
            "ran" => Event::Ran { flight: self.flight(name), end: Ran::Done(outs(rest)) },
            "elsewhere" => Event::Ran { flight: self.flight(name), end: Ran::Found(outs(rest)) },
            "failed" => Event::Ran {
                flight: self.flight(name),
                end: Ran::Failed(failure("exit code 1", rest.is_empty())),
            },
            "missing" => Event::Ran { flight: self.flight(name), end: Ran::Missing(ResultId(id(rest[0]))) },
            "stale" => Event::Ran { flight: self.flight(name), end: Ran::KeyStale },
            "kept" | "adopted" => {
                let outs = if rest.is_empty() { self.made[name].clone() } else { outs(rest) };
                let kept = Kept { outs, adopted: command == "adopted" };
                Event::Kept { flight: self.flight(name), kept: Ok(kept) }
            }
            "unkept" => Event::Kept { flight: self.flight(name), kept: Err(failure("no space left", false)) },
            "lost" => Event::Lost { result: ResultId(id(name)) },
            other => panic!("no command `{other}`"),
        };
        vec![event]
    }

    fn show(&mut self, request: Request<&'static str>) -> String {
        let results = |results: &[ResultId]| {
            let words: Vec<String> = results.iter().map(|result| word(result.0)).collect();
            format!("[{}]", words.join(" "))
        };
        match request {
            Request::Pin { ask, vertex, job } => {
                self.asks.insert(("pin", word(vertex.0)), ask);
                format!("pin {} for {job}", word(vertex.0))
            }
            Request::Key { ask, vertex, job, pin, inputs } => {
                self.asks.insert(("key", word(vertex.0)), ask);
                let pin = pin.map(|pin| format!("@{}", word(pin.0))).unwrap_or_default();
                format!("key {}{pin} of {} for {job}", word(vertex.0), results(&inputs))
            }
            Request::Find { ask, vertex, key, need_bytes } => {
                self.asks.insert(("find", word(vertex.0)), ask);
                let bytes = if need_bytes { " with bytes" } else { "" };
                format!("find {} under {}{bytes}", word(vertex.0), word(key.0))
            }
            Request::Run { flight, vertex, key, nonce, job, inputs, need_bytes, priority, .. } => {
                let name = word(vertex.0);
                self.flights.insert(name.clone(), flight);
                self.names.insert(flight, name.clone());
                let nonce = nonce.map(|nonce| format!("+{}", word(nonce.0))).unwrap_or_default();
                let bytes = if need_bytes { " to bytes" } else { "" };
                let (key, inputs) = (word(key.0), results(&inputs));
                let (path, readers) = (priority.path, priority.readers);
                format!(
                    "run {name} under {key}{nonce} of {inputs} for {job}{bytes}, path {path}, readers {readers}"
                )
            }
            Request::Stop { flight } => format!("stop {}", self.names[&flight]),
            Request::Keep { vertex, key, nonce, outs, .. } => {
                self.made.insert(word(vertex.0), outs.clone());
                let outs: Vec<ResultId> = outs.iter().map(|out| out.result).collect();
                let nonce = nonce.map(|nonce| format!("+{}", word(nonce.0))).unwrap_or_default();
                format!("keep {} under {}{nonce}: {}", word(vertex.0), word(key.0), results(&outs))
            }
            Request::Free { results: freed } => format!("free {}", results(&freed)),
            Request::Done { demand, result: Ok(done) } => format!("done {demand} {}", results(&done)),
            Request::Done { demand, result: Err(failed) } => {
                format!("failed {demand}: {} {}", word(failed.vertex.0), failed.error)
            }
            Request::Note(note) => format!("  {}", show_note(note)),
        }
    }
}

fn show_note(note: Note<&'static str>) -> String {
    match note {
        Note::Shared { vertex, demand } => format!("{} is in {demand} too", word(vertex.0)),
        Note::Merged { vertex, with } => format!("{} same as {}", word(vertex.0), word(with.0)),
        Note::Runs { vertex, why, .. } => format!("{} runs: {why:?}", word(vertex.0)),
        Note::Started { vertex, .. } => format!("{} started", word(vertex.0)),
        Note::Cached { vertex, after: None } => format!("{} cached", word(vertex.0)),
        Note::Cached { vertex, after: Some(after) } => {
            format!("{} cached, for {} made the same again", word(vertex.0), word(after.0))
        }
        Note::CutOff { vertex } => format!("{} made an earlier result", word(vertex.0)),
        Note::Outrun { vertex } => format!("{} was outrun", word(vertex.0)),
        Note::Unchanged { vertex } => format!("{} unchanged", word(vertex.0)),
        Note::Bound { vertex, .. } => format!("{} bound", word(vertex.0)),
        Note::Unbound { vertex, lost: true } => format!("{} lost", word(vertex.0)),
        Note::Unbound { vertex, lost: false } => format!("{} unbound", word(vertex.0)),
        Note::Cancelled { vertex } => format!("{} cancelled", word(vertex.0)),
        Note::Failed { vertex, error } => format!("{} failed: {error}", word(vertex.0)),
    }
}
