//! Trees of git repositories, as `ADD https://host/repo.git#tag:dir` fetches them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cooper_layer::{Directory, LayerId, Merged, ScanOptions, Timestamp, scan};
use cooper_oci::{Digest, Hasher};
use cooper_store::{PendingDir, Store};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::blocking::blocking;
use crate::{Error, Result, kept};

mod command;
mod refs;

use command::Git;
pub use command::GitLogin;

/// Which layer holds what was checked out of a commit.
const MEMO: &str = "git";

/// What is wanted of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitTree {
    /// The address, as `git fetch` takes it.
    pub remote: String,
    /// A branch, a tag, a full name (`refs/pull/1/head`) or a whole commit hash; empty for the default branch.
    pub reference: String,
    /// The folder of which the contents are wanted; empty for all.
    pub subdir: String,
    /// The beginning of the hash that the commit, or the tag that names it, must have; empty for any.
    pub checksum: String,
    /// Leaves the repository itself in `.git`.
    pub keep_git_dir: bool,
    /// Leaves submodules empty.
    pub skip_submodules: bool,
    /// Leaves the times of checking out, which differ from one time to the next, in the place of the commit's.
    pub checkout_times: bool,
}

/// Fetches trees into a store, by the `git` that is installed. The user's git settings are not read.
///
/// All of it needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Repositories {
    store: Store,
}

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolved {
    /// The full name; the hash itself where that was asked for.
    name: String,
    /// What it points to: a commit, or an annotated tag.
    object: String,
    /// The commit that an annotated tag points to.
    commit: Option<String>,
}

impl Repositories {
    /// Makes a source of trees for a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns a layer with the tree at its top, fetching it if it is not there.
    ///
    /// A name is asked for every time, a commit that is known never again. All times are those of the commit (BuildKit's
    /// are those of checking out, so that no two images are equal), permissions 0644 and 0755, the owner is 0:0.
    ///
    /// # Errors
    ///
    /// [`Error::Git`] where git fails, [`Error::GitTree`] where the repository does not have what is asked for.
    pub async fn resolve(&self, tree: &GitTree, login: &GitLogin) -> Result<LayerId> {
        tree.check()?;
        let work = TempDir::new().map_err(|source| Error::GitDir { path: std::env::temp_dir(), source })?;
        let git = Git::new(work.path(), &tree.remote, login)?;
        let found = self.look_up(tree, &git).await?;
        let key = tree.key(&found);
        let store = self.store.clone();
        let known = blocking(move || {
            let memo = store.memo_get(MEMO, &key)?;
            let layer = memo.and_then(|memo| <[u8; 32]>::try_from(memo.value.as_slice()).ok());
            let layer = layer.map(|bytes| LayerId::new(Digest::from_bytes(bytes)));
            Ok(match layer {
                Some(layer) if kept::here(&store, layer)? => Some(layer),
                _ => None,
            })
        });
        if let Some(layer) = known.await? {
            return Ok(layer);
        }
        let store = self.store.clone();
        let pending = blocking(move || Ok(store.begin_snapshot()?)).await?;
        let commit = fetch(tree, &found, &git).await?;
        let time = check_out(tree, &found, &commit, &git, pending.path()).await?;
        let (store, tree) = (self.store.clone(), tree.clone());
        blocking(move || keep(&store, pending, &tree, time, &key)).await
    }

    /// Finds out what the reference stands for now.
    async fn look_up(&self, tree: &GitTree, git: &Git) -> Result<Resolved> {
        let wrong =
            |found: &str| tree.problem(format!("expected checksum to match {}, got {found}", tree.checksum));
        if is_hash(&tree.reference) {
            if !tree.reference.starts_with(&tree.checksum) {
                return Err(wrong(&tree.reference));
            }
            let object = tree.reference.clone();
            return Ok(Resolved { name: object.clone(), object, commit: None });
        }
        let name = match tree.reference.as_str() {
            "" => {
                let list = ["ls-remote", "--symref", "--", &tree.remote, "HEAD"];
                let head = git.run("look up the default branch of", &list).await?;
                refs::default_branch(&head)
                    .ok_or_else(|| tree.problem("it has no default branch".to_owned()))?
            }
            name => name.to_owned(),
        };
        let peeled = format!("{name}^{{}}");
        let listed =
            git.run("look up a reference of", &["ls-remote", "--", &tree.remote, &name, &peeled]).await?;
        let found = refs::choose(&name, &listed)
            .ok_or_else(|| tree.problem(format!("repository does not contain ref {name}")))?;
        let fits = |hash: &str| hash.starts_with(&tree.checksum);
        if !fits(&found.object) && !found.commit.as_deref().is_some_and(fits) {
            return Err(wrong(found.commit.as_deref().unwrap_or(&found.object)));
        }
        Ok(found)
    }
}

