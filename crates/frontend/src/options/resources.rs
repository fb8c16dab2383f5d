//! Limits of steps: ulimits, and memory and CPU limits that are no part of a step's identity.

use std::collections::BTreeMap;

use super::csv;
use crate::gofmt::{parse_int, parse_uint, quote};

/// One resource limit of the processes of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads `nofile=1024:2048,nproc=100`.
pub(super) fn parse_ulimits(text: &str) -> Result<Vec<Ulimit>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    csv::fields(text)?.iter().map(|field| parse_ulimit(field)).collect()
}

fn parse_ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [both] => {
            let both = parse_int(both)?;
            (both, both)
        }
        [soft, hard] => {
            let hard = parse_int(hard)?;
            (parse_int(soft)?, hard)
        }
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    if hard != -1 {
        let rule = "ulimit soft limit must be less than or equal to hard limit";
        if soft == -1 {
            return Err(format!("{rule}: soft: -1 (unlimited), hard: {hard}"));
        }
        if soft > hard {
            return Err(format!("{rule}: {soft} > {hard}"));
        }
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// Memory and CPU limits; 0 and empty texts mean no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) memory: i64,
    pub(crate) memory_swap: i64,
    pub(crate) cpu_shares: u64,
    pub(crate) cpu_period: u64,
    pub(crate) cpu_quota: i64,
    pub(crate) cpuset_cpus: String,
    pub(crate) cpuset_mems: String,
}

impl Resources {
    /// Reads the options `memory`, `memswap`, `cpushares`, `cpuperiod`, `cpuquota`, `cpusetcpus`, `cpusetmems`.
    pub(super) fn parse(raw: &BTreeMap<String, String>) -> Result<Option<Resources>, String> {
        let get = |key: &str| raw.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let bad = |key: &str, value: &str, reason: &str| format!("invalid {key} value: {value}: {reason}");
        let positive = |key: &str| match get(key) {
            None => Ok(0),
            Some(value) => match parse_int(value) {
                Ok(number) if number > 0 => Ok(number),
                Ok(_) => Err(bad(key, value, "must be > 0")),
                Err(reason) => Err(bad(key, value, &reason)),
            },
        };
        let unsigned = |key: &str| match get(key) {
            None => Ok(0),
            Some(value) => match parse_uint(value) {
                Ok(0) => Err(bad(key, value, "must be > 0")),
                Ok(number) => Ok(number),
                Err(reason) => Err(bad(key, value, &reason)),
            },
        };
        let set = |key: &str| match get(key) {
            None => Ok(String::new()),
            Some(value) => match check_cpuset(value) {
                Ok(()) => Ok(value.to_owned()),
                Err(reason) => Err(bad(key, value, &reason)),
            },
        };
        let memory = positive("memory")?;
        let memory_swap = match get("memswap") {
            None => 0,
            Some(value) => match parse_int(value) {
                Ok(number) if number == -1 || number > 0 => number,
                Ok(_) => return Err(bad("memswap", value, "must be -1 (unlimited) or > 0")),
                Err(reason) => return Err(bad("memswap", value, &reason)),
            },
        };
        let resources = Resources {
            memory,
            memory_swap,
            cpu_shares: unsigned("cpushares")?,
            cpu_period: unsigned("cpuperiod")?,
            cpu_quota: positive("cpuquota")?,
            cpuset_cpus: set("cpusetcpus")?,
            cpuset_mems: set("cpusetmems")?,
        };
        Ok((resources != Resources::default()).then_some(resources))
    }
}

/// Largest processor or memory node that a set may name, as in BuildKit.
const MAX_CPU: i64 = 8192;

fn check_cpuset(text: &str) -> Result<(), String> {
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let quoted = quote(part);
        match part.split_once('-') {
            None => match parse_int(part) {
                Ok(number) if number > MAX_CPU => {
                    return Err(format!("cpuset element {quoted} exceeds maximum {MAX_CPU}"));
                }
                Ok(number) if number >= 0 => {}
                _ => return Err(format!("invalid cpuset element {quoted}")),
            },
            Some((low, high)) => match (parse_int(low.trim()), parse_int(high.trim())) {
                (Ok(low), Ok(high)) if low >= 0 && high >= low => {
                    if high > MAX_CPU {
                        return Err(format!("cpuset range {quoted} exceeds maximum {MAX_CPU}"));
                    }
                }
                _ => return Err(format!("invalid cpuset range {quoted}")),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        let limits = parse_ulimits("nofile=1024:2048,core=-1").unwrap();
        assert_eq!((limits[0].soft, limits[0].hard, limits[1].hard), (1024, 2048, -1));
        for (text, message) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
            (
                "nofile=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
        ] {
            assert_eq!(parse_ulimits(text).unwrap_err(), message);
        }
    }

    #[test]
    fn cpusets() {
        assert_eq!(check_cpuset("0-3, 5,,7"), Ok(()));
        for (text, message) in [
            ("x", "invalid cpuset element \"x\""),
            ("3-1", "invalid cpuset range \"3-1\""),
            ("9000", "cpuset element \"9000\" exceeds maximum 8192"),
        ] {
            assert_eq!(check_cpuset(text).unwrap_err(), message);
        }
    }
}
