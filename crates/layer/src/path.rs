use std::cmp::Ordering;
use std::fmt;

use crate::error::Error;

/// A path inside a layer: bytes without a leading slash and without empty, `.` or `..` components.
///
/// The empty path is the layer's root. Paths are ordered by component, so that a directory stands directly before
/// what is in it (`a`, `a/b`, `a.txt`): the order in which Go's `filepath.Walk` visits a tree and in which layers
/// are written.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct LayerPath(Box<[u8]>);

impl LayerPath {
    /// Returns the root of a layer.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path that is already clean; anything else is an error.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, Error> {
        let path = path.as_ref();
        let clean = path.is_empty()
            || path
                .split(|&b| b == b'/')
                .all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0));
        if clean {
            Ok(Self(path.into()))
        } else {
            Err(Error::Path(String::from_utf8_lossy(path).into_owned()))
        }
    }

    /// Cleans a path lexically, as archives write them: `./a//b/`, `/a/b` and `a/c/../b` all are `a/b`.
    ///
    /// A path that climbs above the root is an error.
    pub fn clean(path: impl AsRef<[u8]>) -> Result<Self, Error> {
        let path = path.as_ref();
        let escape = || Error::Escape { name: String::from_utf8_lossy(path).into_owned() };
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or_else(escape)?;
                }
                part if part.contains(&0) => return Err(escape()),
                part => parts.push(part),
            }
        }
        Ok(Self(parts.join(&b'/').into()))
    }

    /// Returns the bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path as the operating system takes it: `.` for the root.
    #[cfg(unix)]
    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt as _;
        let bytes: &[u8] = if self.0.is_empty() { b"." } else { &self.0 };
        std::path::Path::new(std::ffi::OsStr::from_bytes(bytes))
    }

    /// Tells whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0.get(..end).unwrap_or_default().into()))
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// Returns the components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// Returns the number of components.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Appends one component. The caller has made sure that `name` is one.
    pub(crate) fn join_name(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/'));
        if self.0.is_empty() {
            return Self(name.into());
        }
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        path.push(b'/');
        path.extend_from_slice(name);
        Self(path.into())
    }

    /// Appends one component; anything that is not exactly one component is an error.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, Error> {
        let name = name.as_ref();
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|&b| b == 0 || b == b'/') {
            return Err(Error::Path(String::from_utf8_lossy(name).into_owned()));
        }
        Ok(self.join_name(name))
    }

    /// Tells whether this path is `directory` or stands below it.
    pub fn is_within(&self, directory: &Self) -> bool {
        match self.0.strip_prefix(&*directory.0) {
            Some(rest) => directory.0.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}

impl Ord for LayerPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts before every other byte, so that comparing bytes compares components.
        let common = self.0.iter().zip(&*other.0).take_while(|(a, b)| a == b).count();
        match (self.0.get(common), other.0.get(common)) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(b'/'), Some(_)) => Ordering::Less,
            (Some(_), Some(b'/')) => Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        }
    }
}

impl PartialOrd for LayerPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl TryFrom<&str> for LayerPath {
    type Error = Error;

    fn try_from(path: &str) -> Result<Self, Error> {
        Self::new(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::new(text).unwrap()
    }

    #[test]
    fn cleaning() {
        for (from, to) in [
            ("./a//b/", "a/b"),
            ("/a/b", "a/b"),
            ("a/c/../b", "a/b"),
            ("", ""),
            ("./", ""),
            ("/", ""),
            ("a/..", ""),
        ] {
            assert_eq!(LayerPath::clean(from).unwrap(), path(to), "{from}");
        }
        for bad in ["..", "../a", "a/../../b", "/..", "a\0b"] {
            assert!(LayerPath::clean(bad).is_err(), "{bad}");
            assert!(LayerPath::new(bad).is_err(), "{bad}");
        }
        for bad in ["/a", "a/", "a//b", "./a", "a/./b"] {
            assert!(LayerPath::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_stands_before_its_content() {
        let mut all = ["a.txt", "a/b", "b", "a", "a/b/c", "a/b.c", "", "a-b"].map(path);
        all.sort();
        assert_eq!(all, ["", "a", "a/b", "a/b/c", "a/b.c", "a-b", "a.txt", "b"].map(path));
    }

    #[test]
    fn parts() {
        assert_eq!(path("a/b/c").parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(LayerPath::root()));
        assert_eq!(LayerPath::root().parent(), None);
        assert_eq!(path("a/b/c").name(), b"c");
        assert_eq!(path("a/b").depth(), 2);
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&LayerPath::root()));
        assert!(!path("ab").is_within(&path("a")));
        assert!(path("a").join("..").is_err());
    }
}
