//! Where failures are told.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

/// A file, or standard error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) file: Option<PathBuf>,
    pub(crate) json: bool,
}

impl Log {
    /// Tells an error.
    pub(crate) fn error(&self, error: &crate::Error) {
        let message = error.to_string();
        // With a log file nothing goes to standard error: that is the container's.
        let line = if self.json {
            format!("{}\n", json!({ "level": "error", "msg": message }))
        } else {
            format!("error: {message}\n")
        };
        let file = self
            .file
            .as_ref()
            .and_then(|path| std::fs::File::options().append(true).create(true).open(path).ok());
        // There is nobody else to be told if this fails.
        let _ = match file {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => std::io::stderr().write_all(format!("cooper oci-runtime: {line}").as_bytes()),
        };
    }
}
