//! `splitplace fetch`: brings a package into a folder of models, whole or not at all.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::download;

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// The model's name; the package must have the same.
    #[arg(long)]
    name: String,
    /// The folder of models.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// A package's folder, a .onnx file, a .tar or a .tar.gz.
    #[arg(long, value_name = "PATH", group = "from", required_unless_present_any = ["url", "oci"])]
    path: Option<PathBuf>,
    /// A .onnx, .tar or .tar.gz file at a URL.
    #[arg(long, value_name = "URL", group = "from", requires = "digest")]
    url: Option<String>,
    /// An artifact in a registry, as registry/repository.
    #[arg(long, value_name = "REPOSITORY", group = "from", requires = "digest")]
    oci: Option<String>,
    /// SHA-256 of the file, or of the artifact's manifest, as sha256:…
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Speak plain HTTP to the registry.
    #[arg(long)]
    plain_http: bool,
    /// Authorities to trust, in PEM, instead of the public ones.
    #[arg(long, value_name = "FILE", env = "SPLITPLACE_FETCH_CA")]
    ca: Option<PathBuf>,
}

/// Largest package, unpacked.
const BYTES_MAX: u64 = 8 << 30;

pub(crate) async fn run(args: Fetch) -> Result<ExitCode> {
    let plain = Path::new(&args.name)
        .components()
        .map(|c| matches!(c, Component::Normal(_)));
    ensure!(
        plain.clone().count() == 1 && plain.clone().all(|is| is),
        "{:?} is no model's name",
        args.name
    );
    fs::create_dir_all(&args.into)
        .with_context(|| format!("cannot make {}", args.into.display()))?;
    let scratch = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(&args.into)?;
    let fresh = scratch.path().join("package");
    fs::create_dir(&fresh)?;
    if let Some(path) = &args.path {
        from_path(path, &fresh, &args.name)?;
    } else {
        let bytes = match (&args.url, &args.oci, &args.digest) {
            (Some(url), _, Some(digest)) => {
                let bytes = download::get(url, &[], args.ca.as_deref()).await?;
                verify(&bytes, digest, url)?;
                bytes
            }
            (_, Some(repository), Some(digest)) => {
                artifact(repository, digest, args.plain_http, args.ca.as_deref()).await?
            }
            _ => bail!("one of --path, --url with --digest, --oci with --digest is needed"),
        };
        unpack(&bytes, &fresh, &args.name)?;
    }
    let manifest = fresh.join("package.toml");
    let place = if manifest.is_file() {
        check(&manifest, &args.name)?;
        args.into.join(&args.name)
    } else {
        let bare = fresh.join(format!("{}.onnx", args.name));
        ensure!(
            bare.is_file(),
            "there is neither a package.toml nor a .onnx file in it"
        );
        fs::rename(&bare, args.into.join(format!("{}.onnx", args.name)))?;
        println!("{} is in {}", args.name, args.into.display());
        return Ok(ExitCode::SUCCESS);
    };
    // The old one goes and the new one comes; a reader in between finds nothing rather than a mixture.
    let old = scratch.path().join("old");
    if place.exists() {
        fs::rename(&place, &old)?;
    }
    fs::rename(&fresh, &place)
        .with_context(|| format!("cannot put {} in place", place.display()))?;
    println!("{} is in {}", args.name, args.into.display());
    Ok(ExitCode::SUCCESS)
}

fn check(manifest: &Path, name: &str) -> Result<()> {
    let text = fs::read_to_string(manifest)?;
    let table: toml::Table = text.parse().context("its package.toml is no TOML")?;
    let own = table
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(|name| name.as_str());
    ensure!(
        own == Some(name),
        "the package is named {own:?}, the model {name:?}; set the EdgeModel's spec.model to the \
         package's name"
    );
    Ok(())
}

fn verify(bytes: &[u8], digest: &str, what: &str) -> Result<()> {
    let found: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ensure!(
        digest.strip_prefix("sha256:") == Some(&found),
        "{what} has the digest sha256:{found}, {digest} is wanted; nothing was kept"
    );
    Ok(())
}

fn from_path(path: &Path, fresh: &Path, name: &str) -> Result<()> {
    if path.is_file() {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return unpack(&bytes, fresh, name);
    }
    ensure!(path.is_dir(), "there is nothing at {}", path.display());
    let mut left = BYTES_MAX;
    let is_package = path.join("package.toml").is_file();
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let entry = entry?;
        let size = entry.metadata()?.len();
        if !entry.file_type()?.is_file() {
            continue;
        }
        left = left
            .checked_sub(size)
            .context("the package is larger than 8 GiB")?;
        let file = entry.file_name();
        let file = if !is_package
            && entry
                .path()
                .extension()
                .is_some_and(|ending| ending == "onnx")
        {
            format!("{name}.onnx").into()
        } else {
            file
        };
        fs::copy(entry.path(), fresh.join(file))?;
    }
    Ok(())
}

