//! Compiles the wire form with protox, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/ops.proto");
    let files = protox::compile(["proto/ops.proto"], ["proto"])?;
    // Ordered maps: Go's deterministic encoding sorts the entries of a map by key.
    prost_build::Config::new().btree_map(["."]).compile_fds(files)?;
    Ok(())
}
