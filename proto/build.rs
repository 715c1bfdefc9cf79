//! Compiles the `.proto` files with a compiler written in Rust, so that no `protoc` is needed.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 5] = [
        "inference/grpc_service.proto",
        "splitplace/center.proto",
        "splitplace/control.proto",
        "splitplace/data.proto",
        "splitplace/store.proto",
    ];
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
