//! Sixteen processes at once on one Dockerfile: `cargo xtask soak flights`.

fn main() {
    cooper_tests::trials::main(cooper_tests::trials::flights::run);
}
