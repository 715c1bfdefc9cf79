//! A package and its measurements as text: for a terminal, or as a page of Markdown.

use comfy_table::{ContentArrangement, Table, presets};
use splitplace_onnx::{
    Package, Technique,
    package::NEVER,
    tables::{CodecTable, CutTable, Setting, VariantTable},
};

use super::kind;
use crate::{command::model::macs, output};

/// What a codec may cost to be called harmless, as a share.
const HARMLESS: f64 = 0.002;

/// Where tables are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Place {
    Terminal,
    Markdown,
}

impl Place {
    /// A heading of the given depth; on a terminal a line of its own.
    fn heading(self, depth: usize, text: &str) {
        match self {
            Self::Terminal => println!("{text}"),
            Self::Markdown => println!("{} {text}\n", "#".repeat(depth)),
        }
    }

    /// A line; in Markdown a paragraph.
    fn line(self, text: &str) {
        match self {
            Self::Terminal => println!("{text}"),
            Self::Markdown => println!("{text}\n"),
        }
    }

    pub(in super::super) fn show(self, table: &Table) {
        match self {
            Self::Terminal => println!("{table}"),
            Self::Markdown => println!("{table}\n"),
        }
    }

    pub(in super::super) fn table<const N: usize>(self, header: [&str; N]) -> Table {
        let mut table = output::table(header);
        if self == Self::Markdown {
            table
                .load_style(presets::ASCII_MARKDOWN)
                .set_content_arrangement(ContentArrangement::Disabled);
        }
        table
    }
}