/// A `.tar`, a `.tar.gz`, or anything else as the model itself.
fn unpack(bytes: &[u8], fresh: &Path, name: &str) -> Result<()> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return untar(GzDecoder::new(bytes), fresh);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return untar(bytes, fresh);
    }
    fs::write(fresh.join(format!("{name}.onnx")), bytes)?;
    Ok(())
}

/// Files of an archive, without their folders: a package is flat, and no entry leads elsewhere.
fn untar(archive: impl std::io::Read, fresh: &Path) -> Result<()> {
    let mut left = BYTES_MAX;
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry.context("the archive is broken")?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        left = left
            .checked_sub(entry.size())
            .context("the package is larger than 8 GiB")?;
        let path = entry.path()?.into_owned();
        let Some(file) = path.file_name() else {
            continue;
        };
        let place = fresh.join(file);
        ensure!(
            !place.exists(),
            "the archive has two files named {}",
            file.display()
        );
        std::io::copy(&mut entry, &mut fs::File::create(&place)?)?;
    }
    Ok(())
}

/// The only layer of an artifact, or the first one that is an archive or a network.
async fn artifact(
    repository: &str,
    digest: &str,
    plain: bool,
    ca: Option<&Path>,
) -> Result<Vec<u8>> {
    let (registry, repository) = repository
        .split_once('/')
        .context("REGISTRY/REPOSITORY is expected")?;
    let scheme = if plain { "http" } else { "https" };
    let base = format!("{scheme}://{registry}/v2/{repository}");
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let url = format!("{base}/manifests/{digest}");
    let manifest = download::get(&url, &[("accept", accept)], ca).await?;
    verify(&manifest, digest, &url)?;
    let manifest: serde_json::Value =
        serde_json::from_slice(&manifest).context("the manifest is no JSON")?;
    let layers = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let layer = match layers {
        [one] => one["digest"].as_str(),
        [] => bail!("the artifact has no layer"),
        _ => bail!(
            "the artifact has {} layers; one with the package as .tar.gz is expected",
            layers.len()
        ),
    };
    let layer = layer.context("the layer has no digest")?;
    let url = format!("{base}/blobs/{layer}");
    let bytes = download::get(&url, &[], ca).await?;
    verify(&bytes, layer, &url)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder
                .append_data(&mut header, name, *bytes)
                .expect("append");
        }
        builder.into_inner().expect("archive")
    }

    #[test]
    fn archives_are_flat_and_nothing_is_written_twice() {
        let folder = tempfile::tempdir().expect("folder");
        let bytes = archive(&[("net/package.toml", b"x"), ("net/a.onnx", b"y")]);
        unpack(&bytes, folder.path(), "net").expect("unpack");
        assert!(
            folder.path().join("package.toml").is_file() && folder.path().join("a.onnx").is_file()
        );
        let twice = archive(&[("a/w", b"1"), ("b/w", b"2")]);
        let other = tempfile::tempdir().expect("folder");
        assert!(unpack(&twice, other.path(), "net").is_err());
        unpack(b"\x08\x08onnx", other.path(), "net").expect("bare");
        assert!(other.path().join("net.onnx").is_file());
    }

    #[tokio::test]
    async fn a_package_comes_whole_and_under_its_own_name() {
        let (from, into) = (
            tempfile::tempdir().expect("a"),
            tempfile::tempdir().expect("b"),
        );
        crate::shipped::write_packages(from.path(), Some("simple")).expect("packages");
        let fetch = |name: &str| Fetch {
            name: name.into(),
            into: into.path().to_owned(),
            path: Some(from.path().join("simple")),
            url: None,
            oci: None,
            digest: None,
            plain_http: false,
            ca: None,
        };
        run(fetch("simple")).await.expect("fetch");
        run(fetch("simple")).await.expect("again");
        assert!(into.path().join("simple/package.toml").is_file());
        assert!(
            run(fetch("other"))
                .await
                .expect_err("name")
                .to_string()
                .contains("spec.model")
        );
        assert!(run(fetch("../x")).await.is_err());
        assert_eq!(fs::read_dir(into.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_digest_is_checked() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(verify(b"", empty, "x").is_ok());
        assert!(verify(b"a", empty, "x").is_err());
    }
}
