//! Steps run by real runtimes, and file operations on real directories.

mod exploits;
mod rootless;
mod run;
mod support;
