//! What a build reads from outside: folders and images, each looked up once.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use cooper_layer::LayerId;
use cooper_llb::pb;
use cooper_oci::{Digest, Hasher, Platform, Reference};
use cooper_solver::ResultId;
use cooper_source::{GitLogin, GitTree, ImageName, Images, Repositories, UrlFile, Urls};
use cooper_store::Store;

use crate::context::Folder;
use crate::error::StepError;
use crate::events::Events;
use crate::given::Given;
use crate::results::{Results, fold};

/// Sources of one build.
pub(crate) struct Sources {
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) urls: Urls,
    /// Folders by the name that local sources use.
    pub(crate) folders: BTreeMap<String, PathBuf>,
    /// OCI layouts by the name of the store that sources use.
    pub(crate) layouts: BTreeMap<String, PathBuf>,
    /// Secrets and agents.
    pub(crate) given: Arc<Given>,
    /// Makes keys of folders differ from build to build: what is in them is in the keys of their readers.
    pub(crate) nonce: [u8; 32],
    /// A registry could not be reached, which is nothing that the Dockerfile can be blamed for.
    pub(crate) unreachable: AtomicBool,
    opened: Mutex<HashMap<(String, String), Arc<Folder>>>,
    /// What addresses gave, by the source's vertex: asked for once, and so the same for the whole build.
    fetched: Mutex<HashMap<Digest, Fetched>>,
}

/// What an address gave, once it has.
type Fetched = Arc<tokio::sync::OnceCell<LayerId>>;

/// Told how many bytes came, and how many there are.
type Progress = dyn Fn(u64, u64) + Send + Sync;

/// What a source was pinned to.
#[derive(Debug, Clone)]
pub(crate) enum Pinned {
    Image(Arc<[LayerId]>),
    Folder(Digest, Arc<Folder>),
}

impl Pinned {
    /// Returns the key of the source's vertex.
    pub(crate) fn key(&self) -> Digest {
        match self {
            Self::Image(layers) => {
                let mut hash = Hasher::new();
                hash.field(b"cooper key 1: image");
                hash.field(fold(layers).as_bytes());
                hash.finish()
            }
            Self::Folder(key, _) => *key,
        }
    }

    /// Tells the results what the source stands for.
    pub(crate) fn register(&self, results: &Results) -> ResultId {
        match self {
            Self::Image(layers) => results.layers(layers),
            Self::Folder(key, folder) => {
                let id = ResultId(*key.as_bytes());
                results.folder(id, folder.clone());
                id
            }
        }
    }
}

impl Sources {
    pub(crate) fn new(
        store: Store,
        images: Images,
        urls: Urls,
        folders: BTreeMap<String, PathBuf>,
        layouts: BTreeMap<String, PathBuf>,
        given: Given,
    ) -> Self {
        Self {
            store,
            images,
            urls,
            folders,
            layouts,
            given: Arc::new(given),
            nonce: crate::nonce(),
            unreachable: AtomicBool::new(false),
            opened: Mutex::default(),
            fetched: Mutex::default(),
        }
    }

    /// Finds out what a source is now.
    pub(crate) async fn pin(
        &self,
        events: &Arc<Events>,
        source: &pb::SourceOp,
        platform: Option<&Platform>,
        vertex: Digest,
    ) -> Result<Pinned, StepError> {
        let Some((scheme, name)) = source.identifier.split_once("://") else {
            return Err(StepError::Unsupported(format!("source `{}`", source.identifier)));
        };
        match scheme {
            "local" => {
                let mut hash = Hasher::new();
                hash.field(b"cooper key 1: folder");
                hash.field(self.nonce);
                hash.field(vertex.as_bytes());
                Ok(Pinned::Folder(hash.finish(), self.folder(name, &source.attrs)?))
            }
            "docker-image" | "oci-layout" => {
                let store = source.attrs.get("oci.store").map(String::as_str);
                let name = self.image_name(name, (scheme == "oci-layout").then_some(store))?;
                let platform = platform.cloned().unwrap_or_else(Platform::host);
                let image = self.images.resolve(&name, &platform).await?;
                let layers = self.images.register(&image).await?;
                Ok(Pinned::Image(layers.into()))
            }
            "git" | "http" | "https" => {
                let fetched = {
                    let mut all = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
                    all.entry(vertex).or_default().clone()
                };
                let layer = fetched.get_or_try_init(|| self.fetch(events, source, vertex)).await?;
                Ok(Pinned::Image([*layer].into()))
            }
            _ => Err(StepError::Unsupported(format!("source `{}`", source.identifier))),
        }
    }

