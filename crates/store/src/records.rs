use std::time::Duration;

use cooper_layer::{LayerId, Timestamp};
use cooper_oci::Digest;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::db::SqlContext as _;
use crate::error::{Error, Result};
use crate::layers;
use crate::store::Store;
use crate::time;

/// What a step gave, filed under the key of the step. It outlives the bytes of its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The step's key: what it does, and the ids of what it reads.
    pub key: Digest,
    /// What came out, by number of the output.
    pub outputs: Vec<OutputRecord>,
    /// When the step ended; a cached rebuild puts this time into the image again.
    pub created: Timestamp,
    /// How long the step ran, for people and for weighing what to keep.
    pub cost: Duration,
    /// The step's name independent of the results that it read; never looked up to decide anything.
    pub recipe: Option<Digest>,
    /// Whatever the caller wants to keep beside it.
    pub meta: serde_json::Value,
}

/// One output of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRecord {
    /// The id of the result.
    pub result: Digest,
    /// The whole chain of layers that the result stands for, lowest first.
    pub layers: Vec<LayerId>,
}

/// What publishing does when the key has a record already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// The earlier record wins and is adopted.
    First,
    /// The earlier record wins if the bytes of all its layers can be had, here or from a registry; otherwise the new
    /// one takes its place.
    FirstWithBytes,
    /// The new record takes its place: a forced run.
    Replace,
}

/// What is filed under a key after publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The record that counts from now on, for every process.
    pub record: Record,
    /// It is the new one.
    pub won: bool,
}

impl Store {
    /// Looks a record up without holding it: good for showing, not for building on. See [`bind`](Self::bind).
    pub fn find(&self, key: &Digest) -> Result<Option<Record>> {
        self.0.db.read(|tx| find(tx, key))
    }

    /// Looks records up in one read transaction, in the order of `keys`, without holding them.
    pub fn find_all(&self, keys: &[Digest]) -> Result<Vec<Option<Record>>> {
        self.0.db.read(|tx| keys.iter().map(|key| find(tx, key)).collect())
    }

    /// Looks records up and holds every layer that they stand for, in one write transaction.
    pub fn bind(&self, keys: &[Digest]) -> Result<Vec<Option<Record>>> {
        // Most first builds find nothing: no write transaction for that.
        let found = self.find_all(keys)?;
        if found.iter().all(Option::is_none) {
            return Ok(found);
        }
        self.0.db.write(|tx| {
            let found: Vec<_> = keys.iter().map(|key| find(tx, key)).collect::<Result<_>>()?;
            for record in found.iter().flatten() {
                self.hold_record(tx, record)?;
            }
            Ok(found)
        })
    }

    /// Lists the records of a recipe, newest first: for explaining why a step ran again.
    pub fn find_by_recipe(&self, recipe: &Digest) -> Result<Vec<Record>> {
        self.0.db.read(|tx| {
            let sql = "SELECT key FROM record WHERE recipe = ?1 ORDER BY created DESC, key";
            let mut query = tx.prepare_cached(sql).sql()?;
            let keys = query.query_map([recipe.as_bytes()], |row| layers::digest(row, 0)).sql()?;
            let keys = keys.collect::<Result<Vec<_>, _>>().sql()?;
            keys.iter().filter_map(|key| find(tx, key).transpose()).collect()
        })
    }

    /// Lists the keys of all records.
    pub fn all_keys(&self) -> Result<Vec<Digest>> {
        self.0.db.read(|tx| {
            let mut query = tx.prepare_cached("SELECT key FROM record ORDER BY key").sql()?;
            query.query_map([], |row| layers::digest(row, 0)).sql()?.collect::<Result<_, _>>().sql()
        })
    }

    /// Files a record under its key, or adopts the one that is there, and holds the layers of the record that counts.
    ///
    /// Every layer that it names must be known to the store.
    pub fn publish(&self, record: &Record, rule: Publish) -> Result<Published> {
        self.0.db.write(|tx| {
            for layer in record.outputs.iter().flat_map(|output| &output.layers) {
                if layers::entries(tx, *layer)?.is_none() {
                    return Err(Error::NoLayer(*layer));
                }
            }
            if rule != Publish::Replace
                && let Some(earlier) = find(tx, &record.key)?
                && (rule == Publish::First || self.has_bytes(tx, &earlier)?)
            {
                self.hold_record(tx, &earlier)?;
                let won = earlier.outputs == record.outputs && earlier.created == record.created;
                return Ok(Published { record: earlier, won });
            }
            insert(tx, record)?;
            self.hold_record(tx, record)?;
            Ok(Published { record: record.clone(), won: true })
        })
    }

