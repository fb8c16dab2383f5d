//! "Did you mean": the option that is closest to a misspelt name.

/// Finds the option at an edit distance of at most two; the first of several equally near ones.
///
/// `None` if nothing is near, or if `name` is one of the options: then its spelling was not the problem.
pub fn nearest<'a>(name: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut best = None;
    let mut limit = 3;
    for option in options {
        if option == name {
            return None;
        }
        let distance = distance(name, option, limit);
        if distance < limit {
            best = (!option.is_empty()).then(|| option.to_owned());
            limit = distance;
        }
    }
    best
}

/// Levenshtein distance in characters; `limit` where it is at least that.
fn distance(left: &str, right: &str, limit: usize) -> usize {
    let right: Vec<char> = right.chars().collect();
    if left.chars().count().abs_diff(right.len()) >= limit {
        return limit;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (slot, b) in row.iter_mut().skip(1).zip(&right) {
            let cost = diagonal + usize::from(a != *b);
            diagonal = *slot;
            before = cost.min(before + 1).min(*slot + 1);
            *slot = before;
        }
    }
    row.last().copied().unwrap_or(0).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let options = ["alpine", "busybox", "build", "bulid"];
        assert_eq!(nearest("alpin", options).as_deref(), Some("alpine"));
        assert_eq!(nearest("buildd", options).as_deref(), Some("build"));
        assert_eq!(nearest("busyb", options).as_deref(), Some("busybox"));
        assert_eq!(nearest("nothing", options), None);
        assert_eq!(nearest("build", options), None);
        assert_eq!(nearest("", ["ab", "a"]).as_deref(), Some("a"));
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("kitten", "sitting", 3), ("ab", "ba", 2), ("äö", "ao", 2)] {
            assert_eq!(distance(a, b, 9), expected, "{a} {b}");
        }
    }
}
