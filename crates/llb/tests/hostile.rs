//! Definitions that somebody sends may be anything: reading them never panics.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use cooper_llb::{
    CopyOptions, FileActions, Graph, OpOptions, Run, State, decode_definition, encode_definition, to_dot,
    to_json_lines,
};
use cooper_oci::Platform;
use proptest::prelude::*;

fn sample() -> Vec<u8> {
    let base = State::image("a", BTreeMap::new(), OpOptions::default().name("base"));
    let ran = base.run(Run { args: vec!["x".into()], ..Run::default() }, OpOptions::default()).unwrap();
    let copied = FileActions::new().copy(&ran, "/", "/x", CopyOptions::default());
    encode_definition(&base.file(copied, OpOptions::default()).marshal(&Platform::new("linux", "amd64")))
}

fn read(bytes: &[u8]) {
    if let Ok(definition) = decode_definition(bytes) {
        let _ = (Graph::new(&definition), to_dot(&definition), to_json_lines(&definition));
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn a_real_one_with_damage(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = sample();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        read(&bytes);
    }

    #[test]
    fn ops_that_are_swapped_or_left_out(order in prop::collection::vec(0..4usize, 0..6)) {
        let mut definition = decode_definition(&sample()).unwrap();
        let ops = definition.def.clone();
        definition.def = order.iter().filter_map(|index| ops.get(*index).cloned()).collect();
        let _ = (Graph::new(&definition), to_dot(&definition), to_json_lines(&definition));
    }
}
