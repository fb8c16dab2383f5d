//! Images of registries and OCI layouts as sources.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cooper_layer::{DiffId, LayerId, Timestamp};
use cooper_oci::{Descriptor, Digest, Image, Platform, Reference, media_type};
use cooper_registry::{Client, Document, Documents, Selected, select};
use cooper_store::{LayerMeta, Remote, Store};
use tokio::sync::Semaphore;

use crate::blocking::blocking;
use crate::{Error, Result};

mod layout;
mod pull;

use layout::Layout;
use pull::Flight;

/// How a layer's record names a layout as the place to fetch it from.
const LAYOUT_PLACE: &str = "oci-layout:";
/// Layers at a time, as docker downloads 3: more of them make each slower and registries angry.
const TURNS: usize = 4;

/// What a source names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageName {
    /// An image of a registry.
    Registry(Reference),
    /// An image of a folder in the form of the OCI image layout.
    Layout {
        /// The folder.
        dir: PathBuf,
        /// A tag; a digest; or nothing, which means `latest`, or the only image that there is.
        reference: String,
    },
}

impl ImageName {
    /// Reads `DIR`, `DIR:TAG` or `DIR@DIGEST`, as it stands behind `oci-layout://`.
    pub fn layout(text: &str) -> Self {
        if let Some((dir, digest)) = text.rsplit_once('@')
            && digest.parse::<Digest>().is_ok()
        {
            // `DIR:TAG@DIGEST`: the digest is what counts, but the tag is not part of the folder.
            let dir = Path::new(match dir.rsplit_once(':') {
                Some((front, tag)) if !tag.contains('/') && !Path::new(dir).exists() => front,
                _ => dir,
            });
            return Self::Layout { dir: dir.to_owned(), reference: digest.to_owned() };
        }
        match text.rsplit_once(':') {
            Some((dir, tag)) if !tag.contains('/') => {
                Self::Layout { dir: PathBuf::from(dir), reference: tag.to_owned() }
            }
            _ => Self::Layout { dir: PathBuf::from(text), reference: String::new() },
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::Layout { dir, reference } if reference.is_empty() => {
                write!(f, "{LAYOUT_PLACE}//{}", dir.display())
            }
            Self::Layout { dir, reference } => {
                let separator = if reference.contains(':') { '@' } else { ':' };
                write!(f, "{LAYOUT_PLACE}//{}{separator}{reference}", dir.display())
            }
        }
    }
}

/// What a name stood for when it was looked up: everything that is known without loading a layer.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The name, for messages.
    pub name: String,
    /// Digest of the index or manifest that the name stands for.
    pub digest: Digest,
    /// Digest of the manifest for the platform.
    pub manifest: Digest,
    /// What the image says that it runs on; other than what was asked for where the name stands for one manifest.
    pub platform: Platform,
    /// The configuration.
    pub image: Image,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<ImageLayer>,
    place: String,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageLayer {
    /// The layer: its diff ID.
    pub id: LayerId,
    /// The blob.
    pub descriptor: Descriptor,
}

/// Resolves images and brings their layers into a store. Clones share their flights.
///
/// All of it needs a tokio runtime; what blocks runs on its blocking threads.
#[derive(Debug, Clone)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    client: Arc<Client>,
    /// For those who load or unpack layers.
    turns: Semaphore,
    flights: Mutex<HashMap<LayerId, Arc<Flight>>>,
}

impl Images {
    /// Makes a source of images for a store.
    pub fn new(store: Store, client: Arc<Client>) -> Self {
        Self(Arc::new(Inner { store, client, turns: Semaphore::new(TURNS), flights: Mutex::default() }))
    }

    /// Finds out what `name` stands for on `platform`: manifest, configuration, layers. No layer is loaded.
    ///
    /// Manifests and configurations are kept in the store: what has a digest is asked for once. A tag is asked for
    /// every time.
    ///
    /// # Errors
    ///
    /// Those of the registry or the layout; [`Error::Image`] if manifest and configuration do not fit together.
    pub async fn resolve(&self, name: &ImageName, platform: &Platform) -> Result<Resolved> {
        match name {
            ImageName::Registry(reference) => {
                let documents = Repository { images: self, reference };
                let top = documents.top().await?;
                let text = reference.clone().tag_or_latest().to_string();
                let found = select(&documents, &format!("image `{text}`"), &top, platform).await?;
                resolved(text, &top, found, reference.name())
            }
            ImageName::Layout { dir, reference } => {
                let layout = Layout::new(dir)?;
                let (dir, reference) = (layout.dir().display().to_string(), reference.clone());
                let finder = layout.clone();
                let top = blocking(move || finder.find(&reference)).await?;
                let text = name.to_string();
                let found = select(&layout, &format!("image `{text}`"), &top, platform).await?;
                resolved(text, &top, found, format!("{LAYOUT_PLACE}{dir}"))
            }
        }
    }

