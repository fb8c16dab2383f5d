//! A folder of the user's as a source: looked at lazily, hashed once.
//!
//! Nothing is scanned beforehand. Directories are listed and files are hashed when somebody asks, so that a build whose
//! COPY names one file reads one file. What was read is remembered for the life of the [`Folder`], and digests beyond it
//! in a [`StatCache`], which trusts a digest only where the file cannot have changed unnoticed.

mod cache;
mod node;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cooper_layer::LayerPath;
use cooper_oci::{Digest, Hasher};
use cooper_store::Store;

pub use cache::StatCache;
pub use node::{Node, NodeKind};

/// Says whether a path (relative, slash-separated) is there for whoever reads the folder. The second argument says
/// whether it is a directory; a directory that is not there may still have things in it that are.
pub type Visible = Arc<dyn Fn(&str, bool) -> bool + Send + Sync>;

/// A directory's entries by name.
type Listing = Arc<BTreeMap<Vec<u8>, Node>>;

/// A folder of the user's, seen through rules that hide some of it.
pub struct Folder {
    root: PathBuf,
    visible: Option<Visible>,
    cache: Mutex<StatCache>,
    listed: Mutex<HashMap<LayerPath, Listing>>,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Folder {
    /// Opens a folder. Links on the way to it are followed, links in it never.
    ///
    /// # Errors
    ///
    /// If there is no such folder, or its cache cannot be read.
    pub fn open(root: &Path, visible: Option<Visible>, store: Option<&Store>) -> io::Result<Self> {
        let root = root.canonicalize()?;
        if !root.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let cache = StatCache::load(&root, store)?;
        Ok(Self { root, visible, cache: Mutex::new(cache), listed: Mutex::default() })
    }

    /// Returns where the folder is, without links.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Returns what is at a path, or nothing where there is none or the rules hide it. Links on the way count as not
    /// being directories.
    ///
    /// # Errors
    ///
    /// If it cannot be looked at.
    pub fn get(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        let Some(parent) = path.parent() else {
            return node::look(&self.root).map(Some);
        };
        Ok(self.children(&parent)?.get(path.name()).cloned())
    }

    /// Lists a directory by name, without what the rules hide; nothing where there is no directory.
    ///
    /// # Errors
    ///
    /// If it cannot be listed.
    pub fn children(&self, path: &LayerPath) -> io::Result<Arc<BTreeMap<Vec<u8>, Node>>> {
        if let Some(known) = lock(&self.listed).get(path) {
            return Ok(known.clone());
        }
        let listed = Arc::new(self.list(path)?);
        lock(&self.listed).insert(path.clone(), listed.clone());
        Ok(listed)
    }

    fn list(&self, path: &LayerPath) -> io::Result<BTreeMap<Vec<u8>, Node>> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut out = BTreeMap::new();
        // A link on the way would lead elsewhere: every component must be a directory itself.
        if !path.is_root() && !self.get(path)?.is_some_and(|node| node.kind == NodeKind::Directory) {
            return Ok(out);
        }
        for entry in fs::read_dir(self.host_path(path))? {
            let entry = entry?;
            let name = entry.file_name().as_bytes().to_vec();
            let node = match node::look(&entry.path()) {
                Ok(node) => node,
                // It went away between the listing and the look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if let Some(visible) = &self.visible {
                let mut full = String::from_utf8_lossy(path.as_bytes()).into_owned();
                if !full.is_empty() {
                    full.push('/');
                }
                full.push_str(&String::from_utf8_lossy(&name));
                let directory = node.kind == NodeKind::Directory;
                let shown = visible(&full, directory) || directory && self.shows_below(path, &name)?;
                if !shown {
                    continue;
                }
            }
            out.insert(name, node);
        }
        Ok(out)
    }

    /// Tells whether something below a hidden directory is visible.
    fn shows_below(&self, parent: &LayerPath, name: &[u8]) -> io::Result<bool> {
        let Some(visible) = &self.visible else { return Ok(true) };
        let Ok(path) = parent.join(name) else { return Ok(false) };
        let mut open = vec![path];
        while let Some(path) = open.pop() {
            for entry in fs::read_dir(self.host_path(&path))? {
                use std::os::unix::ffi::OsStrExt as _;
                let entry = entry?;
                let Ok(child) = path.join(entry.file_name().as_bytes()) else { continue };
                let directory = entry.file_type()?.is_dir();
                if visible(&String::from_utf8_lossy(child.as_bytes()), directory) {
                    return Ok(true);
                }
                if directory {
                    open.push(child);
                }
            }
        }
        Ok(false)
    }

    /// Returns the digest of a regular file's content, from the cache where that can be trusted.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn digest(&self, path: &LayerPath) -> io::Result<Digest> {
        let host = self.host_path(path);
        let stat = cache::Stat::of(&fs::symlink_metadata(&host)?);
        if let Some(known) = lock(&self.cache).get(path, &stat) {
            return Ok(known);
        }
        let started = std::time::SystemTime::now();
        let mut hasher = Hasher::new();
        let mut file = open_file(&host)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(buffer.get(..read).unwrap_or_default()),
            }
        }
        let digest = hasher.finish();
        lock(&self.cache).put(path, stat, digest, started);
        Ok(digest)
    }

    /// Forgets what was listed, so that the folder is looked at anew: for noticing that it has changed meanwhile.
    pub fn refresh(&self) {
        lock(&self.listed).clear();
    }

    /// Writes the digests that can be trusted later into the store.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn save(&self, store: &Store) -> Result<(), cooper_store::Error> {
        lock(&self.cache).save(store)
    }

    fn host_path(&self, path: &LayerPath) -> PathBuf {
        self.root.join(path.as_path())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    // NOFOLLOW and NONBLOCK: what was a file a moment ago may be a link or a pipe by now.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file any more"));
    }
    Ok(file)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
