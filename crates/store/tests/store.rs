//! Everything about a store that needs more than one of its parts, or more than one process.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests, which clippy does not see as tests

mod store {
    mod blobs;
    mod caches;
    mod crash;
    mod evict;
    mod flights;
    mod help;
    mod layers;
    mod mounts;
    mod open;
    mod records;
    mod trees;
}
