//! `COPY` and `ADD`.

use cooper_dockerfile::instruction::{Add, Copy, Sources};
use cooper_llb::{CopyOptions, FileActions, Owner, State};

use crate::chmod::{self, Mode};
use crate::context::internal;
use crate::conversion::Conversion;
use crate::dispatch::Site;
use crate::env::Vars;
use crate::failure::{Step, fail};
use crate::git::{self, Parsed};
use crate::gofmt::quote;
use crate::graph::{self, Meta};
use crate::lint;
use crate::name;
use crate::path;
use crate::reference;
use crate::stage::StageId;

/// What `COPY` and `ADD` have in common.
struct Job {
    keyword: &'static str,
    sources: Sources,
    from: State,
    /// Whether `from` is the build context, so that ignore patterns matter.
    from_context: bool,
    chown: String,
    chmod: String,
    checksum: String,
    exclude: Vec<String>,
    link: bool,
    parents: bool,
    if_exists: bool,
    keep_git_dir: Option<bool>,
    unpack: Option<bool>,
}

impl Job {
    fn is_add(&self) -> bool {
        self.keyword == "ADD"
    }
}

impl Conversion<'_> {
    pub(crate) fn dispatch_add(&mut self, site: &Site, add: Add) -> Step<()> {
        let paths = add.sources.paths.clone();
        self.transfer(
            site,
            Job {
                keyword: "ADD",
                sources: add.sources,
                from: self.build_context.clone(),
                from_context: true,
                chown: add.chown,
                chmod: add.chmod,
                checksum: add.checksum,
                exclude: add.exclude,
                link: add.link,
                parents: false,
                if_exists: false,
                keep_git_dir: add.keep_git_dir,
                unpack: add.unpack,
            },
        )?;
        for path in paths.iter().filter(|path| !path.starts_with("http://") && !path.starts_with("https://"))
        {
            self.stages.get_mut(site.stage).context_paths.insert(path::join(&["/", path]));
        }
        Ok(())
    }

    pub(crate) fn dispatch_copy(&mut self, site: &Site, copy: Copy, source: Option<StageId>) -> Step<()> {
        if let Some(source) = source
            && !self.stages.get(source).dispatched
        {
            return Err(fail(format!(
                "cannot copy from stage {}, it needs to be defined before current stage {}",
                quote(&copy.from),
                quote(&self.stages.get(site.stage).shown)
            )));
        }
        let paths = copy.sources.paths.clone();
        let from = match source {
            Some(source) => self.stages.get(source).state.clone(),
            None => self.build_context.clone(),
        };
        self.transfer(
            site,
            Job {
                keyword: "COPY",
                sources: copy.sources,
                from,
                from_context: source.is_none(),
                chown: copy.chown,
                chmod: copy.chmod,
                checksum: String::new(),
                exclude: copy.exclude,
                link: copy.link,
                parents: copy.parents,
                if_exists: copy.if_exists,
                keep_git_dir: None,
                unpack: None,
            },
        )?;
        for path in paths {
            let path = path::join(&["/", &path]);
            match source {
                Some(source) => self.stages.mark_path(source, path),
                None => {
                    self.stages.get_mut(site.stage).context_paths.insert(path);
                }
            }
        }
        Ok(())
    }

    fn transfer(&mut self, site: &Site, mut job: Job) -> Step<()> {
        let id = site.stage;
        let stage = self.stages.get(id);
        let platform = stage.platform.clone().unwrap_or_default();
        let state = stage.state.clone();
        let env = Vars(state.env());
        let dest = destination(state.dir(), &job.sources.dest, &platform.os)?;
        let (mode, mode_text) = copy_mode(&job.chmod)?;
        check_checksum(&job)?;
        let mut message = job.keyword.to_owned();
        if job.parents {
            message.push_str(" --parents");
        }
        if !job.chown.is_empty() {
            message.push_str(&format!(" --chown={}", job.chown));
        }
        if !job.chmod.is_empty() {
            message.push_str(&format!(" --chmod={}", job.chmod));
        }
        let text = name::uppercase(&name::expand(&self.lexer, &site.text, &env));
        let shown = self.next_name(id, &text, Some(&platform), env, site.onbuild);
        let common = CopyOptions {
            mode,
            mode_text,
            owner: (!job.chown.is_empty()).then(|| Owner::parse(&job.chown)),
            exclude: job.exclude.clone(),
            create_dest: true,
            ..CopyOptions::default()
        };
        let mut chain = FileActions::new();
        for source in std::mem::take(&mut job.sources.paths) {
            message.push(' ');
            message.push_str(&source);
            match git::parse(&source) {
                Parsed::Bad(message) => return Err(fail(message)),
                Parsed::Git(reference) if !reference.like_local => {
                    let state = git_source(&mut job, &reference, &shown)?;
                    chain = chain.copy(&state, "/", &dest, common.clone());
                }
                _ if git::is_http(&source) => {
                    if !job.is_add() {
                        return Err(fail("source can't be a URL for COPY"));
                    }
                    reference::check_digest(&job.checksum).map_err(fail)?;
                    let file = git::http_filename(&source);
                    let meta = Meta::named(&shown).command("");
                    let state = graph::http(&source, &file, &job.checksum, meta);
                    let options = CopyOptions { unpack: job.unpack.unwrap_or(false), ..common.clone() };
                    chain = chain.copy(&state, &file, &dest, options);
                }
                _ => {
                    self.check_ignored(site, &job, &source);
                    let (source, options) = local_options(&job, &source, &platform.os, common.clone())?;
                    chain = chain.copy(&job.from, &source, &dest, options);
                }
            }
        }
        for content in &job.sources.contents {
            message.push_str(&format!(" <<{}", content.path));
            let file = path::remove_drive(&content.path, &platform.os, false)
                .map_err(|message| fail(format!("removing drive letter: {message}")))?;
            let meta = internal("preparing inline document").platform(Some(&platform));
            let data = content.data.clone().into_bytes();
            let data = FileActions::new().mkfile(&file, 0o644, data, None, None);
            let state = State::scratch().file(data, meta.options());
            let file = if chain.is_empty() { path::to_slash(&file, &platform.os) } else { file };
            chain = chain.copy(&state, &file, &dest, common.clone());
        }
        message.push_str(&format!(" {}", job.sources.dest));
        let linked = job.link && job.chmod.is_empty();
        let stage = self.stages.get(id);
        let meta = Meta::named(&shown).at(&self.inputs.map, &site.lines).ignoring_cache(stage.ignore_cache);
        let shown = if linked {
            self.link(site, chain, meta, &text, shown, env, &platform)
        } else {
            let stage = self.stages.get_mut(id);
            stage.state = state.file(chain, meta.options());
            shown
        };
        self.note_step(id, shown, Some(site));
        self.commit(id, format!("{message} # buildkit"), true);
        Ok(())
    }

    /// Copies into nothing and puts the result on top: a layer that does not depend on what is below.
    #[allow(clippy::too_many_arguments)] // all of it is what `transfer` has at hand, and nobody else calls this
    fn link(
        &mut self,
        site: &Site,
        chain: FileActions,
        meta: Meta,
        text: &str,
        shown: String,
        env: Vars<'_>,
        platform: &cooper_oci::Platform,
    ) -> String {
        let id = site.stage;
        self.groups += 1;
        // Any name will do that is not used twice in a build; BuildKit takes random ones.
        let group = format!("link-{}-{}", self.index, self.groups);
        let copy_meta = meta.clone().platform(Some(platform)).group(&group, &shown, true);
        // Both names count as one step.
        let stage = self.stages.get_mut(id);
        stage.step = stage.step.saturating_sub(1);
        let link_name = self.next_name(id, &format!("LINK {text}"), Some(platform), env, site.onbuild);
        let merge_meta = meta.renamed(&link_name).group(&group, &shown, false);
        let stage = self.stages.get_mut(id);
        let top = State::scratch().file(chain, copy_meta.options());
        let merged = State::merge(&[stage.state.clone(), top], merge_meta.options());
        stage.state = merged.with_values_of(&stage.state);
        shown
    }

    /// Reports a source that ignore patterns keep out of the context.
    fn check_ignored(&self, site: &Site, job: &Job, source: &str) {
        let Some(ignored) = self.ignored.as_ref().filter(|_| job.from_context) else { return };
        // With `!` patterns a file inside an ignored directory may be there after all.
        if ignored.has_exceptions() {
            return;
        }
        let source = path::clean(source);
        if matches!(source.as_str(), "." | "/")
            && !ignored.patterns().iter().any(|pattern| matches!(pattern.text(), "*" | "**" | "**/*"))
        {
            return;
        }
        if ignored.matches(&source) {
            let command = if job.is_add() { "Add" } else { "Copy" };
            let message =
                format!("Attempting to {command} file {} that is excluded by .dockerignore", quote(&source));
            site.linter.report(&lint::COPY_IGNORED_FILE, &site.lines, message);
        }
    }
}

