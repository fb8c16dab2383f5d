//! `--filter` of `du` and `prune`, with the keys and the operators of buildx.

use std::time::Duration;

use anyhow::Result;
use cooper_engine::{Item, ItemKind};
use regex::Regex;

use crate::report::Usage;
use crate::space::units;

/// What an item must be like.
#[derive(Debug, Default)]
pub(super) struct Filter {
    tests: Vec<Test>,
    /// Not used for this long.
    pub(super) unused_for: Option<Duration>,
}

#[derive(Debug)]
struct Test {
    field: Field,
    wanted: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Description,
    Type,
    InUse,
    Shared,
    Private,
}

#[derive(Debug)]
enum Wanted {
    Is(String),
    IsNot(String),
    Matches(Regex),
}

/// Names of kinds, and what BuildKit calls the same.
const KINDS: [(&str, ItemKind); 8] = [
    ("layer", ItemKind::Layer),
    ("regular", ItemKind::Layer),
    ("blob", ItemKind::Blob),
    ("index", ItemKind::Index),
    ("memo", ItemKind::Memo),
    ("unfinished", ItemKind::Unfinished),
    ("rubbish", ItemKind::Rubbish),
    ("database", ItemKind::Database),
];

/// Returns the name of a kind.
pub(super) fn kind_name(kind: ItemKind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("other", |(name, _)| name)
}

impl Filter {
    /// Reads filters; something fits if it fits all of them.
    pub(super) fn of(texts: &[String]) -> Result<Self> {
        let mut out = Self::default();
        for text in texts {
            out.add(text)?;
        }
        Ok(out)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let usage = |why: &str| Err(Usage(format!("--filter `{text}`: {why}")).into());
        let end = text.find(['=', '!', '~']).unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        let rest = rest.strip_prefix("==").map(|value| ("=", value)).or_else(|| {
            ["!=", "~=", "="].iter().find_map(|op| rest.strip_prefix(op).map(|value| (*op, value)))
        });
        if matches!(key, "until" | "unused-for") {
            let Some(("=", value)) = rest else { return usage("give a duration, as until=24h") };
            if self.unused_for.is_some() {
                return usage("there is another one of this kind");
            }
            match units::duration(value) {
                Ok(duration) => self.unused_for = Some(duration),
                Err(why) => return usage(&why),
            }
            return Ok(());
        }
        let field = match key {
            "id" => Field::Id,
            "description" => Field::Description,
            "type" => Field::Type,
            "inuse" => Field::InUse,
            "shared" => Field::Shared,
            "private" => Field::Private,
            "mutable" | "immutable" | "parents" | "parent" => {
                return usage(
                    "everything in the store is immutable, and layers have no parents; filter by id, description, type, inuse, shared, private or until",
                );
            }
            _ => return usage("the keys are id, description, type, inuse, shared, private and until"),
        };
        let flag = matches!(field, Field::InUse | Field::Shared | Field::Private);
        let wanted = match rest {
            None if flag && end == text.len() => Wanted::Is("true".to_owned()),
            None => return usage("give it as KEY=VALUE, KEY!=VALUE or KEY~=REGEX"),
            Some((_, value)) if flag && !matches!(value, "true" | "false") => {
                return usage("it is true or false");
            }
            Some(("=" | "!=", value))
                if field == Field::Type && !KINDS.iter().any(|(name, _)| *name == value) =>
            {
                return usage(
                    "the types are layer (regular), blob, index, memo, unfinished, rubbish and database",
                );
            }
            // As buildx: nobody writes whole ids.
            Some((op, value)) if op == "~=" || (op == "=" && field == Field::Id) => match Regex::new(value) {
                Ok(regex) => Wanted::Matches(regex),
                Err(_) => return usage("that is no regular expression"),
            },
            Some(("!=", value)) => Wanted::IsNot(value.to_owned()),
            Some((_, value)) => Wanted::Is(value.to_owned()),
        };
        self.tests.push(Test { field, wanted });
        Ok(())
    }

