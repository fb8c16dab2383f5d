//! SIGKILL at random moments of a build: `cargo xtask soak kills`.

fn main() {
    cooper_tests::trials::main(cooper_tests::trials::kills::run);
}
