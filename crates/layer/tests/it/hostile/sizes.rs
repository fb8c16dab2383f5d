//! Sizes that lie, and layers that are small until they are unpacked.

use std::io::{self, Cursor, Read, Write as _};

use super::{Case, Expected, case, refused, safe, stream};
use crate::raw::{MAGIC, REAL_SIZE, Raw, SIZE, SPARSE, base256, pax_records, set};

/// The same bytes again and again.
struct Endless {
    bytes: Vec<u8>,
    at: usize,
}

fn endless(bytes: Vec<u8>) -> Endless {
    Endless { bytes, at: 0 }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at = (self.at + count) % self.bytes.len();
        Ok(count)
    }
}

/// A file that says it is 8 GiB long, without its data.
fn giant() -> Vec<u8> {
    Raw::new().edited(b'0', "giant", "", b"", |block| set(block, SIZE, b"77777777777\0")).open()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame whose window is 2 to this power, with these bytes as they are, then 128 KiB of zeros for four bytes.
fn zstd_frame(window: u8, first: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut start = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (window - 10) << 3];
    start.extend_from_slice(&(first.len() as u32 * 8).to_le_bytes()[..3]);
    start.extend_from_slice(first);
    let mut zeros = ((128 << 10) * 8 + 2_u32).to_le_bytes()[..3].to_vec();
    zeros.push(0);
    (start, zeros)
}

/// An old GNU sparse file of this length with nothing but a hole.
fn hole(raw: Raw, name: &str, size: i64) -> Raw {
    raw.edited(b'S', name, "", b"", |block| {
        set(block, MAGIC, b"ustar  \0");
        set(block, SPARSE, &base256(size));
        set(block, SPARSE + 12, b"00000000000\0");
        set(block, REAL_SIZE, &base256(size));
    })
}

/// A sparse file in PAX format 1.0 with this map.
fn mapped(map: &str, size: &str, data: &[u8]) -> Vec<u8> {
    let mut body = map.as_bytes().to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(data);
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    Raw::new().pax(records).file("s", body).end()
}

