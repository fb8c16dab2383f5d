//! Build progress as an append-only log of events, with renderers.
