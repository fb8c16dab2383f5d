//! The process of a container.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process as Asked;

use crate::error::Error;
use crate::plan::capabilities::{self, Capabilities};
use crate::plan::limits::{self, Limit};

/// What is executed, as whom, with which rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) capabilities: Capabilities,
    pub(crate) limits: Vec<Limit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    /// It gets a terminal, of so many rows and columns.
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) label: Option<Label>,
}

/// What a security module calls the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Label {
    AppArmor(String),
    Selinux(String),
}

/// Where programs are looked for without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn plan(asked: &Asked) -> Result<Process, Error> {
    let user = asked.user();
    if user.username().as_ref().is_some_and(|name| !name.is_empty()) {
        return Err(Error::Unsupported {
            what: "`process.user.username`".to_owned(),
            remedy: "give the numbers",
        });
    }
    let args = strings(asked.args().as_deref().unwrap_or_default(), "process.args")?;
    if args.first().is_none_or(|first| first.is_empty()) {
        return Err(Error::config("`process.args` names no program"));
    }
    let cwd = super::inside(asked.cwd(), "process.cwd")?;
    let size = asked.console_size();
    let terminal = asked.terminal().unwrap_or(false).then(|| {
        let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
        size.as_ref().map_or((0, 0), |size| (side(size.height()), side(size.width())))
    });
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let label = match (filled(asked.apparmor_profile()), filled(asked.selinux_label())) {
        (Some(_), Some(_)) => {
            return Err(Error::config("`apparmorProfile` and `selinuxLabel` are of two security modules"));
        }
        (Some(profile), None) => Some(Label::AppArmor(profile)),
        (None, label) => label.map(Label::Selinux),
    };
    Ok(Process {
        args,
        env: strings(asked.env().as_deref().unwrap_or_default(), "process.env")?,
        cwd,
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022) & 0o777,
        capabilities: capabilities::plan(asked.capabilities().as_ref()),
        limits: limits::plan(asked.rlimits().as_deref().unwrap_or_default())?,
        no_new_privileges: asked.no_new_privileges().unwrap_or(false),
        oom_score_adj: asked.oom_score_adj(),
        terminal,
        label,
    })
}

impl Process {
    /// Returns the paths at which the program may be, in the order in which they are tried.
    pub(crate) fn candidates(&self) -> Vec<CString> {
        let Some(program) = self.args.first() else { return Vec::new() };
        if program.as_bytes().contains(&b'/') {
            return vec![program.clone()];
        }
        let path = self.variable("PATH").unwrap_or(DEFAULT_PATH.as_bytes());
        path.split(|byte| *byte == b':')
            .filter_map(|dir| {
                // An empty part is the working directory.
                let dir = if dir.is_empty() { b"." } else { dir };
                CString::new([dir, b"/", program.as_bytes()].concat()).ok()
            })
            .collect()
    }

    /// Returns a variable of the environment; the last one counts.
    pub(crate) fn variable(&self, name: &str) -> Option<&[u8]> {
        let value = |entry: &'_ CString| -> Option<usize> {
            let rest = entry.as_bytes().strip_prefix(name.as_bytes())?;
            rest.first().filter(|byte| **byte == b'=').map(|_| name.len() + 1)
        };
        self.env.iter().rev().find_map(|entry| entry.as_bytes().get(value(entry)?..))
    }
}

/// Finds the home directory of a user in the text of a `passwd`.
pub(crate) fn home_of(passwd: &[u8], uid: u32) -> PathBuf {
    let uid = uid.to_string();
    let home = passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        (fields.nth(2)? == uid.as_bytes()).then_some(())?;
        fields.nth(2).filter(|home| !home.is_empty())
    });
    let home =
        home.map(|home| PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(home)));
    home.unwrap_or_else(|| Path::new("/").to_owned())
}

fn strings(texts: &[String], what: &str) -> Result<Vec<CString>, Error> {
    let wrong = |text: &String| Error::config(format!("`{what}`: {text:?} has a zero byte in it"));
    texts.iter().map(|text| CString::new(text.as_str()).map_err(|_| wrong(text))).collect()
}
