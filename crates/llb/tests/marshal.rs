//! Bytes, digests and order of what states become.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use cooper_llb::{
    CopyOptions, ExecMount, FileActions, Graph, Op, OpOptions, Owner, Run, SourceMap, State,
    decode_definition, decode_op, encode_definition, encode_op, pb,
};
use cooper_oci::Platform;

fn image(name: &str) -> State {
    State::image(name, BTreeMap::new(), OpOptions::default().name(name))
}

fn run(state: &State, args: &[&str]) -> State {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    state.run(Run { args, ..Run::default() }, OpOptions::default()).unwrap()
}

fn linux() -> Platform {
    Platform::new("linux", "amd64")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_oneof_comes_last_and_constraints_are_always_there() {
    let definition = image("a").marshal(&linux());
    // Platform (field 10), empty constraints (field 11), then the source (field 3).
    let expected =
        "520e0a05616d6436341205".to_owned() + &hex(b"linux") + "5a001a120a10" + &hex(b"docker-image://a");
    assert_eq!(hex(&definition.def[0]), expected);
    let files = State::scratch().file(
        FileActions::new().mkdir("/d", 0o755, true, Some(Owner::parse("0:wheel")), None),
        OpOptions::default(),
    );
    // No platform; uid 0 is written although it is zero, and so is the missing time: -1 in ten bytes.
    let minus = "ffffffffffffffffff01";
    let message = |tag: &str, body: &str| format!("{tag}{:02x}{body}", body.len() / 2);
    let group = message("0a", &(message("0a", &hex(b"wheel")) + "10" + minus));
    let owner = message("22", &(message("0a", "1000") + &message("12", &group)));
    let mkdir = message("0a", &hex(b"/d")) + "10ed03" + "1801" + &owner + "28" + minus;
    let action = message("12", &("08".to_owned() + minus + "10" + minus + &message("32", &mkdir)));
    let expected = "5a00".to_owned() + &message("22", &action);
    assert_eq!(hex(&files.marshal(&linux()).def[0]), expected);
}

#[test]
fn inputs_stand_before_their_readers_in_the_order_of_visiting() {
    let (base, one, two) = (image("base"), image("one"), image("two"));
    let copy = |from: &State| (from.clone(), CopyOptions::default());
    let (first, second) = (copy(&one), copy(&two));
    let actions = FileActions::new().copy(&first.0, "/", "/1", first.1).copy(&second.0, "/", "/2", second.1);
    let state = base.file(actions, OpOptions::default());
    let graph = Graph::new(&state.marshal(&linux())).unwrap();
    let names: Vec<_> = graph.vertices.iter().map(|vertex| vertex.name().unwrap_or("files")).collect();
    // The base, then the sources of the actions from the last to the first.
    assert_eq!(names, ["base", "two", "one", "files"]);
    let read: Vec<usize> = graph.vertices[3].inputs.iter().map(|edge| edge.vertex).collect();
    assert_eq!(read, [0, 2, 1]);
}

#[test]
fn mounts_are_sorted_and_only_written_ones_have_outputs() {
    let base = image("base");
    let mut mounts = vec![ExecMount::bind("/z", &image("z")), ExecMount::bind("/a", &State::scratch())];
    mounts[0].readonly = true;
    let run = Run { args: vec!["x".into()], mounts, ..Run::default() };
    let graph = Graph::new(&base.run(run, OpOptions::default()).unwrap().marshal(&linux())).unwrap();
    let Op::Exec(exec) = &graph.vertices[2].op else { panic!("the last vertex is the exec") };
    let seen: Vec<_> = exec.mounts.iter().map(|m| (m.dest.as_str(), m.input, m.output)).collect();
    assert_eq!(seen, [("/", 0, 0), ("/a", -1, 1), ("/z", 1, -1)]);
}

#[test]
fn equal_ops_are_one_vertex_with_what_was_said_of_both() {
    let map = Arc::new(SourceMap {
        definition: None,
        filename: "Dockerfile".into(),
        language: "Dockerfile".into(),
        data: b"x".to_vec(),
    });
    let line = |line| {
        let at = Some(pb::Position { line, character: 0 });
        vec![pb::Range { start: at, end: at }]
    };
    let twin = |name: &str, number| {
        let options = OpOptions::default().name(name).location(&map, line(number));
        image("base").run(Run { args: vec!["x".into()], ..Run::default() }, options).unwrap()
    };
    let (one, two) = (twin("one", 1), twin("two", 2));
    let both = FileActions::new().copy(&two, "/", "/2", CopyOptions::default());
    let state = one.file(both, OpOptions::default());
    let marshalled = state.marshal_named(&linux());
    assert_eq!(marshalled.digest(&one), marshalled.digest(&two));
    assert_eq!(marshalled.digest(&image("other")), None);
    let graph = Graph::new(&marshalled.definition).unwrap();
    assert_eq!(graph.vertices.len(), 3);
    assert_eq!(graph.vertices[1].name(), Some("two"));
    assert_eq!(graph.vertices[1].locations.len(), 2);
}

#[test]
fn scratch_counts_for_nothing() {
    assert_eq!(State::scratch().marshal(&linux()), pb::Definition::default());
    let merged = State::merge(&[State::scratch(), image("a")], OpOptions::default());
    assert_eq!(merged.marshal(&linux()).def, image("a").marshal(&linux()).def);
}

#[test]
fn deep_graphs_need_no_stack() {
    let mut state = image("base");
    for number in 0..60_000 {
        let files = FileActions::new().mkdir(&format!("/{number}"), 0o755, false, None, None);
        state = state.file(files, OpOptions::default());
    }
    assert_eq!(state.marshal(&linux()).def.len(), 60_002);
    drop(state);
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let state = run(&run(&image("a").add_env("A", "1").with_user("me").with_dir("/w"), &["b"]), &["c", "d"]);
    let definition = state.marshal(&linux());
    let bytes = encode_definition(&definition);
    assert_eq!(encode_definition(&decode_definition(&bytes).unwrap()), bytes);
    for op in &definition.def {
        assert_eq!(encode_op(&decode_op(op).unwrap()), *op);
    }
}
