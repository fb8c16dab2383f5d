mod gzip;

use std::io::{self, Write};
use std::num::NonZeroUsize;

use cooper_oci::{Digest, Hasher};

use crate::id::DiffId;

/// How a layer's tar stream is stored as a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The tar stream as it is.
    None,
    /// One gzip member, compressed in blocks of fixed size.
    Gzip {
        /// 1 (fast) to 9 (small); other numbers are taken as the nearest of them.
        level: u32,
    },
    /// One zstd frame.
    Zstd {
        /// 1 (fast) to 22 (small); other numbers are taken as the nearest of them.
        level: i32,
    },
}

impl Default for Compression {
    /// What builders use unless told.
    fn default() -> Self {
        Self::Gzip { level: 6 }
    }
}

impl Compression {
    /// Returns what a layer's media type ends in: `tar`, `tar+gzip` or `tar+zstd`.
    pub const fn media_suffix(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip { .. } => "tar+gzip",
            Self::Zstd { .. } => "tar+zstd",
        }
    }
}

/// What is known of a blob once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Digest of the uncompressed stream.
    pub diff_id: DiffId,
    /// Length of the uncompressed stream in bytes.
    pub tar_size: u64,
    /// Digest of the blob.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
}

/// Compresses what is written to it and hashes both sides.
///
/// The blob's bytes depend on the input, the [`Compression`] and the version of the compressor only: neither on how the
/// input is cut into writes nor on the number of threads. Nothing is complete before [`finish`](Self::finish).
pub struct Compressor<W: Write> {
    encoder: Encoder<W>,
    hasher: Hasher,
    tar_size: u64,
}

enum Encoder<W: Write> {
    Plain(Hashing<W>),
    Gzip(gzip::Gzip<Hashing<W>>),
    Zstd(zstd::Encoder<'static, Hashing<W>>),
}

impl<W: Write> Compressor<W> {
    /// Starts a blob. Up to `threads` threads compress; `None` asks the system how many there are.
    pub fn new(out: W, compression: Compression, threads: Option<NonZeroUsize>) -> io::Result<Self> {
        let threads =
            threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let out = Hashing::new(out);
        let encoder = match compression {
            Compression::None => Encoder::Plain(out),
            Compression::Gzip { level } => Encoder::Gzip(gzip::Gzip::new(out, level.clamp(1, 9), threads)?),
            Compression::Zstd { level } => {
                let mut encoder = zstd::Encoder::new(out, level.clamp(1, 22))?;
                // Zero workers would give other bytes than one or more do, and so would a pledged size.
                encoder.multithread(u32::try_from(threads).unwrap_or(1).clamp(1, 64))?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(encoder)
            }
        };
        Ok(Self { encoder, hasher: Hasher::new(), tar_size: 0 })
    }

    /// Ends the blob and returns the writer below, flushed, with what is known of the blob.
    pub fn finish(self) -> io::Result<(W, BlobInfo)> {
        let mut out = match self.encoder {
            Encoder::Plain(out) => out,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        out.flush()?;
        let info = BlobInfo {
            diff_id: DiffId::new(self.hasher.finish()),
            tar_size: self.tar_size,
            digest: out.hasher.finish(),
            size: out.size,
        };
        Ok((out.inner, info))
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match &mut self.encoder {
            Encoder::Plain(out) => out.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }?;
        self.hasher.update(bytes.get(..taken).unwrap_or_default());
        self.tar_size += taken as u64;
        Ok(taken)
    }

    /// Does nothing: a flush in the middle of a blob would change its bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts and hashes what passes through to the writer below.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(), size: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..taken).unwrap_or_default());
        self.size += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;
    use crate::decompress::Decompressor;

    /// Bytes that compress to about a third, longer than several blocks.
    pub(super) fn sample(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut out = Vec::with_capacity(length + 64);
        while out.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.extend_from_slice(&state.to_be_bytes()[..4]);
            out.extend_from_slice(&b"the same words again and again"[..(state >> 60) as usize + 8]);
        }
        out.truncate(length);
        out
    }

    fn compress(
        data: &[u8],
        cuts: &[usize],
        compression: Compression,
        threads: usize,
    ) -> (Vec<u8>, BlobInfo) {
        let mut compressor = Compressor::new(Vec::new(), compression, NonZeroUsize::new(threads)).unwrap();
        let mut rest = data;
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*cut).clamp(1, rest.len()));
            compressor.write_all(piece).unwrap();
            compressor.flush().unwrap();
            rest = tail;
        }
        compressor.finish().unwrap()
    }

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip { level: 1 },
        Compression::Gzip { level: 6 },
        Compression::Zstd { level: 3 },
        Compression::Zstd { level: 9 },
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn bytes_depend_on_the_input_only(
            length in 0_usize..2_500_000,
            seed: u64,
            cuts in prop::collection::vec(1_usize..700_000, 1..6),
            threads in 1_usize..5,
            which in 0_usize..5,
        ) {
            let data = sample(length, seed);
            let compression = ALL[which];
            let (one, info) = compress(&data, &[usize::MAX], compression, 1);
            let (other, other_info) = compress(&data, &cuts, compression, threads);
            prop_assert!(one == other, "{compression:?} differs");
            prop_assert_eq!(info, other_info);
            prop_assert_eq!(info.diff_id.digest(), &Digest::of(&data));
            prop_assert_eq!(info.digest, Digest::of(&one));
            prop_assert_eq!((info.tar_size, info.size), (data.len() as u64, one.len() as u64));
            let mut back = Vec::new();
            Decompressor::new(&one[..]).unwrap().read_to_end(&mut back).unwrap();
            prop_assert!(back == data);
        }
    }

    #[test]
    fn a_failing_writer_is_an_error() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::from(io::ErrorKind::StorageFull));
                }
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                Ok(taken)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let data = sample(3_000_000, 1);
        for compression in ALL {
            let run = |room| {
                let mut compressor = Compressor::new(Full(room), compression, NonZeroUsize::new(2))?;
                compressor.write_all(&data)?;
                compressor.finish()
            };
            assert!(run(10).is_err() && run(500_000).is_err(), "{compression:?}");
            assert!(run(usize::MAX).is_ok());
        }
    }
}