    /// Tells whether nothing is asked for but an age.
    pub(super) fn takes_all_kinds(&self) -> bool {
        self.tests.is_empty()
    }

    /// Tells whether an item fits; `now` is in nanoseconds since 1970.
    pub(super) fn fits(&self, item: &Item, now: i64) -> bool {
        let old = |unused: Duration| {
            let unused = i64::try_from(unused.as_nanos()).unwrap_or(i64::MAX);
            item.used.is_some_and(|used| used < now.saturating_sub(unused))
        };
        self.unused_for.is_none_or(old) && self.tests.iter().all(|test| test.fits(item))
    }
}

impl Test {
    fn fits(&self, item: &Item) -> bool {
        if let (Field::Type, Wanted::Is(name) | Wanted::IsNot(name)) = (self.field, &self.wanted) {
            let same = KINDS.iter().any(|(known, kind)| known == name && *kind == item.kind);
            return same == matches!(self.wanted, Wanted::Is(_));
        }
        let value = match self.field {
            Field::Id => item.id.as_str(),
            Field::Description => item.description.as_str(),
            Field::Type => kind_name(item.kind),
            Field::InUse => flag(!item.is_reclaimable()),
            Field::Shared => flag(item.shared),
            Field::Private => flag(!item.shared),
        };
        match &self.wanted {
            Wanted::Is(wanted) => value == wanted,
            Wanted::IsNot(wanted) => value != wanted,
            Wanted::Matches(regex) => regex.is_match(value),
        }
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use cooper_engine::Keeper;

    use super::*;

    fn item(id: &str, kind: ItemKind, used: i64) -> Item {
        Item {
            id: id.into(),
            kind,
            bytes: 1,
            created: None,
            used: Some(used),
            uses: 1,
            shared: id.contains("shared"),
            description: format!("[build 2/3] RUN {id}"),
            kept: if id.contains("held") { vec![Keeper::Store] } else { Vec::new() },
        }
    }

    #[test]
    fn what_fits() {
        let items = [
            item("layer:held", ItemKind::Layer, 10),
            item("layer:shared", ItemKind::Layer, 4_000_000_000),
            item("index:a1", ItemKind::Index, 7_000_000_000),
        ];
        for (filters, expected) in [
            (&[][..], "012"),
            (&["type=layer"], "01"),
            (&["type=regular"], "01"),
            (&["type!=layer"], "2"),
            (&["type~=lay|ind"], "012"),
            (&["type==index"], "2"),
            (&["id=a1$"], "2"),
            (&["id!=index:a1"], "01"),
            (&["inuse"], "0"),
            (&["inuse=false"], "12"),
            (&["shared"], "1"),
            (&["private", "type=layer"], "0"),
            (&["description~=RUN lay"], "01"),
            (&["description=nothing"], ""),
            (&["until=5s"], "01"),
            (&["unused-for=5s", "shared"], "1"),
        ] {
            let texts: Vec<String> = filters.iter().map(ToString::to_string).collect();
            let filter = Filter::of(&texts).unwrap();
            let found: String = items
                .iter()
                .enumerate()
                .filter(|(_, item)| filter.fits(item, 10_000_000_000))
                .map(|(number, _)| number.to_string())
                .collect();
            assert_eq!(found, expected, "{filters:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (filters, why) in [
            (&["size=1"][..], "the keys are"),
            (&["until"], "give a duration"),
            (&["until=soon"], "is no duration"),
            (&["until=1h", "unused-for=2h"], "another one"),
            (&["type=lyaer"], "the types are"),
            (&["id"], "KEY=VALUE"),
            (&["id~=("], "no regular expression"),
            (&["inuse=maybe"], "true or false"),
            (&["mutable"], "immutable"),
            (&["inuse!"], "KEY=VALUE"),
        ] {
            let texts: Vec<String> = filters.iter().map(ToString::to_string).collect();
            let error = Filter::of(&texts).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains(why), "{filters:?}: {error}");
        }
    }
}
