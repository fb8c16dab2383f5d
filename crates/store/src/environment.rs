use std::fs;

use cooper_layer::{OverlayXattrs, Owners};

use crate::db::{Db, SqlContext as _};
use crate::error::{Error, Result};
use crate::store::{Options, Store};

/// Facts about the machine, and those that the store was made with.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) boot: Boot,
    /// Ids of the namespace now, as `/proc/self/uid_map` and `gid_map` have them.
    pub(crate) ids: String,
    /// Ids of the namespace in which the store was made.
    pub(crate) made_ids: String,
    pub(crate) xattrs: OverlayXattrs,
    pub(crate) owners: Owners,
}

/// Which boot of the machine this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Boot {
    Known(String),
    /// No `/proc`: a crash of the machine cannot be told from one of a process, so everything is synced at once.
    Unknown,
}

impl Environment {
    /// Looks at the machine; the first process to open a store settles how it is written.
    pub(crate) fn of(db: &Db, options: &Options) -> Result<Self> {
        let boot = match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            Ok(id) if !id.trim().is_empty() => Boot::Known(id.trim().to_owned()),
            _ => Boot::Unknown,
        };
        let ids = ids();
        let xattrs = if has_all_ids(&ids) { "trusted" } else { "user" };
        let owners = match options.owners {
            Owners::Set => "set",
            Owners::Record => "record",
        };
        let read = |name| Store::setting(db, name);
        if read("ids")?.is_none() {
            db.write(|tx| {
                let mut insert = tx
                    .prepare("INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                    .sql()?;
                for (name, value) in [("xattrs", xattrs), ("owners", owners), ("ids", ids.as_str())] {
                    insert.execute((name, value)).sql()?;
                }
                Ok(())
            })?;
        }
        let xattrs = match read("xattrs")?.as_deref() {
            Some("trusted") => OverlayXattrs::Trusted,
            Some("user") => OverlayXattrs::User,
            other => return Err(Error::damaged("setting `xattrs`", format!("{other:?}"))),
        };
        let owners = match read("owners")?.as_deref() {
            Some("set") => Owners::Set,
            Some("record") => Owners::Record,
            other => return Err(Error::damaged("setting `owners`", format!("{other:?}"))),
        };
        let made_ids = read("ids")?.unwrap_or_else(|| ids.clone());
        Ok(Self { boot, ids, made_ids, xattrs, owners })
    }
}

/// Returns the mappings of user and group ids, as `INSIDE OUTSIDE COUNT, …; …`.
fn ids() -> String {
    let map = |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join(", ")
    };
    format!("{}; {}", map("/proc/self/uid_map"), map("/proc/self/gid_map"))
}

/// Tells whether this is the machine's first user namespace, the only one that may use `trusted.*` attributes.
fn has_all_ids(ids: &str) -> bool {
    // Without /proc: `trusted` works for real root, which is who runs without /proc.
    ids == "0 0 4294967295; 0 0 4294967295" || ids == "; "
}
