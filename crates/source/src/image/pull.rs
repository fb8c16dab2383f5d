use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read, Write as _};
use std::sync::Arc;
use std::time::Duration;

use cooper_layer::{
    Decompressor, Devices, DiffId, Directory, LayerId, OverlayXattrs, UnpackOptions, restore_times, unpack,
};
use cooper_oci::{Descriptor, Digest, Hasher, Reference};
use cooper_registry::BlobStream;
use cooper_store::{BlobWriter, Committed, LayerBlob, LayerMeta, LayerRecord, Remote, Store};
use tokio::sync::SemaphorePermit;

use super::layout::Layout;
use super::{Images, LAYOUT_PLACE, lock};
use crate::blocking::blocking;
use crate::piped::{Piped, Sender, pipe};
use crate::{Error, Result};

/// One pull of one layer, which others wait for.
pub(super) type Flight = tokio::sync::Mutex<()>;

/// Told how many bytes of the blob came, and how many there are.
type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

impl Images {
    /// Makes sure that the files of a layer lie in the store: loads, checks, decompresses and unpacks it, all at once.
    ///
    /// The store must know the layer ([`Images::register`]). It is taken from a blob in the store, else from the
    /// places that the record names, in order; the blob is kept. Of several calls for one layer one works and the
    /// others wait. Different layers can be pulled at the same time.
    ///
    /// `progress` is called with the bytes that came and their total.
    ///
    /// # Errors
    ///
    /// Those of the registry, the store and unpacking; [`Error::DiffId`] if the bytes are not the layer.
    pub async fn pull(
        &self,
        layer: LayerId,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<()> {
        self.alone(layer, self.pull_alone(layer, Arc::new(progress))).await
    }

    /// Makes sure that the archive of a layer lies in the store as the image has it, without unpacking it: for those
    /// who only pass it on.
    ///
    /// The store must know the layer ([`Images::register`]). Calls for one layer wait for each other, those of
    /// [`pull`](Self::pull) included. `progress` is called with the bytes that came and their total.
    ///
    /// # Errors
    ///
    /// Those of the registry and the store; [`Error::Nowhere`] if no place has it.
    pub async fn load(
        &self,
        layer: LayerId,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<()> {
        self.alone(layer, self.load_alone(layer, Arc::new(progress))).await
    }

    /// Does something about a layer while nobody else does, in this process or another. The work begins with a look at what
    /// is there: who had to wait finds it done.
    async fn alone(&self, layer: LayerId, work: impl Future<Output = Result<()>>) -> Result<()> {
        let flight = lock(&self.0.flights).entry(layer).or_default().clone();
        let held = flight.lock().await;
        let result = match self.turn(layer).await {
            Ok(_turn) => work.await,
            Err(error) => Err(error),
        };
        drop(held);
        let mut flights = lock(&self.0.flights);
        // This call and the table have it: nobody waits.
        if Arc::strong_count(&flight) == 2 {
            flights.remove(&layer);
        }
        result
    }

    /// Waits until it is this process's turn to do something about a layer. While another process is at it, nothing is
    /// held that others here could use.
    async fn turn(&self, layer: LayerId) -> Result<(SemaphorePermit<'_>, cooper_store::Flight)> {
        let mut hash = Hasher::new();
        hash.field(b"cooper flight 1: layer");
        hash.field(layer.as_bytes());
        let (store, key) = (self.0.store.clone(), hash.finish());
        let flight = blocking(move || Ok(store.flight(&key)?)).await?;
        loop {
            // Never closed: an error here cannot happen.
            let turn = self.0.turns.acquire().await.map_err(|_| Error::Stopped)?;
            if flight.try_lock()? {
                return Ok((turn, flight));
            }
            drop(turn);
            // Drawn anew each time, so that those who wait do not all come at once.
            let jitter = RandomState::new().hash_one(()) % 30;
            tokio::time::sleep(Duration::from_millis(20 + jitter)).await;
        }
    }

    async fn load_alone(&self, layer: LayerId, progress: Progress) -> Result<()> {
        let store = self.0.store.clone();
        let (record, there) = blocking(move || {
            let record = store.layer(layer)?.ok_or(Error::Nowhere(layer))?;
            let mut there = false;
            for remote in &record.remotes {
                if store.has_blob(&remote.digest)? {
                    // It may be known as some other image's only.
                    let meta = LayerMeta { blobs: vec![came(&of(remote))], ..LayerMeta::default() };
                    store.put_layer(layer, &meta)?;
                    there = true;
                }
            }
            Ok((record, there))
        })
        .await?;
        if there { Ok(()) } else { self.fetch(&record, &progress, keep).await }
    }

    async fn pull_alone(&self, layer: LayerId, progress: Progress) -> Result<()> {
        let store = self.0.store.clone();
        let (record, there) = blocking(move || {
            let there = store.presence(&[layer])?.first().is_some_and(|found| found.snapshot);
            Ok((store.layer(layer)?, there))
        })
        .await?;
        if there {
            return Ok(());
        }
        let record = record.ok_or(Error::Nowhere(layer))?;
        if self.unpack_stored(&record, &progress).await? {
            return Ok(());
        }
        self.fetch(&record, &progress, land).await
    }

    /// Hands a layer's archive to somebody, from the first place that gives it.
    async fn fetch(&self, record: &LayerRecord, progress: &Progress, take: Take) -> Result<()> {
        let mut last = Error::Nowhere(record.id);
        for remote in &record.remotes {
            match self.fetch_from(record, remote, progress, take).await {
                Ok(()) => return Ok(()),
                // The same everywhere: another place would not help.
                Err(error @ (Error::Store(_) | Error::Taken(_) | Error::Stopped)) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Unpacks a blob that the store has; `false` if it has none that is good.
    async fn unpack_stored(&self, record: &LayerRecord, progress: &Progress) -> Result<bool> {
        for blob in &record.blobs {
            let (store, record, blob, progress) =
                (self.0.store.clone(), record.clone(), blob.clone(), progress.clone());
            let done = blocking(move || {
                let Some(file) = store.open_blob(&blob.digest)? else { return Ok(false) };
                let input = Input {
                    source: Source::File(file),
                    progress,
                    read: 0,
                    total: blob.size,
                    keep: Keep::Hash(Hasher::new()),
                };
                let unpacked =
                    land(&store, &record, &descriptor(&blob.media_type, blob.digest, blob.size), input);
                if let Err(error) = unpacked {
                    if damaged(&store, blob.digest)? {
                        store.lose_blob(&blob.digest, "its bytes have another digest")?;
                        return Ok(false);
                    }
                    return Err(error);
                }
                Ok(true)
            })
            .await?;
            if done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn fetch_from(
        &self,
        record: &LayerRecord,
        remote: &Remote,
        progress: &Progress,
        take: Take,
    ) -> Result<()> {
        let descriptor = of(remote);
        let (store, record, progress, total) =
            (self.0.store.clone(), record.clone(), progress.clone(), remote.size);
        if let Some(dir) = remote.reference.strip_prefix(LAYOUT_PLACE) {
            let layout = Layout::new(dir.as_ref())?;
            return blocking(move || {
                let source = Source::File(layout.open(descriptor.digest)?);
                let keep = Keep::Blob(store.blob_writer()?);
                take(&store, &record, &descriptor, Input { source, progress, read: 0, total, keep })
            })
            .await;
        }
        let reference: Reference = remote.reference.parse().map_err(|error| Error::Image {
            name: remote.reference.clone(),
            problem: format!("its layer's record names no repository: {error}"),
        })?;
        let stream = self.0.client.blob(&reference, &descriptor)?;
        let (sender, piped) = pipe();
        let unpacking = blocking(move || {
            let source = Source::Download(piped);
            let keep = Keep::Blob(store.blob_writer()?);
            take(&store, &record, &descriptor, Input { source, progress, read: 0, total, keep })
        });
        let (loaded, landed) = tokio::join!(download(stream, sender), unpacking);
        // Where both failed, the download is the cause.
        loaded.and(landed)
    }
}

/// Hands the pieces of a blob on, and `None` at its end: an end without one is a failure.
async fn download(mut stream: BlobStream, sender: Sender) -> Result<()> {
    loop {
        let piece = stream.next().await?;
        let end = piece.is_none();
        // Nobody there: unpacking has failed, and says why.
        if sender.send(piece).await.is_err() || end {
            return Ok(());
        }
    }
}

fn of(remote: &Remote) -> Descriptor {
    descriptor(&remote.media_type, remote.digest, remote.size)
}

/// Describes a blob as it came from outside.
fn came(blob: &Descriptor) -> LayerBlob {
    LayerBlob { digest: blob.digest, size: blob.size, media_type: blob.media_type.clone(), made_by: None }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(media_type, digest, size)
}

/// Tells whether a stored blob's bytes are other ones than they should be.
fn damaged(store: &Store, digest: Digest) -> Result<bool> {
    let Some(mut file) = store.open_blob(&digest)? else { return Ok(true) };
    let mut hasher = Hasher::new();
    Ok(io::copy(&mut file, &mut hasher).is_err() || hasher.finish() != digest)
}

/// What is done with a layer's archive.
type Take = fn(&Store, &LayerRecord, &Descriptor, Input) -> Result<()>;

/// Reads a blob to its end and keeps it.
fn keep(store: &Store, record: &LayerRecord, blob: &Descriptor, mut input: Input) -> Result<()> {
    let read = |source| Error::Unpack { layer: record.id, source: cooper_layer::Error::Read(source) };
    io::copy(&mut input, &mut io::sink()).map_err(read)?;
    let Keep::Blob(writer) = input.keep else { return Ok(()) };
    writer.commit(Some(&blob.digest))?;
    store.put_layer(record.id, &LayerMeta { blobs: vec![came(blob)], ..LayerMeta::default() })?;
    Ok(())
}

/// Reads a blob to its end: unpacks it, checks what it was, and puts it into the store.
fn land(store: &Store, record: &LayerRecord, blob: &Descriptor, mut input: Input) -> Result<()> {
    let layer = record.id;
    let pending = store.begin_snapshot()?;
    let failed = |source| Error::Unpack { layer, source };
    let into = Directory::open(pending.path()).map_err(|source| failed(cooper_layer::Error::Read(source)))?;
    // No user namespace may make device nodes; a container's are made when it starts, and the blob keeps the image's.
    let devices = match store.overlay_xattrs() {
        OverlayXattrs::Trusted => Devices::Create,
        OverlayXattrs::User => Devices::Record,
    };
    let options = UnpackOptions {
        overlay: store.overlay_xattrs(),
        owners: store.owners(),
        devices,
        ..UnpackOptions::default()
    };
    let unpacked = Decompressor::new(&mut input)
        .and_then(|tar| unpack(pending.charged(tar), &into, &options))
        .map_err(failed)?;
    // Behind the compressed stream there may be more, which belongs to the blob.
    io::copy(&mut input, &mut io::sink()).map_err(|source| failed(cooper_layer::Error::Read(source)))?;
    let mut meta =
        LayerMeta { diff_id: Some(unpacked.diff_id), created: record.created, ..LayerMeta::default() };
    match input.keep {
        Keep::Hash(hasher) => {
            let found = hasher.finish();
            if found != blob.digest {
                return Err(cooper_store::Error::Mismatch { expected: blob.digest, found }.into());
            }
        }
        Keep::Blob(writer) => {
            writer.commit(Some(&blob.digest))?;
            meta.blobs.push(came(blob));
        }
    }
    let expected = record.diff_id.unwrap_or(DiffId::new(*layer.digest()));
    if unpacked.diff_id != expected {
        return Err(Error::DiffId { layer, found: *unpacked.diff_id.digest() });
    }
    // A layer that a step made: its own index knows more than its archive.
    let index = match store.index(layer)? {
        Some(known) if restore_times(&into, &unpacked.index, &known).map_err(failed)? => known,
        _ => Arc::new(unpacked.index),
    };
    match store.commit_layer(pending, layer, &index, &meta)? {
        Committed::New(_) | Committed::Adopted(_) => Ok(()),
        Committed::Taken { .. } => Err(Error::Taken(layer)),
    }
}

/// A blob that is read: kept or hashed, and counted, on its way.
struct Input {
    source: Source,
    progress: Progress,
    read: u64,
    total: u64,
    keep: Keep,
}

enum Source {
    File(File),
    Download(Piped),
}

enum Keep {
    Blob(BlobWriter),
    Hash(Hasher),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        match &mut self.keep {
            Keep::Blob(writer) => writer.write_all(bytes)?,
            Keep::Hash(hasher) => hasher.update(bytes),
        }
        if count > 0 {
            self.read += count as u64;
            (self.progress)(self.read, self.total);
        }
        Ok(count)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Download(piped) => piped.read(buffer),
        }
    }
}
