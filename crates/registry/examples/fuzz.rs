//! Reads damaged input for minutes: `fuzz --target authenticate --seed 1 --count 1000 --seconds 300`.

#[path = "../tests/it/fuzz.rs"]
mod fuzz;

fn main() -> std::process::ExitCode {
    cooper_tests::fuzz::main(fuzz::TARGETS)
}
