//! Heredocs: `<<NAME`, `<<-NAME`, `3<<"NAME"`.

use crate::error::Problem;
use crate::node::{Heredoc, Node};
use crate::shell::{EmptyEnv, Lexer};

/// Whether an instruction can open heredocs: `RUN`, `COPY` and `ADD`, also after `ONBUILD`, but not in JSON form.
pub(super) fn allowed(node: &Node) -> bool {
    let inner = match &node.child {
        Some(child) if node.name() == "onbuild" => child,
        _ => node,
    };
    !inner.json && matches!(inner.name().as_str(), "add" | "copy" | "run")
}

/// Finds the heredocs that a line opens. A line with unbalanced quotes opens none.
pub(super) fn find(line: &str) -> Result<Vec<Heredoc>, Problem> {
    // The escape character is a backslash here, whatever the directive says.
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, skip_unset_env: true, ..Lexer::new('\\') };
    let words = lexer.process_words(line, &EmptyEnv).unwrap_or_default();
    let mut found = Vec::new();
    for word in &words {
        found.extend(parse_word(word)?);
    }
    Ok(found)
}

/// Finds out whether a word opens a heredoc, and which.
pub(crate) fn parse_word(word: &str) -> Result<Option<Heredoc>, Problem> {
    let after_fd = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let (fd, _) = word.split_at(word.len() - after_fd.len());
    let Some(rest) = after_fd.strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    // Whether a part is quoted shows in the number of quotes with and without their removal.
    let mut lexer = Lexer { skip_unset_env: true, ..Lexer::new('\\') };
    let plain = lexer.process_words(rest, &EmptyEnv)?;
    let [name] = plain.as_slice() else { return Ok(None) };
    lexer.raw_quotes = true;
    let raw = lexer.process_words(rest, &EmptyEnv)?;
    let [raw] = raw.as_slice() else { return Err(Problem::HeredocWord(rest.to_owned())) };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Heredoc {
        name: name.clone(),
        fd: if fd.is_empty() { 0 } else { fd.parse().unwrap_or(u64::MAX) },
        expand: quotes(name) == quotes(raw),
        chomp,
        ..Heredoc::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let show = |word: &str| {
            let h = parse_word(word).ok()??;
            Some(format!("{} {} {} {}", h.name, h.fd, h.expand, h.chomp))
        };
        for (word, want) in [
            ("<<EOF", Some("EOF 0 true false")),
            ("<<-EOF", Some("EOF 0 true true")),
            ("<<'EOF'", Some("EOF 0 false false")),
            ("<<\"EO\"F", Some("EOF 0 false false")),
            ("3<<EOF", Some("EOF 3 true false")),
            ("99999999999999999999<<E", Some("E 18446744073709551615 true false")),
            ("<< EOF", Some("EOF 0 true false")),
            ("<<\\'EOF", Some("'EOF 0 true false")),
            ("<<$X", Some("$X 0 true false")),
            ("<<a b", None),
            ("<<", None),
            ("<<-", None),
            ("<<<EOF", None),
            ("a<<EOF", None),
            ("<<''", None),
            ("EOF", None),
        ] {
            assert_eq!(show(word).as_deref(), want, "{word}");
        }
        assert!(parse_word("<<'E").is_err());
    }
}
