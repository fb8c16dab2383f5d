use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use cooper_oci::{Descriptor, Index, to_go_json};
use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::archive::LAYOUT;
use crate::error::{Error, Result};
use crate::prepared::{Prepared, name_of};

impl Prepared {
    /// Writes the image into an OCI layout, which is made if it is not there.
    ///
    /// What a layout already holds stays: blobs that are there are not written again, and other images keep their
    /// entries. An entry of the same name is replaced. Blobs come first and appear whole; the list of images is changed
    /// under a lock on the folder, so that several processes may write to one layout, and is replaced in one step.
    ///
    /// A folder that holds anything else is refused.
    pub fn write_layout(&self, folder: &Path) -> Result<()> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(folder).map_err(|source| Error::file("create", folder, source))?;
        check(folder)?;
        fs::create_dir_all(&blobs).map_err(|source| Error::file("create", &blobs, source))?;
        for (descriptor, content) in self.blobs.values() {
            let path = blobs.join(descriptor.digest.hex());
            // One of another length was cut off by a crash of somebody who does not rename.
            if fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == descriptor.size) {
                continue;
            }
            crate::write_file(&path, |out| content.copy(descriptor, out))?;
        }

        let lock = File::open(folder).map_err(|source| Error::file("open", folder, source))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|source| Error::file("lock", folder, source))?;
        let marker = folder.join("oci-layout");
        if !marker.exists() {
            crate::write_file(&marker, |out| out.write_all(LAYOUT).map_err(Error::Write))?;
        }
        let path = folder.join("index.json");
        let mut index = match fs::read(&path) {
            Ok(text) => Index::parse(&text).map_err(|error| Error::Destination {
                path: path.clone(),
                reason: format!("is no OCI index ({error}): remove it or choose another folder"),
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Index::new(Vec::new()),
            Err(source) => return Err(Error::file("read", &path, source)),
        };
        merge(&mut index.manifests, &self.entries);
        let text = to_go_json(&index)?;
        crate::write_file(&path, |out| out.write_all(&text).map_err(Error::Write))
        // The lock ends with its descriptor.
    }
}

/// Puts new entries in the place of those that have their name; one without a name in that of the same image.
fn merge(known: &mut Vec<Descriptor>, new: &[Descriptor]) {
    for entry in new {
        let same = |old: &Descriptor| match (name_of(old), name_of(entry)) {
            (None, None) => old.digest == entry.digest,
            (old, new) => old == new,
        };
        known.retain(|old| !same(old));
        known.push(entry.clone());
    }
}

/// Refuses a folder that is neither a layout, nor the beginning of one.
fn check(folder: &Path) -> Result<()> {
    let failed = |source| Error::file("read", folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        let ours = matches!(&*name, "blobs" | "index.json" | "oci-layout") || name.starts_with(".cooper-");
        if !ours && !folder.join("oci-layout").exists() {
            return Err(Error::Destination {
                path: folder.to_owned(),
                reason: format!("holds `{name}` and is no OCI layout: choose another folder, or an archive"),
            });
        }
    }
    let marker = folder.join("oci-layout");
    let Ok(text) = fs::read(&marker) else { return Ok(()) };
    let version = serde_json::from_slice::<Value>(&text).ok();
    let version = version.as_ref().and_then(|value| value.get("imageLayoutVersion")).and_then(Value::as_str);
    match version {
        Some(version) if version.starts_with("1.") => Ok(()),
        _ => Err(Error::Destination {
            path: marker,
            reason: "names a version of OCI layouts that is not known here (1.0.0 is)".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, ImageSpec, LayerBlob, Options, prepare};
    use cooper_oci::{Digest, Image, media_type};

    fn image(layer: &'static [u8], name: &str) -> Prepared {
        let spec = ImageSpec {
            config: Image { os: "linux".into(), architecture: "amd64".into(), ..Image::default() },
            layers: vec![LayerBlob {
                diff_id: Digest::of(layer).into(),
                descriptor: Descriptor::of(media_type::OCI_LAYER, layer),
                content: Content::bytes(layer),
                created: None,
                created_by: String::new(),
            }],
            ..ImageSpec::default()
        };
        let names = if name.is_empty() { vec![] } else { vec![name.to_owned()] };
        prepare(vec![spec], &Options { names, ..Options::default() }).unwrap()
    }

    fn list(folder: &Path) -> Vec<(Option<String>, Digest)> {
        let index = Index::parse(&fs::read(folder.join("index.json")).unwrap()).unwrap();
        index.manifests.iter().map(|entry| (name_of(entry).map(str::to_owned), entry.digest)).collect()
    }

    #[test]
    fn others_stay_and_the_same_name_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("layout");
        let (one, two, other, bare) =
            (image(b"1", "app:1"), image(b"2", "app:1"), image(b"1", "app:2"), image(b"3", ""));
        for prepared in [&one, &other, &bare, &bare, &two] {
            prepared.write_layout(&folder).unwrap();
        }
        let name = |tag: &str| Some(format!("docker.io/library/app:{tag}"));
        assert_eq!(
            list(&folder),
            [
                (name("2"), other.response.digest),
                (None, bare.response.digest),
                (name("1"), two.response.digest)
            ]
        );
        let blob = folder.join("blobs/sha256").join(Digest::of("1").hex());
        assert_eq!(fs::read(blob).unwrap(), b"1");
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("layout");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let folder = &folder;
                scope.spawn(move || {
                    for number in 0..8 {
                        image(b"x", &format!("app:{writer}-{number}")).write_layout(folder).unwrap();
                    }
                });
            }
        });
        assert_eq!(list(&folder).len(), 32);
    }

    #[test]
    fn refused() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let write = |name: &str| image(b"1", "").write_layout(&at(name)).unwrap_err().to_string();
        fs::create_dir(at("home")).unwrap();
        fs::write(at("home/letter"), "").unwrap();
        assert!(write("home").contains("`letter`"));
        fs::create_dir(at("new")).unwrap();
        fs::write(at("new/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(write("new").contains("not known"));
        fs::create_dir(at("broken")).unwrap();
        fs::write(at("broken/index.json"), "{").unwrap();
        assert!(write("broken").contains("no OCI index"));
        fs::write(at("file"), "").unwrap();
        assert!(write("file").contains("cannot create"));

        // A blob that is not what its descriptor says leaves nothing behind.
        let mut bad = image(b"1", "");
        if let Some((_, content)) = bad.blobs.get_mut(&Digest::of("1")) {
            *content = Content::bytes(*b"2");
        }
        let error = bad.write_layout(&at("damaged")).unwrap_err().to_string();
        assert!(error.contains("is damaged: its digest is"), "{error}");
        assert!(!at("damaged/index.json").exists());
        assert!(!at("damaged/blobs/sha256").join(Digest::of("1").hex()).exists());
    }
}
