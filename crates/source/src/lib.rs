//! Image and local sources: from a name to a pinned identity and layers.
