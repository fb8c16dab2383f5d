use std::collections::{BTreeMap, BTreeSet};

use cooper_oci::{Descriptor, Digest, Index, Reference, Timestamp, media_type};

use crate::content::Content;
use crate::error::{Error, Result};
use crate::image::{Assembled, ImageSpec, assemble};
use crate::json::indented;
use crate::response::Response;

/// containerd's annotation for the full name of an image. `podman load` and `nerdctl load` take the name from it.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI's annotation for the tag, by which `skopeo` and `umoci` find an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How an image is to be exported.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Names, as `-t` takes them: `app`, `example.org/app:1`. They are completed by registry and tag.
    pub names: Vec<String>,
    /// `SOURCE_DATE_EPOCH`: no later time is written. Layers have to be made to fit.
    pub epoch: Option<Timestamp>,
    /// Annotations of the index, if there is one.
    pub index_annotations: BTreeMap<String, String>,
    /// Annotations of the descriptor in the layout's `index.json`.
    pub descriptor_annotations: BTreeMap<String, String>,
}

/// An image that is ready to be written: every digest is known, every blob can be read.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(crate) response: Response,
    /// By digest, each blob once.
    pub(crate) blobs: BTreeMap<Digest, (Descriptor, Content)>,
    /// What `index.json` lists: the manifest or index, once for each name.
    pub(crate) entries: Vec<Descriptor>,
    /// Configuration and layers of a single image, for docker's form.
    pub(crate) single: Option<(Digest, Vec<Digest>)>,
    pub(crate) platforms: usize,
}

/// Makes configuration, manifest and, for several platforms, index.
///
/// One platform gives one manifest and no index.
pub fn prepare(images: Vec<ImageSpec>, options: &Options) -> Result<Prepared> {
    let names = options
        .names
        .iter()
        .map(|name| {
            Reference::parse_normalized(name)
                .map(Reference::tag_or_latest)
                .map_err(|source| Error::Name { name: name.clone(), source })
        })
        .collect::<Result<Vec<_>>>()?;
    let platforms = images.len();
    let mut blobs = BTreeMap::new();
    let mut manifests = Vec::new();
    let mut single = None;
    for image in images {
        let layers = image.layers.iter().map(|layer| layer.descriptor.digest).collect();
        let Assembled { manifest, config, blobs: own } = assemble(image, options.epoch)?;
        single = Some((config.digest, layers));
        manifests.push(manifest);
        blobs.extend(own.into_iter().map(|blob| (blob.0.digest, blob)));
    }
    let mut seen = BTreeSet::new();
    for platform in manifests.iter().filter_map(|manifest| manifest.platform.as_ref()) {
        if !seen.insert(platform) {
            return Err(Error::Platform(platform.to_string()));
        }
    }
    if platforms != 1 {
        single = None;
    }
    let mut root = match manifests.as_slice() {
        [] => return Err(Error::Nothing),
        [one] => one.clone(),
        _ => {
            let mut index = Index::new(manifests);
            index.annotations.clone_from(&options.index_annotations);
            let index = indented(&index)?;
            let descriptor = Descriptor::of(media_type::OCI_INDEX, &index);
            blobs.insert(descriptor.digest, (descriptor.clone(), Content::bytes(index)));
            descriptor
        }
    };
    root.annotations.clone_from(&options.descriptor_annotations);
    let entries = if names.is_empty() {
        vec![root.clone()]
    } else {
        names.iter().map(|name| named(&root, name)).collect()
    };
    let response = Response {
        digest: root.digest,
        config_digest: single.as_ref().map(|(config, _)| *config),
        descriptor: root,
        names: names.iter().map(Reference::to_string).collect(),
    };
    Ok(Prepared { response, blobs, entries, single, platforms })
}

fn named(root: &Descriptor, name: &Reference) -> Descriptor {
    let mut entry = root.clone();
    entry.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
    if let Some(tag) = name.tag() {
        entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    }
    entry
}

/// The name under which an entry of `index.json` is found.
pub(crate) fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(IMAGE_NAME).or_else(|| entry.annotations.get(REF_NAME)).map(String::as_str)
}

impl Prepared {
    /// Returns digests and names, for the output of a build.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// Iterates over all blobs by digest, each once: for pushing, or for a store of another form.
    pub fn blobs(&self) -> impl Iterator<Item = (&Descriptor, &Content)> {
        self.blobs.values().map(|(descriptor, content)| (descriptor, content))
    }

