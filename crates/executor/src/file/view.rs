use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;

use cooper_layer::LayerPath;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::file::action::{Filter, Owner, Verdict};
use crate::file::error::FileError;
use crate::file::pattern::{Pattern, is_pattern};
use crate::file::root::{Meta, Root};

/// As many links BuildKit follows before it gives up.
pub const MAX_LINKS: usize = 255;

/// A root as an operation sees it: perhaps without some of its paths, perhaps with other owners.
pub(super) struct View<'a> {
    pub(super) root: &'a Root,
    hidden: Option<&'a Filter>,
    owner: Option<Owner>,
    /// Answers of [`Self::something_below`].
    below: RefCell<HashMap<LayerPath, bool>>,
}

/// Where a path leads: a path without links and what is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: LayerPath,
    pub(super) meta: Option<Meta>,
}

impl<'a> View<'a> {
    /// Shows everything as it is.
    pub(super) fn whole(root: &'a Root) -> Self {
        Self::new(root, None, None)
    }

    pub(super) fn new(root: &'a Root, hidden: Option<&'a Filter>, owner: Option<Owner>) -> Self {
        Self { root, hidden, owner, below: RefCell::default() }
    }

    /// Tells what a path without links is. The directories on the way are known to be shown.
    pub(super) fn stat(&self, path: &LayerPath) -> io::Result<Option<Meta>> {
        let Some(mut meta) = self.root.stat(path)? else { return Ok(None) };
        if !self.shown(path, meta.kind)? {
            return Ok(None);
        }
        if let Some(owner) = self.owner {
            meta.owner = owner;
        }
        Ok(Some(meta))
    }

    /// Lists the names in a directory, sorted, hidden ones included: `stat` tells.
    pub(super) fn names(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        self.root.names(path)
    }

    fn shown(&self, path: &LayerPath, kind: FileType) -> io::Result<bool> {
        let Some(hidden) = self.hidden.filter(|_| !path.is_root()) else { return Ok(true) };
        let directory = kind == FileType::Directory;
        match hidden(path.as_bytes(), directory) {
            Verdict::Take => Ok(true),
            Verdict::Look if directory => self.something_below(path),
            Verdict::Look | Verdict::Skip => Ok(false),
        }
    }

    /// Tells whether a directory that is only looked into has anything that is shown: it is there then, as the parent.
    fn something_below(&self, path: &LayerPath) -> io::Result<bool> {
        if let Some(&known) = self.below.borrow().get(path) {
            return Ok(known);
        }
        let mut found = false;
        for name in self.root.names(path)? {
            let Ok(child) = path.join(&name) else { continue };
            if let Some(meta) = self.root.stat(&child)?
                && self.shown(&child, meta.kind)?
            {
                found = true;
                break;
            }
        }
        self.below.borrow_mut().insert(path.clone(), found);
        Ok(found)
    }

    /// Follows a path as if the root were `/`. What is missing is kept as it is written, so that it can be made.
    ///
    /// `..` in `path` itself is taken by the letter, before any link is followed, as BuildKit does; in a link it means the
    /// directory above the one that was reached.
    pub(super) fn find(&self, path: &[u8], follow_last: bool) -> Result<Found, FileError> {
        let error = |source| FileError::io("look at", path)(source);
        let mut todo: VecDeque<Vec<u8>> = clean(path).into_iter().map(<[u8]>::to_vec).collect();
        let mut at = LayerPath::root();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            let next = at.join(&part).map_err(|_| FileError::Path(text(path)))?;
            let kind = self.stat(&next).map_err(error)?.map(|meta| meta.kind);
            if kind == Some(FileType::Symlink) && (follow_last || !todo.is_empty()) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(FileError::Loop(text(path)));
                }
                let target = self.root.read_link(&next).map_err(error)?;
                if target.starts_with(b"/") {
                    at = LayerPath::root();
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(part.to_vec());
                }
            } else if kind.is_some_and(|kind| kind != FileType::Directory) && !todo.is_empty() {
                return Err(error(Errno::NOTDIR.into()));
            } else {
                at = next;
            }
        }
        let meta = self.stat(&at).map_err(error)?;
        Ok(Found { path: at, meta })
    }

    /// Finds something that must be there.
    pub(super) fn existing(&self, path: &[u8], follow_last: bool) -> Result<(LayerPath, Meta), FileError> {
        match self.find(path, follow_last) {
            Ok(Found { path, meta: Some(meta) }) => Ok((path, meta)),
            Ok(_) => Err(FileError::NotFound(text(path))),
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {
                Err(FileError::NotFound(text(path)))
            }
            Err(error) => Err(error),
        }
    }

    /// Finds what a pattern stands for, in the order of a walk. A path without a pattern stands for itself, whether it
    /// is there or not.
    ///
    /// Below a match nothing else is matched; links among the matched components are not followed.
    pub(super) fn expand(&self, path: &[u8], follow_base: bool) -> Result<Vec<Vec<u8>>, FileError> {
        let parts = clean(path);
        let Some(first) = parts.iter().position(|part| is_pattern(part)) else {
            return Ok(vec![joined(&parts)]);
        };
        let (base, wild) = parts.split_at(first);
        let base = joined(base);
        let (start, meta) = self.existing(&base, follow_base)?;
        let mut found = Vec::new();
        if meta.kind == FileType::Directory
            && let Some(pattern) = Pattern::new(&joined(wild))
        {
            self.walk(&start, &mut Vec::new(), &pattern, &mut found)?;
        }
        Ok(found)
    }

    fn walk(
        &self,
        directory: &LayerPath,
        relative: &mut Vec<u8>,
        pattern: &Pattern,
        found: &mut Vec<Vec<u8>>,
    ) -> Result<(), FileError> {
        for name in self.names(directory).map_err(FileError::io("list", directory.as_bytes()))? {
            let Ok(path) = directory.join(&name) else { continue };
            let length = relative.len();
            if length > 0 {
                relative.push(b'/');
            }
            relative.extend_from_slice(&name);
            let (matches, look) = (pattern.matches(relative), pattern.may_match_below(relative));
            if (matches || look)
                && let Some(meta) = self.stat(&path).map_err(FileError::io("look at", path.as_bytes()))?
            {
                if matches {
                    found.push(path.as_bytes().to_vec());
                } else if meta.kind == FileType::Directory {
                    self.walk(&path, relative, pattern, found)?;
                }
            }
            relative.truncate(length);
        }
        Ok(())
    }
}

/// Returns the components of a path that mean something: neither empty ones nor `.`.
pub(super) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

/// Cleans a path lexically, with the root as its own parent, before any link is followed.
pub fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    for part in parts(path) {
        if part == b".." {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

pub(super) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b'/')
}

/// Shows a path as seen in the root, for messages.
pub(super) fn text(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).trim_start_matches('/'))
}
