use serde_json::{Value, json};

use super::*;

fn plan_of(change: impl FnOnce(&mut Value)) -> Result<Plan, String> {
    let mut config = json!({
        "ociVersion": "1.0.2",
        "hostname": "box",
        "root": { "path": "rootfs", "readonly": true },
        "process": {
            "user": { "uid": 7, "gid": 8, "additionalGids": [9] },
            "args": ["tool", "-x"],
            "env": ["PATH=/a::/b", "HOME=", "HOME=/h"],
            "cwd": "/work",
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"] },
        ],
        "linux": {
            "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "uts" }, { "type": "network", "path": "/n" }],
        },
    });
    change(&mut config);
    let spec = crate::config::read(&config.to_string()).map_err(|error| error.to_string())?;
    Plan::new(&spec, Path::new("/bundle"), "x86_64").map_err(|error| error.to_string())
}

fn mount_of(value: Value) -> Result<Mount, String> {
    plan_of(|config| config["mounts"] = json!([value])).map(|plan| plan.mounts.into_iter().next().unwrap())
}

#[test]
fn a_whole_plan() {
    let plan = plan_of(|_| {}).unwrap();
    assert_eq!((&*plan.root, plan.root_readonly), (Path::new("/bundle/rootfs"), true));
    let namespaces = &plan.namespaces;
    assert!(namespaces.makes(libc::CLONE_NEWPID) && !namespaces.makes(libc::CLONE_NEWNET));
    assert_eq!(namespaces.join, [(libc::CLONE_NEWNET as u64, "/n".into())]);
    let process = &plan.process;
    assert_eq!((process.uid, process.gid, &*process.groups, process.umask), (7, 8, &[9][..], 0o022));
    let candidates: Vec<_> = process.candidates().iter().map(|c| c.to_str().unwrap().to_owned()).collect();
    assert_eq!(candidates, ["/a/tool", "./tool", "/b/tool"]);
    assert_eq!(process.variable("HOME"), Some(&b"/h"[..]));
    assert_eq!(process.variable("HOM"), None);
    assert!(plan.own_dev);
    assert_eq!(plan.devices.len(), 6);
    assert_eq!(plan.hostname.as_deref(), Some("box"));
}

#[test]
fn options_of_mounts() {
    let mount = |options: Value| {
        mount_of(json!({ "destination": "/x", "type": "tmpfs", "source": "t", "options": options })).unwrap()
    };
    let made = mount(json!(["ro", "nosuid", "size=5k", "noswap", "rw", "noexec", "exec"]));
    assert_eq!(
        made.top,
        Attributes { set: Attributes::NOSUID, clear: Attributes::READONLY | Attributes::NOEXEC }
    );
    let Kind::New { fs, source, options } = made.kind else { panic!() };
    assert_eq!((&*fs, &*source), ("tmpfs", "t"));
    assert_eq!(options, [("size".to_owned(), Some("5k".to_owned())), ("noswap".to_owned(), None)]);
    let made = mount(json!(["noatime", "rro", "rnosuid", "rslave"]));
    // The times are one number: setting it takes the old one off.
    assert_eq!(made.top, Attributes { set: 0x10, clear: Attributes::ATIME });
    assert_eq!(made.all, Attributes { set: Attributes::READONLY | Attributes::NOSUID, clear: 0 });
    assert_eq!(made.propagation, Some((Propagation::Slave, true)));
    assert_eq!(mount(json!(["noatime", "strictatime"])).top.set, 0x20);
    assert_eq!(mount(json!(["noatime", "relatime"])).top, Attributes { set: 0, clear: Attributes::ATIME });

    let bind = |options: Value| {
        mount_of(json!({ "destination": "/x/./y", "type": "bind", "source": "data", "options": options }))
    };
    let made = bind(json!(["rbind", "ro", "private"])).unwrap();
    assert_eq!(made.target, Path::new("/x/y"));
    assert_eq!(made.kind, Kind::Bind { source: "/bundle/data".into(), recursive: true });
    assert_eq!(made.propagation, Some((Propagation::Private, false)));
    for (options, problem) in [
        (json!(["ro"]), "neither a bind mount"),
        (json!(["bind", "size=1"]), "means nothing"),
        (json!(["bind", "idmap"]), "`idmap`"),
        (json!(["bind", "tmpcopyup"]), "`tmpcopyup`"),
    ] {
        let error = bind(options).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn devices_of_a_configuration() {
    let devices =
        |devices: Value| plan_of(|config| config["linux"]["devices"] = devices).map(|plan| plan.devices);
    let made = devices(json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 1 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 },
    ]))
    .unwrap();
    assert_eq!(made.len(), 7, "one that is there already is replaced");
    let fuse = made.iter().find(|device| device.path == Path::new("/dev/fuse")).unwrap();
    assert_eq!((fuse.kind, fuse.minor, fuse.mode, fuse.uid), (libc::S_IFCHR, 229, 0o660, 1));
    for device in [
        json!([{ "path": "/etc/x", "type": "c", "major": 1, "minor": 3 }]),
        json!([{ "path": "/dev/../etc/x", "type": "c", "major": 1, "minor": 3 }]),
        json!([{ "path": "/dev/x", "type": "a" }]),
        json!([{ "path": "/dev/x", "type": "b", "major": -1, "minor": 3 }]),
    ] {
        assert!(devices(device.clone()).is_err(), "{device}");
    }
}

