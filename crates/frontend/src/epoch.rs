//! `SOURCE_DATE_EPOCH`: the time that a reproducible build carries, given as seconds, or as where to find it.

use cooper_dockerfile::instruction::{Add, Instruction, Stage};
use cooper_llb::{OpOptions, State};
use cooper_oci::Timestamp;

use crate::conversion::Conversion;
use crate::env::EnvList;
use crate::failure::{Step, Stop, fail};
use crate::git::{self, Parsed};
use crate::gofmt::{parse_int, quote};
use crate::graph;
use crate::named::ContextOptions;
use crate::reference;
use crate::request::SourceQuestion;
use crate::stage::SCRATCH;

const NAME: &str = "SOURCE_DATE_EPOCH";

impl Conversion<'_> {
    /// Finds the time and puts it, as seconds, in the place of what was given.
    pub(crate) fn resolve_epoch(&mut self, stages: &[Stage]) -> Step<()> {
        let given = self.build_args.get(NAME).cloned();
        let declared = self.args.lookup(NAME).filter(|value| !value.is_empty()).map(str::to_owned);
        let Some(value) = given.or(declared) else { return Ok(()) };
        self.epoch = self.epoch_of(&value, stages)?;
        let text = self.epoch.map(|time| (time.unix_nanos() / 1_000_000_000).to_string());
        match &text {
            Some(text) => {
                if let Some(value) = self.build_args.get_mut(NAME) {
                    value.clone_from(text);
                }
                if self.args.lookup(NAME).is_some() {
                    self.args.set(NAME, text);
                }
            }
            None => {
                self.build_args.remove(NAME);
                self.args.remove(NAME);
            }
        }
        Ok(())
    }

    fn epoch_of(&mut self, value: &str, stages: &[Stage]) -> Step<Option<Timestamp>> {
        if value.is_empty() {
            return Ok(None);
        }
        if let Ok(seconds) = parse_int(value) {
            let time = Timestamp::from_unix_seconds(seconds).map_err(|error| fail(error.to_string()))?;
            return Ok(Some(time));
        }
        if value == "context" {
            let state = self.inputs.context(self.options, self.session, &[], &[]);
            return self.time_of(&state, "[internal] resolve main build context metadata".to_owned());
        }
        if let Some(context) = self.find_context(value, ContextOptions::default())? {
            let state = self.load_context(&context)?.state;
            return self
                .time_of(&state, format!("[internal] resolve SOURCE_DATE_EPOCH named context {value}"));
        }
        let named = stages.iter().find(|stage| stage.name.to_lowercase() == value.to_lowercase());
        let Some(stage) = named else { return Err(fail(format!("invalid SOURCE_DATE_EPOCH: {value}"))) };
        let state = self.stage_source(stage).map_err(|stop| stop.at(&[stage.lines.into()]))?;
        self.time_of(&state, format!("[internal] resolve SOURCE_DATE_EPOCH source stage {}", stage.name))
    }

    /// The only source of a stage that is made for telling a time: `FROM scratch` and one remote `ADD`.
    fn stage_source(&self, stage: &Stage) -> Step<State> {
        let mut env = self.args.clone();
        env.remove(NAME);
        let base = self
            .lexer
            .process_word(&stage.base, &env)
            .map_err(|error| {
                Stop::from(error)
                    .context(format!("failed to process source stage base name {}", quote(&stage.base)))
            })?
            .text;
        if base != SCRATCH {
            return Err(fail("SOURCE_DATE_EPOCH stage must use FROM scratch"));
        }
        let mut source = None;
        for command in &stage.commands {
            match &command.instruction {
                Instruction::Arg(pairs) => {
                    for pair in pairs {
                        if let Some(value) = self.build_args.get(&pair.key) {
                            env.set(&pair.key, value);
                        } else if let Some(default) = &pair.value {
                            let word = self.lexer.process_word(default, &env).map_err(Stop::from)?;
                            env.set(&pair.key, &word.text);
                        }
                    }
                }
                Instruction::Add(_) if source.is_some() => {
                    return Err(fail("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"));
                }
                Instruction::Add(add) => source = Some(self.add_source(add, &env)?),
                _ => {
                    return Err(fail(format!(
                        "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {} instruction",
                        command.keyword
                    )));
                }
            }
        }
        source.ok_or_else(|| fail("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"))
    }

    fn add_source(&self, add: &Add, env: &EnvList) -> Step<State> {
        let [source] = add.sources.paths.as_slice() else {
            return Err(fail("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
        };
        if !add.sources.contents.is_empty() {
            return Err(fail("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
        }
        let word = |text: &str| self.lexer.process_word(text, env).map(|word| word.text).map_err(Stop::from);
        let source = word(source)?;
        let checksum = word(&add.checksum)?;
        if git::is_http(&source) {
            reference::check_digest(&checksum).map_err(fail)?;
            return Ok(graph::http(&source, &git::http_filename(&source), &checksum, graph::Meta::default()));
        }
        match git::parse(&source) {
            Parsed::Bad(message) => Err(fail(message)),
            Parsed::Git(reference) if !reference.like_local => {
                let keep = add.keep_git_dir == Some(true) || reference.keep_git_dir == Some(true);
                let checksum = if checksum.is_empty() { reference.checksum.clone() } else { checksum };
                let reference = git::GitRef { mtime: String::new(), fetch_by_commit: false, ..reference };
                let (id, attrs, caps) = reference.source(keep, &checksum);
                Ok(State::source(id, attrs, caps, OpOptions::default()))
            }
            _ => Err(fail("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")),
        }
    }

    /// The time of a remote source. Other states have none that would be the same everywhere.
    fn time_of(&self, state: &State, shown: String) -> Step<Option<Timestamp>> {
        let Some(source) = state.as_source() else { return Ok(None) };
        let identifier = &source.identifier;
        let http = identifier.starts_with("http://") || identifier.starts_with("https://");
        if !http && !identifier.starts_with("git://") {
            return Ok(None);
        }
        let question = SourceQuestion { identifier: identifier.clone(), attrs: source.attrs.clone() };
        match self.asker.source(question, shown)?.map_err(fail)?.time {
            Some(seconds) => {
                Ok(Some(Timestamp::from_unix_seconds(seconds).map_err(|error| fail(error.to_string()))?))
            }
            // BuildKit downloads the file then and takes the newest time of its entries if it is an archive.
            None if http => Err(fail(format!(
                "SOURCE_DATE_EPOCH: the server gives no time for {identifier} and looking into archives is not supported: \
                 give the time in seconds"
            ))),
            None => Ok(None),
        }
    }
}