impl GitTree {
    /// Refuses what git could take for something else.
    fn check(&self) -> Result<()> {
        if self.reference.starts_with('-') {
            return Err(self.problem(format!("invalid git ref `{}`", self.reference)));
        }
        if !self.checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.problem(format!("the checksum `{}` is no commit hash", self.checksum)));
        }
        Ok(())
    }

    fn problem(&self, problem: String) -> Error {
        Error::GitTree { remote: command::redacted(&self.remote), problem }
    }

    /// Returns the key of a layer: the commit, and what is taken of it. The remote has no part: a hash says it all, but
    /// for what is left in `.git`.
    fn key(&self, found: &Resolved) -> Digest {
        let mut hash = Hasher::new();
        let commit = found.commit.as_ref().filter(|_| !self.keep_git_dir).unwrap_or(&found.object);
        hash.field(commit.as_bytes());
        hash.field(self.subdir.as_bytes());
        hash.field([
            u8::from(self.keep_git_dir),
            u8::from(self.skip_submodules),
            u8::from(self.checkout_times),
        ]);
        if self.keep_git_dir {
            hash.field(command::redacted(&self.remote).as_bytes());
            hash.field(found.name.as_bytes());
        }
        hash.finish()
    }

    /// Returns the folder of a tree in components that stay inside.
    fn subdir(&self) -> Result<PathBuf> {
        let mut path = PathBuf::new();
        for part in self.subdir.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." || part == ".git" {
                return Err(self.problem(format!("invalid subdir `{}`", self.subdir)));
            }
            path.push(part);
        }
        Ok(path)
    }
}

/// Fetches a commit, and returns its hash.
async fn fetch(tree: &GitTree, found: &Resolved, git: &Git) -> Result<String> {
    git.run("make a repository for", &["-c", "init.defaultBranch=master", "init", "--bare", &found.format()])
        .await?;
    git.run("name", &["remote", "add", "origin", &tree.remote]).await?;
    let what = "fetch from";
    let object = format!("{}^{{commit}}", found.object);
    let shallow = if is_hash(&found.name) {
        // Not every server gives a commit that no name points to.
        git.run(what, &["fetch", "--depth=1", "--no-tags", "origin", &found.object]).await
    } else {
        let names = format!("{0}:{0}", found.name);
        git.run(what, &["fetch", "--depth=1", "--no-tags", "--force", "origin", &names]).await
    };
    // Old servers know no shallow fetches, and a name may point elsewhere by now.
    if shallow.is_err() || git.run(what, &["cat-file", "-e", &object]).await.is_err() {
        git.run(what, &["fetch", "--tags", "origin", "+refs/heads/*:refs/heads/*"]).await?;
    }
    let commit = git.run("find a commit in", &["rev-parse", "--verify", &object]).await;
    let commit = commit.map_err(|_| tree.problem(format!("it has no commit {}", found.object)))?;
    let commit = commit.trim().to_owned();
    if !commit.starts_with(&tree.checksum) && !found.object.starts_with(&tree.checksum) {
        return Err(tree.problem(format!("expected checksum to match {}, got {commit}", tree.checksum)));
    }
    Ok(commit)
}

/// Lays the tree out in an empty directory. Returns the commit's time.
async fn check_out(
    tree: &GitTree,
    found: &Resolved,
    commit: &str,
    git: &Git,
    into: &Path,
) -> Result<Timestamp> {
    let subdir = tree.subdir()?;
    let whole = subdir.as_os_str().is_empty();
    // A part of the tree is laid out beside, and moved.
    let beside = git.dir().join("tree");
    let target = if whole { into } else { &beside };
    fs::create_dir_all(target).map_err(|source| Error::GitDir { path: target.to_owned(), source })?;
    let what = "check out";
    let tree_git = if tree.keep_git_dir && whole {
        let own = git.in_tree(target, &target.join(".git"));
        own.run(what, &["-c", "init.defaultBranch=master", "init", &found.format()]).await?;
        let from = format!("file://{}", git.dir().join("repository").display());
        let name = if is_hash(&found.name) { "refs/cooper/commit" } else { &found.name };
        git.run(what, &["update-ref", name, &found.object]).await?;
        let names = if is_hash(&found.name) { name.to_owned() } else { format!("{name}:{name}") };
        own.local().run(what, &["fetch", "-u", "--depth=1", &from, &names]).await?;
        own.run(what, &["checkout", "FETCH_HEAD"]).await?;
        own.run(what, &["remote", "add", "origin", &command::redacted(&tree.remote)]).await?;
        own.run(what, &["reflog", "expire", "--all", "--expire=now"]).await?;
        let head = target.join(".git/FETCH_HEAD");
        fs::remove_file(&head).map_err(|source| Error::GitDir { path: head, source })?;
        own
    } else {
        let own = git.in_tree(target, &git.dir().join("repository"));
        own.run(what, &["checkout", "--no-overlay", commit, "--", "."]).await?;
        own
    };
    if !tree.skip_submodules {
        let update = ["submodule", "update", "--init", "--recursive", "--depth=1"];
        tree_git.run("fetch the submodules of", &update).await?;
    }
    if !whole {
        move_out(tree, &beside, &subdir, into)?;
    }
    let time = git.run("read the time of a commit of", &["log", "-1", "--format=%ct", commit]).await?;
    Ok(Timestamp::new(time.trim().parse().unwrap_or_default(), 0))
}

