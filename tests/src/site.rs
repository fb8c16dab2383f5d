//! Pages on 127.0.0.1 for those who load from the web.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::hub::http::{Answer, Request};

/// A page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What it holds.
    pub body: Vec<u8>,
    /// Headers that go with it. With an `ETag` that the request names, the answer is 304.
    pub headers: Vec<(&'static str, String)>,
    /// Status of the answer; 0 for 200.
    pub status: u16,
    /// How often the connection is cut in the middle of the body before all of it is sent.
    pub cuts: u32,
    /// Answers HEAD with 405.
    pub no_head: bool,
}

/// The server; it ends with it.
#[derive(Debug)]
pub struct Site {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<String, Page>,
    seen: Vec<String>,
}

impl Site {
    /// Starts the server on a free port.
    ///
    /// # Errors
    ///
    /// If 127.0.0.1 cannot be listened on.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let site = Self { state: Arc::default(), address: listener.local_addr()?, stop: Arc::default() };
        let (state, stop) = (site.state.clone(), site.stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(stream), state) = (stream, state.clone()) else { continue };
                thread::spawn(move || drop(connection(&stream, &state)));
            }
        });
        Ok(site)
    }

    /// Puts a page at a path with its leading slash.
    pub fn put(&self, path: &str, page: Page) {
        lock(&self.state).pages.insert(path.to_owned(), page);
    }

    /// Returns the address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns what was asked since the last call, as `GET /path 200`.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).seen)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connection(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let head = request.method == "HEAD";
        let (answer, cut) = {
            let mut state = lock(state);
            let page = state.pages.get_mut(request.path.split('?').next().unwrap_or_default());
            let (answer, cut) = page.map_or_else(
                || (Answer::new(404, "text/plain", b"nothing here".to_vec()), None),
                |page| {
                    let mut cut = None;
                    if page.cuts > 0 && !head {
                        page.cuts -= 1;
                        cut = Some(page.body.len() / 2);
                    }
                    (answer(page, &request), cut)
                },
            );
            state.seen.push(format!("{} {} {}", request.method, request.path, answer.status));
            (answer, cut)
        };
        answer.write(&mut &*stream, head, cut)?;
        if cut.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(page: &Page, request: &Request) -> Answer {
    let tag = page.headers.iter().find(|(name, _)| *name == "ETag").map(|(_, tag)| tag.as_str());
    let known = request.header("if-none-match");
    let (status, body) = if page.no_head && request.method == "HEAD" {
        (405, Vec::new())
    } else if tag.is_some() && known == tag {
        (304, Vec::new())
    } else {
        (if page.status == 0 { 200 } else { page.status }, page.body.clone())
    };
    let mut answer = Answer::new(status, "application/octet-stream", body);
    for (name, value) in &page.headers {
        answer = answer.with(name, Some(value));
    }
    answer
}
