//! Sources: where file systems come from.

use std::collections::BTreeMap;

use cooper_oci::Platform;

use super::{Meta, Op, State};
use crate::request::ResolveMode;

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

fn json_list(list: &[String]) -> String {
    cooper_oci::to_go_json(&list).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

impl State {
    /// Any source.
    pub(crate) fn source(
        id: String,
        attrs: BTreeMap<String, String>,
        caps: &[&str],
        platform: Option<&Platform>,
        meta: Meta,
    ) -> State {
        let caps = caps.iter().map(|cap| (*cap).to_owned()).collect();
        State::of(Op::Source { id, attrs, caps }, meta.platform(platform))
    }

    /// A base image by a pinned reference.
    pub(crate) fn image(reference: &str, platform: &Platform, mode: ResolveMode, meta: Meta) -> State {
        let mut attrs = BTreeMap::new();
        let mut caps = vec!["source.image"];
        match mode {
            ResolveMode::Default => {}
            ResolveMode::Pull => {
                attrs.insert("image.resolvemode".to_owned(), "pull".to_owned());
                caps.push("source.image.resolvemode");
            }
            ResolveMode::Local => {
                attrs.insert("image.resolvemode".to_owned(), "local".to_owned());
            }
        }
        State::source(format!("docker-image://{reference}"), attrs, &caps, Some(platform), meta)
    }

    /// An image of a named context.
    pub(crate) fn image_of(reference: &str, platform: Option<&Platform>, meta: Meta) -> State {
        let id = format!("docker-image://{reference}");
        State::source(id, BTreeMap::new(), &["source.image"], platform, meta)
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
        State::source(format!("oci-layout://{reference}"), attrs, &["source.ocilayout"], platform, meta)
    }

    /// A directory of the client.
    pub(crate) fn local(local: &LocalSource<'_>, meta: Meta) -> State {
        let mut attrs = BTreeMap::new();
        let mut caps = vec!["source.local"];
        let follow_paths = json_list(local.follow_paths);
        let excludes = json_list(local.excludes);
        for (key, cap, value) in [
            ("local.session", "source.local.sessionid", local.session),
            (
                "local.followpaths",
                "source.local.followpaths",
                if local.follow_paths.is_empty() { "" } else { &follow_paths },
            ),
            (
                "local.excludepatterns",
                "source.local.excludepatterns",
                if local.excludes.is_empty() { "" } else { &excludes },
            ),
            ("local.sharedkeyhint", "source.local.sharedkeyhint", local.shared_key_hint),
        ] {
            if !value.is_empty() {
                attrs.insert(key.to_owned(), value.to_owned());
                caps.push(cap);
            }
        }
        if local.whole {
            attrs.insert("local.differ".to_owned(), "none".to_owned());
        }
        State::source(format!("local://{}", local.name), attrs, &caps, None, meta)
    }

    /// A file from the web.
    pub(crate) fn http(url: &str, filename: &str, checksum: &str, meta: Meta) -> State {
        let mut attrs = BTreeMap::from([("http.filename".to_owned(), filename.to_owned())]);
        let mut caps = vec!["source.http"];
        if !checksum.is_empty() {
            attrs.insert("http.checksum".to_owned(), checksum.to_owned());
            caps.push("source.http.checksum");
        }
        State::source(url.to_owned(), attrs, &caps, None, meta)
    }

    /// Identifier and attributes, if this state is a source and nothing else.
    pub(crate) fn only_source(&self) -> Option<(&String, BTreeMap<String, String>)> {
        match &self.output.as_ref()?.0.op {
            Op::Source { id, attrs, .. } => Some((id, attrs.clone())),
            _ => None,
        }
    }
}
