//! `cooper du`, `cooper prune`, `cooper store check`: what the store takes, and making it less.

mod filter;
pub(crate) mod units;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use cooper_engine::{Error, Item, ItemKind, Keeper, MaxUsed, Store, disk};
use cooper_oci::Timestamp;

use crate::args::{Du, Format, Prune};
use crate::build::{self, Opened};
use crate::report::Found;
use crate::say;
use filter::{Filter, kind_name};

/// As many digits of a name are shown as tell things apart.
const DIGITS: usize = 12;

/// A description is cut here where it is a column.
const COLUMN: usize = 60;

/// Lists what the store keeps.
pub(crate) fn du(root: Option<&Path>, args: &Du) -> Result<()> {
    let filter = Filter::of(&args.filters)?;
    let Opened { engine, .. } = build::engine(root, None, None)?;
    let now = now();
    let all = items(engine.store())?;
    let turns = turns(&all);
    let chosen: Vec<&Item> = all.iter().filter(|item| filter.fits(item, now)).collect();
    if args.format == Format::Json {
        return say::out(&json_lines(&chosen)?);
    }
    let mut text = String::new();
    if args.verbose {
        for item in &chosen {
            verbose(&mut text, item, args.why_kept.then_some(&turns), now);
        }
    } else {
        table(&mut text, &chosen, args.why_kept.then_some(&turns), now);
        text.push('\n');
    }
    let sum = |wanted: &dyn Fn(&Item) -> bool| {
        units::size(chosen.iter().filter(|item| wanted(item)).map(|item| item.bytes).sum())
    };
    if chosen.iter().any(|item| item.shared) {
        let _ = writeln!(text, "Shared:       {}", sum(&|item| item.shared));
        let _ = writeln!(text, "Private:      {}", sum(&|item| !item.shared));
    }
    let _ = writeln!(text, "Reclaimable:  {}", sum(&Item::is_reclaimable));
    let _ = writeln!(text, "Total:        {}", sum(&|_| true));
    say::out(&text)
}

/// Deletes what nobody works with.
pub(crate) fn prune(root: Option<&Path>, args: &Prune) -> Result<()> {
    let filter = Filter::of(&args.filters)?;
    if args.until.is_some() && filter.unused_for.is_some() {
        return Err(
            crate::report::Usage("--until and --filter until= say the same thing twice".into()).into()
        );
    }
    let Opened { engine, .. } = build::engine(root, None, None)?;
    let store = engine.store();
    let now = now();
    let all = items(store)?;
    let total: u64 = all.iter().map(|item| item.bytes).sum();
    let only = (!filter.takes_all_kinds()).then(|| {
        let chosen = all.iter().filter(|item| filter.fits(item, now));
        chosen.map(|item| item.id.clone()).collect()
    });
    let bytes = |size: Option<MaxUsed>| -> Result<Option<u64>> {
        let Some(size) = size else { return Ok(None) };
        size.bytes(store.root()).map_err(build::plain)
    };
    let wish = Wish {
        most: bytes(args.max_used_space)?,
        least: bytes(args.reserved_space)?,
        free: bytes(args.min_free_space)?,
    };
    let free = if wish.free.is_some() { disk(store.root()).map_err(build::plain)?.1 } else { 0 };
    let what = cooper_engine::Prune {
        until_below: wish.target(total, free),
        unused_for: args.until.or(filter.unused_for),
        all: args.all,
        only,
    };
    let pruned = store.prune(&what).map_err(|error| build::plain(Error::Store(error)))?;
    let known: HashMap<&str, &Item> = all.iter().map(|item| (item.id.as_str(), item)).collect();
    // What another process put in meanwhile is counted, but nothing is known of it here.
    let gone: Vec<&Item> =
        pruned.items.iter().filter_map(|(id, _)| known.get(id.as_str()).copied()).collect();
    let mut text = String::new();
    if args.verbose {
        for item in &gone {
            verbose(&mut text, item, None, now);
        }
    } else if !gone.is_empty() {
        table(&mut text, &gone, None, now);
        text.push('\n');
    }
    let _ = writeln!(text, "Total:        {}", units::size(pruned.bytes()));
    say::out(&text)
}

