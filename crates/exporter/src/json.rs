//! JSON as Go's `json.MarshalIndent(value, "", "  ")` writes it: the form of BuildKit's manifests and indexes.

use cooper_oci::to_go_json;
use serde::Serialize;

pub(crate) fn indented(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    Ok(indent(&to_go_json(value)?))
}

/// Spreads compact JSON over lines. Empty objects and lists stay as they are.
fn indent(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut bytes = compact.iter().copied().peekable();
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
    };
    while let Some(byte) = bytes.next() {
        if in_text {
            out.push(byte);
            match byte {
                b'\\' => out.extend(bytes.next()),
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                match bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                in_text = true;
                out.push(byte);
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go() {
        let compact = br#"{"a":{},"b":[],"c":[1,{"d:,{":"x\"},[\\"}],"e":{"f":null}}"#;
        let expected = r#"{
  "a": {},
  "b": [],
  "c": [
    1,
    {
      "d:,{": "x\"},[\\"
    }
  ],
  "e": {
    "f": null
  }
}"#;
        assert_eq!(String::from_utf8(indent(compact)).unwrap(), expected);
        assert_eq!(indented(&"<é>").unwrap(), "\"\\u003cé\\u003e\"".as_bytes());
    }
}
