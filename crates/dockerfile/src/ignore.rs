//! Patterns of ignore files.
