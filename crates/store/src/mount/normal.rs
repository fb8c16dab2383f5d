//! From what overlayfs leaves in an upper directory to what differs from the layers.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use cooper_layer::OverlayXattrs;

use crate::error::{Error, IoContext as _, Result};
use crate::mount::attributes::{
    is_directory, is_whiteout, make_whiteout, same, set_times, stat, strip_overlay, try_stat, xattr,
};

/// Takes out of an upper directory what is the same in the layers, which are seen merged at `lower`: files that were
/// opened for writing and left alone, directories without changes. Opaque directories become whiteouts.
///
/// Nobody else may be changing either tree.
pub(super) fn normalize(upper: &Path, lower: &Path, xattrs: OverlayXattrs) -> Result<()> {
    let opaque = xattrs.name("opaque");
    directory(upper, Some(lower), opaque.as_bytes(), false)?;
    Ok(())
}

/// Treats a directory; tells whether something that is in it is left. `hidden`: one above it is opaque, so that nothing
/// of the layers shows in this one either, marked or not.
fn directory(upper: &Path, lower: Option<&Path>, opaque: &[u8], hidden: bool) -> Result<bool> {
    let before = stat(upper)?;
    let hidden = hidden || xattr(upper, opaque)?.is_some_and(|value| value == b"y");
    if let Some(lower) = lower
        && hidden
    {
        for name in list(lower)? {
            let path = upper.join(&name);
            if try_stat(&path)?.is_none() {
                make_whiteout(&path)?;
            }
        }
    }
    strip_overlay(upper)?;
    let mut left = false;
    for name in list(upper)? {
        let path = upper.join(&name);
        let own = stat(&path)?;
        let below = lower.map(|lower| lower.join(&name));
        let other = match &below {
            Some(below) => try_stat(below)?,
            None => None,
        };
        if is_whiteout(&own) {
            match other {
                Some(_) => left = true,
                None => fs::remove_file(&path).at("remove", &path)?,
            }
            continue;
        }
        let other = below.as_deref().zip(other.as_ref());
        if is_directory(&own) {
            let below = other.filter(|(_, other)| is_directory(other));
            let any = directory(&path, below.map(|(below, _)| below), opaque, hidden)?;
            let gone = !any
                && match below {
                    // Its time was put back after entries were taken out.
                    Some(below) => same((&path, &own), below)?,
                    None => false,
                };
            if gone {
                fs::remove_dir(&path).at("remove", &path)?;
            }
            left |= !gone;
            continue;
        }
        strip_overlay(&path)?;
        // A second name is something new, even if this one looks as before.
        let gone = own.st_nlink == 1
            && match other {
                Some(other) => same((&path, &own), other)?,
                None => false,
            };
        if gone {
            fs::remove_file(&path).at("remove", &path)?;
        }
        left |= !gone;
    }
    set_times(upper, &before)?;
    Ok(left)
}

/// Lists a directory, sorted.
pub(super) fn list(dir: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        names.push(entry.map_err(|source| Error::io("list", dir, source))?.file_name());
    }
    names.sort();
    Ok(names)
}
