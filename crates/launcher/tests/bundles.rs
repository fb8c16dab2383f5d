//! Bundles on this machine, by the example that is nothing but this crate's command line.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests, which clippy does not see as tests

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAMS: [&str; 10] = ["sh", "cat", "id", "ls", "mkdir", "sleep", "readlink", "stat", "touch", "grep"];

/// A bundle with a root of this machine's programs.
struct Bundle {
    dir: TempDir,
    config: Value,
}

impl Bundle {
    /// `None`, with a note, where this cannot be tested; with CI=true that is a failure.
    fn new(test: &str, line: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run: it needs root");
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("skipped {test}: it needs root\n").as_bytes(),
            );
            return None;
        }
        let dir = tempfile::Builder::new().prefix("cooper-launcher-").tempdir_in("/var/tmp").unwrap();
        let root = dir.path().join("root");
        for name in PROGRAMS {
            let path = format!("/bin/{name}");
            let ldd = Command::new("ldd").arg(&path).output().unwrap();
            let ldd = String::from_utf8(ldd.stdout).unwrap();
            for file in ldd.split_whitespace().filter(|word| word.starts_with('/')).chain([&*path]) {
                let to = root.join(file.trim_start_matches('/'));
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                if !to.exists() {
                    std::fs::copy(file, to).unwrap();
                }
            }
        }
        for path in [dir.path(), &root] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, mode).unwrap();
        }
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n")
            .unwrap();
        let config = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "root" },
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["/bin/sh", "-c", line],
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev", "noexec"] },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            ],
            "linux": {
                "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }],
            },
        });
        Some(Self { dir, config })
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn command(&self, words: &[&str]) -> Command {
        std::fs::write(self.dir.path().join("config.json"), self.config.to_string()).unwrap();
        // target/debug/deps/bundles-… -> target/debug/examples/bundle
        let own = std::env::current_exe().unwrap();
        let path = own.ancestors().nth(2).unwrap().join("examples/bundle");
        assert!(path.exists(), "`{}` is not built: cargo build --examples", path.display());
        let mut command = Command::new(path);
        command.arg("--root").arg(self.dir.path().join("state")).args(words).stdin(Stdio::null());
        command.current_dir(self.dir.path());
        command
    }

    fn run(&self) -> Output {
        let output = self.command(&["run", "test"]).output().unwrap();
        let left = std::fs::read_dir(self.dir.path().join("state")).unwrap().count();
        assert_eq!(left, 0, "state was left");
        output
    }

    #[track_caller]
    fn ok(&self) -> String {
        let output = self.run();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{:?}: {stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The message of a container that could not be made.
    #[track_caller]
    fn refused(&self) -> String {
        let output = self.run();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with("cooper oci-runtime: error: "), "{stderr}");
        stderr
    }

    fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn privileged_links_lead_nowhere_outside() {
    let test = "privileged_links_lead_nowhere_outside";
    let Some(mut bundle) = Bundle::new(test, "cat /mnt/file; echo more > /mnt/new; ls -A /tmpfs/; echo fine")
    else {
        return;
    };
    let outside = bundle.dir.path().join("outside");
    let data = bundle.dir.path().join("data");
    for dir in [&outside, &data] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::write(data.join("file"), "from data\n").unwrap();
    let link =
        |name: &str, target: &Path| std::os::unix::fs::symlink(target, bundle.root().join(name)).unwrap();
    link("dev", &outside);
    link("mnt", Path::new("../outside/deep"));
    link("tmpfs", &outside.join("new"));
    bundle.mount(json!({ "destination": "/mnt", "type": "bind", "source": "data", "options": ["rbind"] }));
    bundle.mount(
        json!({ "destination": "/tmpfs", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"] }),
    );
    assert_eq!(bundle.ok(), "from data\nfine\n");
    assert!(names(&outside).is_empty(), "{:?}", names(&outside));
    assert_eq!(names(&data), ["file", "new"]);
    // Read-only all the way down, not only where it is mounted.
    bundle.config["mounts"][2]["options"] = json!(["rbind", "rro"]);
    bundle.config["process"]["args"][2] = json!("echo x > /mnt/other");
    assert!(!bundle.run().status.success());
    assert_eq!(names(&data), ["file", "new"]);
}

#[test]
fn privileged_working_directories_lead_nowhere_outside() {
    let test = "privileged_working_directories_lead_nowhere_outside";
    let Some(mut bundle) = Bundle::new(test, "pwd") else { return };
    for cwd in ["/proc/self/fd/3", "/proc/self/cwd", "/proc/1/root", "/link"] {
        bundle.config["process"]["cwd"] = json!(cwd);
        if cwd == "/link" {
            std::os::unix::fs::symlink("/proc/self/fd/7", bundle.root().join("link")).unwrap();
        }
        let text = bundle.refused();
        assert!(text.contains("working directory"), "{cwd}: {text}");
    }
    bundle.config["process"]["cwd"] = json!("/new/dir");
    assert_eq!(bundle.ok(), "/new/dir\n");
}

#[test]
fn privileged_masks_cover_only_what_is_the_kernels() {
    let test = "privileged_masks_cover_only_what_is_the_kernels";
    let line =
        "cat /proc/kcore; ls -A /proc/acpi /proc/irq-not; (: >> /proc/sys/kernel/domainname) || echo still";
    let Some(mut bundle) = Bundle::new(test, line) else { return };
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/not/there"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/sysrq-trigger"]);
    bundle.config["process"]["args"][2] =
        json!("cat /proc/kcore; (: >> /proc/sys/kernel/domainname) 2> /dev/null || echo still");
    assert_eq!(bundle.ok(), "still\n");
    // Nothing is mounted inside of it.
    bundle.mount(json!({ "destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs" }));
    assert!(bundle.refused().contains("inside of /proc"));
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    // A folder of the image that looks like it.
    bundle.config["mounts"].as_array_mut().unwrap().remove(0);
    std::fs::create_dir_all(bundle.root().join("proc/sys")).unwrap();
    std::fs::write(bundle.root().join("proc/kcore"), "").unwrap();
    assert!(bundle.refused().contains("is not the kernel's"));
    // A device that looks like /dev/null.
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/passwd"]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["mounts"] = json!([]);
    std::fs::create_dir_all(bundle.root().join("dev")).unwrap();
    std::fs::write(bundle.root().join("dev/null"), "evil").unwrap();
    assert!(bundle.refused().contains("is not the device 1:3"));
}

#[test]
fn privileged_who_the_process_is() {
    let test = "privileged_who_the_process_is";
    let line = "id -u; id -g; id -G; umask; echo $HOME $$; grep -E '^(Cap|NoNew|Seccomp:|Groups)' /proc/self/status; \
                cat /proc/self/oom_score_adj; ulimit -n; cat /proc/sys/kernel/hostname; ls -A /proc/self/fd/";
    let Some(mut bundle) = Bundle::new(test, line) else { return };
    bundle.config["hostname"] = json!("box");
    let process = &mut bundle.config["process"];
    process["user"] = json!({ "uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [7, 8] });
    process["noNewPrivileges"] = json!(true);
    process["oomScoreAdj"] = json!(555);
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }]);
    process["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    let want = "1000\n1001\n1001 7 8\n0027\n/srv 1\nGroups:\t7 8 \nCapInh:\t0000000000000020\nCapPrm:\t0000000000000020\n\
                CapEff:\t0000000000000020\nCapBnd:\t0000000000002021\nCapAmb:\t0000000000000020\nNoNewPrivs:\t1\nSeccomp:\t0\n\
                555\n77\nbox\n0\n1\n2\n3\n";
    assert_eq!(bundle.ok(), want);
}

#[test]
fn privileged_a_filter_does_what_the_profile_says() {
    let test = "privileged_a_filter_does_what_the_profile_says";
    let line = "mkdir /a 2>&1; mkdir -p /tmp; cat /etc/passwd > /dev/null && echo read";
    let Some(mut bundle) = Bundle::new(test, line) else { return };
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
    });
    for no_new_privileges in [false, true] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let text = bundle.ok();
        assert!(text.contains("Function not implemented") && text.ends_with("read\n"), "{text}");
        assert!(!bundle.root().join("a").exists());
    }
}

