//! Where the Dockerfile, the build context and the ignore patterns come from.

use std::sync::Arc;

use cooper_dockerfile::ignore;
use cooper_llb::{SourceMap, State, encode_definition};

use crate::asker::Asker;
use crate::error::SourceText;
use crate::failure::{Step, fail};
use crate::git;
use crate::gofmt::parse_bool;
use crate::graph::{self, LocalSource, Meta};
use crate::options::Options;
use crate::path;
use crate::request::FileQuestion;

/// Name of the local source that is the build context.
pub(crate) const CONTEXT: &str = "context";
const DOCKERFILE_SOURCE: &str = "dockerfile";
const DOCKERFILE: &str = "Dockerfile";
/// Name of the file with ignore patterns.
pub(crate) const IGNORE_FILE: &str = ".dockerignore";

/// The inputs of a build.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The build context where it is remote; `None`: the local source [`CONTEXT`].
    pub(crate) remote: Option<State>,
    /// The Dockerfile.
    pub(crate) source: Arc<SourceText>,
    /// The same as LLB's locations name it.
    pub(crate) map: Arc<SourceMap>,
    /// Content of an ignore file that belongs to this Dockerfile alone, with its name.
    own_ignore: Option<(String, Vec<u8>)>,
}

/// Name of an internal step.
pub(crate) fn internal(name: &str) -> Meta {
    Meta::named(&format!("[internal] {name}"))
}

/// The session that a local source is read from.
pub(crate) fn session_of<'a>(options: &'a Options, session: &'a str, local: &str) -> &'a str {
    options.local_sessions.get(local).map_or(session, String::as_str)
}

impl Inputs {
    /// Finds the context and reads the Dockerfile.
    pub(crate) fn load(options: &Options, session: &str, asker: &Asker<'_>) -> Step<Inputs> {
        let mut filename = match options.raw.get("filename") {
            Some(name) => name.clone(),
            None => DOCKERFILE.to_owned(),
        };
        let forced_local = options.raw.get("dockerfilekey");
        let remote = remote_context(options, asker)?;
        if let Some(Remote { plain_file: true, .. }) = remote {
            filename = CONTEXT.to_owned();
        }
        let from = match (&remote, forced_local) {
            (Some(remote), None) => remote.state.clone(),
            (_, key) => {
                dockerfile_source(options, session, key.map_or(DOCKERFILE_SOURCE, String::as_str), &filename)
            }
        };
        let definition = graph::definition(&from);
        let bytes = encode_definition(&definition);
        let shown = format!("[internal] load build definition from {filename}");
        let read = |path: String| {
            let question = FileQuestion { definition: bytes.clone(), path, limit: None };
            asker.file(question, &shown)
        };
        // Both are asked for at once.
        let ignore_name = format!("{filename}{IGNORE_FILE}");
        let own_ignore = read(ignore_name.clone());
        let mut text = read(filename.clone())?;
        if path::base(&filename) == DOCKERFILE && !matches!(text, Ok(Some(_))) {
            let lower = path::join(&[&path::dir(&filename), &DOCKERFILE.to_lowercase()]);
            if let Ok(Some(found)) = read(lower)? {
                text = Ok(Some(found));
            }
        }
        let text = match text {
            Ok(Some(text)) => text.to_vec(),
            Ok(None) => {
                let message =
                    format!("failed to read dockerfile: open {filename}: no such file or directory");
                return Err(fail(message));
            }
            Err(message) => return Err(fail(format!("failed to read dockerfile: {message}"))),
        };
        let own_ignore = match own_ignore? {
            Ok(found) => found.map(|text| (ignore_name, text.to_vec())),
            Err(message) => return Err(fail(format!("failed to read {ignore_name}: {message}"))),
        };
        let map = Arc::new(SourceMap {
            definition: Some(definition),
            filename: filename.clone(),
            language: "Dockerfile".to_owned(),
            data: text.clone(),
        });
        let source = Arc::new(SourceText { name: filename, text });
        let remote = remote.map(|remote| match options.raw.get("contextsubdir") {
            Some(subdir) => graph::subdirectory(&remote.state, subdir),
            None => remote.state,
        });
        Ok(Inputs { remote, source, map, own_ignore })
    }

    /// Patterns of what is not part of the context; none for a remote one.
    pub(crate) fn ignore_patterns(
        &self,
        options: &Options,
        session: &str,
        asker: &Asker<'_>,
    ) -> Step<Vec<String>> {
        if self.remote.is_some() {
            return Ok(Vec::new());
        }
        if let Some((_, text)) = &self.own_ignore {
            return Ok(ignore::parse(text));
        }
        let source = LocalSource {
            name: CONTEXT,
            session: session_of(options, session, CONTEXT),
            follow_paths: &[IGNORE_FILE.to_owned()],
            excludes: &[],
            shared_key_hint: &format!("{CONTEXT}-{IGNORE_FILE}"),
            whole: true,
        };
        let name = format!("load {IGNORE_FILE}");
        let state = source.state(internal(&name));
        read_ignore_file(&state, &format!("[internal] {name}"), asker)
    }

