//! Folders of the user's in a build: what the ignore rules hide, what a step reads of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cooper_executor::file::{Filter, Verdict};
use cooper_frontend::ignore::{Matcher, ParentMatch};
use cooper_layer::LayerPath;
use cooper_oci::Digest;
use cooper_source::local::{self, NodeKind};
use cooper_store::Store;

use crate::error::StepError;
use crate::select::{self, Line, Read, Selector, Tree, What};

/// A folder of the user's as a build sees it.
pub(crate) struct Folder {
    local: local::Folder,
    rules: Option<Arc<Rules>>,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.local.fmt(f)
    }
}

impl Folder {
    /// Opens a folder; `exclude` are the patterns of its ignore file.
    pub(crate) fn open(path: &Path, exclude: &[String], store: &Store) -> Result<Self, StepError> {
        let rules = Rules::new(exclude)?.map(Arc::new);
        let visible = rules.clone().map(|rules| {
            let visible: local::Visible = Arc::new(move |path, _| !rules.hides(path));
            visible
        });
        let local = local::Folder::open(path, visible, Some(store)).map_err(|error| StepError::Io {
            action: "open the folder",
            path: path.to_owned(),
            error,
        })?;
        Ok(Self { local, rules })
    }

    pub(crate) fn path(&self) -> &Path {
        self.local.path()
    }

    /// Returns the rules for those who copy from the folder; `None` if they hide nothing.
    pub(crate) fn filter(&self) -> Option<Filter> {
        let rules = self.rules.clone()?;
        Some(Arc::new(move |path: &[u8], directory: bool| {
            let path = String::from_utf8_lossy(path);
            match (rules.hides(&path), directory && rules.matcher.may_except_below(&path)) {
                (false, _) => Verdict::Take,
                (true, true) => Verdict::Look,
                (true, false) => Verdict::Skip,
            }
        }))
    }

    /// Reads a part of the folder.
    pub(crate) fn read(&self, selector: &Selector, filter: Option<&Filter>) -> Result<Read, StepError> {
        select::read(self, selector, filter)
    }

    /// Returns the digest of all that is visible.
    pub(crate) fn whole_digest(&self) -> Result<Digest, StepError> {
        let all = Selector { path: "/".into(), wildcard: false, follow: false };
        Ok(self.read(&all, None)?.digest())
    }

    /// Looks at everything anew, so that changes since the last look are seen.
    pub(crate) fn refresh(&self) {
        self.local.refresh();
    }

    /// Keeps the digests of files for later builds.
    pub(crate) fn save(&self, store: &Store) -> Result<(), cooper_store::Error> {
        self.local.save(store)
    }

    fn failed(&self, path: &LayerPath, error: std::io::Error) -> StepError {
        StepError::Io { action: "read", path: self.path().join(path.as_path()), error }
    }
}

impl Tree for Folder {
    type Error = StepError;

    fn get(&self, path: &LayerPath) -> Result<Option<What>, StepError> {
        let node = self.local.get(path).map_err(|error| self.failed(path, error))?;
        Ok(node.map(|node| match node.kind {
            NodeKind::Directory => What::Directory,
            NodeKind::Symlink(target) => What::Symlink(target),
            _ => What::Other,
        }))
    }

    fn names(&self, path: &LayerPath) -> Result<Vec<Vec<u8>>, StepError> {
        let children = self.local.children(path).map_err(|error| self.failed(path, error))?;
        Ok(children.keys().cloned().collect())
    }

    fn line(&self, path: &LayerPath) -> Result<Vec<u8>, StepError> {
        let failed = |error| self.failed(path, error);
        let Some(node) = self.local.get(path).map_err(failed)? else { return Ok(Vec::new()) };
        let mut line = Line::default();
        match &node.kind {
            NodeKind::File(size) => line.file(*size, &self.local.digest(path).map_err(failed)?),
            NodeKind::Directory => line.field(b"directory"),
            NodeKind::Symlink(target) => line.symlink(target),
            NodeKind::Device(block, number) => line.device(*block, *number),
            NodeKind::Fifo => line.field(b"fifo"),
            NodeKind::Socket => line.field(b"socket"),
        }
        // Whoever owns the files, a build sees them as root's.
        Ok(line.finish(node.mode, (0, 0), &node.xattrs))
    }
}

/// Patterns that hide paths, with what is known of directories, so that a path does not match its parents again.
struct Rules {
    matcher: Matcher,
    above: Mutex<HashMap<String, (bool, ParentMatch)>>,
}

impl Rules {
    fn new(patterns: &[String]) -> Result<Option<Self>, StepError> {
        let matcher = Matcher::new(patterns).map_err(|error| StepError::Pattern(error.to_string()))?;
        Ok((!matcher.is_empty()).then(|| Self { matcher, above: Mutex::default() }))
    }

