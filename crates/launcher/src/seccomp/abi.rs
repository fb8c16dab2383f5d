//! Which numbers system calls have.

use std::collections::HashMap;
use std::sync::OnceLock;

use oci_spec::runtime::Arch;

/// One way of calling the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abi {
    /// What the kernel says to a filter (linux/audit.h: AUDIT_ARCH_*).
    pub(super) audit: u32,
    /// What is added to the numbers of the table.
    pub(super) offset: u32,
    /// Arguments have 32 bits.
    pub(super) narrow: bool,
    table: Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    X86_64,
    X86,
    X32,
    Generic,
    Arm,
}

/// x32's bit in the number (linux: __X32_SYSCALL_BIT).
const X32: u32 = 0x4000_0000;

const X86_64: Abi = Abi { audit: 0xc000_003e, offset: 0, narrow: false, table: Table::X86_64 };
const X86: Abi = Abi { audit: 0x4000_0003, offset: 0, narrow: true, table: Table::X86 };
const X86_X32: Abi = Abi { audit: 0xc000_003e, offset: X32, narrow: true, table: Table::X32 };
const AARCH64: Abi = Abi { audit: 0xc000_00b7, offset: 0, narrow: false, table: Table::Generic };
const ARM: Abi = Abi { audit: 0x4000_0028, offset: 0, narrow: true, table: Table::Arm };
const RISCV64: Abi = Abi { audit: 0xc000_00f3, offset: 0, narrow: false, table: Table::Generic };

impl Abi {
    /// Returns those of a machine that a profile names; the machine's own is always there. `None` for a machine whose
    /// numbers are not known.
    pub(super) fn of(arch: &str, named: &[Arch]) -> Option<Vec<Self>> {
        let has = |arch: Arch| named.contains(&arch);
        Some(match arch {
            "x86_64" => {
                let others = [(Arch::ScmpArchX86, X86), (Arch::ScmpArchX32, X86_X32)];
                let others = others.into_iter().filter(|(arch, _)| has(*arch)).map(|(_, abi)| abi);
                std::iter::once(X86_64).chain(others).collect()
            }
            "aarch64" if has(Arch::ScmpArchArm) => vec![AARCH64, ARM],
            "aarch64" => vec![AARCH64],
            "riscv64" => vec![RISCV64],
            _ => return None,
        })
    }

    /// From which number on calls of this architecture are of an ABI that is not among `abis`.
    pub(super) fn foreign_from(&self, abis: &[Self]) -> Option<u32> {
        let open = self.table == Table::X86_64 && !abis.iter().any(|abi| abi.table == Table::X32);
        open.then_some(X32)
    }

    /// Returns the number of a call, without the offset.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.table.numbers().get(name).copied()
    }
}

impl Table {
    fn numbers(self) -> &'static HashMap<&'static str, u32> {
        static TABLES: [OnceLock<HashMap<&str, u32>>; 5] = [const { OnceLock::new() }; 5];
        let (place, text) = match self {
            Self::X86_64 => (0, include_str!("x86_64.txt")),
            Self::X86 => (1, include_str!("x86.txt")),
            Self::X32 => (2, include_str!("x32.txt")),
            Self::Generic => (3, include_str!("generic.txt")),
            Self::Arm => (4, include_str!("arm.txt")),
        };
        let read = || {
            let words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
            words
                .filter_map(|word| word.split_once('='))
                .filter_map(|(name, n)| Some((name, n.parse().ok()?)))
                .collect()
        };
        TABLES
            .get(place)
            .map_or_else(|| unreachable!("there are five tables"), |table| table.get_or_init(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_headers() {
        // Those that this program is compiled with stand for the table of its own architecture.
        if cfg!(target_arch = "x86_64") {
            for (name, number) in [
                ("read", libc::SYS_read),
                ("execve", libc::SYS_execve),
                ("mknodat", libc::SYS_mknodat),
                ("seccomp", libc::SYS_seccomp),
                ("clone3", libc::SYS_clone3),
                ("openat2", libc::SYS_openat2),
                ("mount_setattr", libc::SYS_mount_setattr),
                ("futex_waitv", libc::SYS_futex_waitv),
            ] {
                assert_eq!(X86_64.number(name).map(i64::from), Some(number), "{name}");
            }
        }
        for (abi, length) in [(X86_64, 381), (X86, 459), (X86_X32, 370), (AARCH64, 325), (ARM, 428)] {
            let numbers = abi.table.numbers();
            assert_eq!(numbers.len(), length, "{abi:?}");
            let different: std::collections::HashSet<_> = numbers.values().collect();
            // Of two names for one call, both may be used in a profile.
            assert!(different.len() + 12 >= length, "{abi:?}: {}", different.len());
        }
        assert_eq!((X86.number("socketcall"), X86_64.number("socketcall")), (Some(102), None));
        assert_eq!((X86_X32.number("execve"), AARCH64.number("clone3")), (Some(520), Some(435)));
    }
}
