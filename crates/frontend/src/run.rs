//! `RUN`.

use cooper_dockerfile::instruction::{CommandLine, MountType, Network, Run, Security};
use cooper_dockerfile::parse_heredoc;
use cooper_dockerfile::shell::Lexer;

use crate::context::internal;
use crate::conversion::Conversion;
use crate::dispatch::Site;
use crate::env::Masked;
use crate::failure::{Step, fail};
use crate::graph::{Exec, FileChain, Meta, Mount, MountKind, State};
use crate::name;
use crate::options::NetworkMode;
use crate::stage::StageId;

/// Where the script of a heredoc with `#!` is mounted.
const PIPES: &str = "/dev/pipes/";

impl Conversion<'_> {
    pub(crate) fn dispatch_run(&mut self, site: &Site, run: &Run, sources: &[StageId]) -> Step<()> {
        let id = site.stage;
        // A command can read any file of its stage.
        self.stages.mark_path(id, "/".to_owned());
        let mut exec = Exec::default();
        let mut shown = site.text.clone();
        let args = self.run_args(site, run, &mut exec, &mut shown)?;
        exec.proxies.clone_from(&self.proxies);
        self.run_mounts(site, run, sources, &mut exec)?;
        exec.insecure = run.security == Security::Insecure;
        exec.network = match run.network {
            Network::Default => None,
            Network::None => Some(NetworkMode::None),
            Network::Host => Some(NetworkMode::Host),
        };
        exec.ulimits.clone_from(&self.options.ulimits);
        if !run.devices.is_empty() {
            return Err(fail("device feature is only supported in Dockerfile frontend 1.14.0-labs or later"));
        }
        exec.extra_hosts.clone_from(&self.options.extra_hosts);
        if self.options.shm_size > 0 {
            exec.mounts.push(Mount {
                target: "/dev/shm".to_owned(),
                kind: MountKind::Tmpfs { size: self.options.shm_size },
                ..Mount::default()
            });
        }
        exec.cgroup_parent.clone_from(&self.options.cgroup_parent);
        exec.args.clone_from(&args);

        let stage = self.stages.get(id);
        let env = stage.state.env.clone();
        let platform = stage.state.platform.clone();
        let ignore_cache = stage.ignore_cache;
        let hidden = run
            .mounts
            .iter()
            .filter(|mount| mount.kind == MountType::Secret)
            .filter_map(|mount| mount.env.as_deref())
            .collect();
        let lexer = Lexer { raw_quotes: true, skip_unset_env: true, ..self.lexer.clone() };
        let shown = name::uppercase(&name::expand(&lexer, &shown, &Masked { base: &env, hidden }));
        let name = self.next_name(id, &shown, platform.as_ref(), &env, site.onbuild);
        let meta = Meta::named(&name)
            .command(&site.text)
            .at(&site.lines)
            .ignoring_cache(ignore_cache)
            .resources(self.options.resources.clone());
        let stage = self.stages.get_mut(id);
        stage.state = stage.state.exec(exec, meta);
        self.note_step(id, name, Some(site));
        let message = format!("RUN {} # buildkit", self.run_text(id, &args));
        self.commit(id, message, true);
        Ok(())
    }

    /// What runs: the arguments, or what heredocs make of them.
    fn run_args(&mut self, site: &Site, run: &Run, exec: &mut Exec, shown: &mut String) -> Step<Vec<String>> {
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
                let chain = FileChain::mkfile(&first.name, 0o755, data.as_bytes());
                let meta = internal("preparing inline document").platform(stage.platform.as_ref());
                exec.mounts.push(Mount {
                    target: PIPES.to_owned(),
                    source: State::scratch().file(chain, meta).output(),
                    // Named, though it is the root, as BuildKit does.
                    selector: "/".to_owned(),
                    read_only: true,
                    ..Mount::default()
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
            let value =
                stage.state.env.lookup(&arg.key).unwrap_or_else(|| arg.value.as_deref().unwrap_or_default());
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
