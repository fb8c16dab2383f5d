//! What is on disk, by calls that share nothing with the code under test.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Where layers are unpacked, inside the scratch folder.
pub(crate) const LAYER: &str = "layer";
/// What must not be touched, beside it.
pub(crate) const CANARY: &str = "canary";

/// Fills a scratch folder with an empty folder for a layer and with what hostile layers aim at.
pub(crate) fn scene(outer: &Path) {
    fs::create_dir(outer.join(LAYER)).unwrap();
    let canary = outer.join(CANARY);
    fs::create_dir(&canary).unwrap();
    fs::create_dir(canary.join("dir")).unwrap();
    for (name, mode) in [("secret", 0o600), ("dir/file", 0o644), ("program", 0o4755)] {
        fs::write(canary.join(name), format!("canary {name}")).unwrap();
        fs::set_permissions(canary.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("secret", canary.join("link")).unwrap();
    // A folder whose name only begins like the layer's.
    fs::create_dir(outer.join(format!("{LAYER}-other"))).unwrap();
}

fn walk(root: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        out.push(path.clone());
        if meta.is_dir() {
            // A layer may forbid its owner to look.
            fs::set_permissions(&path, fs::Permissions::from_mode(meta.mode() | 0o700)).unwrap();
            walk(&path, out);
        }
    }
}

/// Everything about everything but the layer: any write, link, change of mode, owner, name or attribute shows, by the
/// time of the last change if by nothing else.
pub(crate) fn outside(outer: &Path) -> String {
    let mut paths = vec![outer.to_owned()];
    let layer = outer.join(LAYER);
    let mut stack = vec![outer.to_owned()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path == layer {
                continue;
            }
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                stack.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    let mut out = String::new();
    for path in paths {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        writeln!(
            out,
            "{} {:o} {}:{} {} {} {} {}.{} {}.{} {:?} {}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino(),
            meta.nlink(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
            fs::read_link(&path).ok(),
            content.escape_ascii(),
        )
        .unwrap();
    }
    // The layer's own folder belongs to who made it.
    let meta = fs::symlink_metadata(&layer).unwrap();
    writeln!(out, "{LAYER} {:o} {}:{}", meta.mode(), meta.uid(), meta.gid()).unwrap();
    out
}

/// Lists the layer, a line an object, sorted: `dir/`, `file 3`, `link -> target`, `pipe |`, `char 1:3`, `block 8:0`,
/// `hidden x`; attributes with which overlayfs or cooper keep books are named. Returns the bytes on disk, too.
pub(crate) fn layer(outer: &Path) -> (Vec<String>, u64) {
    let root = outer.join(LAYER);
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let mut lines = Vec::new();
    let mut blocks = 0;
    for path in paths {
        let meta = fs::symlink_metadata(&path).unwrap();
        blocks += meta.blocks() * 512;
        let name = path.strip_prefix(&root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let kind = meta.file_type();
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let mut line = if kind.is_dir() {
            format!("{name}/")
        } else if kind.is_symlink() {
            format!("{name} -> {}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if kind.is_fifo() {
            format!("{name} |")
        } else if kind.is_char_device() && meta.rdev() == 0 {
            format!("{name} x")
        } else if kind.is_char_device() {
            format!("{name} char {major}:{minor}")
        } else if kind.is_block_device() {
            format!("{name} block {major}:{minor}")
        } else {
            format!("{name} {}", meta.size())
        };
        let mut names = vec![0; 64 << 10];
        let length = rustix::fs::llistxattr(&path, &mut names).unwrap_or(0);
        for attribute in names[..length].split(|&byte| byte == 0) {
            let attribute = String::from_utf8_lossy(attribute);
            if attribute.contains(".overlay.opaque") && kind.is_dir() {
                line.push_str(" opaque");
            } else if attribute.contains(".overlay.") || attribute.contains("posix_acl") {
                write!(line, " {attribute}").unwrap();
            }
        }
        lines.push(line);
    }
    lines.sort();
    (lines, blocks)
}
