//! A tiny make: tasks are closures, run in threads, and what was made before is not made again.
//!
//!     cargo run -p cooper-solver --example make              a built-in sample
//!     cargo run -p cooper-solver --example make -- FILE ...  the commonest words of these files
//!
//! Every file is read, split into words and counted, and the counts are added up. Equal files are worked on once; a file
//! of which only the letters' case has changed is read and split again, and no more. The parts to take from here are
//! [`Make`], which is all that a solver needs around it, and the shape of [`Task`].
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program of its own

use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use cooper_solver::{
    DemandId, Edge, Event, Failure, FlightId, JobId, Kept, Key, Node, Note, Out, Priority, Ran, Request,
    ResultId, Solver, VertexId,
};

/// What a task does with the texts that its inputs made.
type Action<'a> = Box<dyn Fn(&[String]) -> Result<String, String> + Sync + 'a>;

struct Task<'a> {
    name: String,
    /// Names the action: tasks of one recipe with equal inputs do the same.
    recipe: String,
    inputs: Vec<usize>,
    action: Action<'a>,
}

/// What is kept from one build to the next.
#[derive(Default)]
struct Make {
    records: HashMap<Key, Vec<Out>>,
    texts: HashMap<ResultId, String>,
}

fn hash(what: &impl Hash) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (salt, chunk) in bytes.chunks_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        (salt, what).hash(&mut hasher);
        chunk.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    bytes
}

impl Make {
    /// Makes the last task's text, and prints what became of each task.
    fn build(&mut self, tasks: &[Task<'_>], threads: usize) -> Result<String, String> {
        let ids: Vec<VertexId> = tasks.iter().map(|task| VertexId(hash(&task.name))).collect();
        let by_id: HashMap<VertexId, usize> = ids.iter().copied().zip(0..).collect();
        let edge = |&task: &usize| Edge { vertex: ids[task], output: 0 };
        let nodes = tasks.iter().zip(&ids).map(|(task, &vertex)| Node {
            vertex,
            inputs: task.inputs.iter().map(edge).collect(),
            outputs: 1,
            pin: false,
            nonce: None,
        });
        let demand = DemandId(0);
        let targets = ids.last().map(|&vertex| Edge { vertex, output: 0 }).into_iter().collect();
        let mut solver: Solver<String> = Solver::new();
        let mut events = std::collections::VecDeque::from([
            Event::Grow { demand, nodes: nodes.collect() },
            Event::Demand { demand, job: JobId(0), targets },
        ]);
        let mut waiting: BinaryHeap<(Priority, FlightId, usize, Vec<String>)> = BinaryHeap::new();
        let mut stopped: HashSet<FlightId> = HashSet::new();
        let mut merged: HashSet<VertexId> = HashSet::new();
        let mut busy = 0;
        let mut outcome = None;
        let (sender, receiver) = mpsc::channel();

        thread::scope(|scope| {
            loop {
                // Runs end in any order; nothing else takes time here.
                let event = match events.pop_front() {
                    Some(event) => event,
                    None if busy > 0 => {
                        busy -= 1;
                        let Ok((flight, made)) = receiver.recv() else { break };
                        Event::Ran { flight, end: self.end(made) }
                    }
                    None => break,
                };
                let mut requests = Vec::new();
                if let Err(misuse) = solver.handle(event, &mut requests) {
                    return Err(misuse.to_string());
                }
                for request in requests {
                    match request {
                        Request::Key { ask, vertex, inputs, .. } => {
                            let key = Key(hash(&(&tasks[by_id[&vertex]].recipe, inputs)));
                            events.push_back(Event::Keyed { ask, key: Ok(key) });
                        }
                        Request::Find { ask, key, .. } => {
                            events.push_back(Event::Found { ask, hit: self.records.get(&key).cloned() });
                        }
                        Request::Run { flight, vertex, inputs, priority, .. } => {
                            let inputs = inputs.iter().map(|input| self.texts[input].clone()).collect();
                            waiting.push((priority, flight, by_id[&vertex], inputs));
                        }
                        Request::Stop { flight } => {
                            stopped.insert(flight);
                        }
                        Request::Keep { flight, key, outs, .. } => {
                            let adopted = self.records.contains_key(&key);
                            let outs = self.records.entry(key).or_insert(outs).clone();
                            events.push_back(Event::Kept { flight, kept: Ok(Kept { outs, adopted }) });
                        }
                        Request::Done { result, .. } => outcome = Some(result),
                        Request::Note(note) => {
                            tell(&note, &mut merged, |vertex| &tasks[by_id[vertex]].name);
                        }
                        // Everything is kept, and no task is a source that moves.
                        Request::Free { .. } | Request::Pin { .. } => {}
                    }
                }
                while busy < threads
                    && let Some((_, flight, task, inputs)) = waiting.pop()
                {
                    if stopped.contains(&flight) {
                        let failure = Failure { error: "stopped".to_owned(), adoptable: false };
                        events.push_back(Event::Ran { flight, end: Ran::Failed(failure) });
                        continue;
                    }
                    busy += 1;
                    let sender = sender.clone();
                    let action = &tasks[task].action;
                    // The receiver outlives the scope, so this cannot fail.
                    scope.spawn(move || drop(sender.send((flight, action(&inputs)))));
                }
            }
            Ok(())
        })?;
        match outcome {
            Some(Ok(results)) => Ok(results.iter().map(|result| self.texts[result].as_str()).collect()),
            Some(Err(failed)) => Err(format!("{}: {}", tasks[by_id[&failed.vertex]].name, failed.error)),
            None => Err("nothing was asked for".to_owned()),
        }
    }

    fn end(&mut self, made: Result<String, String>) -> Ran<String> {
        match made {
            Ok(text) => {
                let result = ResultId(hash(&text));
                self.texts.insert(result, text);
                Ran::Done(vec![Out { result }])
            }
            Err(error) => Ran::Failed(Failure { error, adoptable: true }),
        }
    }
}

/// Notes about a flight come for every task on it; here those of one are enough.
fn tell<'a>(note: &Note<String>, merged: &mut HashSet<VertexId>, name: impl Fn(&VertexId) -> &'a String) {
    match note {
        Note::Merged { vertex, with } => {
            merged.insert(*vertex);
            println!("  {:<12} same as {}", name(vertex), name(with));
        }
        Note::Runs { vertex, .. } if !merged.contains(vertex) => println!("  {:<12} runs", name(vertex)),
        Note::Cached { vertex, .. } if !merged.contains(vertex) => {
            println!("  {:<12} made before", name(vertex));
        }
        Note::Failed { vertex, error } => println!("  {:<12} failed: {error}", name(vertex)),
        _ => {}
    }
}

