//! The command line, which is runc's.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Error;

/// What is to be done, with what stands before it on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// `--root`: where the states of containers are.
    pub(crate) root: Option<PathBuf>,
    /// `--log`: where errors are written to, besides standard error.
    pub(crate) log: Option<PathBuf>,
    /// `--log-format json`.
    pub(crate) json: bool,
    pub(crate) command: Command,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Version,
    Help,
    /// Creates a container, and starts it at once where `start` says so.
    Create(Create),
    Start(String),
    State(String),
    Kill {
        id: String,
        signal: i32,
        all: bool,
    },
    Delete {
        id: String,
        force: bool,
    },
}

/// What `create` and `run` are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Create {
    pub(crate) id: String,
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) preserve_fds: u32,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// `run`: the process is started without waiting for `start`.
    pub(crate) start: bool,
    /// `run --detach`: the process is not waited for.
    pub(crate) detach: bool,
    /// `run --keep`: the state stays after the end.
    pub(crate) keep: bool,
}

/// The text of `--help`.
pub(crate) const HELP: &str = "\
usage: cooper oci-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND
  run     [-b DIR] [-d] [--keep] [--no-pivot] [--no-new-keyring] [--pid-file FILE] [--console-socket PATH]
          [--preserve-fds N] ID
  create  the same without -d and --keep
  start   ID
  state   ID
  kill    [--all] ID [SIGNAL]
  delete  [--force] ID
The command line is runc's. ID is a name; DIR is a bundle with config.json in it.
";

/// Reads the words after the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Line, Error> {
    let mut words = Words { rest: args.into_iter().collect::<Vec<_>>().into_iter(), value: None };
    let mut line = Line { root: None, log: None, json: false, command: Command::Help };
    let command = loop {
        let Some(word) = words.next()? else { return Ok(line) };
        match &*word {
            "--root" => line.root = Some(words.value("--root")?.into()),
            "--log" => line.log = Some(words.value("--log")?.into()),
            "--log-format" => line.json = words.text("--log-format")? == "json",
            // The journal of groups is systemd's own: what it makes must be asked for over its bus.
            "--systemd-cgroup" => {
                return Err(usage("`--systemd-cgroup` is not supported: use the manager `cgroupfs`"));
            }
            // Without root everything is the same here; there is nothing to be told.
            "--rootless" => drop(words.text("--rootless")?),
            "--debug" => {}
            "--version" | "-v" => {
                line.command = Command::Version;
                return Ok(line);
            }
            "--help" | "-h" => return Ok(line),
            word if word.starts_with('-') => return Err(unknown(word)),
            _ => break word,
        }
    };
    line.command = match &*command {
        "run" | "create" => create(&mut words, command == "run")?,
        "start" => Command::Start(id_only(&mut words)?),
        "state" => Command::State(id_only(&mut words)?),
        "kill" => kill(&mut words)?,
        "delete" => delete(&mut words)?,
        "help" => Command::Help,
        other => return Err(usage(format!("`{other}` is no command of this runtime; see --help"))),
    };
    Ok(line)
}

fn create(words: &mut Words, start: bool) -> Result<Command, Error> {
    let mut create = Create { start, ..Create::default() };
    let mut id = None;
    while let Some(word) = words.next()? {
        match &*word {
            "--bundle" | "-b" => create.bundle = Some(words.value(&word)?.into()),
            "--console-socket" => create.console_socket = Some(words.value(&word)?.into()),
            "--pid-file" => create.pid_file = Some(words.value(&word)?.into()),
            "--preserve-fds" => {
                let text = words.text(&word)?;
                let number =
                    text.parse().map_err(|_| usage(format!("`--preserve-fds {text}` is no number")))?;
                create.preserve_fds = number;
            }
            "--no-pivot" => create.no_pivot = true,
            "--no-new-keyring" => create.no_new_keyring = true,
            // Whoever has no children of its own has none to collect.
            "--no-subreaper" if start => {}
            "--detach" | "-d" if start => create.detach = true,
            "--keep" if start => create.keep = true,
            word if word.starts_with('-') => return Err(unknown(word)),
            word => one_id(&mut id, word)?,
        }
    }
    create.id = id.ok_or_else(|| usage("a name for the container is missing"))?;
    Ok(Command::Create(create))
}

fn kill(words: &mut Words) -> Result<Command, Error> {
    let (mut all, mut names) = (false, Vec::new());
    while let Some(word) = words.next()? {
        match &*word {
            "--all" | "-a" => all = true,
            word if word.starts_with('-') => return Err(unknown(word)),
            word => names.push(word.to_owned()),
        }
    }
    let (id, number) = match names.as_slice() {
        [id] => (id, libc::SIGTERM),
        [id, name] => (id, signal(name).ok_or_else(|| usage(format!("`{name}` is no signal")))?),
        _ => return Err(usage("`kill` takes a container and a signal")),
    };
    check_id(id)?;
    Ok(Command::Kill { id: id.clone(), signal: number, all })
}

