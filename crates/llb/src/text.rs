//! Graphs as text: JSON as `buildctl debug dump-llb` prints it, and Graphviz's language.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::pb;
use crate::wire::{decode_op, digest};

/// Writes one JSON object a vertex and line: `Op`, `Digest`, `OpMetadata`. Zero values are left out, enums are numbers,
/// bytes are base64.
///
/// # Errors
///
/// Where an op cannot be decoded.
pub fn to_json_lines(definition: &pb::Definition) -> Result<String, Error> {
    let mut out = String::new();
    for bytes in &definition.def {
        let name = digest(bytes).to_string();
        let op = decode_op(bytes)?;
        let metadata = definition.metadata.get(&name).map_or_else(|| json!({}), metadata_json);
        let line = json!({"Op": op_json(&op), "Digest": name, "OpMetadata": metadata});
        out.push_str(&line.to_string());
        out.push('\n');
    }
    Ok(out)
}

/// Writes the graph in Graphviz's language, inputs on the left.
///
/// # Errors
///
/// Where an op cannot be decoded.
pub fn to_dot(definition: &pb::Definition) -> Result<String, Error> {
    let mut out = String::from("digraph {\n  rankdir=LR\n");
    for bytes in &definition.def {
        let name = digest(bytes).to_string();
        let op = decode_op(bytes)?;
        let (shape, mut label) = label(&op);
        if let Some(text) =
            definition.metadata.get(&name).and_then(|meta| meta.description.get("llb.customname"))
        {
            label.clone_from(text);
        }
        out.push_str(&format!("  {} [label={} shape={shape}]\n", quoted(&name), quoted(&label)));
        for input in &op.inputs {
            let edge = if input.index == 0 { String::new() } else { format!(" [label=\"{}\"]", input.index) };
            out.push_str(&format!("  {} -> {}{edge}\n", quoted(&input.digest), quoted(&name)));
        }
    }
    out.push_str("}\n");
    Ok(out)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn label(op: &pb::Op) -> (&'static str, String) {
    match &op.op {
        Some(pb::op::Op::Source(source)) => ("ellipse", source.identifier.clone()),
        Some(pb::op::Op::Exec(exec)) => {
            ("box", exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default())
        }
        Some(pb::op::Op::File(file)) => {
            let names: Vec<String> = file.actions.iter().map(action_label).collect();
            ("note", names.join(", "))
        }
        Some(pb::op::Op::Build(_)) => ("box3d", "build".into()),
        Some(pb::op::Op::Merge(_)) => ("invtriangle", "merge".into()),
        Some(pb::op::Op::Diff(_)) => ("doublecircle", "diff".into()),
        Some(pb::op::Op::Passthrough(pass)) => ("plaintext", pass.id.clone()),
        None => ("plaintext", "result".into()),
    }
}

fn action_label(action: &pb::FileAction) -> String {
    match &action.action {
        Some(pb::file_action::Action::Copy(copy)) => format!("copy {} {}", copy.src, copy.dest),
        Some(pb::file_action::Action::Mkfile(file)) => format!("mkfile {}", file.path),
        Some(pb::file_action::Action::Mkdir(dir)) => format!("mkdir {}", dir.path),
        Some(pb::file_action::Action::Rm(rm)) => format!("rm {}", rm.path),
        Some(pb::file_action::Action::Symlink(link)) => format!("symlink {} {}", link.oldpath, link.newpath),
        None => String::new(),
    }
}

/// Builds an object without the members that are zero.
struct Object(Map<String, Value>);

impl Object {
    fn new() -> Self {
        Self(Map::new())
    }

    fn put(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let zero = match &value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(_) => false,
        };
        if !zero {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    fn map(self, name: &str, map: Map<String, Value>) -> Self {
        if map.is_empty() { self } else { self.put(name, map) }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn op_json(op: &pb::Op) -> Value {
    let inputs: Vec<Value> = op
        .inputs
        .iter()
        .map(|input| Object::new().put("digest", input.digest.as_str()).put("index", input.index).done())
        .collect();
    let kind = op.op.as_ref().map(|kind| match kind {
        pb::op::Op::Exec(exec) => json!({"exec": exec_json(exec)}),
        pb::op::Op::Source(source) => {
            let attrs = source.attrs.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            json!({"source": Object::new().put("identifier", source.identifier.as_str()).map("attrs", attrs).done()})
        }
        pb::op::Op::File(file) => {
            json!({"file": {"actions": file.actions.iter().map(action_json).collect::<Vec<_>>()}})
        }
        pb::op::Op::Build(build) => {
            let inputs = build
                .inputs
                .iter()
                .map(|(key, input)| (key.clone(), Object::new().put("input", input.input).done()))
                .collect();
            let attrs = build.attrs.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            json!({"build": Object::new().put("builder", build.builder).map("inputs", inputs).map("attrs", attrs).done()})
        }
        pb::op::Op::Merge(merge) => {
            let inputs: Vec<Value> =
                merge.inputs.iter().map(|input| Object::new().put("input", input.input).done()).collect();
            json!({"merge": Object::new().put("inputs", inputs).done()})
        }
        pb::op::Op::Diff(diff) => {
            let lower = diff.lower.map(|lower| Object::new().put("input", lower.input).done());
            let upper = diff.upper.map(|upper| Object::new().put("input", upper.input).done());
            json!({"diff": Object::new().put("lower", lower).put("upper", upper).done()})
        }
        pb::op::Op::Passthrough(pass) => {
            json!({"passthrough": Object::new().put("id", pass.id.as_str()).put("outputs", pass.outputs.clone()).done()})
        }
    });
    let platform = op.platform.as_ref().map(|platform| {
        Object::new()
            .put("Architecture", platform.architecture.as_str())
            .put("OS", platform.os.as_str())
            .put("Variant", platform.variant.as_str())
            .put("OSVersion", platform.os_version.as_str())
            .put("OSFeatures", platform.os_features.clone())
            .done()
    });
    let constraints =
        op.constraints.as_ref().map(|limits| Object::new().put("filter", limits.filter.clone()).done());
    Object::new()
        .put("inputs", inputs)
        .put("Op", kind)
        .put("platform", platform)
        .put("constraints", constraints)
        .done()
}

fn exec_json(exec: &pb::ExecOp) -> Value {
    let meta = exec.meta.as_ref().map(|meta| {
        let proxy = meta.proxy_env.as_ref().map(|proxy| {
            Object::new()
                .put("http_proxy", proxy.http_proxy.as_str())
                .put("https_proxy", proxy.https_proxy.as_str())
                .put("ftp_proxy", proxy.ftp_proxy.as_str())
                .put("no_proxy", proxy.no_proxy.as_str())
                .put("all_proxy", proxy.all_proxy.as_str())
                .done()
        });
        let hosts: Vec<Value> = meta
            .extra_hosts
            .iter()
            .map(|host| Object::new().put("Host", host.host.as_str()).put("IP", host.ip.as_str()).done())
            .collect();
        let limits: Vec<Value> = meta
            .ulimit
            .iter()
            .map(|limit| {
                Object::new()
                    .put("Name", limit.name.as_str())
                    .put("Soft", limit.soft)
                    .put("Hard", limit.hard)
                    .done()
            })
            .collect();
        Object::new()
            .put("args", meta.args.clone())
            .put("env", meta.env.clone())
            .put("cwd", meta.cwd.as_str())
            .put("user", meta.user.as_str())
            .put("proxy_env", proxy)
            .put("extraHosts", hosts)
            .put("hostname", meta.hostname.as_str())
            .put("ulimit", limits)
            .put("cgroupParent", meta.cgroup_parent.as_str())
            .put("removeMountStubsRecursive", meta.remove_mount_stubs_recursive)
            .put("validExitCodes", meta.valid_exit_codes.clone())
            .done()
    });
    let mounts: Vec<Value> = exec.mounts.iter().map(mount_json).collect();
    let secrets: Vec<Value> = exec
        .secretenv
        .iter()
        .map(|secret| {
            Object::new()
                .put("ID", secret.id.as_str())
                .put("name", secret.name.as_str())
                .put("optional", secret.optional)
                .done()
        })
        .collect();
    let devices: Vec<Value> = exec
        .cdi_devices
        .iter()
        .map(|device| Object::new().put("name", device.name.as_str()).put("optional", device.optional).done())
        .collect();
    Object::new()
        .put("meta", meta)
        .put("mounts", mounts)
        .put("network", exec.network)
        .put("security", exec.security)
        .put("secretenv", secrets)
        .put("cdiDevices", devices)
        .done()
}

fn mount_json(mount: &pb::Mount) -> Value {
    let file = |id: &str, uid: u32, gid: u32, mode: u32, optional: bool| {
        Object::new()
            .put("ID", id)
            .put("uid", uid)
            .put("gid", gid)
            .put("mode", mode)
            .put("optional", optional)
            .done()
    };
    Object::new()
        .put("input", mount.input)
        .put("selector", mount.selector.as_str())
        .put("dest", mount.dest.as_str())
        .put("output", mount.output)
        .put("readonly", mount.readonly)
        .put("mountType", mount.mount_type)
        .put("TmpfsOpt", mount.tmpfs_opt.as_ref().map(|tmpfs| Object::new().put("size", tmpfs.size).done()))
        .put(
            "cacheOpt",
            mount
                .cache_opt
                .as_ref()
                .map(|cache| Object::new().put("ID", cache.id.as_str()).put("sharing", cache.sharing).done()),
        )
        .put("secretOpt", mount.secret_opt.as_ref().map(|s| file(&s.id, s.uid, s.gid, s.mode, s.optional)))
        .put("SSHOpt", mount.ssh_opt.as_ref().map(|s| file(&s.id, s.uid, s.gid, s.mode, s.optional)))
        .put("resultID", mount.result_id.as_str())
        .put("contentCache", mount.content_cache)
        .done()
}

fn action_json(action: &pb::FileAction) -> Value {
    let kind = action.action.as_ref().map(|kind| match kind {
        pb::file_action::Action::Copy(copy) => json!({"copy": Object::new()
            .put("src", copy.src.as_str())
            .put("dest", copy.dest.as_str())
            .put("owner", copy.owner.as_ref().map(owner_json))
            .put("mode", copy.mode)
            .put("followSymlink", copy.follow_symlink)
            .put("dirCopyContents", copy.dir_copy_contents)
            .put("attemptUnpackDockerCompatibility", copy.attempt_unpack_docker_compatibility)
            .put("createDestPath", copy.create_dest_path)
            .put("allowWildcard", copy.allow_wildcard)
            .put("allowEmptyWildcard", copy.allow_empty_wildcard)
            .put("timestamp", copy.timestamp)
            .put("include_patterns", copy.include_patterns.clone())
            .put("exclude_patterns", copy.exclude_patterns.clone())
            .put("alwaysReplaceExistingDestPaths", copy.always_replace_existing_dest_paths)
            .put("modeStr", copy.mode_str.as_str())
            .put("required_paths", copy.required_paths.clone())
            .done()}),
        pb::file_action::Action::Mkfile(file) => json!({"mkfile": Object::new()
            .put("path", file.path.as_str())
            .put("mode", file.mode)
            .put("data", base64::engine::general_purpose::STANDARD.encode(&file.data))
            .put("owner", file.owner.as_ref().map(owner_json))
            .put("timestamp", file.timestamp)
            .done()}),
        pb::file_action::Action::Mkdir(dir) => json!({"mkdir": Object::new()
            .put("path", dir.path.as_str())
            .put("mode", dir.mode)
            .put("makeParents", dir.make_parents)
            .put("owner", dir.owner.as_ref().map(owner_json))
            .put("timestamp", dir.timestamp)
            .done()}),
        pb::file_action::Action::Rm(rm) => json!({"rm": Object::new()
            .put("path", rm.path.as_str())
            .put("allowNotFound", rm.allow_not_found)
            .put("allowWildcard", rm.allow_wildcard)
            .done()}),
        pb::file_action::Action::Symlink(link) => json!({"symlink": Object::new()
            .put("oldpath", link.oldpath.as_str())
            .put("newpath", link.newpath.as_str())
            .put("owner", link.owner.as_ref().map(owner_json))
            .put("timestamp", link.timestamp)
            .done()}),
    });
    Object::new()
        .put("input", action.input)
        .put("secondaryInput", action.secondary_input)
        .put("output", action.output)
        .put("Action", kind)
        .done()
}

fn owner_json(owner: &pb::ChownOpt) -> Value {
    let one = |user: &Option<pb::UserOpt>| {
        user.as_ref().map(|user| match &user.user {
            Some(pb::user_opt::User::ByName(named)) => {
                let named = Object::new().put("name", named.name.as_str()).put("input", named.input).done();
                json!({"User": {"byName": named}})
            }
            // A number is written even if it is 0: its absence means no owner.
            Some(pb::user_opt::User::ById(id)) => json!({"User": {"byID": id}}),
            None => json!({}),
        })
    };
    Object::new().put("user", one(&owner.user)).put("group", one(&owner.group)).done()
}

fn metadata_json(metadata: &pb::OpMetadata) -> Value {
    let description = metadata.description.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let caps = metadata.caps.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let group = metadata.progress_group.as_ref().map(|group| {
        Object::new()
            .put("id", group.id.as_str())
            .put("name", group.name.as_str())
            .put("weak", group.weak)
            .done()
    });
    let limits = metadata.linux_resources.as_ref().map(|limits| {
        Object::new()
            .put("memory", limits.memory)
            .put("memorySwap", limits.memory_swap)
            .put("cpuShares", limits.cpu_shares)
            .put("cpuPeriod", limits.cpu_period)
            .put("cpuQuota", limits.cpu_quota)
            .put("cpusetCpus", limits.cpuset_cpus.as_str())
            .put("cpusetMems", limits.cpuset_mems.as_str())
            .done()
    });
    Object::new()
        .put("ignore_cache", metadata.ignore_cache)
        .map("description", description)
        .put("export_cache", metadata.export_cache.map(|export| json!({"Value": export.value})))
        .map("caps", caps)
        .put("progress_group", group)
        .put("linux_resources", limits)
        .done()
}
