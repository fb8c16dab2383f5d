use std::io::{self, BufRead, BufReader, Read};

use crate::error::{Error, Result};
use crate::options::Limits;

/// Memory that xz may ask for, in KiB: `xz -9` needs 65 MiB, and zstd's decoder stops at windows of 128 MiB. A file can
/// name dictionaries of 4 GiB.
const XZ_MEMORY: u32 = 256 << 10;

/// The compression of a blob, as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detected {
    /// Not compressed.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
    /// One or more bzip2 streams, as archives have them and layers must not.
    Bzip2,
    /// One or more xz streams, likewise.
    Xz,
}

impl Detected {
    /// Looks at the first bytes of a blob; six are enough.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, as zstd:chunked and pzstd put in front.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// Reads a blob of any compression as its uncompressed stream.
///
/// Input that ends early or is damaged is an error of the read that meets it; checksums are verified. So is a stream that
/// is far longer than its blob ([`Limits::ratio`]): an [`Error::Limit`] inside the [`io::Error`].
pub struct Decompressor<R: Read> {
    decoder: Decoder<Input<R>>,
    detected: Detected,
    size: u64,
    ratio: u64,
    ratio_from: u64,
}

/// The bytes looked at, then the rest.
type Input<R> = BufReader<Counted<io::Chain<io::Cursor<Vec<u8>>, R>>>;

/// Counts what is read.
struct Counted<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<R>>),
    Xz(Box<lzma_rust2::XzReader<R>>),
}

impl<R: Read> Decompressor<R> {
    /// Reads the start of a layer's blob to find out its compression.
    ///
    /// # Errors
    ///
    /// [`Error::Compression`] for one that no runtime reads in layers; [`Error::Read`].
    pub fn new(blob: R) -> Result<Self> {
        let found = Self::archive(blob)?;
        match found.detected {
            Detected::Bzip2 => Err(Error::Compression("bzip2")),
            Detected::Xz => Err(Error::Compression("xz")),
            _ => Ok(found),
        }
    }

    /// Reads the start of any archive to find out its compression, as `tar` does.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn archive(mut blob: R) -> Result<Self> {
        let mut start = Vec::with_capacity(6);
        blob.by_ref().take(6).read_to_end(&mut start).map_err(Error::Read)?;
        let detected = Detected::of(&start);
        let input = Counted { input: io::Cursor::new(start).chain(blob), count: 0 };
        let input = BufReader::with_capacity(128 << 10, input);
        let decoder = match detected {
            Detected::None => Decoder::Plain(input),
            Detected::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Detected::Zstd => Decoder::Zstd(zstd::Decoder::with_buffer(input).map_err(Error::Read)?),
            Detected::Bzip2 => Decoder::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
            Detected::Xz => {
                Decoder::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY)))
            }
        };
        let Limits { ratio, ratio_from, .. } = Limits::default();
        Ok(Self { decoder, detected, size: 0, ratio, ratio_from })
    }

    /// Takes other bounds than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: &Limits) -> Self {
        (self.ratio, self.ratio_from) = (limits.ratio, limits.ratio_from);
        self
    }

    /// Returns what the compression is.
    pub fn detected(&self) -> Detected {
        self.detected
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.decoder {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Bzip2(decoder) => decoder.read(buffer),
            Decoder::Xz(decoder) => decoder.read(buffer),
        }?;
        self.size += count as u64;
        if self.size > self.ratio_from && self.size / self.ratio.max(1) > self.decoder.input().count {
            let limit = Error::Limit { what: "size for each byte of the compressed blob", limit: self.ratio };
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, limit));
        }
        Ok(count)
    }
}

impl<R: Read> Decoder<Input<R>> {
    fn input(&self) -> &Counted<io::Chain<io::Cursor<Vec<u8>>, R>> {
        match self {
            Self::Plain(input) => input,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
            Self::Bzip2(decoder) => decoder.get_ref(),
            Self::Xz(decoder) => decoder.inner(),
        }
        .get_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(blob: &[u8]) -> Result<Vec<u8>, String> {
        /// Gives one byte a read, as a slow connection may.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(1);
                self.0.read(&mut buffer[..length])
            }
        }
        let mut out = Vec::new();
        Decompressor::archive(Slow(blob))
            .map_err(|error| error.to_string())?
            .read_to_end(&mut out)
            .map_err(|error| error.to_string())?;
        Ok(out)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn detection() {
        assert_eq!(all(b""), Ok(vec![]));
        assert_eq!(all(b"abc"), Ok(b"abc".to_vec()));
        assert_eq!(all(&gzip(b"abc")), Ok(b"abc".to_vec()));
        assert_eq!(all(&zstd::encode_all(&b"abc"[..], 1).unwrap()), Ok(b"abc".to_vec()));
        assert_eq!(all(&bzip2(b"abc")), Ok(b"abc".to_vec()));
        assert_eq!(all(&XZ), Ok(b"abc".to_vec()));
        for (blob, name) in [(bzip2(b"abc"), "bzip2"), (XZ.to_vec(), "xz")] {
            let refused = Decompressor::new(&*blob).err().unwrap().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }

    fn bzip2(data: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// What `xz` makes of `abc`.
    const XZ: [u8; 60] = *b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01\x16\0\0\0t/\xe5\xa3\x01\0\x02abc\0\0'v'\x1aJ\x09\xd8,\0\x01\x1b\x03\x0b/\xb9\x10\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ";

    #[test]
    fn several_members_and_frames_are_one_stream() {
        assert_eq!(all(&[gzip(b"ab"), gzip(b""), gzip(b"c")].concat()), Ok(b"abc".to_vec()));
        let frame = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0xyz".to_vec();
        assert_eq!(all(&[skippable, frame(b"ab"), frame(b"c")].concat()), Ok(b"abc".to_vec()));
        assert_eq!(all(&[bzip2(b"ab"), bzip2(b"c")].concat()), Ok(b"abc".to_vec()));
        assert_eq!(all(&[XZ, XZ].concat()), Ok(b"abcabc".to_vec()));
    }

    #[test]
    fn damage_and_truncation_are_errors() {
        let text = b"some text that is long enough to be compressed, some text that is long enough";
        for blob in [gzip(text), zstd::encode_all(&text[..], 1).unwrap(), bzip2(text), XZ.to_vec()] {
            for cut in 7..blob.len() {
                assert!(all(&blob[..cut]).is_err(), "cut at {cut} of {}", blob.len());
            }
        }
        let (gzip, bzip2) = (gzip(text), bzip2(text));
        let (gzip_crc, bzip2_crc, xz_check) = (gzip.len() - 6, 12, 34);
        for (mut bad, at) in [(gzip, gzip_crc), (bzip2, bzip2_crc), (XZ.to_vec(), xz_check)] {
            bad[at] ^= 1;
            assert!(all(&bad).is_err(), "{at}");
        }
    }
}