/// Moves what is in a folder of the tree to where it is wanted. No link of the tree is followed.
fn move_out(tree: &GitTree, from: &Path, subdir: &Path, into: &Path) -> Result<()> {
    let mut folder = from.to_owned();
    for part in subdir {
        folder.push(part);
        if !folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(
                tree.problem(format!("invalid subdir `{}`: it is no directory of the tree", tree.subdir))
            );
        }
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::GitDir { path, source }
    };
    for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
        let entry = entry.map_err(failed(&folder))?;
        let target = into.join(entry.file_name());
        // The store may be on another file system than the temporary folder.
        if fs::rename(entry.path(), &target).is_err() {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in WalkDir::new(from) {
        let entry = entry.map_err(|error| Error::GitDir { path: from.to_owned(), source: error.into() })?;
        let rest = entry.path().strip_prefix(from).unwrap_or(Path::new(""));
        let target = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        let kind = entry.file_type();
        let done = if kind.is_dir() {
            fs::create_dir(&target)
        } else if kind.is_symlink() {
            fs::read_link(entry.path()).and_then(|link| std::os::unix::fs::symlink(link, &target))
        } else {
            fs::copy(entry.path(), &target).map(drop)
        };
        done.map_err(|source| Error::GitDir { path: target, source })?;
    }
    Ok(())
}

/// Settles what a checkout leaves to chance, and keeps the tree.
fn keep(
    store: &Store,
    pending: PendingDir,
    tree: &GitTree,
    time: Timestamp,
    key: &Digest,
) -> Result<LayerId> {
    let root = pending.path();
    settle(root, (!tree.checkout_times).then_some(time))?;
    let failed = |source| Error::GitDir { path: root.to_owned(), source };
    let directory = Directory::open(root).map_err(failed)?;
    let options =
        ScanOptions { overlay: store.overlay_xattrs(), owners: store.owners(), ..ScanOptions::default() };
    let index =
        scan(&directory, Merged::new(&[]), &options).map_err(|error| failed(std::io::Error::other(error)))?;
    let layer = kept::keep(store, pending, &index)?;
    store.memo_put(MEMO, key, layer.as_bytes())?;
    Ok(layer)
}

/// Sets permissions as git keeps them, which know only whether a file can be executed, whatever the umask was; and times.
fn settle(root: &Path, time: Option<Timestamp>) -> Result<()> {
    for entry in WalkDir::new(root).contents_first(true) {
        let entry = entry.map_err(|error| Error::GitDir { path: root.to_owned(), source: error.into() })?;
        let path = entry.path();
        let failed = |source| Error::GitDir { path: path.to_owned(), source };
        let own = path.strip_prefix(root).is_ok_and(|path| path.starts_with(".git"));
        if !own && !entry.file_type().is_symlink() {
            let mode = entry.metadata().map_err(|error| failed(error.into()))?.permissions().mode();
            let mode = if entry.file_type().is_dir() || mode & 0o100 != 0 { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        }
        if let Some(time) = time {
            let spec = Timespec { tv_sec: time.seconds, tv_nsec: 0 };
            let times = Timestamps { last_access: spec, last_modification: spec };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed(error.into()))?;
        }
    }
    Ok(())
}

impl Resolved {
    /// Returns the option that makes a repository for hashes of this length.
    fn format(&self) -> String {
        let format = if self.object.len() == 64 { "sha256" } else { "sha1" };
        format!("--object-format={format}")
    }
}

/// Tells whether this is a whole hash: SHA-1 or SHA-256 in hexadecimal digits.
fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
