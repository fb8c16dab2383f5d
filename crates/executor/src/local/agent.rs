//! A socket at which a step finds an SSH agent.
//!
//! Messages are passed on one by one, and only those that list identities and sign: a step uses keys, and can neither add,
//! take away nor lock any, nor reach extensions of the agent (BuildKit draws the same line). The protocol is that of
//! draft-ietf-sshm-ssh-agent: a length of four bytes, a type of one byte, contents.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

use crate::provide::Agent;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// Longer messages end the connection; OpenSSH's agent has the same bound.
const MAX_MESSAGE: usize = 256 << 10;
/// More connections at a time wait.
const MAX_CONNECTIONS: usize = 64;

/// A listening socket. Dropping it ends all sessions and waits for them.
#[derive(Debug)]
pub(super) struct Proxy {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens at `path`, for which the caller sees to the owner and the mode.
    pub(super) fn listen(path: &Path, agent: Arc<dyn Agent>) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let thread = std::thread::Builder::new().name("ssh agent".to_owned());
        let thread = thread.spawn(move || serve(&listener, &stopped, &agent))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for one of two descriptors; tells whether the first is ready and the second is silent.
fn ready(socket: impl std::os::fd::AsFd, stopped: &OwnedFd) -> bool {
    loop {
        let mut files = [
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        match poll(&mut files, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => return files[1].revents().is_empty() && !files[0].revents().is_empty(),
        }
    }
}

fn serve(listener: &UnixListener, stopped: &OwnedFd, agent: &Arc<dyn Agent>) {
    std::thread::scope(|scope| {
        let mut sessions = Vec::new();
        while ready(listener, stopped) {
            sessions.retain(|session: &std::thread::ScopedJoinHandle<'_, ()>| !session.is_finished());
            if sessions.len() >= MAX_CONNECTIONS {
                std::thread::sleep(std::time::Duration::from_millis(10));
                continue;
            }
            let Ok((stream, _)) = listener.accept() else { continue };
            let session = move || {
                // What goes wrong is between the client and its agent: the client sees an end of its connection.
                let _ = session(stream, stopped, &**agent);
            };
            match std::thread::Builder::new().spawn_scoped(scope, session) {
                Ok(session) => sessions.push(session),
                Err(_) => continue,
            }
        }
    });
}

fn session(mut stream: UnixStream, stopped: &OwnedFd, agent: &dyn Agent) -> io::Result<()> {
    let mut agent = agent.open()?;
    stream.set_nonblocking(true)?;
    while let Some(request) = receive(&mut Waiting(&mut stream, stopped))? {
        let answer = match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => agent.ask(&request)?,
            _ => vec![FAILURE],
        };
        send(&mut Waiting(&mut stream, stopped), &answer)?;
    }
    Ok(())
}

/// A stream whose waiting ends when the step does.
struct Waiting<'a>(&'a mut UnixStream, &'a OwnedFd);

impl Read for Waiting<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !ready(&*self.0, self.1) {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
                answer => return answer,
            }
        }
    }
}

impl Write for Waiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut files = [
                        PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::OUT),
                        PollFd::from_borrowed_fd(self.1.as_fd(), PollFlags::IN),
                    ];
                    poll(&mut files, None)?;
                    if !files[1].revents().is_empty() {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
                answer => return answer,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a message; `None` at the end of the stream between two.
fn receive(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        answer => answer?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

fn send(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provide::AgentSession;

    /// Answers with what it was asked.
    struct Echo;

    impl Agent for Echo {
        fn open(&self) -> io::Result<Box<dyn AgentSession>> {
            Ok(Box::new(Echo))
        }
    }

    impl AgentSession for Echo {
        fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
            Ok(request.to_vec())
        }
    }

    fn ask(stream: &mut UnixStream, message: &[u8]) -> Option<Vec<u8>> {
        send(stream, message).unwrap();
        receive(stream).unwrap_or(None)
    }

    #[test]
    fn lists_and_signs_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let proxy = Proxy::listen(&path, Arc::new(Echo)).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();
        let mut other = UnixStream::connect(&path).unwrap();
        for kind in 0..=255 {
            let passed = matches!(kind, REQUEST_IDENTITIES | SIGN_REQUEST);
            let want = if passed { vec![kind, 1, 2] } else { vec![FAILURE] };
            assert_eq!(ask(&mut stream, &[kind, 1, 2]), Some(want), "message {kind}");
        }
        let long = vec![SIGN_REQUEST; MAX_MESSAGE];
        assert_eq!(ask(&mut other, &long), Some(long), "longer than a socket holds");
        let mut longer = UnixStream::connect(&path).unwrap();
        longer.write_all(&(MAX_MESSAGE as u32 + 1).to_be_bytes()).unwrap();
        assert_eq!(receive(&mut longer).unwrap_or(None), None, "a message without end");
        // With clients that wait for something.
        drop(proxy);
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}