    fn hides(&self, path: &str) -> bool {
        self.look(path).0
    }

    fn look(&self, path: &str) -> (bool, ParentMatch) {
        if let Some(known) = self.above.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return known.clone();
        }
        let parent = match path.rsplit_once('/') {
            Some((parent, _)) => self.look(parent).1,
            None => ParentMatch::default(),
        };
        let found = self.matcher.matches_below(path, &parent);
        self.above.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), found.clone());
        found
    }
}

/// Makes a filter out of the patterns of a copy; `None` where there are none.
pub(crate) fn patterns(include: &[String], exclude: &[String]) -> Result<Option<Filter>, StepError> {
    if include.is_empty() && exclude.is_empty() {
        return Ok(None);
    }
    let included = Rules::new(include)?;
    let excluded = Rules::new(exclude)?;
    let filter = move |path: &[u8], directory: bool| {
        let path = String::from_utf8_lossy(path);
        if let Some(excluded) = &excluded
            && excluded.hides(&path)
        {
            return if directory && excluded.matcher.may_except_below(&path) {
                Verdict::Look
            } else {
                Verdict::Skip
            };
        }
        match &included {
            Some(included) if !included.hides(&path) => {
                if directory {
                    Verdict::Look
                } else {
                    Verdict::Skip
                }
            }
            _ => Verdict::Take,
        }
    };
    Ok(Some(Arc::new(filter)))
}

/// Turns the error of something that cannot fail into any other.
pub(crate) fn never<T>(result: Result<T, Infallible>) -> T {
    let Ok(value) = result;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        dir: tempfile::TempDir,
        _state: tempfile::TempDir,
        store: Store,
    }

    impl Case {
        fn new() -> Self {
            let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let store = Store::open(state.path()).unwrap();
            let case = Self { dir, _state: state, store };
            for name in ["a.txt", "src/main.rs", "src/deep/x.md", "target/out"] {
                case.write(name, name);
            }
            case
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn open(&self, exclude: &[&str]) -> Folder {
            let exclude: Vec<String> = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
            Folder::open(self.dir.path(), &exclude, &self.store).unwrap()
        }
    }

    #[test]
    fn what_is_hidden_does_not_count() {
        let case = Case::new();
        let whole = || case.open(&["target", "**/*.md", "!src/deep/keep.md"]).whole_digest().unwrap();
        let before = whole();
        case.write("target/out", "other");
        case.write("src/deep/y.md", "new");
        assert_eq!(whole(), before);
        case.write("src/deep/keep.md", "excepted");
        let excepted = whole();
        assert_ne!(excepted, before);
        case.write("a.txt", "other");
        assert_ne!(whole(), excepted);
        assert_ne!(case.open(&[]).whole_digest().unwrap(), whole());
    }

    #[test]
    fn changes_are_seen_by_who_looks_anew() {
        let case = Case::new();
        let folder = case.open(&[]);
        let before = folder.whole_digest().unwrap();
        // The same size: the time alone tells.
        std::thread::sleep(std::time::Duration::from_millis(20));
        case.write("a.txt", "A.TXT");
        folder.refresh();
        assert_ne!(folder.whole_digest().unwrap(), before);
    }

    #[test]
    fn the_filter_of_a_folder_says_what_digests_see() {
        let case = Case::new();
        assert!(case.open(&[]).filter().is_none());
        let filter = case.open(&["target", "src", "!src/deep/x.md"]).filter().unwrap();
        for (path, directory, verdict) in [
            ("a.txt", false, Verdict::Take),
            ("target", true, Verdict::Skip),
            ("target/out", false, Verdict::Skip),
            ("src", true, Verdict::Look),
            ("src/main.rs", false, Verdict::Skip),
            ("src/deep", true, Verdict::Look),
            ("src/deep/x.md", false, Verdict::Take),
        ] {
            assert_eq!(filter(path.as_bytes(), directory), verdict, "{path}");
        }
    }

    #[test]
    fn patterns_of_copies() {
        let of = |include: &[&str], exclude: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
            patterns(&owned(include), &owned(exclude)).unwrap()
        };
        assert!(of(&[], &[]).is_none());
        let filter = of(&["**/*.rs"], &["src/gen"]).unwrap();
        for (path, directory, verdict) in [
            ("src", true, Verdict::Look),
            ("src/main.rs", false, Verdict::Take),
            ("src/notes", false, Verdict::Skip),
            ("src/gen", true, Verdict::Skip),
            ("src/gen/a.rs", false, Verdict::Skip),
        ] {
            assert_eq!(filter(path.as_bytes(), directory), verdict, "{path}");
        }
        assert!(patterns(&["[".to_owned()], &[]).is_err());
    }
}
