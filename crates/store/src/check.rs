//! Looking whether the files are what the database says: a little whenever they are used, all of it when asked.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cooper_layer::{Entry, Index, Kind, LayerId};
use cooper_oci::{Digest, Hasher};

use crate::charge::on_disk;
use crate::db::SqlContext as _;
use crate::error::{IoContext as _, Result};
use crate::store::{Store, lock};
use crate::sweep;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What it is about: `blob sha256:…`, `layer sha256:…`, `database`.
    pub what: String,
    /// What is wrong.
    pub problem: String,
}

/// What a check of the whole store came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Checked {
    /// Blobs whose bytes were read.
    pub blobs: u64,
    /// Layers whose files were read.
    pub layers: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Looks whether the files of a layer may have been changed since they were put in, once a process.
    ///
    /// Types and sizes are compared with the index; the contents of a file are read only if its inode was changed since
    /// (`ctime`), which no writer can hide. A disk that returns other bytes than were written is not noticed here:
    /// [`check`](Self::check) reads everything.
    pub(crate) fn is_sound(&self, id: LayerId) -> Result<bool> {
        if lock(&self.0.sound).contains(&id) {
            return Ok(true);
        }
        let Some(index) = self.index(id)? else {
            self.lose_snapshot(id, "its index is gone")?;
            return Ok(false);
        };
        let sealed: i64 = self.0.db.read(|tx| {
            let mut query = tx.prepare_cached("SELECT sealed FROM layer WHERE id = ?1").sql()?;
            query.query_row([id.as_bytes()], |row| row.get(0)).sql()
        })?;
        if let Err(reason) = sound(&self.0.layout.files(id), &index, Some(sealed)) {
            self.lose_snapshot(id, reason)?;
            return Ok(false);
        }
        lock(&self.0.sound).insert(id);
        Ok(true)
    }

    /// Reads everything in the store and compares it with what it should be. With `repair` what is damaged is given up
    /// (it is made or fetched again when it is wanted), and what does not belong there is deleted.
    ///
    /// Other processes may go on meanwhile: what they put in or take out is not taken for damage.
    pub fn check(&self, repair: bool) -> Result<Checked> {
        let mut out = Checked::default();
        let mut found = |what: String, problem: String| out.findings.push(Finding { what, problem });
        let verdict: String =
            self.0.db.read(|tx| tx.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).sql())?;
        if verdict != "ok" {
            found("database".into(), verdict);
        }
        let blobs: Vec<([u8; 32], u64)> = self.0.db.read(|tx| {
            let mut rows = tx.prepare("SELECT digest, size FROM blob ORDER BY digest").sql()?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).sql()?.collect::<Result<_, _>>().sql()
        })?;
        for (digest, size) in blobs {
            let digest = Digest::from_bytes(digest);
            let problem = match hash(&self.0.layout.blob(&digest)) {
                Ok((found, _)) if found == digest => None,
                Ok((_, length)) if length != size => Some(format!("has {length} bytes instead of {size}")),
                Ok(_) => Some("its bytes have another digest".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Some("is gone".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            out.blobs += 1;
            out.bytes += size;
            let Some(problem) = problem else { continue };
            // Evicted meanwhile?
            if self.0.db.read(|tx| crate::blobs::row(tx, &digest))?.is_none() {
                continue;
            }
            if repair {
                self.lose_blob(&digest, problem.clone())?;
            }
            out.findings.push(Finding { what: format!("blob {digest}"), problem });
        }
        for record in self.all_layers()? {
            let Some(size) = record.snapshot else { continue };
            let id = record.id;
            let problem = match self.index(id) {
                Ok(Some(index)) => sound(&self.0.layout.files(id), &index, None).err(),
                Ok(None) => Some("its index is gone".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            out.layers += 1;
            out.bytes += size;
            let Some(problem) = problem else { continue };
            if self.layer(id)?.is_none_or(|record| record.snapshot.is_none()) {
                continue;
            }
            if repair {
                self.lose_snapshot(id, problem.clone())?;
            }
            out.findings.push(Finding { what: format!("layer {}", id.digest()), problem });
        }
        self.check_books(repair, &mut out)?;
        // They are told as findings.
        self.take_losses();
        Ok(out)
    }

    /// Compares the sums with the rows, and the rows with the files.
    fn check_books(&self, repair: bool, out: &mut Checked) -> Result<()> {
        self.0.db.write(|tx| {
            let recount = [
                ("blob", "SELECT count(*), coalesce(sum((size + 4095) / 4096 * 4096), 0) FROM blob"),
                ("snapshot", "SELECT count(*), coalesce(sum(disk), 0) FROM layer WHERE snapshot IS NOT NULL"),
                (
                    "memo_file",
                    "SELECT count(*), coalesce(sum((size + 4095) / 4096 * 4096), 0) FROM memo_file",
                ),
                ("unfinished", "SELECT count(*), coalesce(sum(bytes), 0) FROM unfinished"),
                ("trash", "SELECT count(*), coalesce(sum(bytes), 0) FROM trash"),
                ("record", "SELECT count(*), 0 FROM record"),
                ("memo", "SELECT count(*), 0 FROM memo"),
            ];
            for (kind, sql) in recount {
                let pair = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
                let is = tx.query_row(sql, [], pair).sql()?;
                let sql = "SELECT count, bytes FROM total WHERE kind = ?1";
                let kept = tx.query_row(sql, [kind], pair).sql()?;
                if is != kept {
                    out.findings.push(Finding {
                        what: "database".into(),
                        problem: format!("counts {kept:?} of `{kind}`, where {is:?} are listed"),
                    });
                    if repair {
                        let sql = "UPDATE total SET count = ?2, bytes = ?3 WHERE kind = ?1";
                        tx.execute(sql, (kind, is.0, is.1)).sql()?;
                    }
                }
            }
            let places = [
                (self.0.layout.snapshots(), "SELECT hex(id) FROM layer WHERE snapshot IS NOT NULL"),
                (self.0.layout.blobs(), "SELECT hex(digest) FROM blob"),
                (self.0.layout.memo(), "SELECT name FROM memo_file"),
            ];
            let mut strays = false;
            for (dir, sql) in places {
                let mut rows = tx.prepare(sql).sql()?;
                let known: std::collections::HashSet<String> = rows
                    .query_map([], |row| row.get::<_, String>(0))
                    .sql()?
                    .map(|name| name.map(|name| name.to_lowercase()))
                    .collect::<Result<_, _>>()
                    .sql()?;
                for name in sweep::names(&dir)? {
                    if !known.contains(&name.to_lowercase()) {
                        strays = true;
                        out.findings.push(Finding {
                            what: format!("`{}`", dir.join(name).display()),
                            problem: "belongs to nothing".into(),
                        });
                    }
                }
            }
            if repair && strays {
                sweep::discard_strays(&self.0.layout, tx)?;
            }
            Ok(())
        })?;
        if repair {
            self.sweep()?;
        }
        Ok(())
    }

    /// Measures what the store takes on the disk, by walking through it: what [`Usage`](crate::Usage) should say.
    pub fn measure(&self) -> Result<u64> {
        on_disk(self.root()).at("measure", self.root())
    }
}

/// Compares a layer's files with its index. With `sealed`, only files whose inode changed after that time are read.
fn sound(files: &Path, index: &Index, sealed: Option<i64>) -> Result<(), String> {
    let mut read: HashMap<u64, Digest> = HashMap::new();
    for entry in index.iter() {
        let path = files.join(as_path(entry));
        let bad = |what: &str| format!("`{}` {what}", String::from_utf8_lossy(entry.path.as_bytes()));
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // Without root a node is recorded, not made.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && matches!(entry.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. }) =>
            {
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(bad("is gone")),
            Err(error) => return Err(bad(&error.to_string())),
        };
        match &entry.kind {
            Kind::File { size, digest: expected } => {
                if !found.is_file() {
                    return Err(bad("is no file any more"));
                }
                if found.len() != *size {
                    return Err(bad("has another length"));
                }
                let changed = found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec());
                if sealed.is_some_and(|sealed| changed <= sealed) {
                    continue;
                }
                let digest = match read.get(&found.ino()) {
                    Some(digest) => *digest,
                    None => {
                        let (digest, _) = hash(&path).map_err(|error| bad(&error.to_string()))?;
                        if found.nlink() > 1 {
                            read.insert(found.ino(), digest);
                        }
                        digest
                    }
                };
                if digest != *expected {
                    return Err(bad("has other contents"));
                }
            }
            Kind::Directory { .. } if !found.is_dir() => return Err(bad("is no directory any more")),
            _ => {}
        }
    }
    Ok(())
}

fn as_path(entry: &Entry) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(entry.path.as_bytes()))
}

/// Hashes a file; returns its length, too.
fn hash(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), length)),
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
