//! Archives byte by byte: whatever a header can be made to say, and nothing of the crate's own writer.

/// Where fields of a header are.
pub(crate) const MODE: usize = 100;
pub(crate) const UID: usize = 108;
pub(crate) const SIZE: usize = 124;
pub(crate) const MTIME: usize = 136;
pub(crate) const MAGIC: usize = 257;
pub(crate) const MAJOR: usize = 329;
pub(crate) const PREFIX: usize = 345;
pub(crate) const SPARSE: usize = 386;
pub(crate) const REAL_SIZE: usize = 483;

pub(crate) type Block = [u8; 512];

/// Writes bytes into a header.
pub(crate) fn set(block: &mut Block, at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An archive that is being written.
#[derive(Default)]
pub(crate) struct Raw(Vec<u8>);

impl Raw {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a member whose header is changed before it is summed. Its size field says how long `data` is.
    pub(crate) fn edited(
        mut self,
        flag: u8,
        name: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        data: &[u8],
        edit: impl FnOnce(&mut Block),
    ) -> Self {
        let mut block = [0; 512];
        let (name, link) = (name.as_ref(), link.as_ref());
        set(&mut block, 0, &name[..name.len().min(100)]);
        set(&mut block, 157, &link[..link.len().min(100)]);
        set(&mut block, MODE, b"0000755\0");
        set(&mut block, UID, b"0000000\0");
        set(&mut block, 116, b"0000000\0");
        set(&mut block, SIZE, format!("{:011o}\0", data.len()).as_bytes());
        set(&mut block, MTIME, b"00000000007\0");
        set(&mut block, MAGIC, b"ustar\x0000");
        block[156] = flag;
        edit(&mut block);
        set(&mut block, 148, b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        set(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn plain(self, flag: u8, name: impl AsRef<[u8]>, link: impl AsRef<[u8]>, data: &[u8]) -> Self {
        self.edited(flag, name, link, data, |_| {})
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.plain(b'0', name, "", data.as_ref())
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.plain(b'5', name, "", b"")
    }

    /// A symbolic link; a long target goes into a record.
    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        let long = target.len() > 100;
        let here = if long { self.pax(&[("linkpath", target)]) } else { self };
        here.plain(b'2', name, target, b"")
    }

    /// A hard link; a long target goes into a record.
    pub(crate) fn link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        let long = target.len() > 100;
        let here = if long { self.pax(&[("linkpath", target)]) } else { self };
        here.plain(b'1', name, target, b"")
    }

    pub(crate) fn fifo(self, name: impl AsRef<[u8]>) -> Self {
        self.plain(b'6', name, "", b"")
    }

    /// A device (`3` character, `4` block).
    pub(crate) fn device(self, flag: u8, name: &str, major: u32, minor: u32) -> Self {
        self.edited(flag, name, "", b"", |block| {
            set(block, MAJOR, format!("{major:07o}\0{minor:07o}\0").as_bytes());
        })
    }

    /// A PAX header for the next member.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.plain(b'x', "PaxHeaders/x", "", &pax_records(records))
    }

    /// A global PAX header.
    pub(crate) fn global(self, records: &[(&str, &[u8])]) -> Self {
        self.plain(b'g', "pax_global_header", "", &pax_records(records))
    }

    /// A PAX header with these bytes.
    pub(crate) fn pax_bytes(self, bytes: &[u8]) -> Self {
        self.plain(b'x', "PaxHeaders/x", "", bytes)
    }

    /// A GNU long name (`L`) or long link (`K`) for the next member.
    pub(crate) fn gnu_long(self, flag: u8, text: impl AsRef<[u8]>) -> Self {
        let text = [text.as_ref(), b"\0"].concat();
        self.edited(flag, "././@LongLink", "", &text, |block| set(block, MAGIC, b"ustar  \0"))
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The archive without an end.
    pub(crate) fn open(self) -> Vec<u8> {
        self.0
    }

    /// The archive with its end marker.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// Writes PAX records with right lengths.
pub(crate) fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length - rest == length.to_string().len()).unwrap();
        out.extend_from_slice(format!("{length} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// Writes a number in base 256 over twelve bytes.
pub(crate) fn base256(value: i64) -> [u8; 12] {
    let mut field = [if value < 0 { 0xff } else { 0 }; 12];
    field[4..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}
