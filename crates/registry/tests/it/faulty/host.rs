//! The server: says to each request what its case wants, and keeps what came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::layer;

/// What one request is answered.
pub(super) enum Reply {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then nothing for a long time.
    Stall(Vec<u8>),
    /// These bytes, then these ones until nobody reads any more.
    Endless(Vec<u8>, &'static [u8]),
}

/// A request, as far as an answer may depend on it.
pub(super) struct Ask<'a> {
    /// Earlier requests of the same kind (manifest, blob, token); for blobs only those with a login.
    pub(super) nth: usize,
    pub(super) range: Option<usize>,
    pub(super) authorized: bool,
    /// The host that is asked, and the other one.
    pub(super) here: &'a str,
    pub(super) there: &'a str,
    /// The blob.
    pub(super) data: &'a [u8],
}

pub(super) type Answers = fn(&Ask<'_>) -> Reply;

pub(super) fn head(status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    out.into_bytes()
}

pub(super) fn with_body(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let length = body.len().to_string();
    let all = [headers, &[("Content-Length", &length)]].concat();
    Reply::Bytes([&head(status, &all), body].concat())
}

pub(super) fn status(status: &str) -> Reply {
    with_body(status, &[], br#"{"errors":[{"code":"FAULT","message":"ordered"}]}"#)
}

pub(super) fn unauthorized(challenge: &str) -> Reply {
    with_body("401 Who", &[("WWW-Authenticate", challenge)], b"")
}

/// A server on a free port.
pub(super) struct Host {
    pub(super) address: String,
    stop: Arc<AtomicBool>,
    /// The header `Authorization` of every request.
    pub(super) seen: Arc<Mutex<Vec<Option<String>>>>,
}

impl Host {
    pub(super) fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    /// Answers by the first of the paths' parts that is in the request's path. A `login` is asked for where there is
    /// one.
    pub(super) fn start(
        listener: TcpListener,
        there: String,
        login: bool,
        answers: Vec<(&'static str, Answers)>,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let host = Self { address: address.clone(), stop: Arc::default(), seen: Arc::default() };
        let (stop, seen) = (host.stop.clone(), host.seen.clone());
        let answers: Arc<Vec<_>> =
            Arc::new(answers.into_iter().map(|(part, answer)| (part, answer, AtomicUsize::new(0))).collect());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (answers, stop, seen) = (answers.clone(), stop.clone(), seen.clone());
                let (here, there) = (address.clone(), there.clone());
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    let Some((path, authorization, range)) = request(&stream) else { return };
                    let authorized = authorization.is_some();
                    seen.lock().unwrap().push(authorization);
                    let Some((_, answer, count)) = answers.iter().find(|(part, ..)| path.contains(part))
                    else {
                        return send(&stream, status("404 Not here"), &stop);
                    };
                    // Who has not logged in is told to, whatever the fault; bearer questions are the case's own.
                    let basic = login && !authorized && path.contains("/blobs/");
                    if basic {
                        return send(&stream, unauthorized("Basic realm=x"), &stop);
                    }
                    let nth = count.fetch_add(1, Ordering::SeqCst);
                    let data = layer();
                    let ask = Ask { nth, range, authorized, here: &here, there: &there, data: &data };
                    send(&stream, answer(&ask), &stop);
                });
            }
        });
        host
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.address));
    }
}

/// Reads a request: its path, its `Authorization`, the start of its `Range`.
fn request(stream: &TcpStream) -> Option<(String, Option<String>, Option<usize>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut authorization, mut range) = (None, None);
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "range" => range = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            _ => {}
        }
    }
    Some((path, authorization, range))
}

fn send(mut stream: &TcpStream, reply: Reply, stop: &AtomicBool) {
    let (first, endless, stall) = match reply {
        Reply::Bytes(bytes) => (bytes, None, false),
        Reply::Stall(bytes) => (bytes, None, true),
        Reply::Endless(bytes, more) => (bytes, Some(more), false),
    };
    drop(stream.write_all(&first));
    if let Some(more) = endless {
        while !stop.load(Ordering::SeqCst) && stream.write_all(more).is_ok() {}
    }
    if stall {
        // Until the client hangs up.
        drop(stream.set_read_timeout(Some(Duration::from_secs(20))));
        drop(stream.read(&mut [0]));
    }
}
