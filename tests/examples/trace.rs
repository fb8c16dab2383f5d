//! Builds of a generated trace under a cap: `cargo xtask soak trace`.

fn main() {
    cooper_tests::trials::main(cooper_tests::trials::trace::run);
}
