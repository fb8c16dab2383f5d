//! Reads damaged input for minutes: `fuzz --target store | store-files --seed 1 --count 1000 --seconds 300`.

#[path = "../tests/fuzz.rs"]
mod fuzz;

fn main() -> std::process::ExitCode {
    cooper_tests::fuzz::main(fuzz::TARGETS)
}
