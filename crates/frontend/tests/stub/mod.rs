//! Answers without a builder: every image but `biuld` exists and is the same, contexts hold nothing but what is given.
#![allow(dead_code, reason = "each user needs another part")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cooper_frontend::{
    Answers, Ask, BuiltPlatform, Error, Outcome, Request, ResolvedImage, SourceMetadata, convert,
};
use cooper_llb::{Graph, Op, decode_definition};
use cooper_oci::{Digest, Platform};

/// A Dockerfile with what its build is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stub {
    /// The Dockerfile.
    pub(crate) text: Vec<u8>,
    /// Options by BuildKit's names.
    pub(crate) opts: BTreeMap<String, String>,
    /// Other files, by their name in any local source.
    pub(crate) files: BTreeMap<String, String>,
    /// ONBUILD triggers of every base image but `busybox`.
    pub(crate) triggers: Vec<String>,
    /// The architecture of all images, whatever is asked for.
    pub(crate) architecture: Option<String>,
}

impl Stub {
    /// A Dockerfile alone.
    pub(crate) fn new(text: impl AsRef<[u8]>) -> Stub {
        Stub { text: text.as_ref().to_vec(), ..Stub::default() }
    }

    /// Adds an option.
    pub(crate) fn opt(mut self, key: &str, value: &str) -> Stub {
        self.opts.insert(key.to_owned(), value.to_owned());
        self
    }

    /// What is asked of the builder first.
    pub(crate) fn request(&self) -> Request {
        Request {
            opts: self.opts.clone(),
            worker_platforms: vec![Platform::new("linux", "amd64")],
            session: "session".to_owned(),
        }
    }

    /// Converts, and gives the questions of every round.
    pub(crate) fn rounds(&self) -> (Result<cooper_frontend::Built, Error>, Vec<Vec<Ask>>) {
        let request = self.request();
        let mut answers = Answers::default();
        let mut rounds = Vec::new();
        loop {
            match convert(&request, &answers) {
                Ok(Outcome::Missing(asks)) => {
                    for ask in &asks {
                        self.answer(ask, &mut answers);
                    }
                    rounds.push(asks);
                }
                Ok(Outcome::Done(built)) => return (Ok(*built), rounds),
                Err(error) => return (Err(error), rounds),
            }
        }
    }

    /// Converts.
    pub(crate) fn build(&self) -> Result<cooper_frontend::Built, Error> {
        self.rounds().0
    }

    /// Answers the questions of one round.
    pub(crate) fn answer_all(&self, asks: &[Ask], answers: &mut Answers) {
        for ask in asks {
            self.answer(ask, answers);
        }
    }

    fn answer(&self, ask: &Ask, answers: &mut Answers) {
        match ask {
            Ask::Image { question, .. } => {
                let reference = question.reference.clone();
                if reference.contains("biuld") {
                    answers.images.insert(question.clone(), Err(format!("{reference}: not found")));
                    return;
                }
                let digest = Some(Digest::of(&reference));
                let triggers = if reference.contains("busybox") { &[] } else { self.triggers.as_slice() };
                let mut platform = question.platform.clone();
                if let Some(architecture) = &self.architecture {
                    platform = Some(Platform::new("linux", architecture));
                }
                let config = config(triggers, platform.as_ref()).to_string().into_bytes();
                answers.images.insert(question.clone(), Ok(ResolvedImage { reference, digest, config }));
            }
            Ask::File { question, .. } => {
                let found = match question.path.as_str() {
                    "Dockerfile" => Some(self.text.clone()),
                    other => self.files.get(other).map(|text| text.clone().into_bytes()),
                };
                answers.files.insert(question.clone(), Ok(found));
            }
            Ask::Source { question, .. } => {
                answers.sources.insert(question.clone(), Ok(SourceMetadata::default()));
            }
        }
    }
}

fn config(triggers: &[String], platform: Option<&Platform>) -> serde_json::Value {
    let platform = platform.cloned().unwrap_or_else(|| Platform::new("linux", "amd64"));
    serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "variant": platform.variant,
        "config": {
            "Env": ["PATH=/usr/bin:/bin"],
            "Cmd": ["/bin/sh"],
            "OnBuild": triggers,
        },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of("a layer").to_string()] },
    })
}

/// Draws a build: the graph, what each line became, the image.
pub(crate) fn draw(built: &BuiltPlatform) -> String {
    let mut out = String::new();
    let definition = decode_definition(&built.definition).unwrap_or_default();
    match Graph::new(&definition) {
        Ok(graph) => {
            for (number, vertex) in graph.vertices.iter().enumerate() {
                let inputs: Vec<String> = vertex.inputs.iter().map(|edge| edge.vertex.to_string()).collect();
                let _ = writeln!(
                    out,
                    "{number}: {} <- [{}] {}",
                    short(&vertex.digest.to_string()),
                    inputs.join(" "),
                    summary(&vertex.op)
                );
            }
        }
        Err(error) => {
            let _ = writeln!(out, "no graph: {error}");
        }
    }
    for step in &built.steps {
        let _ = writeln!(
            out,
            "{}:{} {} is {}",
            step.stage,
            step.lines.start,
            step.name,
            short(&step.vertex.to_string())
        );
    }
    for stage in &built.unused_stages {
        let _ = writeln!(out, "{} (line {}) is not used", stage.name, stage.lines.start);
    }
    let _ = writeln!(out, "{}", String::from_utf8_lossy(&built.image));
    out
}

fn short(digest: &str) -> String {
    digest.chars().skip("sha256:".len()).take(12).collect()
}

fn summary(op: &Op) -> String {
    match op {
        Op::Source(source) => {
            let attrs = source.attrs.iter().map(|(key, value)| format!(" {key}={value}"));
            format!("{}{}", source.identifier, attrs.collect::<String>())
        }
        Op::Exec(exec) => {
            let meta = exec.meta.clone().unwrap_or_default();
            let mounts: Vec<String> = exec
                .mounts
                .iter()
                .map(|mount| format!("{}={}{}>{}", mount.dest, mount.input, mount.selector, mount.output))
                .collect();
            format!(
                "exec {:?} env {:?} in {} as `{}` mounts {}",
                meta.args,
                meta.env,
                meta.cwd,
                meta.user,
                mounts.join(" ")
            )
        }
        other => format!("{other:?}"),
    }
}
