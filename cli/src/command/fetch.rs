//! `splitplace fetch`: brings a package into a folder of models, whole or not at all.

mod archive;
mod place;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use self::place::{Scratch, put};
use crate::download::{
    Ask, Client, Limits,
    credentials::Credentials,
    registry::{Layer, Reference, Registry},
    sha256,
};

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
    /// An artifact in a registry, as registry/repository with --digest, or registry/repository:tag.
    #[arg(long, value_name = "NAME", group = "from")]
    oci: Option<String>,
    /// SHA-256 of the file, or of the artifact's manifest, as sha256:…
    #[arg(long, value_name = "DIGEST", value_parser = sha256)]
    digest: Option<String>,
    /// Speak plain HTTP to the registry.
    #[arg(long)]
    plain_http: bool,
    /// Authorities to trust besides the public ones, in PEM.
    #[arg(long, value_name = "FILE", env = "SPLITPLACE_FETCH_CA")]
    ca: Option<PathBuf>,
    /// Names and passwords for registries, as `docker login` writes them; can be given many times, the first one that
    /// names the registry counts.
    #[arg(long, value_name = "FILE", env = "SPLITPLACE_REGISTRY_CONFIG")]
    registry_config: Vec<PathBuf>,
}

/// Largest file that is fetched.
const FILE_BYTES: u64 = 4 << 30;
/// Largest package, unpacked.
const PACKAGE_BYTES: u64 = 8 << 30;

pub(crate) async fn run(args: Fetch) -> Result<ExitCode> {
    bring(&args, Limits::default()).await?;
    println!("{} is in {}", args.name, args.into.display());
    Ok(ExitCode::SUCCESS)
}

async fn bring(args: &Fetch, limits: Limits) -> Result<()> {
    let mut parts = Path::new(&args.name).components();
    let is_name = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    ensure!(is_name, "{:?} is no model's name", args.name);
    fs::create_dir_all(&args.into)
        .with_context(|| format!("cannot make {}", args.into.display()))?;
    let mut scratch = Scratch::open(&args.into, &args.name)?;
    let fresh = scratch.fresh()?;
    if let Some(path) = &args.path {
        archive::take(path, &fresh, &args.name)?;
    } else {
        let client = Client::new(args.ca.as_deref(), limits)?;
        match (&args.url, &args.oci, &args.digest) {
            (Some(url), _, Some(digest)) => {
                let part = scratch.part(digest);
                client
                    .file(&Ask::of(url)?, digest, FILE_BYTES, &part)
                    .await
                    .map_err(crate::download::Fault::told)?;
                archive::unpack(&part, &fresh, &args.name)?;
            }
            (_, Some(artifact), digest) => {
                let reference = Reference::parse(artifact, digest.as_deref())?;
                let credentials = Credentials::read(&args.registry_config)?;
                let registry = Registry::new(&client, &credentials, reference, args.plain_http)?;
                from_registry(registry, &scratch, &fresh, &args.name).await?;
            }
            _ => bail!("one of --path, --url with --digest, --oci is needed"),
        }
    }
    // From here on a failure is not the line's: what came is of no use.
    scratch.arrived();
    let manifest = fresh.join("package.toml");
    if manifest.is_file() {
        check(&manifest, &args.name)?;
        return put(&fresh, &args.into.join(&args.name));
    }
    let file = format!("{}.onnx", args.name);
    let bare = fresh.join(&file);
    ensure!(
        bare.is_file(),
        "there is neither a package.toml nor a .onnx file in it"
    );
    put(&bare, &args.into.join(file))
}

async fn from_registry(
    mut registry: Registry<'_>,
    scratch: &Scratch,
    fresh: &Path,
    name: &str,
) -> Result<()> {
    let (digest, layers) = registry.layers().await?;
    tracing::info!(digest, layers = layers.len(), "the artifact is found");
    let all = layers
        .iter()
        .try_fold(0_u64, |all, layer| all.checked_add(layer.bytes));
    ensure!(
        all.is_some_and(|all| all <= PACKAGE_BYTES),
        "the artifact is larger than {} GiB",
        PACKAGE_BYTES >> 30
    );
    if let [layer] = layers.as_slice() {
        let part = scratch.part(&layer.digest);
        registry.blob(layer, &part).await?;
        return archive::unpack(&part, fresh, name);
    }
    for layer in &layers {
        let place = fresh.join(file_of(layer)?);
        ensure!(
            !place.exists(),
            "the artifact has two files named {}",
            place.display()
        );
        let part = scratch.part(&layer.digest);
        registry.blob(layer, &part).await?;
        // Two files may have one content: the part stays for the other.
        fs::copy(&part, &place).with_context(|| format!("cannot write {}", place.display()))?;
    }
    archive::settle(fresh)
}

/// The file that a layer is, without its folders: a package is flat.
fn file_of(layer: &Layer) -> Result<&str> {
    let title = layer.title.as_deref().unwrap_or_default();
    let file = Path::new(title).file_name().and_then(|file| file.to_str());
    file.with_context(|| format!("a layer is named {title:?}, which is no file"))
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
