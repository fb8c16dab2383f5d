use std::io;

use crate::file::Root;

/// The ids that a `USER` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, as the group file lists them; without the primary one unless listed.
    pub groups: Vec<u32>,
}

/// Why a user or group cannot be found. The words are those that BuildKit's users know.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name is not in `/etc/passwd`, or there is no such file.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// The name is not in `/etc/group`, or there is no such file.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// The number is not an id.
    #[error("uids and gids must be in range 0-2147483647, not `{0}`")]
    Range(String),
    /// A file of names cannot be read.
    #[error("failed to read `{path}` of the root")]
    Read {
        /// Which file.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Larger files of names are refused: they are read whole.
const MAX_FILE: u64 = 10 << 20;
/// Ids above are refused, as Docker and containerd do.
const MAX_ID: i64 = i32::MAX as i64;

impl UserIds {
    /// Finds what `spec` stands for in a root: `name`, `uid`, `name:group`, `uid:gid` and mixtures. Empty is root.
    ///
    /// A number is always an id, even if a user has it as its name. Supplementary groups are those that list the user,
    /// unless the group is given.
    pub fn find(root: &Root, spec: &str) -> Result<Self, UserError> {
        if let Some((user, group)) = spec.split_once(':')
            && let (Some(uid), Some(gid)) = (plain_id(user), plain_id(group))
        {
            return Ok(Self { uid, gid, groups: Vec::new() });
        }
        let passwd = read(root, "/etc/passwd")?;
        let group = read(root, "/etc/group")?;
        match Self::find_in(if spec.is_empty() { "0" } else { spec }, &passwd, &group) {
            Err(_) if spec.is_empty() => Ok(Self::default()),
            other => other,
        }
    }

    /// The same on the texts of the two files.
    fn find_in(spec: &str, passwd: &[u8], group: &[u8]) -> Result<Self, UserError> {
        let mut parts = spec.split(':');
        let user_arg = parts.next().unwrap_or_default();
        let group_arg = parts.next().unwrap_or_default();
        let uid_arg = numeric(user_arg)?;
        let gid_arg = numeric(group_arg)?;

        let mut ids = Self::default();
        let found = users(passwd).find(|user| match (user_arg, uid_arg) {
            ("", _) => user.uid == 0,
            (_, Some(uid)) => user.uid == i64::from(uid),
            (name, None) => user.name == name.as_bytes(),
        });
        match (&found, uid_arg) {
            (Some(user), _) => {
                ids.uid = id(user.uid)?;
                ids.gid = id(user.gid)?;
            }
            (None, Some(uid)) => ids.uid = uid,
            (None, None) if user_arg.is_empty() => {}
            (None, None) => return Err(UserError::NoUser(user_arg.to_owned())),
        }
        if !group_arg.is_empty() {
            let found = groups(group).find(|group| match gid_arg {
                Some(gid) => group.gid == i64::from(gid),
                None => group.name == group_arg.as_bytes(),
            });
            ids.gid = match (found, gid_arg) {
                (Some(group), _) => id(group.gid)?,
                (None, Some(gid)) => gid,
                (None, None) => return Err(UserError::NoGroup(group_arg.to_owned())),
            };
        } else if let Some(user) = found.filter(|user| !user.name.is_empty()) {
            for group in groups(group).filter(|group| group.members().any(|member| member == user.name)) {
                ids.groups.push(id(group.gid)?);
            }
        }
        Ok(ids)
    }
}

/// Finds a user by name alone, as the owner of a copy: its uid and gid.
pub(crate) fn user_by_name(root: &Root, name: &str) -> Result<Option<(u32, u32)>, UserError> {
    let passwd = read(root, "/etc/passwd")?;
    let found = users(&passwd).find(|user| user.name == name.as_bytes());
    found.map(|user| Ok((id(user.uid)?, id(user.gid)?))).transpose()
}

/// Finds a group by name alone.
pub(crate) fn group_by_name(root: &Root, name: &str) -> Result<Option<u32>, UserError> {
    let group = read(root, "/etc/group")?;
    let found = groups(&group).find(|group| group.name == name.as_bytes());
    found.map(|group| id(group.gid)).transpose()
}

struct User<'a> {
    name: &'a [u8],
    uid: i64,
    gid: i64,
}

struct Group<'a> {
    name: &'a [u8],
    gid: i64,
    list: &'a [u8],
}

impl Group<'_> {
    fn members(&self) -> impl Iterator<Item = &[u8]> {
        self.list.split(|&b| b == b',').filter(|member| !member.is_empty())
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().unwrap_or_default();
        let mut number = |skip| loose_number(fields.nth(skip).unwrap_or_default());
        User { name, uid: number(1), gid: number(0) }
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter(|line| !line.starts_with(b"#")).map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().unwrap_or_default();
        let gid = loose_number(fields.nth(1).unwrap_or_default());
        Group { name, gid, list: fields.next().unwrap_or_default() }
    })
}