/// Checks the store.
pub(crate) fn check(root: Option<&Path>, repair: bool, format: Format) -> Result<()> {
    let Opened { engine, .. } = build::engine(root, None, None)?;
    let checked = engine.store().check(repair).map_err(|error| build::plain(Error::Store(error)))?;
    let text = match format {
        Format::Json => format!("{}\n", serde_json::to_string(&checked)?),
        Format::Pretty => {
            let mut text = String::new();
            for finding in &checked.findings {
                let _ = writeln!(text, "{}: {}", finding.what, finding.problem);
            }
            let (blobs, layers) = (checked.blobs, checked.layers);
            let read = units::size(checked.bytes);
            let verdict = match (checked.findings.len(), repair) {
                (0, _) => "all is well".to_owned(),
                (count, true) => {
                    format!("{count} repaired: what is missing now is made or fetched when it is wanted")
                }
                (count, false) => format!("{count} not as they should be; --repair gives them up"),
            };
            let _ = writeln!(text, "{blobs} blobs and {layers} layers read ({read}): {verdict}");
            text
        }
    };
    say::out(&text)?;
    if checked.findings.is_empty() || repair { Ok(()) } else { Err(Found.into()) }
}

/// How much is to be left, in bytes.
struct Wish {
    most: Option<u64>,
    least: Option<u64>,
    free: Option<u64>,
}

impl Wish {
    /// Returns down to which size things go; `None`: all that may.
    fn target(&self, total: u64, free: u64) -> Option<u64> {
        let for_disk = self.free.map(|wanted| total.saturating_sub(wanted.saturating_sub(free)));
        let target = match (self.most, for_disk) {
            (Some(most), Some(for_disk)) => Some(most.min(for_disk)),
            (most, for_disk) => most.or(for_disk),
        };
        match (target, self.least) {
            (Some(target), Some(least)) => Some(target.max(least)),
            (target, least) => target.or(least),
        }
    }
}

