use oci_spec::runtime::LinuxSeccompOperator as Operator;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn compiled(value: Value) -> Vec<Instruction> {
    compile(&profile(value), "x86_64").unwrap().program
}

fn small() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": ["read", "write", "clone3", "nonsense"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "op": "SCMP_CMP_LT", "value": 38 }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "op": "SCMP_CMP_GT", "value": 40 }] },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7e02_0000_u64, "valueTwo": 0 }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "op": "SCMP_CMP_EQ", "value": 8 }, { "index": 0, "op": "SCMP_CMP_EQ", "value": 0xffff_ffff_u64 }] },
            { "names": ["mknod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}

#[test]
fn what_a_small_profile_does() {
    let program = compiled(small());
    let on = |arch: u32, number: u32, first: u64| code::run(&program, arch, number, [first, 0, 0, 0, 0, 0]);
    for (arch, number, first, want) in [
        (X86_64, 0, 0, ALLOW),
        (X86_64, 2, 0, EPERM),
        (X86_64, 41, 37, ALLOW),
        (X86_64, 41, 38, EPERM),
        (X86_64, 41, 40, EPERM),
        (X86_64, 41, 41, ALLOW),
        // The upper half counts, too.
        (X86_64, 41, 1 << 32 | 39, ALLOW),
        (X86_64, 56, 0x0101_0011, ALLOW),
        (X86_64, 56, 0x1000_0000, EPERM),
        (X86_64, 135, 8, ALLOW),
        (X86_64, 135, 0xffff_ffff, ALLOW),
        (X86_64, 135, 9, EPERM),
        (X86_64, 133, 0, ENOSYS),
        (X86_64, 435, 0, ALLOW),
        // Newer than what the profile names.
        (X86_64, 436, 0, ENOSYS),
        (X86_64, 4000, 0, ENOSYS),
        (X86_64, 0x4000_0000, 0, ALLOW),
        (X86_64, 0x4000_0000 + 2, 0, EPERM),
        (X86, 3, 0, ALLOW),
        (X86, 0, 0, EPERM),
        (X86, 359, 37, ALLOW),
        (X86, 359, 39, EPERM),
        (0xc000_00b7, 0, 0, KILL_PROCESS),
        (0, 0, 0, KILL_PROCESS),
    ] {
        assert_eq!(on(arch, number, first), want, "{arch:x} {number} {first:x}");
    }
}

#[test]
fn foreign_architectures_are_killed_unless_named() {
    let mut value = small();
    value["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    let program = compiled(value);
    assert_eq!(code::run(&program, X86, 3, [0; 6]), KILL_PROCESS);
    assert_eq!(code::run(&program, X86_64, 0x4000_0000, [0; 6]), KILL_PROCESS);
    assert_eq!(code::run(&program, X86_64, 0, [0; 6]), ALLOW);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut value = small();
    value["listenerPath"] = json!("/run/x");
    assert!(compile(&profile(value), "x86_64").is_err());
    assert!(compile(&profile(small()), "vax").is_err());
    let mut value = small();
    value["syscalls"][0]["action"] = json!("SCMP_ACT_NOTIFY");
    assert!(compile(&profile(value), "x86_64").is_err());
    let mut value = small();
    value["syscalls"][1]["args"][0]["index"] = json!(6);
    assert!(compile(&profile(value), "x86_64").is_err());
}

/// What the profile says, read straight off it.
fn oracle(profile: &LinuxSeccomp, abi: &Abi, number: u32, arguments: [u64; 6]) -> u32 {
    let default = returned(profile.default_action(), profile.default_errno_ret()).unwrap();
    let mut newest = None;
    let (mut always, mut first) = (None, None);
    for call in profile.syscalls().iter().flatten() {
        let action = returned(call.action(), call.errno_ret()).unwrap();
        for name in call.names() {
            let Some(own) = abi.number(name) else { continue };
            newest = newest.max(Some(own));
            if own != number || action == default {
                continue;
            }
            let conditions = call.args().clone().unwrap_or_default();
            if conditions.is_empty() {
                always = always.or(Some(action));
                continue;
            }
            let cut = |value: u64| if abi.narrow { value & 0xffff_ffff } else { value };
            let holds = |condition: &LinuxSeccompArg| {
                let (argument, value) = (cut(arguments[condition.index()]), cut(condition.value()));
                match condition.op() {
                    Operator::ScmpCmpNe => argument != value,
                    Operator::ScmpCmpLt => argument < value,
                    Operator::ScmpCmpLe => argument <= value,
                    Operator::ScmpCmpEq => argument == value,
                    Operator::ScmpCmpGe => argument >= value,
                    Operator::ScmpCmpGt => argument > value,
                    Operator::ScmpCmpMaskedEq => {
                        argument & value == cut(condition.value_two().unwrap_or(0)) & value
                    }
                }
            };
            let indexes: std::collections::HashSet<_> =
                conditions.iter().map(LinuxSeccompArg::index).collect();
            let fits = if indexes.len() < conditions.len() {
                conditions.iter().any(holds)
            } else {
                conditions.iter().all(holds)
            };
            if fits {
                first = first.or(Some(action));
            }
        }
    }
    let newer = newest.is_none_or(|newest| number > newest);
    if newer && default & !DATA == ERRNO && default != ENOSYS {
        return ENOSYS;
    }
    always.or(first).unwrap_or(default)
}

fn any_profile() -> impl Strategy<Value = Value> {
    let names =
        ["read", "write", "open", "socket", "clone", "mknod", "personality", "openat2", "fork", "ipc"];
    let actions =
        ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_LOG"];
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let number = prop_oneof![0_u64..4, Just(u64::MAX), Just(1 << 32), Just(0xffff_ffff), any::<u64>()];
    let condition = (0_usize..2, 0..operators.len(), number.clone(), number).prop_map(move |(index, op, value, two)| {
        json!({ "index": index, "op": format!("SCMP_CMP_{}", operators[op]), "value": value, "valueTwo": two })
    });
    let call = (
        proptest::collection::vec(0..names.len(), 1..4),
        0..actions.len(),
        proptest::option::of(0_u32..50),
        proptest::collection::vec(condition, 0..3),
    )
        .prop_map(move |(chosen, action, errno, args)| {
            let names: Vec<_> = chosen.into_iter().map(|name| names[name]).collect();
            json!({ "names": names, "action": actions[action], "errnoRet": errno, "args": args })
        });
    let all = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    (0..actions.len(), proptest::option::of(0_u32..50), proptest::collection::vec(call, 0..12)).prop_map(
        move |(action, errno, calls)| {
            json!({ "defaultAction": actions[action], "defaultErrnoRet": errno, "architectures": all, "syscalls": calls })
        },
    )
}

proptest! {
    #[test]
    fn the_program_does_what_the_profile_says(
        value in any_profile(),
        number in prop_oneof![0_u32..3, Just(5), Just(14), Just(41), Just(56), Just(57), Just(117), Just(120),
            Just(133), Just(135), Just(136), Just(359), Just(437), Just(438), 0_u32..600],
        arguments in proptest::array::uniform6(prop_oneof![0_u64..4, Just(u64::MAX), Just(1 << 32), any::<u64>()]),
    ) {
        let profile = profile(value);
        let program = compile(&profile, "x86_64").unwrap().program;
        let named = profile.architectures().clone().unwrap();
        for abi in Abi::of("x86_64", &named).unwrap() {
            let want = oracle(&profile, &abi, number, arguments);
            prop_assert_eq!(code::run(&program, abi.audit, number + abi.offset, arguments), want, "{:?}", abi);
        }
    }
}
