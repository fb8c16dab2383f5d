use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json::{null_default, null_list};
use crate::{Digest, Platform, PlatformMatcher, media_type, to_go_json};

/// The annotation by which BuildKit marks manifests of an index that are about another one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// A pointer to a blob: what it is, its digest, its size (OCI image specification, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is; see [`media_type`].
    #[serde(default, deserialize_with = "null_default")]
    pub media_type: String,
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Other places of the blob.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Remarks.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The blob itself in base64, where it is small.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// What the image of this manifest runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What an artifact is, if the blob is the manifest of one.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// Fields that are not above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// Makes a descriptor of a blob that is at hand.
    pub fn of(media_type: impl Into<String>, blob: &[u8]) -> Self {
        Self::new(media_type, Digest::of(blob), blob.len() as u64)
    }

    /// Makes a descriptor of a blob with a known digest and size.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: String::new(),
            platform: None,
            artifact_type: String::new(),
            extra: Map::new(),
        }
    }

    /// Returns whether this entry of an index is about another one (provenance, a bill of materials) and is no image.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key(REFERENCE_TYPE)
    }
}

/// The manifest of an image for one platform (OCI image specification, "Image Manifest").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    #[serde(default)]
    pub schema_version: i64,
    /// What this is; OCI's may leave it out.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What an artifact is.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    /// Remarks.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that are not above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// Makes an OCI manifest of a configuration and layers.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: String::new(),
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// Reads the bytes of a manifest.
    ///
    /// # Errors
    ///
    /// If the bytes are not JSON, a known field has another type, or there is no configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Writes the bytes of a manifest, as Go would.
    ///
    /// # Errors
    ///
    /// None that this type can cause.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        to_go_json(self)
    }
}

/// A list of manifests, one a platform (OCI image specification, "Image Index").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    #[serde(default)]
    pub schema_version: i64,
    /// What this is; OCI's may leave it out.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What an artifact is.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The manifests.
    #[serde(default, deserialize_with = "null_default", serialize_with = "null_list::serialize")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    /// Remarks.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that are not above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Index {
    /// Makes an OCI index of manifests.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            artifact_type: String::new(),
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// Reads the bytes of an index.
    ///
    /// # Errors
    ///
    /// If the bytes are not JSON or a known field has another type.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Writes the bytes of an index, as Go would.
    ///
    /// # Errors
    ///
    /// None that this type can cause.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        to_go_json(self)
    }

    /// Returns the images that run on `platform`, best first, without attestations.
    ///
    /// Entries without a platform come last: only their configuration tells what they run on.
    pub fn candidates(&self, platform: &Platform) -> Vec<&Descriptor> {
        let matcher = PlatformMatcher::new(platform);
        let mut found: Vec<_> = self
            .manifests
            .iter()
            .filter(|entry| !entry.is_attestation())
            .filter_map(|entry| match &entry.platform {
                Some(image) => {
                    Some(((matcher.rank(image)?, usize::MAX.saturating_sub(image.os_features.len())), entry))
                }
                None => Some(((usize::MAX, 0), entry)),
            })
            .collect();
        found.sort_by_key(|(score, _)| *score);
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Returns the platforms of the images in this index, for messages.
    pub fn platforms(&self) -> Vec<String> {
        let images = self.manifests.iter().filter(|entry| !entry.is_attestation());
        images.filter_map(|entry| entry.platform.as_ref().map(Platform::full)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str) -> Descriptor {
        let mut entry = Descriptor::of(media_type::OCI_MANIFEST, platform.as_bytes());
        entry.platform = Some(platform.parse().unwrap());
        entry
    }

    fn attestation() -> Descriptor {
        let mut entry = Descriptor::of(media_type::OCI_MANIFEST, b"attestation");
        entry.platform = Some(Platform::new("unknown", "unknown"));
        entry.annotations.insert(REFERENCE_TYPE.to_owned(), "attestation-manifest".to_owned());
        entry
    }

    #[test]
    fn candidates_leave_attestations_out() {
        let mut unnamed = Descriptor::of(media_type::OCI_MANIFEST, b"unnamed");
        unnamed.platform = None;
        let mut index = Index::new(vec![
            attestation(),
            unnamed.clone(),
            entry("linux/386"),
            entry("linux/arm64/v8"),
            entry("linux/amd64"),
        ]);
        let found = index.candidates(&"linux/amd64".parse().unwrap());
        assert_eq!(found, [&entry("linux/amd64"), &entry("linux/386"), &unnamed]);
        assert_eq!(index.candidates(&"unknown/unknown".parse().unwrap()), [&unnamed]);
        assert_eq!(index.platforms(), ["linux/386", "linux/arm64/v8", "linux/amd64"]);
        index.manifests.clear();
        assert!(index.candidates(&Platform::host()).is_empty());
    }

    #[test]
    fn json_keeps_its_bytes() {
        let digest = Digest::of("x");
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{m}","config":{{"mediaType":"{c}","digest":"{digest}","size":2,"data":"e30="}},"layers":[{{"mediaType":"{l}","digest":"{digest}","size":3,"urls":["https://example.com/a?b\u0026c"],"annotations":{{"a":"1","b":"2"}}}}],"subject":{{"mediaType":"{m}","digest":"{digest}","size":4}},"annotations":{{"x":"y"}},"more":{{"z":1,"a":2}}}}"#,
            m = media_type::OCI_MANIFEST,
            c = media_type::OCI_CONFIG,
            l = media_type::OCI_LAYER_GZIP,
        );
        assert_eq!(
            String::from_utf8(Manifest::parse(manifest.as_bytes()).unwrap().to_json().unwrap()).unwrap(),
            manifest
        );
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{i}","manifests":[{{"mediaType":"{m}","digest":"{digest}","size":2,"platform":{{"architecture":"arm","os":"linux","os.version":"1","os.features":["f"],"variant":"v7"}},"artifactType":"a/b"}}]}}"#,
            i = media_type::OCI_INDEX,
            m = media_type::DOCKER_MANIFEST,
        );
        assert_eq!(
            String::from_utf8(Index::parse(index.as_bytes()).unwrap().to_json().unwrap()).unwrap(),
            index
        );
    }

    #[test]
    fn refuses_what_cannot_be_fetched() {
        for json in [
            r#"{"manifests":[{"mediaType":"a","digest":"sha256:00","size":1}]}"#,
            r#"{"manifests":[{"mediaType":"a","size":1}]}"#,
            &format!(r#"{{"manifests":[{{"digest":"{}","size":-1}}]}}"#, Digest::of("")),
        ] {
            assert!(Index::parse(json.as_bytes()).is_err(), "{json}");
        }
        assert!(Manifest::parse(b"{}").is_err());
    }
}
