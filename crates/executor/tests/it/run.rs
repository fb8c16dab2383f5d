use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cooper_executor::{Cancel, ExtraHost, Mount, MountFrom, Network, StepError, Ulimit};

use crate::support::{Bench, runtimes, tree};

#[test]
fn privileged_output_exit_and_no_stubs() {
    for runtime in runtimes("privileged_output_exit_and_no_stubs") {
        let bench = Bench::new(runtime);
        let before = tree(&bench.root_dir());
        let root_time =
            |path: &Path| std::fs::metadata(path).map(|meta| (meta.mtime(), meta.mtime_nsec())).unwrap();
        let etc_time = root_time(&bench.root_dir().join("etc"));

        let ran =
            bench.run(&bench.sh("echo out; echo err >&2; cat /etc/hosts /etc/resolv.conf; hostname; pwd"));
        assert_eq!(ran.stderr, "err\n", "{runtime}");
        let (stdout, done) = ran.ok();
        assert!(stdout.starts_with("out\n127.0.0.1\tlocalhost buildkitsandbox\n"), "{runtime}: {stdout}");
        assert!(stdout.ends_with("buildkitsandbox\n/\n"), "{runtime}: {stdout}");
        assert!(done.served_by.starts_with(runtime));
        assert!(done.window.start <= done.window.end && done.usage.wall > Duration::ZERO);
        assert!(done.usage.user + done.usage.system > Duration::ZERO);

        let after = bench.layers.path(done.outputs[0].layer);
        let mut want = before.clone();
        want.extend(["dev", "proc", "sys"].map(str::to_owned));
        want.sort();
        assert_eq!(tree(&after), want, "{runtime}: stubs were left");
        assert_eq!(std::fs::metadata(after.join("proc")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(root_time(&after.join("etc")), etc_time, "{runtime}: /etc was touched");

        for (line, code) in
            [("exit 3", 3), ("exit 1", 1), ("exit 127", 127), ("kill -9 $$", 137), ("kill -15 $$", 143)]
        {
            let done = bench
                .run(&bench.sh(line))
                .result
                .unwrap_or_else(|error| panic!("{runtime} {line}: {error:?}"));
            let code_got = done.exit.code;
            // Being pid 1 of its namespace, a shell without a handler does not die of its own signals.
            let ignored = line.starts_with("kill") && code_got == 0;
            assert!(code_got == code || ignored, "{runtime} {line}: {code_got}");
        }
        let done = bench.run(&bench.sh("sh -c 'kill -9 $$'; exit $?")).result.unwrap();
        assert_eq!(done.exit.code, 137);
        assert!(done.outputs.is_empty());
        let mut step = bench.sh("exit 3");
        step.process.valid_exit_codes = vec![3];
        assert!(bench.run(&step).result.unwrap().exit.success);
        let left = std::fs::read_dir(bench.dir.path().join("state")).unwrap().count();
        assert_eq!(left, 0, "{runtime}: state was left");
    }
}

#[test]
fn privileged_failures_are_told_apart() {
    for runtime in runtimes("privileged_failures_are_told_apart") {
        let bench = Bench::new(runtime);
        assert!(matches!(bench.run(&bench.step(&["nope"])).error(), StepError::NotFound { .. }));
        assert!(matches!(bench.run(&bench.step(&["/etc/passwd"])).error(), StepError::NotExecutable { .. }));
        let mut step = bench.sh("true");
        step.process.user = "nobody-here".into();
        assert!(matches!(bench.run(&step).error(), StepError::User(_)));
        std::fs::write(bench.root_dir().join("bin/bad"), [0_u8; 64]).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bench.root_dir().join("bin/bad"), mode).unwrap();
        let error = bench.run(&bench.step(&["/bin/bad"])).error();
        assert!(matches!(error, StepError::NotExecutable { .. }), "{runtime}: {error:?}");
        // Nobody provides anything here: that is said of what is required, and of caches.
        let with = |from: MountFrom| {
            let mut step = bench.sh("test ! -e /x");
            step.mounts.push(Mount { dest: "/x".into(), from, readonly: false, output: false });
            bench.run(&step)
        };
        let secret = |required| MountFrom::Secret { id: "s".into(), required, uid: 0, gid: 0, mode: 0 };
        let agent = |required| MountFrom::Agent { id: "a".into(), required, uid: 0, gid: 0, mode: 0 };
        for (required, optional) in [(secret(true), secret(false)), (agent(true), agent(false))] {
            let error = with(required).error();
            assert!(matches!(error, StepError::NotProvided { .. }), "{runtime}: {error:?}");
            with(optional).ok();
        }
        let cache =
            with(MountFrom::Cache { id: "c".into(), sharing: Default::default(), seed: None }).error();
        assert!(matches!(cache, StepError::Workspace { .. }), "{runtime}: {cache:?}");
    }
}

#[test]
fn privileged_users_and_directories() {
    for runtime in runtimes("privileged_users_and_directories") {
        let bench = Bench::new(runtime);
        let mut step = bench.sh("id -u; id -g; id -G; stat -c '%u:%g %a' . ..; pwd");
        step.process.user = "app".into();
        step.process.cwd = "/work/inner".into();
        let (stdout, root) = bench.ok(&step);
        assert_eq!(stdout, "1000\n1001\n1001 1002\n1000:1001 755\n1000:1001 755\n/work/inner\n", "{runtime}");
        assert!(root.join("work/inner").is_dir());
        step.process.user = "5:6".into();
        assert!(bench.ok(&step).0.starts_with("5\n6\n6\n"), "{runtime}");
    }
}

#[test]
fn privileged_mounts() {
    for runtime in runtimes("privileged_mounts") {
        let bench = Bench::new(runtime);
        let other = bench.dir.path().join("other");
        std::fs::create_dir_all(other.join("sub/deep")).unwrap();
        std::fs::write(other.join("sub/file"), "text\n").unwrap();
        std::os::unix::fs::symlink("/sub/file", other.join("link")).unwrap();
        let layer = bench.layers.add("other", &other);
        let mount = |dest: &str, from: MountFrom, readonly: bool| Mount {
            dest: dest.to_owned(),
            from,
            readonly,
            output: false,
        };
        let layers = |path: &str| MountFrom::Layers(vec![layer], path.to_owned());

        let mut step =
            bench.sh("cat /made/for/dir/file rel; touch /made/for/dir/new 2>/dev/null && echo written; \
             touch rel 2>/dev/null && echo written; touch /rw/sub/x && echo rw; ls /rw/sub/deep/tmp; \
             touch /rw/sub/deep/tmp/y; grep ' /rw/sub/deep/tmp ' /proc/mounts > /dev/null && echo tmpfs; \
             touch /empty/z; ls /empty; grep -c . /proc/self/mounts > /dev/null; ls /dev/shm");
        step.process.cwd = "/cwd".into();
        step.mounts.extend([
            mount("/made/for/dir", layers("sub"), true),
            mount("rel", layers("/link"), true),
            mount("/rw", layers(""), false),
            mount("/rw/sub/deep/tmp", MountFrom::Tmpfs { size: Some(1 << 20) }, false),
            mount("/empty", MountFrom::Empty, false),
            mount("/dev/shm", MountFrom::Tmpfs { size: None }, false),
        ]);
        let (stdout, root) = bench.ok(&step);
        assert_eq!(stdout, "text\ntext\nrw\ntmpfs\nz\n", "{runtime}");
        for gone in ["made", "rw", "empty", "cwd/rel"] {
            assert!(!root.join(gone).exists(), "{runtime}: `{gone}` was left");
        }
        assert!(root.join("cwd").is_dir());
        assert!(!other.join("sub/x").exists(), "the layer itself was written to");

        step.mounts.truncate(1);
        step.mounts.push(Mount { dest: "/out".into(), from: layers("/"), readonly: false, output: true });
        step.process.args[2] = "echo more > /out/sub/more".into();
        let (_, done) = bench.run(&step).ok();
        assert_eq!(done.outputs.len(), 2);
        let out = bench.layers.path(done.outputs[1].layer);
        assert_eq!(std::fs::read_to_string(out.join("sub/more")).unwrap(), "more\n");

        for (dest, from) in [
            ("/x", layers("no/such")),
            ("/proc/x", layers("")),
            ("/dev", layers("")),
            ("/bin/sh", layers("")),
        ] {
            step.mounts.truncate(1);
            step.mounts.push(mount(dest, from, true));
            let error = bench.run(&step).error();
            assert!(matches!(error, StepError::Path { .. }), "{dest}: {error:?}");
        }
        step.mounts.truncate(1);
        step.mounts[0].readonly = true;
        step.mounts[0].output = false;
        step.process.args[2] = "touch /x".into();
        assert_ne!(bench.run(&step).result.unwrap().exit.code, 0, "{runtime}: the root was written to");
    }
}

#[test]
fn privileged_network_hosts_and_limits() {
    for runtime in runtimes("privileged_network_hosts_and_limits") {
        let bench = Bench::new(runtime);
        let mut step = bench.sh("ls /sys/class/net; cat /etc/hosts; hostname; ulimit -n; ulimit -Hn");
        step.network = Network::None;
        step.hostname = "inner".into();
        step.extra_hosts.push(ExtraHost { host: "db".into(), ip: "10.0.0.7".into() });
        step.ulimits.push(Ulimit { name: "nofile".into(), soft: 100, hard: 200 });
        let (stdout, _) = bench.ok(&step);
        assert_eq!(
            stdout,
            "lo\n127.0.0.1\tlocalhost inner\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb\ninner\n100\n200\n",
            "{runtime}"
        );
        step.ulimits[0].soft = -1;
        step.ulimits[0].hard = -1;
        bench.ok(&step);
        let machine = std::fs::read_dir("/sys/class/net").unwrap().count();
        let (stdout, _) = bench.ok(&bench.sh("ls /sys/class/net"));
        assert_eq!(stdout.lines().count(), machine, "{runtime}");
    }
}

#[test]
fn privileged_cancelling_kills_everything() {
    for runtime in runtimes("privileged_cancelling_kills_everything") {
        let bench = Bench::new(runtime);
        let cancel = Cancel::new();
        let other = cancel.clone();
        let mark = format!("86{:05}", std::process::id());
        let line = format!("touch /started; setsid sleep {mark} & sleep {mark}");
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1500));
            other.cancel();
        });
        let start = Instant::now();
        let error = bench.run_with(&bench.sh(&line), &cancel).error();
        thread.join().unwrap();
        assert!(matches!(error, StepError::Cancelled), "{runtime}: {error:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!(processes(&mark), 0, "{runtime}: a process was left");
        assert_eq!(std::fs::read_dir(bench.dir.path().join("state")).unwrap().count(), 0);
    }
}

#[test]
fn privileged_what_a_step_leaves_running_is_killed() {
    for runtime in runtimes("privileged_what_a_step_leaves_running_is_killed") {
        let bench = Bench::new(runtime);
        let mark = format!("87{:05}", std::process::id());
        let start = Instant::now();
        bench.ok(&bench.sh(&format!("setsid sleep {mark} & true")));
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!(processes(&mark), 0, "{runtime}");
    }
}

/// Counts processes that have `mark` as an argument.
pub(crate) fn processes(mark: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter(|entry| {
        let path = entry.as_ref().unwrap().path().join("cmdline");
        std::fs::read(path).is_ok_and(|text| text.split(|&b| b == 0).any(|arg| arg == mark.as_bytes()))
    })
    .count()
}
