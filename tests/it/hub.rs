//! A plain `FROM python:3.9-slim` through a stand-in of Docker Hub: token host, redirects, attestations, refusals.

use cooper_tests::cooper::{Env, Finished, User, base};
use cooper_tests::hub::{Fault, Hub, Server};
use cooper_tests::image::Image;
use cooper_tests::layout::Layout;

/// An environment whose configuration names the stand-in as Docker Hub's mirror.
fn environment(hub: &Hub, dockerfile: &str) -> Env {
    let env = Env::new(User::Root);
    let config = format!("[registry.\"docker.io\"]\nmirrors = [\"http://{}\"]\n", hub.host());
    std::fs::write(env.path("config.toml"), config).unwrap();
    env.write("Dockerfile", dockerfile);
    env
}

fn build(env: &Env, words: &[&str]) -> Finished {
    let out = format!("type=oci,dest={}", env.path("out.tar").display());
    let mut command = env.command(&["build", ".", "--progress", "plain", "-o", &out]);
    command.args(words).env("COOPER_CONFIG", env.path("config.toml")).output().unwrap().into()
}

#[test]
fn privileged_the_real_base_through_docker_hub() {
    let Some(layout) = base("the_real_base_through_docker_hub") else { return };
    let hub = Hub::start().unwrap();
    hub.add("library/python", "3.9-slim", layout);
    let env = environment(&hub, "FROM python:3.9-slim\nRUN python3 -c 'print(6 * 7)' > /answer\n");
    build(&env, &[]).ok();
    let image = Image::open(&env.path("out.tar"));
    assert_eq!(image.text("answer"), "42\n");
    let seen = hub.seen();
    assert!(
        seen.iter().any(|seen| seen.server == Server::Token && seen.status == 200),
        "a token was fetched"
    );
    let content: Vec<_> = seen.iter().filter(|seen| seen.server == Server::Content).collect();
    assert!(!content.is_empty(), "blobs come from the content host");
    assert!(
        content.iter().all(|seen| seen.authorization.is_none()),
        "which never sees credentials: {content:?}"
    );

    // A second build asks what the tag is, and fetches nothing.
    build(&env, &[]).ok();
    let again = hub.seen();
    assert!(again.iter().all(|seen| seen.method == "HEAD" || seen.server == Server::Token), "{again:?}");
    assert_eq!(Image::open(&env.path("out.tar")).digest, image.digest);
}

#[test]
fn privileged_an_index_with_attestations_and_platforms() {
    let hub = Hub::start().unwrap();
    let env = environment(&hub, "FROM python:3.9-slim\nCOPY Dockerfile /\n");
    Layout::official(env.path("layout"), "3.9-slim", 300_000).unwrap();
    hub.add("library/python", "3.9-slim", env.path("layout"));
    build(&env, &["--platform", "linux/amd64"]).ok();
    let image = Image::open(&env.path("out.tar"));
    assert_eq!(image.text("etc/arch"), "amd64\n");
    assert_eq!(image.config["architecture"], "amd64");

    let both = build(&env, &["--platform", "linux/amd64,linux/arm64"]).ok();
    assert!(!both.stderr.contains("attestation"), "{}", both.stderr);
    let index = std::process::Command::new("skopeo")
        .args(["inspect", "--raw", &format!("oci-archive:{}", env.path("out.tar").display())])
        .output()
        .unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index.stdout).unwrap();
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| manifest["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"], "two platforms give an index of two: {index}");
}

#[test]
fn privileged_refusals_say_what_to_do() {
    let hub = Hub::start().unwrap();
    let env = environment(&hub, "FROM python:3.9-slim\nCOPY Dockerfile /\n");
    // Nothing is there: the registry knows no such image.
    let missing = build(&env, &[]);
    assert_eq!(missing.code, 1, "{}", missing.stderr);
    assert!(
        missing.stderr.contains("python:3.9-slim") && missing.stderr.contains("Dockerfile:1"),
        "{}",
        missing.stderr
    );
    assert!(!env.path("out.tar").exists());

    Layout::official(env.path("layout"), "3.9-slim", 1_000).unwrap();
    hub.add("library/python", "3.9-slim", env.path("layout"));
    // Busy twice, then an answer: a build waits and goes on.
    hub.order(Server::Registry, "/manifests/", 2, Fault::Answer { status: 429, retry_after: Some(1) });
    build(&env, &[]).ok();
    // Busy for longer than anybody wants to wait: an error that says so, and what helps.
    hub.order(Server::Registry, "/manifests/", 20, Fault::Answer { status: 429, retry_after: Some(86_400) });
    let busy = build(&env, &[]);
    assert_eq!(busy.code, 1, "{}", busy.stderr);
    assert!(busy.stderr.contains("429") || busy.stderr.contains("rate"), "{}", busy.stderr);
}

#[test]
fn privileged_no_network_is_the_environments_fault() {
    let env = Env::new(User::Root);
    // Port 1: nobody listens there.
    let config = "[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:1\"]\n";
    std::fs::write(env.path("config.toml"), config).unwrap();
    env.write("Dockerfile", "FROM 127.0.0.1:1/app:1\n");
    let failed = build(&env, &[]);
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert!(failed.stderr.contains("127.0.0.1:1"), "{}", failed.stderr);
}
