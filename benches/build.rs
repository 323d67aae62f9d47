//! The same service for bowline, for bare connectrpc and for tonic.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    bowline_build::Config::new().protos(["protos/bench/v1/hello.proto"]).includes(["protos"]).compile()?;

    let plain = protox::compile(["bench/v1/hello.proto"], ["protos/plain"])?;
    let set = out.join("plain.binpb");
    let mut compiler = protox::Compiler::new(["protos/plain"])?;
    compiler.include_imports(true).open_file("protos/plain/bench/v1/hello.proto")?;
    std::fs::write(&set, compiler.encode_file_descriptor_set())?;
    let connect = out.join("connect");
    std::fs::create_dir_all(&connect)?;
    connectrpc_build::Config::new()
        .descriptor_set(&set)
        .files(&["bench/v1/hello.proto"])
        .out_dir(&connect)
        .include_file("mod.rs")
        .compile()?;
    let tonic = out.join("tonic");
    std::fs::create_dir_all(&tonic)?;
    tonic_prost_build::configure().out_dir(&tonic).compile_fds(plain)?;
    println!("cargo::rerun-if-changed=protos");
    Ok(())
}
