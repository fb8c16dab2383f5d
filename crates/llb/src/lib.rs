//! LLB, BuildKit's content-addressed build graph: ops, builder, wire form.
