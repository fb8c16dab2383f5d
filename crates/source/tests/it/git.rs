//! Trees from git, served by its own daemon.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cooper_layer::{LayerId, LayerPath, Timestamp};
use cooper_source::{Error, GitLogin, GitTree, Repositories};
use cooper_store::Store;

/// When the commits of the tests were made.
const TIME: i64 = 1_500_000_000;

struct Setup {
    dir: tempfile::TempDir,
    daemon: Child,
    port: u16,
    store: Store,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let served = dir.path().join("served");
        std::fs::create_dir(&served).unwrap();
        // Not by `git daemon`, which starts it as a process of its own that would stay.
        let programs = Command::new("git").arg("--exec-path").output().unwrap();
        let programs = PathBuf::from(String::from_utf8(programs.stdout).unwrap().trim());
        let mut command = Command::new(programs.join("git-daemon"));
        command.args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg(format!("--base-path={}", served.display()));
        let daemon =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let store = super::store(&dir.path().join("store"));
        let setup = Self { dir, daemon, port, store };
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "git daemon does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        setup
    }

    fn repository(&self, name: &str) -> Repository {
        let path = self.dir.path().join("served").join(name);
        std::fs::create_dir(&path).unwrap();
        let repository = Repository(path);
        repository.git(&["-c", "init.defaultBranch=trunk", "init", "--quiet"]);
        repository
    }

    fn tree(&self, name: &str) -> GitTree {
        GitTree { remote: format!("git://127.0.0.1:{}/{name}/.git", self.port), ..GitTree::default() }
    }

    async fn resolve(&self, tree: &GitTree) -> Result<LayerId, Error> {
        Repositories::new(self.store.clone()).resolve(tree, &GitLogin::default()).await
    }

    fn paths(&self, layer: LayerId) -> Vec<String> {
        let index = self.store.index(layer).unwrap().unwrap();
        let paths = index.iter().map(|entry| String::from_utf8_lossy(entry.path.as_bytes()).into_owned());
        paths.filter(|path| !path.starts_with(".git/")).collect()
    }

    fn text(&self, layer: LayerId, path: &str) -> String {
        std::fs::read_to_string(self.store.snapshot_dir(layer).unwrap().unwrap().join(path)).unwrap()
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

struct Repository(PathBuf);

impl Repository {
    fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .current_dir(&self.0)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(words);
        let date = format!("{TIME} +0000");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
            .env("GIT_COMMITTER_DATE", &date)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_ALLOW_PROTOCOL", "git:file");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Commits everything and returns the hash.
    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o770)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_by_name_and_commit() {
    let setup = Setup::new();
    let repository = setup.repository("r");
    repository.write("a", "first");
    repository.write("dir/run.sh", "x");
    executable(&repository.0.join("dir/run.sh"));
    std::os::unix::fs::symlink("a", repository.0.join("link")).unwrap();
    let first = repository.commit();
    repository.git(&["tag", "light"]);
    repository.git(&["tag", "-a", "heavy", "-m", "x"]);
    let heavy = repository.git(&["rev-parse", "heavy"]);
    repository.write("a", "second");
    let second = repository.commit();
    repository.git(&["update-ref", "refs/pull/1/head", &first]);

    let tree = |reference: &str| GitTree { reference: reference.into(), ..setup.tree("r") };
    for (reference, text) in [
        ("", "second"),
        ("trunk", "second"),
        ("refs/heads/trunk", "second"),
        ("light", "first"),
        ("heavy", "first"),
        ("refs/tags/heavy", "first"),
        ("pull/1/head", "first"),
        (first.as_str(), "first"),
        (second.as_str(), "second"),
    ] {
        let layer = setup.resolve(&tree(reference)).await.unwrap();
        assert_eq!(setup.text(layer, "a"), text, "{reference}");
        assert_eq!(setup.paths(layer), ["a", "dir", "dir/run.sh", "link"]);
        let index = setup.store.index(layer).unwrap().unwrap();
        for (path, mode) in [("a", 0o644), ("dir", 0o755), ("dir/run.sh", 0o755)] {
            let entry = index.get(&LayerPath::new(path).unwrap()).unwrap();
            assert_eq!((entry.mode, entry.uid, entry.gid), (mode, 0, 0), "{path}");
            assert_eq!(entry.mtime, Timestamp::new(TIME, 0), "{path}");
        }
    }
    // Another store gets the same.
    let names = setup.resolve(&tree("light")).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let other = Repositories::new(super::store(other.path()));
    assert_eq!(other.resolve(&tree("light"), &GitLogin::default()).await.unwrap(), names);

    let checked = |reference: &str, checksum: &str| GitTree { checksum: checksum.into(), ..tree(reference) };
    for right in [
        checked("light", &first[..7]),
        checked("heavy", &heavy),
        checked("heavy", &first),
        checked(&second, &second[..12]),
    ] {
        setup.resolve(&right).await.unwrap();
    }
    for wrong in
        [checked("light", &second), checked("heavy", &second), checked(&first, &second), checked("", &first)]
    {
        let error = setup.resolve(&wrong).await.unwrap_err();
        assert!(error.to_string().contains("expected checksum to match"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_commit_is_not_fetched_again() {
    let setup = Setup::new();
    let repository = setup.repository("r");
    repository.write("a", "1");
    let commit = repository.commit();
    let tree = GitTree { reference: commit.clone(), ..setup.tree("r") };
    let layer = setup.resolve(&tree).await.unwrap();
    // A branch that points to it is asked for, but not fetched: what it points to is gone from the server.
    let by_name = GitTree { reference: "trunk".into(), ..setup.tree("r") };
    std::fs::rename(repository.0.join(".git/objects"), repository.0.join("objects")).unwrap();
    assert_eq!(setup.resolve(&tree).await.unwrap(), layer);
    setup.store.lose_snapshot(layer, "test").unwrap();
    assert!(setup.resolve(&tree).await.is_err());
    std::fs::rename(repository.0.join("objects"), repository.0.join(".git/objects")).unwrap();
    assert_eq!(setup.resolve(&by_name).await.unwrap(), layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_trees_stay_inside() {
    let setup = Setup::new();
    let repository = setup.repository("r");
    repository.write("dir/sub/f", "1");
    repository.write("file", "2");
    std::os::unix::fs::symlink("/etc", repository.0.join("out")).unwrap();
    std::os::unix::fs::symlink("dir", repository.0.join("in")).unwrap();
    repository.commit();
    let part = |subdir: &str| GitTree { subdir: subdir.into(), ..setup.tree("r") };
    let layer = setup.resolve(&part("dir")).await.unwrap();
    assert_eq!(setup.paths(layer), ["sub", "sub/f"]);
    assert_eq!(setup.paths(setup.resolve(&part("/dir//./sub/")).await.unwrap()), ["f"]);
    for bad in ["..", "dir/../..", "out", "in", "in/sub", "file", "none", ".git"] {
        let error = setup.resolve(&part(bad)).await.unwrap_err();
        assert!(error.to_string().contains("invalid subdir"), "{bad}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_comes_along_where_it_is_wanted() {
    let setup = Setup::new();
    let repository = setup.repository("r");
    repository.write("a", "1");
    repository.write(".gitignore", "x");
    let commit = repository.commit();
    repository.git(&["tag", "-a", "v1", "-m", "x"]);
    for reference in ["", "v1", &commit] {
        let tree = GitTree { keep_git_dir: true, reference: reference.into(), ..setup.tree("r") };
        let layer = setup.resolve(&tree).await.unwrap();
        assert_eq!(setup.paths(layer), [".git", ".gitignore", "a"]);
        let copy = Repository(setup.store.snapshot_dir(layer).unwrap().unwrap());
        let git = |words: &[&str]| copy.git(&[&["-c", "safe.directory=*"], words].concat());
        assert_eq!(git(&["rev-parse", "HEAD"]), commit, "{reference}");
        assert_eq!(git(&["status", "--porcelain"]), "", "{reference}");
        assert_eq!(git(&["remote", "get-url", "origin"]), tree.remote);
        assert_eq!(git(&["tag", "--list"]) == "v1", reference == "v1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_come_along_but_none_of_this_machine() {
    let setup = Setup::new();
    let inner = setup.repository("inner");
    inner.write("f", "inner");
    inner.commit();
    let outer = setup.repository("outer");
    outer.git(&["submodule", "--quiet", "add", &setup.tree("inner").remote, "sub"]);
    outer.commit();
    let tree = setup.tree("outer");
    let layer = setup.resolve(&tree).await.unwrap();
    assert_eq!(setup.text(layer, "sub/f"), "inner");
    let without = GitTree { skip_submodules: true, ..tree };
    assert_eq!(setup.paths(setup.resolve(&without).await.unwrap()), [".gitmodules", "sub"]);

    let sneaky = setup.repository("sneaky");
    sneaky.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        &inner.0.display().to_string(),
        "sub",
    ]);
    sneaky.commit();
    let error = setup.resolve(&setup.tree("sneaky")).await.unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched() {
    let setup = Setup::new();
    setup.repository("r").commit();
    setup.repository("empty");
    let of = |name: &str, reference: &str| GitTree { reference: reference.into(), ..setup.tree(name) };
    for (tree, message) in [
        (of("none", ""), "look up the default branch of"),
        (of("empty", ""), "no default branch"),
        (of("r", "nothing"), "does not contain ref nothing"),
        (of("r", "--upload-pack=x"), "invalid git ref"),
        (of("r", &"1".repeat(40)), "no commit 111"),
        (GitTree { checksum: "xyz".into(), ..of("r", "") }, "no commit hash"),
        (
            GitTree { remote: format!("file://{}", setup.dir.path().display()), ..GitTree::default() },
            "not allowed",
        ),
        (GitTree { remote: "ext::sh -c true".into(), ..GitTree::default() }, "not allowed"),
    ] {
        let error = setup.resolve(&tree).await.unwrap_err();
        assert!(error.to_string().contains(message), "{tree:?}: {error}");
    }
}
