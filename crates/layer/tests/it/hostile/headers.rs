//! Headers that mean one thing to one reader and another to the next.

use super::{Case, case, refused, safe};
use crate::raw::{MTIME, Raw, UID, base256, set};

pub(super) fn cases() -> Vec<Case> {
    let new = Raw::new;
    let cut = |at: usize| {
        let mut archive = new().pax(&[("path", b"longer")]).file("f", [7; 600]).end();
        archive.truncate(at);
        archive
    };
    let field = |at: usize, bytes: &'static [u8]| {
        new().edited(b'0', "f", "", b"1", |block| set(block, at, bytes)).end()
    };
    let hidden = new().file("evil", "bad").open();
    vec![
        case(
            "record with a newline and a record in it",
            new().pax(&[("path", b"a\n26 path=../canary/secret")]).file("x", "1").end(),
            safe(["a\\n26 path=../", "a\\n26 path=../canary/", "a\\n26 path=../canary/secret 1"]),
        ),
        case(
            "attribute with a newline and a record in it",
            new().pax(&[("SCHILY.xattr.user.a", b"1\n25 path=../canary/secret\n")]).file("f", "1").end(),
            safe(["f 1"]),
        ),
        case(
            "record that is longer than it says",
            new().pax_bytes(b"8 path=../canary/x\n").file("f", "").end(),
            refused("does not end where it says"),
        ),
        case(
            "record that is shorter than it says",
            new().pax_bytes(b"900 path=x\n").file("f", "").end(),
            refused("longer than its header"),
        ),
        case(
            "record without an equals sign",
            new().pax_bytes(b"7 path\n").file("f", "").end(),
            refused("extended record"),
        ),
        case(
            "record of no length",
            new().pax_bytes(b"0 path=x\n").file("f", "").end(),
            refused("extended record"),
        ),
        case(
            "record with a zero in its key",
            new().pax(&[("pa\0th", b"x")]).file("f", "").end(),
            refused("bad key"),
        ),
        case(
            "record of a signed length",
            new().pax_bytes(b"+9 path=x\n").file("f", "").end(),
            refused("bad length"),
        ),
        case(
            "global path and size",
            new().global(&[("path", b"../canary/secret"), ("size", b"512")]).file("f", "1").end(),
            safe(["f 1"]),
        ),
        case(
            "the last record counts",
            new().pax(&[("path", b"a"), ("path", b"b")]).file("f", "1").end(),
            safe(["b 1"]),
        ),
        case(
            "the last extension counts",
            new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", "1").end(),
            safe(["b 1"]),
        ),
        case(
            "long name before record",
            new().pax(&[("path", b"../canary/x")]).gnu_long(b'L', "gnu").file("f", "1").end(),
            safe(["gnu 1"]),
        ),
        case(
            "long link and record",
            new().pax(&[("linkpath", b"pax")]).gnu_long(b'K', "gnu").symlink("l", "plain").end(),
            safe(["l -> gnu"]),
        ),
        // The record's size is right and the header says 0: who believes the header takes data for headers.
        case(
            "archive hidden by a recorded size",
            new()
                .pax(&[("size", hidden.len().to_string().as_bytes())])
                .file("outer", "")
                .bytes(&hidden)
                .file("next", "1")
                .end(),
            safe(["next 1", &format!("outer {}", hidden.len())]),
        ),
        // And the other way round: the header's size is right, the record says 0.
        case(
            "archive shown by a recorded size",
            new().pax(&[("size", b"0")]).file("outer", &hidden).end(),
            safe(["evil 3", "outer 0"]),
        ),
        case(
            "extension without a member",
            new().file("f", "").pax(&[("path", b"x")]).end(),
            refused("after an extension"),
        ),
        case(
            "extension of an extension",
            new().pax(&[("size", b"9999")]).gnu_long(b'L', "n").file("f", "").open(),
            refused("ends within"),
        ),
        case("cut in a header", cut(1200), refused("ends within a header")),
        case("cut in an extension", cut(700), refused("ends within a member")),
        case("cut in a file", cut(1800), refused("ends within a member")),
        case("wrong checksum", new().file("f", "1").bytes(&[b'x'; 512]).end(), refused("wrong checksum")),
        case("no archive", vec![b'x'; 4096], refused("wrong checksum")),
        case("nothing", Vec::new(), safe::<&str>([])),
        case(
            "two archives in one",
            new().file("f", "1").bytes(&[0; 1024]).file("../canary/secret", "bad").end(),
            safe(["f 1"]),
        ),
        case(
            "header behind half an end",
            new().file("f", "1").bytes(&[0; 512]).file("g", "bad").end(),
            refused("after an end marker"),
        ),
        case(
            "owner below zero",
            new().edited(b'0', "f", "", b"", |block| set(block, UID, &[0xff; 8])).end(),
            refused("bad owner"),
        ),
        case(
            "owner of 2^32 - 1",
            field(UID, b"\x80\0\0\0\xff\xff\xff\xff"),
            refused("has the owner 4294967295"),
        ),
        case(
            "owner of 2^40",
            new().pax(&[("uid", b"1099511627776")]).file("f", "").end(),
            refused("has the owner"),
        ),
        case("owner that is no number", field(UID, b"root\0\0\0\0"), refused("bad owner")),
        case(
            "times at both ends",
            new()
                .edited(b'0', "a", "", b"", |block| set(block, MTIME, &base256(i64::MIN)))
                .edited(b'0', "b", "", b"", |block| set(block, MTIME, &base256(i64::MAX)))
                .edited(b'5', "c", "", b"", |block| set(block, MTIME, &base256(i64::MAX)))
                .edited(b'2', "d", "x", b"", |block| set(block, MTIME, &base256(i64::MIN)))
                .end(),
            safe(["a 0", "b 0", "c/", "d -> x"]),
        ),
        case(
            "recorded time of a million digits",
            new().pax(&[("mtime", &[b'9'; 100_000])]).file("f", "").end(),
            refused("bad time"),
        ),
        case(
            "recorded time that is no number",
            new().pax(&[("mtime", b"nan")]).file("f", "").end(),
            refused("bad time"),
        ),
        case("mode of all bits", field(100, b"7777777\0"), safe(["f 1"])),
        case(
            "part of another volume",
            new().edited(b'M', "f", "", b"1", |_| {}).end(),
            refused("unknown type"),
        ),
        case("type of no archiver", new().edited(0xff, "f", "", b"1", |_| {}).end(), refused("unknown type")),
    ]
}
