//! Answers without a builder: every image exists, every context is empty.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cooper_frontend::{
    Answered, Answers, Ask, Checked, Error, FileQuestion, ImageQuestion, Outcome, Request, ResolvedImage,
    SourceMetadata, check,
};
use cooper_oci::{Digest, Platform};
use serde_json::{Map, Value, json};

/// One conversion of a conformance corpus.
#[derive(Debug, Default)]
pub(crate) struct Case {
    pub(super) id: String,
    pub(super) file: String,
    opts: BTreeMap<String, String>,
    worker_platforms: Vec<String>,
    dockerignore: Option<String>,
    base: String,
    /// Whether the answers to other questions than a conversion are wanted, too.
    pub(super) subrequests: bool,
    images: BTreeMap<String, Value>,
}

impl Case {
    /// Reads a line of a list of cases.
    pub(super) fn parse(line: &str) -> Option<Case> {
        let case: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| case.get(key).and_then(Value::as_str).map(str::to_owned);
        let object = |key: &str| case.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let opts = object("opts").into_iter();
        let platforms = case.get("worker_platforms").and_then(Value::as_array);
        Some(Case {
            id: text("id")?,
            file: text("file")?,
            opts: opts.filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect(),
            worker_platforms: platforms
                .into_iter()
                .flatten()
                .filter_map(|platform| platform.as_str().map(str::to_owned))
                .collect(),
            dockerignore: text("dockerignore"),
            base: text("base").unwrap_or_default(),
            subrequests: case.get("subrequests").and_then(Value::as_bool).unwrap_or_default(),
            images: object("images").into_iter().collect(),
        })
    }

    /// Adds an option.
    #[cfg(test)]
    pub(crate) fn opt(mut self, key: &str, value: &str) -> Self {
        self.opts.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Converts a text, answering every question.
    pub(crate) fn convert(&self, text: &[u8]) -> Checked {
        let mut answers = Answers::default();
        let request = self.request();
        loop {
            let checked = check(&request, &answers);
            let Ok(Outcome::Missing(asks)) = &checked.outcome else { return checked };
            self.answer_all(asks, text, &mut answers);
        }
    }

    /// Converts a text and gives the time of the call that had all answers.
    pub(super) fn timed(&self, text: &[u8]) -> Duration {
        let mut answers = Answers::default();
        let request = self.request();
        loop {
            let begun = Instant::now();
            let checked = check(&request, &answers);
            let took = begun.elapsed();
            let Ok(Outcome::Missing(asks)) = &checked.outcome else { return took };
            self.answer_all(asks, text, &mut answers);
        }
    }

    /// Asks something else about a text, answering every question.
    pub(crate) fn inspect<T>(
        &self,
        text: &[u8],
        ask: impl Fn(&Request, &Answers) -> Result<Answered<T>, Error>,
    ) -> Result<T, Error> {
        let mut answers = Answers::default();
        let request = self.request();
        loop {
            match ask(&request, &answers)? {
                Answered::Done(found, _) => return Ok(found),
                Answered::Missing(asks) => self.answer_all(&asks, text, &mut answers),
            }
        }
    }

    fn request(&self) -> Request {
        let mut platforms: Vec<Platform> =
            self.worker_platforms.iter().filter_map(|platform| platform.parse().ok()).collect();
        if platforms.is_empty() {
            platforms.push(Platform::new("linux", "amd64"));
        }
        Request { opts: self.opts.clone(), worker_platforms: platforms, session: "corpus-session".to_owned() }
    }

    fn answer_all(&self, asks: &[Ask], text: &[u8], answers: &mut Answers) {
        for ask in asks {
            self.answer(ask, text, answers);
        }
    }

    fn answer(&self, ask: &Ask, text: &[u8], answers: &mut Answers) {
        match ask {
            Ask::Image { question, .. } => {
                answers.images.insert(question.clone(), Ok(self.image(question)));
            }
            Ask::File { question, .. } => {
                answers.files.insert(question.clone(), Ok(self.file(question, text)));
            }
            Ask::Source { question, .. } => {
                answers.sources.insert(question.clone(), Ok(SourceMetadata::default()));
            }
        }
    }

    fn file(&self, question: &FileQuestion, text: &[u8]) -> Option<Vec<u8>> {
        let dockerfile = self.opts.get("filename").map_or("Dockerfile", String::as_str);
        if question.path == dockerfile {
            return Some(text.to_vec());
        }
        match &self.dockerignore {
            Some(patterns) if question.path == ".dockerignore" => Some(patterns.clone().into_bytes()),
            _ => None,
        }
    }

    fn image(&self, question: &ImageQuestion) -> ResolvedImage {
        let reference = &question.reference;
        let digest = match reference.split_once('@') {
            Some((_, digest)) => digest.parse().ok(),
            None => Some(Digest::of(reference)),
        };
        let plain = reference.split('@').next().unwrap_or_default();
        let config = match self.images.get(reference).or_else(|| self.images.get(plain)) {
            Some(config) => config.clone(),
            None => self.stub_config(reference, question.platform.as_ref()),
        };
        ResolvedImage { reference: reference.clone(), digest, config: config.to_string().into_bytes() }
    }

    fn stub_config(&self, reference: &str, platform: Option<&Platform>) -> Value {
        const CREATED: &str = "2020-01-02T03:04:05Z";
        let platform = platform.cloned().unwrap_or_else(|| Platform::new("linux", "amd64"));
        let mut config = Map::new();
        if platform.os != "windows" {
            let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            config.insert("Env".to_owned(), json!([path]));
        }
        let mut image = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "created": CREATED,
            "rootfs": {
                "type": "layers",
                "diff_ids": [Digest::of(format!("layer:{reference}")).to_string()],
            },
            "history": [{ "created": CREATED, "created_by": "stub base layer" }],
            "config": config,
        });
        if !platform.variant.is_empty() {
            image["variant"] = json!(platform.variant);
        }
        if !platform.os_version.is_empty() {
            image["os.version"] = json!(platform.os_version);
        }
        if self.base == "rich" {
            image["author"] = json!("base author");
            image["config"] = rich_config();
        }
        image
    }
}

/// A configuration in which every field has a value.
fn rich_config() -> Value {
    json!({
        "User": "app:grp",
        "ExposedPorts": { "8080/tcp": {}, "53/udp": {} },
        "Env": [
            "PATH=/custom/bin:/usr/bin:/bin",
            "LANG=C.UTF-8",
            "BASE_VAR=base value",
            "EMPTY=",
            "VERSION=9.9",
            "HOME=/home/app",
        ],
        "Entrypoint": ["/entry.sh"],
        "Cmd": ["serve", "--flag"],
        "Volumes": { "/data": {} },
        "WorkingDir": "/srv/app",
        "Labels": { "base.label": "1", "maintainer": "base <base@example.com>" },
        "OnBuild": ["COPY . /onbuild/", "RUN echo onbuild $BASE_VAR", "ENV FROM_ONBUILD=1"],
        "StopSignal": "SIGQUIT",
        "Shell": ["/bin/bash", "-eo", "pipefail", "-c"],
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 30000000000u64 },
        "ArgsEscaped": true,
    })
}
