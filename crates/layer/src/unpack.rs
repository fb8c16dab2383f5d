mod disk;
mod tree;

use std::collections::BTreeSet;
use std::io::{self, Read};

use cooper_oci::Hasher;

use crate::directory::{Directory, belongs_to_image};
use crate::entry::{Entry, Kind, Xattrs};
use crate::error::{Error, Result};
use crate::id::DiffId;
use crate::index::Index;
use crate::options::{Devices, Limits, UnpackOptions};
use crate::path::LayerPath;
use crate::tar::{Chunk, Member, MemberKind, Reader};

use disk::Disk;
use tree::{Node, Tree};

/// What stands in front of the name of what is hidden.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Names with which aufs keeps its books; one of them has a meaning in layers.
const AUFS: &[u8] = b".wh..wh.";
/// Makes its directory opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// Linux' bounds on an extended attribute: no file system has longer ones.
const XATTR_NAME: u64 = 255;
const XATTR_SIZE: u64 = 64 << 10;

/// What [`unpack`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// What the layer says, whether or not the disk could hold it.
    pub index: Index,
    /// Digest of the stream, to be compared with what the image's configuration lists.
    pub diff_id: DiffId,
    /// Length of the stream in bytes.
    pub tar_size: u64,
    /// Entries that lack something on disk: device nodes that were only recorded, attributes that the kernel or the
    /// file system refused. Owners that [`Owners::Record`](crate::Owners::Record) left out are not listed.
    pub incomplete: Vec<LayerPath>,
}

/// Unpacks one layer's tar stream, alone, into an empty directory in overlay form.
///
/// Whiteouts become character devices 0:0 and opaque directories get overlayfs' attribute. A directory that something is
/// in without being an entry itself is made with mode 0755 and marked [`implied`](Entry::implied): on an overlay mount
/// it hides the mode and owner of a directory of the same name in a lower layer, which the caller has to mend. The
/// entry of the layer's root is passed over, as containerd does.
///
/// The stream is read to its end and hashed; nothing is synced. After an error the directory holds a part of the layer
/// and is to be thrown away. Any number of layers may be unpacked at the same time into different directories.
///
/// Names and links of the archive decide only what is made inside `into`: they are resolved in memory against what the
/// same stream has made before, with the directory as the root, and the kernel is then asked for paths that have no
/// links in them.
pub fn unpack(tar: impl Read, into: &Directory, options: &UnpackOptions) -> Result<Unpacked> {
    let source = Source { input: tar, hasher: Hasher::new(), size: 0, limit: options.limits.stream };
    let mut reader = Reader::new(source, options.limits.extensions);
    let mut unpacking = Unpacking {
        disk: Disk::new(into, options)?,
        tree: Tree::new(options.limits.steps),
        options,
        whiteouts: BTreeSet::new(),
        opaque: BTreeSet::new(),
        incomplete: BTreeSet::new(),
        entries: 0,
        total_size: 0,
        holes: 0,
        metadata: 0,
    };
    let result = unpacking.run(&mut reader);
    let source = reader.into_inner();
    // The reader below saw only an error that ended the stream.
    Limits::check("length of the stream", source.size, options.limits.stream)?;
    result.map_err(Error::lifted)?;
    let (index, incomplete) = unpacking.finish()?;
    Ok(Unpacked { index, diff_id: DiffId::new(source.hasher.finish()), tar_size: source.size, incomplete })
}

/// Hashes and counts what is read, and ends a stream that is too long.
struct Source<R> {
    input: R,
    hasher: Hasher,
    size: u64,
    limit: u64,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.size += count as u64;
        if self.size > self.limit && count > 0 {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the stream is longer than the limit"));
        }
        Ok(count)
    }
}

struct Unpacking<'a> {
    disk: Disk<'a>,
    tree: Tree,
    options: &'a UnpackOptions,
    /// What is to be hidden, whatever else the layer has there.
    whiteouts: BTreeSet<LayerPath>,
    opaque: BTreeSet<LayerPath>,
    incomplete: BTreeSet<LayerPath>,
    entries: u64,
    total_size: u64,
    holes: u64,
    metadata: u64,
}

