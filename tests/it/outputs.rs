//! What comes out, read by those for whom it is made.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use cooper_tests::cooper::{Env, User, base};
use cooper_tests::image::{Image, run};
use serde_json::Value;

const DOCKERFILE: &str = "FROM python:3.9-slim\nLABEL made=here\nCOPY file /file\nRUN echo more >> /file\nCMD [\"cat\", \"/file\"]\n";

fn environment() -> Env {
    let env = Env::new(User::Root);
    env.write("Dockerfile", DOCKERFILE).write("file", "some\n");
    env
}

#[test]
fn privileged_podman_loads_and_runs_it() {
    let Some(layout) = base("podman_loads_and_runs_it") else { return };
    let env = environment();
    let built = env.build(&layout, &["-t", "localhost/outputs:1"]).ok();
    assert!(built.stderr.contains("podman load -i"), "{}", built.stderr);
    let podman = |words: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(env.path("podman")).arg("--runroot").arg(env.path("podman-run"));
        command
            .args(["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"])
            .args(words);
        run(&mut command)
    };
    let loaded = podman(&["load", "-i", &env.path("out.tar").to_string_lossy()]);
    assert!(loaded.contains("localhost/outputs:1"), "{loaded}");
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    let words = [&["run", "--rm", "--network", "host"][..], &limits, &["localhost/outputs:1"]].concat();
    assert_eq!(podman(&words), "some\nmore\n");
}

#[test]
fn privileged_every_form_has_the_same_image() {
    let Some(layout) = base("every_form_has_the_same_image") else { return };
    let env = environment();
    let (ids, metadata) = (env.path("id"), env.path("metadata.json"));
    let (folder, tree, tar) = (env.path("layout"), env.path("tree"), env.path("tree.tar"));
    let context = format!("python:3.9-slim=oci-layout://{}", layout.display());
    let outputs = [
        format!("type=oci,dest={}", env.path("out.tar").display()),
        format!("type=oci,tar=false,dest={}", folder.display()),
        format!("type=local,dest={}", tree.display()),
        format!("type=tar,dest={}", tar.display()),
    ];
    let mut words = vec!["build", ".", "-t", "app:1", "-t", "example.com/app:2", "--build-context", &context];
    for output in &outputs {
        words.extend(["-o", output]);
    }
    let (ids_text, metadata_text) =
        (ids.to_string_lossy().into_owned(), metadata.to_string_lossy().into_owned());
    words.extend(["--iidfile", &ids_text, "--metadata-file", &metadata_text]);
    env.cooper(&words).ok();

    let metadata: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(metadata["image.name"], "docker.io/library/app:1,example.com/app:2");
    assert_eq!(metadata["containerimage.config.digest"], std::fs::read_to_string(&ids).unwrap());
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    for place in
        [format!("oci:{}:2", folder.display()), format!("oci-archive:{}:2", env.path("out.tar").display())]
    {
        let seen: Value =
            serde_json::from_str(&run(Command::new("skopeo").args(["inspect", &place]))).unwrap();
        assert_eq!(seen["Digest"], digest, "{place}");
        assert_eq!(seen["Labels"]["made"], "here");
    }
    assert_eq!(std::fs::read_to_string(tree.join("file")).unwrap(), "some\nmore\n");
    assert_eq!(run(Command::new("tar").arg("-xOf").arg(&tar).arg("file")), "some\nmore\n");

    // Made again from the cache: the same bytes.
    let before = std::fs::read(env.path("out.tar")).unwrap();
    env.cooper(&words).ok();
    assert!(before == std::fs::read(env.path("out.tar")).unwrap(), "the archive differs");
    // Asked for by nobody: no image, no digest, no file.
    let refused =
        env.cooper(&["build", ".", "--iidfile", &ids_text, "-o", &outputs[2], "--build-context", &context]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

#[test]
fn privileged_standard_output_is_the_archive() {
    let Some(layout) = base("standard_output_is_the_archive") else { return };
    let env = environment();
    let context = format!("python:3.9-slim=oci-layout://{}", layout.display());
    let archive = env.path("out.tar");
    let mut command = env.command(&["build", ".", "-o", "type=oci", "--build-context", &context]);
    let status =
        command.stdout(std::fs::File::create(&archive).unwrap()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    assert_eq!(Image::open(&archive).text("file"), "some\nmore\n");
}

/// The old archive is whole until the new one is, whenever the builder is killed.
#[test]
fn privileged_a_killed_export_leaves_the_old_file() {
    let Some(layout) = base("a_killed_export_leaves_the_old_file") else { return };
    let env = environment();
    env.build(&layout, &[]).ok();
    let old = std::fs::read(env.path("out.tar")).unwrap();
    let context = format!("python:3.9-slim=oci-layout://{}", layout.display());
    let out = format!("type=oci,dest={}", env.path("out.tar").display());
    let mut killed = 0;
    for round in 0_u64..12 {
        env.write("file", &format!("round {round}\n"));
        let mut command =
            env.command(&["build", ".", "--progress", "quiet", "--build-context", &context, "-o", &out]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(40 + 45 * round));
        let _ = child.kill();
        if child.wait().unwrap().signal().is_none() {
            break;
        }
        killed += 1;
        let now = std::fs::read(env.path("out.tar")).unwrap();
        if now != old {
            // The rename came before the kill: then it is the new one, and whole.
            assert_eq!(Image::open(&env.path("out.tar")).text("file"), format!("round {round}\nmore\n"));
            break;
        }
    }
    assert!(killed > 0, "no export was killed");
    // Whatever was left behind harms nobody.
    env.write("file", "last\n");
    env.build(&layout, &[]).ok();
    assert_eq!(Image::open(&env.path("out.tar")).text("file"), "last\nmore\n");
}
