//! Takes an OCI archive apart with the system's own programs, not with the code under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// An unpacked image: its JSON and its root file system.
#[derive(Debug)]
pub struct Image {
    dir: TempDir,
    /// The manifest.
    pub manifest: Value,
    /// The image configuration.
    pub config: Value,
    /// Digest of the manifest as index.json names it.
    pub digest: String,
}

impl Image {
    /// Unpacks `archive` with tar and its root with umoci.
    pub fn open(archive: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("cooper-img-").tempdir_in("/var/tmp").unwrap();
        let layout = dir.path().join("layout");
        std::fs::create_dir(&layout).unwrap();
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&layout));
        let index = json(&layout.join("index.json"));
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 1, "one platform gives one manifest: {index}");
        let digest = manifests[0]["digest"].as_str().unwrap().to_owned();
        let manifest = json(&blob(&layout, &digest));
        let config = json(&blob(&layout, manifest["config"]["digest"].as_str().unwrap()));
        // umoci finds an image by its tag, which is the reference name in the index.
        let mut tagged = index.clone();
        tagged["manifests"][0]["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "t"});
        std::fs::write(layout.join("index.json"), serde_json::to_vec(&tagged).unwrap()).unwrap();
        run(Command::new("umoci")
            .args(["unpack", "--image"])
            .arg(format!("{}:t", layout.display()))
            .arg(dir.path().join("bundle")));
        Self { dir, manifest, config, digest }
    }

    /// Returns the path of a file of the image's root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("bundle/rootfs").join(name.trim_start_matches('/'))
    }

    /// Reads a file of the image as text.
    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Reads a file of the image as JSON.
    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Runs a program and fails the test with its output if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
