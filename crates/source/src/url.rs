//! Files behind addresses, as `ADD https://…` loads them.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use cooper_layer::{Decompressor, Entry, Index, Kind, LayerId, LayerPath, Timestamp};
use cooper_oci::{Digest, Hasher};
use cooper_registry::{Page, Web};
use cooper_store::Store;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::blocking::blocking;
use crate::kept;
use crate::piped::{Sender, pipe};
use crate::{Error, Result, WrongFile};

/// What is known of an address: the last answer.
const MEMO: &str = "url";
/// Which layer holds a file of a certain content.
const MEMO_CONTENT: &str = "url-content";
/// BuildKit's default for downloaded files.
const MODE: u32 = 0o600;

/// Told how many bytes came, and how many there will be where the server says so.
type Progress = Arc<dyn Fn(u64, Option<u64>) + Send + Sync>;

/// A file behind an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlFile {
    /// The address: `http:` or `https:`.
    pub url: String,
    /// What the file is called.
    pub name: String,
    /// What it must be. With it, a file that is in the store already needs no network.
    pub checksum: Option<Digest>,
    /// Its permissions; `None` for 0600.
    pub mode: Option<u32>,
}

/// Loads files into a store. Clones share connections.
///
/// All of it needs a tokio runtime; what blocks runs on its blocking threads.
#[derive(Debug, Clone)]
pub struct Urls {
    store: Store,
    web: Web,
}

/// What is remembered of an address.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    etag: Option<String>,
    layer: Digest,
}

impl Urls {
    /// Makes a source of files for a store.
    pub fn new(store: Store, web: Web) -> Self {
        Self { store, web }
    }

    /// Returns a layer with the file alone at its top, loading it if it is not there or has changed.
    ///
    /// Whether it has changed is up to the server: an answer with an `ETag` is asked for once, everything else every
    /// time. The file's time is that of `Last-Modified`, else 1970, as BuildKit has it; the owner is 0:0. What is loaded
    /// is the content, without the compression that a server may have added for the way.
    ///
    /// `progress` is called with the bytes that came and their total.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] where the file cannot be had, [`Error::Checksum`] where it is another one, those of the store.
    pub async fn resolve(
        &self,
        file: &UrlFile,
        progress: impl Fn(u64, Option<u64>) + Send + Sync + 'static,
    ) -> Result<LayerId> {
        let name = LayerPath::new(&file.name)
            .ok()
            .filter(|path| !path.is_root() && path.parent().is_none_or(|p| p.is_root()));
        let name = name.ok_or_else(|| Error::FileName(file.name.clone()))?;
        let known = self.known(file).await?;
        let known = match (known, file.checksum) {
            (Some(known), Some(_)) => return Ok(LayerId::new(known.layer)),
            (known, _) => known.and_then(|known| Some((known.etag.clone()?, known))),
        };
        if let Some((etag, known)) = &known
            && self.unchanged(file, etag).await
        {
            return Ok(LayerId::new(known.layer));
        }
        let conditions: Vec<_> = known.iter().map(|(etag, _)| ("If-None-Match", etag.as_str())).collect();
        let progress: Progress = Arc::new(progress);
        let mut tried = 0;
        loop {
            tried += 1;
            let page = self.web.get(&file.url, &conditions).await.map_err(failed)?;
            if let Some((_, known)) = known.as_ref().filter(|_| page.not_modified()) {
                return Ok(LayerId::new(known.layer));
            }
            match self.load(file, &name, page, progress.clone()).await {
                // From the start: what came before may be of another version.
                Err(Error::Url(error)) if error.is_broken() && tried < self.web.attempts() => {}
                done => return done,
            }
        }
    }

    /// Asks without loading. Some servers heed conditions only here, and some have no HEAD at all: a failure says nothing.
    async fn unchanged(&self, file: &UrlFile, etag: &str) -> bool {
        match self.web.head(&file.url, &[("If-None-Match", etag)]).await {
            Ok(page) => match page.header("etag") {
                Some(found) => strong(found) == strong(etag),
                None => page.not_modified(),
            },
            Err(_) => false,
        }
    }

    /// Returns what is known of a file, if its layer is here; it is held then.
    async fn known(&self, file: &UrlFile) -> Result<Option<Known>> {
        let store = self.store.clone();
        let (kind, key) = match &file.checksum {
            Some(checksum) => (MEMO_CONTENT, file.content_key(checksum)),
            None => (MEMO, file.key()),
        };
        blocking(move || {
            let Some(memo) = store.memo_get(kind, &key)? else { return Ok(None) };
            let Ok(known) = serde_json::from_slice::<Known>(&memo.value) else { return Ok(None) };
            Ok(kept::here(&store, LayerId::new(known.layer))?.then_some(known))
        })
        .await
    }