/// Reads a number of a file of names; what is none counts as 0, because such files are found in images.
fn loose_number(text: &[u8]) -> i64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Reads what may be an id: `None` for a name.
fn numeric(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let range = || UserError::Range(text.to_owned());
    text.parse::<i64>().map_err(|_| range()).and_then(id).map(Some).map_err(|_| range())
}

fn id(number: i64) -> Result<u32, UserError> {
    if (0..=MAX_ID).contains(&number) { Ok(number as u32) } else { Err(UserError::Range(number.to_string())) }
}

/// The short way for `uid:gid`, where no file is asked and `root` stands for 0.
fn plain_id(text: &str) -> Option<u32> {
    if text == "root" {
        Some(0)
    } else {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
    }
}

fn read(root: &Root, path: &'static str) -> Result<Vec<u8>, UserError> {
    match root.read_file(path, MAX_FILE) {
        Ok(text) => Ok(text),
        // A root without the file knows no names.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(source) => Err(UserError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\napp:x:1000:1001:::\n  1234:x:77:78::/:\nbad:x:x:y\nshort\nlow:x:5:6\nhuge:x:4294967296:0\n";
    const GROUP: &[u8] = b"# comment\nroot:x:0:\nwheel:x:10:root,app\naudio:x:29:app\nstaff:x:50:other\nnum:x:1234:\nhuge:x:99999999999:low\n";

    fn ids(uid: u32, gid: u32, groups: &[u32]) -> UserIds {
        UserIds { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn specs() {
        for (spec, want) in [
            ("root", ids(0, 0, &[10])),
            ("0", ids(0, 0, &[10])),
            ("app", ids(1000, 1001, &[10, 29])),
            ("1000", ids(1000, 1001, &[10, 29])),
            ("app:staff", ids(1000, 50, &[])),
            ("app:7", ids(1000, 7, &[])),
            ("app:", ids(1000, 1001, &[10, 29])),
            ("1234", ids(1234, 0, &[])),
            ("1234:num", ids(1234, 1234, &[])),
            ("99:50", ids(99, 50, &[])),
            (":staff", ids(0, 50, &[])),
            ("bad", ids(0, 0, &[])),
            ("short", ids(0, 0, &[])),
            ("2147483647", ids(2_147_483_647, 0, &[])),
        ] {
            assert_eq!(UserIds::find_in(spec, PASSWD, GROUP).unwrap(), want, "{spec}");
        }
        for (spec, want) in [
            ("nobody", "unable to find user nobody: no matching entries in passwd file"),
            ("app:none", "unable to find group none: no matching entries in group file"),
            ("2147483648", "uids and gids must be in range 0-2147483647, not `2147483648`"),
            ("-1", "uids and gids must be in range 0-2147483647, not `-1`"),
            (
                "99999999999999999999",
                "uids and gids must be in range 0-2147483647, not `99999999999999999999`",
            ),
            ("huge", "uids and gids must be in range 0-2147483647, not `4294967296`"),
            ("low", "uids and gids must be in range 0-2147483647, not `99999999999`"),
        ] {
            assert_eq!(UserIds::find_in(spec, PASSWD, GROUP).unwrap_err().to_string(), want, "{spec}");
        }
    }

    #[test]
    fn in_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(UserIds::find(&root, "").unwrap(), UserIds::default());
        assert_eq!(UserIds::find(&root, "7:8").unwrap(), ids(7, 8, &[]));
        assert_eq!(UserIds::find(&root, "root:8").unwrap(), ids(0, 8, &[]));
        assert!(matches!(UserIds::find(&root, "root"), Err(UserError::NoUser(_))));

        // Links are followed inside the root only.
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("names"), PASSWD).unwrap();
        std::os::unix::fs::symlink("/names", dir.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("../../../../../../../names", dir.path().join("etc/group")).unwrap();
        assert_eq!(UserIds::find(&root, "app").unwrap().uid, 1000);
        std::fs::remove_file(dir.path().join("names")).unwrap();
        assert!(matches!(UserIds::find(&root, "root"), Err(UserError::NoUser(_))));

        // A directory or a pipe is no file of names, and a pipe is not waited for.
        std::fs::remove_file(dir.path().join("etc/passwd")).unwrap();
        std::fs::create_dir(dir.path().join("etc/passwd")).unwrap();
        assert!(matches!(UserIds::find(&root, "app"), Err(UserError::Read { .. })));
    }
}
