use std::future::Future;

use bytes::Bytes;
use cooper_oci::{Descriptor, Image, Index, Manifest, Platform, Reference, media_type};

use crate::{Client, Document, Error};

/// An index can point to an index; nobody needs more of them than this.
const MOST_NESTED: usize = 4;

/// Serves the documents of one image: a registry's repository, or a folder.
pub trait Documents {
    /// How it fails.
    type Error: From<Error>;

    /// Returns the checked bytes of a manifest, an index or a configuration.
    fn document(&self, descriptor: &Descriptor) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
}

/// One image of one platform.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The manifest that was chosen.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub image: Image,
    /// The configuration's bytes as they are.
    pub config: Bytes,
}

/// Chooses the image for `platform` from a manifest or an index.
///
/// Attestations are left out. A manifest that stands alone is taken whatever it runs on: who asks can compare
/// [`Image::platform`].
///
/// # Errors
///
/// [`Error::NoPlatform`] if nothing of an index runs on `platform`, [`Error::MediaType`] if the manifest is no image,
/// and those of `documents`.
pub async fn select<D: Documents>(
    documents: &D,
    what: &str,
    top: &Document,
    platform: &Platform,
) -> Result<Selected, D::Error> {
    if media_type::is_manifest(&top.descriptor.media_type) {
        return open(documents, what, top.descriptor.clone(), &top.bytes).await;
    }
    let json = |source| Error::Json { what: what.to_owned(), source };
    let mut index = Index::parse(&top.bytes).map_err(json)?;
    let available = index.platforms();
    let none =
        || Error::NoPlatform { what: what.to_owned(), wanted: platform.full(), available: available.clone() };
    for _ in 0..MOST_NESTED {
        let mut nested = None;
        for entry in index.candidates(platform) {
            let bytes = documents.document(entry).await?;
            if media_type::is_index(&entry.media_type) {
                nested = Some(Index::parse(&bytes).map_err(json)?);
                break;
            }
            let found = open(documents, what, entry.clone(), &bytes).await?;
            // An entry that does not say what it runs on: its configuration does.
            if entry.platform.is_some() || platform.runs(&found.image.platform()) {
                return Ok(found);
            }
        }
        index = nested.ok_or_else(none)?;
    }
    Err(none().into())
}

async fn open<D: Documents>(
    documents: &D,
    what: &str,
    descriptor: Descriptor,
    bytes: &[u8],
) -> Result<Selected, D::Error> {
    let json = |source| Error::Json { what: what.to_owned(), source };
    let not_image =
        |media_type: &str| Error::MediaType { what: what.to_owned(), media_type: media_type.to_owned() };
    if !media_type::is_manifest(&descriptor.media_type) {
        return Err(not_image(&descriptor.media_type).into());
    }
    let manifest = Manifest::parse(bytes).map_err(json)?;
    if !media_type::is_config(&manifest.config.media_type) {
        let kind = if manifest.artifact_type.is_empty() {
            &manifest.config.media_type
        } else {
            &manifest.artifact_type
        };
        return Err(not_image(kind).into());
    }
    let config = documents.document(&manifest.config).await?;
    let image = Image::parse(&config).map_err(json)?;
    Ok(Selected { descriptor, manifest, image, config })
}

/// The documents of a repository.
#[derive(Debug)]
pub(crate) struct Repository<'a> {
    pub(crate) client: &'a Client,
    pub(crate) reference: &'a Reference,
}

impl Documents for Repository<'_> {
    type Error = Error;

    async fn document(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        self.client.document(self.reference, descriptor).await
    }
}

impl Client {
    /// Fetches a manifest, an index or a configuration by its descriptor.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn document(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let kind = &descriptor.media_type;
        if !media_type::is_manifest(kind) && !media_type::is_index(kind) {
            return self.small_blob(reference, descriptor).await;
        }
        let named = reference.clone().without_version().with_digest(descriptor.digest);
        let found = self.manifest(&named).await?;
        if found.descriptor.media_type != *kind || found.descriptor.size != descriptor.size {
            return Err(Error::Protocol {
                what: format!("manifest of `{named}`"),
                host: named.domain().to_owned(),
                problem: format!(
                    "a `{}` of {} bytes where the index says `{kind}` of {} bytes",
                    found.descriptor.media_type, found.descriptor.size, descriptor.size
                ),
            });
        }
        Ok(found.bytes)
    }

    /// Fetches what `reference` names and chooses the image for `platform`; returns both.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Document, Selected), Error> {
        let top = self.manifest(reference).await?;
        let what = format!("image `{}`", reference.clone().tag_or_latest());
        let chosen = select(&Repository { client: self, reference }, &what, &top, platform).await?;
        Ok((top, chosen))
    }
}
