//! Damaged input for readers of outside data: valid samples, changed at random from a seed.
//!
//! A [`Target`] says what its samples are and what must hold of any bytes. A sample of its inputs is a test
//! ([`sample`]); minutes of it are `cargo xtask soak fuzz-NAME` ([`main`]). A finding names the seed that makes its
//! input again: `--seed SEED --count 1 --seconds 0`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::trials::Random;

/// One reader.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name for `--target`.
    pub name: &'static str,
    /// Valid input.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Words that mean something to it.
    pub words: &'static [&'static str],
    /// Reads an input: whether it was taken, or what is wrong with the reader.
    pub check: fn(&[u8]) -> Result<bool, String>,
}

/// What many inputs gave.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of inputs.
    pub inputs: u64,
    /// Those that the reader took.
    pub taken: u64,
    /// The slowest one.
    pub slowest: Duration,
    /// Seeds and what is wrong.
    pub findings: Vec<(u64, String)>,
}

/// Longest input in bytes; long ones show what is not linear.
const LONGEST: usize = 1 << 20;
/// No reader may take longer for an input, on a machine with other work.
const SLOW: Duration = Duration::from_secs(10);
/// A reader that takes this long never ends.
const HANGS: Duration = Duration::from_secs(120);
const MOST_FINDINGS: usize = 20;

/// Makes the input of a seed.
pub fn input(target: &Target, samples: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    // Neighbouring seeds begin alike.
    for _ in 0..4 {
        random.below(2);
    }
    let any = |random: &mut Random| samples[random.below(samples.len() as u64) as usize].clone();
    let mut out = any(&mut random);
    let changes = [0, 1, 1, 1, 2, 3, 8, 30][random.below(8) as usize];
    for _ in 0..changes {
        let at = random.below(out.len() as u64 + 1) as usize;
        let end = (at + [1, 2, 8, 60, 600][random.below(5) as usize]).min(out.len());
        match random.below(10) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 if at < out.len() => {
                let bytes = b"\0\x01\x7f\x80\xff 09AZ/.:\"\\\n=,{}[]-@";
                out[at] = bytes[random.below(bytes.len() as u64) as usize];
            }
            2 if !target.words.is_empty() => {
                let word = target.words[random.below(target.words.len() as u64) as usize];
                out.splice(at..at, word.bytes());
            }
            3 => drop(out.drain(at..end)),
            4 => {
                let part = out[at..end].to_vec();
                let to = random.below(out.len() as u64 + 1) as usize;
                out.splice(to..to, part);
            }
            5 => {
                let other = any(&mut random);
                let from = random.below(other.len() as u64 + 1) as usize;
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
            6 if random.below(4) == 0 => out.truncate(at),
            7 => number(&mut out, at, &mut random),
            8 if random.below(20) == 0 && at < end => {
                let part = out[at..end].to_vec();
                let times = LONGEST.saturating_sub(out.len()) / part.len();
                out.splice(at..at, part.repeat(times >> random.below(8)));
            }
            _ if at < out.len() => out[at] = random.below(256) as u8,
            _ => {}
        }
        out.truncate(LONGEST);
    }
    out
}

/// Puts a number at a bound in the place of the next one.
fn number(out: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = out[at..].iter().position(u8::is_ascii_digit).map(|found| found + at) else { return };
    let length = out[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let bounds = [
        "0",
        "1",
        "-1",
        "255",
        "511",
        "512",
        "513",
        "65536",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e999",
    ];
    let bound = bounds[random.below(bounds.len() as u64) as usize];
    out.splice(start..start + length, bound.bytes());
}

/// Reads the inputs of at least `count` seeds, for at least this long.
pub fn run(target: &Target, first: u64, count: u64, time: Duration) -> Report {
    let samples = (target.samples)();
    assert!(!samples.is_empty(), "`{}` has no samples", target.name);
    let mut report = Report::default();
    let begun = Instant::now();
    while report.inputs < count || begun.elapsed() < time {
        let seed = first.wrapping_add(report.inputs);
        let bytes = input(target, &samples, seed);
        let watch = Watch::new(target.name, seed);
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (target.check)(&bytes)));
        let took = start.elapsed();
        drop(watch);
        report.inputs += 1;
        report.slowest = report.slowest.max(took);
        let wrong = match result {
            Ok(Ok(taken)) => {
                report.taken += u64::from(taken);
                (took > SLOW).then(|| format!("{} bytes took {took:?}", bytes.len()))
            }
            Ok(Err(wrong)) => Some(wrong),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Some(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
            }
        };
        report.findings.extend(wrong.map(|wrong| (seed, wrong)));
        if report.findings.len() >= MOST_FINDINGS {
            break;
        }
    }
    report
}

/// Ends the process if an input is never done with: nothing else could tell which one it is.
struct Watch(Arc<AtomicU64>);

impl Watch {
    fn new(name: &'static str, seed: u64) -> Self {
        use std::sync::OnceLock;
        static NOW: OnceLock<Arc<AtomicU64>> = OnceLock::new();
        static BUSY: OnceLock<Arc<AtomicU64>> = OnceLock::new();
        let begun = NOW.get_or_init(Arc::default);
        let busy = BUSY.get_or_init(|| {
            let (begun, busy) = (begun.clone(), Arc::new(AtomicU64::new(0)));
            let seen = busy.clone();
            std::thread::spawn(move || {
                let (mut last, mut since) = (0, Instant::now());
                loop {
                    std::thread::sleep(Duration::from_secs(5));
                    let now = seen.load(Ordering::SeqCst);
                    if now != last || now % 2 == 0 {
                        (last, since) = (now, Instant::now());
                    } else if since.elapsed() > HANGS {
                        eprintln!("`{name}` hangs at seed {}", begun.load(Ordering::SeqCst));
                        std::process::exit(3);
                    }
                }
            });
            busy
        });
        begun.store(seed, Ordering::SeqCst);
        // Odd while an input is being read.
        busy.fetch_add(1, Ordering::SeqCst);
        Self(busy.clone())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A sample with fixed seeds, as a test: no findings, and both kinds of answers were there.
#[track_caller]
pub fn sample(target: &Target, count: u64) {
    let report = run(target, 1, count, Duration::ZERO);
    assert!(report.findings.is_empty(), "{}: {:#?}", target.name, report.findings);
    assert!(report.taken > 0 && report.taken < report.inputs, "{}: {report:?}", target.name);
}

/// A program's whole work: `--target NAME --seed N --count N --seconds N`, the result as a line of JSON.
pub fn main(targets: &[Target]) -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let word = |name: &str| words.get(words.iter().position(|word| word == name)? + 1).cloned();
    let number = |name: &str| word(name).and_then(|word| word.parse().ok());
    let name = word("--target").unwrap_or_default();
    let names: Vec<_> = targets.iter().map(|target| target.name).collect();
    let Some(target) = targets.iter().find(|target| target.name == name) else {
        eprintln!("expected --target with one of: {}", names.join(", "));
        return ExitCode::from(2);
    };
    let (seed, count) = (number("--seed").unwrap_or(1), number("--count").unwrap_or(1000));
    std::panic::set_hook(Box::new(|_| {}));
    let report = run(target, seed, count, Duration::from_secs(number("--seconds").unwrap_or(0)));
    let result = serde_json::json!({
        "inputs": report.inputs,
        "taken": report.taken,
        "slowest_ms": report.slowest.as_millis() as u64,
        "findings": report.findings,
    });
    #[allow(clippy::print_stdout, reason = "a program's result")]
    {
        println!("{result}");
    }
    ExitCode::from(u8::from(!report.findings.is_empty()))
}