/// Plans the tasks for some files, the last being the one to make.
fn plan(files: &[(String, String)]) -> Vec<Task<'_>> {
    let mut tasks: Vec<Task<'_>> = Vec::new();
    let mut counts = Vec::new();
    for (name, text) in files {
        let next = tasks.len();
        let mut add = |step: &str, recipe: String, inputs: Vec<usize>, action: Action<'static>| {
            tasks.push(Task { name: format!("{step} {name}"), recipe, inputs, action });
        };
        let content = text.clone();
        add("read", format!("text {text}"), vec![], Box::new(move |_| Ok(content.clone())));
        add("split", "split".to_owned(), vec![next], Box::new(|texts| Ok(split(&texts.concat()))));
        add("count", "count".to_owned(), vec![next + 1], Box::new(|texts| Ok(count(&texts.concat()))));
        counts.push(next + 2);
    }
    tasks.push(Task {
        name: "total".to_owned(),
        recipe: "total".to_owned(),
        inputs: counts,
        action: Box::new(total),
    });
    tasks
}

fn split(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.to_lowercase() + "\n").collect()
}

fn count(words: &str) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    words.lines().for_each(|word| *counts.entry(word).or_default() += 1);
    counts.iter().map(|(word, count)| format!("{count} {word}\n")).collect()
}

fn total(texts: &[String]) -> Result<String, String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let (count, word) = line.split_once(' ').ok_or("not a count")?;
        *counts.entry(word).or_default() += count.parse::<u64>().map_err(|error| error.to_string())?;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
    Ok(counts.iter().take(5).map(|(word, count)| format!("{count:>6} {word}\n")).collect())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let sample = names.is_empty();
    let mut files: Vec<(String, String)> = if sample {
        let texts = ["A stave is a stave.", "The cooper bends the stave.", "A stave is a stave."];
        texts.iter().enumerate().map(|(index, text)| (format!("{index}.txt"), (*text).to_owned())).collect()
    } else {
        let read = |name: String| match std::fs::read_to_string(&name) {
            Ok(text) => Ok((name, text)),
            Err(error) => Err(format!("cannot read `{name}`: {error}")),
        };
        names.into_iter().map(read).collect::<Result<_, _>>()?
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut make = Make::default();
    println!("first build:");
    let first = make.build(&plan(&files), threads)?;
    println!("again:");
    make.build(&plan(&files), threads)?;
    if sample {
        println!("with other letters in 1.txt:");
        files[1].1 = files[1].1.to_uppercase();
        make.build(&plan(&files), threads)?;
    }
    print!("commonest words:\n{first}");
    Ok(())
}
