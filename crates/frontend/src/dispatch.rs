//! What each instruction does to its stage: the graph, the image configuration and its history.

use std::collections::BTreeSet;

use cooper_dockerfile::instruction::{ArgPair, Command, CommandLine, Healthcheck, Instruction, Pair};
use cooper_dockerfile::shell::Lexer;
use cooper_llb::{FileActions, Owner};

use crate::args::NOT_IN_ENV;
use crate::conversion::Conversion;
use crate::env::{Vars, split_pair};
use crate::error::LineRange;
use crate::expose;
use crate::failure::{Step, Stop, fail};
use crate::gofmt;
use crate::graph::Meta;
use crate::image;
use crate::lint::{self, Linter};
use crate::path;
use crate::signal;
use crate::stage::{Planned, Seen, StageId};
use crate::suggest;

/// What is the same for everything that one command does.
pub(crate) struct Site {
    pub(crate) stage: StageId,
    /// Its place: that of the command, or of `FROM` for a trigger.
    pub(crate) lines: Vec<LineRange>,
    pub(crate) linter: Linter,
    pub(crate) onbuild: bool,
    /// The command as one line.
    pub(crate) text: String,
    /// The keyword as written.
    pub(crate) keyword: String,
}

impl Conversion<'_> {
    /// Converts every stage that the target needs, in order.
    pub(crate) fn dispatch_stages(&mut self, reachable: &BTreeSet<StageId>) -> Step<()> {
        for id in self.stages.order.clone() {
            if !self.lints_all() && (!reachable.contains(&id) || self.stages.get(id).dispatched) {
                continue;
            }
            self.stages.inherit(id);
            self.stages.get_mut(id).dispatched = true;
            self.begin_stage(id)?;
            // Nobody needs them afterwards: triggers for other stages were read when bases were resolved.
            for planned in std::mem::take(&mut self.stages.get_mut(id).commands) {
                let lines = LineRange::from(planned.command.lines);
                self.dispatch(id, planned).map_err(|stop| stop.at(&[lines]))?;
            }
        }
        Ok(())
    }

    /// Takes what the base image's configuration says into the state of the stage.
    fn begin_stage(&mut self, id: StageId) -> Step<()> {
        let stage = self.stages.get_mut(id);
        let os = stage.platform.get_or_insert_default().os.clone();
        let env = &mut stage.image.config.env;
        // Windows has its search path from the system.
        if os != "windows" && !env.iter().any(|pair| split_pair(pair).0 == "PATH") {
            env.push(format!("PATH={}", path::default_search_path(&os)));
        }
        for pair in env.iter() {
            let (key, value) = split_pair(pair);
            stage.state = std::mem::take(&mut stage.state).add_env(key, value);
        }
        if !self.options.hostname.is_empty() {
            stage.state = std::mem::take(&mut stage.state).with_hostname(&self.options.hostname);
        }
        let workdir = stage.image.config.working_dir.clone();
        if !workdir.is_empty() {
            let lines = stage.lines.clone();
            self.set_workdir(id, &workdir).map_err(|stop| stop.at(&lines))?;
        }
        let stage = self.stages.get_mut(id);
        if !stage.image.config.user.is_empty() {
            stage.state = std::mem::take(&mut stage.state).with_user(&stage.image.config.user);
        }
        stage.state = std::mem::take(&mut stage.state).with_network(self.options.network);
        Ok(())
    }

    fn dispatch(&mut self, id: StageId, planned: Planned) -> Step<()> {
        let Planned { mut command, sources, onbuild } = planned;
        let site = Site {
            stage: id,
            lines: vec![command.lines.into()],
            linter: self.linter.for_comments(&command.comments),
            onbuild,
            text: command.text.clone(),
            keyword: command.keyword.clone(),
        };
        if !onbuild && self.not_utf8.contains(&command.lines.start) && !only_configures(&command.instruction)
        {
            self.cannot_encode("string field contains invalid UTF-8", &site);
        }
        self.expand(&site, &mut command)?;
        match command.instruction {
            Instruction::Add(add) => self.dispatch_add(&site, add),
            Instruction::Arg(pairs) => self.dispatch_arg(&site, pairs),
            Instruction::Cmd(line) => self.dispatch_cmd(&site, line),
            Instruction::Copy(copy) => self.dispatch_copy(&site, copy, sources.first().copied()),
            Instruction::Entrypoint(line) => self.dispatch_entrypoint(&site, line),
            Instruction::Env(pairs) => self.dispatch_env(&site, &pairs),
            Instruction::Expose(ports) => self.dispatch_expose(&site, &ports),
            Instruction::Healthcheck(health) => self.dispatch_healthcheck(&site, health),
            Instruction::Label(label) => self.dispatch_label(&site, &label.labels),
            Instruction::Maintainer(name) => {
                let stage = self.stages.get_mut(id);
                stage.image.author.clone_from(&name);
                self.commit(id, format!("MAINTAINER {name}"), false);
                Ok(())
            }
            Instruction::Onbuild(text) => {
                let stage = self.stages.get_mut(id);
                stage.image.config.on_build.push(text);
                Ok(())
            }
            Instruction::Run(run) => self.dispatch_run(&site, &run, &sources),
            Instruction::Shell(shell) => {
                let message = format!("SHELL {}", gofmt::list(&shell));
                self.stages.get_mut(id).image.config.shell = shell;
                self.commit(id, message, false);
                Ok(())
            }
            Instruction::StopSignal(name) => {
                signal::check(&name).map_err(fail)?;
                self.stages.get_mut(id).image.config.stop_signal.clone_from(&name);
                self.commit(id, format!("STOPSIGNAL {name}"), false);
                Ok(())
            }
            Instruction::User(user) => {
                let stage = self.stages.get_mut(id);
                stage.state = std::mem::take(&mut stage.state).with_user(&user);
                stage.image.config.user.clone_from(&user);
                self.commit(id, format!("USER {user}"), false);
                Ok(())
            }
            Instruction::Volume(paths) => self.dispatch_volume(id, &paths),
            Instruction::Workdir(path) => self.dispatch_workdir(&site, &path),
        }
    }

    /// Remembers that a step has no form in LLB. It fails the build once all is converted, as it does where BuildKit
    /// encodes the graph, and does not matter where no graph is asked for.
    pub(crate) fn cannot_encode(&mut self, why: &str, site: &Site) {
        let Some(lines) = site.lines.first() else { return };
        self.not_encodable.get_or_insert_with(|| (why.to_owned(), *lines));
    }

    /// Replaces variables in the words of a command, and in the files that it has in the text.
    fn expand(&self, site: &Site, command: &mut Command) -> Step<()> {
        let env = &self.vars(site.stage);
        let run = |lexer: &Lexer, word: &str| -> Step<String> {
            match lexer.process_word(word, env) {
                Ok(word) => {
                    self.undefined(site, &word.unmatched);
                    Ok(word.text)
                }
                Err(error) => {
                    self.undefined(site, &error.seen.unmatched);
                    Err(Stop::from(error))
                }
            }
        };
        // The value of an ARG may turn out not to be needed, and its errors with it.
        if !matches!(command.instruction, Instruction::Arg(_)) {
            command.expand(&mut |word| run(&self.lexer, word))?;
        }
        let raw = Lexer { skip_process_quotes: true, ..Lexer::new('\\') };
        command.expand_contents(&mut |word| run(&raw, word))
    }

    /// Reports variables that are not set and not declared either.
    fn undefined(&self, site: &Site, unmatched: &BTreeSet<String>) {
        let stage = self.stages.get(site.stage);
        for name in unmatched {
            let declared = stage.args.iter().any(|arg| arg.key == *name);
            if declared || NOT_IN_ENV.contains(&name.as_str()) {
                continue;
            }
            let hint = match suggest::nearest(name, self.vars(site.stage).keys()) {
                Some(near) => format!(" (did you mean ${near}?)"),
                None => String::new(),
            };
            let message = format!("Usage of undefined variable '${name}'{hint}");
            site.linter.report(&lint::UNDEFINED_VAR, &site.lines, message);
        }
    }

    /// Variables that hold in a stage at this point.
    pub(crate) fn vars(&self, id: StageId) -> Vars<'_> {
        Vars(self.stages.get(id).state.env())
    }

    /// Adds an entry to the image's history.
    pub(crate) fn commit(&mut self, id: StageId, created_by: String, layer: bool) {
        let entry = image::history(created_by, layer, self.epoch);
        self.stages.get_mut(id).history.push(entry);
    }

    fn dispatch_env(&mut self, site: &Site, pairs: &[Pair]) -> Step<()> {
        let mut message = "ENV".to_owned();
        for pair in pairs {
            check_pair(site, pair);
            check_secret(site, "ENV", &pair.key);
            message.push_str(&format!(" {}={}", pair.key, pair.value));
            let stage = self.stages.get_mut(site.stage);
            stage.state = std::mem::take(&mut stage.state).add_env(&pair.key, &pair.value);
            let entry = format!("{}={}", pair.key, pair.value);
            let env = &mut stage.image.config.env;
            match env.iter_mut().find(|old| split_pair(old).0 == pair.key) {
                Some(old) => *old = entry,
                None => env.push(entry),
            }
        }
        self.commit(site.stage, message, false);
        Ok(())
    }

    fn dispatch_label(&mut self, site: &Site, pairs: &[Pair]) -> Step<()> {
        let mut message = "LABEL".to_owned();
        for pair in pairs {
            check_pair(site, pair);
            message.push_str(&format!(" {}={}", pair.key, pair.value));
            let labels = &mut self.stages.get_mut(site.stage).image.config.labels;
            labels.insert(pair.key.clone(), pair.value.clone());
        }
        self.commit(site.stage, message, false);
        Ok(())
    }

    fn dispatch_arg(&mut self, site: &Site, pairs: Vec<ArgPair>) -> Step<()> {
        let mut words = Vec::new();
        for mut pair in pairs {
            check_secret(site, "ARG", &pair.key);
            let given = self.build_args.get(&pair.key);
            let global = self.args.lookup(&pair.key);
            // What is taken over from before the first stage is described there.
            let inherited = given.is_none() && pair.value.is_none() && global.is_some();
            pair.value = match (given, pair.value.take()) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => match self.lexer.process_word(&default, &self.vars(site.stage)) {
                    Ok(word) => {
                        self.undefined(site, &word.unmatched);
                        Some(word.text)
                    }
                    Err(error) => {
                        self.undefined(site, &error.seen.unmatched);
                        return Err(error.into());
                    }
                },
                (None, None) => global.map(str::to_owned),
            };
            let mut text = pair.key.clone();
            let stage = self.stages.get_mut(site.stage);
            if let Some(value) = &pair.value {
                text = format!("{text}={value}");
                if !NOT_IN_ENV.contains(&pair.key.as_str()) {
                    stage.state = std::mem::take(&mut stage.state).add_env(&pair.key, value);
                }
            }
            words.push(text);
            if !inherited {
                stage.facts.declare(&pair, &site.lines, BTreeSet::new());
            }
            stage.facts.used.insert(pair.key.clone());
            stage.args.push(pair);
        }
        self.commit(site.stage, format!("ARG {}", words.join(" ")), false);
        Ok(())
    }

    /// The arguments of a command line, behind the stage's shell where it is not in JSON form.
    pub(crate) fn with_shell(&self, id: StageId, line: &CommandLine) -> Vec<String> {
        if !line.shell {
            return line.args.clone();
        }
        let image = &self.stages.get(id).image;
        let mut args = match image.config.shell.as_slice() {
            shell if !shell.is_empty() => shell.to_vec(),
            _ if image.os == "windows" => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
            _ => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        };
        args.push(line.args.join(" "));
        args
    }

    fn check_json(&self, site: &Site, line: &CommandLine) {
        let shell = &self.stages.get(site.stage).image.config.shell;
        if line.shell && shell.is_empty() {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                site.keyword
            );
            site.linter.report(&lint::JSON_ARGS_RECOMMENDED, &site.lines, message);
        }
    }

    fn dispatch_cmd(&mut self, site: &Site, line: CommandLine) -> Step<()> {
        check_once(site, &mut self.stages.get_mut(site.stage).cmd);
        self.check_json(site, &line);
        let args = self.with_shell(site.stage, &line);
        let message = format!("CMD {}", gofmt::quote_list(&args));
        let config = &mut self.stages.get_mut(site.stage).image.config;
        config.cmd = args;
        config.args_escaped = true;
        self.commit(site.stage, message, false);
        Ok(())
    }

    fn dispatch_entrypoint(&mut self, site: &Site, line: CommandLine) -> Step<()> {
        check_once(site, &mut self.stages.get_mut(site.stage).entrypoint);
        self.check_json(site, &line);
        let args = self.with_shell(site.stage, &line);
        let message = format!("ENTRYPOINT {}", gofmt::quote_list(&args));
        let stage = self.stages.get_mut(site.stage);
        stage.image.config.entrypoint = args;
        // Arguments for the base image's entrypoint make no sense for another one.
        if stage.cmd.is_none() {
            stage.image.config.cmd.clear();
        }
        self.commit(site.stage, message, false);
        Ok(())
    }

    fn dispatch_healthcheck(&mut self, site: &Site, health: Healthcheck) -> Step<()> {
        check_once(site, &mut self.stages.get_mut(site.stage).healthcheck);
        let message = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            gofmt::list(&health.test),
            gofmt::duration(health.interval),
            gofmt::duration(health.timeout),
            gofmt::duration(health.start_period),
            gofmt::duration(health.start_interval),
            health.retries,
        );
        self.stages.get_mut(site.stage).image.config.healthcheck = Some(image::healthcheck(health));
        self.commit(site.stage, message, false);
        Ok(())
    }

    fn dispatch_expose(&mut self, site: &Site, words: &[String]) -> Step<()> {
        let env = &self.vars(site.stage);
        let mut ports = Vec::new();
        for word in words {
            ports.extend(self.lexer.process_words(word, env).map_err(Stop::from)?);
        }
        let ports = expose::parse_ports(&ports, &site.lines, &site.linter).map_err(fail)?;
        let message = format!("EXPOSE {}", gofmt::list(&ports));
        let config = &mut self.stages.get_mut(site.stage).image.config;
        config.exposed_ports.extend(ports);
        self.commit(site.stage, message, false);
        Ok(())
    }

    fn dispatch_volume(&mut self, id: StageId, paths: &[String]) -> Step<()> {
        if paths.iter().any(String::is_empty) {
            return Err(fail("VOLUME specified can not be an empty string"));
        }
        let config = &mut self.stages.get_mut(id).image.config;
        config.volumes.extend(paths.iter().cloned());
        self.commit(id, format!("VOLUME {}", gofmt::list(paths)), false);
        Ok(())
    }

    /// Makes a directory the working directory of what follows. Gives it with slashes.
    fn set_workdir(&mut self, id: StageId, path: &str) -> Step<String> {
        let stage = self.stages.get_mut(id);
        let os = stage.platform.get_or_insert_default().os.clone();
        let dir = path::workdir(&stage.image.config.working_dir, path, &os)
            .map_err(|message| fail(format!("normalizing workdir: {message}")))?;
        stage.image.config.working_dir.clone_from(&dir);
        let dir = path::to_slash(&dir, &os);
        stage.state = std::mem::take(&mut stage.state).with_dir(&dir);
        Ok(dir)
    }

    fn dispatch_workdir(&mut self, site: &Site, written: &str) -> Step<()> {
        let id = site.stage;
        let stage = self.stages.get_mut(id);
        let os = stage.platform.get_or_insert_default().os.clone();
        if !stage.workdir_seen && !path::is_abs(written, &os) {
            let message = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                gofmt::quote(written)
            );
            site.linter.report(&lint::WORKDIR_RELATIVE_PATH, &site.lines, message);
        }
        stage.workdir_seen = true;
        let dir = self.set_workdir(id, written)?;
        if dir != "/" {
            let stage = self.stages.get(id);
            let state = stage.state.clone();
            let env = Vars(state.env());
            let platform = stage.platform.clone();
            let text = crate::name::uppercase(&crate::name::expand(&self.lexer, &site.text, &env));
            let name = self.next_name(id, &text, platform.as_ref(), env, site.onbuild);
            let time = self.epoch.map(|time| i64::try_from(time.unix_nanos()).unwrap_or(i64::MAX));
            let stage = self.stages.get_mut(id);
            let user = &stage.image.config.user;
            let owner = (!user.is_empty()).then(|| Owner::parse(user));
            let actions = FileActions::new().mkdir(&dir, 0o755, true, owner, time);
            let meta = Meta::named(&name).at(&self.inputs.map, &site.lines).platform(platform.as_ref());
            stage.state = state.file(actions, meta.options());
            self.note_step(id, name, Some(site));
        }
        self.commit(id, format!("WORKDIR {dir}"), dir != "/");
        Ok(())
    }

    /// The name of the next counted step of a stage.
    pub(crate) fn next_name(
        &mut self,
        id: StageId,
        text: &str,
        platform: Option<&cooper_oci::Platform>,
        env: Vars<'_>,
        onbuild: bool,
    ) -> String {
        let with_platform = self.options.multi_platform;
        let stage = self.stages.get_mut(id);
        if stage.steps > 0 {
            stage.step += 1;
        }
        let numbering = crate::name::Numbering {
            stage: &stage.shown,
            total: stage.steps,
            index: stage.step,
            onbuild,
            with_platform,
        };
        crate::name::full(text, &numbering, platform, env)
    }
}

