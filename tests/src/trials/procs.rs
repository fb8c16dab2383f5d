//! Looking at processes, locks and groups from outside.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// All processes, by number: the parent and the words.
#[derive(Debug)]
pub struct Tree(BTreeMap<i32, (i32, Vec<String>)>);

impl Tree {
    /// Looks at the machine.
    pub fn now() -> Self {
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // Behind the name, which may hold anything: state, parent.
            let Some((_, rest)) = stat.rsplit_once(')') else { continue };
            let mut rest = rest.split_whitespace();
            let (state, parent) = (rest.next(), rest.next().and_then(|parent| parent.parse().ok()));
            let (Some(parent), false) = (parent, state == Some("Z")) else { continue };
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = words.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
            all.insert(pid, (parent, words.collect()));
        }
        Self(all)
    }

    /// Lists a process's descendants, nearest first.
    pub fn below(&self, top: i32) -> Vec<i32> {
        let mut out = vec![top];
        let mut at = 0;
        while let Some(&parent) = out.get(at) {
            out.extend(self.0.iter().filter(|(_, (above, _))| *above == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        out.remove(0);
        out
    }

    /// Tells whether a process's program has this file name.
    pub fn runs(&self, pid: i32, program: &str) -> bool {
        self.0.get(&pid).and_then(|(_, words)| words.first()).is_some_and(|first| first.ends_with(program))
    }

    /// Lists processes that have a text in one of their words.
    pub fn with(&self, text: &str) -> Vec<i32> {
        let has = |words: &Vec<String>| words.iter().any(|word| word.contains(text));
        self.0.iter().filter(|(_, (_, words))| has(words)).map(|(pid, _)| *pid).collect()
    }
}

/// Counts processes that have a text in one of their words.
pub fn processes_with(text: &str) -> usize {
    Tree::now().with(text).len()
}

/// Tells whether anybody holds a lock on a file.
pub fn holds_locks(path: &Path) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return false };
    let inode = format!(":{}", meta.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    // 1: OFDLCK ADVISORY  WRITE -1 fe:01:1234 5 5
    locks.lines().any(|line| line.split_whitespace().any(|word| word.ends_with(&inode)))
}

/// Sends a signal, as `-TERM`, by the shell: a small system has no program for it. Who is gone already is gone.
pub fn kill(pid: impl std::fmt::Display, signal: &str) {
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(format!("kill {signal} {pid}")).stderr(std::process::Stdio::null());
    let _ = shell.status();
}
