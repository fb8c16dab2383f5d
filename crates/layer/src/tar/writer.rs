use std::collections::BTreeMap;
use std::io::{self, Write};

use super::header::{self, Block, Field};
use super::reader::XATTR;
use super::{BLOCK, Member, MemberKind, pax};

/// Writes a tar stream with the headers that Go's `archive/tar` would choose.
///
/// The stream depends on the members alone. A member's data is written through [`Write`]; it must be exactly as long
/// as its `size` says.
pub struct Writer<W> {
    out: W,
    /// Bytes of data that the current member still needs.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes to a stream.
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Ends the member before and writes the header of the next one.
    pub fn append(&mut self, member: &Member) -> io::Result<()> {
        self.end_member()?;
        let size = if member.kind == MemberKind::File { member.size } else { 0 };
        let mut header = Header { block: [0; BLOCK], pax: BTreeMap::new(), ustar: true };
        // Times are rounded down where fractions have no record.
        let signed = |value: u64| i64::try_from(value).map_err(|_| invalid("a number of more than 63 bits"));
        header.number(header::MODE, i64::from(member.mode & 0o7777), None)?;
        header.number(header::UID, signed(member.uid)?, Some("uid"))?;
        header.number(header::GID, signed(member.gid)?, Some("gid"))?;
        header.number(header::SIZE, signed(size)?, Some("size"))?;
        header.number(header::MTIME, member.mtime.seconds, Some("mtime"))?;
        if member.mtime.nanos != 0 {
            header.ustar = false;
            header.pax.insert(b"mtime".to_vec(), pax::format_time(member.mtime).into_bytes());
        }
        header.number(header::MAJOR, i64::from(member.device.0), None)?;
        header.number(header::MINOR, i64::from(member.device.1), None)?;
        header.text("linkpath", &member.link, header::LINK)?;
        let split = header.text("path", &member.name, header::NAME)?;
        for (name, value) in &member.xattrs {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                return Err(invalid("an attribute whose name no PAX record can hold"));
            }
            header.ustar = false;
            header.pax.insert([XATTR, name].concat(), value.clone());
        }
        if let Some(flag) = header.block.get_mut(header::FLAG) {
            *flag = member.kind.flag();
        }

        if header.ustar {
            if let Some((prefix, name)) = split {
                header::put_text(&mut header.block, header::PREFIX, prefix);
                header::put_text(&mut header.block, header::NAME, name);
            } else {
                header::put_text(&mut header.block, header::NAME, &member.name);
            }
            header::put_text(&mut header.block, header::LINK, &member.link);
        } else {
            self.extended(&member.name, &header.pax)?;
            put_cut(&mut header.block, header::NAME, &ascii(&member.name));
            put_cut(&mut header.block, header::LINK, &ascii(&member.link));
        }
        header::seal(&mut header.block);
        self.out.write_all(&header.block)?;
        self.left = size;
        self.padding = padding(size);
        Ok(())
    }

    /// Writes a PAX header with these records, which applies to the next header.
    fn extended(&mut self, name: &[u8], records: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
        let mut data = Vec::new();
        for (key, value) in records {
            pax::put(&mut data, key, value);
        }
        // `dir/PaxHeaders.0/file`, cleaned as Go's `path.Join` does.
        let slash = name.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        let (directory, file) = name.split_at(slash);
        let parts = directory.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
        let parts = parts.chain([&b"PaxHeaders.0"[..], file]).filter(|part| !part.is_empty());
        let joined = parts.collect::<Vec<_>>().join(&b'/');
        let mut joined = ascii(&joined);
        joined.truncate(header::NAME.1);
        while joined.last() == Some(&b'/') {
            joined.pop();
        }
        let mut block: Block = [0; BLOCK];
        header::put_text(&mut block, header::NAME, &joined);
        for field in [header::MODE, header::UID, header::GID, header::MTIME] {
            header::put_octal(&mut block, field, 0);
        }
        header::put_octal(&mut block, header::SIZE, data.len() as i64);
        if let Some(flag) = block.get_mut(header::FLAG) {
            *flag = b'x';
        }
        header::seal(&mut block);
        self.out.write_all(&block)?;
        data.resize(data.len() + padding(data.len() as u64), 0);
        self.out.write_all(&data)
    }

    /// Ends the archive with its two empty blocks and returns the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_member()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    /// Returns the stream as it is, without an end.
    #[cfg(test)]
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    fn end_member(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a member has less data than its size says",
            ));
        }
        let zeros = [0; BLOCK];
        self.out.write_all(zeros.get(..self.padding).unwrap_or_default())?;
        self.padding = 0;
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(invalid("a member has more data than its size says"));
        }
        let taken = self.out.write(bytes)?;
        self.left -= taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A header that is being decided on.
struct Header {
    block: Block,
    /// Records for the case that USTAR does not do.
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
    ustar: bool,
}

impl Header {
    fn number(&mut self, field: Field, value: i64, key: Option<&str>) -> io::Result<()> {
        header::put_octal(&mut self.block, field, value);
        if !header::fits_octal(field.1, value) {
            let key = key.ok_or_else(|| invalid("a device number that tar cannot hold"))?;
            self.ustar = false;
            self.pax.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
        }
        Ok(())
    }

    /// Decides on a name; returns how a long one is split between two fields, if it can be.
    fn text<'a>(
        &mut self,
        key: &str,
        text: &'a [u8],
        field: Field,
    ) -> io::Result<Option<(&'a [u8], &'a [u8])>> {
        if text.contains(&0) {
            return Err(invalid("a name with a NUL in it"));
        }
        if text.is_ascii() && text.len() <= field.1 {
            return Ok(None);
        }
        let split = if key == "path" { split(text) } else { None };
        if split.is_none() {
            self.ustar = false;
        }
        self.pax.insert(key.as_bytes().to_vec(), text.to_vec());
        Ok(split)
    }
}

/// Splits a long name at its last possible slash into prefix (155 bytes) and name (100 bytes).
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let (limit, rest_limit) = (header::PREFIX.1, header::NAME.1);
    if name.len() <= rest_limit || !name.is_ascii() {
        return None;
    }
    let length = if name.len() > limit + 1 {
        limit + 1
    } else if name.ends_with(b"/") {
        name.len() - 1
    } else {
        name.len()
    };
    let slash = name.get(..length)?.iter().rposition(|&b| b == b'/')?;
    let (prefix, rest) = (name.get(..slash)?, name.get(slash + 1..)?);
    (slash > 0 && !rest.is_empty() && rest.len() <= rest_limit && slash <= limit).then_some((prefix, rest))
}

/// Writes a name that a PAX record holds in full, for readers that do not know PAX.
fn put_cut(block: &mut Block, field: Field, text: &[u8]) {
    let mut cut = text.get(..field.1.min(text.len())).unwrap_or_default();
    // A cut name that happens to end in a slash would look like a directory.
    if text.len() > field.1 && cut.ends_with(b"/") {
        while let Some(shorter) = cut.strip_suffix(b"/") {
            cut = shorter;
        }
    }
    header::put_text(block, field, cut);
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

fn padding(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
