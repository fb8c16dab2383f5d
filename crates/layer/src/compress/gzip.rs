//! gzip in blocks of fixed size, compressed by several threads into one member.
//!
//! Each block is a raw deflate stream of its own that ends at a byte boundary (a sync flush), primed with the 32 KiB
//! before it as a dictionary: matches reach over block borders, yet no block needs another one's output. The
//! concatenation, closed by an empty last block, is one deflate stream that every reader takes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of input in a block. Changing it changes the bytes of every blob.
const BLOCK: usize = 256 << 10;
/// The farthest that deflate looks back.
const WINDOW: usize = 32 << 10;

/// A header without name and time; no extra flags, system "unknown", as Go's `compress/gzip` writes it.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block without content, in fixed codes.
const LAST: [u8; 2] = [3, 0];

struct Job {
    /// Up to a window of earlier input, then the block.
    data: Vec<u8>,
    dictionary: usize,
    reply: SyncSender<io::Result<Vec<u8>>>,
}

pub(super) struct Gzip<W: Write> {
    out: W,
    /// Dictionary and the block that is being filled.
    data: Vec<u8>,
    dictionary: usize,
    crc: Crc,
    level: u32,
    /// `None` when one thread is asked for: blocks are then compressed by the caller.
    workers: Option<Workers>,
}

struct Workers {
    jobs: Sender<Job>,
    /// Results in the order of their blocks.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Write> Gzip<W> {
    pub(super) fn new(mut out: W, level: u32, threads: usize) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let workers = if threads > 1 { Some(Workers::start(level, threads.min(64))?) } else { None };
        Ok(Self {
            out,
            data: Vec::with_capacity(WINDOW + BLOCK),
            dictionary: 0,
            crc: Crc::new(),
            level,
            workers,
        })
    }

    fn block(&mut self) -> io::Result<()> {
        let end = self.data.len();
        let keep = end.saturating_sub(WINDOW);
        let mut next = Vec::with_capacity(WINDOW + BLOCK);
        next.extend_from_slice(self.data.get(keep..).unwrap_or_default());
        let dictionary = std::mem::replace(&mut self.dictionary, next.len());
        let data = std::mem::replace(&mut self.data, next);
        self.crc.update(data.get(dictionary..).unwrap_or_default());
        match &mut self.workers {
            None => self.out.write_all(&deflate(&data, dictionary, self.level)?),
            Some(workers) => {
                // Two blocks a thread are under way at most: that bounds memory and keeps threads busy.
                if workers.pending.len() >= 2 * workers.threads.len() {
                    self.out.write_all(&workers.next()?)?;
                }
                workers.send(data, dictionary)
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK - (self.data.len() - self.dictionary);
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.data.extend_from_slice(taken);
        if taken.len() == room {
            self.block()?;
        }
        Ok(taken.len())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.data.len() > self.dictionary {
            self.block()?;
        }
        if let Some(workers) = &mut self.workers {
            while !workers.pending.is_empty() {
                self.out.write_all(&workers.next()?)?;
            }
        }
        self.out.write_all(&LAST)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        // Modulo 2^32, as the format asks.
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

impl Workers {
    fn start(level: u32, threads: usize) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut workers = Self { jobs, pending: VecDeque::new(), threads: Vec::new() };
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let work = move || {
                loop {
                    // The lock is held while waiting: one thread waits for a job, the others for the lock.
                    let job = queue.lock().map(|queue| queue.recv());
                    let Ok(Ok(job)) = job else { return };
                    // A caller that is gone no longer cares.
                    drop(job.reply.send(deflate(&job.data, job.dictionary, level)));
                }
            };
            match std::thread::Builder::new().name("gzip".to_owned()).spawn(work) {
                Ok(thread) => workers.threads.push(thread),
                // Fewer threads give the same bytes.
                Err(_) if !workers.threads.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(workers)
    }

    fn send(&mut self, data: Vec<u8>, dictionary: usize) -> io::Result<()> {
        let (reply, result) = sync_channel(1);
        self.pending.push_back(result);
        self.jobs.send(Job { data, dictionary, reply }).map_err(|_| lost())
    }

    fn next(&mut self) -> io::Result<Vec<u8>> {
        let first = self.pending.pop_front().ok_or_else(lost)?;
        first.recv().map_err(|_| lost())?
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Closing the queue ends the threads.
        self.jobs = channel().0;
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn lost() -> io::Error {
    io::Error::other("a compressing thread is gone")
}

/// Compresses one block to a byte boundary.
fn deflate(data: &[u8], dictionary: usize, level: u32) -> io::Result<Vec<u8>> {
    let (before, mut block) = data.split_at_checked(dictionary).ok_or_else(lost)?;
    let mut deflate = Compress::new(Compression::new(level), false);
    if !before.is_empty() {
        deflate.set_dictionary(before)?;
    }
    let mut out = Vec::with_capacity(block.len() / 2 + 64);
    loop {
        if out.capacity() - out.len() < 64 {
            out.reserve(block.len() / 2 + 4096);
        }
        let start = deflate.total_in();
        let status = deflate.compress_vec(block, &mut out, FlushCompress::Sync)?;
        let taken = usize::try_from(deflate.total_in() - start).unwrap_or(usize::MAX);
        block = block.get(taken..).unwrap_or_default();
        // The flush is complete once all input is in and the output was not cut short by lack of room.
        if matches!(status, Status::BufError) || (block.is_empty() && out.len() < out.capacity()) {
            break;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::tests::sample;
    use super::*;

    /// A reader of single members takes the whole: blocks are no members of their own.
    #[test]
    fn one_member() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17] {
            let data = sample(length, 3);
            let mut gzip = Gzip::new(Vec::new(), 6, 3).unwrap();
            let mut rest = &data[..];
            while !rest.is_empty() {
                let taken = gzip.write(rest).unwrap();
                rest = &rest[taken..];
            }
            let blob = gzip.finish().unwrap();
            let mut decoder = flate2::bufread::GzDecoder::new(&blob[..]);
            let mut back = Vec::new();
            decoder.read_to_end(&mut back).unwrap();
            assert!(back == data, "length {length}");
            assert!(decoder.into_inner().is_empty(), "bytes after the member at length {length}");
        }
    }

    #[test]
    fn incompressible_blocks_fit() {
        let mut state = 1_u64;
        let data: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(3 * BLOCK)
        .collect();
        let mut gzip = Gzip::new(Vec::new(), 9, 1).unwrap();
        for piece in data.chunks(BLOCK) {
            assert_eq!(gzip.write(piece).unwrap(), piece.len());
        }
        let blob = gzip.finish().unwrap();
        assert!(blob.len() < data.len() + data.len() / 1000 + 1000, "{} bytes", blob.len());
        let mut back = Vec::new();
        flate2::bufread::GzDecoder::new(&blob[..]).read_to_end(&mut back).unwrap();
        assert!(back == data);
    }
}
