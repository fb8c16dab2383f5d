//! From results to what comes out: blobs of layers, then layouts, archives, folders.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use cooper_exporter::{
    ArchiveOptions, Content, ImageSpec, LayerBlob, Options, Prepared, Response, TreeOptions, copy_tree,
    prepare, write_file, write_tree_tar,
};
use cooper_layer::{Compression, Compressor, Directory, LayerId, TarOptions, write_tar};
use cooper_oci::{Descriptor, Digest, Image, Platform, Timestamp, media_type};
use cooper_solver::ResultId;
use cooper_store::{LayerMeta, LayerRecord, Store};

use crate::drive::Unfinished;
use crate::error::{Error, StepError};
use crate::results::Root;
use crate::spec::{Dest, Output};
use crate::work::Work;

/// What is to be made of the results.
#[derive(Default)]
pub(crate) struct Export {
    pub(crate) outputs: Vec<Output>,
    pub(crate) names: Vec<String>,
    /// One a platform, in the order of the targets; `None` in `target` is scratch.
    pub(crate) platforms: Vec<ExportPlatform>,
}

/// One platform of the result.
pub(crate) struct ExportPlatform {
    pub(crate) platform: Platform,
    /// Place among the targets of the solver; `None` is scratch.
    pub(crate) target: Option<usize>,
    pub(crate) image: Vec<u8>,
    pub(crate) base_image: Option<Vec<u8>>,
    pub(crate) epoch: Option<i64>,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Digests and names, if an image was made.
    pub response: Option<Response>,
    /// Sum of the sizes of the image's blobs in bytes.
    pub size: u64,
    /// Sum of the sizes of those layers that this image has and its base has not.
    pub added: u64,
    /// Where it was written.
    pub written: Vec<PathBuf>,
}

impl Export {
    pub(crate) async fn run(&self, work: &Arc<Work>, results: Vec<ResultId>) -> Result<Exported, Unfinished> {
        let mut roots = Vec::new();
        for platform in &self.platforms {
            let Some(id) = platform.target.and_then(|target| results.get(target).copied()) else {
                roots.push(Arc::from([]));
                continue;
            };
            let layers = match work.results.get(id) {
                Some(Root::Layers(layers)) => layers,
                // A Dockerfile's result is never a bare folder; a graph's could be.
                _ => return Err(failed(StepError::Unsupported("exporting a folder as it is".into()))),
            };
            let vertex = Digest::from_bytes(id.0);
            if !self.gather(work, vertex, &layers).await.map_err(failed)? {
                return Err(Unfinished::Missing(id));
            }
            roots.push(layers);
        }
        let shared = work.clone();
        let write = move || shared.export.write(&shared, &roots);
        let exported = tokio::task::spawn_blocking(write).await.map_err(|_| failed(StepError::Panicked))?;
        exported.map_err(|error| {
            // Gone between the look and the use?
            let Error::Store(cooper_store::Error::Lost(layer)) = &error else {
                return Unfinished::Failed(error);
            };
            let lost = work.results.with_layer(&results, *layer);
            lost.map_or(Unfinished::Failed(error), Unfinished::Missing)
        })
    }

