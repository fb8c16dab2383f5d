//! Lists a layer and checks it, or packs a folder as a layer.
//!
//! ```text
//! layer_ls                        packs and lists a small sample
//! layer_ls LAYER.tar[.gz|.zst]    lists a layer; digests of stream and blob; refuses what could not be unpacked
//! layer_ls FOLDER [OUT.tar.gz]    packs a folder and prints what a manifest needs
//! ```
#![allow(clippy::print_stdout)] // a program, not a library

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<std::path::PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    match arguments.as_slice() {
        [] => linux::sample(),
        [folder, rest @ ..] if folder.is_dir() => linux::pack(folder, rest.first().map(|path| &**path)),
        [layer] => linux::list(&std::fs::read(layer)?),
        _ => Err("usage: layer_ls [LAYER | FOLDER [OUT.tar.gz]]".into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("reading and writing files of layers needs Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{Write as _, sink};
    use std::path::Path;

    use cooper_layer::{
        Compression, Compressor, Decompressor, Devices, Directory, Entry, Kind, Merged, OverlayXattrs,
        Owners, ScanOptions, TarOptions, UnpackOptions, scan, unpack, write_tar,
    };

    type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

    /// Unpacks a layer for real, into a folder that is thrown away: what can be unpacked is a good layer.
    pub(crate) fn list(blob: &[u8]) -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let decompressor = Decompressor::new(blob)?;
        let detected = decompressor.detected();
        // Needs no privileges: owners and devices are in the index only.
        let options = UnpackOptions {
            overlay: OverlayXattrs::User,
            owners: Owners::Record,
            devices: Devices::Record,
            ..UnpackOptions::default()
        };
        let unpacked = unpack(decompressor, &Directory::open(scratch.path())?, &options)?;
        for entry in &unpacked.index {
            println!("{}", line(entry));
        }
        println!("entries {} in {} bytes", unpacked.index.len(), unpacked.tar_size);
        println!("diff id {}", unpacked.diff_id);
        println!("blob    {} ({} bytes, {detected:?})", cooper_oci::Digest::of(blob), blob.len());
        Ok(())
    }

    pub(crate) fn pack(folder: &Path, out: Option<&Path>) -> Result<()> {
        let directory = Directory::open(folder)?;
        let index = scan(&directory, Merged::new(&[]), &ScanOptions::default())?;
        let file: Box<dyn std::io::Write> = match out {
            Some(path) => Box::new(std::fs::File::create(path)?),
            None => Box::new(sink()),
        };
        let mut compressor = Compressor::new(file, Compression::default(), None)?;
        write_tar(&index, &directory, &mut compressor, &TarOptions::default())?;
        let (mut file, info) = compressor.finish()?;
        file.flush()?;
        println!("entries {} in {} bytes", index.len(), info.tar_size);
        println!("content {}", index.content_id(None));
        println!("diff id {}", info.diff_id);
        println!("blob    {} ({} bytes)", info.digest, info.size);
        Ok(())
    }

    pub(crate) fn sample() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let folder = scratch.path().join("layer");
        std::fs::create_dir_all(folder.join("usr/bin"))?;
        std::fs::write(folder.join("usr/bin/hello"), "#!/bin/sh\necho hello\n")?;
        std::os::unix::fs::symlink("hello", folder.join("usr/bin/hi"))?;
        let layer = scratch.path().join("layer.tar.gz");
        pack(&folder, Some(&layer))?;
        println!();
        list(&std::fs::read(&layer)?)
    }

    fn line(entry: &Entry) -> String {
        let (kind, rest) = match &entry.kind {
            Kind::File { size, digest } => ('-', format!("{size} {digest}")),
            Kind::Directory { opaque: true } => ('d', "hides what is below".to_owned()),
            Kind::Directory { opaque: false } => ('d', String::new()),
            Kind::Symlink { target } => ('l', format!("-> {}", String::from_utf8_lossy(target))),
            Kind::CharDevice { major, minor } => ('c', format!("{major}:{minor}")),
            Kind::BlockDevice { major, minor } => ('b', format!("{major}:{minor}")),
            Kind::Fifo => ('p', String::new()),
            Kind::Whiteout => ('x', "deleted".to_owned()),
        };
        let (mode, uid, gid, path) = (entry.mode, entry.uid, entry.gid, &entry.path);
        let implied = if entry.implied { " (not in the archive)" } else { "" };
        format!("{kind} {mode:04o} {uid:>5}:{gid:<5} {path} {rest}{implied}").trim_end().to_owned()
    }
}