fn delete(words: &mut Words) -> Result<Command, Error> {
    let (mut force, mut id) = (false, None);
    while let Some(word) = words.next()? {
        match &*word {
            "--force" | "-f" => force = true,
            word if word.starts_with('-') => return Err(unknown(word)),
            word => one_id(&mut id, word)?,
        }
    }
    let id = id.ok_or_else(|| usage("a container's name is missing"))?;
    Ok(Command::Delete { id, force })
}

fn id_only(words: &mut Words) -> Result<String, Error> {
    let mut id = None;
    while let Some(word) = words.next()? {
        if word.starts_with('-') {
            return Err(unknown(&word));
        }
        one_id(&mut id, &word)?;
    }
    id.ok_or_else(|| usage("a container's name is missing"))
}

fn one_id(id: &mut Option<String>, word: &str) -> Result<(), Error> {
    check_id(word)?;
    match id.replace(word.to_owned()) {
        None => Ok(()),
        Some(_) => Err(usage(format!("`{word}` is one word too many"))),
    }
}

/// A name becomes the name of a folder.
fn check_id(id: &str) -> Result<(), Error> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > 255 || !id.bytes().all(fine) || id.bytes().all(|byte| byte == b'.') {
        return Err(usage(format!("`{id}` is no name for a container: letters, digits and _+-. are")));
    }
    Ok(())
}

/// Numbers and names of signals, with or without `SIG`, in any case.
pub(crate) fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// Words one after the other; `--flag=value` counts as two.
struct Words {
    rest: std::vec::IntoIter<OsString>,
    value: Option<OsString>,
}

impl Words {
    fn next(&mut self) -> Result<Option<String>, Error> {
        if let Some(value) = self.value.take() {
            return Err(usage(format!("`{}` is a value that nothing takes", value.display())));
        }
        let Some(word) = self.rest.next() else { return Ok(None) };
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(&*word);
        let split = bytes.iter().position(|byte| *byte == b'=').filter(|_| bytes.starts_with(b"--"));
        let (name, value) = match split.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?))) {
            Some((name, value)) => (name, Some(value)),
            None => (bytes, None),
        };
        self.value = value
            .map(|value| <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(value).to_owned());
        match std::str::from_utf8(name) {
            Ok(name) => Ok(Some(name.to_owned())),
            Err(_) => Err(usage(format!("`{}` is not understood", word.display()))),
        }
    }

    fn value(&mut self, flag: &str) -> Result<OsString, Error> {
        let value = self.value.take().or_else(|| self.rest.next());
        value.ok_or_else(|| usage(format!("`{flag}` needs a value")))
    }

    fn text(&mut self, flag: &str) -> Result<String, Error> {
        let value = self.value(flag)?;
        value.into_string().map_err(|value| usage(format!("`{flag} {}` is not text", value.display())))
    }
}

fn usage(text: impl Into<String>) -> Error {
    Error::Usage(text.into())
}

fn unknown(flag: &str) -> Error {
    usage(format!("`{flag}` is no flag of this runtime, or not here; see --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, String> {
        parse(text.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_executor_and_podman_say() {
        let got =
            line("--root /s --log=/l --log-format json run --bundle /b --no-pivot --keep cooper-1").unwrap();
        assert_eq!((got.root, got.log, got.json), (Some("/s".into()), Some("/l".into()), true));
        let Command::Create(create) = got.command else { panic!() };
        assert_eq!((&*create.id, create.bundle), ("cooper-1", Some("/b".into())));
        assert!(create.start && create.keep && create.no_pivot && !create.detach);
        let got = line("create --bundle /b --pid-file /p --console-socket=/c x.1").unwrap().command;
        let Command::Create(create) = got else { panic!() };
        assert!(!create.start);
        assert_eq!((create.pid_file, create.console_socket), (Some("/p".into()), Some("/c".into())));
        for (text, signal) in
            [("kill x", 15), ("kill x KILL", 9), ("kill --all x sigint", 2), ("kill x 10", 10)]
        {
            let Command::Kill { id, signal: got, .. } = line(text).unwrap().command else { panic!() };
            assert_eq!((&*id, got), ("x", signal), "{text}");
        }
        assert_eq!(line("delete -f x").unwrap().command, Command::Delete { id: "x".into(), force: true });
        assert_eq!(line("--version").unwrap().command, Command::Version);
        assert_eq!(line("").unwrap().command, Command::Help);
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "--systemd-cgroup run x",
            "run",
            "run ../x",
            "run ..",
            "run a/b",
            "run a b",
            "run --keep=yes x",
            "create --keep x",
            "run --unknown x",
            "kill x NOSUCH",
            "kill x 99",
            "exec x true",
            "run --preserve-fds many x",
            "run --bundle",
        ] {
            assert!(line(text).is_err(), "{text}");
        }
    }
}
