use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json::{null_default, null_list, object_set};
use crate::{Digest, Hasher, Platform, Timestamp, to_go_json};

/// The configuration of an image: what its process is like, which layers it has, how it was made.
///
/// Fields are written in the order in which docker's and OCI's Go types declare them, empty ones are left out as
/// there, and fields that this type does not know are kept behind the others (Go drops them: see
/// [`Image::drop_unknown`]). Source: OCI image specification, "Image Configuration", with docker's additions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Image {
    /// When the image was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Who made the image.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// GOARCH of the binaries in the image.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// GOOS of the binaries in the image.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features of the operating system that the image needs.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the processor.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The layers.
    #[serde(default, deserialize_with = "null_default")]
    pub rootfs: RootFs,
    /// One entry a step, lowest first.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What a container of this image runs.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Config,
    /// Fields that are not above, in the order in which they were read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Image {
    /// Reads the bytes of a configuration blob.
    ///
    /// # Errors
    ///
    /// If the bytes are not JSON or a known field has another type.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Writes the bytes of a configuration blob, as Go would.
    ///
    /// # Errors
    ///
    /// None that this type can cause: all of it can be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        to_go_json(self)
    }

    /// Returns the platform's fields together.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Sets the platform's fields.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.architecture.clone_from(&platform.architecture);
        self.os.clone_from(&platform.os);
        self.os_version.clone_from(&platform.os_version);
        self.os_features.clone_from(&platform.os_features);
        self.variant.clone_from(&platform.variant);
    }

    /// Drops the fields that BuildKit's Dockerfile frontend drops by reading and writing an image.
    pub fn drop_unknown(&mut self) {
        self.extra = Map::new();
        self.config.extra = Map::new();
        self.rootfs.extra = Map::new();
        for entry in &mut self.history {
            entry.extra = Map::new();
        }
        if let Some(check) = &mut self.config.healthcheck {
            check.extra = Map::new();
        }
    }
}

/// What a container of an image runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// User and group of the process, by name or number, as `user:group`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports that the process listens on, as `80/tcp`.
    #[serde(default, with = "object_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// Environment, as `NAME=value`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The fixed front part of the command line.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The rest of the command line, replaced by arguments of `docker run`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Folders for which a container gets a volume.
    #[serde(default, with = "object_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// The folder in which the process starts.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the process to end.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether the command line is one text with its quoting done (Windows).
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// How to tell whether a container is healthy (docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions that run when this image is built upon (docker).
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of commands in shell form (docker).
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Fields that are not above (`StopTimeout`, `Hostname`, …), in the order in which they were read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Docker's check of a running container. Durations are nanoseconds; 0 means the default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", args…]` or `["CMD-SHELL", command]`; empty inherits.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time after which a check counts as failed.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks during the start period.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Number of failures in a row that make a container unhealthy.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Fields that are not above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Digests of the layers' uncompressed tar streams, lowest first. None at all is written as `null`, as Go does.
    #[serde(default, deserialize_with = "null_default", serialize_with = "null_list::serialize")]
    pub diff_ids: Vec<Digest>,
    /// Fields that are not above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new(), extra: Map::new() }
    }
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// When the step was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The instruction.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who did the step.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A remark of the builder.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields that are not above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Returns the name of a stack of layers, lowest first: what containerd's snapshots are called by.
///
/// `None` for no layer. Source: OCI image specification, "Layer ChainID".
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    diff_ids.iter().copied().reduce(|chain, layer| {
        let mut hasher = Hasher::new();
        hasher.update(format!("{chain} {layer}"));
        hasher.finish()
    })
}

#[cfg(test)]
mod tests;
