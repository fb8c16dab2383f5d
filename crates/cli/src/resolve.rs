//! `cooper debug resolve`: what an image name stands for, and whether its registry can be reached at all.

use std::path::Path;

use anyhow::{Context as _, Result};
use cooper_engine::{Error, ImageName};
use cooper_oci::{Platform, Reference};
use serde_json::json;

use crate::build;

pub(crate) fn run(root: Option<&Path>, image: &str, json: bool) -> Result<()> {
    let reference =
        Reference::parse_normalized(image).with_context(|| format!("`{image}` is no image name"))?;
    let build::Opened { engine, tokio, .. } = build::engine(root, None, None)?;
    let name = ImageName::Registry(reference);
    let found = tokio.block_on(engine.images().resolve(&name, &Platform::host()));
    match found {
        Ok(image) if json => {
            println!("{}", json!({"digest": image.digest, "manifest": image.manifest, "unreachable": false}));
            Ok(())
        }
        Ok(image) => {
            println!("{}", image.digest);
            Ok(())
        }
        Err(error) => {
            if json {
                println!("{}", json!({"error": error.to_string(), "unreachable": error.is_unreachable()}));
            }
            Err(build::plain(Error::Source(error)))
        }
    }
}
