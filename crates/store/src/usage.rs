use std::fs;

use serde::Serialize;

use crate::db::SqlContext as _;
use crate::error::{IoContext as _, Result};
use crate::store::Store;

/// How many things there are, and how many bytes they have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Total {
    /// Number of things.
    pub count: u64,
    /// Sum of their lengths in bytes, without what the file system adds.
    pub bytes: u64,
}

/// What is in a store. Nothing is counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Blobs: tar streams, entry indexes, configurations.
    pub blobs: Total,
    /// Layers that lie unpacked.
    pub snapshots: Total,
    /// Layers that are known, unpacked or not.
    pub layers: u64,
    /// Records of steps.
    pub records: u64,
    /// Things remembered to save work.
    pub memos: Total,
    /// Processes (handles) that have the store open, or died since it was opened last.
    pub holders: u64,
}

impl Usage {
    /// Returns the bytes of everything together.
    pub fn bytes(&self) -> u64 {
        self.blobs.bytes + self.snapshots.bytes + self.memos.bytes
    }
}

impl Store {
    /// Adds up what is in the store, from its database and the directory of large memos.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = self.0.db.read(|tx| {
            let total = |sql: &str| {
                tx.query_row(sql, [], |row| Ok(Total { count: row.get(0)?, bytes: row.get(1)? })).sql()
            };
            let count = |sql: &str| tx.query_row(sql, [], |row| row.get(0)).sql();
            Ok(Usage {
                blobs: total("SELECT count(*), coalesce(sum(size), 0) FROM blob")?,
                snapshots: total("SELECT count(snapshot), coalesce(sum(snapshot), 0) FROM layer")?,
                layers: count("SELECT count(*) FROM layer")?,
                records: count("SELECT count(*) FROM record")?,
                memos: total("SELECT count(*), coalesce(sum(length(value)), 0) FROM memo")?,
                holders: count("SELECT count(*) FROM holder")?,
            })
        })?;
        let dir = self.0.layout.memo();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            // One that is replaced meanwhile is not there twice.
            if let Ok(found) = entry.at("list", &dir)?.metadata() {
                usage.memos.count += 1;
                usage.memos.bytes += found.len();
            }
        }
        Ok(usage)
    }
}
