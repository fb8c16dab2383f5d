//! Looks at the program before a runtime does, whose messages and exit codes do not tell a missing program from a failing
//! one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::view::View;
use crate::error::StepError;
use crate::inroot::Place;
use crate::step::Process;
use crate::user::UserIds;

/// Linux reads so much of a file to find out how to execute it (BINPRM_BUF_SIZE).
const START: u64 = 256;

/// Checks that the step's program is there and can be executed.
pub(super) fn check(view: &View, process: &Process, cwd: &Path, user: &UserIds) -> Result<(), StepError> {
    let program = process.args.first().map(String::as_str).unwrap_or_default();
    if program.is_empty() {
        return Err(StepError::Invalid("it has no program to execute".to_owned()));
    }
    let candidates: Vec<PathBuf> = if program.contains('/') {
        vec![cwd.join(program)]
    } else {
        let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        path.unwrap_or_default().split(':').map(|dir| cwd.join(dir).join(program)).collect()
    };
    let mut refused = None;
    for candidate in &candidates {
        let located = match view.locate(candidate) {
            Ok(located) => located,
            Err(_) => continue,
        };
        // Inside what the runtime makes nobody can look yet.
        let Some(place) = located.place else { return Ok(()) };
        match place.kind() {
            Some(FileType::RegularFile) if may_execute(&place, user) => {
                return interpreter(view, program, &place);
            }
            Some(FileType::RegularFile) => refused = refused.or(Some("permission denied")),
            Some(FileType::Directory) => refused = refused.or(Some("is a directory")),
            Some(_) => refused = refused.or(Some("is no regular file")),
            None => {}
        }
    }
    let program = program.to_owned();
    match refused {
        Some(problem) => Err(StepError::NotExecutable { program, problem: problem.to_owned() }),
        None if program.contains('/') => {
            Err(StepError::NotFound { program, problem: "no such file or directory".to_owned() })
        }
        None => {
            Err(StepError::NotFound { program, problem: "executable file not found in $PATH".to_owned() })
        }
    }
}

/// Tells by the permission bits whether a user may execute a file; the kernel has the last word.
fn may_execute(place: &Place, user: &UserIds) -> bool {
    let Ok(stat) = rustix::fs::fstat(place.fd()) else { return false };
    let bits = if user.uid == 0 {
        0o111
    } else if user.uid == stat.st_uid {
        0o100
    } else if user.gid == stat.st_gid || user.groups.contains(&stat.st_gid) {
        0o010
    } else {
        0o001
    };
    stat.st_mode & bits != 0
}

/// Checks that a script's interpreter is there: without it the kernel says of the script that it does not exist.
fn interpreter(view: &View, program: &str, place: &Place) -> Result<(), StepError> {
    let Ok(start) = read_start(place) else { return Ok(()) };
    let Some(line) = start.strip_prefix(b"#!") else {
        if start.starts_with(b"\x7fELF") || knows_other_formats() {
            return Ok(());
        }
        let problem =
            "exec format error: it is neither a program nor a script that begins with `#!`".to_owned();
        return Err(StepError::NotExecutable { program: program.to_owned(), problem });
    };
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
    // Space and tab only: the carriage return of a Windows line belongs to the name, for the kernel too.
    let name = line.split(|&b| b == b' ' || b == b'\t').find(|word| !word.is_empty()).unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let missing = match view.locate(Path::new(&*name)) {
        Ok(located) => located.place.is_some_and(|place| !place.exists()),
        Err(_) => true,
    };
    if name.is_empty() || !missing {
        return Ok(());
    }
    let mut problem = format!("its interpreter `{name}` does not exist");
    if name.ends_with('\r') {
        problem = format!(
            "its interpreter `{}` does not exist: the file has Windows line ends",
            name.escape_debug()
        );
    }
    Err(StepError::NotExecutable { program: program.to_owned(), problem })
}

/// Tells whether the kernel was told of formats beside its own (binfmt_misc): then only it can say.
fn knows_other_formats() -> bool {
    std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|entries| {
        entries.flatten().any(|entry| !matches!(entry.file_name().to_str(), Some("register" | "status")))
    })
}

fn read_start(place: &Place) -> io::Result<Vec<u8>> {
    // A regular file, which was looked up inside the root; the link of /proc leads to that very file.
    let file = File::open(format!("/proc/self/fd/{}", place.fd().as_raw_fd()))?;
    let mut start = Vec::new();
    file.take(START).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::inroot::open_dir;

    #[test]
    fn programs_that_cannot_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("bin/dir")).unwrap();
        std::fs::create_dir_all(root.join("usr")).unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            std::fs::write(root.join(name), text).unwrap();
            std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("bin/good", "#!/bin/sh -e\n", 0o755);
        write("bin/sh", "\x7fELF", 0o755);
        write("bin/plain", "text", 0o644);
        write("bin/lost", "#! /no/interpreter x\n", 0o755);
        write("bin/dos", "#!/bin/sh\r\n", 0o755);
        write("bin/owner", "#!/bin/sh\n", 0o700);
        write("bin/noise", "\0\0", 0o755);
        symlink("/bin/good", root.join("usr/link")).unwrap();
        let view = View::new(open_dir(rustix::fs::CWD, root).unwrap());
        let run = |program: &str, uid: u32| {
            let process = Process {
                args: vec![program.to_owned()],
                env: vec!["PATH=/none:/bin:/usr".to_owned()],
                ..Process::default()
            };
            let user = UserIds { uid, gid: uid, groups: vec![] };
            match check(&view, &process, Path::new("/usr"), &user) {
                Ok(()) => "ok".to_owned(),
                Err(error) => format!("{} {error}", error.exit_code().unwrap_or(0)),
            }
        };
        let own = rustix::process::getuid().as_raw();
        for (program, uid, want) in [
            ("good", 0, "ok"),
            ("link", 0, "ok"),
            ("./link", 0, "ok"),
            ("../bin/sh", 0, "ok"),
            ("owner", own, "ok"),
            ("owner", own + 1, "126 exec: `owner`: permission denied"),
            ("plain", 0, "126 exec: `plain`: permission denied"),
            ("dir", 0, "126 exec: `dir`: is a directory"),
            ("lost", 0, "126 exec: `lost`: its interpreter `/no/interpreter` does not exist"),
            ("nope", 0, "127 exec: `nope`: executable file not found in $PATH"),
            ("/nope", 0, "127 exec: `/nope`: no such file or directory"),
            ("", 0, "0 invalid step: it has no program to execute"),
        ] {
            assert_eq!(run(program, uid), want, "{program}");
        }
        assert!(run("dos", 0).contains("Windows line ends"));
        assert!(knows_other_formats() || run("noise", 0).contains("exec format error"));
    }
}
