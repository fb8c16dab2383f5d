//! Makes small images as OCI layouts, without any of the crates under test but the types of `cooper-oci`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cooper_oci::{Descriptor, Digest, Image, Index, Manifest, Platform, media_type};

/// An entry of a layer.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// A folder.
    Dir(&'a str),
    /// A file with its content.
    File(&'a str, &'a [u8]),
    /// A symbolic link with its target.
    Link(&'a str, &'a str),
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As plain tar.
    Plain,
    /// In gzip's container (not made smaller).
    Gzip,
}

/// A folder in the form of the OCI image layout specification.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    top: Vec<Descriptor>,
}

/// A layer that a [`Layout`] holds.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of the tar stream.
    pub diff_id: Digest,
}

impl Layout {
    /// Makes an empty layout.
    pub fn new(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layout = Self { dir, top: Vec::new() };
        layout.write_index()?;
        Ok(layout)
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stores a blob.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> io::Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        fs::write(self.dir.join("blobs/sha256").join(descriptor.digest.hex()), bytes)?;
        Ok(descriptor)
    }

    /// Stores a layer of `entries`.
    pub fn layer(&self, entries: &[Entry<'_>], packing: Packing) -> io::Result<Layer> {
        let tar = tar(entries);
        let descriptor = match packing {
            Packing::Plain => self.blob(media_type::OCI_LAYER, &tar)?,
            Packing::Gzip => self.blob(media_type::OCI_LAYER_GZIP, &gzip(&tar))?,
        };
        Ok(Layer { descriptor, diff_id: Digest::of(&tar) })
    }

    /// Stores an image of `layers`, with `config` completed by platform and layers; returns its manifest.
    pub fn image(&self, platform: &str, mut config: Image, layers: &[Layer]) -> io::Result<Descriptor> {
        let platform: Platform = platform.parse().map_err(io::Error::other)?;
        config.set_platform(&platform);
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let config = self.blob(media_type::OCI_CONFIG, &config.to_json()?)?;
        let manifest = Manifest::new(config, layers.iter().map(|layer| layer.descriptor.clone()).collect());
        let mut descriptor = self.blob(media_type::OCI_MANIFEST, &manifest.to_json()?)?;
        descriptor.platform = Some(platform);
        Ok(descriptor)
    }

    /// Stores what BuildKit puts beside an image that has provenance: a manifest that is no image.
    pub fn attestation(&self, subject: &Descriptor) -> io::Result<Descriptor> {
        let statement =
            self.blob("application/vnd.in-toto+json", br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#)?;
        let config =
            self.blob(media_type::OCI_CONFIG, br#"{"architecture":"unknown","os":"unknown","config":{}}"#)?;
        let manifest = Manifest::new(config, vec![statement]);
        let mut descriptor = self.blob(media_type::OCI_MANIFEST, &manifest.to_json()?)?;
        descriptor.platform = Some(Platform::new("unknown", "unknown"));
        let about = [
            ("vnd.docker.reference.digest".to_owned(), subject.digest.to_string()),
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ];
        descriptor.annotations.extend(about);
        Ok(descriptor)
    }

    /// Stores an index of `manifests`.
    pub fn index(&self, manifests: Vec<Descriptor>) -> io::Result<Descriptor> {
        self.blob(media_type::OCI_INDEX, &Index::new(manifests).to_json()?)
    }

    /// Names a manifest or index in the layout's `index.json`.
    pub fn tag(&mut self, tag: &str, mut descriptor: Descriptor) -> io::Result<()> {
        descriptor.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.to_owned());
        self.top.push(descriptor);
        self.write_index()
    }

    fn write_index(&self) -> io::Result<()> {
        fs::write(self.dir.join("index.json"), Index::new(self.top.clone()).to_json()?)
    }

    /// Makes an image as Docker Hub's official ones are: an index of amd64, arm64 and their attestations; two layers
    /// each, of which the upper one is `payload` bytes long. Each image has its architecture in `/etc/arch`.
    pub fn official(dir: impl Into<PathBuf>, tag: &str, payload: usize) -> io::Result<Self> {
        let mut layout = Self::new(dir)?;
        let (mut images, mut attestations) = (Vec::new(), Vec::new());
        for (platform, arch) in [("linux/amd64", "amd64\n"), ("linux/arm64/v8", "arm64\n")] {
            let base = layout.layer(
                &[
                    Entry::Dir("etc"),
                    Entry::File("etc/arch", arch.as_bytes()),
                    Entry::Link("etc/link", "arch"),
                ],
                Packing::Gzip,
            )?;
            // Not the same in each place, so that a piece taken from elsewhere is noticed.
            let bytes: Vec<u8> = (0..payload as u32)
                .flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes())
                .take(payload)
                .collect();
            let upper =
                layout.layer(&[Entry::Dir("opt"), Entry::File("opt/payload", &bytes)], Packing::Gzip)?;
            let mut config = Image::default();
            config.config.env =
                vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned(), "LANG=C.UTF-8".to_owned()];
            config.config.cmd = vec!["python3".to_owned()];
            let image = layout.image(platform, config, &[base, upper])?;
            attestations.push(layout.attestation(&image)?);
            images.push(image);
        }
        images.append(&mut attestations);
        let index = layout.index(images)?;
        layout.tag(tag, index)?;
        Ok(layout)
    }
}

/// Writes a tar stream (POSIX ustar) with fixed owners and times.
pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let (name, mode, kind, content, target): (String, u32, u8, &[u8], &str) = match entry {
            Entry::Dir(name) => (format!("{name}/"), 0o755, b'5', &[], ""),
            Entry::File(name, content) => ((*name).to_owned(), 0o644, b'0', content, ""),
            Entry::Link(name, target) => ((*name).to_owned(), 0o777, b'2', &[], target),
        };
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &name.as_bytes()[..name.len().min(100)]);
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"14000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, &target.as_bytes()[..target.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Puts bytes into gzip's container by stored blocks (RFC 1951, 3.2.4; RFC 1952).
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = bytes.chunks(65_535).peekable();
    if chunks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0, 255, 255]);
    }
    while let Some(chunk) = chunks.next() {
        let length = chunk.len() as u16;
        out.push(u8::from(chunks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| (0..8).fold(byte, |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())))
        .collect();
    let crc =
        bytes.iter().fold(!0_u32, |crc, byte| (crc >> 8) ^ table[((crc ^ u32::from(*byte)) & 255) as usize]);
    out.extend_from_slice(&(!crc).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}
