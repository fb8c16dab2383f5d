//! Signals that ask to end.

use std::sync::atomic::{AtomicU8, Ordering};

use cooper_engine::Cancel;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of the first signal that came; 0 for none.
static CAME: AtomicU8 = AtomicU8::new(0);

/// Returns the exit code of a build that was interrupted: 128 and the number of the signal, as shells have it.
pub(crate) fn exit_code() -> u8 {
    match CAME.load(Ordering::Relaxed) {
        0 => 130,
        number => 128 + number,
    }
}

/// Cancels on the first signal that asks to end; the second one ends the process at once. Its steps die with it, and what
/// it leaves in the store is cleared up by the next build.
///
/// A signal that was ignored when the process began (by `nohup`, by a shell for what it runs in the background) stays so.
pub(crate) async fn interrupted(cancel: Cancel) {
    let ignored = ignored();
    let listen = |kind: SignalKind| {
        let bit = u32::try_from(kind.as_raw_value() - 1).ok().and_then(|bit| 1_u64.checked_shl(bit));
        if bit.is_some_and(|bit| ignored & bit != 0) { None } else { signal(kind).ok() }
    };
    let (mut interrupt, mut terminate, mut hangup) =
        (listen(SignalKind::interrupt()), listen(SignalKind::terminate()), listen(SignalKind::hangup()));
    loop {
        let kind = tokio::select! {
            () = come(&mut interrupt) => SignalKind::interrupt(),
            () = come(&mut terminate) => SignalKind::terminate(),
            () = come(&mut hangup) => SignalKind::hangup(),
        };
        let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
        if CAME.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            std::process::exit(i32::from(128 + number));
        }
        cancel.cancel();
    }
}

async fn come(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Returns the signals that this process ignores: bit n is signal n + 1 (proc(5)).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
