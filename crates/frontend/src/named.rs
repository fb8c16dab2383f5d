//! Contexts by name: `context:NAME` options that replace images and stages.

use cooper_llb::State;
use cooper_oci::{Image, Platform};

use crate::context::{IGNORE_FILE, read_ignore_file, session_of};
use crate::conversion::Conversion;
use crate::failure::{Step, fail};
use crate::git;
use crate::gofmt::quote;
use crate::graph::{self, LocalSource, Meta};
use crate::image;
use crate::reference;
use crate::request::{ImageQuestion, LayoutStore, ResolveMode};
use crate::stage::StageId;

/// What a name means where it is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContextOptions {
    /// Platform of an image.
    pub(crate) platform: Option<Platform>,
    /// The stage whose paths tell what is read of a local context.
    pub(crate) paths_of: Option<StageId>,
}

/// A context that an option gives.
#[derive(Clone, Debug)]
pub(crate) struct NamedContext {
    input: String,
    name: String,
    full_name: String,
    shared_key: String,
    options: ContextOptions,
}

/// A context, ready to be used.
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Configuration, if it is an image.
    pub(crate) image: Option<Image>,
}

impl Conversion<'_> {
    /// The context that replaces an image or stage of this name, if an option gives one.
    pub(crate) fn named_context(
        &self,
        name: &str,
        mut options: ContextOptions,
    ) -> Step<Option<NamedContext>> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return Ok(None);
        }
        if options.platform.is_none() && !self.platforms.implicit {
            options.platform = Some(self.platforms.target.clone());
        }
        self.find_context(name, options)
    }

    /// The same for any name, and without a platform to start from.
    pub(crate) fn find_context(&self, name: &str, options: ContextOptions) -> Step<Option<NamedContext>> {
        let reference =
            reference::parse(name).map_err(|error| fail(format!("invalid context name {name}: {error}")))?;
        let mut given = self.options.raw.range("context:".to_owned()..);
        if given.next().is_none_or(|(key, _)| !key.starts_with("context:")) {
            return Ok(None);
        }
        let familiar = reference.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let platform = options.platform.clone().unwrap_or_else(|| self.host.clone()).normalized().full();
        for full_name in [format!("{name}::{platform}"), name.to_owned()] {
            if let Some(input) = self.options.raw.get(&format!("context:{full_name}")) {
                return Ok(Some(NamedContext {
                    input: input.clone(),
                    name: name.to_owned(),
                    shared_key: self.options.raw(&format!("sharedkey:localdir:{full_name}")).to_owned(),
                    full_name,
                    options: options.clone(),
                }));
            }
        }
        Ok(None)
    }

    /// Turns a context into a state; asks for image configurations and ignore files.
    pub(crate) fn load_context(&mut self, context: &NamedContext) -> Step<Loaded> {
        let Some((kind, rest)) = context.input.split_once(':') else {
            let message = format!("invalid context specifier {} for {}", context.input, context.full_name);
            return Err(fail(message));
        };
        match kind {
            "docker-image" => self.load_image(context, rest.strip_prefix("//").unwrap_or(rest)),
            "oci-layout" => self.load_layout(context, rest.strip_prefix("//").unwrap_or(rest)),
            "local" => self.load_local(context, rest),
            "http" | "https" => match git::parse(&context.input) {
                git::Parsed::Other => {
                    let meta = context.meta(&context.input);
                    Ok(Loaded { state: graph::http(&context.input, "context", "", meta), image: None })
                }
                parsed => load_git(context, parsed),
            },
            kind if kind == "git" || kind.starts_with("git@") => {
                load_git(context, git::parse(&context.input))
            }
            kind => Err(fail(format!("unsupported context source {kind} for {}", context.full_name))),
        }
    }

    fn load_image(&mut self, context: &NamedContext, reference: &str) -> Step<Loaded> {
        if reference == "scratch" {
            return Ok(Loaded { state: State::scratch(), image: None });
        }
        let platform = context.options.platform.clone();
        let named = reference::parse(reference).map_err(fail)?;
        let question = ImageQuestion {
            reference: named.tag_or_latest().to_string(),
            platform: platform.clone(),
            mode: self.options.resolve_mode,
            layout: None,
        };
        let shown = format!("[context {}] load metadata for {reference}", context.full_name);
        let resolved = self.asker.image(question, shown)?.map_err(fail)?;
        let config = image::read(&resolved.config).map_err(fail)?;
        // The reference is used as it was resolved; unlike that of FROM it is not pinned to the digest.
        let meta = context.meta(reference);
        let state = graph::image(&resolved.reference, platform.as_ref(), ResolveMode::Default, meta);
        let state = graph::with_config(state, &config);
        Ok(Loaded { state, image: Some(Image { created: None, ..config }) })
    }

    fn load_layout(&mut self, context: &NamedContext, spec: &str) -> Step<Loaded> {
        let (store, digest) = match spec.rsplit_once('@') {
            Some((name, digest)) if !name.is_empty() => (name, digest),
            _ => return Err(fail(format!("oci-layout reference {} has no digest", quote(spec)))),
        };
        // A tag in front of the digest is no part of the store's name.
        let store = match store.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => store,
        };
        let digest = digest.parse().map_err(|error| {
            fail(format!("could not parse oci-layout reference {}: {error}", quote(spec)))
        })?;
        let reference = reference::parse(&context.name)
            .map_err(|error| {
                fail(format!("could not parse oci-layout reference {}: {error}", quote(&context.name)))
            })?
            .with_digest(digest)
            .to_string();
        let platform = context.options.platform.clone();
        let question = ImageQuestion {
            reference: reference.clone(),
            platform: platform.clone(),
            mode: ResolveMode::Default,
            layout: Some(LayoutStore { session: self.session.to_owned(), store: store.to_owned() }),
        };
        let shown = format!("[context {}] load metadata for {reference}", context.full_name);
        let resolved = self.asker.image(question, shown)?.map_err(fail)?;
        let config = image::read(&resolved.config)
            .map_err(|error| fail(format!("could not parse oci-layout image config: {error}")))?;
        let meta = context.meta("OCI load from client");
        let state = graph::layout(&reference, self.session, store, platform.as_ref(), meta);
        Ok(Loaded { state: graph::with_config(state, &config), image: Some(config) })
    }

    fn load_local(&mut self, context: &NamedContext, local: &str) -> Step<Loaded> {
        let session = session_of(self.options, self.session, local);
        let shown = format!("load {IGNORE_FILE}");
        let probe = LocalSource {
            name: local,
            session,
            follow_paths: &[IGNORE_FILE.to_owned()],
            excludes: &[],
            shared_key_hint: &format!("context:{}-{IGNORE_FILE}", context.full_name),
            whole: true,
        };
        let probe = probe.state(context.meta(&shown));
        let shown = format!("[context {}] {shown}", context.full_name);
        let excludes = read_ignore_file(&probe, &shown, self.asker)?;
        let follow_paths = self.follow_paths(context.options.paths_of);
        let shared = format!("context:{}-{}", context.full_name, context.shared_key);
        let source = LocalSource {
            name: local,
            session,
            follow_paths: &follow_paths,
            excludes: &excludes,
            shared_key_hint: &shared,
            whole: false,
        };
        Ok(Loaded { state: source.state(context.meta("load from client")), image: None })
    }
}

impl NamedContext {
    fn meta(&self, text: &str) -> Meta {
        Meta::named(&format!("[context {}] {text}", self.full_name))
    }

    /// The same, for a stage whose readers decide what is read of a local context.
    pub(crate) fn for_stage(mut self, id: StageId) -> NamedContext {
        self.options.paths_of = Some(id);
        self
    }
}

fn load_git(context: &NamedContext, parsed: git::Parsed) -> Step<Loaded> {
    match parsed {
        git::Parsed::Git(reference) => {
            let meta = Meta::named(&format!("[internal] load git source {}", context.input));
            let keep = reference.keep_git_dir == Some(true);
            let (id, attrs, caps) = reference.source(keep, &reference.checksum);
            Ok(Loaded { state: State::source(id, attrs, caps, meta.options()), image: None })
        }
        git::Parsed::Bad(message) => Err(fail(message)),
        git::Parsed::Other => Err(fail(format!("invalid git context {}", context.input))),
    }
}
