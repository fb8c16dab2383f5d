//! A client of OCI registries: pull and push, tokens, mirrors, tries, resuming.
//!
//! What it holds: [`Client`] finds out what a [`Reference`](cooper_oci::Reference) names ([`Client::manifest`],
//! [`Client::head`]), chooses the image of a platform ([`Client::image`], [`select`]), loads blobs
//! ([`Client::blob`]) and pushes ([`Client::push_blob`], [`Client::push_manifest`]). Docker Hub's names, a token
//! server apart from the registry, redirects to other hosts (which never see credentials), mirrors, rate limits and
//! broken connections are its business; every byte that it returns has the digest that was asked for.
//!
//! [`Web`] loads from any other address, as `ADD` does.
//!
//! What it leaves to others: where credentials live (an [`Auth`] answers; [`Known`] is one from a table), where blobs
//! are kept, what is in a layer.
//!
//! [`Error::is_unreachable`] tells "there is no network" from everything that a registry said.
//!
//! ```
//! use cooper_registry::{Client, Config, Known};
//! use std::sync::Arc;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! // Port 1 of this machine: nobody listens there.
//! let client = Client::new(&Config::default(), Arc::new(Known::anonymous()))?;
//! let error = client.manifest(&"127.0.0.1:1/python:3.9-slim".parse()?).await.unwrap_err();
//! assert!(error.is_unreachable());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod client;
mod config;
mod endpoint;
mod error;
mod http;
mod retry;
mod select;
mod web;

pub use auth::{Auth, AuthFuture, Authorization, Challenge, Credentials, Known, Scheme, Tokens};
pub use client::{BlobStream, Client, Document, Upload};
pub use config::{Config, Limits};
pub use error::{Error, Result};
pub use select::{Documents, Selected, select};
pub use web::{Page, Web};
