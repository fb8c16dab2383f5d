//! Image configurations as BuildKit's frontend changes them.

use cooper_dockerfile::instruction;
use cooper_oci::{Healthcheck, History, Image, Platform, Timestamp};

use serde_json::Value;

use crate::path;

/// What BuildKit writes into history entries, so that tools can tell who made them.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Reads the configuration of a base image. Fields that BuildKit does not know are dropped, as it drops them.
pub(crate) fn read(bytes: &[u8]) -> Result<Image, String> {
    let mut image = Image::parse(bytes).map_err(|error| {
        let kind = match serde_json::from_slice(bytes) {
            Ok(Value::Array(_)) => "array",
            Ok(Value::Bool(_)) => "bool",
            Ok(Value::Number(_)) => "number",
            Ok(Value::String(_)) => "string",
            _ => return error.to_string(),
        };
        format!("json: cannot unmarshal {kind} into Go value of type v1.DockerOCIImage")
    })?;
    image.drop_unknown();
    Ok(image)
}

/// The configuration of an image that starts from nothing.
pub(crate) fn empty(platform: &Platform) -> Image {
    let mut image = Image::default();
    image.set_platform(platform);
    "layers".clone_into(&mut image.rootfs.kind);
    "/".clone_into(&mut image.config.working_dir);
    if platform.os != "windows" {
        image.config.env = vec![format!("PATH={}", path::default_search_path(&platform.os))];
    }
    image
}

/// Whether an image has no files at all: no layer, and no history entry that could stand for one.
pub(crate) fn has_no_layers(image: &Image) -> bool {
    image.rootfs.diff_ids.is_empty() && image.history.iter().all(|entry| entry.empty_layer)
}

/// A history entry of an instruction.
pub(crate) fn history(created_by: String, layer: bool, created: Option<Timestamp>) -> History {
    History { created_by, comment: COMMENT.to_owned(), empty_layer: !layer, created, ..History::default() }
}

/// A health check as configurations hold it.
pub(crate) fn healthcheck(health: instruction::Healthcheck) -> Healthcheck {
    let nanos = |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Healthcheck {
        test: health.test,
        interval: nanos(health.interval),
        timeout: nanos(health.timeout),
        start_period: nanos(health.start_period),
        start_interval: nanos(health.start_interval),
        retries: i64::from(health.retries),
        ..Healthcheck::default()
    }
}

/// Sets the platform of the result: that of the base image, unless a platform was asked for.
pub(crate) fn set_target(image: &mut Image, target: &Platform, implicit: bool) {
    if !implicit {
        let same = target.os == image.os && target.architecture == image.architecture;
        image.os.clone_from(&target.os);
        image.architecture.clone_from(&target.architecture);
        // What the base says more precisely holds as long as it is about the same platform.
        if !target.variant.is_empty() || !same {
            image.variant.clone_from(&target.variant);
        }
        if !target.os_version.is_empty() || !same {
            image.os_version.clone_from(&target.os_version);
        }
        if !target.os_features.is_empty() {
            image.os_features.clone_from(&target.os_features);
        }
    }
    let platform = image.platform().normalized();
    image.set_platform(&platform);
}