    /// Tells the store of the image's layers and where they can be fetched, and holds them. Returns their ids.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn register(&self, image: &Resolved) -> Result<Vec<LayerId>> {
        let (store, image) = (self.0.store.clone(), image.clone());
        blocking(move || {
            let times = layer_times(&image.image);
            for (layer, created) in image.layers.iter().zip(times) {
                let remote = Remote {
                    reference: image.place.clone(),
                    digest: layer.descriptor.digest,
                    size: layer.descriptor.size,
                    media_type: layer.descriptor.media_type.clone(),
                };
                let diff_id = Some(DiffId::new(*layer.id.digest()));
                store.put_layer(
                    layer.id,
                    &LayerMeta { diff_id, created, blobs: Vec::new(), remotes: vec![remote] },
                )?;
            }
            Ok(image.layers.iter().map(|layer| layer.id).collect())
        })
        .await
    }
}

/// Puts manifest and configuration together.
fn resolved(name: String, top: &Document, found: Selected, place: String) -> Result<Resolved> {
    let Selected { descriptor, manifest, image, config } = found;
    let bad = |problem: String| Error::Image { name: name.clone(), problem };
    let (blobs, diff_ids) = (&manifest.layers, &image.rootfs.diff_ids);
    if blobs.len() != diff_ids.len() {
        return Err(bad(format!(
            "the manifest has {} layers, the configuration {}",
            blobs.len(),
            diff_ids.len()
        )));
    }
    if let Some(odd) = blobs.iter().find(|blob| !media_type::is_layer(&blob.media_type)) {
        return Err(bad(format!("`{}` is no layer of an image", odd.media_type)));
    }
    let pairs = diff_ids.iter().zip(blobs);
    let layers =
        pairs.map(|(id, blob)| ImageLayer { id: LayerId::new(*id), descriptor: blob.clone() }).collect();
    Ok(Resolved {
        digest: top.descriptor.digest,
        manifest: descriptor.digest,
        platform: image.platform(),
        config: config.to_vec(),
        name,
        image,
        layers,
        place,
    })
}

/// When each layer was made, by the history; where that does not fit, the image's own time for all.
fn layer_times(image: &Image) -> Vec<Timestamp> {
    let time = |time: Option<cooper_oci::Timestamp>| {
        let nanos = time.map_or(0, cooper_oci::Timestamp::unix_nanos);
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
        Timestamp::new(seconds, u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default())
    };
    let steps = image.history.iter().filter(|step| !step.empty_layer);
    let times: Vec<_> = steps.map(|step| time(step.created.or(image.created))).collect();
    let count = image.rootfs.diff_ids.len();
    if times.len() == count { times } else { vec![time(image.created); count] }
}

/// The documents of a repository, by way of the store.
struct Repository<'a> {
    images: &'a Images,
    reference: &'a Reference,
}

impl Repository<'_> {
    /// Returns what the reference names. A digest that the store has needs no network.
    async fn top(&self) -> Result<Document> {
        let client = &self.images.0.client;
        let mut reference = self.reference.clone();
        if reference.digest().is_none() {
            // Asking for the digest alone is not counted by Docker Hub, and often enough.
            reference = reference.with_digest(client.head(self.reference).await?.digest);
        }
        if let Some(digest) = reference.digest()
            && let Some(bytes) = self.images.stored(digest).await?
            && let Some(kind) = kind_of(&bytes)
        {
            return Ok(Document { descriptor: Descriptor::new(kind, digest, bytes.len() as u64), bytes });
        }
        let document = client.manifest(&reference).await?;
        self.images.keep(document.bytes.clone()).await?;
        Ok(document)
    }
}

impl Documents for Repository<'_> {
    type Error = Error;

    async fn document(&self, descriptor: &Descriptor) -> Result<Bytes> {
        if let Some(bytes) = self.images.stored(descriptor.digest).await? {
            return Ok(bytes);
        }
        let bytes = self.images.0.client.document(self.reference, descriptor).await?;
        self.images.keep(bytes.clone()).await?;
        Ok(bytes)
    }
}

impl Images {
    async fn stored(&self, digest: Digest) -> Result<Option<Bytes>> {
        let store = self.0.store.clone();
        blocking(move || Ok(store.read_blob(&digest)?.map(Bytes::from))).await
    }

    async fn keep(&self, bytes: Bytes) -> Result<()> {
        let store = self.0.store.clone();
        blocking(move || Ok(store.put_blob(&bytes).map(drop)?)).await
    }
}

/// Tells a stored manifest from an index; a document is stored without its media type.
fn kind_of(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes).ok()?;
    let kind = match (shape.media_type, shape.manifests.is_some(), shape.layers.is_some()) {
        (Some(kind), true, false) if media_type::is_index(&kind) => kind,
        (Some(kind), false, true) if media_type::is_manifest(&kind) => kind,
        (None, true, false) => media_type::OCI_INDEX.to_owned(),
        (None, false, true) => media_type::OCI_MANIFEST.to_owned(),
        _ => return None,
    };
    Some(kind)
}

/// Locks, whatever happened to somebody who held it: the data is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
