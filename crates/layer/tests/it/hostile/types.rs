//! Objects that become others while something stands in or on them.

use super::{Case, case, refused, safe};
use crate::raw::{Raw, SIZE, set};

pub(super) fn cases() -> Vec<Case> {
    let new = Raw::new;
    vec![
        case("file as a folder", new().file("f", "1").file("f/x", "").end(), refused("no directory")),
        case(
            "folder that became a file",
            new().dir("d").file("d/x", "").file("d", "1").file("d/y", "").end(),
            refused("no directory"),
        ),
        case("pipe that is written to", new().fifo("p").file("p", "bad").end(), safe(["p 3"])),
        case(
            "name of a pipe that is written to",
            new().fifo("p").link("q", "p").file("q", "bad").end(),
            safe(["p |", "q 3"]),
        ),
        case("pipe as a folder", new().fifo("p").file("p/x", "").end(), refused("no directory")),
        case(
            "folder with everything in it replaced",
            new().file("d/e/f/x", "1").file("d/e/y", "1").fifo("d").end(),
            safe(["d |"]),
        ),
        case(
            "folder with data",
            new().edited(b'5', "d", "", b"", |block| set(block, SIZE, b"00000001000\0")).file("x", "1").end(),
            safe(["d/", "x 1"]),
        ),
        case(
            "link with data that is a header",
            new()
                .edited(b'2', "l", "t", b"", |block| set(block, SIZE, b"00000002000\0"))
                .file("x", "1")
                .end(),
            safe(["l -> t", "x 1"]),
        ),
        case("hard link to itself", new().file("f", "1").link("f", "f").end(), refused("which is itself")),
        case("hard link to a folder", new().dir("d").link("h", "d").end(), refused("a directory")),
        case(
            "hard link to what comes later",
            new().link("h", "f").file("f", "1").end(),
            refused("before it"),
        ),
        case(
            "hard link in the place of its target's folder",
            new().file("d/f", "1").link("d", "d/f").end(),
            refused("cannot link"),
        ),
        case(
            "hard link whose target is replaced",
            new().file("f", "one").link("h", "f").file("f", "2").end(),
            safe(["f 1", "h 3"]),
        ),
        case(
            "hard link to a whiteout",
            new().file(".wh.w", "").link("h", "w").end(),
            refused("does not have before it"),
        ),
        case(
            "whiteouts of what is there",
            new().file("f", "1").file(".wh.f", "").dir("d").file("d/x", "1").file(".wh.d", "").end(),
            safe(["d/ opaque", "d/x 1", "f 1"]),
        ),
        case("whiteout below a file", new().file("d/.wh.x", "").file("d", "1").end(), safe(["d 1"])),
        case(
            "opaque folder that became a link",
            new().dir("d").file("d/.wh..wh..opq", "").symlink("d", "../canary").end(),
            safe(["d -> ../canary"]),
        ),
        case("opaque root", new().file(".wh..wh..opq", "").end(), refused("hides all lower layers")),
        case("link without a target", new().symlink("l", "").end(), refused("without a target")),
        case(
            "books of aufs",
            new().file(".wh..wh.plnk/1.2", "").dir(".wh..wh.orph").file(".wh..wh.aufs", "").end(),
            safe::<&str>([]),
        ),
    ]
}
