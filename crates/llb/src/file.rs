//! File operations of one op, in the order in which they are done.

use crate::path;
use crate::pb;
use crate::state::State;
use crate::wire::NONE;

/// Who owns what an action makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user, by number or by a name that the base's `/etc/passwd` knows; `None` leaves it to the group or to root.
    pub user: Option<Id>,
    /// The group, likewise.
    pub group: Option<Id>,
}

/// A number, or a name that stands for one in the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// A number.
    Number(u32),
    /// A name.
    Name(String),
}

impl Owner {
    /// Reads `USER[:GROUP]`; `root` is 0 without looking it up.
    pub fn parse(text: &str) -> Self {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        Self { user: Some(Id::parse(user)), group: group.map(Id::parse) }
    }

    fn to_pb(&self, base: i64) -> pb::ChownOpt {
        let one = |id: &Option<Id>| {
            id.as_ref().map(|id| pb::UserOpt {
                user: Some(match id {
                    Id::Number(number) => pb::user_opt::User::ById(*number),
                    Id::Name(name) => {
                        pb::user_opt::User::ByName(pb::NamedUserOpt { name: name.clone(), input: base })
                    }
                }),
            })
        };
        pb::ChownOpt { user: one(&self.user), group: one(&self.group) }
    }
}

impl Id {
    /// Reads a number as Go's `strconv.ParseInt(s, 10, 32)` does; anything else is a name.
    fn parse(text: &str) -> Self {
        // No name is no name that could be looked up: `:wheel` leaves the user to be root.
        if text == "root" || text.is_empty() {
            return Self::Number(0);
        }
        match text.parse::<i32>() {
            // A negative number wraps, as the conversion in BuildKit does.
            Ok(number) => Self::Number(number as u32),
            Err(_) => Self::Name(text.to_owned()),
        }
    }
}

/// How a copy is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// New owner; `None` keeps the source's.
    pub owner: Option<Owner>,
    /// New mode; `None` keeps the source's.
    pub mode: Option<u32>,
    /// New mode in symbolic form (`u=rwX,go=rX`); counts before `mode`.
    pub mode_text: String,
    /// A link as the source stands for what it points to.
    pub follow_symlinks: bool,
    /// Of a directory only what is in it is copied.
    pub dir_contents: bool,
    /// An archive is unpacked.
    pub unpack: bool,
    /// Missing parents of the destination are made.
    pub create_dest: bool,
    /// `*`, `?` and `[` in the source are patterns.
    pub wildcard: bool,
    /// A pattern that matches nothing is no error.
    pub empty_wildcard: bool,
    /// Time of everything that is made, in nanoseconds since 1970; `None` keeps the source's.
    pub timestamp: Option<i64>,
    /// Only paths that match one of these.
    pub include: Vec<String>,
    /// No paths that match one of these.
    pub exclude: Vec<String>,
    /// What is in the way of a copy is removed.
    pub replace: bool,
    /// Paths that must be there.
    pub required: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Copy { from: Box<State>, src: String, dest: String, options: Box<CopyOptions> },
    Mkfile { path: String, mode: u32, data: Vec<u8>, owner: Option<Owner>, timestamp: Option<i64> },
    Mkdir { path: String, mode: u32, parents: bool, owner: Option<Owner>, timestamp: Option<i64> },
    Rm { path: String, allow_missing: bool, wildcard: bool },
    Symlink { target: String, path: String, owner: Option<Owner>, timestamp: Option<i64> },
}

/// File operations that make one op together: each starts from what the one before it left.
#[derive(Clone, Debug, Default)]
pub struct FileActions(pub(crate) Vec<Action>);

impl FileActions {
    /// Starts without any action.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies `src` of another state to `dest`.
    #[must_use]
    pub fn copy(mut self, from: &State, src: &str, dest: &str, options: CopyOptions) -> Self {
        let from = Box::new(from.clone());
        self.0.push(Action::Copy { from, src: src.into(), dest: dest.into(), options: Box::new(options) });
        self
    }

