//! Converts a Dockerfile into LLB and an image configuration, as a pure function.
