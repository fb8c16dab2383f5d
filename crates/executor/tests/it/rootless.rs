//! Steps run by an ordinary user, with subordinate ids and without, with every runtime.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::run::processes;
use crate::support::{example, root_at, runtimes, skip, wait_for};

/// Debian's `nobody`, who is on every machine.
const USER: u32 = 65534;
/// The first of 65536 subordinate ids: inside a step it is 1.
const FIRST: u32 = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    Single,
    Subordinate,
}

/// A root that belongs to the user, and a builder that can be run as that user.
struct Rootless {
    dir: TempDir,
    ids: Ids,
    runtime: &'static str,
}

/// Returns every kind of ids with every runtime.
fn cases(test: &str) -> Vec<Rootless> {
    let mut runtimes = runtimes(test);
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !runtimes.is_empty() && !there("setpriv") {
        skip(test, "`setpriv` is not installed");
        runtimes.clear();
    }
    let mut ids = vec![Ids::Single];
    if Command::new("newuidmap").output().is_ok() {
        ids.push(Ids::Subordinate);
    } else {
        skip(test, "`newuidmap` is not installed");
    }
    runtimes.iter().flat_map(|runtime| ids.iter().map(|ids| Rootless::new(*ids, runtime))).collect()
}

impl Rootless {
    fn new(ids: Ids, runtime: &'static str) -> Self {
        let dir = tempfile::Builder::new().prefix("cooper-rootless-").tempdir_in("/var/tmp").unwrap();
        let case = Self { dir, ids, runtime };
        root_at(&case.root(""));
        std::fs::create_dir(case.path("tmp")).unwrap();
        // The caller's target directory is often closed to others.
        std::fs::copy(example(), case.path("builder")).unwrap();
        std::fs::set_permissions(case.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let user = format!("{USER}:{USER}");
        let status = Command::new("chown").args(["-R", &user]).arg(case.dir.path()).status().unwrap();
        assert!(status.success());
        let lines = if ids == Ids::Subordinate { format!("nobody:{FIRST}:65536\n") } else { String::new() };
        std::fs::write(case.path("subids"), lines).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self, name: &str) -> PathBuf {
        self.path("root").join(name)
    }

    /// Prepares a builder that runs a line of shell.
    fn command(&self, flags: &[&str], line: &str) -> Command {
        // The subordinate ids are seen in a mount namespace alone: the machine's files stay as they are.
        let script = "set -e; for f in subuid subgid; do touch /etc/$f 2>/dev/null || :; mount --bind \"$1\" /etc/$f; done; \
             shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([self.path("subids"), self.path("builder")])
            .args(["--runtime", self.runtime])
            .args(flags)
            .arg(self.path("root"))
            .args(["/bin/sh", "-c", line])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TMPDIR", self.path("tmp"))
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, flags: &[&str], line: &str) -> Output {
        let output = self.command(flags, line).output().unwrap();
        let left = std::fs::read_dir(self.path("tmp")).unwrap().count();
        assert_eq!(left, 0, "{self:?}: something was left in the temporary directory");
        output
    }

    #[track_caller]
    fn ok(&self, flags: &[&str], line: &str) -> String {
        let output = self.run(flags, line);
        assert!(output.status.success(), "{self:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What an id inside is outside.
    fn outside(id: u32) -> u32 {
        if id == 0 { USER } else { FIRST + id - 1 }
    }
}

impl std::fmt::Debug for Rootless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {:?}", self.runtime, self.ids)
    }
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = path.symlink_metadata().unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn privileged_rootless_exit_output_and_confinement() {
    for case in cases("privileged_rootless_exit_output_and_confinement") {
        let output = case.run(&[], "echo out; echo err >&2; exit 3");
        assert_eq!(output.status.code(), Some(3), "{case:?}: {output:?}");
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]), "{case:?}");
        assert_eq!(case.run(&[], "sh -c 'kill -9 $$'; exit $?").status.code(), Some(137), "{case:?}");

        let stdout = case.ok(
            &[],
            "id -u; id -G; cat /proc/self/uid_map; grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status; \
             cd /proc; for p in [0-9]*; do echo process $p; done",
        );
        let words: Vec<_> = stdout.split_whitespace().collect();
        let maps = match case.ids {
            Ids::Single => vec!["0", "65534", "1"],
            Ids::Subordinate => vec!["0", "65534", "1", "1", "200000", "65536"],
        };
        let capabilities = "00000000a80425fb";
        let (capabilities, own) = (["CapEff:", capabilities, "CapBnd:", capabilities], ["0", "0"]);
        let rest = ["NoNewPrivs:", "0", "Seccomp:", "2", "process", "1"];
        let want: Vec<_> = own.into_iter().chain(maps).chain(capabilities).chain(rest).collect();
        assert_eq!(words, want, "{case:?}");

        // What is refused, and what would be of harm: nodes, the machine's files, and groups that are the user's own.
        let stdout = case.ok(
            &[],
            "for device in 'c 1 3' 'b 7 0'; do mknod /dev/n $device 2> /dev/null && echo made $device; done; \
             for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm/*/*; do \
             [ -f $f ] && (: >> $f) 2> /dev/null && echo open $f; done; \
             head -c 9 /dev/urandom > /dev/null && echo random; \
             unshare --user true 2> /dev/null && echo user namespace; \
             while read -r what where kind options rest; do case $where,$options in \
             /sys*,ro,*|/sys*,ro) echo still ;; /sys*) echo writable $where ;; esac; done < /proc/mounts",
        );
        assert!(stdout.starts_with("random\n"), "{case:?}: {stdout}");
        let (still, other): (Vec<_>, Vec<_>) = stdout.lines().skip(1).partition(|line| *line == "still");
        // Some are masks of the runtime: empty, and of the step alone.
        let other: Vec<_> = other.into_iter().filter(|line| !masked(line)).collect();
        assert!(!still.is_empty() && other.is_empty(), "{case:?}: {stdout}");

