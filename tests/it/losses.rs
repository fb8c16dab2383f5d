//! Bytes that are gone are a miss: made again or fetched again, never a failed build.

use cooper_tests::cooper::{Env, User, base};
use cooper_tests::image::Image;

const DOCKERFILE: &str = "FROM python:3.9-slim AS base\nRUN echo one > /one\n\
     FROM base\nRUN cat /one > /two\nCOPY --from=base /one /three\n";

fn assert_image(env: &Env) {
    let image = Image::open(&env.path("out.tar"));
    for name in ["one", "two", "three"] {
        assert_eq!(image.text(name), "one\n", "{name}");
    }
}

/// Deletes whole folders of layers, one at a time and all at once, and blobs likewise.
#[test]
fn privileged_lost_layers_and_blobs_are_made_again() {
    let Some(layout) = base("lost_layers_and_blobs_are_made_again") else { return };
    let env = Env::new(User::Root);
    env.write("Dockerfile", DOCKERFILE);
    env.build(&layout, &[]).ok();
    assert_image(&env);
    for folder in ["snapshots", "blobs"] {
        let entries = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
            let Ok(read) = std::fs::read_dir(path) else { return Vec::new() };
            read.flatten().map(|entry| entry.path()).collect()
        };
        let mut all = entries(&env.path("store").join(folder));
        // Blobs are one level deeper, by algorithm.
        if folder == "blobs" {
            all = all.iter().flat_map(|path| entries(path)).collect();
        }
        assert!(all.len() > 2, "the store keeps {folder} elsewhere: {all:?}");
        let every = all.clone();
        let rounds = all.into_iter().map(|one| vec![one]).chain([every]);
        for lost in rounds {
            for path in &lost {
                if path.is_dir() {
                    std::fs::remove_dir_all(path).unwrap();
                } else if path.exists() {
                    std::fs::remove_file(path).unwrap();
                }
            }
            // A further step makes the files of what is below needed.
            let number = lost.len().to_string() + &lost[0].to_string_lossy();
            env.write("Dockerfile", &format!("{DOCKERFILE}RUN echo '{number}' > /number\n"));
            let built = env.build(&layout, &[]);
            assert_eq!(built.code, 0, "after losing {lost:?}:\n{}", built.stderr);
            assert_image(&env);
        }
    }
}
