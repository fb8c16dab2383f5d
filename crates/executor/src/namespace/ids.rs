use std::io;
use std::path::PathBuf;

/// A map of ids: extents of (inside, outside, length).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct IdMap(pub(super) Vec<(u32, u32, u32)>);

impl IdMap {
    /// The map of a machine's first user namespace.
    pub(super) fn identity() -> Self {
        Self(vec![(0, 0, u32::MAX)])
    }

    /// Counts the ids inside.
    pub(super) fn count(&self) -> u32 {
        self.0.iter().fold(0, |sum: u32, extent| sum.saturating_add(extent.2))
    }

    /// Reads the form of `/proc/PID/uid_map`; lines that are none are left out.
    pub(super) fn parse(text: &str) -> Self {
        let extents = text.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let mut next = || numbers.next()?.ok();
            Some((next()?, next()?, next()?))
        });
        Self(extents.collect())
    }

    /// Maps 0 to `own` and then, from 1, the given ranges (start, length), as many as the kernel takes.
    fn with_subordinate(own: u32, ranges: &[(u32, u32)]) -> Self {
        let mut extents = vec![(0, own, 1)];
        let mut inside: u32 = 1;
        // Linux takes 340 extents.
        for &(start, length) in ranges.iter().take(339) {
            // The own id cannot be mapped twice, and no id may lie beyond the end.
            let overlaps = (start..start.saturating_add(length)).contains(&own);
            let Some(end) = inside.checked_add(length) else { break };
            if length == 0 || overlaps || start.checked_add(length).is_none() {
                continue;
            }
            extents.push((inside, start, length));
            inside = end;
        }
        Self(extents)
    }
}

/// The maps for a user with subordinate ids, and the programs that may set them.
#[derive(Debug)]
pub(super) struct Subordinate {
    pub(super) uids: IdMap,
    pub(super) gids: IdMap,
    pub(super) newuidmap: PathBuf,
    pub(super) newgidmap: PathBuf,
}

pub(super) fn map_of_process(path: &str) -> io::Result<IdMap> {
    Ok(IdMap::parse(&std::fs::read_to_string(path)?))
}

/// Finds the subordinate ids of a user; `None` if there are none or nothing that could map them.
pub(super) fn subordinate(uid: u32, gid: u32) -> Option<Subordinate> {
    let newuidmap = crate::search::program("newuidmap")?;
    let newgidmap = crate::search::program("newgidmap")?;
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, uid);
    let ranges = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        parse_subids(&text, uid, name)
    };
    let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
    if uids.is_empty() || gids.is_empty() {
        return None;
    }
    let (uids, gids) = (IdMap::with_subordinate(uid, &uids), IdMap::with_subordinate(gid, &gids));
    (uids.count() > 1 && gids.count() > 1).then_some(Subordinate { uids, gids, newuidmap, newgidmap })
}

/// Finds a user's name in the text of `/etc/passwd`.
fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Reads the form of `/etc/subuid` (subuid(5)): `NAME-OR-UID:START:COUNT` a line. Lines that are none are left out.
fn parse_subids(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        let own = Some(who) == name || who.parse() == Ok(uid);
        (own && fields.next().is_none()).then_some((start, count))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subid_files() {
        let text = "# comment\nann:100000:65536\n1000:300000:10\nbob:1:2\nann:x:1\nann:5\nann:7:8:9\n  ann:400000:1\n";
        assert_eq!(parse_subids(text, 1000, Some("ann")), [(100_000, 65_536), (300_000, 10), (400_000, 1)]);
        assert_eq!(parse_subids(text, 1000, None), [(300_000, 10)]);
        assert_eq!(parse_subids(text, 7, Some("eve")), []);
    }

    #[test]
    fn names() {
        let passwd = "root:x:0:0::/:/bin/sh\nshort\nann:x:1000:1000::/:\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(user_name(passwd, 5), None);
    }

    #[test]
    fn maps() {
        let map =
            IdMap::with_subordinate(1000, &[(100_000, 65_536), (900, 200), (5, 0), (u32::MAX, 2), (7, 3)]);
        assert_eq!(map.0, [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 7, 3)]);
        assert_eq!(map.count(), 65_540);
        assert_eq!(IdMap::parse("         0          0 4294967295\n"), IdMap::identity());
        assert_eq!(IdMap::parse("0 1000 1\n1 100000 65536\nbad\n").count(), 65_537);
    }
}
