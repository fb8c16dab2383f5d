//! One image: its configuration and manifest as blobs.

use std::collections::BTreeMap;

use cooper_oci::{Descriptor, History, Image, Manifest, Platform, Timestamp, media_type, to_go_json};
use serde_json::{Map, Value};

use crate::content::{Content, LayerBlob};
use crate::error::{Error, Result};
use crate::history;
use crate::json::indented;

/// What an image for one platform is to be made of.
#[derive(Debug, Clone, Default)]
pub struct ImageSpec {
    /// The configuration, with its history. The list of layers in it is made anew from `layers`.
    pub config: Image,
    /// The layers, lowest first.
    pub layers: Vec<LayerBlob>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// What the image runs on, as an index says it; `None` takes it from the configuration.
    pub platform: Option<Platform>,
    /// History of the base image: entries that both have keep their times under
    /// [`Options::epoch`](crate::Options::epoch).
    pub base_history: Vec<History>,
}

/// An image as blobs.
pub(crate) struct Assembled {
    /// Descriptor of the manifest, with its platform.
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) blobs: Vec<(Descriptor, Content)>,
}

pub(crate) fn assemble(spec: ImageSpec, epoch: Option<Timestamp>) -> Result<Assembled> {
    let platform = spec.platform.clone().unwrap_or_else(|| spec.config.platform());
    let layers = spec.layers;
    let config = config(spec.config, &layers, epoch, &spec.base_history)?;
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    let mut blobs = vec![(config_descriptor.clone(), Content::bytes(config))];
    let mut descriptors = Vec::with_capacity(layers.len());
    for layer in layers {
        let mut descriptor = layer.descriptor;
        descriptor.annotations.retain(|key, _| !is_internal(key));
        blobs.push((descriptor.clone(), layer.content));
        descriptors.push(descriptor);
    }
    let mut manifest = Manifest::new(config_descriptor.clone(), descriptors);
    manifest.annotations = spec.annotations;
    let manifest = indented(&manifest)?;
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    descriptor.platform = Some(platform);
    blobs.push((descriptor.clone(), Content::bytes(manifest)));
    Ok(Assembled { manifest: descriptor, config: config_descriptor, blobs })
}

/// Tells whether an annotation of a layer is a builder's book-keeping.
fn is_internal(key: &str) -> bool {
    key.starts_with("containerd.io/") || key.starts_with("buildkit/")
}

/// Writes the configuration with its layers, history and time. Its fields are in alphabetical order, as BuildKit's are:
/// it patches a Go map.
fn config(
    mut image: Image,
    layers: &[LayerBlob],
    epoch: Option<Timestamp>,
    base: &[History],
) -> Result<Vec<u8>> {
    if image.os.is_empty() {
        return Err(Error::Config("os"));
    }
    if image.architecture.is_empty() {
        return Err(Error::Config("architecture"));
    }
    image.rootfs = cooper_oci::RootFs {
        diff_ids: layers.iter().map(|layer| *layer.diff_id.digest()).collect(),
        ..Default::default()
    };
    image.history = history::normalize(std::mem::take(&mut image.history), layers);
    if let Some(epoch) = epoch {
        history::clamp(&mut image.history, epoch, base);
        image.created = image.created.map(|created| created.min(epoch));
    }
    image.created = image.created.or_else(|| image.history.iter().rev().find_map(|entry| entry.created));

    let Value::Object(fields) = serde_json::to_value(&image)? else { return Err(Error::Config("fields")) };
    let mut sorted: BTreeMap<String, Value> = fields.into_iter().collect();
    // Go writes what is empty here as null.
    sorted.entry("created".to_owned()).or_insert(Value::Null);
    sorted.entry("history".to_owned()).or_insert(Value::Null);
    Ok(to_go_json(&sorted.into_iter().collect::<Map<_, _>>())?)
}
