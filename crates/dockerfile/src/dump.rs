//! Dumps of the syntax tree: BuildKit's text form, and JSON.

use crate::error::Error;
use crate::instruction::{Command, Stages};
use crate::node::Node;
use crate::parser::Dockerfile;
use crate::quote::go_quote;
use serde_json::{Map, Value, json};

/// The tree as nested lists, as BuildKit's `Node.Dump` writes it, without a line break at the end.
///
/// ```
/// let file = cooper_dockerfile::parse(b"FROM alpine\nCOPY --from=a b c\n")?;
/// assert_eq!(cooper_dockerfile::dump(&file.nodes), "(from \"alpine\")\n(copy [\"--from=a\"] \"b\" \"c\")");
/// # Ok::<(), cooper_dockerfile::Error>(())
/// ```
pub fn dump(nodes: &[Node]) -> String {
    let lines: Vec<String> = nodes.iter().map(|node| format!("({})", dump_node(node))).collect();
    lines.join("\n").trim().to_owned()
}

fn dump_node(node: &Node) -> String {
    let mut out = node.name();
    if !node.flags.is_empty() {
        let flags: Vec<String> = node.flags.iter().map(|f| go_quote(f.bytes())).collect();
        out.push_str(&format!(" [{}]", flags.join(" ")));
    }
    for arg in &node.args {
        out.push(' ');
        out.push_str(&go_quote(arg.bytes()));
    }
    if let Some(child) = &node.child {
        out.push_str(&format!(" ({})", dump_node(child)));
    }
    out.trim().to_owned()
}

/// The tree and what its instructions mean as JSON, or the error.
///
/// Keys without content are left out, except `args` and `cmds`; the trigger of an `ONBUILD` has no lines of its own. `stages` and `meta_args`, or `instruction_error`, are there if the
/// text could be parsed.
pub fn to_json(file: &Result<Dockerfile, Error>) -> Value {
    let file = match file {
        Ok(file) => file,
        Err(error) => return json!({ "status": "error", "error": error_json(error) }),
    };
    let mut out = Map::new();
    out.insert("status".into(), "ok".into());
    out.insert("escape".into(), file.escape.to_string().into());
    let directives = file.directives.iter().map(|d| (d.name.to_owned(), d.value.clone().into()));
    put(&mut out, "directives", Value::Object(directives.collect()));
    let empty: Vec<u32> = file.warnings.iter().map(|w| w.lines.start).collect();
    put(&mut out, "empty_continuation_lines", empty.into());
    out.insert("start".into(), file.lines().start.into());
    out.insert("end".into(), file.lines().end.into());
    out.insert("nodes".into(), file.nodes.iter().map(node_json).collect());
    match crate::instruction::parse(&file.nodes) {
        Ok(stages) => stages_json(&mut out, &stages),
        Err(error) => {
            out.insert("instruction_error".into(), error_json(&error));
        }
    }
    Value::Object(out)
}

fn error_json(error: &Error) -> Value {
    json!({ "message": error.to_string(), "line": error.lines.start })
}

/// Adds a key unless it has no content.
fn put(out: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(_) => false,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    };
    if !empty {
        out.insert(key.to_owned(), value);
    }
}

fn node_json(node: &Node) -> Value {
    let mut out = Map::new();
    out.insert("cmd".into(), node.keyword.text.clone().into());
    out.insert("start".into(), node.lines.start.into());
    out.insert("end".into(), node.lines.end.into());
    put(&mut out, "flags", node.flags.iter().map(|f| Value::from(f.text.clone())).collect());
    put(&mut out, "json", node.json.into());
    put(&mut out, "original", node.original.clone().into());
    put(&mut out, "comments", node.comments.clone().into());
    let heredocs = node.heredocs.iter().map(
        |h| json!({ "name": h.name, "fd": h.fd, "expand": h.expand, "chomp": h.chomp, "content": h.content }),
    );
    put(&mut out, "heredocs", heredocs.collect());
    let words = node.args.iter().map(|arg| json!({ "value": arg.text }));
    let child = node.child.iter().map(|child| json!({ "value": "", "child": node_json(child) }));
    out.insert("args".into(), words.chain(child).collect());
    Value::Object(out)
}

fn stages_json(out: &mut Map<String, Value>, all: &Stages) {
    let meta: Vec<String> = all.meta_args.iter().map(|c| c.text.clone()).collect();
    put(out, "meta_args", meta.into());
    let command = |c: &Command| json!({ "name": c.keyword, "string": c.text, "line": c.lines.start });
    let stages = all.stages.iter().map(|stage| {
        let mut out = Map::new();
        out.insert("name".into(), stage.name.clone().into());
        out.insert("base".into(), stage.base.clone().into());
        put(&mut out, "platform", stage.platform.clone().into());
        put(&mut out, "doc", stage.doc.clone().into());
        out.insert("line".into(), stage.lines.start.into());
        out.insert("cmds".into(), stage.commands.iter().map(command).collect());
        Value::Object(out)
    });
    put(out, "stages", stages.collect());
}
