//! Base images: which image, or which named context, a stage that is built on no other stage starts from.

use std::collections::BTreeSet;

use cooper_llb::State;
use cooper_oci::{Image, Platform};

use crate::conversion::{Conversion, Purpose};
use crate::env::Vars;
use crate::failure::{Step, Stop, fail};
use crate::gofmt::quote;
use crate::graph;
use crate::image;
use crate::lint;
use crate::named::ContextOptions;
use crate::reference;
use crate::request::ImageQuestion;
use crate::stage::{SCRATCH, StageId};
use crate::suggest;

/// Images that are suggested for a misspelt base.
const COMMON_IMAGES: [&str; 7] = ["alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"];

/// How often ONBUILD triggers may bring in images with further triggers: an image whose trigger reads the image itself
/// would go on for ever.
const MAX_TRIGGER_ROUNDS: usize = 64;

impl Conversion<'_> {
    /// Resolves everything that the target needs; ONBUILD triggers of a base may add to that, so it goes round.
    pub(crate) fn resolve_stages(&mut self, target: StageId) -> Step<BTreeSet<StageId>> {
        for _ in 0..MAX_TRIGGER_ROUNDS {
            let mut reachable = self.stages.reachable(target);
            if self.purpose == Purpose::BuildAll {
                reachable.extend(self.stages.order.iter().copied());
            }
            self.resolve_bases(&reachable)?;
            let mut again = false;
            // In the order of the file, so that what the triggers add is always in the same order.
            for id in self.stages.order.clone() {
                if reachable.contains(&id) {
                    again |= self.read_triggers(id)?;
                }
            }
            if !again {
                return Ok(reachable);
            }
        }
        let lines = self.stages.get(target).lines.clone();
        Err(fail("ONBUILD triggers of base images read each other without end").at(&lines))
    }

    fn read_triggers(&mut self, id: StageId) -> Step<bool> {
        self.stages.inherit(id);
        let stage = self.stages.get(id);
        let mut triggers = stage.image.config.on_build.clone();
        if let (Some(base), false) = (stage.base, stage.triggers_read) {
            for planned in &self.stages.get(base).commands {
                if let cooper_dockerfile::instruction::Instruction::Onbuild(text) =
                    &planned.command.instruction
                {
                    triggers.push(text.clone());
                }
            }
            self.stages.get_mut(id).triggers_read = true;
        }
        if triggers.is_empty() {
            return Ok(false);
        }
        let lines = self.stages.get(id).lines.clone();
        let reads = self.plan_triggers(id, &triggers).map_err(|stop| stop.only_at(&lines))?;
        self.stages.get_mut(id).image.config.on_build.clear();
        Ok(reads)
    }

    fn resolve_bases(&mut self, reachable: &BTreeSet<StageId>) -> Step<()> {
        let mut missing = false;
        for id in self.stages.order.clone() {
            let stage = self.stages.get(id);
            if stage.base.is_some() || stage.dispatched || stage.resolved {
                continue;
            }
            let needed = self.lints_all() || reachable.contains(&id);
            self.stages.get_mut(id).resolved = needed;
            match self.resolve_base(id, needed) {
                // Others are asked for in the same round.
                Err(Stop::Missing) => missing = true,
                other => other?,
            }
        }
        if missing { Err(Stop::Missing) } else { Ok(()) }
    }

    fn resolve_base(&mut self, id: StageId, needed: bool) -> Step<()> {
        let stage = self.stages.get(id);
        if stage.stage.base == SCRATCH && stage.named.is_none() {
            let target = self.platforms.target.clone();
            let stage = self.stages.get_mut(id);
            stage.state = State::scratch();
            stage.image = image::empty(&target);
            stage.platform = Some(target);
            stage.dispatched |= stage.unregistered;
            return Ok(());
        }
        let lines = stage.lines.clone();
        let result = self.resolve_image(id, needed).map_err(|stop| stop.at(&lines));
        let stage = self.stages.get_mut(id);
        stage.dispatched |= stage.unregistered;
        result
    }

    fn resolve_image(&mut self, id: StageId, needed: bool) -> Step<()> {
        let stage = self.stages.get(id);
        let written = stage.stage.base.clone();
        let reference = reference::parse(&written)
            .map_err(|error| fail(format!("failed to parse stage name {}: {error}", quote(&written))))?;
        let mut name = reference.clone().tag_or_latest().to_string();
        let mut platform = stage.platform.clone().unwrap_or_else(|| self.platforms.target.clone());
        self.stages.get_mut(id).stage.base.clone_from(&name);
        let mut is_scratch = false;
        if needed {
            if self.stages.get(id).named.is_some() {
                return self.take_named_stage(id);
            }
            let options = ContextOptions { platform: Some(platform.clone()), paths_of: Some(id) };
            if let Some(context) = self.named_context(&name, options)? {
                return self.take_named_base(id, &context, platform);
            }
            let resolved = self.ask_base(&name, &written, &platform)?;
            let pinned = if resolved.reference == reference.to_string() {
                reference
            } else {
                reference::parse(&resolved.reference).map_err(|error| {
                    fail(format!("failed to parse ref {}: {error}", quote(&resolved.reference)))
                })?
            };
            let mut config = image::read(&resolved.config)
                .map_err(|error| fail(format!("failed to parse image config: {error}")))?;
            let stage = self.stages.get_mut(id);
            stage.base_image = Some(config.clone());
            config.created = None;
            if stage.platform.is_none() && self.platforms.implicit {
                platform = detect_platform(&config, platform, &self.platforms.build);
            }
            let pinned = match resolved.digest {
                Some(digest) => pinned.with_digest(digest),
                None => pinned,
            };
            name = pinned.to_string();
            stage.stage.base.clone_from(&name);
            is_scratch = image::has_no_layers(&config);
            stage.image = config;
        }
        if is_scratch {
            self.stages.get_mut(id).state = State::scratch();
        } else {
            let step = self.next_name(id, &format!("FROM {name}"), Some(&platform), Vars(&[]), false);
            let stage = self.stages.get(id);
            let meta =
                graph::Meta::named(&step).command(&stage.stage.text).at(&self.inputs.map, &stage.lines);
            let state = graph::image(&name, Some(&platform), self.options.resolve_mode, meta);
            if needed {
                let actual = &stage.image;
                if platform.os != actual.os || platform.architecture != actual.architecture {
                    let actual = actual.platform().normalized().full();
                    let message = format!(
                        "Base image {written} was pulled with platform {}, expected {} for current build",
                        quote(&actual),
                        quote(&platform.normalized().full()),
                    );
                    let lines = stage.lines.clone();
                    self.linter.report(&lint::INVALID_BASE_IMAGE_PLATFORM, &lines, message);
                }
            }
            self.stages.get_mut(id).state = state;
            self.note_step(id, step, None);
        }
        self.stages.get_mut(id).platform = Some(platform);
        Ok(())
    }

    /// A stage whose own name is that of a context: nothing of the stage is built.
    fn take_named_stage(&mut self, id: StageId) -> Step<()> {
        let Some(context) = self.stages.get(id).named.clone() else { return Ok(()) };
        let loaded = self.load_context(&context)?;
        let stage = self.stages.get_mut(id);
        stage.dispatched = true;
        stage.state = loaded.state;
        if let Some(mut config) = loaded.image {
            config.created = None;
            if !config.architecture.is_empty() && !config.os.is_empty() {
                stage.platform = Some(config.platform());
            }
            stage.image = config;
        }
        Ok(())
    }

    /// A base image that is replaced by a context.
    fn take_named_base(
        &mut self,
        id: StageId,
        context: &crate::named::NamedContext,
        platform: Platform,
    ) -> Step<()> {
        let loaded = self.load_context(context)?;
        let mut config = loaded.image.unwrap_or_else(|| image::empty(&platform));
        let stage = self.stages.get_mut(id);
        stage.base_image = Some(config.clone());
        config.created = None;
        stage.image = config;
        stage.state = loaded.state.with_platform(&platform);
        stage.platform = Some(platform);
        Ok(())
    }

    fn ask_base(
        &self,
        name: &str,
        written: &str,
        platform: &Platform,
    ) -> Step<crate::request::ResolvedImage> {
        let prefix =
            if self.options.multi_platform { format!("[{} ", platform.full()) } else { "[".to_owned() };
        let question = ImageQuestion {
            reference: name.to_owned(),
            platform: Some(platform.clone()),
            mode: self.options.resolve_mode,
            layout: None,
        };
        let shown = format!("{prefix}internal] load metadata for {name}");
        match self.asker.image(question, shown)? {
            Ok(resolved) => Ok(resolved.clone()),
            Err(message) => {
                let common: Vec<String> = COMMON_IMAGES
                    .iter()
                    .flat_map(|name| [(*name).to_owned(), format!("{name}:latest")])
                    .collect();
                let names = self.stages.names();
                let options = names.into_iter().chain(common.iter().map(String::as_str));
                Err(fail(format!("{written}: {message}")).suggest(suggest::nearest(written, options)))
            }
        }
    }
}

/// The platform of an image where nobody asked for one: the build platform, if the image is for that.
fn detect_platform(image: &Image, target: Platform, build: &Platform) -> Platform {
    let fits = |platform: &Platform| platform.os == image.os && platform.architecture == image.architecture;
    if !fits(&target) && fits(build) { build.clone() } else { target }
}
