use cooper_oci::Timestamp;

/// A line that is longer is cut, so that a program which never ends its line cannot hold memory without bound.
const LONGEST: usize = 64 << 10;

/// Returns `text` as one line without control sequences: what is safe to show of a name from outside.
///
/// Line ends become blanks; tabs stay.
pub fn clean(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut escape = Escape::default();
    for byte in text.bytes() {
        match byte {
            b'\n' | b'\r' => {
                escape = Escape::None;
                out.push(b' ');
            }
            _ => out.extend(escape.pass(byte)),
        }
    }
    printable(&out)
}

/// Cuts one output of one step into lines and cleans them, however the pieces come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    /// What stands on the line since the last carriage return.
    text: Vec<u8>,
    /// When that began.
    since: Option<Timestamp>,
    /// What stood there before it, if something did: what is shown if nothing follows.
    before: Option<(Timestamp, Vec<u8>)>,
    escape: Escape,
}

/// A line without its end, and when it began (the last time, if it was overwritten).
pub(crate) type Line = (Timestamp, String);

impl Lines {
    /// Takes a piece of output, and returns the lines that it ends.
    pub(crate) fn feed(&mut self, time: Timestamp, data: &[u8]) -> Vec<Line> {
        let mut ended = Vec::new();
        for &byte in data {
            match byte {
                b'\n' => {
                    ended.push(self.end().unwrap_or_else(|| (time, String::new())));
                }
                b'\r' => {
                    if !self.text.is_empty() {
                        let since = self.since.unwrap_or(time);
                        self.before = Some((since, std::mem::take(&mut self.text)));
                    }
                    self.since = None;
                }
                _ => {
                    let Some(byte) = self.escape.pass(byte) else { continue };
                    // Not within a character.
                    if self.text.len() >= LONGEST && (byte & 0xc0) != 0x80 {
                        ended.extend(self.end());
                    }
                    self.since.get_or_insert(time);
                    self.text.push(byte);
                }
            }
        }
        ended
    }

    /// Ends the line; `None` if nothing stands on it.
    pub(crate) fn end(&mut self) -> Option<Line> {
        // A sequence that is not ended must not swallow the lines after it.
        self.escape = Escape::None;
        let before = self.before.take();
        let since = self.since.take();
        let text = std::mem::take(&mut self.text);
        let (since, text) = if text.is_empty() { before? } else { (since?, text) };
        Some((since, printable(&text)))
    }
}

/// Reads bytes as text, without the control characters that are no single bytes (C1).
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|char| *char == '\t' || !char.is_control()).collect()
}

/// Where in a control sequence (ECMA-48) the output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    /// In none.
    #[default]
    None,
    /// After ESC, or after ESC and intermediate bytes.
    Begun { intermediate: bool },
    /// In a control sequence: parameters and a final byte.
    Csi,
    /// In a string (titles, links, images) up to BEL or ESC `\`.
    Text,
    /// After an ESC in a string.
    TextEnding,
}

impl Escape {
    /// Takes a byte; returns it if it is to be seen.
    fn pass(&mut self, byte: u8) -> Option<u8> {
        const ESC: u8 = 0x1b;
        let (next, seen) = match (*self, byte) {
            // CAN and SUB break off what was begun.
            (_, 0x18 | 0x1a) => (Self::None, None),
            (Self::Text, ESC) => (Self::TextEnding, None),
            (Self::Text, 0x07) => (Self::None, None),
            (Self::Text, _) => (Self::Text, None),
            (Self::TextEnding, b'\\') => (Self::None, None),
            (_, ESC) => (Self::Begun { intermediate: false }, None),
            // Any other sequence ends the string too, and is one itself.
            (Self::TextEnding, _) => {
                *self = Self::Begun { intermediate: false };
                return self.pass(byte);
            }
            (Self::None, b'\t' | 0x20..=0x7e | 0x80..) => (Self::None, Some(byte)),
            (state, 0x00..=0x1f | 0x7f) => (state, None),
            (Self::Begun { intermediate: false }, b'[') => (Self::Csi, None),
            // OSC, DCS, SOS, PM, APC.
            (Self::Begun { intermediate: false }, b']' | b'P' | b'X' | b'^' | b'_') => (Self::Text, None),
            (Self::Begun { .. }, 0x20..=0x2f) => (Self::Begun { intermediate: true }, None),
            (Self::Csi, 0x20..=0x3f) => (Self::Csi, None),
            (Self::Begun { .. } | Self::Csi, 0x30..=0x7e) => (Self::None, None),
            // No sequence has such a byte: it is text.
            (Self::Begun { .. } | Self::Csi, 0x80..) => (Self::None, Some(byte)),
        };
        *self = next;
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut out: Vec<Line> =
            pieces.iter().flat_map(|piece| lines.feed(Timestamp::EPOCH, piece)).collect();
        out.extend(lines.end());
        assert!(lines.end().is_none());
        out.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn lines_come_out_clean() {
        let table: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"\n\n", &["", ""]),
            (b"a\nb", &["a", "b"]),
            (b"a\r\nb\r\n", &["a", "b"]),
            (b"10%\r50%\r100%\n", &["100%"]),
            (b"longer\rnew\n", &["new"]),
            (b"100%\r\r\n", &["100%"]),
            (b"10%\r\x1b[K\n", &["10%"]),
            (b"10%\r", &["10%"]),
            (b"\r\n", &[""]),
            (b"\x1b[1;31mred\x1b[0m\tx\n", &["red\tx"]),
            (b"\x1b[?25l\x1b[2Jx\x1b[38:2::1:2:3m\n", &["x"]),
            (b"\x1b]0;title\x07x\n", &["x"]),
            (b"\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\\n", &["link"]),
            (b"\x1b]0;title\x1b[31mx\n", &["x"]),
            (b"\x1bPq#0\x1b\\x\x1b(By\x1b7z\x1b=\n", &["xyz"]),
            (b"\x1b[31\nnot lost\x1b]0;\nnor this\n", &["", "not lost", "nor this"]),
            (b"\x1b[3\x18x\x1b[\xc3\xa4\n", &["x\u{e4}"]),
            (b"bell\x07 back\x08space nul\0 del\x7f\n", &["bell backspace nul del"]),
            ("c1 \u{9b}31m \u{e4}\n".as_bytes(), &["c1 31m \u{e4}"]),
            (b"bad \xff\n", &["bad \u{fffd}"]),
            (b"\x1b", &[]),
        ];
        for (input, wanted) in table {
            assert_eq!(texts(&[input]), *wanted, "{:?}", input.escape_ascii().to_string());
            // And wherever it is cut.
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(texts(&bytes), *wanted, "{:?}", input.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_line_has_the_time_of_its_last_state() {
        let at = |seconds| Timestamp::from_unix_seconds(seconds).unwrap();
        let mut lines = Lines::default();
        assert_eq!(lines.feed(at(1), b"old\r"), []);
        assert_eq!(lines.feed(at(2), b"ne"), []);
        assert_eq!(lines.feed(at(3), b"w\n\nx\r"), [(at(2), "new".to_owned()), (at(3), String::new())]);
        assert_eq!(lines.feed(at(4), b"\n"), [(at(3), "x".to_owned())]);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let long = "\u{e4}".repeat(LONGEST);
        let out = texts(&[b"x", long.as_bytes()]);
        assert!(out.len() > 1 && out.iter().all(|line| line.len() <= LONGEST + 1));
        assert_eq!(out.concat(), format!("x{long}"));
    }

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(clean("RUN a\n\x1b[31mb\r\tc\x1b]0;x\nd"), "RUN a b \tc d");
    }
}
