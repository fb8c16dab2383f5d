use cooper_oci::{Descriptor, Digest, to_go_json};
use serde_json::{Map, Value};

/// What a build says of the image that it made.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Digest of the configuration, if there is one platform.
    pub config_digest: Option<Digest>,
    /// Descriptor of the manifest or index.
    pub descriptor: Descriptor,
    /// Full names with tag.
    pub names: Vec<String>,
}

impl Response {
    /// Returns what `--iidfile` gets: the digest of the configuration if there is one, else of the index.
    pub fn image_id(&self) -> Digest {
        self.config_digest.unwrap_or(self.digest)
    }

    /// Returns the entries of `--metadata-file`, named as buildx names them.
    ///
    /// # Errors
    ///
    /// None that this type can cause.
    pub fn metadata(&self) -> Result<Map<String, Value>, serde_json::Error> {
        let mut map = Map::new();
        if let Some(config) = self.config_digest {
            map.insert("containerimage.config.digest".to_owned(), config.to_string().into());
        }
        let descriptor = serde_json::from_slice(&to_go_json(&self.descriptor)?)?;
        map.insert("containerimage.descriptor".to_owned(), descriptor);
        map.insert("containerimage.digest".to_owned(), self.digest.to_string().into());
        if !self.names.is_empty() {
            map.insert("image.name".to_owned(), self.names.join(",").into());
        }
        Ok(map)
    }
}
