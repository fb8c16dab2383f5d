//! A folder of blobs, layers, snapshots and records shared by processes.
