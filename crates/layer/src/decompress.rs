use std::io::{self, BufRead, BufReader, Read};

use crate::error::{Error, Result};

/// The compression of a blob, as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detected {
    /// Not compressed.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Detected {
    /// Looks at the first bytes of a blob; six are enough.
    ///
    /// Compressions that layers are known to be in but that are not supported are errors.
    pub fn of(start: &[u8]) -> Result<Self> {
        Ok(match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, as zstd:chunked and pzstd put in front.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(Error::Compression("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(Error::Compression("xz")),
            _ => Self::None,
        })
    }
}

/// Reads a blob of any compression as its uncompressed stream.
///
/// Input that ends early or is damaged is an error of the read that meets it; checksums are verified.
pub struct Decompressor<R: Read> {
    decoder: Decoder<Input<R>>,
    detected: Detected,
}

/// The bytes looked at, then the rest.
type Input<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: Read> Decompressor<R> {
    /// Reads the start of a blob to find out its compression.
    pub fn new(mut blob: R) -> Result<Self> {
        let mut start = Vec::with_capacity(6);
        blob.by_ref().take(6).read_to_end(&mut start).map_err(Error::Read)?;
        let detected = Detected::of(&start)?;
        let input = BufReader::with_capacity(128 << 10, io::Cursor::new(start).chain(blob));
        let decoder = match detected {
            Detected::None => Decoder::Plain(input),
            Detected::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Detected::Zstd => Decoder::Zstd(zstd::Decoder::with_buffer(input).map_err(Error::Read)?),
        };
        Ok(Self { decoder, detected })
    }

    /// Returns what the compression is.
    pub fn detected(&self) -> Detected {
        self.detected
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }
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
        Decompressor::new(Slow(blob))
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
        assert!(all(b"BZh91AY").unwrap_err().contains("bzip2"));
        assert!(all(b"\xfd7zXZ\0").unwrap_err().contains("xz"));
    }

    #[test]
    fn several_members_and_frames_are_one_stream() {
        assert_eq!(all(&[gzip(b"ab"), gzip(b""), gzip(b"c")].concat()), Ok(b"abc".to_vec()));
        let frame = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0xyz".to_vec();
        assert_eq!(all(&[skippable, frame(b"ab"), frame(b"c")].concat()), Ok(b"abc".to_vec()));
    }

    #[test]
    fn damage_and_truncation_are_errors() {
        let text = b"some text that is long enough to be compressed, some text that is long enough";
        for blob in [gzip(text), zstd::encode_all(&text[..], 1).unwrap()] {
            for cut in 7..blob.len() {
                assert!(all(&blob[..cut]).is_err(), "cut at {cut} of {}", blob.len());
            }
        }
        let mut bad = gzip(text);
        let crc = bad.len() - 6;
        bad[crc] ^= 1;
        assert!(all(&bad).is_err());
    }
}
