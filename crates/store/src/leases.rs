use cooper_layer::LayerId;
use cooper_oci::Digest;

use crate::db::SqlContext as _;
use crate::error::Result;
use crate::store::Store;
use crate::{blobs, layers};

/// Keeps layers and blobs in the store. Dropping it lets them go; so does the death of the process.
///
/// What goes through a [`Store`] handle is held by that handle anyway. A lease of its own is for a process that
/// outlives its builds.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: i64,
}

impl Store {
    /// Takes an empty lease. The label is shown to people who ask why something is kept.
    pub fn lease(&self, label: &str) -> Result<Lease> {
        let id = self.0.db.write(|tx| {
            let sql = "INSERT INTO lease (holder, label) VALUES (?1, ?2)";
            tx.prepare_cached(sql).sql()?.execute((self.0.holder.number, label)).sql()?;
            Ok(tx.last_insert_rowid())
        })?;
        Ok(Lease { store: self.clone(), id })
    }

    /// Holds layers for as long as this handle lives.
    pub fn hold_layers(&self, ids: &[LayerId]) -> Result<()> {
        self.hold(self.0.holder.lease, ids)
    }

    fn hold(&self, lease: i64, ids: &[LayerId]) -> Result<()> {
        self.0.db.write(|tx| {
            for id in ids {
                layers::required(tx, *id)?;
                layers::hold(tx, lease, *id)?;
            }
            Ok(())
        })
    }
}

impl Lease {
    /// Adds layers, which must be known to the store.
    pub fn hold_layers(&self, ids: &[LayerId]) -> Result<()> {
        self.store.hold(self.id, ids)
    }

    /// Adds a blob; tells whether it is in the store.
    pub fn hold_blob(&self, digest: &Digest) -> Result<bool> {
        self.store.0.db.write(|tx| {
            let here = blobs::row(tx, digest)?.is_some();
            if here {
                blobs::hold(tx, self.id, digest)?;
            }
            Ok(here)
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What fails here goes with the process.
        let _ = self.store.0.db.write(|tx| {
            tx.prepare_cached("DELETE FROM lease WHERE id = ?1").sql()?.execute([self.id]).sql()?;
            Ok(())
        });
    }
}
