//! `-o type=...,dest=...`: the words of an output, as buildx spells them.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) kind: Kind,
    /// `None` is standard output.
    pub(crate) dest: Option<PathBuf>,
    pub(crate) compression: Compression,
    /// Compression level, where the kind has any.
    pub(crate) level: Option<i32>,
    /// Writes a tar archive instead of a folder (OCI only).
    pub(crate) tar: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Oci,
    Local,
    Tar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Compression {
    #[default]
    Gzip,
    Uncompressed,
    Zstd,
}

impl Output {
    /// Reads the words; a bare path is a folder and `-` an archive on standard output, as in docker.
    pub(crate) fn parse(spec: &str) -> Result<Self> {
        let mut output = Self {
            kind: Kind::Local,
            dest: None,
            compression: Compression::default(),
            level: None,
            tar: true,
        };
        if spec == "-" {
            return Ok(Self { kind: Kind::Tar, ..output });
        }
        if !spec.contains('=') {
            return Ok(Self { dest: Some(spec.into()), ..output });
        }
        let mut kind = None;
        for word in spec.split(',') {
            let Some((key, value)) = word.split_once('=') else {
                bail!("`{word}` in output `{spec}` is not KEY=VALUE");
            };
            match key.trim() {
                "type" => {
                    kind = Some(match value {
                        "oci" => Kind::Oci,
                        "local" => Kind::Local,
                        "tar" => Kind::Tar,
                        "image" | "registry" | "docker" | "cacheonly" => {
                            bail!("output type `{value}` is not there yet; use type=oci,dest=FILE")
                        }
                        _ => bail!("there is no output type `{value}` (oci, local, tar)"),
                    });
                }
                "dest" => output.dest = (value != "-").then(|| value.into()),
                "compression" => {
                    output.compression = match value {
                        "gzip" => Compression::Gzip,
                        "uncompressed" => Compression::Uncompressed,
                        "zstd" => Compression::Zstd,
                        _ => bail!("there is no compression `{value}` here (gzip, zstd, uncompressed)"),
                    };
                }
                "compression-level" => {
                    let Ok(level) = value.parse() else {
                        bail!("compression-level `{value}` is not a number")
                    };
                    output.level = Some(level);
                }
                "tar" => {
                    output.tar = match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => bail!("tar=`{value}` is neither true nor false"),
                    };
                }
                other => bail!(
                    "output key `{other}` is not there yet (type, dest, compression, compression-level, tar)"
                ),
            }
        }
        let Some(kind) = kind else { bail!("output `{spec}` has no type=") };
        output.kind = kind;
        match (kind, &output.dest, output.tar) {
            (Kind::Local, None, _) => bail!("output type=local needs dest=FOLDER"),
            (Kind::Oci, None, false) => bail!("output type=oci,tar=false needs dest=FOLDER"),
            _ => Ok(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_words_of_buildx() {
        let output = Output::parse("type=oci,dest=a.tar,compression=zstd,compression-level=3").unwrap();
        assert_eq!(output.kind, Kind::Oci);
        assert_eq!(output.dest, Some("a.tar".into()));
        assert_eq!((output.compression, output.level, output.tar), (Compression::Zstd, Some(3), true));
        assert_eq!(Output::parse("out").unwrap().kind, Kind::Local);
        assert_eq!(Output::parse("-").unwrap().dest, None);
        assert!(!Output::parse("type=oci,dest=d,tar=false").unwrap().tar);
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for (spec, message) in [
            ("type=registry", "not there yet"),
            ("type=nothing,dest=x", "no output type"),
            ("dest=x", "has no type="),
            ("type=local", "needs dest="),
            ("type=oci,tar=false", "needs dest="),
            ("type=oci,oci-mediatypes=false", "not there yet"),
            ("type=oci,compression=xz", "no compression"),
        ] {
            let error = Output::parse(spec).unwrap_err().to_string();
            assert!(error.contains(message), "{spec}: {error}");
        }
    }
}
