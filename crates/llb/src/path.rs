//! Slash-separated paths by the rules of Go's package `path`.

/// Cleans a path lexically: no empty, `.` or inner `..` components; empty becomes `.`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Joins two paths and cleans the result; empty ones count for nothing.
pub fn join(base: &str, path: &str) -> String {
    match (base.is_empty(), path.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean(path),
        (false, true) => clean(base),
        (false, false) => clean(&format!("{base}/{path}")),
    }
}

/// Makes a path of a file action absolute below `parent`; with `keep_slash` a trailing `/` or `/.` stays, for it says
/// that a directory is meant.
pub(crate) fn of_action(parent: &str, path: &str, keep_slash: bool) -> String {
    let mut clean = clean(path);
    if !clean.starts_with('/') {
        clean = join("/", &join(parent, &clean));
    }
    if keep_slash {
        if path.ends_with('/') && !clean.ends_with('/') {
            clean.push('/');
        } else if path.ends_with("/.") {
            if clean != "/" {
                clean.push('/');
            }
            clean.push('.');
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_rules() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/../..", ".."),
            ("/..", "/"),
            ("./a", "a"),
            ("a/./b/../c", "a/c"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        for (parent, path, expected) in [
            ("/w", "a", "/w/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", ".", "/w"),
            ("/w", "./", "/w/"),
            ("/w", "a/.", "/w/a/."),
            ("/", "/.", "/."),
            ("/w", "/", "/"),
            ("", "x", "/x"),
        ] {
            assert_eq!(of_action(parent, path, true), expected, "{parent} {path}");
        }
        assert_eq!(of_action("/w", "a/", false), "/w/a");
    }
}
