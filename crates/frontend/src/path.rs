//! Slash-separated paths with the rules of Go's `path` package, and what a path of another operating system means.
//!
//! Digests hold these strings, so the rules have to be those of Go and not those of `std::path`.

pub(crate) use cooper_llb::path::clean;

/// Joins as Go's `path.Join`: empty elements are left out, the result is clean; nothing gives nothing.
pub(crate) fn join(parts: &[&str]) -> String {
    let present: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    if present.is_empty() { String::new() } else { clean(&present.join("/")) }
}

/// The last element as Go's `path.Base` gives it: `.` for nothing, `/` for slashes alone.
pub(crate) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        _ if trimmed.is_empty() => "/",
        Some((_, last)) => last,
        None => trimmed,
    }
}

/// Everything before the last element, as Go's `path.Dir` gives it.
pub(crate) fn dir(path: &str) -> String {
    match path.rfind('/') {
        Some(at) => clean(path.get(..=at).unwrap_or_default()),
        None => ".".to_owned(),
    }
}

/// Whether a path in LLB is absolute.
pub(crate) fn is_abs_slash(path: &str) -> bool {
    path.starts_with('/')
}

fn windows(os: &str) -> bool {
    os == "windows"
}

/// Turns backslashes into slashes where the platform has them as separators.
pub(crate) fn to_slash(path: &str, os: &str) -> String {
    if windows(os) { path.replace('\\', "/") } else { path.to_owned() }
}

fn from_slash(path: &str, os: &str) -> String {
    if windows(os) { path.replace('/', "\\") } else { path.to_owned() }
}

fn clean_keeping(path: &str, keep_slash: bool) -> String {
    let path = path.replace('\\', "/");
    let cleaned = clean(&path);
    if keep_slash && cleaned.len() > 1 && path.ends_with('/') { cleaned + "/" } else { cleaned }
}

/// Takes the drive off a Windows path, which has to be the system drive; other systems' paths pass unchanged.
///
/// # Errors
///
/// For another drive, a drive without a path and UNC paths.
pub(crate) fn remove_drive(path: &str, os: &str, keep_slash: bool) -> Result<String, String> {
    if !windows(os) {
        return Ok(path.to_owned());
    }
    let bytes = path.as_bytes();
    if bytes.len() == 2 && bytes.get(1) == Some(&b':') {
        return Err(format!("No relative path specified in {}", crate::gofmt::quote(path)));
    }
    if path.replace('\\', "/").starts_with("//") {
        return Err("UNC paths are not supported".to_owned());
    }
    match path.split_once(':') {
        None => Ok(clean_keeping(path, keep_slash)),
        Some((drive, rest)) if drive.eq_ignore_ascii_case("c") => Ok(clean_keeping(rest, keep_slash)),
        Some(_) => Err("The specified path is not on the system drive (C:)".to_owned()),
    }
}

/// Whether a path as written in a Dockerfile for `os` is absolute; on Windows a drive or a leading separator makes it so.
pub(crate) fn is_abs(path: &str, os: &str) -> bool {
    remove_drive(path, os, false).is_ok_and(|path| to_slash(&path, os).starts_with('/'))
}

/// Makes a path absolute below `parent`, without a drive, with slashes; a trailing slash or `/.` stays if `keep_slash`.
pub(crate) fn normalize(parent: &str, path: &str, os: &str, keep_slash: bool) -> Result<String, String> {
    let wrap = |message: String| format!("removing drive letter: {message}");
    let original = to_slash(path, os);
    let parent = to_slash(parent, os);
    let parent = if parent.is_empty() { "/".to_owned() } else { parent };
    let mut parent = remove_drive(&parent, os, keep_slash).map_err(wrap)?;
    if !is_abs(&parent, os) {
        parent = join(&["/", &parent]);
    }
    let path = if original.is_empty() { parent.clone() } else { original.clone() };
    let mut path = remove_drive(&path, os, keep_slash).map_err(wrap)?;
    if !is_abs(&path, os) {
        path = join(&[&parent, &path]);
    }
    if keep_slash {
        if original.ends_with('/') && !path.ends_with('/') {
            path.push('/');
        } else if original.ends_with("/.") {
            if path != "/" {
                path.push('/');
            }
            path.push('.');
        }
    }
    Ok(to_slash(&path, os))
}

/// The working directory after `WORKDIR path`, with the platform's own separators.
pub(crate) fn workdir(current: &str, path: &str, os: &str) -> Result<String, String> {
    normalize(current, path, os, false)
        .map(|path| from_slash(&path, os))
        .map_err(|message| format!("normalizing working directory: {message}"))
}

/// The search path that a platform's images have where they name none.
pub(crate) fn default_search_path(os: &str) -> &'static str {
    if windows(os) {
        "c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0"
    } else {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_like_go() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/../..", ".."),
            ("/..", "/"),
            ("./a/./b/../c", "a/c"),
            ("../../x", "../../x"),
            ("/a/../../b", "/b"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn takes_paths_apart() {
        for (path, expected_base, expected_dir) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("a", "a", "."),
            ("a/b/", "b", "a/b"),
            ("/a", "a", "/"),
            ("//", "/", "/"),
        ] {
            assert_eq!(base(path), expected_base, "{path}");
            assert_eq!(dir(path), expected_dir, "{path}");
        }
        assert_eq!(join(&["", ""]), "");
        assert_eq!(join(&["/", "a", "../b"]), "/b");
    }

    #[test]
    fn normalizes_for_the_platform() {
        for (parent, path, os, keep, expected) in [
            ("/app", "x/", "linux", true, Ok("/app/x/")),
            ("/app", "./", "linux", true, Ok("/app/")),
            ("/app", "/x/.", "linux", true, Ok("/x/./.")),
            ("/app", "x/.", "linux", true, Ok("/app/x/.")),
            ("", "x", "linux", false, Ok("/x")),
            ("\\app", "C:\\x\\y", "windows", true, Ok("/x/y")),
            ("C:\\app", "y\\", "windows", true, Ok("/app/y/")),
            (
                "/",
                "D:\\x",
                "windows",
                true,
                Err("removing drive letter: The specified path is not on the system drive (C:)"),
            ),
            ("/", "C:", "windows", true, Err("removing drive letter: No relative path specified in \"C:\"")),
        ] {
            let got = normalize(parent, path, os, keep);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{parent} {path}");
        }
        assert_eq!(workdir("\\app", "b", "windows").as_deref(), Ok("\\app\\b"));
        assert!(is_abs("c:\\x", "windows") && is_abs("\\x", "windows") && !is_abs("c:x", "windows"));
    }
}