    /// Files a record in the place of what is under its key: [`Publish::Replace`].
    pub fn replace(&self, record: &Record) -> Result<Published> {
        self.publish(record, Publish::Replace)
    }

    /// Tells whether the bytes of all layers of a record can be had, here or from a registry.
    fn has_bytes(&self, tx: &Transaction<'_>, record: &Record) -> Result<bool> {
        for layer in record.outputs.iter().flat_map(|output| &output.layers) {
            if !layers::presence(&self.0.layout, tx, *layer, &mut Vec::new())?.is_anywhere() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn hold_record(&self, tx: &Transaction<'_>, record: &Record) -> Result<()> {
        let sql = "UPDATE record SET used = ?2 WHERE key = ?1";
        tx.prepare_cached(sql).sql()?.execute((record.key.as_bytes(), time::now())).sql()?;
        for layer in record.outputs.iter().flat_map(|output| &output.layers) {
            layers::hold(tx, self.0.holder.lease, *layer)?;
        }
        Ok(())
    }
}

fn find(tx: &Transaction<'_>, key: &Digest) -> Result<Option<Record>> {
    let damaged = |reason: String| Error::damaged(format!("record `{key}`"), reason);
    let sql = "SELECT recipe, created, cost, meta FROM record WHERE key = ?1";
    let mut query = tx.prepare_cached(sql).sql()?;
    let row = query.query_row([key.as_bytes()], |row| {
        let meta: String = row.get(3)?;
        Ok((layers::optional_digest(row, 0)?, row.get(1)?, row.get(2)?, meta))
    });
    let Some((recipe, created, cost, meta)) = row.optional().sql()? else { return Ok(None) };
    let meta = serde_json::from_str(&meta).map_err(|error| damaged(error.to_string()))?;
    let sql = "SELECT number, result, layers FROM output WHERE key = ?1 ORDER BY number";
    let mut query = tx.prepare_cached(sql).sql()?;
    let mut rows = query.query([key.as_bytes()]).sql()?;
    let mut outputs = Vec::new();
    while let Some(row) = rows.next().sql()? {
        let (number, chain): (usize, Vec<u8>) = (row.get(0).sql()?, row.get(2).sql()?);
        let (layers, rest) = chain.as_chunks::<32>();
        if number != outputs.len() || !rest.is_empty() {
            return Err(damaged(format!("output {number}")));
        }
        let layers = layers.iter().map(|id| LayerId::new(Digest::from_bytes(*id))).collect();
        outputs.push(OutputRecord { result: layers::digest(row, 1).sql()?, layers });
    }
    let cost = Duration::from_nanos(cost);
    Ok(Some(Record { key: *key, outputs, created: time::from_sql(created), cost, recipe, meta }))
}

fn insert(tx: &Transaction<'_>, record: &Record) -> Result<()> {
    let key = record.key.as_bytes();
    tx.prepare_cached("DELETE FROM record WHERE key = ?1").sql()?.execute([key]).sql()?;
    let sql = "INSERT INTO record (key, recipe, created, cost, meta) VALUES (?1, ?2, ?3, ?4, ?5)";
    let recipe = record.recipe.as_ref().map(Digest::as_bytes);
    let (created, cost) = (time::to_sql(record.created), record.cost.as_nanos().min(i64::MAX as u128) as i64);
    let mut row = tx.prepare_cached(sql).sql()?;
    row.execute((key, recipe, created, cost, record.meta.to_string())).sql()?;
    let sql = "INSERT INTO output (key, number, result, layers) VALUES (?1, ?2, ?3, ?4)";
    let mut row = tx.prepare_cached(sql).sql()?;
    for (number, output) in record.outputs.iter().enumerate() {
        let chain: Vec<u8> = output.layers.iter().flat_map(|layer| *layer.as_bytes()).collect();
        row.execute((key, number as i64, output.result.as_bytes(), chain)).sql()?;
    }
    Ok(())
}
