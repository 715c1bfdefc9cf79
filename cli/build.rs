//! Packs the model packages that travel in the binary: a tar of each, compressed as a whole, since variants of a model
//! have weights in common. The same files give the same bytes.

use std::{
    env,
    error::Error,
    fs::{self, File},
    path::Path,
};

use lzma_rust2::{XzOptions, XzWriter};

fn main() -> Result<(), Box<dyn Error>> {
    let packages = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../models/packages");
    for name in ["fashion-mnist", "simple"] {
        let folder = packages.join(name);
        println!("cargo:rerun-if-changed={}", folder.display());
        let packed = Path::new(&env::var("OUT_DIR")?).join(format!("{name}.tar.xz"));
        pack(&folder, &packed)?;
    }
    Ok(())
}

fn pack(folder: &Path, packed: &Path) -> Result<(), Box<dyn Error>> {
    // The whole of a package is within reach of 16 MiB.
    let mut options = XzOptions::with_preset(7);
    // Most of it are numbers of four bytes: what comes next depends on where in a number it is, not on what came before.
    options.lzma_options.lc = 0;
    options.lzma_options.lp = 2;
    let mut archive = tar::Builder::new(XzWriter::new(File::create(packed)?, options)?);
    let entries: Result<Vec<_>, _> = fs::read_dir(folder)?.collect();
    let mut files: Vec<_> = entries?.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let bytes = fs::read(&file)?;
        let name = file.file_name().ok_or("a file without a name")?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len().try_into()?);
        archive.append_data(&mut header, name, &bytes[..])?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}
