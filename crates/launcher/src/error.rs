use std::io;

/// Why a container could not be made, or not be dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line is not one of runc's, or has no meaning here.
    #[error("{0}")]
    Usage(String),
    /// The bundle's configuration cannot be understood.
    #[error("config.json: {0}")]
    Config(String),
    /// The configuration asks for something that is not done here; nothing of a configuration is left out silently.
    #[error("config.json: {what} is not supported: {remedy}")]
    Unsupported {
        /// What was asked for, by its place in the configuration.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The container is not in the state that the command needs.
    #[error("container `{id}` {problem}")]
    State {
        /// The container's name.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// Something of this machine is not what it must be, and going on would be dangerous.
    #[error("refused: {0}")]
    Refused(String),
    /// The container's side could not finish; this is its message.
    #[error("{0}")]
    Child(String),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what: format!("cannot {what}"), source: source.into() }
    }

    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self::Config(what.into())
    }
}

/// Says what was tried, of failures of any kind of system call.
pub(crate) trait Tried<T> {
    fn tried<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Error> {
        self.map_err(|error| Error::io(what())(error))
    }
}