pub(super) fn cases() -> Vec<Case> {
    let new = Raw::new;
    let sized = |field: [u8; 12]| new().edited(b'0', "f", "", b"", |block| set(block, SIZE, &field)).open();
    let recorded = |value: &str| new().pax(&[("size", value.as_bytes())]).file("f", "").end();
    let far = vec![
        stream(
            "gzip bomb",
            move || Cursor::new(gzip(&giant())).chain(endless(gzip(&vec![0; 1 << 20]))),
            refused("each byte of the compressed blob"),
        )
        .limits(|limits| (limits.ratio, limits.ratio_from) = (100, 4 << 20)),
        stream(
            "zstd bomb",
            move || {
                let (start, zeros) = zstd_frame(20, &giant());
                Cursor::new(start).chain(endless(zeros))
            },
            refused("each byte of the compressed blob"),
        )
        .limits(|limits| limits.ratio_from = 16 << 20),
        stream(
            "bomb behind the archive's end",
            move || {
                let (start, zeros) = zstd_frame(20, &new().file("f", "1").end());
                Cursor::new(start).chain(endless(zeros))
            },
            refused("each byte of the compressed blob"),
        )
        .limits(|limits| limits.ratio_from = 16 << 20),
        case("zstd window of 2 TiB", zstd_frame(41, &giant()).0, refused("cannot read the layer")),
        case("xz", b"\xfd7zXZ\0\0\x04".to_vec(), refused("xz is not supported")),
        case("bzip2", b"BZh91AY&SY".to_vec(), refused("bzip2 is not supported")),
        stream(
            "endless zeros",
            move || Cursor::new(new().file("f", "1").end()).chain(io::repeat(0)),
            refused("length of the stream"),
        )
        .limits(|limits| limits.stream = 8 << 20),
        stream(
            "endless file",
            move || Cursor::new(giant()).chain(io::repeat(7)),
            refused("length of the stream"),
        )
        .limits(|limits| limits.stream = 8 << 20),
        stream(
            "endless global headers",
            move || endless(new().global(&[("comment", b"x")]).open()),
            refused("length of the stream"),
        )
        .limits(|limits| limits.stream = 8 << 20),
        stream(
            "endless members of one name",
            move || endless(new().file("f", "1").open()),
            refused("number of entries"),
        )
        .limits(|limits| limits.entries = 3000),
        stream("ten thousand entries", move || Cursor::new(many(10_000)), Expected::Entries(10_000)),
        stream("entries above the bound", move || Cursor::new(many(3001)), refused("number of entries"))
            .limits(|limits| limits.entries = 3000),
    ];
    let mut all = vec![
        case(
            "size beyond the stream",
            new().edited(b'0', "f", "", b"123", |block| set(block, SIZE, b"00000007777\0")).end(),
            refused("ends within a member"),
        ),
        case("size of 8 GiB without a byte", giant(), refused("ends within a member")),
        case("size of 4 EiB", sized(base256(1 << 62)), refused("size of a file")),
        case("size below zero", sized(base256(-1)), refused("bad size")),
        case("size of more than 64 bits", sized([0xbf; 12]), refused("bad size")),
        case("size that is no number", sized(*b"0000000zzzz\0"), refused("bad size")),
        case("recorded size of 16 EiB", recorded("18446744073709551616"), refused("bad number")),
        case("recorded size of 8 EiB", recorded("9223372036854775808"), refused("bad size")),
        case("recorded size below zero", recorded("-1"), refused("bad number")),
        case(
            "many large files",
            new().edited(b'0', "a", "", &[0; 600], |_| {}).file("b", [0; 600]).end(),
            refused("size of all files"),
        )
        .limits(|limits| limits.total_size = 1000),
        case("hole of 256 GiB", hole(new(), "s", 1 << 38).end(), refused("size of all holes")),
        case(
            "many holes",
            hole(hole(hole(new(), "a", 1 << 22), "b", 1 << 22), "c", 1 << 22).end(),
            refused("size of all holes"),
        )
        .limits(|limits| limits.holes = 10 << 20),
        case("hole of 8 MiB", hole(new(), "s", 8 << 20).end(), safe(["s 8388608"])),
        case("sparse file above the bound", hole(new(), "s", 1 << 40).end(), refused("size of a file")),
        case(
            "sparse map of 10^11 pieces",
            mapped("99999999999\n", "10", b""),
            refused("bad number in a sparse map"),
        ),
        case(
            "sparse map of one endless number",
            mapped(&"1".repeat(900 << 10), "10", b""),
            refused("bad number in a sparse map"),
        ),
        case(
            "sparse map of too many numbers",
            mapped(&format!("600000\n{}", "0\n".repeat(1_200_000)), "10", b""),
            refused("size of a sparse map"),
        ),
        case(
            "sparse pieces that overlap",
            mapped("2\n0\n4\n2\n4\n", "10", b"12345678"),
            refused("sparse map out of order"),
        ),
        case("sparse piece beyond the end", mapped("1\n8\n4\n", "10", b"1234"), refused("out of range")),
        case(
            "sparse piece that wraps",
            mapped("1\n18446744073709551615\n4\n", "10", b"1234"),
            refused("out of range"),
        ),
        case(
            "sparse pieces that are not stored",
            mapped("1\n0\n9\n", "10", b"1234"),
            refused("does not add up"),
        ),
        case(
            "sparse file without a length",
            new().pax(&[("GNU.sparse.map", b"0,1")]).file("s", "1").end(),
            refused("without a size"),
        ),
        case(
            "extension of 4 GiB",
            new().edited(b'x', "x", "", b"", |block| set(block, SIZE, b"40000000000\0")).open(),
            refused("size of extension headers"),
        ),
        case(
            "long name of 4 GiB",
            new().edited(b'L', "x", "", b"", |block| set(block, SIZE, b"40000000000\0")).open(),
            refused("size of extension headers"),
        ),
        case(
            "many extensions of one member",
            (0..20).fold(new(), |raw, _| raw.pax(&[("comment", &[b'c'; 60_000])])).file("f", "").end(),
            refused("size of extension headers"),
        ),
        case(
            "three hundred thousand records",
            new().pax_bytes(&b"6 a=b\n".repeat(170_000)).file("f", "1").end(),
            safe(["f 1"]),
        ),
        case(
            "two thousand folders deep",
            new().pax(&[("path", "d/".repeat(2000).as_bytes())]).dir("d").end(),
            refused("depth of a path"),
        ),
        case(
            "deep through a link",
            {
                let deep = "d/".repeat(400);
                new()
                    .pax(&[("path", deep.as_bytes())])
                    .dir("d")
                    .symlink("l", deep.as_str())
                    .pax(&[("path", format!("l/{}", "e/".repeat(200)).as_bytes())])
                    .dir("d")
                    .end()
            },
            refused("depth of a path"),
        ),
        stream(
            "short names for long paths",
            move || {
                let long = format!("{}/", "p".repeat(250)).repeat(12);
                let raw = new().pax(&[("path", long.as_bytes())]).dir("d").symlink("l", &long);
                Cursor::new((0..1000).fold(raw, |raw, n| raw.file(format!("l/{n}"), "")).end())
            },
            refused("size of names"),
        )
        .limits(|limits| limits.metadata = 1 << 20),
        stream(
            "short links to long attributes",
            move || {
                let raw = new().pax(&[("SCHILY.xattr.user.a", &[b'a'; 1000])]).file("f", "1");
                Cursor::new((0..3000).fold(raw, |raw, n| raw.link(format!("{n}"), "f")).end())
            },
            refused("size of names"),
        )
        .limits(|limits| limits.metadata = 1 << 20),
        stream(
            "long walks for short names",
            move || {
                let raw = new().dir("a").symlink("l", "a/../".repeat(800)).symlink("m", "l/".repeat(39));
                Cursor::new(
                    (0..100)
                        .fold(raw, |raw, n| {
                            raw.file(format!("{}/{n}", if n % 2 == 0 { "l" } else { "m" }), "")
                        })
                        .end(),
                )
            },
            refused("number of steps"),
        )
        .limits(|limits| limits.steps = 100_000),
        case(
            "attribute of 100 KiB",
            new().pax_bytes(&pax_records(&[("SCHILY.xattr.user.a", &[b'a'; 100 << 10])])).file("f", "").end(),
            refused("length of an attribute"),
        ),
        case(
            "attribute with a name of 300 bytes",
            new().pax(&[(&format!("SCHILY.xattr.user.{}", "n".repeat(300)), b"1")]).file("f", "").end(),
            refused("length of an attribute's name"),
        ),
    ];
    all.extend(far);
    all
}

fn many(count: usize) -> Vec<u8> {
    (0..count).fold(Raw::new(), |raw, number| raw.file(format!("{number}"), "")).end()
}
