//! From a download, which comes in pieces, to a thread that reads.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Pieces between download and reader: enough to keep both busy, some MiB at most.
const QUEUE: usize = 32;

/// Where the pieces are handed in; `None` is their end, and an end without it a failure.
pub(crate) type Sender = mpsc::Sender<Option<Bytes>>;

/// The pieces as one stream, for a thread that may block.
#[derive(Debug)]
pub(crate) struct Piped {
    receiver: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    ended: bool,
}

pub(crate) fn pipe() -> (Sender, Piped) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, Piped { receiver, piece: Bytes::new(), ended: false })
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                None => {
                    let kind = io::ErrorKind::ConnectionAborted;
                    return Err(io::Error::new(kind, "the download ended early"));
                }
            }
        }
        let piece = self.piece.split_to(buffer.len().min(self.piece.len()));
        if let Some(room) = buffer.get_mut(..piece.len()) {
            room.copy_from_slice(&piece);
        }
        Ok(piece.len())
    }
}
