//! Names and links that lead out.

use super::{Case, case, refused, safe};
use crate::raw::{PREFIX, Raw, set};

/// The folders on the way to a path, as the witness lists them.
fn parents(path: &str) -> Vec<String> {
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    (1..parts.len()).map(|count| format!("{}/", parts[..count].join("/"))).collect()
}

fn with(mut lines: Vec<String>, more: &[&str]) -> Vec<String> {
    lines.extend(more.iter().map(|&line| line.to_owned()));
    lines
}

pub(super) fn cases(outer: &str) -> Vec<Case> {
    let new = Raw::new;
    let canary = format!("{outer}/canary");
    let secret = format!("{canary}/secret");
    let inner = secret.trim_start_matches('/');
    let out = "leads out of the layer";
    // The same path, but inside the layer: what a process in the image would find there.
    let inside = |more: &[&str]| with(parents(&secret), more);
    let written = format!("{inner} 3");
    let to_canary = format!("l -> {canary}");
    vec![
        case("absolute name", new().file(&secret, "bad").end(), safe(inside(&[&written]))),
        case("name that climbs", new().file("../canary/secret", "bad").end(), refused(out)),
        case(
            "name that climbs from inside",
            new().file("a/b/../../../canary/new", "bad").end(),
            refused(out),
        ),
        case("folder that climbs", new().dir("..").end(), refused(out)),
        case("name that ends in dots", new().dir("/..").end(), refused(out)),
        case(
            "record that climbs",
            new().pax(&[("path", b"../canary/secret")]).file("honest", "bad").end(),
            refused(out),
        ),
        case(
            "long name that climbs",
            new().gnu_long(b'L', "../canary/secret").file("honest", "bad").end(),
            refused(out),
        ),
        case(
            "prefix that climbs",
            new().edited(b'0', "canary/secret", "", b"bad", |block| set(block, PREFIX, b"..")).end(),
            refused(out),
        ),
        case("neighbour with a longer name", new().file("../layer-other/x", "bad").end(), refused(out)),
        case(
            "through an absolute link",
            new().symlink("l", &canary).file("l/secret", "bad").end(),
            safe(inside(&[&written, &to_canary])),
        ),
        case(
            "through a relative link",
            new().symlink("l", "../canary").file("l/new", "1").file("l/secret", "bad").end(),
            safe(["canary/", "canary/new 1", "canary/secret 3", "l -> ../canary"]),
        ),
        case(
            "through a chain of links",
            new()
                .dir("d")
                .symlink("d/up", "../..")
                .symlink("m", "d/up")
                .symlink("l", "m/../canary/.")
                .file("l/secret", "bad")
                .end(),
            safe(["canary/", "canary/secret 3", "d/", "d/up -> ../..", "l -> m/../canary/.", "m -> d/up"]),
        ),
        case(
            "through the kernel's links",
            new().symlink("l", "/proc/self/root").file("l/x", "bad").end(),
            safe(["l -> /proc/self/root", "proc/", "proc/self/", "proc/self/root/", "proc/self/root/x 3"]),
        ),
        case(
            "file in the place of a link",
            new().symlink("l", &secret).file("l", "bad").end(),
            safe(["l 3"]),
        ),
        case(
            "folder in the place of a link",
            new()
                .symlink("l", &canary)
                .edited(b'5', "l", "", b"", |block| set(block, 100, b"0000777\0"))
                .end(),
            safe(["l/"]),
        ),
        case(
            "link in the place of a folder",
            new().dir("d").file("d/secret", "").symlink("d", "../canary").file("d/secret", "bad").end(),
            safe(["canary/", "canary/secret 3", "d -> ../canary"]),
        ),
        case(
            "whiteout in the place of a link",
            new().symlink("d", "../canary").file(".wh.d", "").file("d/.wh.secret", "").end(),
            safe(["canary/", "canary/secret x", "d -> ../canary"]),
        ),
        case("hard link that climbs", new().link("h", "../canary/secret").end(), refused(out)),
        case("hard link to the outside", new().link("h", &secret).end(), refused("does not have before it")),
        case(
            "hard link through a link",
            new().symlink("l", &canary).link("h", "l/secret").end(),
            refused("does not have before it"),
        ),
        case(
            "hard link to a link, then written",
            new().symlink("l", "../canary/secret").link("h", "l").file("h", "bad").end(),
            safe(["h 3", "l -> ../canary/secret"]),
        ),
        case(
            "hard link to a link, with a mode",
            new()
                .symlink("l", "../canary/secret")
                .edited(b'1', "h", "l", b"", |block| set(block, 100, b"0004777\0"))
                .end(),
            safe(["h -> ../canary/secret", "l -> ../canary/secret"]),
        ),
        case("whiteout of the parent", new().file(".wh...", "").end(), refused("hides nothing")),
        case(
            "whiteout of a folder itself",
            new().dir("d").file("d/.wh..", "").end(),
            refused("hides nothing"),
        ),
        case("whiteout that climbs", new().file("../canary/.wh.secret", "").end(), refused(out)),
        case(
            "opaque through a link",
            new().symlink("l", "../canary").file("l/.wh..wh..opq", "").end(),
            safe(["canary/ opaque", "l -> ../canary"]),
        ),
        case("opaque outside", new().file("../canary/.wh..wh..opq", "").end(), refused(out)),
        case("inside a whiteout", new().file(".wh.a/../../canary/x", "").end(), refused(out)),
        case(
            "name beyond the kernel's",
            new().gnu_long(b'L', "n/".repeat(2100)).file("x", "").end(),
            refused("length of a path"),
        ),
        case(
            "part beyond the file system's",
            new().gnu_long(b'L', "n".repeat(256)).file("x", "").end(),
            refused("cannot create"),
        ),
        case(
            "target beyond the kernel's",
            new().symlink("l", "t".repeat(4096)).end(),
            refused("length of a link"),
        ),
        case(
            "the other case of a link",
            new().symlink("A", "../canary").file("a/secret", "bad").end(),
            safe(["A -> ../canary", "a/", "a/secret 3"]),
        ),
        case(
            "the other spelling of a link",
            new().symlink("\u{e9}", "../canary").file("e\u{301}/secret", "bad").end(),
            safe(["\\xc3\\xa9 -> ../canary", "e\\xcc\\x81/", "e\\xcc\\x81/secret 3"]),
        ),
        case(
            "dots and slashes that are none",
            new()
                .file("\u{2025}\u{2215}canary\u{2215}secret", "bad")
                .file(b"\xc0\xae\xc0\xae\xc0\xafcanary", "bad")
                .file("..\\canary\\secret", "bad")
                .file("%2e%2e%2fcanary", "bad")
                .end(),
            safe([
                "%2e%2e%2fcanary 3",
                "..\\\\canary\\\\secret 3",
                "\\xc0\\xae\\xc0\\xae\\xc0\\xafcanary 3",
                "\\xe2\\x80\\xa5\\xe2\\x88\\x95canary\\xe2\\x88\\x95secret 3",
            ]),
        ),
        case("zero in a name", new().pax(&[("path", b"a\0/../../canary")]).file("x", "").end(), refused(out)),
        case(
            "zero in a target",
            new().pax(&[("linkpath", b"a\0b")]).symlink("l", "x").end(),
            refused("cannot create"),
        ),
        case(
            "names of the layer itself",
            new()
                .symlink(".", &canary)
                .symlink("/", &canary)
                .symlink("", &canary)
                .file("secret", "bad")
                .end(),
            safe(["secret 3"]),
        ),
        case(
            "links in a ring",
            new().symlink("a", "b").symlink("b", "a").file("a/x", "").end(),
            refused("too many symbolic links"),
        ),
    ]
}