    /// Brings what an address names into the store.
    async fn fetch(
        &self,
        events: &Arc<Events>,
        source: &pb::SourceOp,
        vertex: Digest,
    ) -> Result<LayerId, StepError> {
        if let Some(name) = source.identifier.strip_prefix("git://") {
            let tree = git_tree(source, name)?;
            let id = format!("fetching {}", tree.remote.rsplit('/').next().unwrap_or_default());
            events.status(vertex, &id, 0, None, false);
            let layer = Repositories::new(self.store.clone()).resolve(&tree, &GitLogin::default()).await?;
            events.status(vertex, &id, 1, Some(1), true);
            return Ok(layer);
        }
        let file = url_file(source)?;
        let (shown, id) = (events.clone(), format!("downloading {}", file.name));
        let progress = move |current, total| shown.status(vertex, &id, current, total, false);
        Ok(self.urls.resolve(&file, progress).await?)
    }

    /// Reads a name of an image as it stands in LLB. `layout` says that it lies in an OCI layout, and in which.
    pub(crate) fn image_name(
        &self,
        name: &str,
        layout: Option<Option<&str>>,
    ) -> Result<ImageName, StepError> {
        let bad = || StepError::Unsupported(format!("the image name `{name}`"));
        let Some(store) = layout else {
            let reference: Reference = Reference::parse_normalized(name).map_err(|_| bad())?;
            return Ok(ImageName::Registry(reference));
        };
        // `STORE:TAG@DIGEST`; the digest is what counts.
        let (front, digest) =
            name.split_once('@').map_or((name, None), |(front, digest)| (front, Some(digest)));
        let (own, tag) = front.rsplit_once(':').map_or((front, ""), |(own, tag)| (own, tag));
        let dir = self.layouts.get(store.unwrap_or(own)).or_else(|| self.layouts.get(own)).ok_or_else(bad)?;
        Ok(ImageName::Layout { dir: dir.clone(), reference: digest.unwrap_or(tag).to_owned() })
    }

    /// Opens a folder as its local source says, once for equal rules.
    fn folder(&self, name: &str, attrs: &BTreeMap<String, String>) -> Result<Arc<Folder>, StepError> {
        let rules = attrs.get("local.excludepatterns").cloned().unwrap_or_default();
        let id = (name.to_owned(), rules);
        if let Some(known) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(known.clone());
        }
        let path = self.folders.get(name).ok_or_else(|| {
            StepError::Unsupported(format!("the local source `{name}`, which nobody offers,"))
        })?;
        let exclude: Vec<String> = if id.1.is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&id.1).map_err(|error| StepError::Pattern(error.to_string()))?
        };
        let folder = Arc::new(Folder::open(path, &exclude, &self.store)?);
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(id, folder.clone());
        Ok(folder)
    }

    /// Brings the files of all layers into the store, side by side. Returns whether that was possible: a layer that some
    /// step made and that is gone cannot be fetched, only made again.
    pub(crate) async fn materialise(
        &self,
        events: &Arc<Events>,
        vertex: Digest,
        layers: &[LayerId],
    ) -> Result<bool, StepError> {
        let (store, ids) = (self.store.clone(), layers.to_vec());
        let look = move || {
            let mut present = store.presence(&ids)?;
            for (id, place) in ids.iter().zip(&mut present) {
                // Files whose entries are not known are of no use: keys and keeping go by these.
                if place.snapshot && store.index(*id)?.is_none() {
                    store.lose_snapshot(*id, "its index is gone")?;
                    place.snapshot = false;
                }
            }
            Ok::<_, cooper_store::Error>(present)
        };
        let present = tokio::task::spawn_blocking(look).await.map_err(|_| StepError::Panicked)??;
        let missing: Vec<LayerId> =
            layers.iter().zip(&present).filter(|(_, place)| !place.snapshot).map(|(id, _)| *id).collect();
        if layers.iter().zip(&present).any(|(_, place)| !place.is_anywhere()) {
            return Ok(false);
        }
        let pull = |images: Images, layer, progress: Box<Progress>| async move {
            images.pull(layer, progress).await
        };
        self.each(events, vertex, "extracting", &missing, pull).await
    }

    /// Brings the archives of layers into the store, as their images have them.
    pub(crate) async fn load(
        &self,
        events: &Arc<Events>,
        vertex: Digest,
        layers: &[LayerId],
    ) -> Result<bool, StepError> {
        let load = |images: Images, layer, progress: Box<Progress>| async move {
            images.load(layer, progress).await
        };
        self.each(events, vertex, "loading", layers, load).await
    }

    /// Does the same about several layers side by side. Returns whether it was possible.
    async fn each<F>(
        &self,
        events: &Arc<Events>,
        vertex: Digest,
        what: &str,
        layers: &[LayerId],
        work: impl Fn(Images, LayerId, Box<Progress>) -> F,
    ) -> Result<bool, StepError>
    where
        F: Future<Output = cooper_source::Result<()>> + Send + 'static,
    {
        let mut running = tokio::task::JoinSet::new();
        for layer in layers.iter().copied() {
            let name = format!("{what} {layer}");
            let (shown, id) = (events.clone(), name.clone());
            let progress = move |current, total| shown.status(vertex, &id, current, Some(total), false);
            let work = work(self.images.clone(), layer, Box::new(progress));
            let events = events.clone();
            running.spawn(async move {
                let done = work.await;
                if done.is_ok() {
                    events.status(vertex, &name, 1, Some(1), true);
                }
                done
            });
        }
        while let Some(done) = running.join_next().await {
            match done.map_err(|_| StepError::Panicked)? {
                Err(cooper_source::Error::Nowhere(_)) => return Ok(false),
                // Its archive does not have all that a step made, an attribute, say: made again is the only way.
                Err(cooper_source::Error::Taken(layer)) => {
                    self.give_up_archives(layer).await?;
                    return Ok(false);
                }
                done => done?,
            }
        }
        Ok(true)
    }

    /// Gives up the archives of a layer, so that nobody counts on them again.
    async fn give_up_archives(&self, layer: LayerId) -> Result<(), StepError> {
        let store = self.store.clone();
        let give_up = move || {
            for blob in store.layer(layer)?.map(|record| record.blobs).unwrap_or_default() {
                store.lose_blob(&blob.digest, "it does not hold all that the step made")?;
            }
            Ok::<_, cooper_store::Error>(())
        };
        Ok(tokio::task::spawn_blocking(give_up).await.map_err(|_| StepError::Panicked)??)
    }

    /// Keeps what was learnt of folders for later builds.
    pub(crate) fn save(&self) -> Result<(), cooper_store::Error> {
        for folder in self.opened.lock().unwrap_or_else(PoisonError::into_inner).values() {
            folder.save(&self.store)?;
        }
        Ok(())
    }
}

