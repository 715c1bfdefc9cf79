//! `splitplace model make`: a package from ONNX files and a description, or from one plain file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use sha2::{Digest as _, Sha256};
use splitplace_graph::Element;
use splitplace_onnx::{
    Limits, Model, Package, Preprocess, import,
    package::{Channels, Layout, MANIFEST_FILE, Resize},
    tables,
};
use splitplace_orchestrator::catalog::{LoadSettings, Loaded};
use splitplace_plan::FragmentId;

use super::replace;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Make {
    /// A description like `package.toml`, where hashes may be missing; or a plain ONNX file.
    source: PathBuf,
    /// Folder for the package; it is made.
    #[arg(long, short = 'o', value_name = "DIR")]
    output: PathBuf,
    /// Overwrite a package that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    plain: Plain,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What a plain ONNX file does not say.
#[derive(Debug, Args)]
#[command(next_help_heading = "For a plain ONNX file")]
struct Plain {
    /// Name of the package; the file's, if it is not given.
    #[arg(long)]
    name: Option<String>,
    /// What it is, for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// File with the names of the classes, one a line, in the order of the scores.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Licence of weights and labels.
    #[arg(long)]
    licence: Option<String>,
    /// What is promised when a client says nothing, in milliseconds.
    #[arg(long, value_name = "MS")]
    sla_ms: Option<f64>,
    /// How a picture gets the input's size.
    #[arg(long)]
    resize: Option<ResizeArg>,
    /// Where the channels are; found from the shape, if it is not given.
    #[arg(long)]
    layout: Option<LayoutArg>,
    /// Taken from each channel, in pixel values of 0 to 255.
    #[arg(long, value_delimiter = ',', value_name = "NUMBER[,…]")]
    mean: Vec<f32>,
    /// What each channel is divided by, in pixel values.
    #[arg(long, value_delimiter = ',', value_name = "NUMBER[,…]")]
    std: Vec<f32>,
    /// It takes no pictures.
    #[arg(long, conflicts_with_all = ["resize", "layout", "mean", "std"])]
    no_pictures: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ResizeArg {
    Stretch,
    FitCrop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    Nchw,
    Nhwc,
}

pub(super) fn run(args: &Make) -> anyhow::Result<ExitCode> {
    let target = args.output.join(MANIFEST_FILE);
    ensure!(
        args.force || !target.exists(),
        "{} is there already; --force overwrites it",
        target.display()
    );
    let is_plain = args
        .source
        .extension()
        .is_some_and(|ending| ending == "onnx");
    let package = match is_plain {
        true => from_model(&args.source, &args.plain)?,
        false => {
            ensure!(
                args.plain.is_empty(),
                "{} says everything itself: --name, --labels and the like are for plain ONNX files",
                args.source.display()
            );
            from_description(&args.source)?
        }
    };
    check(&package)?;
    fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    for (file, _, content) in package.files() {
        let path = args.output.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        replace(&path, content)?;
    }
    keep_measurements(&args.output, &package)?;
    replace(&target, package.written_manifest().as_bytes())?;
    let made = Package::open(&args.output, &Limits::default())?;
    if args.json {
        output::json(&serde_json::json!({
            "package": made.name,
            "folder": args.output,
            "variants": made.variants.iter().map(|variant| &variant.name).collect::<Vec<_>>(),
        }))?;
    } else {
        println!(
            "package '{}' with {} in {}; `splitplace model measure {} --data DATA` finds out what it can do",
            made.name,
            variants(made.variants.len()),
            args.output.display(),
            args.output.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn variants(count: usize) -> String {
    match count {
        1 => "one variant".into(),
        count => format!("{count} variants"),
    }
}

impl Plain {
    fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.description.is_none()
            && self.labels.is_none()
            && self.licence.is_none()
            && self.sla_ms.is_none()
            && self.resize.is_none()
            && self.layout.is_none()
            && self.mean.is_empty()
            && self.std.is_empty()
            && !self.no_pictures
    }
}

/// Reads a description and the files that it names, which lie beside it. Hashes that are missing are
/// filled in; hashes that are there have to be right.
fn from_description(source: &Path) -> anyhow::Result<Package> {
    let text =
        fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
    let folder = source.parent().unwrap_or(Path::new(""));
    let limits = Limits::default();
    let read = |file: &str| -> splitplace_onnx::Result<Bytes> {
        let path = folder.join(file);
        let failed = |source| splitplace_onnx::Error::Io {
            verb: "read",
            path: path.clone(),
            source,
        };
        let size = fs::metadata(&path).map_err(failed)?.len();
        if limits.model_bytes < size {
            return Err(splitplace_onnx::Error::TooLarge {
                what: path.display().to_string(),
                found: size,
                limit: limits.model_bytes,
            });
        }
        fs::read(&path).map(Bytes::from).map_err(failed)
    };
    let mut table: toml::Table = text
        .parse()
        .with_context(|| format!("{} is no description of a package", source.display()))?;
    let named = table.get_mut("variant").and_then(toml::Value::as_array_mut);
    let parts = named.into_iter().flatten().filter_map(|variant| {
        let parts = variant.as_table_mut()?.get_mut("part")?;
        parts.as_array_mut()
    });
    for part in parts.flatten().filter_map(toml::Value::as_table_mut) {
        let file = part.get("file").and_then(toml::Value::as_str);
        let Some(file) = file.filter(|_| !part.contains_key("sha256")) else {
            continue;
        };
        let stays = Path::new(file)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        ensure!(
            stays,
            "file '{file}' lies outside the folder of {}",
            source.display()
        );
        let digest: [u8; 32] = Sha256::digest(&read(file)?).into();
        part.insert("sha256".into(), FragmentId(digest).hex().into());
    }
    let text = toml::to_string(&table).context("the description cannot be written again")?;
    Ok(Package::from_parts(source, &text, "", read)?)
}

/// A package with one variant from a plain ONNX file, external data put inside.
fn from_model(source: &Path, plain: &Plain) -> anyhow::Result<Package> {
    let mut package = Package::open(source, &Limits::default())?;
    if let Some(name) = &plain.name {
        package.name.clone_from(name);
    }
    if let Some(description) = &plain.description {
        package.description.clone_from(description);
    }
    if let Some(licence) = &plain.licence {
        package.licence.clone_from(licence);
    }
    if let Some(ms) = plain.sla_ms {
        package.default_sla = Duration::try_from_secs_f64(ms / 1e3)
            .ok()
            .context("--sla-ms must be a time")?;
    }
    if let Some(path) = &plain.labels {
        let [scores] = package.outputs.as_mut_slice() else {
            bail!(
                "--labels needs a network with one output, this has {}",
                package.outputs.len()
            );
        };
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text.lines().map(|line| line.trim().to_owned());
        scores.labels = lines.filter(|line| !line.is_empty()).collect();
        let classes = scores.shape.last().copied().unwrap_or(0);
        ensure!(
            i64::try_from(scores.labels.len()) == Ok(classes),
            "{} names {} classes, the network scores {classes}",
            path.display(),
            scores.labels.len()
        );
    }
    if !plain.no_pictures {
        package.preprocess = preprocess(&package, plain)?;
    }
    Ok(package)
}

/// How pictures become the only input, if that takes pictures.
fn preprocess(package: &Package, plain: &Plain) -> anyhow::Result<Option<Preprocess>> {
    let asked = plain.resize.is_some()
        || plain.layout.is_some()
        || !plain.mean.is_empty()
        || !plain.std.is_empty();
    let found = match package.inputs.as_slice() {
        [input] if input.element == Element::F32 => match input.sample_shape()[..] {
            [1, 1 | 3, _, _] if !matches!(plain.layout, Some(LayoutArg::Nhwc)) => {
                Some((input, Layout::Nchw, input.shape[1]))
            }
            [1, _, _, 1 | 3] if !matches!(plain.layout, Some(LayoutArg::Nchw)) => {
                Some((input, Layout::Nhwc, input.shape[3]))
            }
            _ => None,
        },
        _ => None,
    };
    let Some((input, layout, channels)) = found else {
        ensure!(
            !asked,
            "the network takes no pictures: its input is none of 1 or 3 channels"
        );
        return Ok(None);
    };
    let channels = match channels {
        1 => Channels::Grey,
        _ => Channels::Rgb,
    };
    let numbers = |given: &[f32], usual: f32, flag: &str| -> anyhow::Result<Vec<f32>> {
        match (given, channels.count()) {
            ([], count) => Ok(vec![usual; count]),
            ([one], count) => Ok(vec![*one; count]),
            (many, count) if many.len() == count => Ok(many.to_vec()),
            (many, count) => bail!("{flag} has {} numbers for {count} channels", many.len()),
        }
    };
    Ok(Some(Preprocess {
        input: input.name.clone(),
        resize: match plain.resize {
            Some(ResizeArg::FitCrop) => Resize::FitCrop,
            Some(ResizeArg::Stretch) | None => Resize::Stretch,
        },
        mean: numbers(&plain.mean, 0.0, "--mean")?,
        std: numbers(&plain.std, 1.0, "--std")?,
        channels,
        layout,
    }))
}

/// What was measured of variants that are still the same stays; the rest goes.
fn keep_measurements(folder: &Path, package: &Package) -> anyhow::Result<()> {
    let path = folder.join(tables::FILE);
    let Some(mut known) = measured(folder) else {
        return Ok(());
    };
    known.keep_what_fits(package);
    if known.variants.is_empty() {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    } else {
        replace(&path, known.to_text().as_bytes())
    }
}

/// The tables in a folder, whatever they were measured on; a damaged file has none.
pub(super) fn measured(folder: &Path) -> Option<tables::Tables> {
    let path = folder.join(tables::FILE);
    if !path.exists() {
        return None;
    }
    let small = fs::metadata(&path).is_ok_and(|file| file.len() <= tables::LIMIT);
    let text = small.then(|| fs::read_to_string(&path).ok()).flatten();
    let empty = tables::Tables::default();
    Some(
        text.and_then(|text| tables::Tables::from_text(&text).ok())
            .unwrap_or(empty),
    )
}

/// Whether the files are what the manifest says, and whether it can be read again.
fn check(package: &Package) -> anyhow::Result<()> {
    let limits = Limits::default();
    for variant in package
        .variants
        .iter()
        .filter(|variant| !variant.exits.is_empty())
    {
        let part = &variant.parts[0];
        let model = Model::from_bytes(&part.file, part.content.clone(), &limits)?;
        let graph = import(model, &limits)?.graph;
        package
            .check_exits(variant, &graph)
            .map_err(|reason| anyhow::anyhow!("variant '{}': {reason}", variant.name))?;
    }
    let contents: Vec<(&str, &Bytes)> = package
        .files()
        .map(|(file, _, content)| (file, content))
        .collect();
    let again = Package::from_parts(
        Path::new("the package"),
        &package.written_manifest(),
        "",
        |file| {
            let found = contents.iter().find(|(name, _)| *name == file);
            Ok(found.map_or_else(Bytes::new, |(_, content)| Bytes::clone(content)))
        },
    )?;
    Loaded::open(again, &LoadSettings::default())?;
    Ok(())
}
