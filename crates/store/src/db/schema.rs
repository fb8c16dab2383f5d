//! Tables, and how older ones become them.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Error, Result};

/// `COOP`: tells our database from one of another program (SQLite's `application_id`).
const APPLICATION: i64 = 0x434f_4f50;

/// Each entry leads from the format of its index to the next; the length is the newest format number. Never edit
/// one that was released: add another.
const STEPS: &[&str] = &[VERSION_1, FLIGHTS, ACCOUNTS, CACHES];

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

/// What everything takes on the disk, added up by triggers, and when it was used last.
///
/// `sealed` is when the files of a snapshot were put in: none of them was changed later. `disk` is what the files of a snapshot take in whole blocks; a blob takes its length rounded up to blocks of 4 KB. An
/// entry index (`layer.entries`) is a blob, too. Never `INSERT OR REPLACE` into these tables: SQLite does not fire the
/// triggers for the rows that go.
const ACCOUNTS: &str = "
    CREATE TABLE total (
        kind  TEXT PRIMARY KEY,
        count INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE unfinished (lock INTEGER PRIMARY KEY, bytes INTEGER NOT NULL) STRICT;
    CREATE TABLE trash (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE memo_file (
        name TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        used INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX memo_file_used ON memo_file (used);
    CREATE INDEX memo_written ON memo (written);

    ALTER TABLE blob ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE blob ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE layer ADD COLUMN disk INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE layer ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE layer ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE layer ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE record ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    UPDATE blob SET used = created;
    UPDATE layer SET used = created, disk = coalesce((snapshot + 4095) / 4096 * 4096, 0);
    UPDATE record SET used = created;
    CREATE INDEX blob_used ON blob (used);
    CREATE INDEX layer_used ON layer (used) WHERE snapshot IS NOT NULL;
    CREATE INDEX layer_entries ON layer (entries) WHERE entries IS NOT NULL;
    CREATE INDEX record_used ON record (used);

    INSERT INTO total SELECT 'blob', count(*), coalesce(sum((size + 4095) / 4096 * 4096), 0) FROM blob;
    INSERT INTO total SELECT 'snapshot', count(snapshot), coalesce(sum(disk), 0) FROM layer;
    INSERT INTO total SELECT 'record', count(*), 0 FROM record;
    INSERT INTO total SELECT 'memo', count(*), 0 FROM memo;
    INSERT INTO total (kind) VALUES ('memo_file'), ('unfinished'), ('trash');

    CREATE TRIGGER blob_in AFTER INSERT ON blob BEGIN
        UPDATE total SET count = count + 1, bytes = bytes + (new.size + 4095) / 4096 * 4096 WHERE kind = 'blob';
    END;
    CREATE TRIGGER blob_out AFTER DELETE ON blob BEGIN
        UPDATE total SET count = count - 1, bytes = bytes - (old.size + 4095) / 4096 * 4096 WHERE kind = 'blob';
    END;
    CREATE TRIGGER blob_size AFTER UPDATE OF size ON blob BEGIN
        UPDATE total SET bytes = bytes + (new.size + 4095) / 4096 * 4096 - (old.size + 4095) / 4096 * 4096
            WHERE kind = 'blob';
    END;
    CREATE TRIGGER layer_in AFTER INSERT ON layer WHEN new.snapshot IS NOT NULL BEGIN
        UPDATE total SET count = count + 1, bytes = bytes + new.disk WHERE kind = 'snapshot';
    END;
    CREATE TRIGGER layer_out AFTER DELETE ON layer WHEN old.snapshot IS NOT NULL BEGIN
        UPDATE total SET count = count - 1, bytes = bytes - old.disk WHERE kind = 'snapshot';
    END;
    CREATE TRIGGER layer_size AFTER UPDATE OF snapshot, disk ON layer BEGIN
        UPDATE total SET
            count = count + (new.snapshot IS NOT NULL) - (old.snapshot IS NOT NULL),
            bytes = bytes + iif(new.snapshot IS NULL, 0, new.disk) - iif(old.snapshot IS NULL, 0, old.disk)
            WHERE kind = 'snapshot';
    END;
    CREATE TRIGGER record_in AFTER INSERT ON record BEGIN
        UPDATE total SET count = count + 1 WHERE kind = 'record';
    END;
    CREATE TRIGGER record_out AFTER DELETE ON record BEGIN
        UPDATE total SET count = count - 1 WHERE kind = 'record';
    END;
    CREATE TRIGGER memo_in AFTER INSERT ON memo BEGIN
        UPDATE total SET count = count + 1 WHERE kind = 'memo';
    END;
    CREATE TRIGGER memo_out AFTER DELETE ON memo BEGIN
        UPDATE total SET count = count - 1 WHERE kind = 'memo';
    END;
    CREATE TRIGGER memo_file_in AFTER INSERT ON memo_file BEGIN
        UPDATE total SET count = count + 1, bytes = bytes + (new.size + 4095) / 4096 * 4096
            WHERE kind = 'memo_file';
    END;
    CREATE TRIGGER memo_file_out AFTER DELETE ON memo_file BEGIN
        UPDATE total SET count = count - 1, bytes = bytes - (old.size + 4095) / 4096 * 4096
            WHERE kind = 'memo_file';
    END;
    CREATE TRIGGER unfinished_in AFTER INSERT ON unfinished BEGIN
        UPDATE total SET count = count + 1, bytes = bytes + new.bytes WHERE kind = 'unfinished';
    END;
    CREATE TRIGGER unfinished_out AFTER DELETE ON unfinished BEGIN
        UPDATE total SET count = count - 1, bytes = bytes - old.bytes WHERE kind = 'unfinished';
    END;
    CREATE TRIGGER unfinished_size AFTER UPDATE OF bytes ON unfinished BEGIN
        UPDATE total SET bytes = bytes + new.bytes - old.bytes WHERE kind = 'unfinished';
    END;
    CREATE TRIGGER trash_in AFTER INSERT ON trash BEGIN
        UPDATE total SET count = count + 1, bytes = bytes + new.bytes WHERE kind = 'trash';
    END;
    CREATE TRIGGER trash_out AFTER DELETE ON trash BEGIN
        UPDATE total SET count = count - 1, bytes = bytes - old.bytes WHERE kind = 'trash';
    END;
";

/// Instances of cache mounts (`seed` is empty or a digest); one is `filled` when it has what it shall hold at first.
const CACHES: &str = "
    CREATE TABLE cache (
        number  INTEGER PRIMARY KEY AUTOINCREMENT,
        name    TEXT NOT NULL,
        seed    BLOB NOT NULL CHECK (length(seed) IN (0, 32)),
        filled  INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL,
        used    INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX cache_name ON cache (name, seed);
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
