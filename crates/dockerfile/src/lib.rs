//! Dockerfiles: lossless syntax, typed instructions, word expansion, ignore files.
