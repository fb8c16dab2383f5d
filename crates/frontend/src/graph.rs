//! What Dockerfiles need of LLB's builder beyond its own words: names, places and sources of a build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cooper_llb::{CopyOptions, FileActions, OpOptions, SourceMap, State, caps, pb};
use cooper_oci::{Image, Platform, to_go_json};

use crate::env::split_pair;
use crate::error::LineRange;
use crate::options::Resources;
use crate::path;
use crate::request::ResolveMode;

/// Key under which LLB keeps the instruction as it is written.
const COMMAND: &str = "com.docker.dockerfile.v1.command";

/// What is said about a vertex without changing what it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta(OpOptions);

impl Meta {
    pub(crate) fn named(name: &str) -> Meta {
        Meta(OpOptions::default().name(name))
    }

    pub(crate) fn renamed(self, name: &str) -> Meta {
        Meta(self.0.name(name))
    }

    /// The instruction as written.
    pub(crate) fn command(mut self, text: &str) -> Meta {
        self.0.description.insert(COMMAND.to_owned(), text.to_owned());
        self
    }

    /// The lines that it comes from; a place without lines is a place too.
    pub(crate) fn at(self, map: &Arc<SourceMap>, lines: &[LineRange]) -> Meta {
        let position =
            |line: u32| Some(pb::Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 });
        let numbers = lines.iter().flat_map(|range| range.start..=range.end);
        let ranges = numbers.map(|line| pb::Range { start: position(line), end: position(line) }).collect();
        Meta(self.0.location(map, ranges))
    }

    pub(crate) fn ignoring_cache(mut self, yes: bool) -> Meta {
        self.0.ignore_cache = yes;
        self
    }

    /// Shows several vertices as one.
    pub(crate) fn group(mut self, id: &str, name: &str, weak: bool) -> Meta {
        let group = pb::ProgressGroup { id: id.to_owned(), name: name.to_owned(), weak };
        self.0.progress_group = Some(group);
        self
    }

    pub(crate) fn resources(mut self, resources: Option<&Resources>) -> Meta {
        self.0.linux_resources = resources.map(|limits| pb::LinuxResources {
            memory: limits.memory,
            memory_swap: limits.memory_swap,
            cpu_shares: limits.cpu_shares,
            cpu_period: limits.cpu_period,
            cpu_quota: limits.cpu_quota,
            cpuset_cpus: limits.cpuset_cpus.clone(),
            cpuset_mems: limits.cpuset_mems.clone(),
        });
        self
    }

    pub(crate) fn platform(mut self, platform: Option<&Platform>) -> Meta {
        self.0.platform = platform.cloned();
        self
    }

    /// The options for LLB's builder.
    pub(crate) fn options(self) -> OpOptions {
        self.0
    }
}

/// The definition of a state that is no part of the result, such as the source of the Dockerfile.
pub(crate) fn definition(state: &State) -> pb::Definition {
    state.marshal(&Platform::host().normalized())
}

/// A directory of the client.
pub(crate) struct LocalSource<'a> {
    pub(crate) name: &'a str,
    pub(crate) session: &'a str,
    /// Paths that are read; all if there are none.
    pub(crate) follow_paths: &'a [String],
    /// Patterns of what is left out.
    pub(crate) excludes: &'a [String],
    pub(crate) shared_key_hint: &'a str,
    /// Sent whole, without comparing with what was sent before.
    pub(crate) whole: bool,
}

impl LocalSource<'_> {
    pub(crate) fn state(&self, meta: Meta) -> State {
        let list = |list: &[String]| match list {
            [] => String::new(),
            list => {
                to_go_json(&list).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
            }
        };
        let attrs = [
            ("local.session", self.session.to_owned()),
            ("local.followpaths", list(self.follow_paths)),
            ("local.excludepatterns", list(self.excludes)),
            ("local.sharedkeyhint", self.shared_key_hint.to_owned()),
            ("local.differ", if self.whole { "none".to_owned() } else { String::new() }),
        ];
        let attrs = attrs.into_iter().filter(|(_, value)| !value.is_empty());
        State::local(self.name, attrs.map(|(key, value)| (key.to_owned(), value)).collect(), meta.0)
    }
}

/// An image of a registry.
pub(crate) fn image(reference: &str, platform: Option<&Platform>, mode: ResolveMode, meta: Meta) -> State {
    let mode = match mode {
        ResolveMode::Default => None,
        ResolveMode::Pull => Some("pull"),
        ResolveMode::Local => Some("local"),
    };
    let attrs = mode.map(|mode| ("image.resolvemode".to_owned(), mode.to_owned())).into_iter().collect();
    State::image(reference, attrs, meta.platform(platform).0)
}

/// An image of an OCI layout of the client.
pub(crate) fn layout(
    reference: &str,
    session: &str,
    store: &str,
    platform: Option<&Platform>,
    meta: Meta,
) -> State {
    let pairs = [("oci.session", session), ("oci.store", store)];
    let attrs = pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    State::oci_layout(reference, attrs, meta.platform(platform).0)
}

/// A file from the web.
pub(crate) fn http(url: &str, filename: &str, checksum: &str, meta: Meta) -> State {
    let mut attrs = BTreeMap::from([("http.filename".to_owned(), filename.to_owned())]);
    let mut needs = BTreeSet::from([caps::SOURCE_HTTP]);
    if !checksum.is_empty() {
        attrs.insert("http.checksum".to_owned(), checksum.to_owned());
        needs.insert(caps::SOURCE_HTTP_CHECKSUM);
    }
    State::source(url.to_owned(), attrs, needs, meta.0)
}

/// Takes over what an image's configuration says about processes.
pub(crate) fn with_config(mut state: State, image: &Image) -> State {
    for pair in &image.config.env {
        let (key, value) = split_pair(pair);
        if !key.is_empty() {
            state = state.add_env(key, value);
        }
    }
    state = state.with_dir(&image.config.working_dir);
    if image.architecture.is_empty() || image.os.is_empty() {
        return state;
    }
    state.with_platform(&image.platform())
}

/// A directory of a file system, alone.
pub(crate) fn subdirectory(state: &State, dir: &str) -> State {
    let options = CopyOptions { dir_contents: true, ..CopyOptions::default() };
    State::scratch().file(FileActions::new().copy(state, dir, "/", options), OpOptions::default())
}

/// What an archive in a file system holds.
pub(crate) fn unpacked(state: &State, file: &str) -> State {
    let options = CopyOptions { unpack: true, ..CopyOptions::default() };
    let file = path::join(&["/", file]);
    State::scratch().file(FileActions::new().copy(state, &file, "/", options), OpOptions::default())
}
