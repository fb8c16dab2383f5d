//! The configuration that a runtime is given, in the form of the OCI runtime specification.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::seccomp;
use crate::error::StepError;
use crate::namespace::Mode;
use crate::step::{DEFAULT_HOSTNAME, Network, Security, Step, Ulimit};
use crate::user::UserIds;

/// What Docker leaves to a container's root.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Capabilities in the order of their numbers (linux/capability.h).
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What shows or steers the machine and is not made for containers.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/security",
];

/// What may be read, but whose writing steers the machine.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Everything about a step that was found out before.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) root: &'a Path,
    pub(super) root_readonly: bool,
    pub(super) cwd: &'a Path,
    pub(super) user: &'a UserIds,
    pub(super) mode: Mode,
    /// Variables that must not be on a disk: with them the configuration is written to memory alone.
    pub(super) secret_env: &'a [(String, String)],
    pub(super) mounts: Vec<Value>,
}

/// Makes the configuration.
pub(super) fn spec(step: &Step, facts: Facts<'_>) -> Result<Spec, StepError> {
    let sandbox = step.security == Security::Sandbox;
    let capabilities = if sandbox { CAPABILITIES.to_vec() } else { own_capabilities() };
    let mut mounts = system_mounts(step, facts.mode, sandbox);
    mounts.extend(facts.mounts);
    let name = |path: &Path| {
        let what = format!("tell the runtime of `{}`", path.display());
        told(path).map(str::to_owned).map_err(StepError::io(what))
    };
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    if step.network == Network::None {
        namespaces.push("network");
    }
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    let hostname = if step.hostname.is_empty() { DEFAULT_HOSTNAME } else { &step.hostname };

    let mut env = step.process.env.clone();
    for (name, value) in facts.secret_env {
        env.retain(|variable| variable.split_once('=').is_none_or(|(other, _)| other != name));
        env.push(format!("{name}={value}"));
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "hostname": hostname,
        "root": { "path": name(facts.root)?, "readonly": facts.root_readonly },
        "process": {
            "terminal": false,
            "user": {
                "uid": facts.user.uid,
                "gid": facts.user.gid,
                "umask": 0o022,
                "additionalGids": facts.user.groups,
            },
            "args": step.process.args,
            "env": env,
            "cwd": name(facts.cwd)?,
            // Programs like sudo are used in builds.
            "noNewPrivileges": false,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": rlimits(&step.ulimits)?,
        },
        "mounts": mounts,
        "linux": { "namespaces": namespaces },
    });
    if sandbox {
        config["linux"]["maskedPaths"] = json!(MASKED);
        config["linux"]["readonlyPaths"] = json!(READ_ONLY);
        config["linux"]["seccomp"] = seccomp::profile(&CAPABILITIES);
    }
    serde_json::from_value(config)
        .map_err(|error| StepError::Invalid(format!("no runtime configuration comes of it: {error}")))
}

/// Where the runtime's own mounts are, parents first; a step's mount at the same place takes one's place.
pub(super) const SYSTEM_MOUNTS: [&str; 6] = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"];

fn system_mounts(step: &Step, mode: Mode, sandbox: bool) -> Vec<Value> {
    let mount = |dest: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": dest, "type": kind, "source": source, "options": options });
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if mode != Mode::SingleId {
        // The group tty, which has this number in practically every image.
        pts.push("gid=5");
    }
    let shm = format!("size={}", step.shm_size.unwrap_or(64 << 20));
    let mut sys = vec!["nosuid", "noexec", "nodev"];
    if sandbox {
        sys.push("ro");
    }
    // A sysfs shows a network; in a user namespace only the owner of that network may mount it.
    let sys = if mode != Mode::Root && step.network == Network::Host {
        sys.push("rbind");
        mount("/sys", "bind", "/sys", &sys)
    } else {
        mount("/sys", "sysfs", "sysfs", &sys)
    };
    let mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
    ];
    let own = |dest: &Value| step.mounts.iter().any(|mount| Some(&*mount.dest) == dest.as_str());
    mounts.into_iter().filter(|mount| mount["destination"] == "/dev" || !own(&mount["destination"])).collect()
}

/// A path as the configuration can have it. Links in images may lead to names of any bytes, but JSON is text.
fn told(path: &Path) -> std::io::Result<&str> {
    path.to_str().ok_or_else(|| {
        let problem = "leads to a name that is not UTF-8, of which runtimes cannot be told";
        std::io::Error::new(std::io::ErrorKind::InvalidInput, problem)
    })
}

/// Makes the entry of a bind mount. Flags that its source has cannot be taken off in a user namespace, so they are kept.
pub(super) fn bind(source: &Path, dest: &Path, readonly: bool) -> std::io::Result<Value> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let have = rustix::fs::statvfs(source)?.f_flag;
    let mut options = vec!["rbind", "rprivate"];
    for (flag, name) in [(Flags::NOSUID, "nosuid"), (Flags::NODEV, "nodev"), (Flags::NOEXEC, "noexec")] {
        if have.contains(flag) {
            options.push(name);
        }
    }
    if readonly || have.contains(Flags::RDONLY) {
        options.push("ro");
    }
    let (dest, source) = (told(dest)?, told(source)?);
    Ok(json!({ "destination": dest, "type": "bind", "source": source, "options": options }))
}