    /// Brings into the store what the outputs are made of. Returns whether that was possible: what a step made and what is
    /// gone can only be made again.
    ///
    /// An image needs archives: those of its base are passed on without being unpacked. With nothing to write, a
    /// result that nobody has looked at stays where it is.
    async fn gather(
        &self,
        work: &Arc<Work>,
        vertex: Digest,
        layers: &Arc<[LayerId]>,
    ) -> Result<bool, StepError> {
        let (events, sources) = (&work.events, &work.sources);
        let compressions: Vec<Compression> = self
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Oci { compression, .. } => Some(*compression),
                Output::Local(_) | Output::Tar(_) => None,
            })
            .collect();
        let files = compressions.len() < self.outputs.len();
        if files && !sources.materialise(events, vertex, layers).await? {
            return Ok(false);
        }
        if compressions.is_empty() {
            return Ok(true);
        }
        let (store, ids) = (work.store.clone(), layers.clone());
        let look = move || {
            let mut pulled = Vec::new();
            let mut own = Vec::new();
            for id in ids.iter().copied() {
                let Some(record) = store.layer(id)? else { return Ok(None) };
                if ready(&store, &record, &compressions)? {
                    continue;
                }
                let list = if record.remotes.is_empty() { &mut own } else { &mut pulled };
                list.push(id);
            }
            Ok::<_, cooper_store::Error>(Some((pulled, own)))
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(|_| StepError::Panicked)??;
        let Some((pulled, own)) = looked else { return Ok(false) };
        Ok(sources.load(events, vertex, &pulled).await? && sources.materialise(events, vertex, &own).await?)
    }

    fn write(&self, work: &Work, roots: &[Arc<[LayerId]>]) -> Result<Exported, Error> {
        let mut exported = Exported { response: None, size: 0, added: 0, written: Vec::new() };
        for output in &self.outputs {
            match output {
                Output::Oci { dest, compression } => {
                    let prepared = self.prepare(work, roots, *compression, &mut exported)?;
                    exported.size = prepared.size();
                    write_image(&prepared, dest)?;
                    exported.response = Some(prepared.response().clone());
                    exported.written.extend(path_of(dest));
                }
                Output::Local(folder) => {
                    for (platform, layers) in self.platforms.iter().zip(roots) {
                        let view = work.store.view(layers)?;
                        let to = if roots.len() == 1 {
                            folder.clone()
                        } else {
                            folder.join(platform.platform.to_string().replace('/', "_"))
                        };
                        copy_tree(view.root(), &to, &TreeOptions::default())?;
                    }
                    exported.written.push(folder.clone());
                }
                Output::Tar(dest) => {
                    let [layers] = roots else {
                        return Err(Error::Unsupported(
                            "output type=tar takes one platform; use type=local for several".into(),
                        ));
                    };
                    let view = work.store.view(layers)?;
                    match dest {
                        Dest::Stdout => {
                            write_tree_tar(view.root(), std::io::stdout().lock(), &TreeOptions::default())?
                        }
                        Dest::File(path) | Dest::Folder(path) => {
                            write_file(path, |out| {
                                write_tree_tar(view.root(), out, &TreeOptions::default())
                            })?;
                        }
                    }
                    exported.written.extend(path_of(dest));
                }
            }
        }
        Ok(exported)
    }

    fn prepare(
        &self,
        work: &Work,
        roots: &[Arc<[LayerId]>],
        compression: Compression,
        exported: &mut Exported,
    ) -> Result<Prepared, Error> {
        let mut images = Vec::new();
        exported.added = 0;
        for (platform, layers) in self.platforms.iter().zip(roots) {
            let config = parse(&platform.image)?;
            let base = platform.base_image.as_deref().map(parse).transpose()?;
            let below = base.as_ref().map(|base| base.rootfs.diff_ids.clone()).unwrap_or_default();
            let mut blobs = Vec::new();
            for layer in layers.iter() {
                let mut blob = blob(&work.store, *layer, compression)?;
                let makers = work.makers.lock().unwrap_or_else(PoisonError::into_inner);
                blob.created_by = makers.get(layer).cloned().unwrap_or_default();
                drop(makers);
                if !below.contains(blob.diff_id.digest()) {
                    exported.added += blob.descriptor.size;
                }
                blobs.push(blob);
            }
            images.push(ImageSpec {
                config,
                layers: blobs,
                platform: Some(platform.platform.clone()),
                base_history: base.map(|base| base.history).unwrap_or_default(),
                ..ImageSpec::default()
            });
        }
        let epoch = self.platforms.iter().find_map(|platform| platform.epoch);
        let epoch = epoch.and_then(|seconds| Timestamp::from_unix_seconds(seconds).ok());
        Ok(prepare(images, &Options { names: self.names.clone(), epoch, ..Options::default() })?)
    }
}

fn failed(error: StepError) -> Unfinished {
    Unfinished::Failed(Error::Unattributed(error))
}

fn parse(config: &[u8]) -> Result<Image, Error> {
    Image::parse(config).map_err(|error| Error::Unsupported(format!("the image configuration: {error}")))
}

fn path_of(dest: &Dest) -> Option<PathBuf> {
    match dest {
        Dest::File(path) | Dest::Folder(path) => Some(path.clone()),
        Dest::Stdout => None,
    }
}

fn write_image(prepared: &Prepared, dest: &Dest) -> Result<(), Error> {
    let options = ArchiveOptions::default();
    match dest {
        Dest::File(path) => write_file(path, |out| prepared.write_archive(out, &options))?,
        Dest::Folder(path) => prepared.write_layout(path)?,
        Dest::Stdout => {
            let mut out = std::io::stdout().lock();
            prepared.write_archive(&mut out, &options)?;
            out.flush().map_err(|error| Error::Io {
                action: "write to",
                path: "standard output".into(),
                error,
            })?;
        }
    }
    Ok(())
}