#[test]
fn what_is_refused_is_named() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("mount` namespace", |c| c["linux"]["namespaces"] = json!([{ "type": "pid" }])),
        ("there twice", |c| c["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "mount" }])),
        ("joining", |c| c["linux"]["namespaces"][0]["path"] = json!("/proc/1/ns/mnt")),
        ("uidMappings", |c| c["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "user" }])),
        ("id mappings", |c| {
            c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1, "size": 1 }])
        }),
        ("over the root", |c| c["mounts"][0]["destination"] = json!("/")),
        ("not absolute", |c| c["mounts"][0]["destination"] = json!("proc")),
        ("`..`", |c| c["mounts"][0]["destination"] = json!("/a/../../b")),
        ("`..`", |c| c["linux"]["maskedPaths"] = json!(["/proc/../etc"])),
        ("names no program", |c| c["process"]["args"] = json!([])),
        ("zero byte", |c| c["process"]["env"] = json!(["A=\u{0}"])),
        ("uts namespace", |c| c["linux"]["namespaces"] = json!([{ "type": "mount" }])),
        ("not a container's own", |c| c["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/x" })),
        ("new namespace", |c| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" })),
        ("above the hard", |c| {
            c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 2, "hard": 1 }])
        }),
        ("hooks", |c| c["hooks"] = json!({ "prestart": [{ "path": "/x" }] })),
        ("personality", |c| c["linux"]["personality"] = json!({ "domain": "LINUX32" })),
        ("linux.resources", |c| c["linux"]["resources"] = json!({ "pids": { "limit": 5 } })),
        ("linux.cgroupsPath", |c| c["linux"]["cgroupsPath"] = json!("/x")),
        ("rootfsPropagation", |c| c["linux"]["rootfsPropagation"] = json!("public")),
        ("time namespace", |c| c["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "time" }])),
    ];
    for (want, change) in changes {
        let error = plan_of(change).unwrap_err();
        assert!(error.contains(want), "{want}: {error}");
    }
}

#[test]
fn settings_of_namespaces() {
    let plan = plan_of(|config| {
        config["linux"]["namespaces"] =
            json!([{ "type": "mount" }, { "type": "uts" }, { "type": "ipc" }, { "type": "network" }]);
        config["linux"]["sysctl"] =
            json!({ "net.ipv4.conf.all.x": "1", "kernel.shmmax": "5", "net/ipv4/conf/eth0.1/y": "2" });
    });
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let want =
        [text("kernel/shmmax", "5"), text("net/ipv4/conf/all/x", "1"), text("net/ipv4/conf/eth0.1/y", "2")];
    assert_eq!(plan.unwrap().sysctl, want);
}

#[test]
fn homes() {
    let passwd = b"root:x:0:0::/root:/bin/sh\nbroken\napp:x:10:10::/srv/app:/bin/sh\nnone:x:11:11:::\n";
    for (uid, home) in [(0, "/root"), (10, "/srv/app"), (11, "/"), (1, "/")] {
        assert_eq!(home_of(passwd, uid), Path::new(home), "{uid}");
    }
}
