//! Lists a store, or puts the tar stream of a layer into one.
//!
//! ```text
//! store_ls                      makes a store in a temporary directory, with a small layer, and lists it
//! store_ls DIR                  lists the store in DIR
//! store_ls DIR LAYER.tar[.gz]   unpacks a layer into it, and prints what the store then knows of the layer
//! ```
#![allow(clippy::print_stdout)] // it is what it is for

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use cooper_layer::{Decompressor, Directory, LayerId, UnpackOptions, unpack};
use cooper_store::{LayerBlob, LayerMeta, LayerRecord, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match &arguments[..] {
        [] => {
            let dir = tempfile::tempdir()?;
            let store = Store::open(dir.path())?;
            let layer = dir.path().join("sample.tar");
            File::create(&layer)?.write_all(&sample())?;
            show(&import(&store, &layer)?);
            list(&store)
        }
        [root] => list(&Store::open(root)?),
        [root, layer] => {
            let store = Store::open(root)?;
            show(&import(&store, Path::new(layer))?);
            // What is in the store now survives a power cut.
            Ok(store.sync()?)
        }
        _ => Err("expected at most DIR and LAYER".into()),
    }
}

/// Keeps the archive as a blob, and unpacks it.
fn import(store: &Store, path: &Path) -> Result<LayerRecord> {
    let mut blob = store.blob_writer()?;
    io::copy(&mut File::open(path)?, &mut blob)?;
    let (digest, size) = blob.commit(None)?;

    let pending = store.begin_snapshot()?;
    let options =
        UnpackOptions { overlay: store.overlay_xattrs(), owners: store.owners(), ..Default::default() };
    let stream = Decompressor::new(store.open_blob(&digest)?.ok_or("the blob is gone")?)?;
    let unpacked = unpack(stream, &Directory::open(pending.path())?, &options)?;
    let mut magic = [0; 2];
    File::open(path)?.read_exact(&mut magic)?;
    let suffix = if magic == [0x1f, 0x8b] { "+gzip" } else { "" };
    let meta = LayerMeta {
        diff_id: Some(unpacked.diff_id),
        created: SystemTime::now().into(),
        blobs: vec![LayerBlob {
            digest,
            size,
            media_type: format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
            made_by: None,
        }],
        ..Default::default()
    };
    let id = LayerId::from(unpacked.diff_id);
    Ok(store.commit_layer(pending, id, &unpacked.index, &meta)?.record().clone())
}

fn show(layer: &LayerRecord) {
    println!("layer {}", layer.id);
    if let Some(diff_id) = layer.diff_id {
        println!("  diff id    {diff_id}");
    }
    if let Some(index) = layer.index {
        println!("  index      {index}");
    }
    match layer.snapshot {
        Some(bytes) => println!("  unpacked   {bytes} bytes"),
        None => println!("  unpacked   no"),
    }
    for blob in &layer.blobs {
        println!("  blob       {} {} bytes {}", blob.digest, blob.size, blob.media_type);
    }
    for remote in &layer.remotes {
        println!("  remote     {}@{} {} bytes", remote.reference, remote.digest, remote.size);
    }
}

fn list(store: &Store) -> Result<()> {
    println!("store {}", store.root().display());
    for layer in store.all_layers()? {
        show(&layer);
    }
    for key in store.all_keys()? {
        let Some(record) = store.find(&key)? else { continue };
        println!("record {key}, ran {:?}", record.cost);
        for (number, output) in record.outputs.iter().enumerate() {
            println!("  output {number}   {} ({} layers)", output.result, output.layers.len());
        }
    }
    let usage = store.usage()?;
    println!(
        "{} layers, {} of them unpacked ({} bytes), {} blobs ({} bytes), {} records, {} memos ({} bytes): {} bytes",
        usage.layers,
        usage.snapshots.count,
        usage.snapshots.bytes,
        usage.blobs.count,
        usage.blobs.bytes,
        usage.records,
        usage.memos.count,
        usage.memos.bytes,
        usage.bytes()
    );
    Ok(())
}

/// A tar stream with one file, `hello`.
fn sample() -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| {
        header.iter_mut().skip(at).zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
    };
    // POSIX ustar: name, mode, owner, group, size, time, checksum, type, magic.
    for (at, text) in [
        (0, "hello"),
        (100, "0000644"),
        (108, "0000000"),
        (116, "0000000"),
        (124, "00000000006"),
        (136, "00000000000"),
        (148, "        "),
        (156, "0"),
        (257, "ustar"),
        (263, "00"),
    ] {
        put(at, text);
    }
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    let sum = format!("{sum:06o}\0");
    header.iter_mut().skip(148).zip(sum.bytes()).for_each(|(slot, byte)| *slot = byte);
    let mut out = header.to_vec();
    out.extend(b"hello\n");
    out.resize(512 * 4, 0);
    out
}
