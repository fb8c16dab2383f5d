//! Brings an image into a store: `cargo run -p cooper-source --example pull -- LAYOUT|IMAGE [STORE]`.
//!
//! An existing folder is an OCI layout, everything else an image of a registry. Without arguments it makes a layout
//! of its own. The store is a temporary one unless named.
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use cooper_oci::Platform;
use cooper_registry::{Client, Config, Known};
use cooper_source::{ImageName, Images};
use cooper_store::Store;
use cooper_tests::layout::Layout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = tempfile::tempdir()?;
    let (name, platform) = match arguments.next() {
        Some(text) if Path::new(&text).exists() => (ImageName::layout(&text), Platform::host()),
        Some(text) => (ImageName::Registry(text.parse()?), Platform::host()),
        None => {
            let layout = Layout::official(dir.path().join("layout"), "demo", 100_000)?;
            (ImageName::layout(&format!("{}:demo", layout.dir().display())), Platform::new("linux", "amd64"))
        }
    };
    let store = Store::open(arguments.next().map_or_else(|| dir.path().join("store"), Into::into))?;
    let images =
        Images::new(store.clone(), Arc::new(Client::new(&Config::default(), Arc::new(Known::anonymous()))?));
    let found = images.resolve(&name, &platform).await?;
    println!("{} is {} ({})", found.name, found.manifest, found.platform);
    images.register(&found).await?;
    let mut pulls = tokio::task::JoinSet::new();
    for layer in found.layers {
        let images = images.clone();
        pulls.spawn(async move { images.pull(layer.id, |_, _| {}).await.map(|()| layer) });
    }
    while let Some(done) = pulls.join_next().await {
        let layer = done??;
        let entries = store.index(layer.id)?.map_or(0, |index| index.len());
        println!("  {}: {} bytes, {entries} entries", layer.id, layer.descriptor.size);
    }
    Ok(())
}
