use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::merged::Merged;
use crate::options::ScanOptions;

/// Lists what a step wrote, from the upper directory of its overlay mount.
pub fn scan(_upper: &Directory, _lower: Merged<'_>, _options: &ScanOptions) -> Result<Index> {
    Err(Error::Index("not here yet"))
}