/// Reads what a source says of a git repository.
fn git_tree(source: &pb::SourceOp, name: &str) -> Result<GitTree, StepError> {
    let (address, fragment) = name.split_once('#').unwrap_or((name, ""));
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut tree = GitTree {
        remote: format!("https://{address}"),
        reference: reference.to_owned(),
        subdir: subdir.to_owned(),
        ..GitTree::default()
    };
    for (name, value) in &source.attrs {
        let bad = || StepError::Unsupported(format!("`{name}` = `{value}` of `{}`", source.identifier));
        match (name.as_str(), value.as_str()) {
            ("git.fullurl", remote) if remote.contains("://") || remote.contains('@') => {
                tree.remote = remote.to_owned();
            }
            ("git.fullurl", remote) => tree.remote = format!("https://{remote}"),
            ("git.checksum", checksum) => tree.checksum = checksum.to_owned(),
            ("git.keepgitdir", value) => tree.keep_git_dir = value == "true",
            ("git.skipsubmodules", value) => tree.skip_submodules = value == "true",
            ("git.mtime", "commit") => {}
            ("git.mtime", "checkout") => tree.checkout_times = true,
            ("git.fetchbycommit", _) => {}
            // How to log in is settled by the flags of the build.
            ("git.authtokensecret" | "git.authheadersecret" | "git.mountsshsock", _) => {}
            _ => return Err(bad()),
        }
    }
    if source.attrs.get("git.fetchbycommit").is_some_and(|value| value == "true") {
        // The name is only how the commit is called then.
        tree.reference = tree.checksum.clone();
    }
    Ok(tree)
}

/// Reads what a source says of a file behind an address.
fn url_file(source: &pb::SourceOp) -> Result<UrlFile, StepError> {
    let mut file =
        UrlFile { url: source.identifier.clone(), name: String::new(), checksum: None, mode: None };
    for (name, value) in &source.attrs {
        let bad = || StepError::Unsupported(format!("`{name}` = `{value}` of `{}`", source.identifier));
        match name.as_str() {
            "http.filename" => file.name = value.clone(),
            "http.checksum" => file.checksum = Some(value.parse().map_err(|_| bad())?),
            "http.perm" => {
                let octal = value.strip_prefix("0o").or_else(|| value.strip_prefix('0')).unwrap_or(value);
                let radix = if octal.len() < value.len() { 8 } else { 10 };
                file.mode = Some(u32::from_str_radix(octal, radix).map_err(|_| bad())?);
            }
            _ => return Err(bad()),
        }
    }
    Ok(file)
}
