use crate::error::{Error, Result};
use crate::time::Timestamp;

/// Which extended attributes overlayfs reads on this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounts made by real root.
    #[default]
    Trusted,
    /// `user.overlay.*`: mounts with the option `userxattr`, as in a user namespace.
    User,
}

impl OverlayXattrs {
    /// Returns the full name of one of overlayfs' attributes, as `trusted.overlay.opaque`.
    pub fn name(self, attribute: &str) -> String {
        let prefix = match self {
            Self::Trusted => "trusted",
            Self::User => "user",
        };
        format!("{prefix}.overlay.{attribute}")
    }
}

/// What to do about the owners of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Set them on disk; a refusal is an error.
    #[default]
    Set,
    /// Leave every file to the user who runs this, for a user namespace with a single id. The owner stays in the
    /// [`Index`](crate::Index) and, for files and directories whose owner is not 0:0, in the attribute
    /// [`OWNER_XATTR`], from which a scan takes it back.
    Record,
}

/// The attribute that keeps an owner that could not be set, as `UID:GID` in decimal.
pub const OWNER_XATTR: &str = "user.cooper.owner";

/// What to do about device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// Make them; a refusal is an error.
    #[default]
    Create,
    /// Keep them in the [`Index`](crate::Index) only, where a user namespace refuses them.
    Record,
    /// A layer that has one is an error.
    Refuse,
}

/// Bounds on what a layer may ask for; crossing one is [`Error::Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of entries, implied directories and duplicates included.
    pub entries: u64,
    /// Sum of the lengths of all files in bytes, holes of sparse files included.
    pub total_size: u64,
    /// Length of one file in bytes, holes included.
    pub file_size: u64,
    /// Number of components of a path.
    pub depth: u64,
    /// Length of a path or link target in bytes; more than the kernel takes is of no use.
    pub path: u64,
    /// Bytes of extension records (PAX, GNU long names) of one entry, and separately of all global records.
    pub extensions: u64,
    /// Sum of the bytes of all paths, link targets and attributes: what the index takes in memory.
    pub metadata: u64,
    /// Length of the uncompressed stream in bytes.
    pub stream: u64,
    /// Sum of all holes of sparse files in bytes: they cost an archive nothing, but each zero is hashed.
    pub holes: u64,
    /// Number of components walked while names are resolved, those of links included: a name of a few bytes can lead
    /// through 40 links of 2,000 components each.
    pub steps: u64,
    /// Bytes of the stream for each byte of the compressed blob, beyond [`ratio_from`](Self::ratio_from).
    pub ratio: u64,
    /// Length of the stream in bytes up to which any ratio is allowed: images with a file of zeros are honest.
    pub ratio_from: u64,
}

impl Default for Limits {
    /// Far above every layer that is in use, far below what fills a machine.
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            total_size: 1 << 40,
            file_size: 1 << 39,
            depth: 512,
            path: 4095,
            extensions: 1 << 20,
            metadata: 1 << 30,
            stream: 1 << 40,
            // A minute of hashing.
            holes: 1 << 36,
            // Five million entries in forty directories each.
            steps: 200_000_000,
            // gzip cannot pass 1,032; zstd writes 128 KiB of zeros as 4 bytes.
            ratio: 500,
            ratio_from: 4 << 30,
        }
    }
}

impl Limits {
    pub(crate) fn check(what: &'static str, value: u64, limit: u64) -> Result<()> {
        if value > limit { Err(Error::Limit { what, limit }) } else { Ok(()) }
    }
}

/// How to [`unpack`](crate::unpack) a layer.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// The attribute family for opaque directories.
    pub overlay: OverlayXattrs,
    /// What to do about owners.
    pub owners: Owners,
    /// What to do about device nodes.
    pub devices: Devices,
    /// Bounds against hostile layers.
    pub limits: Limits,
}

/// How to [`scan`](crate::scan) what a step wrote.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// The attribute family of the overlay mount that wrote the directory.
    pub overlay: OverlayXattrs,
    /// With [`Owners::Record`], owners are taken from [`OWNER_XATTR`] or, for what cannot carry it, from the lower
    /// layers if those have the same thing there.
    pub owners: Owners,
    /// Number of threads that hash files; 0 asks the system.
    pub threads: usize,
}

/// How to [`write_tar`](crate::write_tar).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TarOptions {
    /// Later modification times are lowered to this one, as `rewrite-timestamp` with `SOURCE_DATE_EPOCH` asks.
    pub latest: Option<Timestamp>,
    /// Keep fractions of seconds, in PAX records. Off, times are cut to whole seconds as containerd's differ does, which
    /// BuildKit uses: most entries then need no PAX header.
    pub subsecond: bool,
    /// Leave out all attributes but `security.capability`, as containerd's differ does: of what a step sets, images of
    /// BuildKit have file capabilities only.
    pub capabilities_only: bool,
}
