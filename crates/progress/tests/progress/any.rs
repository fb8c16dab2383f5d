use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooper_progress::{Event, EventKind, RawJson, Stream};
use proptest::prelude::*;

use crate::{cached, done, failed, log, part, plain, reason, started, told};

const STEPS: [&str; 4] = ["step a", "step b", "step c", "step d"];

#[derive(Clone, Debug)]
enum What {
    Start,
    End(u8),
    /// Bytes of an endless text per step and stream, so many: cuts fall anywhere, even within escapes.
    Print(bool, usize),
    Part(u8),
    Because,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        2 => Just(What::Start),
        1 => (0..4u8).prop_map(What::End),
        10 => (any::<bool>(), 0..60usize).prop_map(|(error, length)| What::Print(error, length)),
        1 => (0..100u8).prop_map(What::Part),
        1 => Just(What::Because),
    ]
}

/// What one stream of one step would print if nothing stopped it; line `n` reads `<step> <error> n` in the end.
fn printed(step: usize, error: bool) -> &'static [u8] {
    static TEXTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        (0..STEPS.len()).flat_map(|step| [false, true].map(|error| endless(step, error))).collect()
    });
    &TEXTS[2 * step + usize::from(error)]
}

fn endless(step: usize, error: bool) -> Vec<u8> {
    let mut text = String::new();
    for line in 0..1000 {
        text.push_str(match line % 4 {
            0 => "",
            1 => "0%\r50%\r",
            2 => "\x1b[1;31m",
            _ => "\x1b]0;t\u{e4}\x1b\\\u{e4}\r",
        });
        text.push_str(&format!("{step} {error} {line}"));
        text.push_str(["\n", "\r\n", "\x1b[0m\n"][line % 3]);
    }
    text.into_bytes()
}

/// Events, and how many bytes of its text were printed by each step on each stream.
type Timeline = (Vec<Event>, BTreeMap<(usize, bool), usize>);

fn timeline(script: Vec<(usize, u16, What)>) -> Timeline {
    let mut events: Vec<Event> = STEPS.iter().map(|step| told(step)).collect();
    let (mut lengths, mut now): (BTreeMap<(usize, bool), usize>, u32) = (BTreeMap::new(), 0);
    for (step, pause, what) in script {
        now += u32::from(pause);
        let name = STEPS[step];
        let stream = |error| if error { Stream::Stderr } else { Stream::Stdout };
        if let What::End(_) = what {
            // The end of the step stands for the end of its lines.
            for error in [true, false] {
                let Some(at) = lengths.get_mut(&(step, error)) else { continue };
                let text = printed(step, error);
                if text.get(at.wrapping_sub(1)).is_none_or(|byte| *byte == b'\n') {
                    continue;
                }
                let rest = text[*at..].split(|byte| *byte == b'\n').next().unwrap();
                events.push(log(now, name, stream(error), rest));
                *at += rest.len() + 1;
            }
        }
        events.push(match what {
            What::Start => started(now, name),
            What::End(0) => cached(now, name),
            What::End(1) => failed(now, name, "bad"),
            What::End(2) => failed(now, name, "context canceled"),
            What::End(_) => done(now, name),
            What::Part(current) => part(now, name, "part", current.into(), Some(100), current > 95),
            What::Because => reason(now, name, "so"),
            What::Print(error, length) => {
                let at = lengths.entry((step, error)).or_default();
                let text = printed(step, error);
                let piece = text.get(*at..*at + length).unwrap();
                *at += length;
                log(now, name, stream(error), piece)
            }
        });
    }
    (events, lengths)
}

fn any_timeline() -> impl Strategy<Value = Timeline> {
    prop::collection::vec((0..STEPS.len(), 0..900u16, what()), 0..80).prop_map(timeline)
}

/// Takes the output apart: each line with the name that its number stands for.
///
/// Fails where a line stands under another's name, or a name gets a second number.
fn lines(text: &str) -> Result<Vec<(usize, String)>, TestCaseError> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let (mut out, mut header, mut current) = (Vec::new(), true, None);
    for line in text.lines() {
        if line.is_empty() {
            header = true;
            continue;
        }
        let (number, rest) = line.split_once(' ').unwrap();
        prop_assert!(number.starts_with('#'), "{line}");
        if header {
            let step = STEPS.iter().position(|step| *step == rest);
            prop_assert!(step.is_some(), "{line} is no name in\n{text}");
            let next = format!("#{}", numbers.len() + 1);
            let known = numbers.contains_key(number);
            prop_assert!(known || number == next, "{number} is not the next number in\n{text}");
            prop_assert_eq!(Some(*numbers.entry(number.to_owned()).or_insert(step.unwrap())), step);
            current = Some(number.to_owned());
            header = false;
        } else {
            prop_assert_eq!(Some(number), current.as_deref(), "{}", text);
            out.push((numbers[number], rest.to_owned()));
        }
    }
    Ok(out)
}

proptest! {
    #[test]
    fn every_line_once_and_in_order((events, lengths) in any_timeline()) {
        let lines = lines(&plain(&events))?;
        for ((step, error), length) in lengths {
            let mark = format!("{step} {error} ");
            let seen: Vec<&str> = lines
                .iter()
                .filter(|(at, _)| *at == step)
                .filter_map(|(_, line)| line.split_once(&mark).map(|(_, number)| number))
                .collect();
            let text = printed(step, error);
            let complete = text[..length].iter().filter(|byte| **byte == b'\n').count();
            let wanted: Vec<String> = (0..complete).map(|line| line.to_string()).collect();
            // What was not ended may follow, as far as it came.
            prop_assert!(seen.len() <= complete + 1, "{seen:?}");
            prop_assert_eq!(&seen[..complete.min(seen.len())], &wanted[..]);
        }
    }

    #[test]
    fn rawjson_has_every_byte((events, _) in any_timeline()) {
        let (mut raw, mut text) = (RawJson::new(), String::new());
        events.iter().for_each(|event| raw.render(event, &mut text));
        prop_assert_eq!(text.lines().count(), events.len());
        // Each log event as it was given, byte for byte.
        let mut seen = Vec::new();
        for line in text.lines() {
            let status: serde_json::Value = serde_json::from_str(line).unwrap();
            for log in status["logs"].as_array().into_iter().flatten() {
                let data = STANDARD.decode(log["data"].as_str().unwrap()).unwrap();
                seen.push((log["vertex"].as_str().unwrap().to_owned(), log["stream"] == 2, data));
            }
        }
        let given: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Log { vertex, stream, data } => {
                    Some((vertex.to_string(), *stream == Stream::Stderr, data.clone()))
                }
                _ => None,
            })
            .collect();
        prop_assert_eq!(seen, given);
    }
}
