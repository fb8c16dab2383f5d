//! Image layers: tar, whiteouts, diff, safe unpacking, compression, entry index.