    async fn load(
        &self,
        file: &UrlFile,
        name: &LayerPath,
        page: Page,
        progress: Progress,
    ) -> Result<LayerId> {
        let etag = page.header("etag").map(str::to_owned);
        let mtime = page.header("last-modified").and_then(time).unwrap_or(Timestamp::EPOCH);
        // Not asked for, but some servers keep files compressed and send them so to everybody.
        let packed = page.header("content-encoding").is_some_and(|how| how.eq_ignore_ascii_case("gzip"));
        let (sender, piped) = pipe();
        let (store, asked, name) = (self.store.clone(), file.clone(), name.clone());
        let writing = blocking(move || write(&store, &asked, &name, mtime, piped, packed, etag));
        let (loaded, written) = tokio::join!(download(page, sender, progress), writing);
        // Where both failed, the download is the cause.
        loaded.and(written)
    }
}

impl UrlFile {
    fn mode(&self) -> u32 {
        self.mode.unwrap_or(MODE) & 0o7777
    }

    /// Returns the key of what is known of the address.
    fn key(&self) -> Digest {
        let mut hash = Hasher::new();
        hash.field(self.url.as_bytes());
        hash.field(self.name.as_bytes());
        hash.field(self.mode().to_be_bytes());
        hash.finish()
    }

    /// Returns the key of a file of this name and content, wherever it is from.
    fn content_key(&self, content: &Digest) -> Digest {
        let mut hash = Hasher::new();
        hash.field(content.as_bytes());
        hash.field(self.name.as_bytes());
        hash.field(self.mode().to_be_bytes());
        hash.finish()
    }
}

fn failed(error: cooper_registry::Error) -> Error {
    Error::Url(Box::new(error))
}

/// Hands the pieces on, and `None` at their end.
async fn download(mut page: Page, sender: Sender, progress: Progress) -> Result<()> {
    let (total, mut came) = (page.size(), 0);
    loop {
        let piece = page.next().await.map_err(failed)?;
        came += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        progress(came, total);
        let end = piece.is_none();
        // Nobody there: writing has failed, and says why.
        if sender.send(piece).await.is_err() || end {
            return Ok(());
        }
    }
}

/// Writes the file, checks it, and keeps it with what is known of it.
fn write(
    store: &Store,
    asked: &UrlFile,
    name: &LayerPath,
    mtime: Timestamp,
    body: impl Read,
    packed: bool,
    etag: Option<String>,
) -> Result<LayerId> {
    let pending = store.begin_snapshot()?;
    let path = pending.path().join(&asked.name);
    let failed = |source| Error::WriteUrl { url: asked.url.clone(), source };
    let mut out = File::options().write(true).create_new(true).mode(MODE).open(&path).map_err(failed)?;
    let (digest, size) = if packed {
        let body = Decompressor::new(body).map_err(|error| failed(io::Error::other(error)))?;
        copy(body, &mut out).map_err(failed)?
    } else {
        copy(body, &mut out).map_err(failed)?
    };
    if let Some(expected) = asked.checksum
        && expected != digest
    {
        return Err(Error::Checksum(Box::new(WrongFile { url: asked.url.clone(), expected, found: digest })));
    }
    out.set_permissions(std::fs::Permissions::from_mode(asked.mode())).map_err(failed)?;
    // Times before 1970 are no times of files on the web.
    let since = Duration::new(mtime.seconds.max(0).unsigned_abs(), 0);
    out.set_modified(UNIX_EPOCH + since).map_err(failed)?;
    let mut entry = Entry::new(name.clone(), Kind::File { size, digest }, asked.mode());
    entry.mtime = Timestamp::new(mtime.seconds.max(0), 0);
    let index = Index::new(vec![entry]).map_err(|error| failed(io::Error::other(error)))?;
    let layer = kept::keep(store, pending, &index)?;
    let known = |etag| serde_json::to_vec(&Known { etag, layer: *layer.digest() }).map_err(io::Error::other);
    store.memo_put(MEMO_CONTENT, &asked.content_key(&digest), &known(None).map_err(failed)?)?;
    store.memo_put(MEMO, &asked.key(), &known(etag).map_err(failed)?)?;
    Ok(layer)
}

fn copy(mut from: impl Read, to: &mut File) -> io::Result<(Digest, u64)> {
    let mut hash = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((hash.finish(), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        hash.update(piece);
        to.write_all(piece)?;
        size += count as u64;
    }
}

/// Drops the mark of a weak tag: it says that the bytes may differ where the meaning does not.
fn strong(etag: &str) -> &str {
    etag.trim_start_matches("W/")
}

/// Reads a date of HTTP, as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn time(text: &str) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Timestamp::new(time.unix_timestamp(), 0))
}
