//! Graphs of 100,000 vertices (10,000 without optimization): the work is near linear, and nothing recurses.
//!
//! The limit is far above what each shape needs, about a second, and far below what anything quadratic would take.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests are tests

use std::time::{Duration, Instant};

use cooper_solver::{
    DemandId, Edge, Event, JobId, Kept, Key, Node, Out, Ran, Request, ResultId, Solver, VertexId,
};

const COUNT: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
const LIMIT: Duration = Duration::from_secs(60);

fn id(number: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    // Distinct from the start, as hashes are.
    bytes[8..16].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes
}

fn number(bytes: [u8; 32]) -> usize {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(number) as usize
}

fn node(vertex: usize, inputs: &[usize]) -> Node {
    let inputs = inputs.iter().map(|&input| Edge { vertex: VertexId(id(input)), output: 0 }).collect();
    Node { vertex: VertexId(id(vertex)), inputs, outputs: 1, pin: false, nonce: None }
}

/// Feeds an event and answers all that follows at once; every vertex runs. Returns how many did.
fn drive(solver: &mut Solver<()>, event: Event<()>, key: impl Fn(usize) -> usize) -> usize {
    let mut runs = 0;
    let mut events = vec![event];
    let mut requests = Vec::new();
    while let Some(event) = events.pop() {
        solver.handle(event, &mut requests).unwrap();
        for request in requests.drain(..) {
            match request {
                Request::Key { ask, vertex, .. } => {
                    events.push(Event::Keyed { ask, key: Ok(Key(id(key(number(vertex.0))))) });
                }
                Request::Find { ask, .. } => events.push(Event::Found { ask, hit: None }),
                Request::Run { flight, key, .. } => {
                    runs += 1;
                    let end = Ran::Done(vec![Out { result: ResultId(key.0) }]);
                    events.push(Event::Ran { flight, end });
                }
                Request::Keep { flight, outs, .. } => {
                    events.push(Event::Kept { flight, kept: Ok(Kept { outs, adopted: false }) });
                }
                _ => {}
            }
        }
    }
    assert_eq!(solver.unanswered(), 0);
    runs
}

/// Builds a graph, loses its first vertex, builds again, and drops it.
fn whole_life(name: &str, nodes: Vec<Node>, key: impl Fn(usize) -> usize, distinct: usize) {
    let start = Instant::now();
    let mut solver = Solver::new();
    let demand = DemandId(1);
    let top = nodes.last().unwrap().vertex;
    let count = nodes.len();
    assert_eq!(drive(&mut solver, Event::Grow { demand, nodes }, &key), 0);
    let targets = vec![Edge { vertex: top, output: 0 }];
    let runs = drive(&mut solver, Event::Demand { demand, job: JobId(1), targets }, &key);
    assert_eq!(runs, distinct);
    let built = start.elapsed();
    assert_eq!(solver.vertices(), count);
    // Only what was lost runs again, for all keys come out the same.
    let lost = solver.outs(&VertexId(id(0))).unwrap()[0].result;
    assert_eq!(drive(&mut solver, Event::Lost { result: lost }, &key), 1);
    let again = start.elapsed() - built;
    drive(&mut solver, Event::Drop { demand }, &key);
    assert_eq!(solver.vertices(), 0);
    let all = start.elapsed();
    println!("{name}: {count} vertices built {built:.2?}, lost and built {again:.2?}, all {all:.2?}");
    assert!(all < LIMIT, "{name} took {all:?}");
}

#[test]
fn chain() {
    let nodes = (0..COUNT).map(|vertex| node(vertex, &[vertex.saturating_sub(1)][..vertex.min(1)])).collect();
    whole_life("chain", nodes, |vertex| vertex, COUNT);
}

#[test]
fn fan() {
    let mut nodes = vec![node(0, &[])];
    nodes.extend((1..COUNT).map(|vertex| node(vertex, &[0])));
    let middle: Vec<usize> = (1..COUNT).collect();
    nodes.push(node(COUNT, &middle));
    whole_life("fan", nodes, |vertex| vertex, COUNT + 1);
}

#[test]
fn diamonds() {
    let mut nodes = vec![node(0, &[]), node(1, &[0])];
    nodes.extend((2..COUNT).map(|vertex| node(vertex, &[vertex - 1, vertex - 2])));
    whole_life("diamonds", nodes, |vertex| vertex, COUNT);
}

#[test]
fn all_the_same() {
    let mut nodes = vec![node(0, &[])];
    nodes.extend((1..COUNT).map(|vertex| node(vertex, &[0])));
    let middle: Vec<usize> = (1..COUNT).collect();
    nodes.push(node(COUNT, &middle));
    let key = |vertex| if (1..COUNT).contains(&vertex) { 1 } else { vertex };
    whole_life("all the same", nodes, key, 3);
}

#[test]
fn grown_one_by_one() {
    let start = Instant::now();
    let mut solver: Solver<()> = Solver::new();
    let demand = DemandId(1);
    for vertex in 0..COUNT {
        let nodes = vec![node(vertex, &[vertex.saturating_sub(1)][..vertex.min(1)])];
        solver.handle(Event::Grow { demand, nodes }, &mut Vec::new()).unwrap();
    }
    let targets = vec![Edge { vertex: VertexId(id(COUNT - 1)), output: 0 }];
    let key = |vertex| vertex;
    assert_eq!(drive(&mut solver, Event::Demand { demand, job: JobId(1), targets }, key), COUNT);
    println!("grown one by one: {:.2?}", start.elapsed());
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn many_demands_share_one_graph() {
    let start = Instant::now();
    let mut solver: Solver<()> = Solver::new();
    let holder = DemandId(0);
    let nodes = (0..COUNT).map(|vertex| node(vertex, &[vertex.saturating_sub(1)][..vertex.min(1)])).collect();
    solver.handle(Event::Grow { demand: holder, nodes }, &mut Vec::new()).unwrap();
    for demand in (1..COUNT).rev() {
        let targets = vec![Edge { vertex: VertexId(id(demand)), output: 0 }];
        let demand = DemandId(demand as u64);
        solver.handle(Event::Demand { demand, job: JobId(1), targets }, &mut Vec::new()).unwrap();
    }
    let mut requests = Vec::new();
    for demand in (1..COUNT as u64).rev().map(DemandId) {
        solver.handle(Event::Drop { demand }, &mut requests).unwrap();
    }
    println!("many demands: {:.2?}", start.elapsed());
    assert!(start.elapsed() < LIMIT);
}
