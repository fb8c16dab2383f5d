use std::io;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::{Formatter, Serializer};

/// Writes `value` as Go's `encoding/json` would: no spaces, and `<`, `>`, `&`, U+2028 and U+2029 escaped.
///
/// Image configurations and manifests are named by the digest of their bytes, and every other builder writes them
/// this way: the same content must give the same bytes.
///
/// # Errors
///
/// Those of the value's own serialisation, as a map with keys that are not text.
pub fn to_go_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut written = 0;
        for (at, c) in fragment.char_indices() {
            if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
                writer.write_all(fragment.get(written..at).unwrap_or_default().as_bytes())?;
                write!(writer, "\\u{:04x}", u32::from(c))?;
                written = at + c.len_utf8();
            }
        }
        writer.write_all(fragment.get(written..).unwrap_or_default().as_bytes())
    }
}

/// Reads `null` as the default value, as Go does for every field.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A set that JSON writes as an object with empty objects as values (`"ExposedPorts": {"80/tcp": {}}`).
pub(crate) mod object_set {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::de::IgnoredAny;
    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serializer};

    /// An object without fields.
    #[derive(serde::Serialize)]
    struct Empty {}

    pub(crate) fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(set.len()))?;
        for key in set {
            map.serialize_entry(key, &Empty {})?;
        }
        map.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, IgnoredAny>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

/// A list that is `null` when it is empty, as Go's nil slices are.
pub(crate) mod null_list {
    use serde::{Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer, T: Serialize>(
        list: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_go_does() {
        for (text, json) in [
            ("plain \"\\/", r#""plain \"\\/""#),
            ("a<b>c&d", r#""a\u003cb\u003ec\u0026d""#),
            ("\u{2028}x\u{2029}", r#""\u2028x\u2029""#),
            ("\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}é\""),
            ("&", r#""\u0026""#),
            ("", r#""""#),
        ] {
            assert_eq!(String::from_utf8(to_go_json(&text).unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn escapes_keys_too() {
        let map = std::collections::BTreeMap::from([("<", 1)]);
        assert_eq!(to_go_json(&map).unwrap(), br#"{"\u003c":1}"#);
    }
}