    /// Returns the sum of the sizes of all blobs in bytes.
    pub fn size(&self) -> u64 {
        self.blobs().fold(0, |sum, (descriptor, _)| sum.saturating_add(descriptor.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::LayerBlob;
    use cooper_oci::{Image, Platform};

    fn layer(text: &'static str) -> LayerBlob {
        let mut descriptor = Descriptor::of(media_type::OCI_LAYER, text.as_bytes());
        descriptor.annotations.insert("containerd.io/uncompressed".into(), "x".into());
        descriptor.annotations.insert("example.org/kept".into(), "y".into());
        LayerBlob {
            diff_id: Digest::of(text).into(),
            descriptor,
            content: Content::bytes(text.as_bytes()),
            created: Some(Timestamp::from_unix_seconds(1_000_000_000).unwrap()),
            created_by: "COPY a /".into(),
        }
    }

    fn image(architecture: &str, layers: &[&'static str]) -> ImageSpec {
        let config = Image {
            os: "linux".into(),
            architecture: architecture.into(),
            author: "me <a&b>".into(),
            ..Image::default()
        };
        ImageSpec { config, layers: layers.iter().map(|text| layer(text)).collect(), ..ImageSpec::default() }
    }

    fn text(prepared: &Prepared, digest: &Digest) -> String {
        let mut out = Vec::new();
        let (descriptor, content) = &prepared.blobs[digest];
        content.copy(descriptor, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_platform_gives_one_manifest() {
        let options =
            Options { names: vec!["app".into(), "example.org/x/app:2".into()], ..Options::default() };
        let prepared = prepare(vec![image("amd64", &["one", "one"])], &options).unwrap();
        let response = prepared.response();
        assert_eq!(response.descriptor.media_type, media_type::OCI_MANIFEST);
        assert_eq!(response.names, ["docker.io/library/app:latest", "example.org/x/app:2"]);
        assert_eq!(response.image_id(), response.config_digest.unwrap());
        // Manifest, configuration, and the layer once.
        assert_eq!(prepared.blobs().count(), 3);
        let config = text(&prepared, &response.image_id());
        let history = r#"{"created":"2001-09-09T01:46:40Z","created_by":"COPY a /","comment":"buildkit.exporter.image.v0"}"#;
        let diff_id = Digest::of("one");
        assert_eq!(
            config,
            format!(
                r#"{{"architecture":"amd64","author":"me \u003ca\u0026b\u003e","config":{{}},"created":"2001-09-09T01:46:40Z","history":[{history},{history}],"os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}}}}"#
            )
        );
        let manifest = text(&prepared, &response.digest);
        assert!(
            manifest.starts_with("{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci"),
            "{manifest}"
        );
        assert!(manifest.contains("example.org/kept") && !manifest.contains("containerd.io"), "{manifest}");
        let names: Vec<_> = prepared
            .entries
            .iter()
            .map(|entry| entry.annotations.values().cloned().collect::<Vec<_>>())
            .collect();
        assert_eq!(names, [["docker.io/library/app:latest", "latest"], ["example.org/x/app:2", "2"]]);
        let metadata = response.metadata().unwrap();
        assert_eq!(metadata["image.name"], "docker.io/library/app:latest,example.org/x/app:2");
        assert_eq!(metadata["containerimage.digest"], response.digest.to_string());
        assert_eq!(metadata["containerimage.config.digest"], response.image_id().to_string());
        assert_eq!(metadata["containerimage.descriptor"]["platform"]["architecture"], "amd64");
    }

    #[test]
    fn several_platforms_give_an_index() {
        let images = vec![image("amd64", &["one"]), image("arm64", &["one", "two"])];
        let prepared = prepare(images, &Options::default()).unwrap();
        let response = prepared.response();
        assert_eq!(response.descriptor.media_type, media_type::OCI_INDEX);
        assert_eq!((response.config_digest, response.image_id()), (None, response.digest));
        let index = Index::parse(text(&prepared, &response.digest).as_bytes()).unwrap();
        let platforms: Vec<_> =
            index.manifests.iter().flat_map(|entry| &entry.platform).map(Platform::to_string).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
        assert_eq!(prepared.blobs().count(), 2 + 2 + 2 + 1);
        let metadata = response.metadata().unwrap();
        assert!(
            !metadata.contains_key("containerimage.config.digest") && !metadata.contains_key("image.name")
        );
        let docker = crate::ArchiveOptions { docker: true };
        assert!(prepared.write_archive(std::io::sink(), &docker).unwrap_err().to_string().contains("not 2"));
    }

    #[test]
    fn refused() {
        let fails = |images, names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            prepare(images, &Options { names, ..Options::default() }).unwrap_err().to_string()
        };
        assert!(fails(vec![], &[]).contains("no image"));
        assert!(fails(vec![image("", &[])], &[]).contains("architecture"));
        assert!(fails(vec![image("amd64", &[])], &["Upper"]).contains("`Upper`"));
        assert!(fails(vec![image("amd64", &[]), image("amd64", &[])], &[]).contains("linux/amd64"));
    }

    #[test]
    fn the_epoch_bounds_every_time() {
        let epoch = Timestamp::from_unix_seconds(5).unwrap();
        let mut spec = image("amd64", &["one"]);
        spec.config.created = Some(Timestamp::from_unix_seconds(100).unwrap());
        let prepared = prepare(vec![spec], &Options { epoch: Some(epoch), ..Options::default() }).unwrap();
        let config = text(&prepared, &prepared.response().image_id());
        assert_eq!(config.matches("1970-01-01T00:00:05Z").count(), 2, "{config}");
    }
}
