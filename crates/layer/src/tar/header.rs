//! The 512 bytes of a header, as fields.

use super::BLOCK;

pub(super) type Block = [u8; BLOCK];

/// Where the fields are: offset and length.
pub(super) type Field = (usize, usize);
pub(super) const NAME: Field = (0, 100);
pub(super) const MODE: Field = (100, 8);
pub(super) const UID: Field = (108, 8);
pub(super) const GID: Field = (116, 8);
pub(super) const SIZE: Field = (124, 12);
pub(super) const MTIME: Field = (136, 12);
pub(super) const CHECKSUM: Field = (148, 8);
pub(super) const FLAG: usize = 156;
pub(super) const LINK: Field = (157, 100);
pub(super) const MAGIC: Field = (257, 8);
pub(super) const MAJOR: Field = (329, 8);
pub(super) const MINOR: Field = (337, 8);
pub(super) const PREFIX: Field = (345, 155);
/// In a GNU header of an old sparse file: four pairs of offset and length.
pub(super) const GNU_SPARSE: Field = (386, 4 * 24);
/// Whether blocks with more pairs follow.
pub(super) const GNU_EXTENDED: usize = 482;
/// The length of the extracted file.
pub(super) const GNU_REAL_SIZE: Field = (483, 12);

/// `ustar`, NUL, version 00.
pub(super) const POSIX: &[u8; 8] = b"ustar\x0000";

pub(super) fn field(block: &Block, (start, length): Field) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

/// Reads a string that a NUL ends unless it fills its field.
pub(super) fn text(raw: &[u8]) -> &[u8] {
    raw.split(|&b| b == 0).next().unwrap_or_default()
}

/// Reads a number: octal digits between blanks and NULs, or base 256 if the first bit is set.
pub(super) fn number(raw: &[u8]) -> Option<i64> {
    if let Some((&first, rest)) = raw.split_first()
        && first & 0x80 != 0
    {
        // Two's complement, whose second bit is the sign.
        let negative = first & 0x40 != 0;
        let mut value: i128 = i128::from(first & 0x3f);
        if negative {
            value -= 0x40;
        }
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        }
        return i64::try_from(value).ok();
    }
    // Blanks and NULs in front are padding; the first NUL after a digit ends the number.
    let start = raw.iter().position(|b| !matches!(b, b' ' | 0)).unwrap_or(raw.len());
    let digits = text(raw.get(start..).unwrap_or_default()).trim_ascii_end();
    let mut value: i64 = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

/// Sums the bytes of a header with its checksum taken as blanks: unsigned, and signed as some old archivers did.
pub(super) fn checksums(block: &Block) -> (i64, i64) {
    let (start, length) = CHECKSUM;
    let (mut unsigned, mut signed) = (0, 0);
    for (at, &byte) in block.iter().enumerate() {
        let byte = if at >= start && at < start + length { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    (unsigned, signed)
}

/// Tells whether a number can be written in octal with a NUL behind it.
pub(super) fn fits_octal(length: usize, value: i64) -> bool {
    value >= 0 && (length >= 22 || value < 1 << ((length - 1) * 3))
}

/// Writes a number in octal, zeros in front and a NUL behind; what does not fit becomes zero.
pub(super) fn put_octal(block: &mut Block, (start, length): Field, value: i64) {
    let value = if fits_octal(length, value) { value } else { 0 };
    let digits = format!("{value:0width$o}\0", width = length - 1);
    if let Some(slot) = block.get_mut(start..start + length) {
        slot.copy_from_slice(digits.as_bytes());
    }
}

/// Writes a string, cut to its field.
pub(super) fn put_text(block: &mut Block, (start, length): Field, text: &[u8]) {
    if let Some(slot) = block.get_mut(start..start + length) {
        for (to, from) in slot.iter_mut().zip(text) {
            *to = *from;
        }
    }
}

/// Writes magic, version and checksum; every other field must be in place.
pub(super) fn seal(block: &mut Block) {
    put_text(block, MAGIC, POSIX);
    let (sum, _) = checksums(block);
    put_text(block, CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (raw, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0\0\0\0\0", Some(0o644)),
            (b"644 \x00777", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000008\0", None),
            (b"-000001\0", None),
            (b"0x10\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"777777777777", Some(0o777_777_777_777)),
        ] {
            assert_eq!(number(raw), value, "{raw:?}");
        }
    }
}