/// Whether an instruction changes nothing but the image configuration, where other bytes become U+FFFD.
fn only_configures(instruction: &Instruction) -> bool {
    !matches!(
        instruction,
        Instruction::Add(_)
            | Instruction::Arg(_)
            | Instruction::Copy(_)
            | Instruction::Env(_)
            | Instruction::Run(_)
            | Instruction::User(_)
            | Instruction::Workdir(_)
    )
}

fn check_pair(site: &Site, pair: &Pair) {
    if pair.legacy {
        let keyword = &site.keyword;
        let message = format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
        );
        site.linter.report(&lint::LEGACY_KEY_VALUE_FORMAT, &site.lines, message);
    }
}

fn check_secret(site: &Site, instruction: &str, key: &str) {
    if lint::sounds_secret(key) {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} {})",
            gofmt::quote(key)
        );
        site.linter.report(&lint::SECRETS_USED_IN_ARG_OR_ENV, &site.lines, message);
    }
}

/// Reports an instruction that an earlier one of its kind makes useless, at the place of the earlier one.
fn check_once(site: &Site, seen: &mut Seen) {
    if let Some(earlier) = *seen {
        let message = format!(
            "Multiple {} instructions should not be used in the same stage because only the last one will be used",
            site.keyword
        );
        site.linter.report(&lint::MULTIPLE_INSTRUCTIONS_DISALLOWED, &[earlier], message);
    }
    *seen = site.lines.first().copied();
}