/// Prints everything but single codecs and bins.
pub(in super::super) fn print(package: &Package, place: Place) {
    let title = format!(
        "{} {}: {}",
        package.name, package.version, package.description
    );
    place.heading(1, &title);
    for (what, tensors) in [("takes", &package.inputs), ("gives", &package.outputs)] {
        for tensor in tensors {
            place.line(&format!(
                "{what} '{}', {} {:?}",
                tensor.name, tensor.element, tensor.shape
            ));
        }
    }
    place.line(&match &package.preprocess {
        Some(preprocess) => format!(
            "takes PNG and JPEG files for '{}': {}",
            preprocess.input,
            preprocess.to_text().trim().replace('\n', ", ")
        ),
        None => "takes no encoded pictures: the manifest has no [preprocess]".into(),
    });
    place.line(&match &package.tables {
        Some(tables) => format!(
            "measured on {} samples of {}, with {} at {:.1} GMAC/s a core",
            tables.data.samples,
            tables.data.name,
            tables.machine.engine,
            tables.machine.macs_per_second / 1e9
        ),
        None => "nothing was measured: `splitplace model measure` does".into(),
    });
    let mut table = place.table([
        "variant", "kind", "files", "weights", "MACs", "memory", "time", "p95", "top-1",
    ]);
    for variant in &package.variants {
        let measured = package
            .tables
            .as_ref()
            .and_then(|all| all.variant(&variant.name));
        let technique = variant.technique.map_or("", Technique::label);
        let kind = format!("{} {technique}", kind(variant))
            .trim_end()
            .to_owned();
        let top1 = variant
            .accuracy
            .as_ref()
            .map(|accuracy| percent(accuracy.top1));
        table.add_row(match measured {
            Some(measured) => [
                variant.name.clone(),
                kind,
                output::bytes(measured.file_bytes),
                output::bytes(measured.parameter_bytes),
                macs(measured.macs),
                output::bytes(measured.memory_bytes),
                output::micros(measured.latency.mean * 1e6),
                output::micros(measured.latency.p95 * 1e6),
                percent(measured.top1),
            ],
            None => [
                variant.name.clone(),
                kind,
                output::bytes(
                    variant
                        .parts
                        .iter()
                        .map(|part| part.content.len() as u64)
                        .sum(),
                ),
                "not measured".into(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                top1.unwrap_or_default(),
            ],
        });
    }
    place.show(&table);
    for variant in package.tables.iter().flat_map(|tables| &tables.variants) {
        print_branches(variant, place);
        print_exits(package, variant, place);
        print_cuts(variant, place);
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A difference of accuracies in points.
fn points(here: f64, there: f64) -> String {
    format!("{:+.2}", (here - there) * 100.0)
}

fn print_branches(variant: &VariantTable, place: Place) {
    if variant.branches.is_empty() {
        return;
    }
    place.heading(2, &format!("{}, by branch", variant.name));
    let mut table = place.table([
        "branch",
        "weights",
        "MACs",
        "memory",
        "time",
        "top-1 without it",
    ]);
    for (at, branch) in variant.branches.iter().enumerate() {
        table.add_row([
            branch.file.clone(),
            output::bytes(branch.parameter_bytes),
            macs(branch.macs),
            output::bytes(branch.memory_bytes),
            output::micros(branch.latency.mean * 1e6),
            variant
                .branches_missing
                .get(at)
                .map_or(String::new(), |&top1| percent(top1)),
        ]);
    }
    place.show(&table);
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn print_exits(package: &Package, variant: &VariantTable, place: Place) {
    if variant.exits.is_empty() {
        return;
    }
    place.heading(2, &format!("{}, by exit", variant.name));
    let in_force = package
        .variants
        .iter()
        .find(|other| other.name == variant.name);
    let mut table = place.table([
        "exit",
        "MACs",
        "share",
        "its head",
        "time",
        "top-1",
        "threshold",
        "common",
        "each",
    ]);
    for (at, exit) in variant.exits.iter().enumerate() {
        let word = |setting: &Setting| {
            setting
                .thresholds
                .get(at)
                .map_or("—".into(), |&t| threshold(t))
        };
        let recommended = variant.thresholds.as_ref();
        table.add_row([
            exit.name.clone(),
            macs(exit.macs),
            percent(exit.macs as f64 / variant.macs.max(1) as f64),
            match exit.next.is_empty() {
                true => String::new(),
                false => percent(exit.head_macs as f64 / variant.macs.max(1) as f64),
            },
            output::micros(exit.latency.mean * 1e6),
            percent(exit.top1),
            in_force
                .and_then(|variant| variant.exits.get(at))
                .map_or("—".into(), |exit| threshold(exit.threshold)),
            recommended.map_or("—".into(), |all| word(&all.common)),
            recommended.map_or("—".into(), |all| word(&all.each)),
        ]);
    }
    place.show(&table);
    let Some(thresholds) = &variant.thresholds else {
        return;
    };
    for (name, setting) in [("common", &thresholds.common), ("each", &thresholds.each)] {
        let leave: Vec<String> = setting.leave.iter().map(|&share| percent(share)).collect();
        place.line(&format!(
            "{name}: top-1 {} with {} of the work; leaving {}; on new samples {} with {}",
            percent(setting.top1),
            percent(setting.macs_share),
            leave.join(", "),
            percent(setting.held_out_top1),
            percent(setting.held_out_macs_share)
        ));
    }
}

fn threshold(threshold: f32) -> String {
    match threshold < NEVER {
        true => format!("{threshold:.4}"),
        false => "never".into(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn print_cuts(variant: &VariantTable, place: Place) {
    let samples = variant.cuts.first().map_or(0, |cut| cut.samples);
    if samples == 0 {
        return;
    }
    let title = format!(
        "{}, by cut, codecs tried on {samples} samples",
        variant.name
    );
    place.heading(2, &title);
    let mut table = place.table([
        "cut",
        "tensors",
        "MACs before",
        "raw",
        "smallest exact",
        "smallest harmless",
        "ratio",
        "top-1",
    ]);
    for cut in &variant.cuts {
        let exact = smallest(cut, |codec| {
            codec.top1 == cut.top1 && codec.name.starts_with("raw")
        });
        let harmless = smallest(cut, |codec| cut.top1 - codec.top1 <= HARMLESS);
        let size = |codec: &CodecTable| format!("{} {:.0} B", codec.name, codec.bytes);
        table.add_row([
            match variant.branches.is_empty() {
                true => cut.position.to_string(),
                false => format!("{}: {}", cut.part, cut.position),
            },
            cut.tensors.join(", "),
            macs(cut.macs_before),
            output::bytes(cut.raw_bytes),
            exact.map_or(String::new(), size),
            harmless.map_or(String::new(), size),
            harmless.map_or(String::new(), |codec| {
                format!("{:.1}", cut.raw_bytes as f64 / codec.bytes.max(1.0))
            }),
            harmless.map_or(String::new(), |codec| points(codec.top1, cut.top1)),
        ]);
    }
    place.show(&table);
    place.line(&format!(
        "harmless: at most {:.1} points of top-1; --all shows every codec",
        HARMLESS * 100.0
    ));
}

/// The codec with the fewest bytes of those that `may`.
pub(in super::super) fn smallest(
    cut: &CutTable,
    may: impl Fn(&CodecTable) -> bool,
) -> Option<&CodecTable> {
    let codecs = cut.codecs.iter().filter(|codec| may(codec));
    codecs.min_by(|a, b| a.bytes.total_cmp(&b.bytes))
}

pub(super) fn print_codecs(variant: &VariantTable, place: Place) {
    if variant.cuts.is_empty() {
        return;
    }
    place.heading(2, &format!("{}, every codec", variant.name));
    let mut table = place.table([
        "cut", "codec", "bytes", "p95", "top-1", "points", "encode", "decode",
    ]);
    for cut in &variant.cuts {
        for codec in &cut.codecs {
            table.add_row([
                format!("{}: {}", cut.part, cut.position),
                codec.name.clone(),
                format!("{:.0}", codec.bytes),
                codec.bytes_p95.to_string(),
                percent(codec.top1),
                points(codec.top1, cut.top1),
                output::micros(codec.encode * 1e6),
                output::micros(codec.decode * 1e6),
            ]);
        }
    }
    place.show(&table);
}

pub(super) fn print_histograms(variant: &VariantTable, place: Place) {
    for exit in &variant.exits {
        place.heading(
            2,
            &format!("{}, confidences at {}", variant.name, exit.name),
        );
        let mut table = place.table(["from", "to", "samples", "correct"]);
        let edges = |at: usize| match at {
            0 => 0.0,
            at => exit.edges.get(at - 1).copied().unwrap_or(1.0),
        };
        for (bin, (&share, &correct)) in exit.share.iter().zip(&exit.correct).enumerate() {
            table.add_row([
                format!("{:.4}", edges(bin)),
                format!("{:.4}", edges(bin + 1)),
                percent(share),
                percent(correct),
            ]);
        }
        place.show(&table);
    }
}
