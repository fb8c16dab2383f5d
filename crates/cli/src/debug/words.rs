//! Expands shell words in bulk, to be compared with those of another implementation.

use std::path::Path;

use anyhow::{Context as _, Result};
use cooper_dockerfile::shell::Lexer;
use serde_json::{Map, Value, json};

/// Expands the words of a list of cases, one JSON object a line, and gives the answers in the same form.
pub(super) fn expanded(cases: &Path) -> Result<String> {
    let list = std::fs::read_to_string(cases).with_context(|| format!("cannot read {}", cases.display()))?;
    let mut out = String::new();
    for (number, line) in list.lines().enumerate() {
        let case: Value = serde_json::from_str(line)
            .with_context(|| format!("{}:{}: not a case", cases.display(), number + 1))?;
        out.push_str(&answer(&case).to_string());
        out.push('\n');
    }
    Ok(out)
}

fn answer(case: &Value) -> Value {
    let text = |key: &str| case.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str| case.get(key).and_then(Value::as_bool).unwrap_or_default();
    let env = case.get("env").and_then(Value::as_array).into_iter().flatten();
    let env: Vec<String> = env.filter_map(Value::as_str).map(str::to_owned).collect();
    let lexer = Lexer {
        escape: text("escape").chars().next().unwrap_or('\\'),
        raw_quotes: flag("raw_quotes"),
        raw_escapes: flag("raw_escapes"),
        skip_process_quotes: flag("skip_process_quotes"),
        skip_unset_env: flag("skip_unset_env"),
    };
    let mut answer = Map::new();
    answer.insert("id".into(), text("id").into());
    let result = if text("op") == "words" {
        lexer.process_words(text("word"), &env).map(|words| {
            answer.insert("words".into(), json!(words));
        })
    } else {
        lexer.process_word(text("word"), &env).map(|word| {
            answer.insert("result".into(), word.text.into());
            for (key, names) in [("matched", word.matched), ("unmatched", word.unmatched)] {
                if !names.is_empty() {
                    answer.insert(key.into(), json!(names));
                }
            }
        })
    };
    answer.insert("ok".into(), result.is_ok().into());
    if let Err(error) = result {
        answer.insert("error".into(), error.to_string().into());
    }
    answer.into()
}
