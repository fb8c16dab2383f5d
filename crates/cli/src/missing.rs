//! Why a file that a step copies is not there: where it was looked for, what hides it, what is there instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooper_dockerfile::ignore::{self, Matcher};
use cooper_dockerfile::instruction::{self, Instruction, Item};
use cooper_engine::{Context, FailedStep, JobSpec, NamedContext};

/// Names of a folder that are read; it may hold very many.
const MANY: usize = 20_000;

/// The folders that a build reads.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    context: Option<Context>,
    /// The folder of the Dockerfile, if it is not that of the context, and its name there.
    dockerfile: (Option<PathBuf>, String),
    contexts: BTreeMap<String, NamedContext>,
}

impl Roots {
    pub(crate) fn of(spec: &JobSpec) -> Self {
        Self {
            context: Some(spec.context.clone()),
            dockerfile: spec.dockerfile.clone(),
            contexts: spec.contexts.clone(),
        }
    }

    /// The file with the ignore patterns of the context, by the name that a person knows it by, and its text.
    fn ignore_file(&self) -> Option<(String, Vec<u8>)> {
        let own = format!("{}.dockerignore", self.dockerfile.1);
        let context = self.context.as_ref().and_then(Context::folder)?;
        let dockerfile = self.dockerfile.0.as_deref().unwrap_or(context);
        let text = std::fs::read(dockerfile.join(&own)).ok().map(|text| (own, text));
        text.or_else(|| {
            let name = ".dockerignore".to_owned();
            std::fs::read(context.join(&name)).ok().map(|text| (name, text))
        })
    }
}

/// What can be said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) notes: Vec<String>,
    pub(crate) help: Option<String>,
}

/// Explains why `path` is not there for a step of the Dockerfile `text`.
pub(crate) fn explain(step: &FailedStep, path: &str, text: &str, roots: &Roots) -> Missing {
    let Some(instruction) = instruction_of(step, text) else { return Missing::default() };
    let (from, written) = match &instruction {
        Instruction::Copy(copy) => (copy.from.as_str(), copy.sources.paths.as_slice()),
        Instruction::Add(add) => ("", add.sources.paths.as_slice()),
        _ => return Missing::default(),
    };
    let relative = path.trim_start_matches('/');
    let mut missing = match (from, roots.contexts.get(from)) {
        ("", _) => in_context(relative, roots),
        (_, Some(NamedContext::Folder(folder))) => {
            let note = format!("looked for in the context `{from}`, the folder `{}`", shown(folder));
            Missing { notes: vec![note], help: near(folder, relative, &Matcher::default()) }
        }
        _ => {
            let note = format!("looked for in `{from}`, from its root `/`");
            Missing { notes: vec![note], help: did_you_mean(&step.near) }
        }
    };
    if from.is_empty() && written.iter().any(|source| source.starts_with("..")) {
        missing.notes.push("paths begin at the root of the context and never lead out of it".to_owned());
        missing.help = Some(
            "give the folder by --build-context NAME=DIR and copy with COPY --from=NAME, or build with a context further up (-f names the Dockerfile)"
                .to_owned(),
        );
    }
    missing
}

/// The instruction that failed: the one on its lines, or its text alone where a base image triggered it.
fn instruction_of(step: &FailedStep, text: &str) -> Option<Instruction> {
    let read = |text: &str, line: Option<u32>| {
        let file = cooper_dockerfile::parse(text.as_bytes()).ok()?;
        let mut nodes = file.nodes.iter();
        let node = nodes.find(|node| line.is_none_or(|line| node.lines.start == line))?;
        match instruction::parse_one(node).ok()? {
            Item::Command(command) => Some(command.instruction),
            Item::Stage(_) => None,
        }
    };
    let line = step.lines.first().map(|lines| lines.start);
    line.and_then(|line| read(text, Some(line))).or_else(|| read(&step.text, None))
}

fn in_context(path: &str, roots: &Roots) -> Missing {
    let context = match &roots.context {
        Some(Context::Folder(folder)) => folder,
        Some(Context::Remote(address)) => {
            return Missing {
                notes: vec![format!("looked for in the build context, `{address}`")],
                help: None,
            };
        }
        None => return Missing::default(),
    };
    let mut notes = vec![format!("looked for in the build context, the folder `{}`", shown(context))];
    let ignore = roots.ignore_file();
    let patterns = ignore.as_ref().map(|(_, text)| ignore::parse(text)).unwrap_or_default();
    let matcher = Matcher::new(&patterns).unwrap_or_default();
    let is_there = context.join(path).symlink_metadata().is_ok();
    if let (true, true, Some((name, text))) = (is_there, matcher.matches(path), &ignore) {
        if let Some((line, pattern)) = hiding_line(text, path) {
            notes.push(format!("it is there, and line {line} of `{name}` hides it: `{pattern}`"));
        }
        let help = format!("remove that line, or add `!{path}` below it");
        return Missing { notes, help: Some(help) };
    }
    Missing { notes, help: near(context, path, &matcher) }
}

