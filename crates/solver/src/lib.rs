//! Decides what to do next in a content-addressed graph: one key a vertex, one flight a key.
