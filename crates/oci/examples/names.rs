//! Shows what references and platforms mean: `cargo run -p cooper-oci --example names -- python:3.9-slim linux/arm`.
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use cooper_oci::{Platform, Reference};

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        arguments = ["python:3.9-slim", "[::1]:5000/a:b", "Builder", "linux/aarch64/v8", "arm"]
            .map(str::to_owned)
            .into();
    }
    for text in arguments {
        // `linux/arm` could be either; who writes two known words means a platform.
        match text.parse::<Platform>() {
            Ok(platform) => {
                println!("{text}: platform {platform}, normalised {}", platform.normalized().full());
                let others = ["linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7", "linux/arm/v6"];
                let runs =
                    others.into_iter().filter(|other| other.parse().is_ok_and(|other| platform.runs(&other)));
                println!("  runs images for: {}", runs.collect::<Vec<_>>().join(", "));
                continue;
            }
            Err(error) if !text.contains(':') => println!("{text}: no platform: {error}"),
            Err(_) => {}
        }
        match text.parse::<Reference>() {
            Ok(reference) => {
                println!("{text}: image {reference}");
                println!("  registry {}, repository {}", reference.domain(), reference.path());
                println!("  tag {}", reference.clone().tag_or_latest().tag().unwrap_or("none"));
            }
            Err(error) => println!("{text}: no image: {error}"),
        }
    }
}
