use proptest::prelude::*;

use super::*;

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn parse(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn names() {
    // (what a person writes, domain, path, short form)
    for (text, domain, path, short) in [
        ("python", "docker.io", "library/python", "python"),
        ("library/python", "docker.io", "library/python", "python"),
        ("docker.io/python", "docker.io", "library/python", "python"),
        ("index.docker.io/python", "docker.io", "library/python", "python"),
        ("docker.io/library/python", "docker.io", "library/python", "python"),
        ("docker.io/library/a/b", "docker.io", "library/a/b", "library/a/b"),
        ("me/tool", "docker.io", "me/tool", "me/tool"),
        ("me/a/b", "docker.io", "me/a/b", "me/a/b"),
        ("localhost/tool", "localhost", "tool", "localhost/tool"),
        ("localhost:5000/tool", "localhost:5000", "tool", "localhost:5000/tool"),
        ("quay.io/tool", "quay.io", "tool", "quay.io/tool"),
        ("Upper/tool", "Upper", "tool", "Upper/tool"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000", "a/b", "127.0.0.1:5000/a/b"),
        ("[::1]/a", "[::1]", "a", "[::1]/a"),
        ("[2001:db8::1]:5000/a/b", "[2001:db8::1]:5000", "a/b", "[2001:db8::1]:5000/a/b"),
        ("xn--7o8h.com/a", "xn--7o8h.com", "a", "xn--7o8h.com/a"),
        ("a__b/c-----d/e.f_g", "docker.io", "a__b/c-----d/e.f_g", "a__b/c-----d/e.f_g"),
        ("a_b.c/d", "", "a_b.c/d", "a_b.c/d"),
    ] {
        let reference = parse(text);
        assert_eq!((reference.domain(), reference.path()), (domain, path), "{text}");
        assert_eq!(reference.familiar(), short, "{text}");
        assert!(reference.is_name_only(), "{text}");
        assert_eq!(parse(&reference.familiar()), reference, "{text}");
    }
}

#[test]
fn tags_and_digests() {
    let reference = parse(&format!("python:3.9-slim@sha256:{HEX}"));
    assert_eq!(reference.tag(), Some("3.9-slim"));
    assert_eq!(reference.digest().unwrap().hex(), HEX);
    assert_eq!(reference.to_string(), format!("docker.io/library/python:3.9-slim@sha256:{HEX}"));
    assert_eq!(parse(&reference.to_string()), reference);

    // One part alone is never a host.
    let local = parse("localhost:5000");
    assert_eq!((local.path(), local.tag()), ("library/localhost", Some("5000")));

    assert_eq!(parse("python").tag_or_latest().tag(), Some("latest"));
    assert_eq!(parse("python:3").tag_or_latest().tag(), Some("3"));
    assert_eq!(parse(&format!("python@sha256:{HEX}")).tag_or_latest().tag(), None);
    assert_eq!(parse("[::1]:5000/a:v1").tag(), Some("v1"));
    assert_eq!(parse("a:b").with_tag("-c"), Err(ReferenceError::Tag));
    assert_eq!(parse("a:b").with_tag("c").unwrap().to_string(), "docker.io/library/a:c");
    assert!(parse(&format!("a:{}", "t".repeat(128))).tag().is_some());
}

#[test]
fn refuses_by_grammar() {
    let long = format!("a:{}", "t".repeat(129));
    for text in [
        "",
        ":tag",
        "a:",
        "a@",
        "a:@",
        "a@sha256:06b5d30fabc1",
        "a:tag@digest",
        "a:%%TAG%%",
        "a::b",
        "a/",
        "/a",
        "//",
        "https://github.com/a/b",
        "-a",
        "a-",
        "a_",
        "a___b",
        "a..b",
        "a._b",
        "docker///docker",
        "domain.com/-a",
        "[::1/a",
        "[::1]x/a",
        "[]/a",
        "[fe80::1%eth0]:80/a",
        "example.com:/a",
        "a b",
        "scr\u{a0}atch",
        "docker.io/a:b:c",
        &long,
    ] {
        let error = text.parse::<Reference>().unwrap_err();
        assert_eq!(error.to_string(), "invalid reference format", "{text}");
    }
}

#[test]
fn refuses_with_a_reason() {
    let upper = |path: &str| ReferenceError::PathUpperCase(path.to_owned());
    for (text, error) in [
        ("Builder", upper("library/Builder")),
        ("%%SUITE%%", upper("library/%%SUITE%%")),
        ("redhat/%%SUITE%%", upper("redhat/%%SUITE%%")),
        ("Jenkins:latest", upper("library/Jenkins")),
        ("Foo_bar/x", ReferenceError::UpperCase),
        (HEX, ReferenceError::Id(HEX.to_owned())),
        (&"a".repeat(256), ReferenceError::TooLong),
    ] {
        assert_eq!(text.parse::<Reference>(), Err(error), "{text}");
    }
    for bad in [
        format!("a@sha512:{HEX}{HEX}"),
        format!("a@sha256:{}", HEX.to_uppercase()),
        format!("a@sha256:{HEX}00"),
        format!("a@md5:{}", &HEX[..32]),
    ] {
        assert!(matches!(bad.parse::<Reference>(), Err(ReferenceError::Digest(_))), "{bad}");
    }
}

proptest! {
    /// Whatever is accepted prints to something that reads back as the same.
    #[test]
    fn printed_form_reads_back(text in r"([a-zA-Z0-9.:_\[\]-]{1,8}/){0,3}[a-z0-9._-]{1,8}(:[a-zA-Z0-9._-]{1,5})?") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }
    }

    #[test]
    fn never_panics(text in ".{0,80}") {
        let _ = text.parse::<Reference>();
    }
}

#[test]
fn a_short_form_is_never_another_image() {
    let id = "0".repeat(64);
    for text in ["docker.io/a.b/c", "docker.io/localhost/c:1", &format!("docker.io/library/{id}")] {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.familiar(), text);
    }
}
