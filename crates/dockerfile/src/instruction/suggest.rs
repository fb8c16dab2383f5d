//! The nearest known name for a misspelt one.

use crate::error::Suggestion;

/// Names further away than this many edits are not suggested.
const MAX_DISTANCE: usize = 2;

/// Finds the option nearest to `word`. Nothing is suggested for a word that is an option.
///
/// Without `case_sensitive` the suggestion takes the word's case if that is all lower or all upper.
/// Of several at the same distance the first in the given order is taken (BuildKit takes any).
pub(crate) fn suggest(word: &str, options: &[&str], case_sensitive: bool) -> Suggestion {
    let wanted = if case_sensitive { word.to_owned() } else { word.to_lowercase() };
    // The distance is at least the difference in length, so longer words need no work.
    let wanted: Vec<char> = wanted.chars().take(64).collect();
    let mut best: Option<(usize, String)> = None;
    for option in options {
        let option = if case_sensitive { (*option).to_owned() } else { option.to_lowercase() };
        let chars: Vec<char> = option.chars().collect();
        let distance = distance(&wanted, &chars);
        if distance == 0 {
            return Suggestion(None);
        }
        if distance <= MAX_DISTANCE && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, option));
        }
    }
    Suggestion(best.map(|(_, option)| if case_sensitive { option } else { in_case_of(option, word) }))
}

fn in_case_of(option: String, word: &str) -> String {
    if word == word.to_lowercase() {
        option
    } else if word == word.to_uppercase() {
        option.to_uppercase()
    } else {
        option
    }
}

/// Levenshtein's distance: insertions, deletions and substitutions.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b) {
            let next = (diagonal + usize::from(from != to)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = next;
            left = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, want) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("ab", "ba", 2),
        ] {
            assert_eq!(d(a, b), want, "{a} {b}");
            assert_eq!(d(b, a), want, "{b} {a}");
        }
    }

    #[test]
    fn suggestions() {
        let s = |word, options: &[&str], case| suggest(word, options, case).0;
        assert_eq!(s("FRM", &["RUN", "FROM"], false).as_deref(), Some("FROM"));
        assert_eq!(s("frm", &["RUN", "FROM"], false).as_deref(), Some("from"));
        assert_eq!(s("Frm", &["RUN", "FROM"], false).as_deref(), Some("from"));
        assert_eq!(s("FROM", &["FROM", "FROMS"], false), None, "an exact name has another fault");
        assert_eq!(s("chwon", &["chown", "chmod"], true).as_deref(), Some("chown"));
        assert_eq!(s("CHOWN", &["chown"], true), None);
        assert_eq!(s("abcdef", &["chown"], true), None);
    }
}
