//! Shows what a registry has under a name: `cargo run -p cooper-registry --example inspect -- IMAGE [PLATFORM]`.
//!
//! Without arguments it asks a registry of its own on 127.0.0.1.
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::sync::Arc;

use cooper_oci::{Index, Platform, Reference, media_type};
use cooper_registry::{Client, Config, Known};
use cooper_tests::hub::Hub;
use cooper_tests::layout::Layout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next();
    let platform = arguments.next().map_or_else(|| Ok(Platform::host()), |text| text.parse())?;
    let mut config = Config::default();
    let dir = tempfile::tempdir()?;
    let hub = Hub::start()?;
    if name.is_none() {
        hub.add("library/python", "3.9-slim", Layout::official(dir.path(), "3.9-slim", 100_000)?.dir());
        config.mirrors.insert("docker.io".to_owned(), vec![hub.host()]);
    }
    let reference: Reference = name.as_deref().unwrap_or("python:3.9-slim").parse()?;
    let client = Client::new(&config, Arc::new(Known::anonymous()))?;
    match inspect(&client, &reference, &platform).await {
        Err(error) => {
            println!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                println!("  because: {cause}");
                source = cause.source();
            }
            if let Some(hint) = error.hint() {
                println!("help: {hint}");
            }
            Err("the image cannot be inspected".into())
        }
        Ok(()) => Ok(()),
    }
}

async fn inspect(client: &Client, reference: &Reference, platform: &Platform) -> cooper_registry::Result<()> {
    let (top, image) = client.image(reference, platform).await?;
    println!("{}", reference.clone().tag_or_latest());
    println!("  {} {}", top.descriptor.digest, top.descriptor.media_type);
    if media_type::is_index(&top.descriptor.media_type)
        && let Ok(index) = Index::parse(&top.bytes)
    {
        println!("  platforms: {}", index.platforms().join(", "));
    }
    println!("  for {platform}: {} ({})", image.descriptor.digest, image.image.platform());
    println!("  command: {:?}", [image.image.config.entrypoint, image.image.config.cmd].concat());
    for layer in &image.manifest.layers {
        let mut stream = client.blob(reference, layer)?;
        while stream.next().await?.is_some() {}
        println!("  layer {} {} bytes, checked", layer.digest, stream.offset());
    }
    Ok(())
}
