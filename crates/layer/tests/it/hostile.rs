//! Hostile layers: each ends in a clear error or in a safe result, and nothing outside its folder is touched.
//!
//! Every case runs in a process of its own, with bounds on memory and time, so that a bomb is a failed test and not a
//! machine without memory. Beside the layer's folder there is a canary, which is compared before and after.

mod headers;
mod nodes;
mod paths;
mod sizes;
mod types;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use cooper_layer::{
    Decompressor, Devices, Directory, Entry, Kind, Limits, OverlayXattrs, Owners, Result, UnpackOptions,
    Unpacked, unpack,
};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::witness;

/// Names the case for the child process.
const CASE: &str = "COOPER_HOSTILE_CASE";
/// Bytes of address space and seconds of a case.
const MEMORY: u64 = 1 << 30;
const SECONDS: u64 = 60;
/// Most bytes on disk.
const DISK: u64 = 64 << 20;

/// One layer.
pub(crate) struct Case {
    name: &'static str,
    /// Called in the child only: some are long.
    blob: Box<dyn FnOnce() -> Box<dyn Read>>,
    expected: Expected,
    /// Makes bounds small enough for a test.
    limits: fn(&mut Limits),
    devices: Option<Devices>,
}

/// How it must end.
pub(crate) enum Expected {
    /// With an error whose text, causes included, has this in it.
    Refused(&'static str),
    /// With these objects and no others, as [`witness::layer`] lists them.
    Safe(Vec<String>),
    /// With this many objects.
    Entries(usize),
}

impl Case {
    pub(crate) fn limits(mut self, limits: fn(&mut Limits)) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn devices(mut self, devices: Devices) -> Self {
        self.devices = Some(devices);
        self
    }
}

pub(crate) fn case(name: &'static str, blob: Vec<u8>, expected: Expected) -> Case {
    stream(name, || io::Cursor::new(blob), expected)
}

/// A case whose layer is long.
pub(crate) fn stream<R: Read + 'static>(
    name: &'static str,
    blob: impl FnOnce() -> R + 'static,
    expected: Expected,
) -> Case {
    Case { name, blob: Box::new(|| Box::new(blob())), expected, limits: |_| {}, devices: None }
}

pub(crate) fn refused(text: &'static str) -> Expected {
    Expected::Refused(text)
}

pub(crate) fn safe<T: AsRef<str>>(lines: impl AsRef<[T]>) -> Expected {
    let mut lines: Vec<_> = lines.as_ref().iter().map(|line| line.as_ref().to_owned()).collect();
    lines.sort();
    Expected::Safe(lines)
}

/// All cases; `outer` is the folder that holds the layer's folder and the canary.
fn cases(outer: &str) -> Vec<Case> {
    let mut all = paths::cases(outer);
    all.extend(types::cases());
    all.extend(sizes::cases());
    all.extend(headers::cases());
    all.extend(nodes::cases());
    all
}

fn rootless() -> UnpackOptions {
    UnpackOptions {
        overlay: OverlayXattrs::User,
        owners: Owners::Record,
        devices: Devices::Record,
        ..UnpackOptions::default()
    }
}

/// One line of an index, in the words of the witness.
fn line(entry: &Entry) -> String {
    let name = entry.path.as_bytes().escape_ascii();
    match &entry.kind {
        Kind::File { size, .. } => format!("{name} {size}"),
        Kind::Directory { opaque } => format!("{name}/{}", if *opaque { " opaque" } else { "" }),
        Kind::Symlink { target } => format!("{name} -> {}", target.escape_ascii()),
        Kind::CharDevice { major, minor } => format!("{name} char {major}:{minor}"),
        Kind::BlockDevice { major, minor } => format!("{name} block {major}:{minor}"),
        Kind::Fifo => format!("{name} |"),
        Kind::Whiteout => format!("{name} x"),
    }
}

