//! Any events in any order: nothing panics, a refused event changes nothing, and all is gone in the end.

use cooper_solver::{
    AskId, DemandId, Edge, Event, Failure, FlightId, JobId, Kept, Key, Node, Nonce, Out, Pin, Ran, Request,
    ResultId, Solver, Unkeyed, VertexId,
};
use proptest::prelude::*;

fn id(number: u8) -> [u8; 32] {
    [number; 32]
}

/// Few names, so that they meet.
fn edge() -> impl Strategy<Value = Edge> {
    (0..8u8, 0..2u32).prop_map(|(vertex, output)| Edge { vertex: VertexId(id(vertex)), output })
}

fn node() -> impl Strategy<Value = Node> {
    (0..8u8, prop::collection::vec(edge(), 0..3), prop::option::weighted(0.2, 0..2u8)).prop_map(
        |(vertex, inputs, nonce)| {
            // Mostly a graph: readers have greater names. What is not is refused.
            let inputs: Vec<Edge> =
                inputs.into_iter().filter(|edge| vertex == 7 || edge.vertex < VertexId(id(vertex))).collect();
            let nonce = nonce.map(|nonce| Nonce(id(nonce)));
            Node {
                vertex: VertexId(id(vertex)),
                pin: inputs.is_empty(),
                inputs,
                outputs: 1 + u32::from(vertex % 3 == 0),
                nonce,
            }
        },
    )
}

fn outs() -> impl Strategy<Value = Vec<Out>> {
    prop::collection::vec((0..6u8).prop_map(|result| Out { result: ResultId(id(result)) }), 1..3)
}

fn failure() -> impl Strategy<Value = Failure<u8>> {
    (0..3u8, any::<bool>()).prop_map(|(error, adoptable)| Failure { error, adoptable })
}

/// Numbers of questions and flights come from one counter, so small ones are often right.
fn event() -> impl Strategy<Value = Event<u8>> {
    let demand = || (0..3u64).prop_map(DemandId);
    let ask = || (0..60u64).prop_map(AskId);
    let flight = || (0..60u64).prop_map(FlightId);
    let result = || (0..6u8).prop_map(|result| ResultId(id(result)));
    prop_oneof![
        2 => (demand(), prop::collection::vec(node(), 1..8)).prop_map(|(demand, nodes)| Event::Grow { demand, nodes }),
        2 => (demand(), 0..2u64, prop::collection::vec(edge(), 0..3))
            .prop_map(|(demand, job, targets)| Event::Demand { demand, job: JobId(job), targets }),
        1 => demand().prop_map(|demand| Event::Drop { demand }),
        4 => (ask(), any::<u8>()).prop_map(|(ask, pin)| Event::Pinned { ask, pin: Ok(Pin(id(pin))) }),
        1 => (ask(), failure()).prop_map(|(ask, failure)| Event::Pinned { ask, pin: Err(failure) }),
        8 => (ask(), 0..6u8).prop_map(|(ask, key)| Event::Keyed { ask, key: Ok(Key(id(key))) }),
        1 => (ask(), result()).prop_map(|(ask, result)| Event::Keyed { ask, key: Err(Unkeyed::Missing(result)) }),
        1 => (ask(), failure()).prop_map(|(ask, failure)| Event::Keyed { ask, key: Err(Unkeyed::Failed(failure)) }),
        8 => (ask(), prop::option::of(outs())).prop_map(|(ask, hit)| Event::Found { ask, hit }),
        1 => flight().prop_map(|flight| Event::Begun { flight }),
        8 => (flight(), outs()).prop_map(|(flight, outs)| Event::Ran { flight, end: Ran::Done(outs) }),
        1 => (flight(), result()).prop_map(|(flight, result)| Event::Ran { flight, end: Ran::Missing(result) }),
        1 => flight().prop_map(|flight| Event::Ran { flight, end: Ran::KeyStale }),
        1 => (flight(), failure()).prop_map(|(flight, failure)| Event::Ran { flight, end: Ran::Failed(failure) }),
        8 => (flight(), outs(), any::<bool>())
            .prop_map(|(flight, outs, adopted)| Event::Kept { flight, kept: Ok(Kept { outs, adopted }) }),
        1 => (flight(), failure()).prop_map(|(flight, failure)| Event::Kept { flight, kept: Err(failure) }),
        2 => result().prop_map(|result| Event::Lost { result }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_in_any_order(events in prop::collection::vec(event(), 1..150)) {
        let mut solver = Solver::new();
        let mut requests = Vec::new();
        for event in events {
            let before = (requests.len(), solver.vertices(), solver.unanswered());
            if solver.handle(event, &mut requests).is_err() {
                prop_assert_eq!(before, (requests.len(), solver.vertices(), solver.unanswered()));
            }
        }
        for demand in (0..3).map(DemandId) {
            let _ = solver.handle(Event::Drop { demand }, &mut requests);
        }
        prop_assert_eq!(solver.vertices(), 0);
        // Whatever is still open is answered once; nothing new may follow but a `Keep`.
        let mut opened = 0;
        while opened < requests.len() {
            let answer = match &requests[opened] {
                Request::Pin { ask, .. } => Some(Event::Pinned { ask: *ask, pin: Ok(Pin(id(0))) }),
                Request::Key { ask, .. } => Some(Event::Keyed { ask: *ask, key: Ok(Key(id(0))) }),
                Request::Find { ask, .. } => Some(Event::Found { ask: *ask, hit: None }),
                Request::Run { flight, .. } => Some(Event::Ran { flight: *flight, end: Ran::KeyStale }),
                Request::Keep { flight, .. } => {
                    let failure = Failure { error: 0, adoptable: false };
                    Some(Event::Kept { flight: *flight, kept: Err(failure) })
                }
                _ => None,
            };
            opened += 1;
            // Most were answered above; then this is refused.
            answer.map(|answer| solver.handle(answer, &mut requests));
        }
        prop_assert_eq!(solver.unanswered(), 0);
    }
}
