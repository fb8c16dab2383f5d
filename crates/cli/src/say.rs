//! Writing to people and pipes, either of which may be gone.

use std::io::{self, Write as _};

use anyhow::Result;

/// Standard output took no more: what was asked for did not arrive.
#[derive(Debug)]
pub(crate) struct Unwritten(io::Error);

impl std::fmt::Display for Unwritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot write to standard output")
    }
}

impl std::error::Error for Unwritten {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Writes what was asked for.
pub(crate) fn out(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Unwritten(error).into())
}

/// Writes what accompanies it. Nobody may be listening any more: that is no reason to stop, nor to panic.
pub(crate) fn err(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
