//! The stored form of an index.
//!
//! ```text
//! "cooper-index\x01"  count  entry*
//! entry:  shared bytes with the path before, rest of the path (length, bytes)
//!         tag (low 4 bits: kind; 0x10: implied; 0x20: hard link; 0x40: attributes), mode, uid, gid
//!         mtime (zigzag seconds, nanoseconds), what the kind needs
//!         [hard-link group] [count of attributes, (name, value)*]
//! ```
//!
//! Numbers are LEB128; byte strings stand behind their length; digests are 32 raw bytes. An entry of a usual file takes
//! about 60 bytes, half of them its digest.

use cooper_oci::Digest;

use super::Index;
use crate::entry::{Entry, Kind, Xattrs};
use crate::error::{Error, Result};
use crate::path::LayerPath;
use crate::time::Timestamp;

const MAGIC: &[u8] = b"cooper-index\x01";

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const OPAQUE: u8 = 2;
const SYMLINK: u8 = 3;
const CHAR: u8 = 4;
const BLOCK: u8 = 5;
const FIFO: u8 = 6;
const WHITEOUT: u8 = 7;

const IMPLIED: u8 = 0x10;
const LINKED: u8 = 0x20;
const ATTRIBUTES: u8 = 0x40;

impl Index {
    /// Encodes the index in its stored form. Equal indexes give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + 8 + self.entries.len() * 64);
        out.extend_from_slice(MAGIC);
        number(&mut out, self.entries.len() as u64);
        let mut before: &[u8] = b"";
        for entry in &self.entries {
            let path = entry.path.as_bytes();
            let shared = path.iter().zip(before).take_while(|(a, b)| a == b).count();
            number(&mut out, shared as u64);
            bytes(&mut out, path.get(shared..).unwrap_or_default());
            before = path;
            let kind = match entry.kind {
                Kind::File { .. } => FILE,
                Kind::Directory { opaque: false } => DIRECTORY,
                Kind::Directory { opaque: true } => OPAQUE,
                Kind::Symlink { .. } => SYMLINK,
                Kind::CharDevice { .. } => CHAR,
                Kind::BlockDevice { .. } => BLOCK,
                Kind::Fifo => FIFO,
                Kind::Whiteout => WHITEOUT,
            };
            let mut tag = kind;
            for (set, bit) in [
                (entry.implied, IMPLIED),
                (entry.hard_link.is_some(), LINKED),
                (!entry.xattrs.is_empty(), ATTRIBUTES),
            ] {
                if set {
                    tag |= bit;
                }
            }
            out.push(tag);
            for value in [entry.mode, entry.uid, entry.gid] {
                number(&mut out, u64::from(value));
            }
            let seconds = entry.mtime.seconds;
            number(&mut out, ((seconds << 1) ^ (seconds >> 63)) as u64);
            number(&mut out, u64::from(entry.mtime.nanos));
            match &entry.kind {
                Kind::File { size, digest } => {
                    number(&mut out, *size);
                    out.extend_from_slice(digest.as_bytes());
                }
                Kind::Symlink { target } => bytes(&mut out, target),
                Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                    number(&mut out, u64::from(*major));
                    number(&mut out, u64::from(*minor));
                }
                Kind::Directory { .. } | Kind::Fifo | Kind::Whiteout => {}
            }
            if let Some(group) = entry.hard_link {
                number(&mut out, u64::from(group));
            }
            if !entry.xattrs.is_empty() {
                number(&mut out, entry.xattrs.len() as u64);
                for (name, value) in &entry.xattrs {
                    bytes(&mut out, name);
                    bytes(&mut out, value);
                }
            }
        }
        out
    }

    /// Decodes the stored form; damaged bytes are an error, never a panic, and never much memory.
    pub fn decode(stored: &[u8]) -> Result<Self> {
        let mut input =
            Input(stored.strip_prefix(MAGIC).ok_or(Error::Index("not an index, or of another version"))?);
        let count = input.number()?;
        // An entry takes at least 9 bytes: a false count cannot reserve more than the input's own size.
        let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(input.0.len() / 9));
        let mut before: Vec<u8> = Vec::new();
        for _ in 0..count {
            let shared = input.size()?;
            if shared > before.len() {
                return Err(Error::Index("a path shares more than there is"));
            }
            before.truncate(shared);
            before.extend_from_slice(input.bytes()?);
            let path = LayerPath::new(&before).map_err(|_| Error::Index("a path that is not clean"))?;
            let tag = input.byte()?;
            let [mode, uid, gid] = [input.small()?, input.small()?, input.small()?];
            let seconds = input.number()?;
            let mtime =
                Timestamp { seconds: (seconds >> 1) as i64 ^ -((seconds & 1) as i64), nanos: input.small()? };
            if mtime.nanos >= 1_000_000_000 || mode > 0o7777 || tag & 0x88 != 0 {
                return Err(Error::Index("a field out of its range"));
            }
            let kind = match tag & 7 {
                FILE => Kind::File { size: input.number()?, digest: input.digest()? },
                DIRECTORY => Kind::Directory { opaque: false },
                OPAQUE => Kind::Directory { opaque: true },
                SYMLINK => Kind::Symlink { target: input.bytes()?.to_vec() },
                CHAR => Kind::CharDevice { major: input.small()?, minor: input.small()? },
                BLOCK => Kind::BlockDevice { major: input.small()?, minor: input.small()? },
                FIFO => Kind::Fifo,
                _ => Kind::Whiteout,
            };
            let hard_link = if tag & LINKED == 0 { None } else { Some(input.small()?) };
            let mut xattrs = Xattrs::new();
            if tag & ATTRIBUTES != 0 {
                for _ in 0..input.number()? {
                    let name = input.bytes()?.to_vec();
                    xattrs.insert(name, input.bytes()?.to_vec());
                }
            }
            let implied = tag & IMPLIED != 0;
            entries.push(Entry { path, kind, mode, uid, gid, mtime, xattrs, hard_link, implied });
        }
        if !input.0.is_empty() {
            return Err(Error::Index("bytes after the last entry"));
        }
        Self::new(entries)
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// What is left of the stored bytes.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().ok_or(Error::Index("cut off"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Index("a number of more than 64 bits"))
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| Error::Index("a number of more than 32 bits"))
    }

    fn size(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| Error::Index("a length beyond memory"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Index("cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.size()?;
        self.take(length)
    }

    fn digest(&mut self) -> Result<Digest> {
        let raw: [u8; 32] = self.take(32)?.try_into().map_err(|_| Error::Index("cut off"))?;
        Ok(Digest::from_bytes(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Index {
        let path = |text: &str| LayerPath::new(text).unwrap();
        let mut one =
            Entry::new(path("usr/bin/ping"), Kind::File { size: 3, digest: Digest::of("abc") }, 0o4755);
        one.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, b'\n', 2]);
        one.mtime = Timestamp::new(-5, 999_999_999);
        one.hard_link = Some(4);
        let two = Entry { path: path("usr/bin/ping6"), ..one.clone() };
        let mut usr = Entry::new(path("usr"), Kind::Directory { opaque: false }, 0o755);
        usr.implied = true;
        Index::new(vec![
            one,
            two,
            usr,
            Entry::new(path("usr/bin"), Kind::Directory { opaque: true }, 0o1777),
            Entry::new(path("usr/link"), Kind::Symlink { target: b"../x".to_vec() }, 0o777),
            Entry::new(path("dev/null"), Kind::CharDevice { major: 1, minor: 3 }, 0o666),
            Entry::new(path("dev/sda"), Kind::BlockDevice { major: 8, minor: 300 }, 0o660),
            Entry::new(path("pipe"), Kind::Fifo, 0o600),
            Entry::whiteout(path("gone")),
        ])
        .unwrap()
    }

    #[test]
    fn round_trip() {
        let index = sample();
        assert_eq!(Index::decode(&index.encode()).unwrap(), index);
        assert_eq!(Index::decode(&Index::default().encode()).unwrap(), Index::default());
    }

    #[test]
    fn damage_is_an_error_or_another_index_but_no_panic() {
        let good = sample().encode();
        for cut in 0..good.len() {
            assert!(Index::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                if let Ok(index) = Index::decode(&bad) {
                    assert_eq!(Index::decode(&index.encode()).unwrap(), index);
                }
            }
        }
    }
}
