//! Many processes on one store, some of which die: samples of `cargo xtask soak flights` and `cargo xtask soak kills`.

use std::path::Path;

use cooper_tests::cooper::{Env, User, base};
use cooper_tests::hub::{Hub, Server};
use cooper_tests::trials::flights::{Case, Trial};
use cooper_tests::trials::{Random, kills};
use serde_json::Value;

#[test]
fn privileged_sixteen_processes_run_each_step_once() {
    let Some(layout) = base("sixteen_processes_run_each_step_once") else { return };
    let mut random = Random::new(1);
    let mut trial = Trial::new(&layout);
    assert_eq!(trial.repeat(Case::Calm, 16, &mut random), 1);
    assert_eq!(trial.repeat(Case::Fails, 16, &mut random), 1);
}

#[test]
fn privileged_who_waited_takes_over() {
    let Some(layout) = base("who_waited_takes_over") else { return };
    let mut random = Random::new(2);
    let mut trial = Trial::new(&layout);
    for case in [Case::Proxies, Case::Interrupted, Case::Killed, Case::Orphaned] {
        assert_eq!(trial.repeat(case, 5, &mut random), 2);
    }
}

#[test]
fn privileged_killed_builds_leave_nothing_and_lose_nothing() {
    let Some(layout) = base("killed_builds_leave_nothing_and_lose_nothing") else { return };
    kills::run(&layout, 1, 6);
}

#[test]
fn privileged_two_processes_load_each_layer_once() {
    let Some(layout) = base("two_processes_load_each_layer_once") else { return };
    let layers = layers_of(&layout);
    let hub = Hub::start().unwrap();
    hub.add("library/python", "3.9-slim", layout);
    let env = Env::new(User::Root);
    let config = format!("[registry.\"docker.io\"]\nmirrors = [\"http://{}\"]\n", hub.host());
    std::fs::write(env.path("config.toml"), config).unwrap();
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN python3 -c 'print(6 * 7)' > /answer\n");
    let builders: Vec<_> = (0..3)
        .map(|number| {
            let out = format!("type=oci,dest={}", env.path(&format!("{number}.tar")).display());
            let mut command = env.command(&["build", ".", "--progress", "plain", "-o", &out]);
            command.env("COOPER_CONFIG", env.path("config.toml")).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for builder in builders {
        let output = builder.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let hub_seen = hub.seen();
    // The configuration is small and each process asks for it; layers are what counts.
    let fetches = |digest: &String| {
        hub_seen.iter().filter(|seen| seen.server == Server::Content && seen.path.contains(digest)).count()
    };
    let counts: Vec<usize> = layers.iter().map(fetches).collect();
    assert!(!counts.is_empty() && counts.iter().all(|count| *count == 1), "{layers:?}: {counts:?}");
}

/// Lists the digests of layers that manifests of a layout name.
fn layers_of(layout: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for blob in std::fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten() {
        if blob.metadata().unwrap().len() > 100_000 {
            continue;
        }
        let Ok(json) = serde_json::from_slice::<Value>(&std::fs::read(blob.path()).unwrap()) else {
            continue;
        };
        let layers = json["layers"].as_array().into_iter().flatten();
        out.extend(layers.filter_map(|layer| layer["digest"].as_str().map(str::to_owned)));
    }
    out.sort();
    out.dedup();
    out
}