fn items(store: &Store) -> Result<Vec<Item>> {
    store.items().map_err(|error| build::plain(Error::Store(error)))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Says of what can go when it goes: the number in the order of the store (`crates/store/src/evict.rs`).
fn turns(items: &[Item]) -> HashMap<&str, usize> {
    let mut order: Vec<&Item> = items.iter().filter(|item| item.is_reclaimable()).collect();
    order.sort_by_key(|item| (item.kind == ItemKind::Index, item.used, item.id.as_str()));
    order.iter().enumerate().map(|(number, item)| (item.id.as_str(), number + 1)).collect()
}

fn json_lines(items: &[&Item]) -> Result<String> {
    let mut text = String::new();
    for item in items {
        text.push_str(&serde_json::to_string(item)?);
        text.push('\n');
    }
    Ok(text)
}

fn short(id: &str) -> String {
    match id.split_once(':') {
        Some((kind, name)) if name.len() > DIGITS && name.is_ascii() => {
            // Memos have a word before the digits.
            let word = name.rsplit_once('-').map_or("", |(word, _)| word);
            let end = if word.is_empty() { DIGITS } else { word.len() + 1 + DIGITS };
            format!("{kind}:{}", name.get(..end.min(name.len())).unwrap_or(name))
        }
        _ => id.to_owned(),
    }
}

fn used(item: &Item, now: i64) -> String {
    match item.used {
        Some(used) => units::age(u64::try_from(now.saturating_sub(used) / 1_000_000_000).unwrap_or(0)),
        None => String::new(),
    }
}

fn table(text: &mut String, items: &[&Item], turns: Option<&HashMap<&str, usize>>, now: i64) {
    let mut rows = vec![
        vec!["ID", "SIZE", "LAST USED", "RECLAIMABLE", "DESCRIPTION"]
            .into_iter()
            .map(str::to_owned)
            .collect(),
    ];
    if turns.is_some() {
        rows = vec![vec!["ID", "SIZE", "KEPT BY"].into_iter().map(str::to_owned).collect()];
    }
    for item in items {
        let mark = if item.shared { "*" } else { "" };
        let mut row = vec![format!("{}{mark}", short(&item.id)), units::size(item.bytes)];
        match turns {
            Some(turns) => row.push(kept(item, turns).join(", ")),
            None => {
                let reclaimable = item.is_reclaimable().to_string();
                let description = item.description.replace(['\n', '\t'], " ");
                let description = match description.char_indices().nth(COLUMN) {
                    Some((end, _)) => format!("{}…", description.get(..end).unwrap_or_default()),
                    None => description,
                };
                row.extend([used(item, now), reclaimable, description]);
            }
        }
        rows.push(row);
    }
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
}

fn kept(item: &Item, turns: &HashMap<&str, usize>) -> Vec<String> {
    if let Some(turn) = turns.get(item.id.as_str()) {
        return vec![format!("nobody: number {turn} to go when room is needed")];
    }
    let keeper = |keeper: &Keeper| match keeper {
        Keeper::Process { pid, lease } if lease == "process" => format!("process {pid}"),
        Keeper::Process { pid, lease } => format!("process {pid} ({lease})"),
        Keeper::Layer { id } => format!("layer {}", id.get(..DIGITS).unwrap_or(id)),
        _ => "the store itself".to_owned(),
    };
    item.kept.iter().map(keeper).collect()
}

fn verbose(text: &mut String, item: &Item, turns: Option<&HashMap<&str, usize>>, now: i64) {
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:<14}{value}", format!("{name}:"));
        }
    };
    let time = |time: Option<i64>| {
        let time = time.and_then(|nanos| Timestamp::from_unix_nanos(i128::from(nanos)).ok());
        time.map(|time| time.to_string()).unwrap_or_default()
    };
    line("ID", &item.id);
    line("Created at", &time(item.created));
    line("Reclaimable", &item.is_reclaimable().to_string());
    line("Shared", &item.shared.to_string());
    line("Size", &format!("{} ({} bytes)", units::size(item.bytes), item.bytes));
    line("Description", &item.description.replace('\n', " "));
    line("Usage count", &item.uses.to_string());
    line("Last used", &used(item, now));
    line("Type", kind_name(item.kind));
    if let Some(turns) = turns {
        line("Kept by", &kept(item, turns).join(", "));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_left() {
        let wish = |most, least, free| Wish { most, least, free };
        for (wish, expected) in [
            (wish(None, None, None), None),
            (wish(Some(50), None, None), Some(50)),
            (wish(None, Some(30), None), Some(30)),
            (wish(Some(50), Some(70), None), Some(70)),
            // 100 are used and 20 free: 15 more are wanted.
            (wish(None, None, Some(35)), Some(85)),
            (wish(Some(50), None, Some(35)), Some(50)),
            (wish(Some(90), Some(95), Some(35)), Some(95)),
            // Enough is free: nothing has to go.
            (wish(None, None, Some(10)), Some(100)),
            (wish(None, None, Some(500)), Some(0)),
        ] {
            assert_eq!(wish.target(100, 20), expected);
        }
    }

    #[test]
    fn a_table_and_the_order_of_going() {
        let item = |id: &str, kind, used, kept| Item {
            id: id.into(),
            kind,
            bytes: 1_500_000,
            created: None,
            used: Some(used),
            uses: 1,
            shared: kind == ItemKind::Blob,
            description: "[2/3] RUN make\n all".into(),
            kept,
        };
        let items = [
            item("index:00112233445566778899", ItemKind::Index, 1, Vec::new()),
            item("layer:aa112233445566778899", ItemKind::Layer, 9, Vec::new()),
            item("blob:bb112233445566778899", ItemKind::Blob, 5, Vec::new()),
            item("memo:stat-cc112233445566778899", ItemKind::Memo, 5, vec![Keeper::Store]),
            item("layer:dd", ItemKind::Layer, 5, vec![Keeper::Process { pid: 7, lease: "process".into() }]),
        ];
        let all: Vec<&Item> = items.iter().collect();
        let mut text = String::new();
        table(&mut text, &all, Some(&turns(&items)), 0);
        assert_eq!(
            text,
            "\
ID                      SIZE   KEPT BY
index:001122334455      1.5MB  nobody: number 3 to go when room is needed
layer:aa1122334455      1.5MB  nobody: number 2 to go when room is needed
blob:bb1122334455*      1.5MB  nobody: number 1 to go when room is needed
memo:stat-cc1122334455  1.5MB  the store itself
layer:dd                1.5MB  process 7
"
        );
        let mut text = String::new();
        table(&mut text, &all[1..2], None, 9 + 3_600_000_000_000);
        assert_eq!(
            text,
            "\
ID                  SIZE   LAST USED   RECLAIMABLE  DESCRIPTION
layer:aa1122334455  1.5MB  1 hour ago  true         [2/3] RUN make  all
"
        );
    }
}
