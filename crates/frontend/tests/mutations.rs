//! A sample of `cargo xtask soak dockerfile`, always the same.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "../examples/mutations/mutate.rs"]
mod mutate;
mod stub;

#[test]
fn damaged_texts_end() {
    let converted = (1..=1_000).filter(|seed| mutate::trial(*seed)).count();
    // Damage that leaves nothing to convert would test the parser's errors alone.
    assert!(converted > 100, "{converted} of 1000");
    assert!(!mutate::exercise(b""));
}
