//! The messages of the wire form, generated from `proto/ops.proto`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/pb.rs"));
