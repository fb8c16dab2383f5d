//! Mounts of RUN that bring something from outside of a build, or keep something beyond it; and what steps may do.

use std::path::Path;
use std::process::{Command, Stdio};

use cooper_tests::cooper::{Env, Finished, NOBODY, User, base};
use cooper_tests::image::{Image, run};

/// All that mounts and permissions do, in one store, for it takes its time to fill.
fn table(test: &str, user: User, runtime: &str) {
    let Some(layout) = base(test) else { return };
    let env = Env::new(user);
    let build = |words: &[&str]| {
        let words = [&["--runtime", runtime], words].concat();
        env.build(&layout, &words)
    };
    caches_are_kept_between_builds(&env, &build);
    secrets_are_seen_by_the_step_alone(&env, &build);
    agents_answer_steps(&env, user, &build);
    steps_may_do_what_is_allowed(&env, &build);
    if user != User::SingleId {
        caches_belong_to_whom_they_are_for(&env, &build);
    }
}

type Build<'a> = &'a dyn Fn(&[&str]) -> Finished;

#[test]
fn privileged_mounts_as_root_with_crun() {
    table("mounts_as_root_with_crun", User::Root, "crun");
}

#[test]
fn privileged_mounts_as_root_with_runc() {
    table("mounts_as_root_with_runc", User::Root, "runc");
}

#[test]
fn privileged_mounts_rootless_with_crun() {
    table("mounts_rootless_with_crun", User::Subordinate, "crun");
}

#[test]
fn privileged_mounts_single_id_with_runc() {
    table("mounts_single_id_with_runc", User::SingleId, "runc");
}

/// A Dockerfile whose steps leave their results in the working directory, and an image with nothing else in it.
fn results(steps: &str) -> String {
    format!("FROM python:3.9-slim AS run\nWORKDIR /out\n{steps}\nFROM scratch\nCOPY --from=run /out /\n")
}

fn caches_are_kept_between_builds(env: &Env, build: Build<'_>) {
    let step = |text: &str| {
        let steps = format!(
            "RUN --mount=type=cache,target=/c echo {text} >> /c/list; cat /c/list > seen\nRUN test ! -e /c"
        );
        env.write("Dockerfile", &results(&steps));
        build(&[]).ok();
        Image::open(&env.path("out.tar")).text("seen")
    };
    assert_eq!(step("one"), "one\n");
    assert_eq!(step("two"), "one\ntwo\n");
    // Nothing ran again, so nothing was added.
    assert_eq!(step("two"), "one\ntwo\n");
    // Another name is another cache, and one that is seeded has what was in the stage.
    env.write(
        "Dockerfile",
        &results(
            "RUN --mount=type=cache,id=other,target=/c ls -A /c > empty\n\
             RUN --mount=type=cache,target=/c,from=seed,source=/s echo more >> /c/list; cat /c/list > seeded\n\
             RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/list > again\n\
             RUN --mount=type=cache,target=/c,readonly sh -c 'echo x > /c/x' 2> refused; cat /c/list > read",
        )
        .replace("FROM python", "FROM python:3.9-slim AS seed\nRUN mkdir /s && echo seed > /s/list\nFROM python"),
    );
    build(&[]).ok();
    let image = Image::open(&env.path("out.tar"));
    assert_eq!(image.text("empty"), "");
    assert_eq!(image.text("seeded"), "seed\nmore\n");
    assert_eq!(image.text("again"), "seed\nmore\n");
    assert!(image.text("refused").contains("ead-only"), "{}", image.text("refused"));
    assert_eq!(image.text("read"), "one\ntwo\n");
}

fn caches_belong_to_whom_they_are_for(env: &Env, build: Build<'_>) {
    env.write(
        "Dockerfile",
        &results(
            "RUN chmod 777 . && mkdir -m 700 /home/app && chown 1000:1001 /home/app\n\
             RUN --mount=type=cache,target=/c,uid=7,gid=8,mode=0750 stat -c '%u:%g %a' /c > given\n\
             RUN --mount=type=cache,target=/home/app stat -c '%u:%g' /home/app > mountpoint\n\
             RUN --mount=type=cache,target=/fresh stat -c '%u:%g %a' /fresh > made\n\
             USER 1000\n\
             RUN --mount=type=cache,target=/tmp/mine touch /tmp/mine/x && stat -c '%u' /tmp/mine > user\n\
             USER 0\nRUN test ! -e /c && test ! -e /tmp/mine && test ! -e /fresh",
        ),
    );
    build(&[]).ok();
    let image = Image::open(&env.path("out.tar"));
    assert_eq!(image.text("given"), "7:8 750\n");
    assert_eq!(image.text("mountpoint"), "1000:1001\n");
    assert_eq!(image.text("made"), "0:0 755\n");
    assert_eq!(image.text("user"), "1000\n");
}

