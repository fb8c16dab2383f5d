//! `RUN`.

use cooper_dockerfile::instruction::{CommandLine, MountType, Network, Run, Security};
use cooper_dockerfile::parse_heredoc;
use cooper_dockerfile::shell::Lexer;
use cooper_llb::{ExecMount, FileActions, MountKind, State, pb};

use crate::context::internal;
use crate::conversion::Conversion;
use crate::dispatch::Site;
use crate::env::{Masked, Vars};
use crate::failure::{Step, fail};
use crate::graph::Meta;
use crate::name;
use crate::stage::StageId;

/// Where the script of a heredoc with `#!` is mounted.
const PIPES: &str = "/dev/pipes/";

impl Conversion<'_> {
    pub(crate) fn dispatch_run(&mut self, site: &Site, run: &Run, sources: &[StageId]) -> Step<()> {
        let id = site.stage;
        // A command can read any file of its stage.
        self.stages.mark_path(id, "/".to_owned());
        let mut exec = cooper_llb::Run::default();
        let mut shown = site.text.clone();
        exec.args = self.run_args(site, run, &mut exec, &mut shown)?;
        let args = exec.args.clone();
        exec.proxy = self.proxies.as_ref().map(|proxies| pb::ProxyEnv {
            http_proxy: proxies.http.clone(),
            https_proxy: proxies.https.clone(),
            ftp_proxy: proxies.ftp.clone(),
            no_proxy: proxies.no.clone(),
            all_proxy: proxies.all.clone(),
        });
        self.run_mounts(site, run, sources, &mut exec)?;
        if !run.devices.is_empty() {
            return Err(fail("device feature is only supported in Dockerfile frontend 1.14.0-labs or later"));
        }
        if self.options.shm_size > 0 {
            exec.mounts.push(ExecMount {
                kind: MountKind::Tmpfs { size: self.options.shm_size },
                ..ExecMount::bind("/dev/shm", &State::scratch())
            });
        }
        let state = self.stages.get(id).state.clone();
        let env = Vars(state.env());
        let hidden = run
            .mounts
            .iter()
            .filter(|mount| mount.kind == MountType::Secret)
            .filter_map(|mount| mount.env.as_deref())
            .collect();
        let lexer = Lexer { raw_quotes: true, skip_unset_env: true, ..self.lexer.clone() };
        let shown = name::uppercase(&name::expand(&lexer, &shown, &Masked { base: env, hidden }));
        let name = self.next_name(id, &shown, state.platform(), env, site.onbuild);
        let meta = Meta::named(&name)
            .command(&site.text)
            .at(&self.inputs.map, &site.lines)
            .ignoring_cache(self.stages.get(id).ignore_cache)
            .resources(self.options.resources.as_ref());
        match self.with_limits(&state, run).run(exec, meta.options()) {
            // What holds for this command alone stays behind.
            Ok(ran) => self.stages.get_mut(id).state = ran.with_values_of(&state),
            Err(cooper_llb::Error::Exec(what)) => self.cannot_encode(&format!("{what} are required"), site),
            Err(error) => self.cannot_encode(&error.to_string(), site),
        }
        self.note_step(id, name, Some(site));
        let message = format!("RUN {} # buildkit", self.run_text(id, &args));
        self.commit(id, message, true);
        Ok(())
    }

    /// The state in which one command runs: with its flags and the limits of the build.
    fn with_limits(&self, state: &State, run: &Run) -> State {
        let mut state = state.clone().with_cgroup_parent(&self.options.cgroup_parent);
        if run.security == Security::Insecure {
            state = state.with_security(pb::SecurityMode::Insecure);
        }
        match run.network {
            Network::Default => {}
            Network::None => state = state.with_network(pb::NetMode::None),
            Network::Host => state = state.with_network(pb::NetMode::Host),
        }
        for limit in &self.options.ulimits {
            state = state.add_ulimit(&limit.name, limit.soft, limit.hard);
        }
        for (host, ip) in &self.options.extra_hosts {
            state = state.add_extra_host(host, ip.to_string());
        }
        state
    }

    /// What runs: the arguments, or what heredocs make of them.
    fn run_args(
        &mut self,
        site: &Site,
        run: &Run,
        exec: &mut cooper_llb::Run,
        shown: &mut String,
    ) -> Step<Vec<String>> {
        let id = site.stage;
        let Some(first) = run.files.first() else {
            return Ok(self.with_shell(id, &run.line));
        };
        let [text] = run.line.args.as_slice() else {
            return Err(fail(format!(
                "parsing produced an invalid run command: {}",
                crate::gofmt::list(&run.line.args)
            )));
        };
        if !run.line.shell {
            return Err(fail(format!("parsing produced an invalid run command: [{text}]")));
        }
        let args = if matches!(parse_heredoc(text), Ok(Some(_))) {
            // The heredoc is all there is, so it is the script: shells that know no heredocs can run it too.
            let data = if first.chomp { chomp(&first.data) } else { first.data.clone() };
            *shown = format!("{shown} ({})", summary(&first.data));
            let stage = self.stages.get(id);
            if stage.image.os != "windows" && data.starts_with("#!") {
                let actions = FileActions::new().mkfile(&first.name, 0o755, data.into_bytes(), None, None);
                let meta = internal("preparing inline document").platform(stage.platform.as_ref());
                let script = State::scratch().file(actions, meta.options());
                exec.mounts.push(ExecMount {
                    // Named, though it is the root, as BuildKit does.
                    selector: "/".to_owned(),
                    readonly: true,
                    ..ExecMount::bind(PIPES, &script)
                });
                vec![crate::path::join(&[PIPES, &first.name])]
            } else {
                vec![data]
            }
        } else {
            let mut text = text.clone();
            for file in &run.files {
                text.push('\n');
                text.push_str(&file.data);
                text.push_str(&file.name);
            }
            vec![text]
        };
        Ok(self.with_shell(id, &CommandLine { args, shell: true }))
    }

    /// The command in the history: with the arguments of the build in front, as `|2 A=1 B=2`.
    fn run_text(&self, id: StageId, args: &[String]) -> String {
        let stage = self.stages.get(id);
        let mut given: Vec<(&str, &str)> = Vec::new();
        for arg in &stage.args {
            let value = Vars(stage.state.env())
                .lookup(&arg.key)
                .unwrap_or_else(|| arg.value.as_deref().unwrap_or_default());
            match given.iter_mut().find(|(key, _)| *key == arg.key) {
                Some(entry) => entry.1 = value,
                None => given.push((&arg.key, value)),
            }
        }
        let mut words = Vec::new();
        if !given.is_empty() {
            words.push(format!("|{}", given.len()));
        }
        words.extend(given.iter().map(|(key, value)| format!("{key}={value}")));
        words.extend(args.iter().cloned());
        words.join(" ")
    }
}

fn chomp(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// The first line of a heredoc, with dots if there are more.
fn summary(text: &str) -> String {
    let text = text.trim().replace("\r\n", "\n");
    match text.split_once('\n') {
        Some((first, _)) => format!("{first}..."),
        None => text,
    }
}
