//! Compiles a filter of system calls into a program for the kernel (classic BPF).
//!
//! ```text
//! which architecture ──┬── x86_64:  binary search over the numbers ──┬── allow
//!                      ├── x86:     binary search ...                ├── fail with a number
//!                      └── another: kill                             └── look at arguments, then one of these
//! ```
//!
//! What the profile says is what libseccomp and runc make of it: a rule without conditions wins over those with, else the
//! first that fits; two conditions on one argument are alternatives; rules that do what happens anyway mean nothing;
//! names that an architecture lacks are passed over; and calls that are newer than the newest that the profile names
//! fail with ENOSYS, on which C libraries fall back to older ones, where they would fail with another number.

mod abi;
mod code;

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
};

use crate::error::Error;
use abi::Abi;
pub(crate) use code::Instruction;
use code::Leaf;

/// What the kernel does with a call (linux/seccomp.h: SECCOMP_RET_*).
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
/// The data of a return value.
const DATA: u32 = 0xffff;

/// Longer programs are refused by the kernel (linux/bpf_common.h: BPF_MAXINSNS).
const MOST: usize = 4096;

/// Numbers from here on are no calls of the kernel's table: arm has some of its own there.
const PRIVATE: u32 = 0xf_0000;

/// A filter as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*.
    pub(crate) flags: u32,
}

/// Compiles `profile` for the architecture with this name (as `std::env::consts::ARCH` has it).
pub(crate) fn compile(profile: &LinuxSeccomp, arch: &str) -> Result<Filter, Error> {
    let unsupported = |what: &str| Error::Unsupported {
        what: what.to_owned(),
        remedy: "leave it out, or use crun or runc",
    };
    if profile.listener_path().is_some() || profile.listener_metadata().is_some() {
        return Err(unsupported("`linux.seccomp.listenerPath`"));
    }
    let mut flags = 0;
    for flag in profile.flags().iter().flatten() {
        flags |= match flag {
            // There is one thread.
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagLog => 2,
            Flag::SeccompFilterFlagSpecAllow => 4,
            Flag::SeccompFilterFlagWaitKillableRecv => {
                return Err(unsupported("the seccomp flag `WAIT_KILLABLE_RECV`"));
            }
        };
    }
    let abis = Abi::of(arch, profile.architectures().as_deref().unwrap_or_default())
        .ok_or_else(|| unsupported(&format!("a seccomp filter on `{arch}`")))?;
    let mut sections: BTreeMap<u32, Vec<(u32, Leaf)>> = BTreeMap::new();
    for abi in &abis {
        // x32 shares its architecture with x86_64 and has numbers of its own.
        let leaves = leaves(profile, abi)?;
        sections.entry(abi.audit).or_default().extend(leaves);
    }
    for abi in &abis {
        if let Some(from) = abi.foreign_from(&abis) {
            sections.entry(abi.audit).or_default().push((from, Leaf::Return(KILL_PROCESS)));
        }
    }
    let program = code::program(&sections, KILL_PROCESS);
    if program.len() > MOST {
        return Err(Error::config(format!("the seccomp filter is too long: {} instructions", program.len())));
    }
    Ok(Filter { program, flags })
}

fn returned(action: Action, errno: Option<u32>) -> Result<u32, Error> {
    if action == Action::ScmpActNotify {
        return Err(Error::Unsupported {
            what: "the seccomp action `SCMP_ACT_NOTIFY`".to_owned(),
            remedy: "use crun or runc",
        });
    }
    let plain = action.as_u32(None);
    Ok(match (action, errno) {
        (Action::ScmpActErrno | Action::ScmpActTrace, Some(errno)) => plain & !DATA | errno & DATA,
        _ => plain,
    })
}

/// A rule for one number: its conditions, all of which must hold, and what then happens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    conditions: Vec<LinuxSeccompArg>,
    action: u32,
}

/// Decides about all numbers of an ABI: from each given number on, up to the next.
fn leaves(profile: &LinuxSeccomp, abi: &Abi) -> Result<Vec<(u32, Leaf)>, Error> {
    let default = returned(profile.default_action(), profile.default_errno_ret())?;
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let mut newest = None;
    for call in profile.syscalls().iter().flatten() {
        let action = returned(call.action(), call.errno_ret())?;
        for name in call.names() {
            let Some(number) = abi.number(name) else { continue };
            if number < PRIVATE {
                newest = newest.max(Some(number));
            }
            if action == default {
                continue;
            }
            let of_number = rules.entry(number).or_default();
            for conditions in alternatives(call.args().as_deref().unwrap_or_default())? {
                of_number.push(Rule { conditions, action });
            }
        }
    }
    let mut leaves: BTreeMap<u32, Leaf> = BTreeMap::new();
    let mut next = 0;
    for (number, rules) in rules {
        if number > next {
            leaves.insert(next, Leaf::Return(default));
        }
        leaves.insert(number, leaf(rules, default, abi.narrow));
        next = number + 1;
    }
    leaves.insert(next, Leaf::Return(default));
    if default & !DATA == ERRNO && default != ERRNO | libc::ENOSYS as u32 {
        let from = newest.map_or(0, |newest| newest + 1);
        // What was decided about private numbers stays.
        let after = leaves.range(..=PRIVATE).next_back().map(|(_, leaf)| leaf.clone());
        leaves.retain(|start, _| *start < from || *start >= PRIVATE);
        leaves.insert(from, Leaf::Return(ERRNO | libc::ENOSYS as u32));
        leaves.entry(PRIVATE).or_insert(after.unwrap_or(Leaf::Return(default)));
    }
    let offset = abi.offset;
    Ok(leaves.into_iter().map(|(start, leaf)| (start + offset, leaf)).collect())
}

fn leaf(rules: Vec<Rule>, default: u32, narrow: bool) -> Leaf {
    match rules.iter().find(|rule| rule.conditions.is_empty()) {
        Some(rule) => Leaf::Return(rule.action),
        None => Leaf::Rules {
            rules: rules.into_iter().map(|rule| (rule.conditions, rule.action)).collect(),
            default,
            narrow,
        },
    }
}

/// Conditions of one rule. Where an argument is named twice, each condition is a rule of its own.
fn alternatives(conditions: &[LinuxSeccompArg]) -> Result<Vec<Vec<LinuxSeccompArg>>, Error> {
    let mut seen = [false; 6];
    let mut twice = false;
    for condition in conditions {
        let place = seen.get_mut(condition.index());
        let place =
            place.ok_or_else(|| Error::config("a seccomp rule is about an argument after the sixth"))?;
        twice |= *place;
        *place = true;
    }
    Ok(if twice {
        conditions.iter().map(|condition| vec![*condition]).collect()
    } else {
        vec![conditions.to_vec()]
    })
}

#[cfg(test)]
mod tests;