    /// Makes a file.
    #[must_use]
    pub fn mkfile(
        mut self,
        path: &str,
        mode: u32,
        data: Vec<u8>,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    ) -> Self {
        self.0.push(Action::Mkfile { path: path.into(), mode, data, owner, timestamp });
        self
    }

    /// Makes a directory.
    #[must_use]
    pub fn mkdir(
        mut self,
        path: &str,
        mode: u32,
        parents: bool,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    ) -> Self {
        self.0.push(Action::Mkdir { path: path.into(), mode, parents, owner, timestamp });
        self
    }

    /// Removes a path.
    #[must_use]
    pub fn rm(mut self, path: &str, allow_missing: bool, wildcard: bool) -> Self {
        self.0.push(Action::Rm { path: path.into(), allow_missing, wildcard });
        self
    }

    /// Makes a symbolic link.
    #[must_use]
    pub fn symlink(mut self, target: &str, path: &str, owner: Option<Owner>, timestamp: Option<i64>) -> Self {
        self.0.push(Action::Symlink { target: target.into(), path: path.into(), owner, timestamp });
        self
    }
}

impl Action {
    /// Writes the action; `base` is the input that names of owners are looked up in, `dir` what paths are relative to.
    pub(crate) fn to_pb(&self, dir: &str, base: i64) -> pb::file_action::Action {
        let owner = |owner: &Option<Owner>| owner.as_ref().map(|owner| owner.to_pb(base));
        let time = |time: &Option<i64>| time.unwrap_or(NONE);
        match self {
            Self::Copy { from, src, dest, options } => {
                pb::file_action::Action::Copy(pb::FileActionCopy {
                    src: source_path(from.dir(), src),
                    dest: path::of_action(dir, dest, true),
                    owner: owner(&options.owner),
                    mode: match options.mode {
                        _ if !options.mode_text.is_empty() => 0,
                        // As Go converts it; the twelve bits of a mode always fit.
                        Some(mode) => mode as i32,
                        None => -1,
                    },
                    follow_symlink: options.follow_symlinks,
                    dir_copy_contents: options.dir_contents,
                    attempt_unpack_docker_compatibility: options.unpack,
                    create_dest_path: options.create_dest,
                    allow_wildcard: options.wildcard,
                    allow_empty_wildcard: options.empty_wildcard,
                    timestamp: time(&options.timestamp),
                    include_patterns: options.include.clone(),
                    exclude_patterns: options.exclude.clone(),
                    always_replace_existing_dest_paths: options.replace,
                    mode_str: options.mode_text.clone(),
                    required_paths: options.required.clone(),
                })
            }
            Self::Mkfile { path, mode, data, owner: who, timestamp } => {
                pb::file_action::Action::Mkfile(pb::FileActionMkFile {
                    path: path::of_action(dir, path, false),
                    mode: (mode & 0o777) as i32,
                    data: data.clone(),
                    owner: owner(who),
                    timestamp: time(timestamp),
                })
            }
            Self::Mkdir { path, mode, parents, owner: who, timestamp } => {
                pb::file_action::Action::Mkdir(pb::FileActionMkDir {
                    path: path::of_action(dir, path, false),
                    mode: (mode & 0o777) as i32,
                    make_parents: *parents,
                    owner: owner(who),
                    timestamp: time(timestamp),
                })
            }
            Self::Rm { path, allow_missing, wildcard } => pb::file_action::Action::Rm(pb::FileActionRm {
                path: path::of_action(dir, path, false),
                allow_not_found: *allow_missing,
                allow_wildcard: *wildcard,
            }),
            Self::Symlink { target, path, owner: who, timestamp } => {
                pb::file_action::Action::Symlink(pb::FileActionSymlink {
                    oldpath: target.clone(),
                    newpath: path.clone(),
                    owner: owner(who),
                    timestamp: time(timestamp),
                })
            }
        }
    }
}

fn source_path(dir: &str, src: &str) -> String {
    let src = path::clean(src);
    if src.starts_with('/') { path::join("/", &src) } else { path::join(dir, &src) }
}
