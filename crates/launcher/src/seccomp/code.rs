//! Instructions.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};

/// One instruction, laid out as the kernel's (linux/filter.h: struct sock_filter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

// linux/bpf_common.h: load a word at a place, and with a constant, jump, jump if equal, greater, greater or equal, return.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

// linux/seccomp.h: struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What happens with a range of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaf {
    Return(u32),
    /// The first of these whose conditions all hold.
    Rules {
        rules: Vec<(Vec<LinuxSeccompArg>, u32)>,
        default: u32,
        narrow: bool,
    },
}

/// Makes the program. For each architecture there are the first numbers of ranges, and what happens from there on.
pub(super) fn program(sections: &BTreeMap<u32, Vec<(u32, Leaf)>>, otherwise: u32) -> Vec<Instruction> {
    let mut out = vec![plain(LOAD, ARCHITECTURE)];
    for (architecture, leaves) in sections {
        let mut leaves = leaves.clone();
        leaves.sort_by_key(|(start, _)| *start);
        leaves.dedup_by(|later, earlier| later.1 == earlier.1);
        let mut section = vec![plain(LOAD, NUMBER)];
        search(&leaves, &mut section);
        out.push(Instruction { code: EQUAL, yes: 1, no: 0, value: *architecture });
        out.push(plain(JUMP, section.len() as u32));
        out.extend(section);
    }
    out.push(plain(RETURN, otherwise));
    out
}

/// A binary search. Every way ends in a return, so that pieces can stand one after the other.
fn search(leaves: &[(u32, Leaf)], out: &mut Vec<Instruction>) {
    let (left, right) = leaves.split_at(leaves.len() / 2);
    let (Some(_), Some((middle, _))) = (left.first(), right.first()) else {
        if let Some((_, leaf)) = right.first() {
            decide(leaf, out);
        }
        return;
    };
    let mut below = Vec::new();
    search(left, &mut below);
    match u8::try_from(below.len()) {
        Ok(over) => out.push(Instruction { code: NOT_LESS, yes: over, no: 0, value: *middle }),
        // Conditional jumps go 255 instructions at most.
        Err(_) => {
            out.push(Instruction { code: NOT_LESS, yes: 0, no: 1, value: *middle });
            out.push(plain(JUMP, below.len() as u32));
        }
    }
    out.extend(below);
    search(right, out);
}

fn decide(leaf: &Leaf, out: &mut Vec<Instruction>) {
    match leaf {
        Leaf::Return(value) => out.push(plain(RETURN, *value)),
        Leaf::Rules { rules, default, narrow } => {
            for (conditions, action) in rules {
                rule(conditions, *action, *narrow, out);
            }
            out.push(plain(RETURN, *default));
        }
    }
}

/// Where a conditional jump of a rule goes.
#[derive(Debug, Clone, Copy)]
enum To {
    Next,
    /// Behind the condition, which holds.
    Held,
    /// Behind the rule.
    Fail,
}

/// One rule; falls out of its end if it does not fit.
fn rule(conditions: &[LinuxSeccompArg], action: u32, narrow: bool, out: &mut Vec<Instruction>) {
    let mut jumps: Vec<(Instruction, To, To, usize)> = Vec::new();
    for condition in conditions {
        let mut steps = steps(condition, narrow);
        let end = jumps.len() + steps.len();
        jumps.extend(steps.drain(..).map(|(instruction, yes, no)| (instruction, yes, no, end)));
    }
    let fail = jumps.len() + 1;
    for (at, (instruction, yes, no, held)) in jumps.into_iter().enumerate() {
        // Six conditions of at most eight instructions: never more than 255.
        let offset = |to: To| match to {
            To::Next => 0,
            To::Held => (held - at - 1) as u8,
            To::Fail => (fail - at - 1) as u8,
        };
        out.push(Instruction { yes: offset(yes), no: offset(no), ..instruction });
    }
    out.push(plain(RETURN, action));
}

/// One condition. Arguments have 64 bits, which are compared in two halves; on 32-bit architectures the lower counts.
fn steps(condition: &LinuxSeccompArg, narrow: bool) -> Vec<(Instruction, To, To)> {
    let place = ARGUMENTS + 8 * condition.index() as u32;
    // The lower half lies first where numbers are little-endian, which all known architectures are.
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let operator = condition.op();
    let (mask, value) = match operator {
        Operator::ScmpCmpMaskedEq => {
            let mask = condition.value();
            (Some(halves(mask)), condition.value_two().unwrap_or(0) & mask)
        }
        _ => (None, condition.value()),
    };
    let (high, low) = halves(value);
    let jump = |code: u16, value: u32, yes: To, no: To| (plain(code, value), yes, no);
    let step = |code: u16, value: u32| (plain(code, value), To::Next, To::Next);
    let mut out = Vec::new();
    if !narrow {
        out.push(step(LOAD, place + 4));
        if let Some((mask, _)) = mask {
            out.push(step(AND, mask));
        }
        match operator {
            Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => {
                out.push(jump(EQUAL, high, To::Next, To::Fail))
            }
            Operator::ScmpCmpNe => out.push(jump(EQUAL, high, To::Next, To::Held)),
            Operator::ScmpCmpGt | Operator::ScmpCmpGe => {
                out.push(jump(GREATER, high, To::Held, To::Next));
                out.push(jump(EQUAL, high, To::Next, To::Fail));
            }
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => {
                out.push(jump(GREATER, high, To::Fail, To::Next));
                out.push(jump(EQUAL, high, To::Next, To::Held));
            }
        }
    }
    out.push(step(LOAD, place));
    if let Some((_, mask)) = mask {
        out.push(step(AND, mask));
    }
    out.push(match operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => jump(EQUAL, low, To::Next, To::Fail),
        Operator::ScmpCmpNe => jump(EQUAL, low, To::Fail, To::Next),
        Operator::ScmpCmpGt => jump(GREATER, low, To::Next, To::Fail),
        Operator::ScmpCmpGe => jump(NOT_LESS, low, To::Next, To::Fail),
        Operator::ScmpCmpLt => jump(NOT_LESS, low, To::Fail, To::Next),
        Operator::ScmpCmpLe => jump(GREATER, low, To::Fail, To::Next),
    });
    out
}

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, value }
}

/// What the kernel would do: the same machine, for tests.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [0_u32; 16];
    data[0] = number;
    data[1] = architecture;
    for (index, value) in arguments.into_iter().enumerate() {
        data[4 + 2 * index] = value as u32;
        data[5 + 2 * index] = (value >> 32) as u32;
    }
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Instruction { code, yes, no, value } = program[at];
        at += 1;
        let holds = match code {
            RETURN => return value,
            LOAD => {
                accumulator = data[value as usize / 4];
                continue;
            }
            AND => {
                accumulator &= value;
                continue;
            }
            JUMP => {
                at += value as usize;
                continue;
            }
            EQUAL => accumulator == value,
            GREATER => accumulator > value,
            NOT_LESS => accumulator >= value,
            _ => panic!("no such instruction: {code}"),
        };
        at += usize::from(if holds { yes } else { no });
    }
}