        let stdout = case.ok(&["--network", "none"], "ls /sys/class/net; cat /etc/hosts");
        assert!(stdout.starts_with("lo\n127.0.0.1\tlocalhost"), "{case:?}: {stdout}");
    }
}

fn masked(line: &str) -> bool {
    let masks = ["/sys/firmware", "/sys/devices/virtual/powercap", "/sys/kernel/security"];
    line.strip_prefix("writable ").is_some_and(|path| masks.contains(&path))
}

#[test]
fn privileged_rootless_owners() {
    for case in cases("privileged_rootless_owners") {
        // Of real root, and of a user that is inside 5 with subordinate ids: unpacked by somebody else, or left.
        for (name, uid, mode) in [("secret", 0, 0o600), ("public", 0, 0o644), ("five", FIRST + 4, 0o600)] {
            let path = case.root(name);
            std::fs::write(&path, name).unwrap();
            chown(&path, Some(uid), Some(uid)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let stdout = case.ok(
            &[],
            "mkdir /dir; echo x > /dir/file; ln -s file /dir/link; echo x > /made; \
             stat -c %u:%g /made /secret /five; cat /public; echo; cat /secret; (echo x > /public) 2> /dev/null; \
             cat /five 2> /dev/null && echo; \
             for f in '0:0 /made' '5:6 /dir/file' '5:6 /dir' '-h 7:8 /dir/link' '0:0 /secret' '70000:0 /made'; do \
             chown $f 2> /dev/null; echo $?; done; chmod 4755 /made",
        );
        let (five, changed, ids) = match case.ids {
            Ids::Single => ("65534:65534", "1\n1\n1", [USER; 3]),
            Ids::Subordinate => ("5:5", "0\n0\n0", [5, 5, 7].map(Rootless::outside)),
        };
        let read = if case.ids == Ids::Single { "" } else { "five\n" };
        let want = format!("0:0\n65534:65534\n{five}\npublic\n{read}0\n{changed}\n1\n1\n");
        assert_eq!(stdout, want, "{case:?}");
        assert_eq!(owner(&case.root("made")), (USER, USER), "{case:?}");
        assert_eq!(case.root("made").metadata().unwrap().mode() & 0o7777, 0o4755, "{case:?}");
        for (name, id) in ["dir", "dir/file", "dir/link"].into_iter().zip(ids) {
            assert_eq!(owner(&case.root(name)).0, id, "{case:?} {name}");
        }
        for name in ["secret", "public"] {
            assert_eq!(owner(&case.root(name)), (0, 0), "{case:?} {name}");
            assert_eq!(std::fs::read_to_string(case.root(name)).unwrap(), name, "{case:?}");
        }

        let output =
            case.run(&["--user", "1000:1001", "--cwd", "/deep/er"], "id -u; id -g; pwd; echo x > new");
        if case.ids == Ids::Single {
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(125), "{case:?}: {text}");
            assert!(text.contains("/etc/subuid") && text.contains("newuidmap"), "{case:?}: {text}");
            assert!(!case.root("deep").exists(), "{case:?}");
        } else {
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "1000\n1001\n/deep/er\n",
                "{case:?}: {output:?}"
            );
            let ids = (Rootless::outside(1000), Rootless::outside(1001));
            for name in ["deep", "deep/er", "deep/er/new"] {
                assert_eq!(owner(&case.root(name)), ids, "{case:?} {name}");
            }
        }

        // A directory's owner may delete what is in it, whoever owns that. It is the user's root, so all goes.
        case.ok(&[], "rm -rf /dir /made /deep /secret /public /five; for f in /dir /made /deep /secret; do [ ! -e $f ] || exit 1; done");
        for name in ["dir", "made", "deep", "secret", "public", "five"] {
            assert!(!case.root(name).exists(), "{case:?}: `{name}` was left");
        }
    }
}

#[test]
fn privileged_rootless_builders_that_are_killed_leave_nothing() {
    for case in cases("privileged_rootless_builders_that_are_killed_leave_nothing") {
        let mark = format!("82{:05}", std::process::id());
        let line = format!(
            "trap '' HUP INT TERM; (setsid sh -c 'trap \"\" HUP INT TERM; sleep {mark}' > /dev/null 2>&1 &); \
             echo > /started; exec sleep {mark}"
        );
        // SIGKILL of the one that waits outside and of the one inside; a signal that is passed on.
        for (inside, signal) in [(false, Signal::KILL), (true, Signal::KILL), (false, Signal::TERM)] {
            let _ = std::fs::remove_file(case.root("started"));
            let mut builder =
                case.command(&[], &line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            wait_for("the step to start", || case.root("started").exists() && sleeping(&mark) == 2);
            let pid = if inside { child_of(builder.id()) } else { builder.id() };
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, signal).unwrap();
            let status = builder.wait().unwrap();
            wait_for("the step's processes to end", || processes(&mark) == 0 && sleeping(&mark) == 0);
            assert_eq!(status.signal(), Some(signal.as_raw()), "{case:?} inside: {inside}");
            // What a killed one could not clear up.
            for entry in std::fs::read_dir(case.path("tmp")).unwrap() {
                std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
            }
        }
    }
}

/// Counts the processes `sleep MARK`, without those that have it in a longer command line.
fn sleeping(mark: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let want = [b"sleep\0", mark.as_bytes(), b"\0"].concat();
    all.filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|text| text == want)).count()
}

/// Finds the only child of a process.
fn child_of(pid: u32) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.trim().parse().unwrap()
}
