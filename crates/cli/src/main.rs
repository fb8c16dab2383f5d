//! cooper: builds container images without a daemon.

fn main() {}
