//! The filter of system calls, as Docker's default profile has it, for the architecture that this program is built for.

use serde_json::{Value, json};

/// The table; one word is one system call.
const TABLE: &str = include_str!("seccomp.txt");

/// Namespaces that an unprivileged step may not make by clone (linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC,
/// NEWUSER, NEWPID, NEWNET).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Bits of a mode that say what kind of file it is, and the kinds that `mknod` makes without a device: none
/// said, pipe, file, socket (linux/stat.h: S_IFMT, S_IFIFO, S_IFREG, S_IFSOCK).
const KIND: u64 = 0o170_000;
const PLAIN_KINDS: [u64; 4] = [0, 0o010_000, 0o100_000, 0o140_000];
/// S_IFCHR.
const CHARACTER_DEVICE: u64 = 0o020_000;

/// Devices that a step may make nodes of, as every small root has them. 0:0 is the mark of overlay file systems for what is
/// deleted; the others are null, zero, full, random, urandom, tty, console and ptmx (linux: admin-guide/devices.txt), as
/// the kernel has them in one number: eight bits of the minor one, above them the major one.
const DEVICES: [u64; 9] = [0, 0x103, 0x105, 0x107, 0x108, 0x109, 0x500, 0x501, 0x502];

/// Makes the filter for a step that has `capabilities`, in the form of the OCI runtime specification.
pub(super) fn profile(capabilities: &[&str]) -> Value {
    profile_for(std::env::consts::ARCH, capabilities)
}

fn profile_for(arch: &str, capabilities: &[&str]) -> Value {
    let has = |name: &str| capabilities.contains(&name);
    let mut names: Vec<&str> = sections(arch, capabilities).collect();
    names.sort_unstable();
    names.dedup();
    let mut rules = vec![json!({ "names": names, "action": "SCMP_ACT_ALLOW" })];
    let mut allow_if = |name: &str, index: u32, op: &str, value: u64, value_two: Option<u64>| {
        let mut arg = json!({ "index": index, "op": op, "value": value });
        if let Some(two) = value_two {
            arg["valueTwo"] = two.into();
        }
        rules.push(json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [arg] }));
    };
    // Of the address families, AF_ALG (38) has had holes in the kernel, and AF_VSOCK (40) leads to the hypervisor.
    allow_if("socket", 0, "SCMP_CMP_LT", 38, None);
    allow_if("socket", 0, "SCMP_CMP_EQ", 39, None);
    allow_if("socket", 0, "SCMP_CMP_GT", 40, None);
    // PER_LINUX, PER_LINUX32, both with UNAME26, and asking only.
    for persona in [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        allow_if("personality", 0, "SCMP_CMP_EQ", persona, None);
    }
    if !has("CAP_SYS_ADMIN") {
        // s390 has the flags second.
        let index = u32::from(arch == "s390x");
        allow_if("clone", index, "SCMP_CMP_MASKED_EQ", CLONE_NAMESPACES, Some(0));
        // Its flags are in memory, out of a filter's sight. With ENOSYS C libraries fall back to clone.
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }));
    }
    rules.extend(nodes());
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(arch),
        "syscalls": rules,
    })
}

/// The rules for `mknod`. Docker allows every node and bars their use by a control group. Steps have that too, and still
/// make no nodes of disks: so nothing hangs on one filter alone, and their layers take none of them elsewhere.
fn nodes() -> impl Iterator<Item = Value> {
    // Which arguments are the mode and the device.
    [("mknod", 1, 2), ("mknodat", 2, 3)].into_iter().flat_map(|(name, mode, device)| {
        let rule = move |args: Value| json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args });
        let is = move |kind: u64| json!({ "index": mode, "op": "SCMP_CMP_MASKED_EQ", "value": KIND, "valueTwo": kind });
        let plain = PLAIN_KINDS.map(|kind| rule(json!([is(kind)])));
        let devices = DEVICES.map(|number| {
            rule(json!([is(CHARACTER_DEVICE), { "index": device, "op": "SCMP_CMP_EQ", "value": number }]))
        });
        plain.into_iter().chain(devices)
    })
}

/// Names of the sections that apply.
fn sections<'a>(arch: &'a str, capabilities: &'a [&str]) -> impl Iterator<Item = &'static str> + 'a {
    let mut applies = false;
    TABLE.lines().filter(|line| !line.starts_with('#')).flat_map(move |line| {
        let words = match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(head) => {
                applies = match head.split_once(' ') {
                    Some(("arch", name)) => name == arch,
                    Some(("cap", name)) => capabilities.contains(&name),
                    _ => head == "always",
                };
                ""
            }
            None if applies => line,
            None => "",
        };
        words.split_whitespace()
    })
}

/// The architecture and those whose programs it runs as well.
fn architectures(arch: &str) -> &'static [&'static str] {
    match arch {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "powerpc64" if cfg!(target_endian = "little") => &["SCMP_ARCH_PPC64LE"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        // Runtimes take an empty list as the native architecture alone.
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &Value, name: &str) -> Option<usize> {
        let rules = profile["syscalls"].as_array()?;
        rules
            .iter()
            .find(|rule| rule["names"].as_array().is_some_and(|names| names.iter().any(|n| n == name)))?
            .get("args")
            .map_or(Some(0), |args| args.as_array().map(Vec::len))
    }

    #[test]
    fn what_depends_on_architecture_and_capabilities() {
        let plain = profile_for("x86_64", &["CAP_SYS_CHROOT"]);
        assert_eq!(allowed(&plain, "openat2"), Some(0));
        assert_eq!(allowed(&plain, "arch_prctl"), Some(0));
        assert_eq!(allowed(&plain, "chroot"), Some(0));
        assert_eq!(allowed(&plain, "personality"), Some(1));
        assert_eq!(allowed(&plain, "clone"), Some(1));
        assert_eq!(allowed(&plain, "mknodat"), Some(1));
        for refused in
            ["keyctl", "add_key", "mount", "unshare", "bpf", "io_uring_setup", "cacheflush", "reboot"]
        {
            assert_eq!(allowed(&plain, refused), None, "{refused}");
        }
        let admin = profile_for("aarch64", &["CAP_SYS_ADMIN"]);
        assert_eq!(allowed(&admin, "mount"), Some(0));
        assert_eq!(allowed(&admin, "clone"), Some(0));
        assert_eq!(allowed(&admin, "cacheflush"), Some(0));
        assert_eq!(allowed(&admin, "arch_prctl"), None);
        assert_eq!(profile_for("s390x", &[])["architectures"][1], "SCMP_ARCH_S390");
    }

    #[test]
    fn the_whole_is_what_the_specification_says() {
        let profile: oci_spec::runtime::LinuxSeccomp =
            serde_json::from_value(profile_for("x86_64", &[])).unwrap();
        assert_eq!(profile.default_errno_ret(), Some(1));
        let rules = profile.syscalls().as_ref().unwrap();
        assert!(rules[0].names().len() > 300);
    }
}
