//! Packs a folder as the only layer of an image, into an OCI archive or layout.
//!
//! ```text
//! pack_oci                                packs a small sample into a folder that is thrown away
//! pack_oci FOLDER OUT.tar [NAME]          an archive for `podman load`, `skopeo copy oci-archive:…`
//! pack_oci FOLDER LAYOUT/ [NAME]          a layout, added to what it holds
//! ```
#![allow(clippy::print_stdout)] // a program, not a library

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            let scratch = tempfile::tempdir()?;
            let folder = scratch.path().join("hello");
            std::fs::create_dir(&folder)?;
            std::fs::write(folder.join("hello.txt"), "hello\n")?;
            pack(&folder, &scratch.path().join("hello.tar"), "hello")
        }
        [folder, out] => pack(folder.as_ref(), out.as_ref(), ""),
        [folder, out, name] => pack(folder.as_ref(), out.as_ref(), name),
        _ => Err("usage: pack_oci [FOLDER OUT [NAME]]".into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("reading the files of a layer needs Linux");
}

#[cfg(target_os = "linux")]
fn pack(
    folder: &std::path::Path,
    out: &std::path::Path,
    name: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    use cooper_exporter::{ArchiveOptions, Content, ImageSpec, LayerBlob, Options, prepare, write_file};
    use cooper_layer::{
        Compression, Compressor, Directory, Merged, ScanOptions, TarOptions, scan, write_tar,
    };
    use cooper_oci::{Descriptor, Image, Platform, media_type};

    let directory = Directory::open(folder)?;
    let index = scan(&directory, Merged::new(&[]), &ScanOptions::default())?;
    // The blob goes through a file, as layers may be larger than memory.
    let mut blob = tempfile::NamedTempFile::new()?;
    let mut compressor = Compressor::new(&mut blob, Compression::default(), None)?;
    write_tar(&index, &directory, &mut compressor, &TarOptions::default())?;
    let (_, info) = compressor.finish()?;

    let mut config = Image::default();
    config.set_platform(&Platform::host());
    let layer = LayerBlob {
        diff_id: info.diff_id,
        descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, info.digest, info.size),
        content: Content::Path(blob.path().to_owned()),
        created: None,
        created_by: "pack_oci".to_owned(),
    };
    let image = ImageSpec { config, layers: vec![layer], ..ImageSpec::default() };
    let names = if name.is_empty() { vec![] } else { vec![name.to_owned()] };
    let prepared = prepare(vec![image], &Options { names, ..Options::default() })?;
    if out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/") {
        prepared.write_layout(out)?;
    } else {
        write_file(out, |file| prepared.write_archive(file, &ArchiveOptions::default()))?;
    }
    let response = prepared.response();
    println!("{} ({} bytes in {})", response.digest, prepared.size(), out.display());
    for name in &response.names {
        println!("{name}");
    }
    Ok(())
}
