//! Builds images: where the pure core meets files, processes and registries.
//!
//! What it holds: an [`Engine`] takes a [`JobSpec`], asks the frontend for a graph and answers its questions, drives the
//! solver (`drive.rs`), computes keys (`key.rs`), runs steps in the executor and file operations in the store's
//! workspaces (`run.rs`), keeps what they wrote (`keep.rs`), and exports the result (`export.rs`). While it works it tells
//! an [`Observer`] what happens; at the end a [`Report`] says what ran, what was merged and what came out.
//!
//! What it leaves to others: what a Dockerfile means (`cooper-frontend`), what to do next (`cooper-solver`), where bytes
//! are (`cooper-store`), how things look to a person (the command line). Nothing here prints.
//!
//! ```no_run
//! use std::sync::Arc;
//! use cooper_engine::{Context, Cancel, Dest, Engine, JobSpec, Known, Output, Runtime, Settings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings {
//!     root: "/var/lib/cooper".into(),
//!     single_id: false,
//!     runtime: Runtime::Search,
//!     registries: Default::default(),
//!     max_used: None,
//! };
//! let engine = Engine::open(&settings, Arc::new(Known::anonymous()))?;
//! let spec = JobSpec {
//!     context: Context::Folder(".".into()),
//!     dockerfile: (None, "Dockerfile".into()),
//!     opts: Default::default(),
//!     contexts: Default::default(),
//!     given: Default::default(),
//!     jobs: 4,
//!     names: vec!["app:dev".into()],
//!     outputs: vec![Output::Oci { dest: Dest::File("app.tar".into()), compression: Default::default() }],
//! };
//! let report = engine.build(spec, Box::new(|_| {}), &Cancel::new()).await?;
//! assert_eq!(report.exported.written, [std::path::PathBuf::from("app.tar")]);
//! # Ok(())
//! # }
//! ```

mod answers;
mod auth;

mod context;
mod drive;
mod error;
mod events;
mod export;
mod flights;
mod given;
mod graph;
mod job;
mod keep;
mod key;
mod near;
mod provide;
mod remote;
mod results;
mod run;
mod select;
mod settings;
mod size;
mod sources;
mod spaces;
mod spec;
mod ssh;
mod work;

pub use auth::{Logins, LoginsError};
pub use cooper_executor::{Cancel, Runtime};
pub use cooper_layer::Compression;
pub use cooper_registry::Known;
pub use cooper_source::{ImageName, Images};
pub use cooper_store::{Checked, Error as StoreError, Finding, Item, ItemKind, Keeper, Prune, Pruned, Store};
pub use error::{Error, FailedStep, StepError, store_error};
pub use events::{Merge, Observer, RanStep};
pub use export::Exported;
pub use given::{AgentFrom, Entitlement, Given, SecretFrom};
pub use job::{Engine, Report};
pub use near::near;
pub use settings::{Settings, max_used, registries};
pub use size::{MaxUsed, disk};
pub use spec::{Context, Dest, JobSpec, NamedContext, Output};

/// Returns 32 bytes that no other call returns: for what must not be equal to anything earlier.
fn nonce() -> [u8; 32] {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let mut hash = cooper_oci::Hasher::new();
    // Each `RandomState` has keys of its own, seeded by the system's random numbers.
    for _ in 0..4 {
        hash.field(RandomState::new().build_hasher().finish().to_be_bytes());
    }
    hash.field(std::process::id().to_be_bytes());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hash.field(now.as_nanos().to_be_bytes());
    *hash.finish().as_bytes()
}
