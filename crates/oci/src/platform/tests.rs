use super::*;

fn parse(text: &str) -> Platform {
    text.parse().unwrap()
}

#[test]
fn parses_and_prints() {
    // (text, os, architecture, variant, printed)
    for (text, os, architecture, variant, printed) in [
        ("linux/amd64", "linux", "amd64", "", "linux/amd64"),
        ("Linux/x86_64", "linux", "amd64", "", "linux/amd64"),
        ("linux/amd64/v1", "linux", "amd64", "", "linux/amd64"),
        ("linux/amd64/v3", "linux", "amd64", "v3", "linux/amd64/v3"),
        ("linux/arm64", "linux", "arm64", "", "linux/arm64"),
        ("linux/aarch64/v8", "linux", "arm64", "v8", "linux/arm64/v8"),
        ("linux/arm64/v9.0", "linux", "arm64", "v9", "linux/arm64/v9"),
        ("linux/arm", "linux", "arm", "", "linux/arm"),
        ("linux/armhf", "linux", "arm", "", "linux/arm"),
        ("linux/armel", "linux", "arm", "v6", "linux/arm/v6"),
        ("linux/arm/7", "linux", "arm", "v7", "linux/arm/v7"),
        ("linux/i386", "linux", "386", "", "linux/386"),
        ("macos/arm64", "darwin", "arm64", "", "darwin/arm64"),
        ("foo/bar", "foo", "bar", "", "foo/bar"),
    ] {
        let platform = parse(text);
        assert_eq!(
            (platform.os.as_str(), platform.architecture.as_str(), platform.variant.as_str()),
            (os, architecture, variant),
            "{text}"
        );
        assert_eq!(platform.to_string(), printed, "{text}");
    }
}

#[test]
fn one_part_is_os_or_architecture() {
    let host = Platform::host();
    assert_eq!(parse("linux").architecture, host.architecture);
    assert_eq!(parse("arm64"), Platform::new(host.os.clone(), "arm64"));
    assert_eq!(parse("aarch64").architecture, "arm64");
    assert_eq!(parse("arm"), Platform::new(host.os, "arm"));
}

#[test]
fn versions_and_features() {
    let platform = parse("windows(10.0.17763+win32k+a%2Fb)/amd64");
    assert_eq!(platform.os_version, "10.0.17763");
    assert_eq!(platform.os_features, ["win32k", "a/b"]);
    assert_eq!(platform.to_string(), "windows/amd64");
    assert_eq!(platform.full(), "windows(10.0.17763+a%2Fb+win32k)/amd64");
    assert_eq!(parse(&platform.full()).normalized(), platform.normalized());
}

#[test]
fn refuses() {
    for (text, message) in [
        ("linux/*", "\"linux/*\": wildcards not yet supported: invalid argument"),
        (
            "linux/",
            "\"\" is an invalid component of \"linux/\": platform specifier component must match \
             \"^[A-Za-z0-9_.-]+$\": invalid argument",
        ),
        ("10", "\"10\": unknown operating system or architecture: invalid argument"),
        ("a/b/c/d", "\"a/b/c/d\": cannot parse platform specifier: invalid argument"),
    ] {
        assert_eq!(text.parse::<Platform>().unwrap_err().to_string(), message);
    }
    for text in ["", "/amd64", "linux(/amd64", "linux(a+)/amd64", "linux(%4)/amd64", "li nux/amd64"] {
        assert!(text.parse::<Platform>().is_err(), "{text}");
    }
}

#[test]
fn normal_form_is_stable() {
    for text in
        ["linux/arm64/v8", "linux/arm", "linux/amd64/v1", "linux/arm64/v9.0", "linux/i386", "foo/bar/baz"]
    {
        let normal = parse(text).normalized();
        assert_eq!(normal.normalized(), normal, "{text}");
    }
    assert_eq!(parse("linux/arm64/v8").normalized(), Platform::new("linux", "arm64"));
    assert_eq!(parse("linux/arm").normalized().variant, "v7");
}

#[test]
fn what_runs_where() {
    for (host, image, runs) in [
        ("linux/amd64", "linux/amd64", true),
        ("linux/amd64", "linux/386", true),
        ("linux/amd64", "linux/amd64/v2", false),
        ("linux/amd64/v3", "linux/amd64/v2", true),
        ("linux/amd64/v3", "linux/amd64", true),
        ("linux/386", "linux/amd64", false),
        ("linux/arm/v7", "linux/arm/v6", true),
        ("linux/arm/v7", "linux/arm/v5", true),
        ("linux/arm/v6", "linux/arm/v7", false),
        ("linux/arm64", "linux/arm64/v8", true),
        ("linux/arm64", "linux/arm/v7", true),
        ("linux/arm64/v8.2", "linux/arm64/v8.1", true),
        ("linux/arm64/v9.1", "linux/arm64/v8.6", true),
        ("linux/arm64/v9.1", "linux/arm64/v8.7", false),
        ("linux/arm64", "linux/arm64/v9", false),
        ("linux/amd64", "windows/amd64", false),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763.1)/amd64", true),
        ("windows(10.0.17763)/amd64", "windows(10.0.20348)/amd64", false),
        ("windows(10.0.26100)/amd64", "windows(10.0.20348)/amd64", true),
        ("windows(10.0.20348)/amd64", "windows(10.0.26100)/amd64", false),
        ("windows/amd64", "windows(10.0.1+win32k)/amd64", true),
        ("linux/amd64", "linux(+erofs)/amd64", false),
        ("linux(+erofs)/amd64", "linux(+erofs)/amd64", true),
        ("linux(+erofs)/amd64", "linux/amd64", true),
    ] {
        assert_eq!(parse(host).runs(&parse(image)), runs, "{image} on {host}");
    }
}

#[test]
fn best_of_several() {
    let best = |host: &str, images: &[&str]| {
        let images: Vec<Platform> = images.iter().map(|text| parse(text)).collect();
        PlatformMatcher::new(&parse(host)).best(&images, |image| image).map(Platform::full)
    };
    assert_eq!(best("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"]).as_deref(), Some("linux/arm/v6"));
    assert_eq!(best("linux/amd64", &["linux/386", "linux/amd64"]).as_deref(), Some("linux/amd64"));
    assert_eq!(best("linux/arm64", &["linux/arm/v7", "linux/amd64"]).as_deref(), Some("linux/arm/v7"));
    assert_eq!(best("linux/s390x", &["linux/arm/v7", "linux/amd64"]), None);
    let with_features = best("linux(+erofs)/amd64", &["linux/amd64", "linux(+erofs)/amd64"]);
    assert_eq!(with_features.as_deref(), Some("linux(+erofs)/amd64"));
    assert_eq!(PlatformMatcher::strict(&parse("linux/amd64")).rank(&parse("linux/386")), None);
}

#[test]
fn made_up_variants_are_bounded() {
    assert!(!parse("linux/arm/v4000000000").runs(&parse("linux/arm/v6")));
    assert!(!parse("linux/arm64/v8.4000000").runs(&parse("linux/arm64")));
}
