//! As much of HTTP/1.1 as the stand-in needs.

use std::io::{self, BufRead, Write};

use super::line;

/// A request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` if the connection has ended.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(first) = line(reader)? else { return Ok(None) };
        let mut words = first.split(' ');
        let mut request = Self {
            method: words.next().unwrap_or_default().to_owned(),
            path: words.next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        while let Some(text) = line(reader)?.filter(|text| !text.is_empty()) {
            let Some((name, value)) = text.split_once(':') else { continue };
            request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0_usize);
        request.body.resize(length.min(1 << 20), 0);
        reader.read_exact(&mut request.body)?;
        Ok(Some(request))
    }

    /// Returns a header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &str, body: Vec<u8>) -> Self {
        Self { status, headers: vec![("Content-Type".to_owned(), kind.to_owned())], body }
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::new(status, "application/json", body.as_bytes().to_vec())
    }

    /// Makes an error in the form of the distribution specification.
    pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Self {
        Self::json(
            status,
            &format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":null}}]}}"#),
        )
    }

    pub(crate) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    /// Sends it; with `cut` only that many bytes of the body, although all are announced.
    pub(crate) fn write(&self, out: &mut impl Write, head_only: bool, cut: Option<usize>) -> io::Result<()> {
        let mut head =
            format!("HTTP/1.1 {} Stand-in\r\nContent-Length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        out.write_all(head.as_bytes())?;
        if !head_only {
            let length = cut.unwrap_or(self.body.len()).min(self.body.len());
            out.write_all(self.body.get(..length).unwrap_or_default())?;
        }
        out.flush()
    }
}

/// Reads the fields of a query or a form.
pub(crate) fn query(text: &str) -> Vec<(String, String)> {
    let fields = text.split('&').filter(|field| !field.is_empty());
    fields
        .map(|field| field.split_once('=').unwrap_or((field, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|c| char::from(c).to_digit(16)).unwrap_or(0);
        out.push(match byte {
            b'+' => b' ',
            b'%' => (digit() << 4 | digit()) as u8,
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the header of basic authentication (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{user}:{password}");
    let mut out = "Basic ".to_owned();
    for chunk in text.as_bytes().chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