/// The destination as an absolute path; a trailing slash says that it is a directory.
fn destination(dir: &str, dest: &str, os: &str) -> Step<String> {
    let wrap = |message: String| fail(format!("removing drive letter: {message}"));
    let dest = path::remove_drive(dest, os, true).map_err(wrap)?;
    if path::is_abs(&dest, os) {
        return path::normalize("/", &dest, os, true).map_err(fail);
    }
    let dest = if matches!(dest.as_str(), "." | "") { "./" } else { &dest };
    path::normalize(dir, dest, os, true).map_err(fail)
}

/// The mode of copied files as a number and as a text, of which one holds.
fn copy_mode(text: &str) -> Step<(Option<u32>, String)> {
    if text.is_empty() {
        return Ok((None, String::new()));
    }
    match chmod::parse(text).map_err(fail)? {
        Mode::Octal(mode) => Ok((Some(mode), String::new())),
        Mode::Symbolic(text) => Ok((None, text)),
    }
}

fn check_checksum(job: &Job) -> Step<()> {
    if job.checksum.is_empty() {
        return Ok(());
    }
    let [source] = job.sources.paths.as_slice() else {
        return Err(fail("checksum can't be specified for multiple sources"));
    };
    if !git::is_http(source) && !matches!(git::parse(source), Parsed::Git(_)) {
        return Err(fail("checksum requires HTTP(S) or Git sources"));
    }
    Ok(())
}