impl Unpacking<'_> {
    fn run<R: Read>(&mut self, reader: &mut Reader<Source<R>>) -> Result<()> {
        while let Some(member) = reader.next()? {
            self.member(member, reader)?;
        }
        // What follows the archive's end belongs to the digest all the same.
        io::copy(reader.get_mut(), &mut io::sink()).map_err(Error::Read)?;
        Ok(())
    }

    /// Counts an entry with this many bytes of name, link and attributes.
    fn count(&mut self, bytes: usize) -> Result<()> {
        self.entries += 1;
        Limits::check("number of entries", self.entries, self.options.limits.entries)?;
        self.keep(bytes)
    }

    /// Counts bytes that stay in memory.
    fn keep(&mut self, bytes: usize) -> Result<()> {
        self.metadata = self.metadata.saturating_add(bytes as u64);
        Limits::check("size of names and attributes", self.metadata, self.options.limits.metadata)
    }

    fn member<R: Read>(&mut self, member: Member, reader: &mut Reader<R>) -> Result<()> {
        let limits = &self.options.limits;
        let attributes: usize = member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.count(member.name.len() + member.link.len() + attributes)?;
        Limits::check("length of a path", member.name.len() as u64, limits.path)?;
        Limits::check("length of a link", member.link.len() as u64, limits.path)?;
        for (name, value) in &member.xattrs {
            Limits::check("length of an attribute's name", name.len() as u64, XATTR_NAME)?;
            Limits::check("length of an attribute", value.len() as u64, XATTR_SIZE)?;
        }
        let written = LayerPath::clean(&member.name)?;
        Limits::check("depth of a path", written.depth() as u64, limits.depth)?;
        if written.is_root() || written.components().any(|part| part.starts_with(AUFS) && part != OPAQUE) {
            return Ok(());
        }
        let Some(parent) = written.parent() else { return Ok(()) };
        if let Some(part) = parent.components().find(|part| part.starts_with(WHITEOUT)) {
            let name = String::from_utf8_lossy(part).into_owned();
            return Err(Error::entry(&written, format!("is inside `{name}`, a name that marks a deletion")));
        }
        let parent = self.directory(&parent)?;
        // Through a link, a short name can stand for a long path.
        self.keep(parent.as_bytes().len())?;
        let name = written.name();
        if name == OPAQUE {
            if parent.is_root() {
                return Err(Error::entry(
                    &written,
                    "hides all lower layers, which no overlay mount can show",
                ));
            }
            self.opaque.insert(parent);
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let hidden =
                parent.join(hidden).map_err(|_| Error::entry(&written, "hides nothing that has a name"))?;
            self.whiteouts.insert(hidden);
            return Ok(());
        }
        let path = parent.join_name(name);
        if member.kind == MemberKind::HardLink {
            return self.hard_link(path, &member);
        }

        let mut entry = Entry::new(path, Kind::Fifo, member.mode);
        entry.mtime = member.mtime;
        for (slot, value, what) in
            [(&mut entry.uid, member.uid, "owner"), (&mut entry.gid, member.gid, "group")]
        {
            // The highest number means "leave it" to the kernel.
            *slot = u32::try_from(value)
                .ok()
                .filter(|value| *value != u32::MAX)
                .ok_or_else(|| Error::entry(&entry.path, format!("has the {what} {value}, which is none")))?;
        }
        entry.xattrs =
            member.xattrs.into_iter().filter(|(name, _)| belongs_to_image(name)).collect::<Xattrs>();
        let (major, minor) = member.device;
        entry.kind = match member.kind {
            MemberKind::File => {
                Limits::check("size of a file", member.size, limits.file_size)?;
                self.total_size = self.total_size.saturating_add(member.size);
                Limits::check("size of all files", self.total_size, limits.total_size)?;
                self.make_room(&entry.path)?;
                return self.file(entry, member.size, reader);
            }
            MemberKind::Directory => Kind::Directory { opaque: false },
            MemberKind::Symlink if member.link.is_empty() => {
                return Err(Error::entry(&entry.path, "is a link without a target"));
            }
            MemberKind::Symlink => Kind::Symlink { target: member.link },
            MemberKind::CharDevice | MemberKind::BlockDevice if self.options.devices == Devices::Refuse => {
                return Err(Error::entry(&entry.path, "is a device node, which is not allowed here"));
            }
            MemberKind::CharDevice if member.device == (0, 0) => {
                return Err(Error::entry(&entry.path, "is the device 0:0, which stands for a deletion"));
            }
            MemberKind::CharDevice => Kind::CharDevice { major, minor },
            MemberKind::BlockDevice => Kind::BlockDevice { major, minor },
            MemberKind::Fifo | MemberKind::HardLink => Kind::Fifo,
        };
        if entry.is_directory()
            && let Some(node) = self.tree.get_mut(&entry.path)
            && node.entry.is_directory()
        {
            // On disk its attributes are set at the end.
            node.entry = entry;
            return Ok(());
        }
        self.make_room(&entry.path)?;
        if !self.disk.make(&entry)? {
            self.incomplete.insert(entry.path.clone());
        }
        self.tree.insert(entry);
        Ok(())
    }

    fn file<R: Read>(&mut self, mut entry: Entry, size: u64, reader: &mut Reader<R>) -> Result<()> {
        let mut file = self.disk.create(&entry.path)?;
        let mut hasher = Hasher::new();
        let zeros = [0; 4096];
        while let Some(chunk) = reader.chunk()? {
            match chunk {
                Chunk::Data(data) => {
                    hasher.update(data);
                    file.write(data)?;
                }
                Chunk::Hole(length) => {
                    self.holes = self.holes.saturating_add(length);
                    Limits::check("size of all holes", self.holes, self.options.limits.holes)?;
                    file.skip(length);
                    let mut left = length;
                    while left > 0 {
                        let part = left.min(zeros.len() as u64);
                        hasher.update(zeros.get(..part as usize).unwrap_or_default());
                        left -= part;
                    }
                }
            }
        }
        entry.kind = Kind::File { size, digest: hasher.finish() };
        if !file.finish(&entry)? {
            self.incomplete.insert(entry.path.clone());
        }
        self.tree.insert(entry);
        Ok(())
    }

    fn hard_link(&mut self, path: LayerPath, member: &Member) -> Result<()> {
        let fail = |reason: &str| {
            let target = String::from_utf8_lossy(&member.link);
            Error::entry(&path, format!("is another name of `{target}`, {reason}"))
        };
        let written = LayerPath::clean(&member.link)?;
        let Some(parent) = written.parent() else { return Err(fail("which is the root")) };
        let missing = || fail("which the layer does not have before it");
        let target = self.tree.resolve(&parent)?.existing().ok_or_else(missing)?.join_name(written.name());
        let node = self.tree.get(&target).ok_or_else(missing)?;
        if node.entry.is_directory() {
            return Err(fail("which is a directory"));
        }
        if target == path {
            return Err(fail("which is itself"));
        }
        // The new entry keeps what the first one has.
        let kept = node.entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + match &node.entry.kind {
                Kind::Symlink { target } => target.len(),
                _ => 0,
            };
        let (mut entry, file) = (node.entry.clone(), node.file);
        self.keep(kept)?;
        entry.path = path.clone();
        self.make_room(&path)?;
        let recorded = self.options.devices == Devices::Record
            && matches!(entry.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. });
        if recorded {
            self.incomplete.insert(path);
        } else {
            self.disk.link(&target, &path)?;
            if self.incomplete.contains(&target) {
                self.incomplete.insert(path);
            }
        }
        self.tree.insert_link(entry, file);
        Ok(())
    }

    /// Finds a directory as the layer has it so far, following its links, and makes what is missing.
    fn directory(&mut self, path: &LayerPath) -> Result<LayerPath> {
        let found = self.tree.resolve(path)?;
        let mut directory = found.directory;
        for name in found.missing {
            directory = directory.join_name(&name);
            self.count(directory.as_bytes().len())?;
            Limits::check("depth of a path", directory.depth() as u64, self.options.limits.depth)?;
            let kind = Kind::Directory { opaque: false };
            let entry = Entry { implied: true, ..Entry::new(directory.clone(), kind, 0o755) };
            self.disk.make(&entry)?;
            self.tree.insert(entry);
        }
        Ok(directory)
    }

    /// Takes away what an earlier member of the same name has made: the last one counts.
    fn make_room(&mut self, path: &LayerPath) -> Result<()> {
        for node in self.tree.remove_within(path) {
            let on_disk = match node.entry.kind {
                Kind::CharDevice { .. } | Kind::BlockDevice { .. } => self.options.devices == Devices::Create,
                _ => true,
            };
            if on_disk {
                self.disk.remove(&node.entry)?;
            }
            self.incomplete.remove(&node.entry.path);
        }
        Ok(())
    }

    /// Applies the marks and gives directories their attributes, which making something in them would have changed.
    fn finish(mut self) -> Result<(Index, Vec<LayerPath>)> {
        for path in std::mem::take(&mut self.whiteouts) {
            // A mark hides what lower layers have, never what its own layer has, wherever in the stream it stands.
            match self.tree.get(&path) {
                Some(node) if node.entry.is_directory() => drop(self.opaque.insert(path)),
                Some(_) => {}
                None => {
                    let parent = path.parent().unwrap_or_default();
                    let inside = parent.is_root()
                        || self.tree.get(&parent).is_some_and(|node| node.entry.is_directory());
                    // A file in the place of the parent hides it already.
                    if inside {
                        let entry = Entry::whiteout(path);
                        self.disk.make(&entry)?;
                        self.tree.insert(entry);
                    }
                }
            }
        }
        for path in std::mem::take(&mut self.opaque) {
            if let Some(Node { entry: Entry { kind: Kind::Directory { opaque }, implied, .. }, .. }) =
                self.tree.get_mut(&path)
            {
                *opaque = true;
                // Nothing of a lower directory is left to be seen, its mode neither.
                *implied = false;
            }
        }
        let entries = self.tree.into_entries();
        // Inner ones first: an outer one may lose the permission to reach them.
        for entry in entries.iter().rev().filter(|entry| entry.is_directory()) {
            if !self.disk.finish_directory(entry)? {
                self.incomplete.insert(entry.path.clone());
            }
        }
        Ok((Index::new(entries)?, self.incomplete.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests;
