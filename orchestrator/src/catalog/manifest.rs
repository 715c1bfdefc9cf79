//! Manifests: the head of one without its files, and one for a package that came without.

use std::{fmt::Write as _, fs, io::Read as _, path::Path};

use serde::Deserialize;
use splitplace_onnx::package::{Merge, Package, TensorSpec, VariantKind};

/// Largest manifest that is read for a listing, in bytes.
const LIMIT: u64 = 1 << 20;

#[derive(Deserialize)]
struct Head {
    package: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    version: String,
}

/// Name and version that a manifest states. Everything else is checked when the package is opened.
pub(super) fn head(path: &Path) -> Result<(String, String), String> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(LIMIT).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let head: Head = toml::from_str(&text)
        .map_err(|error| format!("{}: {}", path.display(), error.message()))?;
    Ok((head.package.name, head.package.version))
}

/// The name under which a bare ONNX file is served: its stem in lower case, with a dash for what no
/// name may hold.
pub(super) fn bare_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().to_lowercase();
    let name = stem.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() || "._-".contains(letter) {
            letter
        } else {
            '-'
        }
    });
    Some(name.collect())
}

/// The package's manifest; written out for a bare file, such that reading it gives the same package.
pub(super) fn text(package: &Package) -> String {
    if !package.manifest.is_empty() {
        return package.manifest.clone();
    }
    let mut text = String::from("format = 1\n\n[package]\n");
    let mut line = |key: &str, value: String| {
        writeln!(text, "{key} = {value}").expect("writing to a string does not fail");
    };
    line("name", quoted(&package.name));
    line("version", quoted(&package.version));
    line("description", quoted(&package.description));
    line("licence", quoted(&package.licence));
    let sla_ms = package.default_sla.as_secs_f64() * 1e3;
    line("default_sla_ms", format!("{sla_ms:?}"));
    for (table, tensors) in [("input", &package.inputs), ("output", &package.outputs)] {
        for tensor in tensors {
            write_tensor(&mut text, table, tensor);
        }
    }
    for variant in &package.variants {
        let kind = match variant.kind {
            VariantKind::Whole => "whole",
            VariantKind::Semantic => "semantic",
        };
        let name = quoted(&variant.name);
        text.push_str(&format!(
            "\n[[variant]]\nname = {name}\nkind = \"{kind}\"\n"
        ));
        match &variant.merge {
            Some(Merge::LogOdds { missing_score }) => {
                let merge = format!("merge = \"log-odds\"\nmissing_score = {missing_score:?}\n");
                text.push_str(&merge);
            }
            None => {}
        }
        for part in &variant.parts {
            let (file, hash) = (quoted(&part.file), crate::store::Digest(part.sha256));
            text.push_str(&format!(
                "[[variant.part]]\nfile = {file}\nsha256 = \"{hash}\"\n"
            ));
            if !part.classes.is_empty() {
                text.push_str(&format!("classes = {:?}\n", part.classes));
            }
        }
    }
    text
}

fn write_tensor(text: &mut String, table: &str, tensor: &TensorSpec) {
    let (name, datatype) = (quoted(&tensor.name), tensor.element.label());
    let shape = &tensor.shape;
    text.push_str(&format!(
        "\n[[{table}]]\nname = {name}\ndatatype = \"{datatype}\"\nshape = {shape:?}\n"
    ));
    if !tensor.labels.is_empty() {
        let labels: Vec<_> = tensor.labels.iter().map(|label| quoted(label)).collect();
        text.push_str(&format!("labels = [{}]\n", labels.join(", ")));
    }
}

/// A TOML basic string: quotes, backslashes and control characters escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(letter)));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
