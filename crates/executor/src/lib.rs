//! Runs one process in a root through crun or runc; file operations without a container.