fn chain(error: &cooper_layer::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The way of a layer in a pull: decompressed and unpacked at once.
fn take(case: Case, into: &Path, mut options: UnpackOptions) -> Result<Unpacked> {
    (case.limits)(&mut options.limits);
    options.devices = case.devices.unwrap_or(options.devices);
    let directory = Directory::open(into).unwrap();
    unpack(Decompressor::new((case.blob)())?.limits(&options.limits), &directory, &options)
}

/// The other half of [`run`], in a process of its own. Does nothing when it is run as a test.
#[test]
fn child() {
    let Some(wanted) = std::env::var_os(CASE) else { return };
    let wanted = wanted.to_str().unwrap();
    let mut words = wanted.splitn(3, '|');
    let (mode, outer, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let bound = |resource, value| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) }).unwrap();
    };
    bound(Resource::As, MEMORY);
    bound(Resource::Cpu, SECONDS);
    bound(Resource::Core, 0);
    let case = cases(outer).into_iter().find(|case| case.name == name).unwrap();
    let options = if mode == "root" { UnpackOptions::default() } else { rootless() };
    let created = mode == "root";
    let outer = Path::new(outer);
    let report = match take(case, &outer.join(witness::LAYER), options) {
        Ok(unpacked) => {
            let incomplete: BTreeSet<_> = unpacked.incomplete.iter().collect();
            // Devices that are only recorded are marked: the disk does not have them.
            let lines = unpacked.index.iter().map(|entry| {
                let device = matches!(entry.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. });
                let recorded = device && !created && incomplete.contains(&entry.path);
                format!("{}{}", if recorded { "recorded " } else { "" }, line(entry))
            });
            format!("ok\n{}", lines.collect::<Vec<_>>().join("\n"))
        }
        Err(error) => format!("error\n{}", chain(&error)),
    };
    fs::write(outer.with_extension("report"), report).unwrap();
}

/// Runs a case in both halves and returns what is wrong.
fn run(case: &Case, mode: &str, outer: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    witness::scene(outer);
    let before = witness::outside(outer);
    let report = outer.with_extension("report");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "hostile::child", "--nocapture"]).stdin(Stdio::null());
    child.env(CASE, format!("{mode}|{}|{}", outer.display(), case.name));
    let output = child.output().unwrap();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return vec![format!("{}: {text}", output.status)];
    }
    let found = fs::read_to_string(&report).unwrap();
    fs::remove_file(&report).unwrap();
    if witness::outside(outer) != before {
        wrong.push(format!("the outside changed:\n{before}\n{}", witness::outside(outer)));
    }
    let (disk, bytes) = witness::layer(outer);
    if bytes > DISK {
        wrong.push(format!("{bytes} bytes are on disk"));
    }
    let (kind, text) = found.split_once('\n').unwrap();
    if kind == "error" {
        match &case.expected {
            Expected::Refused(expected) if text.contains(expected) => {}
            Expected::Refused(expected) => wrong.push(format!("`{text}` and not `{expected}`")),
            _ => wrong.push(format!("refused: {text}")),
        }
        return wrong;
    }
    let mut index: Vec<_> = text.lines().filter(|line| !line.starts_with("recorded ")).collect();
    index.sort_unstable();
    if index != disk {
        wrong.push(format!("the index says {index:?}, the disk {disk:?}"));
    }
    let mut all: Vec<_> = text.lines().map(|line| line.trim_start_matches("recorded ")).collect();
    all.sort_unstable();
    match &case.expected {
        Expected::Refused(expected) => wrong.push(format!("taken, not refused for `{expected}`: {all:?}")),
        Expected::Safe(expected) if all != *expected => wrong.push(format!("{all:?} and not {expected:?}")),
        Expected::Entries(count) if all.len() != *count => wrong.push(format!("{} entries", all.len())),
        _ => {}
    }
    wrong
}

fn run_all(mode: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let names: Vec<_> = cases("/").iter().map(|case| case.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two cases have one name");
    assert!(names.len() >= 40, "{}", names.len());
    let mut failed = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let outer = scratch.path().join(number.to_string());
        fs::create_dir(&outer).unwrap();
        let all = cases(outer.to_str().unwrap());
        for wrong in run(&all[number], mode, &outer) {
            failed.push(format!("{name}: {wrong}"));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), names.len(), failed.join("\n"));
}

#[test]
fn hostile_layers_harm_nobody() {
    run_all("rootless");
}

/// The same with devices that are made and owners that are set.
#[test]
fn privileged_hostile_layers_harm_nobody() {
    let scratch = tempfile::tempdir().unwrap();
    let mut made = Command::new("mknod");
    made.arg(scratch.path().join("null")).args(["c", "1", "3"]);
    if rustix::process::geteuid().is_root() && made.status().is_ok_and(|status| status.success()) {
        run_all("root");
    } else {
        assert!(std::env::var_os("CI").is_none(), "root is needed");
        eprintln!("skipped: needs root and device nodes");
    }
}
