//! Reads `config.json`, and refuses what it does not know: a setting that is left out silently is a hole.

use oci_spec::runtime::Spec;
use serde_json::Value;

use crate::error::Error;

/// Reads the text of a `config.json`.
pub(crate) fn read(text: &str) -> Result<Spec, Error> {
    let asked: Value = serde_json::from_str(text).map_err(|error| Error::config(error.to_string()))?;
    let spec: Spec =
        serde_json::from_value(asked.clone()).map_err(|error| Error::config(error.to_string()))?;
    let known = serde_json::to_value(&spec).map_err(|error| Error::config(error.to_string()))?;
    match lost(&asked, &known, &mut String::new()) {
        None => Ok(spec),
        Some(path) => Err(Error::Unsupported {
            what: format!("`{path}`"),
            remedy: "this runtime does not know that setting; leave it out, or use another runtime",
        }),
    }
}

/// Finds what was asked for and is not in what was understood, by writing that out again.
fn lost(asked: &Value, known: &Value, path: &mut String) -> Option<String> {
    match (asked, known) {
        (Value::Object(asked), _) => {
            // Annotations mean something to others.
            for (name, value) in asked {
                let length = path.len();
                if length == 0 && name == "annotations" {
                    continue;
                }
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                let found = match known.get(name) {
                    Some(known) => lost(value, known, path),
                    None => (!is_nothing(value)).then(|| path.clone()),
                };
                if found.is_some() {
                    return found;
                }
                path.truncate(length);
            }
            None
        }
        // Sets come back in another order; what is in them has no settings inside.
        (Value::Array(asked), Value::Array(known)) if asked.len() == known.len() => {
            for (index, (asked, known)) in
                asked.iter().zip(known).enumerate().filter(|(_, (a, _))| a.is_object())
            {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                if let Some(found) = lost(asked, known, path) {
                    return Some(found);
                }
                path.truncate(length);
            }
            None
        }
        _ => None,
    }
}

/// Whether a value says nothing: not set, empty, off.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Bool(true) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_by_its_place() {
        let with = |extra: &str| {
            read(&format!("{{\"ociVersion\":\"1.0.2\",\"root\":{{\"path\":\"r\"}}{extra}}}"))
                .map_err(|error| error.to_string())
        };
        assert!(with("").is_ok());
        assert!(with(",\"annotations\":{\"a\":\"b\"},\"linux\":{\"resources\":{\"memory\":null}}").is_ok());
        assert!(with(",\"linux\":{\"devices\":[],\"newThing\":false}").is_ok());
        for (extra, place) in [
            (",\"landlock\":{\"ruleset\":1}", "`landlock`"),
            (",\"linux\":{\"newThing\":true}", "`linux.newThing`"),
            (
                ",\"mounts\":[{\"destination\":\"/a\"},{\"destination\":\"/b\",\"id\":\"x\"}]",
                "`mounts[1].id`",
            ),
            (
                ",\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0,\"shell\":\"x\"}}",
                "`process.user.shell`",
            ),
        ] {
            let error = with(extra).unwrap_err();
            assert!(error.contains(place), "{error}");
        }
        assert!(read("{").is_err());
    }
}
