//! Passes on what a step writes, until it ends or is cancelled.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::launch::Launched;
use crate::cancel::Cancel;
use crate::execute::{Io, Stream};

/// Pieces are at most so long: what a pipe holds.
const PIECE: usize = 64 << 10;

/// Returns when the step has ended and everything that it wrote was passed on. A cancellation kills it first.
pub(super) fn stream(launched: &mut Launched, io: &mut Io, cancel: &Cancel) -> io::Result<()> {
    let ended = launched.pidfd()?;
    let (stdout, stderr) = launched.outputs();
    let mut outputs = [(stdout, Stream::Stdout), (stderr, Stream::Stderr)];
    let (wake_reader, wake_writer) = io::pipe()?;
    // Closing the writing end wakes the poll below.
    let _registration = cancel.on_cancel(move || drop(wake_writer));
    let mut wake = Some(OwnedFd::from(wake_reader));
    let mut running = true;
    let mut buffer = vec![0; PIECE];
    while running || outputs.iter().any(|(file, _)| file.is_some()) {
        let (mut readable, mut woken) = ([false; 2], false);
        {
            // What is closed already is not asked about again.
            let mut fds: Vec<(usize, BorrowedFd<'_>)> = Vec::with_capacity(4);
            for (index, (file, _)) in outputs.iter().enumerate() {
                fds.extend(file.as_ref().map(|file| (index, file.as_fd())));
            }
            fds.extend(wake.as_ref().map(|fd| (2, fd.as_fd())));
            if running {
                fds.push((3, ended.as_fd()));
            }
            let mut polls: Vec<PollFd<'_>> =
                fds.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            match poll(&mut polls, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for ((index, _), poll) in fds.iter().zip(&polls) {
                if poll.revents().is_empty() {
                    continue;
                }
                match *index {
                    2 => woken = true,
                    3 => running = false,
                    index => {
                        if let Some(flag) = readable.get_mut(index) {
                            *flag = true;
                        }
                    }
                }
            }
        }
        if woken {
            wake = None;
            launched.kill();
        }
        for ((file, stream), readable) in outputs.iter_mut().zip(readable) {
            if readable && !pass_on(file, *stream, io, &mut buffer)? {
                *file = None;
            }
        }
    }
    Ok(())
}

/// Passes one piece on; false at the end.
fn pass_on(file: &mut Option<File>, stream: Stream, io: &mut Io, buffer: &mut [u8]) -> io::Result<bool> {
    let Some(file) = file else { return Ok(false) };
    match file.read(buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            (io.output)(stream, buffer.get(..length).unwrap_or_default());
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}
