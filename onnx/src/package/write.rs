//! Writing `package.toml`: reading it again gives the same package.

use std::fmt::Write as _;

use super::{Merge, NEVER, Package, TensorSpec, Variant, VariantKind, manifest::hex};

impl Package {
    /// The manifest of this package: its own text when it has one, else written from what it holds.
    #[must_use]
    pub fn manifest_text(&self) -> String {
        match self.manifest.is_empty() {
            true => self.written_manifest(),
            false => self.manifest.clone(),
        }
    }

    /// The manifest written anew from what the package holds, whatever text it came from.
    #[must_use]
    pub fn written_manifest(&self) -> String {
        let mut text = String::from("format = 1\n\n[package]\n");
        line(&mut text, "name", &quoted(&self.name));
        line(&mut text, "version", &quoted(&self.version));
        line(&mut text, "description", &quoted(&self.description));
        line(&mut text, "licence", &quoted(&self.licence));
        let sla_ms = self.default_sla.as_secs_f64() * 1e3;
        line(&mut text, "default_sla_ms", &format!("{sla_ms:?}"));
        for (table, tensors) in [("input", &self.inputs), ("output", &self.outputs)] {
            for tensor in tensors {
                write_tensor(&mut text, table, tensor);
            }
        }
        if let Some(preprocess) = &self.preprocess {
            text.push_str("\n[preprocess]\n");
            text.push_str(&preprocess.to_text());
        }
        for variant in &self.variants {
            write_variant(&mut text, variant);
        }
        text
    }
}

fn write_tensor(text: &mut String, table: &str, tensor: &TensorSpec) {
    let _ = write!(text, "\n[[{table}]]\n");
    line(text, "name", &quoted(&tensor.name));
    line(text, "datatype", &quoted(tensor.element.label()));
    line(text, "shape", &format!("{:?}", tensor.shape));
    if !tensor.labels.is_empty() {
        let labels: Vec<_> = tensor.labels.iter().map(|label| quoted(label)).collect();
        line(text, "labels", &format!("[{}]", labels.join(", ")));
    }
}

fn write_variant(text: &mut String, variant: &Variant) {
    text.push_str("\n[[variant]]\n");
    line(text, "name", &quoted(&variant.name));
    let kind = match variant.kind {
        VariantKind::Whole => "whole",
        VariantKind::Semantic => "semantic",
    };
    line(text, "kind", &quoted(kind));
    if let Some(technique) = variant.technique {
        line(text, "technique", &quoted(technique.label()));
    }
    match &variant.merge {
        Some(Merge::LogOdds { missing_score }) => {
            line(text, "merge", "\"log-odds\"");
            line(text, "missing_score", &format!("{missing_score:?}"));
        }
        None => {}
    }
    if let Some(policy) = &variant.exit_policy {
        line(text, "exit_policy", &quoted(policy));
    }
    if let Some(target) = variant.loss_target {
        line(text, "loss_target", &format!("{target:?}"));
    }
    for part in &variant.parts {
        text.push_str("\n[[variant.part]]\n");
        line(text, "file", &quoted(&part.file));
        line(text, "sha256", &quoted(&hex(&part.sha256)));
        if !part.classes.is_empty() {
            line(text, "classes", &format!("{:?}", part.classes));
        }
    }
    for exit in &variant.exits {
        text.push_str("\n[[variant.exit]]\n");
        line(text, "name", &quoted(&exit.name));
        line(text, "output", &quoted(&exit.output));
        if exit.threshold < NEVER {
            line(text, "threshold", &format!("{:?}", exit.threshold));
        }
    }
    if let Some(accuracy) = &variant.accuracy {
        text.push_str("\n[variant.accuracy]\n");
        line(text, "top1", &format!("{:?}", accuracy.top1));
        line(text, "samples", &accuracy.samples.to_string());
        line(text, "dataset", &quoted(&accuracy.dataset));
        line(text, "dataset_sha256", &quoted(&accuracy.dataset_sha256));
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {value}");
}

/// A TOML basic string: quotes, backslashes and control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
