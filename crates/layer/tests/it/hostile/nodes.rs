//! Devices, set-user-id and extended attributes.

use cooper_layer::Devices;

use super::{Case, case, refused, safe};
use crate::raw::{MAJOR, Raw, set};

pub(super) fn cases() -> Vec<Case> {
    let new = Raw::new;
    let attribute = |name: &str, value: &[u8]| {
        let key = format!("SCHILY.xattr.{name}");
        new().pax(&[(&key, value)]).dir("d").pax(&[(&key, value)]).file("d/f", "1").end()
    };
    let plain = || safe(["d/", "d/f 1"]);
    vec![
        case("disk of the host", new().device(b'4', "sda", 8, 0).end(), safe(["sda block 8:0"])),
        case("memory of the host", new().device(b'3', "mem", 1, 1).end(), safe(["mem char 1:1"])),
        case(
            "devices where none are allowed",
            new().device(b'3', "null", 1, 3).end(),
            refused("is a device node"),
        )
        .devices(Devices::Refuse),
        case(
            "device that stands for a deletion",
            new().device(b'3', "w", 0, 0).end(),
            refused("the device 0:0"),
        ),
        case(
            "device that is written to",
            new().device(b'3', "d", 1, 3).file("d", "bad").end(),
            safe(["d 3"]),
        ),
        case(
            "device as a folder",
            new().device(b'4', "d", 8, 0).file("d/x", "bad").end(),
            refused("no directory"),
        ),
        case(
            "names of a device",
            new().device(b'3', "a", 1, 5).link("b", "a").file("a", "bad").end(),
            safe(["a 3", "b char 1:5"]),
        ),
        case(
            "device number of 2^40",
            new().pax(&[("SCHILY.devmajor", b"1099511627776")]).device(b'3', "d", 1, 3).end(),
            refused("bad device number"),
        ),
        case(
            "device number below zero",
            new().edited(b'3', "d", "", b"", |block| set(block, MAJOR, &[0xff; 8])).end(),
            refused("bad device number"),
        ),
        case(
            "program with every bit",
            new()
                .edited(b'0', "su", "", b"#!/bin/sh", |block| set(block, 100, b"0006777\0"))
                .link("also", "su")
                .edited(b'5', "tmp", "", b"", |block| set(block, 100, b"0007777\0"))
                .end(),
            safe(["also 9", "su 9", "tmp/"]),
        ),
        case(
            "folders that nobody may read",
            new()
                .edited(b'5', "a", "", b"", |block| set(block, 100, b"0000000\0"))
                .edited(b'5', "a/b", "", b"", |block| set(block, 100, b"0000000\0"))
                .file("a/b/f", "1")
                .end(),
            safe(["a/", "a/b/", "a/b/f 1"]),
        ),
        case("overlay: opaque", attribute("trusted.overlay.opaque", b"y"), plain()),
        case("overlay: opaque for users", attribute("user.overlay.opaque", b"y"), plain()),
        case("overlay: redirect", attribute("trusted.overlay.redirect", b"/../canary"), plain()),
        case("overlay: redirect for users", attribute("user.overlay.redirect", b"/../canary"), plain()),
        case("overlay: metacopy", attribute("user.overlay.metacopy", b""), plain()),
        case("overlay: whiteout as attribute", attribute("user.overlay.whiteout", b"y"), plain()),
        case("overlay: whiteouts in a folder", attribute("trusted.overlay.opaque", b"x"), plain()),
        case("overlay: escaped", attribute("trusted.overlay.overlay.opaque", b"y"), plain()),
        case("overlay: origin", attribute("trusted.overlay.origin", &[0xfb; 40]), plain()),
        case("access lists", attribute("system.posix_acl_access", &[2, 0, 0, 0]), plain()),
        case("label of the host", attribute("security.selinux", b"system_u:object_r:shadow_t:s0"), plain()),
        case("capabilities that are none", attribute("security.capability", b"all of them"), plain()),
        case("attribute of nobody", attribute("nothing.known", b"1"), plain()),
        case("attribute without a name", attribute("", b"1"), plain()),
        case("attribute with an equals sign", attribute("user.a=b", b"c"), plain()),
        case("trusted attribute", attribute("trusted.note", b"1"), plain()),
    ]
}