#[test]
fn privileged_exit_codes_and_failures() {
    let test = "privileged_exit_codes_and_failures";
    let Some(mut bundle) = Bundle::new(test, "exit 7") else { return };
    assert_eq!(bundle.run().status.code(), Some(7));
    bundle.config["process"]["args"][2] = json!("trap - TERM; sh -c 'kill -9 $$'; exit $?");
    assert_eq!(bundle.run().status.code(), Some(137));
    for (args, want) in [
        (json!(["nothing"]), "execute `nothing`: No such file"),
        (json!(["/etc/passwd"]), "execute `/etc/passwd`: Permission denied"),
        (json!(["/etc"]), "Permission denied"),
    ] {
        bundle.config["process"]["args"] = args;
        let text = bundle.refused();
        assert!(text.contains(want), "{text}");
    }
    // A file without a format is not run by a shell in its stead.
    let file = bundle.root().join("bin/text");
    std::fs::write(&file, "echo run\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.config["process"]["args"] = json!(["text"]);
    assert!(bundle.refused().contains("Exec format error"));
}

#[test]
fn privileged_create_start_state_kill_delete() {
    let test = "privileged_create_start_state_kill_delete";
    let Some(bundle) = Bundle::new(test, "touch /started; sleep 987") else { return };
    let state = || {
        let output = bundle.command(&["state", "it"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()["status"].clone()
    };
    let ok = |words: &[&str]| {
        let status = bundle.command(words).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        status.success()
    };
    assert!(ok(&["create", "--pid-file", "pid", "it"]));
    assert!(!ok(&["create", "it"]), "there are two of one name");
    assert_eq!(state(), "created");
    assert!(!bundle.root().join("started").exists());
    assert!(ok(&["start", "it"]) && !ok(&["start", "it"]));
    let start = Instant::now();
    while !bundle.root().join("started").exists() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(state(), "running");
    assert!(!ok(&["delete", "it"]), "it runs");
    let pid = std::fs::read_to_string(bundle.dir.path().join("pid")).unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(ok(&["kill", "it", "KILL"]));
    while state() != "stopped" {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(ok(&["delete", "it"]) && !ok(&["delete", "it"]) && ok(&["delete", "--force", "it"]));
    assert!(ok(&["create", "other"]) && ok(&["delete", "--force", "other"]));
    assert!(names(&bundle.dir.path().join("state")).is_empty());
}

#[test]
fn privileged_a_killed_launcher_takes_the_container_along() {
    let test = "privileged_a_killed_launcher_takes_the_container_along";
    let mark = format!("986{}", std::process::id());
    let Some(bundle) = Bundle::new(test, &format!("touch /started; exec sleep {mark}")) else { return };
    let count = || {
        let is_it = |entry: &std::fs::DirEntry| {
            let text = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            text == format!("sleep\0{mark}\0").into_bytes()
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter(is_it).count()
    };
    let mut launcher = bundle.command(&["run", "it"]).spawn().unwrap();
    let start = Instant::now();
    let wait_for = |number: usize| {
        while count() != number {
            assert!(start.elapsed() < Duration::from_secs(20), "{number}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for(1);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    wait_for(0);
}

#[test]
fn privileged_a_user_namespace() {
    let test = "privileged_a_user_namespace";
    let line = "id -u; cat /proc/self/uid_map; touch /tmp/file; stat -c '%F %t:%T' /dev/null; echo x > /dev/null && echo fine";
    let Some(mut bundle) = Bundle::new(test, line) else { return };
    std::fs::create_dir(bundle.root().join("tmp")).unwrap();
    std::fs::set_permissions(bundle.root().join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    for name in ["proc", "dev"] {
        std::fs::create_dir(bundle.root().join(name)).unwrap();
    }
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let words = bundle.ok().split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(words, "0 0 100000 1000 character special file 1:3 fine");
    let owner =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(bundle.root().join("tmp/file")).unwrap());
    assert_eq!(owner, 100_000);
}