    /// The build context, restricted to the paths that are read of it (all if there are none).
    pub(crate) fn context(
        &self,
        options: &Options,
        session: &str,
        follow_paths: &[String],
        excludes: &[String],
    ) -> State {
        if let Some(state) = &self.remote {
            return state.clone();
        }
        let source = LocalSource {
            name: CONTEXT,
            session: session_of(options, session, CONTEXT),
            follow_paths,
            excludes,
            shared_key_hint: CONTEXT,
            whole: false,
        };
        source.state(internal("load build context"))
    }
}

/// Reads the ignore file of a local source.
pub(crate) fn read_ignore_file(state: &State, shown: &str, asker: &Asker<'_>) -> Step<Vec<String>> {
    let question = FileQuestion {
        definition: encode_definition(&graph::definition(state)),
        path: IGNORE_FILE.to_owned(),
        limit: None,
    };
    match asker.file(question, shown)? {
        Ok(text) => Ok(ignore::parse(text.unwrap_or_default())),
        // BuildKit goes on without patterns here, which copies files that were meant to stay out.
        Err(message) => Err(fail(format!("failed to read {IGNORE_FILE}: {message}"))),
    }
}

fn dockerfile_source(options: &Options, session: &str, local: &str, filename: &str) -> State {
    let mut follow_paths = vec![filename.to_owned(), format!("{filename}{IGNORE_FILE}")];
    if path::base(filename) == DOCKERFILE {
        follow_paths.push(path::join(&[&path::dir(filename), &DOCKERFILE.to_lowercase()]));
    }
    let source = LocalSource {
        name: local,
        session: session_of(options, session, local),
        follow_paths: &follow_paths,
        excludes: &[],
        shared_key_hint: local,
        whole: true,
    };
    source.state(internal(&format!("load build definition from {filename}")))
}

/// A context that is not local.
struct Remote {
    state: State,
    /// It is a file that is no archive, and so the Dockerfile itself.
    plain_file: bool,
}

fn remote_context(options: &Options, asker: &Asker<'_>) -> Step<Option<Remote>> {
    let key = options.raw.get("contextkey").map_or(CONTEXT, String::as_str);
    let url = options.raw(key);
    match git::parse(url) {
        git::Parsed::Git(mut reference) => {
            if reference.mtime.is_empty() && !options.raw("build-arg:SOURCE_DATE_EPOCH").is_empty() {
                reference.mtime = "commit".to_owned();
            }
            let keep = parse_bool(options.raw("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR")) == Some(true)
                || reference.keep_git_dir == Some(true);
            let meta = internal(&format!("load git source {url}"));
            let (id, attrs, caps) = reference.source(keep, &reference.checksum);
            return Ok(Some(Remote {
                state: State::source(id, attrs, caps, meta.options()),
                plain_file: false,
            }));
        }
        git::Parsed::Bad(message) => return Err(fail(message)),
        git::Parsed::Other => {}
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Ok(None);
    }
    let shown = "load remote build context";
    let state = graph::http(url, CONTEXT, "", internal(shown));
    // The first bytes tell an archive from a Dockerfile.
    let question = FileQuestion {
        definition: encode_definition(&graph::definition(&state)),
        path: CONTEXT.to_owned(),
        limit: Some(1024),
    };
    let head = match asker.file(question, &format!("[internal] {shown}"))? {
        Ok(Some(head)) => head,
        Ok(None) => {
            let message =
                format!("failed to read downloaded context: open {CONTEXT}: no such file or directory");
            return Err(fail(message));
        }
        Err(message) => return Err(fail(format!("failed to read downloaded context: {message}"))),
    };
    if is_archive(head) {
        return Ok(Some(Remote { state: graph::unpacked(&state, CONTEXT), plain_file: false }));
    }
    Ok(Some(Remote { state, plain_file: true }))
}

/// Whether a file starts like a tar archive or like one compressed by gzip, bzip2 or xz.
fn is_archive(head: &[u8]) -> bool {
    const MAGIC: [&[u8]; 3] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\0"];
    MAGIC.iter().any(|magic| head.starts_with(magic)) || is_tar_header(head)
}

/// Whether the first block is a tar header: its checksum counts its own field (bytes 148 to 156) as blanks.
fn is_tar_header(head: &[u8]) -> bool {
    let (Some(block), Some(field)) = (head.get(..512), head.get(148..156)) else { return false };
    let text = String::from_utf8_lossy(field);
    let Ok(expected) = u64::from_str_radix(text.trim_matches([' ', '\0']), 8) else { return false };
    let sum = |signed: bool| -> i64 {
        let value = |(at, byte): (usize, &u8)| match byte {
            _ if (148..156).contains(&at) => i64::from(b' '),
            byte if signed => i64::from(byte.cast_signed()),
            byte => i64::from(*byte),
        };
        block.iter().enumerate().map(value).sum()
    };
    i64::try_from(expected).is_ok_and(|expected| expected == sum(false) || expected == sum(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives() {
        let mut header = [0u8; 512];
        header[..4].copy_from_slice(b"file");
        header[257..262].copy_from_slice(b"ustar");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(is_archive(&header));
        header[0] = b'F';
        assert!(!is_archive(&header));
        assert!(is_archive(b"\x1f\x8b\x08....") && !is_archive(b"FROM scratch\n") && !is_archive(&[0; 1024]));
    }
}