/// Makes the entry of a file system in memory.
pub(super) fn tmpfs(dest: &Path, size: Option<u64>, readonly: bool) -> std::io::Result<Value> {
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned()];
    if let Some(size) = size {
        options.push(format!("size={size}"));
    }
    if readonly {
        options.push("ro".to_owned());
    }
    Ok(json!({ "destination": told(dest)?, "type": "tmpfs", "source": "tmpfs", "options": options }))
}

/// The configuration's limits. They are lowered to those of the builder: raising one needs a capability that builders
/// often lack, and then no step would run.
fn rlimits(asked: &[Ulimit]) -> Result<Vec<Value>, StepError> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    asked.iter().map(|limit| rlimit(limit, &limits)).collect()
}

/// Names of limits, with the titles that /proc/PID/limits has for them.
const LIMITS: [(&str, &str); 16] = [
    ("cpu", "Max cpu time"),
    ("fsize", "Max file size"),
    ("data", "Max data size"),
    ("stack", "Max stack size"),
    ("core", "Max core file size"),
    ("rss", "Max resident set"),
    ("nproc", "Max processes"),
    ("nofile", "Max open files"),
    ("memlock", "Max locked memory"),
    ("as", "Max address space"),
    ("locks", "Max file locks"),
    ("sigpending", "Max pending signals"),
    ("msgqueue", "Max msgqueue size"),
    ("nice", "Max nice priority"),
    ("rtprio", "Max realtime priority"),
    ("rttime", "Max realtime timeout"),
];

fn rlimit(asked: &Ulimit, own: &str) -> Result<Value, StepError> {
    let Some((name, title)) = LIMITS.iter().find(|(name, _)| *name == asked.name) else {
        return Err(StepError::Invalid(format!("`{}` is no resource limit", asked.name)));
    };
    let line = own.lines().find_map(|line| line.strip_prefix(title));
    // Soft, hard, unit.
    let hard = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse::<u64>().ok());
    let bound = hard.unwrap_or(u64::MAX);
    let value = |asked: i64| u64::try_from(asked).unwrap_or(u64::MAX).min(bound);
    let hard = value(asked.hard);
    Ok(
        json!({ "type": format!("RLIMIT_{}", name.to_uppercase()), "soft": value(asked.soft).min(hard), "hard": hard }),
    )
}

/// The capabilities that the builder could give away at most.
fn own_capabilities() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let mask = permitted.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    ALL_CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, name)| *name)
        .collect()
}

/// The path in a bundle at which runtimes look for the configuration.
pub(super) fn config_path(bundle: &Path) -> PathBuf {
    bundle.join("config.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mode: Mode, user: &UserIds) -> Facts<'_> {
        Facts {
            root: Path::new("/r"),
            root_readonly: false,
            cwd: Path::new("/w"),
            user,
            mode,
            secret_env: &[],
            mounts: vec![],
        }
    }

    fn made(step: &Step, mode: Mode) -> Value {
        let user = UserIds { uid: 7, gid: 8, groups: vec![9] };
        serde_json::to_value(spec(step, facts(mode, &user)).unwrap()).unwrap()
    }

    #[test]
    fn what_is_confined() {
        let mut step = Step::new(vec!["true".into()], vec![]);
        let config = made(&step, Mode::Root);
        assert_eq!(config["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
        assert_eq!(config["linux"]["maskedPaths"].as_array().unwrap().len(), 13);
        assert_eq!(config["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(config["process"]["user"]["additionalGids"], json!([9]));
        assert!(!config["linux"]["namespaces"].as_array().unwrap().iter().any(|n| n["type"] == "network"));
        step.network = Network::None;
        step.security = Security::Insecure;
        let config = made(&step, Mode::Root);
        assert!(config["linux"]["namespaces"].as_array().unwrap().iter().any(|n| n["type"] == "network"));
        assert_eq!(config["linux"].get("seccomp"), None);
    }

    #[test]
    fn what_user_namespaces_refuse_is_not_asked_for() {
        let step = Step::new(vec!["true".into()], vec![]);
        let options = |mode: Mode, dest: &str| {
            let config = made(&step, mode);
            let mounts = config["mounts"].as_array().unwrap().clone();
            mounts.into_iter().find(|mount| mount["destination"] == dest).unwrap().to_string()
        };
        assert!(options(Mode::Root, "/sys").contains("sysfs"));
        assert!(options(Mode::SingleId, "/sys").contains("rbind"));
        assert!(options(Mode::Root, "/dev/pts").contains("gid=5"));
        assert!(!options(Mode::SingleId, "/dev/pts").contains("gid=5"));
    }

    #[test]
    fn limits_are_only_lowered() {
        let own = "Limit                     Soft Limit           Hard Limit           Units     \n\
                   Max open files            1024                 4096                 files     \n\
                   Max cpu time              unlimited            unlimited            seconds   \n";
        let limit = |name: &str, soft, hard| rlimit(&Ulimit { name: name.into(), soft, hard }, own);
        assert_eq!(
            limit("nofile", -1, 100_000).unwrap(),
            json!({ "type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096 })
        );
        assert_eq!(limit("nofile", 9, 5).unwrap(), json!({ "type": "RLIMIT_NOFILE", "soft": 5, "hard": 5 }));
        assert_eq!(limit("cpu", -1, -1).unwrap()["hard"], json!(u64::MAX));
        assert!(limit("speed", 1, 1).is_err());
    }
}
