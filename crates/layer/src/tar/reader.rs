use std::io::{self, Read};

use super::header::{self, Block};
use super::sparse::{self, Segment};
use super::{BLOCK, Member, MemberKind, pax};
use crate::entry::Xattrs;
use crate::error::{Error, Result};
use crate::time::Timestamp;

/// Bytes of data handed out at a time.
const CHUNK: usize = 128 << 10;

/// Prefix of the PAX records that hold extended attributes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Reads a tar stream member by member.
///
/// Nothing is trusted: lengths are bounded, arithmetic is checked, and an archive that contradicts itself is an error.
pub struct Reader<R> {
    input: R,
    /// Bytes of the stream that are read.
    offset: u64,
    /// Most bytes of extension records of one member.
    extensions: u64,
    body: Body,
    buffer: Vec<u8>,
}

/// What is left of the current member's data.
#[derive(Default)]
struct Body {
    /// Bytes stored in the archive that are not read yet.
    stored: u64,
    /// Bytes after them, up to the end of the block.
    padding: u64,
    /// Position in the extracted file.
    position: u64,
    /// Length of the extracted file.
    size: u64,
    /// Pieces that are not read yet, last first; `None` for a file without holes.
    map: Option<Vec<Segment>>,
}

/// A part of a file's content, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes, never empty.
    Data(&'a [u8]),
    /// This many zeros that the archive does not store.
    Hole(u64),
}

/// Records in front of a member that change it.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: u64,
}

impl Extensions {
    /// The last value of a PAX key; an empty value takes it back.
    fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.pax.iter().rev().find(|(name, _)| name == key.as_bytes())?;
        (!found.1.is_empty()).then_some(&*found.1)
    }
}

impl<R: Read> Reader<R> {
    /// Reads a stream whose members each have at most `extensions` bytes of extension records.
    pub fn new(input: R, extensions: u64) -> Self {
        Self { input, offset: 0, extensions, body: Body::default(), buffer: Vec::new() }
    }

    /// Returns the position in the stream in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the reader below, which stands after what was read so far.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Returns the reader below.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Passes over what is left of the current member and reads the next header; `None` is the end of the archive.
    ///
    /// What follows the end marker is left in the reader below.
    #[allow(clippy::should_implement_trait)] // an iterator could not lend the member's data
    pub fn next(&mut self) -> Result<Option<Member>> {
        self.skip_body()?;
        let mut extensions = Extensions::default();
        loop {
            let start = self.offset;
            let Some(block) = self.header()? else {
                let pending = extensions.long_name.is_some() || !extensions.pax.is_empty();
                return if pending { Err(bad(start, "ends after an extension header")) } else { Ok(None) };
            };
            let size = header::number(header::field(&block, header::SIZE))
                .and_then(|size| u64::try_from(size).ok())
                .ok_or_else(|| bad(start, "bad size"))?;
            match block.get(header::FLAG).copied().unwrap_or_default() {
                b'x' => {
                    let data = self.extension(&mut extensions, size)?;
                    let records = pax::records(&data).map_err(|reason| bad(start, reason))?;
                    extensions
                        .pax
                        .extend(records.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
                }
                // A global header: Go's reader, and with it every container engine, applies nothing of it.
                b'g' => drop(self.extension(&mut Extensions::default(), size)?),
                b'L' => {
                    extensions.long_name =
                        Some(header::text(&self.extension(&mut extensions, size)?).to_vec())
                }
                b'K' => {
                    extensions.long_link =
                        Some(header::text(&self.extension(&mut extensions, size)?).to_vec())
                }
                // A volume label.
                b'V' => {
                    self.body = Body::of(size).ok_or_else(|| bad(start, "bad size"))?;
                    self.skip_body()?;
                }
                _ => return self.member(start, &block, size, &extensions).map(Some),
            }
        }
    }

    /// Returns the next part of the current member's content; `None` at its end.
    pub fn chunk(&mut self) -> Result<Option<Chunk<'_>>> {
        let body = &mut self.body;
        let mut length = body.stored;
        if let Some(map) = &mut body.map {
            match map.last_mut() {
                Some(segment) if segment.offset > body.position => {
                    let hole = segment.offset - body.position;
                    body.position = segment.offset;
                    return Ok(Some(Chunk::Hole(hole)));
                }
                Some(segment) => {
                    length = segment.length.min(CHUNK as u64);
                    segment.offset += length;
                    segment.length -= length;
                    if segment.length == 0 {
                        map.pop();
                    }
                }
                None if body.position < body.size => {
                    let hole = body.size - body.position;
                    body.position = body.size;
                    return Ok(Some(Chunk::Hole(hole)));
                }
                None => length = 0,
            }
        }
        let length = length.min(CHUNK as u64);
        if length == 0 {
            return Ok(None);
        }
        body.stored -= length;
        body.position += length;
        self.fill(length as usize)?;
        Ok(Some(Chunk::Data(&self.buffer)))
    }

