//! Names of signals that `STOPSIGNAL` takes.

const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Checks a number, or a name of Linux with or without `SIG`, in any case.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let bad = || format!("invalid signal: {text}");
    if let Ok(number) = crate::gofmt::parse_int(text) {
        return if number == 0 { Err(bad()) } else { Ok(()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Real-time signals count from both ends and meet in the middle.
    let real_time = |prefix: &str, last: u32| {
        name.strip_prefix(prefix).is_some_and(|number| (1..=last).any(|valid| valid.to_string() == number))
    };
    let known = NAMES.contains(&name);
    if known || real_time("RTMIN+", 15) || real_time("RTMAX-", 14) { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn signals() {
        for good in ["9", "SIGTERM", "term", "sigrtmin+15", "RTMAX-14", "-1"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "0", "SIG", "SIGSIGTERM", "RTMIN+16", "RTMIN+01", "NOPE"] {
            assert_eq!(check(bad), Err(format!("invalid signal: {bad}")));
        }
    }
}
