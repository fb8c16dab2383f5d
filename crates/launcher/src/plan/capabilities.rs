//! Capabilities as bits.

use oci_spec::runtime::{Capabilities as Set, LinuxCapabilities};

/// The five sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Capabilities {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// Names in the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Reads the sets; what is not given is empty.
pub(super) fn plan(asked: Option<&LinuxCapabilities>) -> Capabilities {
    let Some(asked) = asked else { return Capabilities::default() };
    let (permitted, inheritable) = (bits(asked.permitted()), bits(asked.inheritable()));
    Capabilities {
        bounding: bits(asked.bounding()),
        // What is not permitted can be neither effective nor ambient; the kernel would refuse it.
        effective: bits(asked.effective()) & permitted,
        permitted,
        inheritable,
        ambient: bits(asked.ambient()) & permitted & inheritable,
    }
}

fn bits(set: &Option<Set>) -> u64 {
    let bit = |name: String| NAMES.iter().position(|known| *known == name).map_or(0, |bit| 1 << bit);
    set.iter().flatten().fold(0, |bits, capability| bits | bit(capability.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_bits() {
        let asked: LinuxCapabilities = serde_json::from_value(json!({
            "bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_BPF"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_CHOWN", "CAP_KILL"],
        }))
        .unwrap();
        let want = Capabilities {
            bounding: 1 | 1 << 21 | 1 << 40,
            permitted: 1 | 1 << 5,
            effective: 1,
            inheritable: 1 << 5,
            ambient: 1 << 5,
        };
        assert_eq!(plan(Some(&asked)), want);
        assert_eq!(plan(None), Capabilities::default());
        // Every name that a configuration can have is among the bits.
        let all: Set = NAMES.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!((all.len(), bits(&Some(all))), (41, (1 << 41) - 1));
    }
}
