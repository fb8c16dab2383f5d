//! What `git ls-remote` prints.

use super::{Resolved, is_hash};

/// Reads the default branch from the answer about `HEAD`.
pub(super) fn default_branch(listed: &str) -> Option<String> {
    let line = listed.lines().find_map(|line| line.strip_prefix("ref: "))?;
    let (name, head) = line.split_once('\t')?;
    (head == "HEAD" && name.starts_with("refs/heads/")).then(|| name.to_owned())
}

/// Chooses among references that end with a name: the one of exactly this name below `refs/`, else a branch, else a tag,
/// as `git checkout` does.
pub(super) fn choose(name: &str, listed: &str) -> Option<Resolved> {
    let below = |prefix: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
    let find = |wanted: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(_, name)| *name == wanted).map(|(hash, _)| hash.to_owned()).filter(|hash| is_hash(hash))
    };
    for wanted in [below("refs/"), below("refs/heads/"), below("refs/tags/")] {
        if let Some(object) = find(&wanted) {
            let commit = find(&format!("{wanted}^{{}}"));
            return Some(Resolved { name: wanted, object, commit });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_references_one_is_meant() {
        let (branch, tag, peeled, pull) = ("1".repeat(40), "2".repeat(40), "3".repeat(40), "4".repeat(40));
        let listed = format!(
            "{branch}\trefs/heads/v1\n{branch}\trefs/heads/other/v1\n{tag}\trefs/tags/v1\n{peeled}\trefs/tags/v1^{{}}\n\
             {tag}\trefs/tags/t\n{peeled}\trefs/tags/t^{{}}\n{pull}\trefs/pull/1/head\nbad\trefs/heads/bad\n"
        );
        for (name, expected, object, commit) in [
            ("v1", "refs/heads/v1", &branch, None),
            ("refs/heads/v1", "refs/heads/v1", &branch, None),
            ("refs/tags/v1", "refs/tags/v1", &tag, Some(&peeled)),
            ("tags/v1", "refs/tags/v1", &tag, Some(&peeled)),
            ("t", "refs/tags/t", &tag, Some(&peeled)),
            ("pull/1/head", "refs/pull/1/head", &pull, None),
        ] {
            let found = choose(name, &listed).unwrap();
            assert_eq!(
                (found.name.as_str(), &found.object, found.commit.as_ref()),
                (expected, object, commit),
                "{name}"
            );
        }
        for name in ["v", "bad", "head", ""] {
            assert_eq!(choose(name, &listed), None, "{name}");
        }
    }

    #[test]
    fn the_default_branch() {
        let hash = "1".repeat(40);
        assert_eq!(
            default_branch(&format!("ref: refs/heads/main\tHEAD\n{hash}\tHEAD\n")).as_deref(),
            Some("refs/heads/main")
        );
        assert_eq!(default_branch(&format!("{hash}\tHEAD\n")), None);
        assert_eq!(default_branch("ref: refs/tags/x\tHEAD\n"), None);
    }
}
