use std::io::{self, Write};

use cooper_layer::tar::{Member, MemberKind, Writer};
use cooper_oci::{Index, to_go_json};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::prepared::Prepared;

/// The content of `oci-layout` (OCI image specification, "OCI Layout", "oci-layout file").
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// How an archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveOptions {
    /// Adds `manifest.json`, which docker before version 25 needs to load an archive. For one platform only.
    ///
    /// An image of one platform with several names has it anyway: `podman load` refuses an OCI archive that lists more
    /// than one entry, and reads the names from there instead.
    pub docker: bool,
}

/// An image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    /// Short names.
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Prepared {
    /// Writes an OCI layout as a tar stream, forwards only: blobs by digest, then what lists them.
    ///
    /// Equal images give equal bytes: every member belongs to root and is of 1970. Each blob is compared with its digest
    /// on the way; after an error the stream is to be thrown away.
    pub fn write_archive(&self, out: impl Write, options: &ArchiveOptions) -> Result<()> {
        let mut writer = Writer::new(out);
        for name in ["blobs/", "blobs/sha256/"] {
            let mut member = Member::new(name, MemberKind::Directory);
            member.mode = 0o755;
            writer.append(&member).map_err(Error::Write)?;
        }
        for (descriptor, content) in self.blobs.values() {
            let name = format!("blobs/sha256/{}", descriptor.digest.hex());
            writer.append(&file(name, descriptor.size)).map_err(Error::Write)?;
            content.copy(descriptor, &mut writer)?;
        }
        let index = Index::new(self.entries.clone());
        put(&mut writer, "index.json", &to_go_json(&index)?)?;
        if options.docker || self.single.is_some() && self.entries.len() > 1 {
            put(&mut writer, "manifest.json", &self.docker_manifest()?)?;
        }
        put(&mut writer, "oci-layout", LAYOUT)?;
        let mut out = writer.finish().map_err(Error::Write)?;
        out.flush().map_err(Error::Write)
    }

    fn docker_manifest(&self) -> Result<Vec<u8>> {
        let (config, layers) = self.single.as_ref().ok_or(Error::DockerPlatforms(self.platforms))?;
        let blob = |digest: &cooper_oci::Digest| format!("blobs/sha256/{}", digest.hex());
        let familiar = |name: &String| match cooper_oci::Reference::parse_normalized(name) {
            Ok(reference) => reference.familiar(),
            Err(_) => name.clone(),
        };
        let image = DockerImage {
            config: blob(config),
            repo_tags: self.response.names.iter().map(familiar).collect(),
            layers: layers.iter().map(blob).collect(),
        };
        Ok(to_go_json(&[image])?)
    }
}

fn file(name: impl Into<Vec<u8>>, size: u64) -> Member {
    let mut member = Member::new(name, MemberKind::File);
    (member.mode, member.size) = (0o444, size);
    member
}

fn put<W: Write>(writer: &mut Writer<W>, name: &str, content: &[u8]) -> Result<()> {
    let mut member = file(name, content.len() as u64);
    if name == "index.json" {
        // The one file of a layout that changes; containerd writes it so as well.
        member.mode = 0o644;
    }
    let result: io::Result<()> = writer.append(&member).and_then(|()| writer.write_all(content));
    result.map_err(Error::Write)
}