/// The LLB source of a git reference. What the reference says stays in force for later sources of the same command.
fn git_source(job: &mut Job, reference: &git::GitRef, shown: &str) -> Step<State> {
    if !job.is_add() {
        return Err(fail("source can't be a git ref for COPY"));
    }
    if let (Some(flag), Some(query)) = (job.keep_git_dir, reference.keep_git_dir)
        && flag != query
    {
        return Err(fail("inconsistent keep-git-dir configuration"));
    }
    job.keep_git_dir = reference.keep_git_dir.or(job.keep_git_dir);
    if !reference.checksum.is_empty() {
        if !job.checksum.is_empty() && job.checksum != reference.checksum {
            return Err(fail(format!(
                "checksum mismatch {} != {}",
                quote(&job.checksum),
                quote(&reference.checksum)
            )));
        }
        job.checksum.clone_from(&reference.checksum);
    }
    // The time mode of a reference counts for build contexts only.
    let reference = git::GitRef { mtime: String::new(), ..reference.clone() };
    let (id, attrs, caps) = reference.source(job.keep_git_dir == Some(true), &job.checksum);
    Ok(State::source(id, attrs, caps, Meta::named(shown).options()))
}

/// The path to copy and the options of a copy between two file systems.
fn local_options(job: &Job, source: &str, os: &str, common: CopyOptions) -> Step<(String, CopyOptions)> {
    let wrap = |message: String| fail(format!("removing drive letter: {message}"));
    let mut source = source.to_owned();
    let mut include = Vec::new();
    let mut required = Vec::new();
    if job.parents {
        // `a/./b` copies `b` as seen from `a`.
        let (root, pattern) = match source.split_once("/./") {
            Some((root, pattern)) => (root.to_owned(), pattern.to_owned()),
            None => ("/".to_owned(), source.clone()),
        };
        let pattern = path::normalize("/", &pattern, os, false).map_err(wrap)?;
        include.push(pattern.strip_prefix('/').unwrap_or(&pattern).to_owned());
        if !job.if_exists && !has_wildcards(&root) && !has_wildcards(&pattern) {
            required.push(path::normalize("/", &path::join(&[&root, &pattern]), os, false).map_err(wrap)?);
        }
        source = root;
    }
    let mut source = path::normalize("/", &source, os, false).map_err(wrap)?;
    if job.if_exists && !has_wildcards(&source) {
        source = optional(&source);
    }
    let options = CopyOptions {
        follow_symlinks: true,
        dir_contents: true,
        include,
        required,
        unpack: job.unpack.unwrap_or(job.is_add()),
        wildcard: true,
        empty_wildcard: true,
        ..common
    };
    Ok((source, options))
}

/// A pattern that matches a path and nothing else. A pattern without a match is no error, and this way the graph says
/// "if it is there" in words that BuildKit's executor has, too.
fn optional(path: &str) -> String {
    // These mean something inside brackets. Letters and digits are in nearly every name.
    let plain = |c: &char| c.is_alphanumeric() || *c == '_';
    match path.char_indices().find(|(_, c)| plain(c)) {
        Some((at, c)) => format!("{}[{c}]{}", &path[..at], &path[at + c.len_utf8()..]),
        None => path.to_owned(),
    }
}

fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}