/// Returns the blob of a layer that can go into an image: what came from outside is passed on as it came, whatever new
/// layers are to be.
fn usable(
    store: &Store,
    record: &LayerRecord,
    compression: Compression,
) -> Result<Option<(cooper_store::LayerBlob, PathBuf)>, cooper_store::Error> {
    let maker = maker(compression);
    for blob in &record.blobs {
        if blob.made_by.as_ref().is_none_or(|made_by| *made_by == maker)
            && let Some(path) = store.blob_path(&blob.digest)?
        {
            return Ok(Some((blob.clone(), path)));
        }
    }
    Ok(None)
}

/// Tells whether a layer has a blob for each of these.
fn ready(
    store: &Store,
    record: &LayerRecord,
    compressions: &[Compression],
) -> Result<bool, cooper_store::Error> {
    for compression in compressions {
        if record.diff_id.is_none() || usable(store, record, *compression)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns a layer as a blob: as it was pulled, as it was compressed before, or compressed now.
fn blob(store: &Store, id: LayerId, compression: Compression) -> Result<LayerBlob, Error> {
    let lost = || Error::Store(cooper_store::Error::Lost(id));
    let record = store.layer(id)?.ok_or_else(lost)?;
    if let (Some((known, path)), Some(diff_id)) = (usable(store, &record, compression)?, record.diff_id) {
        let descriptor = Descriptor::new(known.media_type.clone(), known.digest, known.size);
        return Ok(layer_blob(&record, diff_id, descriptor, path));
    }
    let index = store.index(id)?.ok_or_else(lost)?;
    let files = store.snapshot_dir(id)?.ok_or_else(lost)?;
    let open = |error| Error::Io { action: "open", path: files.clone(), error };
    let directory = Directory::open(&files).map_err(open)?;
    let writing = |error| Error::Io { action: "write a blob to", path: store.root().to_owned(), error };
    let mut compressor = Compressor::new(store.blob_writer()?, compression, None).map_err(writing)?;
    let options = TarOptions { capabilities_only: true, ..TarOptions::default() };
    write_tar(&index, &directory, &mut compressor, &options).map_err(Error::Layer)?;
    let (writer, info) = compressor.finish().map_err(writing)?;
    writer.commit(Some(&info.digest))?;
    if let Some(expected) = record.diff_id
        && expected != info.diff_id
    {
        return Err(Error::Unsupported(format!(
            "writing layer `{id}` again: it was pulled, and its own archive is gone from the store"
        )));
    }
    let media_type = match compression {
        Compression::None => media_type::OCI_LAYER,
        Compression::Gzip { .. } => media_type::OCI_LAYER_GZIP,
        Compression::Zstd { .. } => media_type::OCI_LAYER_ZSTD,
    };
    let blob = cooper_store::LayerBlob {
        digest: info.digest,
        size: info.size,
        media_type: media_type.to_owned(),
        made_by: Some(maker(compression)),
    };
    let meta = LayerMeta {
        diff_id: Some(info.diff_id),
        created: record.created,
        blobs: vec![blob],
        ..LayerMeta::default()
    };
    let record = store.put_layer(id, &meta)?;
    let path = store.blob_path(&info.digest)?.ok_or_else(lost)?;
    Ok(layer_blob(&record, info.diff_id, Descriptor::new(media_type, info.digest, info.size), path))
}

fn layer_blob(
    record: &LayerRecord,
    diff_id: cooper_layer::DiffId,
    descriptor: Descriptor,
    path: PathBuf,
) -> LayerBlob {
    let created = record.created;
    let nanos = i128::from(created.seconds) * 1_000_000_000 + i128::from(created.nanos);
    LayerBlob {
        diff_id,
        descriptor,
        content: Content::Path(path),
        created: Timestamp::from_unix_nanos(nanos).ok(),
        created_by: String::new(),
    }
}

/// Names the compressor and its level: equal names make equal bytes of equal layers.
fn maker(compression: Compression) -> String {
    // The compressors' versions are pinned in the workspace's manifest; a change there wants a new number here.
    match compression {
        Compression::None => "cooper 1 none".to_owned(),
        Compression::Gzip { level } => format!("cooper 1 gzip {level}"),
        Compression::Zstd { level } => format!("cooper 1 zstd {level}"),
    }
}
