//! A folder of blobs, layers, snapshots and records shared by processes.
//!
//! Any number of processes may use one store at once, without a daemon, and any of them may die at any moment.

mod blobs;
mod db;
mod environment;
mod error;
mod holder;
mod layers;
mod layout;
mod leases;
mod locks;
mod loss;
mod memo;
mod mount;
mod records;
mod snapshots;
mod store;
mod sweep;
mod time;
mod tree;
mod usage;

pub use blobs::BlobWriter;
pub use error::{Error, Result};
pub use layers::{LayerBlob, LayerMeta, LayerRecord, Presence, Remote};
pub use leases::Lease;
pub use loss::Loss;
pub use memo::Memo;
pub use mount::{View, Workspace};
pub use records::{OutputRecord, Publish, Published, Record};
pub use snapshots::{Committed, PendingDir};
pub use store::{Backend, Options, Store};
pub use usage::{Total, Usage};