/// A folder as it is found from anywhere: `.` says nothing in a log.
fn shown(folder: &Path) -> String {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string()
}

/// The line of an ignore file that decides that a path is hidden, and its pattern as written.
fn hiding_line(text: &[u8], path: &str) -> Option<(usize, String)> {
    let mut deciding = None;
    for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
        let patterns = ignore::parse(line);
        let Some(pattern) = patterns.first() else { continue };
        let bare = pattern.strip_prefix('!').unwrap_or(pattern);
        if Matcher::new([bare]).is_ok_and(|matcher| matcher.matches(path)) {
            let written = String::from_utf8_lossy(line).trim().to_owned();
            deciding = (!pattern.starts_with('!')).then_some((number, written));
        }
    }
    deciding
}

/// Suggests files that are there.
fn near(root: &Path, path: &str, hidden: &Matcher) -> Option<String> {
    let names = |dir: &str| {
        let dir = root.join(dir);
        let is_folder = |name: &str| dir.join(name).symlink_metadata().is_ok_and(|meta| meta.is_dir());
        names(&dir).into_iter().map(|name| (name.clone(), is_folder(&name))).collect()
    };
    did_you_mean(&cooper_engine::near(path, names, |path| hidden.matches(path)))
}

fn did_you_mean(found: &[String]) -> Option<String> {
    let found: Vec<String> = found.iter().map(|path| format!("`{path}`")).collect();
    (!found.is_empty()).then(|| format!("did you mean {}?", found.join(" or ")))
}

/// The names in a folder, sorted; none if it cannot be read.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().take(MANY);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cooper_engine::StepError;
    use cooper_executor::file::FileError;
    use cooper_frontend::LineRange;
    use cooper_oci::Digest;

    use super::*;
    use crate::report::{FailedBuild, Report};

    /// A failed copy as a person sees it; `DIR` stands for the folder.
    fn shown(files: &[(&str, &str)], line: &str, path: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let text = format!("FROM scratch AS base\n{line}\n");
        let step = FailedStep {
            vertex: Digest::of("x"),
            name: String::new(),
            places: vec!["base line 2".into()],
            lines: vec![LineRange { start: 2, end: 2 }],
            text: line.to_owned(),
            stage: Some("base".into()),
            error: Arc::new(StepError::File(FileError::NotFound(path.to_owned()))),
            near: if line.contains("--from=build") { vec!["/out/tools".into()] } else { Vec::new() },
        };
        let lib = folder.path().join("lib");
        let roots = Roots {
            context: Some(Context::Folder(folder.path().to_owned())),
            dockerfile: (None, "Dockerfile".to_owned()),
            contexts: BTreeMap::from([("lib".to_owned(), NamedContext::Folder(lib))]),
        };
        let source = Some(("Dockerfile".to_owned(), text));
        let error = cooper_engine::Error::FailedStep(Box::new(step));
        let failed = FailedBuild { error, source, log: (Vec::new(), 0), roots };
        Report::of(&failed.into()).to_string().replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn files_that_are_not_there() {
        let files = [("main.py", ""), ("src/app.py", ""), ("lib/util.c", ""), ("notes/secret.log", "")];
        let ignored =
            [("src/app.py", ""), (".dockerignore", "# what nobody needs\nnode_modules\n*.md\nsrc\n!other\n")];
        let own = [("app.log", ""), ("Dockerfile.dockerignore", "*.log\n"), (".dockerignore", "")];
        let all = [
            shown(&files, "COPY mian.py /", "/mian.py"),
            shown(&files, "COPY app.py /", "/app.py"),
            shown(&files, "COPY nowhere /", "/nowhere"),
            shown(&files, "COPY ../x /", "/x"),
            shown(&files, "COPY --from=lib utils.c /", "/utils.c"),
            shown(&files, "COPY --from=build /out/tool /", "/out/tool"),
            shown(&ignored, "COPY src/app.py /", "/src/app.py"),
            shown(&own, "ADD app.log /", "/app.log"),
        ];
        insta::assert_snapshot!("missing_files", all.join("\n"));
    }

    #[test]
    fn the_line_that_decides() {
        let text = b"*.log\n!a.log\n\n# a.log\nlogs/\n";
        assert_eq!(hiding_line(text, "a.log"), None);
        assert_eq!(hiding_line(text, "b.log"), Some((1, "*.log".to_owned())));
        assert_eq!(hiding_line(text, "logs/x"), Some((5, "logs/".to_owned())));
    }
}
