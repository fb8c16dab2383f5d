//! Tables, and how older ones become them.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Error, Result};

/// `COOP`: tells our database from one of another program (SQLite's `application_id`).
const APPLICATION: i64 = 0x434f_4f50;

/// Each entry leads from the format of its index to the next; the length is the newest format number. Never edit
/// one that was released: add another.
const STEPS: &[&str] = &[VERSION_1, FLIGHTS];

/// Digests are 32 raw bytes, times are nanoseconds since 1970, chains are digests laid end to end.
///
/// `unsynced` is the boot in which files were renamed in without reaching the disk for sure; NULL when they have.
const VERSION_1: &str = "
    CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE holder (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        lock   INTEGER NOT NULL UNIQUE,
        pid    INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE lease (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        holder INTEGER NOT NULL REFERENCES holder ON DELETE CASCADE,
        label  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX lease_holder ON lease (holder);
    CREATE TABLE lease_layer (
        lease INTEGER NOT NULL REFERENCES lease ON DELETE CASCADE,
        layer BLOB NOT NULL,
        PRIMARY KEY (lease, layer)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX lease_layer_layer ON lease_layer (layer);
    CREATE TABLE lease_blob (
        lease INTEGER NOT NULL REFERENCES lease ON DELETE CASCADE,
        blob  BLOB NOT NULL,
        PRIMARY KEY (lease, blob)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX lease_blob_blob ON lease_blob (blob);

    CREATE TABLE blob (
        digest   BLOB PRIMARY KEY CHECK (length(digest) = 32),
        size     INTEGER NOT NULL,
        created  INTEGER NOT NULL,
        unsynced TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX blob_unsynced ON blob (unsynced) WHERE unsynced IS NOT NULL;

    CREATE TABLE layer (
        id       BLOB PRIMARY KEY CHECK (length(id) = 32),
        entries  BLOB CHECK (length(entries) = 32),
        implied  INTEGER NOT NULL DEFAULT 0,
        diff_id  BLOB CHECK (length(diff_id) = 32),
        created  INTEGER NOT NULL,
        snapshot INTEGER,
        unsynced TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX layer_unsynced ON layer (unsynced) WHERE unsynced IS NOT NULL;
    CREATE INDEX layer_diff_id ON layer (diff_id) WHERE diff_id IS NOT NULL;
    CREATE TABLE layer_blob (
        layer      BLOB NOT NULL REFERENCES layer ON DELETE CASCADE,
        digest     BLOB NOT NULL CHECK (length(digest) = 32),
        size       INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        made_by    TEXT,
        PRIMARY KEY (layer, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX layer_blob_digest ON layer_blob (digest);
    CREATE TABLE layer_remote (
        layer      BLOB NOT NULL REFERENCES layer ON DELETE CASCADE,
        reference  TEXT NOT NULL,
        digest     BLOB NOT NULL CHECK (length(digest) = 32),
        size       INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        PRIMARY KEY (layer, reference, digest)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE record (
        key     BLOB PRIMARY KEY CHECK (length(key) = 32),
        recipe  BLOB CHECK (length(recipe) = 32),
        created INTEGER NOT NULL,
        cost    INTEGER NOT NULL,
        meta    TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX record_recipe ON record (recipe) WHERE recipe IS NOT NULL;
    CREATE TABLE output (
        key    BLOB NOT NULL REFERENCES record ON DELETE CASCADE,
        number INTEGER NOT NULL,
        result BLOB NOT NULL CHECK (length(result) = 32),
        layers BLOB NOT NULL CHECK (length(layers) % 32 = 0),
        PRIMARY KEY (key, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX output_result ON output (result);

    CREATE TABLE memo (
        kind    TEXT NOT NULL,
        key     BLOB NOT NULL CHECK (length(key) = 32),
        value   BLOB NOT NULL,
        written INTEGER NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
";

/// Runs that are under way (`holder` is the lock of who began them, `name` their own), and failures for those who wait,
/// kept while a holder up to number `until` lives.
const FLIGHTS: &str = "
    CREATE TABLE attempt (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        key    BLOB NOT NULL CHECK (length(key) = 32),
        name   INTEGER NOT NULL UNIQUE,
        holder INTEGER NOT NULL,
        place  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE TABLE failure (
        number  INTEGER PRIMARY KEY AUTOINCREMENT,
        key     BLOB NOT NULL CHECK (length(key) = 32),
        attempt INTEGER NOT NULL,
        what    BLOB NOT NULL,
        until   INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX failure_key ON failure (key);
";

/// Brings a database to the newest format. Many processes may try at once.
pub(super) fn migrate(root: &Path, connection: &mut Connection) -> Result<()> {
    let known = STEPS.len() as i64;
    let broken = |source| Error::database("migrate", source);
    if version(root, connection)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
    // Another process may have been first.
    let found = version(root, &transaction)?;
    for step in STEPS.iter().skip(found.max(0) as usize) {
        transaction.execute_batch(step).map_err(broken)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(broken)?;
    transaction.pragma_update(None, "user_version", known).map_err(broken)?;
    transaction.commit().map_err(broken)
}

fn version(root: &Path, connection: &Connection) -> Result<i64> {
    let number = |name: &str| -> Result<i64> {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(|source| Error::database("read", source))
    };
    let (application, found) = (number("application_id")?, number("user_version")?);
    let empty = application == 0 && found == 0 && number("page_count")? <= 1;
    let known = STEPS.len() as i64;
    if application != APPLICATION && !empty {
        Err(Error::Foreign(root.to_owned()))
    } else if found > known {
        Err(Error::Newer { root: root.to_owned(), found, known })
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Connection {
        Connection::open(path).unwrap()
    }

    #[test]
    fn makes_once_and_refuses_newer_and_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let mut connection = open(&path);
        migrate(dir.path(), &mut connection).unwrap();
        migrate(dir.path(), &mut connection).unwrap();
        connection.pragma_update(None, "user_version", 7).unwrap();
        let error = migrate(dir.path(), &mut connection).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 7, .. }), "{error}");
        assert!(error.hint().is_some());

        let mut other = open(&dir.path().join("b.db"));
        other.execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert!(matches!(migrate(dir.path(), &mut other), Err(Error::Foreign(_))));
    }

    #[test]
    fn every_format_leads_to_the_newest() {
        for from in 0..STEPS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            for step in &STEPS[..from] {
                connection.execute_batch(step).unwrap();
            }
            if from > 0 {
                connection.pragma_update(None, "application_id", APPLICATION).unwrap();
                connection.pragma_update(None, "user_version", from as i64).unwrap();
            }
            migrate(Path::new("/x"), &mut connection).unwrap();
            let tables: i64 = connection
                .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))
                .unwrap();
            assert!(tables >= 13, "{tables}");
        }
    }
}
