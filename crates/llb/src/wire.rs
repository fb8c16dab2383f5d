//! Encoding byte for byte as Go does it, and decoding what others sent.

use cooper_oci::Digest;
use prost::Message as _;

use crate::error::Error;
use crate::pb;

/// An input or output that is not there (`pb.Empty`, `pb.SkipOutput` in BuildKit).
pub const NONE: i64 = -1;

/// Encodes an op as Go's deterministic marshalling does: fields by number, but the `oneof` last.
///
/// The digest of a vertex is the SHA-256 of these bytes.
pub fn encode_op(op: &pb::Op) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL);
    for input in &op.inputs {
        message(1, input, &mut bytes);
    }
    if let Some(platform) = &op.platform {
        message(10, platform, &mut bytes);
    }
    if let Some(constraints) = &op.constraints {
        message(11, constraints, &mut bytes);
    }
    match &op.op {
        Some(pb::op::Op::Exec(exec)) => message(2, exec, &mut bytes),
        Some(pb::op::Op::Source(source)) => field(3, &encode_source(source), &mut bytes),
        Some(pb::op::Op::File(file)) => message(4, file, &mut bytes),
        Some(pb::op::Op::Build(build)) => message(5, build, &mut bytes),
        Some(pb::op::Op::Merge(merge)) => message(6, merge, &mut bytes),
        Some(pb::op::Op::Diff(diff)) => message(7, diff, &mut bytes),
        Some(pb::op::Op::Passthrough(pass)) => message(8, pass, &mut bytes),
        None => {}
    }
    bytes
}

/// Returns the digest of encoded op bytes: the name of the vertex.
pub fn digest(op: &[u8]) -> Digest {
    Digest::of(op)
}

/// Decodes an op.
///
/// # Errors
///
/// [`Error::Decode`] if the bytes are none.
pub fn decode_op(bytes: &[u8]) -> Result<pb::Op, Error> {
    pb::Op::decode(bytes).map_err(|source| Error::Decode { what: "op", source })
}

/// Encodes a definition as Go's deterministic marshalling does.
pub fn encode_definition(definition: &pb::Definition) -> Vec<u8> {
    let ops: usize = definition.def.iter().map(|op| op.len() + USUAL).sum();
    let infos = definition.source.iter().flat_map(|source| &source.infos);
    let texts: usize = infos.map(|info| info.data.len() + USUAL).sum();
    let mut bytes = Vec::with_capacity(ops + texts);
    for op in &definition.def {
        field(1, op, &mut bytes);
    }
    for (digest, metadata) in &definition.metadata {
        let metadata = encode_metadata(metadata);
        let mut entry = Vec::with_capacity(digest.len() + metadata.len() + ROOM);
        field(1, digest.as_bytes(), &mut entry);
        field(2, &metadata, &mut entry);
        field(2, &entry, &mut bytes);
    }
    if let Some(source) = &definition.source {
        field(3, &encode_source_maps(source), &mut bytes);
    }
    bytes
}

/// Decodes a definition; the ops in it stay encoded.
///
/// # Errors
///
/// [`Error::Decode`] if the bytes are none.
pub fn decode_definition(bytes: &[u8]) -> Result<pb::Definition, Error> {
    pb::Definition::decode(bytes).map_err(|source| Error::Decode { what: "definition", source })
}

/// Map entries have both fields in Go, also where one is empty; prost leaves empty ones out.
fn text_map<'a>(number: u32, map: impl IntoIterator<Item = (&'a String, &'a String)>, out: &mut Vec<u8>) {
    for (key, value) in map {
        let mut entry = Vec::with_capacity(key.len() + value.len() + ROOM);
        field(1, key.as_bytes(), &mut entry);
        field(2, value.as_bytes(), &mut entry);
        field(number, &entry, out);
    }
}

fn encode_source(source: &pb::SourceOp) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !source.identifier.is_empty() {
        field(1, source.identifier.as_bytes(), &mut bytes);
    }
    text_map(2, &source.attrs, &mut bytes);
    bytes
}

fn encode_metadata(metadata: &pb::OpMetadata) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL);
    if metadata.ignore_cache {
        bytes.extend([1 << 3, 1]);
    }
    text_map(2, &metadata.description, &mut bytes);
    if let Some(export) = &metadata.export_cache {
        message(4, export, &mut bytes);
    }
    for (cap, on) in &metadata.caps {
        let mut entry = Vec::with_capacity(cap.len() + ROOM);
        field(1, cap.as_bytes(), &mut entry);
        entry.extend([2 << 3, u8::from(*on)]);
        field(5, &entry, &mut bytes);
    }
    if let Some(group) = &metadata.progress_group {
        message(6, group, &mut bytes);
    }
    if let Some(resources) = &metadata.linux_resources {
        message(7, resources, &mut bytes);
    }
    bytes
}

fn encode_source_maps(source: &pb::Source) -> Vec<u8> {
    let texts: usize = source.infos.iter().map(|info| info.data.len() + USUAL).sum();
    let mut bytes = Vec::with_capacity(texts + USUAL * source.locations.len());
    for (digest, locations) in &source.locations {
        let mut entry = Vec::with_capacity(USUAL);
        field(1, digest.as_bytes(), &mut entry);
        message(2, locations, &mut entry);
        field(1, &entry, &mut bytes);
    }
    for info in &source.infos {
        let mut one = Vec::with_capacity(info.data.len() + USUAL);
        if !info.filename.is_empty() {
            field(1, info.filename.as_bytes(), &mut one);
        }
        if !info.data.is_empty() {
            field(2, &info.data, &mut one);
        }
        if let Some(definition) = &info.definition {
            field(3, &encode_definition(definition), &mut one);
        }
        if !info.language.is_empty() {
            field(4, info.language.as_bytes(), &mut one);
        }
        field(2, &one, &mut bytes);
    }
    bytes
}

fn message(number: u32, message: &impl prost::Message, out: &mut Vec<u8>) {
    field(number, &message.encode_to_vec(), out);
}

/// Bytes that most ops and their metadata fit into: growing in small steps takes more time than all else.
const USUAL: usize = 512;

/// Room for the tags and lengths of two fields.
const ROOM: usize = 16;

/// Writes a length-delimited field: the tag with wire type 2, the length, the bytes.
fn field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_varint(u64::from(number << 3 | 2), out);
    prost::encoding::encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
