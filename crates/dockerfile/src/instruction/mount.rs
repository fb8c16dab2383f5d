//! `RUN --mount` and `RUN --device`.

use super::expand::Expander;
use super::fields::{parse_bool, parse_size, parse_u32, split_list};
use super::suggest::suggest;
use super::{Device, Mount, MountType, Sharing};
use crate::error::Problem;
use crate::quote::go_quote;

/// Fields of a mount, in the order in which one is suggested for a misspelt name.
const FIELDS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountType {
    /// The name in a Dockerfile.
    pub fn name(self) -> &'static str {
        match self {
            MountType::Bind => "bind",
            MountType::Cache => "cache",
            MountType::Tmpfs => "tmpfs",
            MountType::Secret => "secret",
            MountType::Ssh => "ssh",
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let all = [MountType::Bind, MountType::Cache, MountType::Tmpfs, MountType::Secret, MountType::Ssh];
        let wanted = text.to_lowercase();
        all.into_iter().find(|t| t.name() == wanted).ok_or_else(|| Problem::MountType {
            value: go_quote(text.as_bytes()),
            hint: suggest(text, &all.map(MountType::name), true),
        })
    }
}

impl Sharing {
    /// The name in a Dockerfile.
    pub fn name(self) -> &'static str {
        match self {
            Sharing::Shared => "shared",
            Sharing::Private => "private",
            Sharing::Locked => "locked",
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let all = [Sharing::Shared, Sharing::Private, Sharing::Locked];
        let wanted = text.to_lowercase();
        all.into_iter().find(|t| t.name() == wanted).ok_or_else(|| Problem::Sharing {
            value: go_quote(text.as_bytes()),
            hint: suggest(text, &all.map(Sharing::name), true),
        })
    }
}

/// Reads the value of `--mount`.
///
/// Without an expander only what can be said before variables are known is read and checked: the list's syntax and
/// `from`, which takes no variable.
pub(super) fn parse<E: From<Problem>>(
    text: &str,
    mut expander: Option<&mut Expander<'_, E>>,
) -> Result<Mount, E> {
    let fields = split_list(text).map_err(|reason| Problem::List { what: "mounts", reason })?;
    let mut mount = Mount::default();
    let mut read_only = None;
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (value, &mut expander) {
            (Some(value), Some(expander)) => {
                let value = expander(value)?;
                set_field(&mut mount, &mut read_only, &key, value, field)?;
            }
            (None, Some(_)) => set_bare_field(&mut mount, &mut read_only, &key, field)?,
            (Some(value), None) if key == "from" => {
                if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                    return Err(Problem::NoExpansion(key).into());
                }
                mount.from = value.to_owned();
            }
            (_, None) => {}
        }
    }
    mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
    check(&mount)?;
    Ok(mount)
}

/// A field without a value.
fn set_bare_field(
    mount: &mut Mount,
    read_only: &mut Option<bool>,
    key: &str,
    field: &str,
) -> Result<(), Problem> {
    match key {
        "readonly" | "ro" => *read_only = Some(true),
        "readwrite" | "rw" => *read_only = Some(false),
        "required" => {
            takes_required(mount, key)?;
            mount.required = true;
        }
        _ => return Err(Problem::FieldWithoutValue(field.to_owned())),
    }
    Ok(())
}

fn set_field(
    mount: &mut Mount,
    read_only: &mut Option<bool>,
    key: &str,
    value: String,
    field: &str,
) -> Result<(), Problem> {
    let invalid = |value: &str| Problem::FieldValue { key: key.to_owned(), value: value.to_owned() };
    let boolean = |value: &str| parse_bool(value).ok_or_else(|| invalid(value));
    let number = |key: &'static str, radix: u32| {
        parse_u32(&value, radix).ok_or_else(|| Problem::FieldNumber { key, value: value.clone() })
    };
    match key {
        "type" => mount.kind = MountType::parse(&value)?,
        "from" => mount.from = value,
        "source" | "src" => mount.source = value,
        "target" | "dst" | "destination" => mount.target = value,
        "readonly" | "ro" => *read_only = Some(boolean(&value)?),
        "readwrite" | "rw" => *read_only = Some(!boolean(&value)?),
        "required" => {
            takes_required(mount, key)?;
            mount.required = boolean(&value)?;
        }
        "size" if mount.kind == MountType::Tmpfs => {
            mount.size = parse_size(&value).ok_or_else(|| invalid(&value))?;
        }
        "size" => return Err(Problem::FieldForType { key: key.to_owned(), kind: mount.kind.name() }),
        "id" => mount.id = value,
        "sharing" => mount.sharing = Some(Sharing::parse(&value)?),
        "mode" => mount.mode = Some(number("mode", 8)?),
        "uid" => mount.uid = Some(number("uid", 10)?),
        "gid" => mount.gid = Some(number("gid", 10)?),
        "env" => mount.env = Some(value),
        _ => {
            let (key, field) = (key.to_owned(), field.to_owned());
            let hint = suggest(&key, FIELDS, true);
            return Err(Problem::UnknownField { key, field, hint });
        }
    }
    Ok(())
}

/// `required` depends on a `type` that stands before it.
fn takes_required(mount: &Mount, key: &str) -> Result<(), Problem> {
    match mount.kind {
        MountType::Secret | MountType::Ssh => Ok(()),
        kind => Err(Problem::FieldForType { key: key.to_owned(), kind: kind.name() }),
    }
}

/// What can only be said once all fields are known.
fn check(mount: &Mount) -> Result<(), Problem> {
    if matches!(mount.kind, MountType::Bind | MountType::Tmpfs) {
        let info = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
        if let Some((field, _)) = info.into_iter().find(|(_, value)| value.is_some()) {
            return Err(Problem::FileInfo { field, kind: go_quote(mount.kind.name().as_bytes()) });
        }
    }
    if mount.kind == MountType::Secret {
        if !mount.from.is_empty() {
            return Err(Problem::SecretFrom);
        }
        if mount.sharing.is_some() {
            return Err(Problem::SecretSharing);
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err(Problem::SecretUnnamed);
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(Problem::SecretNamedTwice);
        }
    }
    if mount.sharing.is_some() && mount.kind != MountType::Cache {
        return Err(Problem::SharingForType(mount.kind.name()));
    }
    Ok(())
}

/// Reads the value of `--device`.
pub(super) fn parse_device(text: &str) -> Result<Device, Problem> {
    let fields = split_list(text).map_err(|reason| Problem::List { what: "devices", reason })?;
    let mut device = Device::default();
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required =
                    parse_bool(value).ok_or_else(|| Problem::FieldValue { key, value: value.to_owned() })?;
            }
            ("name", Some(_)) if !device.name.is_empty() => {
                return Err(Problem::DeviceNamedTwice(device.name));
            }
            ("name", Some(value)) => device.name = value.to_owned(),
            // A CDI name has an equals sign itself: `vendor.com/class=device`.
            _ if device.name.is_empty() => device.name = field.to_string(),
            (_, None) => return Err(Problem::FieldWithoutValue(field.to_string())),
            (_, Some(_)) => {
                let hint = suggest(&key, &["name", "required"], true);
                return Err(Problem::UnknownField { key, field: field.to_string(), hint });
            }
        }
    }
    Ok(device)
}