/// Builders that run at the same time: a locked cache is had by one, a private one by nobody else, a shared one by all.
#[test]
fn privileged_caches_are_shared_as_asked() {
    let Some(layout) = base("caches_are_shared_as_asked") else { return };
    let env = Env::new(User::Root);
    for (sharing, expected) in [("locked", "alone"), ("private", "alone"), ("shared", "together")] {
        let builders: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                // Waits a little for the other one, who has the same cache or has not.
                env.write(
                    &format!("{name}.Dockerfile"),
                    &results(&format!(
                        "RUN --mount=type=cache,id={sharing},target=/c,sharing={sharing} touch /c/{name}; \
                         for i in $(seq 40); do test $(ls /c | wc -l) = 2 && break; sleep 0.1; done; \
                         if test $(ls /c | wc -l) = 2; then echo together; else echo alone; fi > how; \
                         if test {sharing} = shared; then sleep 1; fi; rm /c/{name}"
                    )),
                );
                let context = format!("python:3.9-slim=oci-layout://{}", layout.display());
                let out = format!("type=oci,dest={}", env.path(&format!("{name}.tar")).display());
                let file = format!("{name}.Dockerfile");
                let words = ["build", ".", "-f", &file, "--build-context", &context, "-o", &out];
                env.command(&words).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for builder in builders {
            let output = builder.wait_with_output().unwrap();
            assert!(output.status.success(), "{sharing}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let how: Vec<String> =
            ["a.tar", "b.tar"].iter().map(|name| Image::open(&env.path(name)).text("how")).collect();
        if expected == "alone" {
            assert_eq!(how, ["alone\n", "alone\n"], "{sharing}");
        } else {
            assert!(how.contains(&"together\n".to_owned()), "{sharing}: {how:?}");
        }
    }
}

/// A word that is in no program and no file of the image.
const WORD: &str = "cooper-planted-7c1f0a94e2";

fn secrets_are_seen_by_the_step_alone(env: &Env, build: Build<'_>) {
    std::fs::write(env.path("given"), WORD).unwrap();
    env.write(
        "Dockerfile",
        &results(
            "RUN --mount=type=secret,id=file cd /run/secrets && wc -c < file > /out/size && stat -c '%u:%g %a' file > /out/owner && \
                 stat -f -c %T file > /out/kind && if echo x > file; then false; else echo no > /out/refused; fi\n\
             RUN --mount=type=secret,id=variable,env=TOKEN test \"$TOKEN\" = \"$(printf 'c%s' ooper-planted-7c1f0a94e2)\"\n\
             RUN --mount=type=secret,id=path test -s /run/secrets/path\n\
             RUN --mount=type=secret,id=file,target=/etc/token,mode=0444 grep -q planted /etc/token\n\
             RUN --mount=type=secret,id=later cat /run/secrets/later > later 2>&1; test -s later\n\
             RUN test ! -e /run/secrets && test ! -e /etc/token",
        ),
    );
    let file = format!("id=file,src={}", env.path("given").display());
    let variable = file.replace("id=file", "id=variable");
    let secrets = ["--secret", &file, "--secret", &variable, "--secret", "id=path,env=PATH"];
    let printed = build(&secrets).ok().stderr;
    assert!(!printed.contains(WORD), "the secret was printed");
    let image = Image::open(&env.path("out.tar"));
    assert_eq!(image.text("size").trim(), WORD.len().to_string());
    assert_eq!(image.text("owner"), "0:0 400\n");
    assert_eq!(image.text("kind"), "tmpfs\n");
    assert_eq!(image.text("refused"), "no\n");
    assert!(image.text("later").contains("No such file"), "{}", image.text("later"));
    assert_eq!(places_of(WORD, &env.path("store")), "", "the secret is in the store");
    assert_eq!(places_of(WORD, &env.path("out.tar")), "", "the secret is in the image");
    // A step that went on without a secret is another one than the step that has it; what it is is nobody's business.
    let later = format!("id=later,src={}", env.path("later").display());
    let with = [&secrets[..], &["--secret", &later]].concat();
    for value in ["one", "two"] {
        std::fs::write(env.path("later"), value).unwrap();
        build(&with).ok();
        assert_eq!(Image::open(&env.path("out.tar")).text("later"), "one");
    }
}

/// The files below a folder with a word in them.
fn places_of(word: &str, folder: &Path) -> String {
    let output = Command::new("grep").args(["-r", "-l", "-a", "-F", word]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn privileged_what_was_not_given_is_an_error_with_a_remedy() {
    let Some(layout) = base("what_was_not_given_is_an_error_with_a_remedy") else { return };
    let env = Env::new(User::Root);
    for (step, error) in [
        (
            "RUN --mount=type=secret,id=key,required true",
            "secret key: not found: give it by `--secret id=key,src=FILE`",
        ),
        ("RUN --mount=type=ssh,required true", "ssh agent default: not found: give it by `--ssh default`"),
        (
            "RUN --network=host true",
            "network.host is not allowed: if it may, say so by `--allow network.host`",
        ),
        ("RUN --security=insecure true", "security.insecure is not allowed: if it may, say so by `--allow"),
    ] {
        env.write("Dockerfile", &format!("# check=skip=all\nFROM python:3.9-slim\n{step}\n"));
        let failed = env.build(&layout, &[]);
        assert_eq!(failed.code, 1, "{step}: {}", failed.stderr);
        assert!(failed.stderr.contains(error), "{step}: {}", failed.stderr);
        assert!(failed.stderr.contains("--> Dockerfile:3:1"), "{step}: {}", failed.stderr);
    }
}

/// What was run once with permission is not had without it, not even out of the cache.
fn steps_may_do_what_is_allowed(env: &Env, build: Build<'_>) {
    env.write(
        "Dockerfile",
        &results(
            "RUN --network=host readlink /proc/self/ns/net > net\n\
             RUN --security=insecure grep CapEff /proc/self/status > caps; mount -t tmpfs x /mnt && echo yes > mounted\n\
             RUN grep CapEff /proc/self/status > few; mount -t tmpfs x /mnt 2> /dev/null || echo no > refused",
        ),
    );
    let all = ["--allow", "network.host", "--allow", "security.insecure"];
    build(&all).ok();
    let image = Image::open(&env.path("out.tar"));
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(Path::new(image.text("net").trim()), own);
    assert_ne!(image.text("caps"), image.text("few"));
    assert_eq!((image.text("mounted"), image.text("refused")), ("yes\n".into(), "no\n".into()));
    let failed = build(&["--allow", "network.host"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
}

/// A program of the image that asks an agent for its keys, and for something that no step may do.
const ASK: &str = r#"
import os, socket, struct
def ask(kind):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["SSH_AUTH_SOCK"])
    s.sendall(struct.pack(">IB", 1, kind))
    head = s.recv(4, socket.MSG_WAITALL)
    return s.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
print(ask(11)[0], struct.unpack(">I", ask(11)[1:5])[0], ask(19)[0])
"#;

fn agents_answer_steps(env: &Env, user: User, build: Build<'_>) {
    env.write("ask.py", ASK);
    env.write(
        "Dockerfile",
        &results(
            "COPY ask.py /\n\
             RUN --mount=type=ssh python3 /ask.py > one; echo $SSH_AUTH_SOCK > where\n\
             RUN --mount=type=ssh,id=two,target=/run/two SSH_AUTH_SOCK=/run/two python3 /ask.py > two; stat -c '%a' /run/two > mode\n\
             RUN --mount=type=ssh,id=none test -z \"$(ls /run/buildkit 2>/dev/null)\"",
        ),
    );
    let keys = ["a", "b"].map(|name| {
        let path = env.path("home").join(name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path));
        if user != User::Root {
            std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
        }
        path.display().to_string()
    });
    // A real agent, with one of them. Told not to go into the background, it ends with this test.
    let socket = env.path("home").join("agent");
    let mut agent =
        Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    let start = std::time::Instant::now();
    while !socket.exists() && start.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run(Command::new("ssh-add").args(["-q", &keys[0]]).env("SSH_AUTH_SOCK", &socket).stderr(Stdio::null()));
    let default = format!("default={}", socket.display());
    // An agent answers its own user and root alone.
    let default = if user == User::Root { default } else { format!("default={}", keys[0]) };
    let two = format!("two={},{}", keys[0], keys[1]);
    let finished = build(&["--ssh", &default, "--ssh", &two]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    finished.ok();
    let image = Image::open(&env.path("out.tar"));
    // 12 lists identities; 5 is a refusal, to take away all keys.
    assert_eq!((image.text("one"), image.text("two")), ("12 1 5\n".into(), "12 2 5\n".into()));
    assert_eq!(image.text("mode"), "600\n");
    assert!(image.text("where").starts_with("/run/buildkit/ssh_agent."), "{}", image.text("where"));
}
