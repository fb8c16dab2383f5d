//! Bars the machine's devices from a step: a control group with a filter, as runtimes make one that manage groups.
//!
//! Steps keep the capability to make device nodes, and images may bring nodes; without the filter a node of the machine's
//! disk opens everything. The group is made below the builder's own and taken away when the step has ended.

use std::ffi::CStr;
use std::os::fd::RawFd;

/// `bpf` commands, the type of the program and where it is attached (linux/bpf.h).
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Filters of groups above stay in force.
const ALLOW_MULTI: u32 = 2;
/// `fsconfig` command that makes the file system, and flags that close descriptors on exec (linux/mount.h).
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// A group that is made, by descriptors of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// The root of the hierarchy that the builder sees.
    pub(super) hierarchy: RawFd,
    group: RawFd,
}

/// Makes the group `name` with its filter.
///
/// # Safety
/// Only system calls: fit for a forked child, whose control group namespace becomes one of its own.
pub(super) unsafe fn make(name: &CStr) -> Option<Group> {
    // SAFETY: the strings are C strings, all memory is of this stack frame, and descriptors were just opened.
    unsafe {
        // Below the builder's own group, whose limits go on to hold.
        if libc::unshare(libc::CLONE_NEWCGROUP) != 0 {
            return None;
        }
        let fs = libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), FSOPEN_CLOEXEC) as RawFd;
        let nothing = std::ptr::null::<libc::c_char>();
        if fs < 0 || libc::syscall(libc::SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, nothing, nothing, 0) != 0 {
            return None;
        }
        let hierarchy = libc::syscall(libc::SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0) as RawFd;
        if hierarchy < 0 || libc::mkdirat(hierarchy, name.as_ptr(), 0o755) != 0 {
            return None;
        }
        let group = libc::openat(hierarchy, name.as_ptr(), libc::O_DIRECTORY | libc::O_CLOEXEC);
        let made = Group { hierarchy, group };
        if group < 0 || !filter(group) {
            let error = *libc::__errno_location();
            remove(hierarchy, name);
            *libc::__errno_location() = error;
            return None;
        }
        Some(made)
    }
}

/// Moves this process into the group; its children will be in it from the start.
///
/// # Safety
/// Only system calls: fit for a forked child.
pub(super) unsafe fn join(group: Group) -> bool {
    // SAFETY: the strings are C strings.
    unsafe {
        let processes = libc::openat(group.group, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        // 0 is who writes.
        processes >= 0 && libc::write(processes, c"0".as_ptr().cast(), 1) == 1
    }
}

/// Takes the group away, in which no process is left.
///
/// # Safety
/// Only a system call: fit for a forked child.
pub(super) unsafe fn remove(hierarchy: RawFd, name: &CStr) {
    // SAFETY: a C string. An empty group that stays does no harm.
    unsafe { libc::unlinkat(hierarchy, name.as_ptr(), libc::AT_REMOVEDIR) };
}

/// Attaches the filter to a group.
///
/// # Safety
/// Only system calls: fit for a forked child.
unsafe fn filter(group: RawFd) -> bool {
    // The beginnings of what union bpf_attr is for these commands; the kernel takes the rest as zero.
    #[repr(C)]
    struct Load {
        kind: u32,
        length: u32,
        program: *const Instruction,
        license: *const libc::c_char,
    }
    #[repr(C)]
    struct Attach {
        to: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        length: PROGRAM.len() as u32,
        program: PROGRAM.as_ptr(),
        license: c"".as_ptr(),
    };
    // SAFETY: both sizes are those of the structures, and what they point to lives through the calls.
    unsafe {
        let program = libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>());
        if program < 0 {
            return false;
        }
        let attach =
            Attach { to: group as u32, program: program as u32, kind: CGROUP_DEVICE, flags: ALLOW_MULTI };
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) == 0
    }
}

/// struct bpf_insn.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    jump: i16,
    value: i32,
}

const fn instruction(code: u8, to: u8, from: u8, jump: i16, value: i32) -> Instruction {
    // Two bit fields of four bits, which lie in the order of the bytes.
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    Instruction { code, registers, jump, value }
}

/// Loads 32 bits of what the kernel tells, which register 1 points to.
const fn load(to: u8, offset: i16) -> Instruction {
    instruction(0x61, to, 1, offset, 0)
}

/// Jumps to the line `target` from the line `at`, under the condition of `code`.
const fn jump(at: i16, code: u8, register: u8, value: i32, target: i16) -> Instruction {
    instruction(code, register, 0, target - at - 1, value)
}

const IF_EQUAL: u8 = 0x15;
const IF_OTHER: u8 = 0x55;
const IF_BELOW: u8 = 0xa5;
const IF_AT_MOST: u8 = 0xb5;
const ALWAYS: u8 = 0x05;
const ALLOW: i16 = 23;
const DENY: i16 = 21;

/// The filter, on struct bpf_cgroup_dev_ctx: access and type, major, minor. Making nodes is up to the filter of system
/// calls; what may be opened are null, zero, full, random, urandom, tty, ptmx and pseudo terminals (136 to 143).
const PROGRAM: [Instruction; 25] = [
    load(2, 0),
    load(3, 4),
    load(4, 8),
    // The access is in the upper half: 1 is making a node and nothing else.
    instruction(0xbf, 5, 2, 0, 0),
    instruction(0x77, 5, 0, 0, 16),
    jump(5, IF_EQUAL, 5, 1, ALLOW),
    // The type is in the lower half: 2 is a character device.
    instruction(0x57, 2, 0, 0, 0xffff),
    jump(7, IF_OTHER, 2, 2, DENY),
    jump(8, IF_EQUAL, 3, 1, 13),
    jump(9, IF_EQUAL, 3, 5, 19),
    jump(10, IF_BELOW, 3, 136, DENY),
    jump(11, IF_AT_MOST, 3, 143, ALLOW),
    jump(12, ALWAYS, 0, 0, DENY),
    jump(13, IF_EQUAL, 4, 3, ALLOW),
    jump(14, IF_EQUAL, 4, 5, ALLOW),
    jump(15, IF_EQUAL, 4, 7, ALLOW),
    jump(16, IF_EQUAL, 4, 8, ALLOW),
    jump(17, IF_EQUAL, 4, 9, ALLOW),
    jump(18, ALWAYS, 0, 0, DENY),
    jump(19, IF_EQUAL, 4, 0, ALLOW),
    jump(20, IF_EQUAL, 4, 2, ALLOW),
    // Register 0 is the answer.
    instruction(0xb7, 0, 0, 0, 0),
    instruction(0x95, 0, 0, 0, 0),
    instruction(0xb7, 0, 0, 0, 1),
    instruction(0x95, 0, 0, 0, 0),
];
