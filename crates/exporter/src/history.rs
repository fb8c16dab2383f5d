//! The history of an image, made to fit its layers.

use cooper_oci::{History, Timestamp};

use crate::content::LayerBlob;

/// What a missing entry says of its maker; readers of BuildKit's images know the word.
const COMMENT: &str = "buildkit.exporter.image.v0";

/// Makes a history that has exactly one entry with a layer for each layer, and a time in every entry if any is known.
///
/// Entries that claim more layers than there are count as empty; for layers without an entry one is added. An entry
/// without a time has that of the nearest entry before it that has one, else the first one's that a new layer has.
pub(crate) fn normalize(mut history: Vec<History>, layers: &[LayerBlob]) -> Vec<History> {
    let mut claimed = 0;
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        if claimed < layers.len() {
            claimed += 1;
        } else {
            entry.empty_layer = true;
        }
    }
    for layer in layers.iter().skip(claimed) {
        history.push(History {
            created: layer.created,
            created_by: layer.created_by.clone(),
            comment: COMMENT.to_owned(),
            ..History::default()
        });
    }
    for (entry, layer) in history.iter_mut().filter(|entry| !entry.empty_layer).zip(layers) {
        entry.created = entry.created.or(layer.created);
    }

    // The first time after an entry without one: else the first entries of a new image would be as old as its base.
    let mut created = None;
    let mut missing = false;
    for entry in &history {
        match entry.created {
            Some(time) => {
                created = Some(time);
                if missing {
                    break;
                }
            }
            None => missing = true,
        }
    }
    missing = false;
    for entry in &mut history {
        match entry.created {
            Some(time) if missing => created = Some(time),
            Some(_) => {}
            None => {
                missing = true;
                entry.created = created;
            }
        }
    }
    history
}

/// Lowers times to `epoch`, and sets missing ones to it; entries that the base image has are left as they are there.
pub(crate) fn clamp(history: &mut [History], epoch: Timestamp, base: &[History]) {
    let own = history.iter().zip(base).take_while(|(entry, base)| entry == base).count();
    for entry in history.iter_mut().skip(own) {
        if entry.created.is_none_or(|created| created > epoch) {
            entry.created = Some(epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use cooper_oci::{Descriptor, Digest};

    use super::*;
    use crate::content::Content;

    fn time(seconds: i64) -> Option<Timestamp> {
        (seconds >= 0).then(|| Timestamp::from_unix_seconds(seconds).unwrap())
    }

    /// `seconds` below zero: none. A capital letter is an entry without a layer.
    fn entries(list: &[(&str, i64)]) -> Vec<History> {
        list.iter()
            .map(|(name, seconds)| History {
                created: time(*seconds),
                created_by: (*name).to_owned(),
                empty_layer: name.starts_with(char::is_uppercase),
                ..History::default()
            })
            .collect()
    }

    fn layers(times: &[i64]) -> Vec<LayerBlob> {
        times
            .iter()
            .enumerate()
            .map(|(number, seconds)| LayerBlob {
                diff_id: Digest::of("").into(),
                descriptor: Descriptor::of("", b""),
                content: Content::bytes(*b""),
                created: time(*seconds),
                created_by: format!("layer {number}"),
            })
            .collect()
    }

    fn show(history: &[History]) -> String {
        let line = |entry: &History| {
            let seconds = entry.created.map_or(-1, |time| time.unix_nanos() / 1_000_000_000);
            let empty = if entry.empty_layer { " empty" } else { "" };
            format!("{} {seconds}{empty}", entry.created_by)
        };
        history.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn as_buildkit_does() {
        for (history, times, expected) in [
            (&[][..], &[5][..], "layer 0 5"),
            (&[("a", 1)], &[9], "a 1"),
            (&[("a", -1)], &[9], "a 9"),
            (&[("a", 1), ("b", 2)], &[9], "a 1, b 2 empty"),
            // A command between base and new layer is as old as the new layer.
            (&[("base", 1), ("ENV", -1), ("run", -1)], &[1, 7], "base 1, ENV 7 empty, run 7"),
            // At the end it is as old as the last layer.
            (&[("base", 1), ("run", -1), ("CMD", -1)], &[1, 7], "base 1, run 7, CMD 7 empty"),
            (&[("base", 1), ("CMD", -1)], &[1], "base 1, CMD 1 empty"),
            (
                &[("ENV", -1), ("one", -1), ("ARG", -1), ("two", -1), ("CMD", -1)],
                &[3, 4],
                "ENV 3 empty, one 3, ARG 3 empty, two 4, CMD 4 empty",
            ),
            (&[("CMD", -1)], &[], "CMD -1 empty"),
        ] {
            assert_eq!(show(&normalize(entries(history), &layers(times))), expected);
        }
    }

    #[test]
    fn the_epoch_spares_the_base() {
        let mut history = entries(&[("base", 50), ("run", 60), ("old", 5), ("CMD", -1)]);
        let base = entries(&[("base", 50), ("other", 60)]);
        clamp(&mut history, time(10).unwrap(), &base);
        assert_eq!(show(&history), "base 50, run 10, old 5, CMD 10 empty");
    }
}
