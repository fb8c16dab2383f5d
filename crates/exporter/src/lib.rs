//! Writes OCI layouts, archives and directories.
