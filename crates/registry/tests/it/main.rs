//! The client against a stand-in of Docker Hub and against the real `docker-registry`.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

mod faulty;
mod fuzz;
mod hub;
mod push;

use std::sync::Arc;
use std::time::Duration;

use cooper_registry::{Auth, BlobStream, Client, Config, Known, Result};

/// Settings with waits that a test can afford, and `host` as the mirror of Docker Hub where one is given.
fn config(mirror: Option<String>) -> Config {
    let mut config = Config::default();
    config.limits.first_wait = Duration::from_millis(5);
    config.limits.longest_wait = Duration::from_secs(2);
    config.limits.connect = Duration::from_secs(3);
    if let Some(mirror) = mirror {
        config.mirrors.insert("docker.io".to_owned(), vec![mirror]);
    }
    config
}

fn client(auth: impl Auth + 'static) -> Client {
    Client::new(&config(None), Arc::new(auth)).unwrap()
}

fn anonymous() -> Client {
    client(Known::anonymous())
}

async fn read(mut stream: BlobStream) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(chunk) = stream.next().await? {
        out.extend_from_slice(&chunk);
    }
    Ok(out)
}