    /// Reads a header, or `None` at the end marker or the end of the stream.
    fn header(&mut self) -> Result<Option<Block>> {
        let start = self.offset;
        let mut block: Block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|&b| b == 0) {
            // The end marker is two such blocks; some archivers write one and stop.
            return match self.block(&mut block)? {
                true if block.iter().any(|&b| b != 0) => Err(bad(start, "a header after an end marker")),
                _ => Ok(None),
            };
        }
        let sum = header::number(header::field(&block, header::CHECKSUM));
        let (unsigned, signed) = header::checksums(&block);
        if sum != Some(unsigned) && sum != Some(signed) {
            return Err(bad(start, "wrong checksum of a header: no tar archive, or a damaged one"));
        }
        Ok(Some(block))
    }

    /// Reads a whole block; `false` if the stream ends before it.
    fn block(&mut self, block: &mut Block) -> Result<bool> {
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(bad(self.offset, "ends within a header")),
                Ok(count) => {
                    filled += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
        Ok(true)
    }

    /// Reads exactly this many bytes into the buffer.
    fn fill(&mut self, length: usize) -> Result<()> {
        self.buffer.resize(length, 0);
        self.input.read_exact(&mut self.buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad(self.offset, "ends within a member"),
            _ => Error::Read(error),
        })?;
        self.offset += length as u64;
        Ok(())
    }

    fn skip_body(&mut self) -> Result<()> {
        let body = std::mem::take(&mut self.body);
        let mut left = body.stored + body.padding;
        while left > 0 {
            let length = left.min(CHUNK as u64);
            self.fill(length as usize)?;
            left -= length;
        }
        Ok(())
    }

    /// Reads the data of an extension header.
    fn extension(&mut self, extensions: &mut Extensions, size: u64) -> Result<Vec<u8>> {
        extensions.bytes = extensions.bytes.saturating_add(size);
        if extensions.bytes > self.extensions {
            return Err(Error::Limit { what: "size of extension headers", limit: self.extensions });
        }
        let padding = padding(size);
        self.fill(size as usize)?;
        let data = std::mem::take(&mut self.buffer);
        self.fill(padding as usize)?;
        Ok(data)
    }

    fn member(&mut self, start: u64, block: &Block, size: u64, extensions: &Extensions) -> Result<Member> {
        let bad = |reason: &str| bad(start, reason);
        let number = |field| header::number(header::field(block, field));
        let positive = |field| number(field).and_then(|value| u64::try_from(value).ok());
        let flag = block.get(header::FLAG).copied().unwrap_or_default();
        let magic = header::field(block, header::MAGIC);

        let mut name = header::text(header::field(block, header::NAME)).to_vec();
        if magic == header::POSIX {
            let prefix = header::text(header::field(block, header::PREFIX));
            if !prefix.is_empty() {
                name = [prefix, &name].join(&b'/');
            }
        }
        let mut link = header::text(header::field(block, header::LINK)).to_vec();
        let mut stored = size;
        let mut real_size = None;
        let mut mtime = Timestamp::new(number(header::MTIME).ok_or_else(|| bad("bad time"))?, 0);
        let mut uid = positive(header::UID).ok_or_else(|| bad("bad owner"))?;
        let mut gid = positive(header::GID).ok_or_else(|| bad("bad group"))?;

        if let Some(value) = extensions.get("path") {
            name = value.to_vec();
        }
        if let Some(value) = extensions.get("linkpath") {
            link = value.to_vec();
        }
        for (key, slot) in [("uid", &mut uid), ("gid", &mut gid), ("size", &mut stored)] {
            if let Some(value) = extensions.get(key) {
                *slot = pax::decimal(value).ok_or_else(|| bad("bad number in an extended header"))?;
            }
        }
        if let Some(value) = extensions.get("mtime") {
            mtime = pax::time(value).ok_or_else(|| bad("bad time in an extended header"))?;
        }
        if let Some(value) = &extensions.long_name {
            name = value.clone();
        }
        if let Some(value) = &extensions.long_link {
            link = value.clone();
        }
        let mut xattrs = Xattrs::new();
        for (key, value) in &extensions.pax {
            if let Some(key) = key.strip_prefix(XATTR)
                && !key.is_empty()
            {
                xattrs.insert(key.to_vec(), value.clone());
            }
        }

        let kind = match flag {
            // Before POSIX a directory was a file whose name ends in a slash.
            0 if name.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Symlink,
            b'3' => MemberKind::CharDevice,
            b'4' => MemberKind::BlockDevice,
            b'5' | b'D' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            other => {
                return Err(bad(&format!("unknown type of member `{}`", char::from(other).escape_default())));
            }
        };
        let mut device = (0, 0);
        if matches!(kind, MemberKind::CharDevice | MemberKind::BlockDevice) {
            let part = |field, key| {
                let value = match extensions.get(key) {
                    Some(value) => pax::decimal(value),
                    None => positive(field),
                };
                value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| bad("bad device number"))
            };
            device = (part(header::MAJOR, "SCHILY.devmajor")?, part(header::MINOR, "SCHILY.devminor")?);
        }

        // Links, directories and the like have no data, whatever their size says; a GNU dump directory has some.
        if kind != MemberKind::File && flag != b'D' {
            stored = 0;
        }
        self.body = Body::of(stored).ok_or_else(|| bad("bad size"))?;
        if kind == MemberKind::File {
            let map = if flag == b'S' {
                real_size = Some(positive(header::GNU_REAL_SIZE).ok_or_else(|| bad("bad size"))?);
                Some(self.gnu_map(start, block)?)
            } else {
                self.pax_map(start, extensions, &mut name, &mut real_size)?
            };
            if let Some(map) = map {
                self.body.size = real_size.ok_or_else(|| bad("sparse file without a size"))?;
                let mut map = sparse::check(map, self.body.size, self.body.stored).map_err(&bad)?;
                map.reverse();
                self.body.map = Some(map);
            }
        }
        Ok(Member {
            name,
            kind,
            link,
            size: if kind == MemberKind::File { self.body.size } else { 0 },
            mode: (number(header::MODE).ok_or_else(|| bad("bad mode"))? & 0o7777) as u32,
            uid,
            gid,
            mtime,
            device,
            xattrs,
        })
    }

    /// Reads the map of an old GNU sparse file: four pairs in the header, 21 in each block that follows.
    fn gnu_map(&mut self, start: u64, block: &Block) -> Result<Vec<Segment>> {
        let mut map = Vec::new();
        let fail = |reason| bad(start, reason);
        sparse::gnu_pairs(header::field(block, header::GNU_SPARSE), &mut map).map_err(fail)?;
        let mut more = sparse::gnu_more(block, header::GNU_EXTENDED);
        let mut bytes = 0;
        while more {
            bytes += BLOCK as u64;
            if bytes > self.extensions {
                return Err(Error::Limit { what: "size of a sparse map", limit: self.extensions });
            }
            let mut next: Block = [0; BLOCK];
            if !self.block(&mut next)? {
                return Err(bad(self.offset, "ends within a sparse map"));
            }
            sparse::gnu_pairs(header::field(&next, (0, 504)), &mut map).map_err(fail)?;
            more = sparse::gnu_more(&next, 504);
        }
        Ok(map)
    }

    /// Reads the map of a sparse file in one of the PAX formats 0.0, 0.1 and 1.0.
    fn pax_map(
        &mut self,
        start: u64,
        extensions: &Extensions,
        name: &mut Vec<u8>,
        real_size: &mut Option<u64>,
    ) -> Result<Option<Vec<Segment>>> {
        let fail = |reason| bad(start, reason);
        let version = match (extensions.get("GNU.sparse.major"), extensions.get("GNU.sparse.minor")) {
            (Some(b"1"), Some(b"0")) => 1,
            (Some(b"0"), Some(b"0" | b"1")) | (None, None) => 0,
            _ => return Err(fail("sparse file of an unknown format")),
        };
        let listed = extensions.get("GNU.sparse.map").is_some();
        let counted = extensions.get("GNU.sparse.numblocks").is_some();
        if version == 0 && !listed && !counted {
            return Ok(None);
        }
        if let Some(real) = extensions.get("GNU.sparse.name") {
            *name = real.to_vec();
        }
        if let Some(size) = extensions.get("GNU.sparse.realsize").or(extensions.get("GNU.sparse.size")) {
            *real_size = Some(pax::decimal(size).ok_or_else(|| fail("bad size of a sparse file"))?);
        }
        let map = if version == 1 {
            self.map_in_data(start)?
        } else if let Some(list) = extensions.get("GNU.sparse.map") {
            sparse::list(list).map_err(fail)?
        } else {
            let pairs = extensions
                .pax
                .iter()
                .filter(|(key, _)| matches!(key.as_slice(), b"GNU.sparse.offset" | b"GNU.sparse.numbytes"));
            sparse::pairs(pairs.map(|(_, value)| pax::decimal(value))).map_err(fail)?
        };
        Ok(Some(map))
    }

    /// Reads a map in front of the data: the number of pieces, then offset and length of each, one number a line, filled
    /// up to whole blocks.
    fn map_in_data(&mut self, start: u64) -> Result<Vec<Segment>> {
        let fail = |reason| bad(start, reason);
        let mut text = Vec::new();
        let mut scanned = 0;
        let mut wanted = None;
        let mut lines = 0_u64;
        // No number has more digits; searching for the end of an endless line again in each block would be slow.
        const DIGITS: usize = 20;
        loop {
            if wanted.is_some_and(|wanted| lines >= wanted) {
                break;
            }
            if self.body.stored < BLOCK as u64 {
                return Err(fail("sparse map longer than its file"));
            }
            if text.len() as u64 + BLOCK as u64 > self.extensions {
                return Err(Error::Limit { what: "size of a sparse map", limit: self.extensions });
            }
            self.fill(BLOCK)?;
            self.body.stored -= BLOCK as u64;
            text.extend_from_slice(&self.buffer);
            while wanted.is_none_or(|wanted| lines < wanted)
                && let Some(end) = text.get(scanned..).and_then(|rest| rest.iter().position(|&b| b == b'\n'))
            {
                if wanted.is_none() {
                    let count = text.get(..end).and_then(pax::decimal).and_then(|count| count.checked_mul(2));
                    wanted = Some(
                        count.and_then(|count| count.checked_add(1)).ok_or_else(|| fail("bad sparse map"))?,
                    );
                }
                lines += 1;
                scanned += end + 1;
            }
            if wanted.is_none_or(|wanted| lines < wanted) && text.len() - scanned > DIGITS {
                return Err(fail("bad number in a sparse map"));
            }
        }
        let numbers = text.get(..scanned).unwrap_or_default().split(|&b| b == b'\n').skip(1);
        sparse::pairs(numbers.filter(|line| !line.is_empty()).map(pax::decimal)).map_err(fail)
    }
}

impl Body {
    fn of(size: u64) -> Option<Self> {
        // Go reads sizes as signed numbers, and nothing real is near that.
        i64::try_from(size).ok()?;
        Some(Self { stored: size, padding: padding(size), position: 0, size, map: None })
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn bad(offset: u64, reason: &str) -> Error {
    Error::Tar { offset, reason: reason.to_owned() }
}
