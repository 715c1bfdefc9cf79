//! Writing `measured.toml`: one line for each codec and each row of a matrix, so that people can read it.

use std::fmt::Write as _;

use super::{CutTable, ExitTable, Latency, Setting, Tables, VariantTable};
use crate::package::write::quoted;

impl Tables {
    /// As text. Shares keep 6 digits after the point, times 4 significant ones.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# Written by `splitplace model measure`; sizes in bytes, times in seconds, of one sample.\n",
        );
        let _ = writeln!(text, "format = {}", self.format);
        let data = &self.data;
        let _ = writeln!(
            text,
            "\n[data]\nname = {}\nsha256 = {}\nsamples = {}",
            quoted(&data.name),
            quoted(&data.sha256),
            data.samples
        );
        let machine = &self.machine;
        let _ = writeln!(
            text,
            "\n[machine]\nengine = {}\ncores = {}\nmacs_per_second = {:?}",
            quoted(&machine.engine),
            machine.cores,
            machine.macs_per_second.round()
        );
        for variant in &self.variants {
            write_variant(&mut text, variant);
        }
        text
    }
}

fn write_variant(text: &mut String, variant: &VariantTable) {
    let files: Vec<String> = variant
        .files
        .iter()
        .map(|(file, hash)| format!("{} = {}", quoted(file), quoted(hash)))
        .collect();
    let _ = writeln!(
        text,
        "\n[[variant]]\nname = {}\nsettings = {}\nfiles = {{ {} }}\ntop1 = {}\nmacs = {}\nparameter_bytes = {}\n\
         file_bytes = {}\nmemory_bytes = {}\nlatency = {}",
        quoted(&variant.name),
        quoted(&variant.settings),
        files.join(", "),
        share(variant.top1),
        variant.macs,
        variant.parameter_bytes,
        variant.file_bytes,
        variant.memory_bytes,
        latency(&variant.latency)
    );
    if !variant.branches_missing.is_empty() {
        let _ = writeln!(
            text,
            "branches_missing = {}",
            shares(&variant.branches_missing)
        );
    }
    if let Some(record) = &variant.record {
        let _ = writeln!(
            text,
            "record = {{ file = {}, sha256 = {} }}",
            quoted(&record.file),
            quoted(&record.sha256)
        );
    }
    if let Some(thresholds) = &variant.thresholds {
        let _ = writeln!(
            text,
            "\n[variant.thresholds]\ntolerance = {}\ncommon = {}\neach = {}",
            share(thresholds.tolerance),
            setting(&thresholds.common),
            setting(&thresholds.each)
        );
    }
    for branch in &variant.branches {
        let _ = writeln!(
            text,
            "\n[[variant.branch]]\nfile = {}\nmacs = {}\nparameter_bytes = {}\nmemory_bytes = {}\n\
             latency = {}",
            quoted(&branch.file),
            branch.macs,
            branch.parameter_bytes,
            branch.memory_bytes,
            latency(&branch.latency)
        );
    }
    for exit in &variant.exits {
        write_exit(text, exit);
    }
    for cut in &variant.cuts {
        write_cut(text, cut);
    }
}

fn write_exit(text: &mut String, exit: &ExitTable) {
    let _ = writeln!(
        text,
        "\n[[variant.exit]]\nname = {}\noutput = {}\nmacs = {}\nhead_macs = {}\nlatency = {}\n\
         top1 = {}\nedges = {}\nshare = {}\ncorrect = {}",
        quoted(&exit.name),
        quoted(&exit.output),
        exit.macs,
        exit.head_macs,
        latency(&exit.latency),
        share(exit.top1),
        shares(&exit.edges),
        shares(&exit.share),
        shares(&exit.correct)
    );
    if !exit.next.is_empty() {
        text.push_str("next = [\n");
        for row in &exit.next {
            let _ = writeln!(text, "  {},", shares(row));
        }
        text.push_str("]\n");
    }
}

fn write_cut(text: &mut String, cut: &CutTable) {
    let tensors: Vec<String> = cut.tensors.iter().map(|name| quoted(name)).collect();
    let _ = writeln!(
        text,
        "\n[[variant.cut]]\npart = {}\nposition = {}\ntensors = [{}]\nraw_bytes = {}\nmacs_before = {}\n\
         samples = {}\ntop1 = {}\ncodec = [",
        cut.part,
        cut.position,
        tensors.join(", "),
        cut.raw_bytes,
        cut.macs_before,
        cut.samples,
        share(cut.top1)
    );
    for codec in &cut.codecs {
        let _ = writeln!(
            text,
            "  {{ name = {}, bytes = {:.1}, bytes_p95 = {}, top1 = {}, encode = {}, decode = {} }},",
            quoted(&codec.name),
            codec.bytes,
            codec.bytes_p95,
            share(codec.top1),
            seconds(codec.encode),
            seconds(codec.decode)
        );
    }
    text.push_str("]\n");
}

fn setting(setting: &Setting) -> String {
    let thresholds: Vec<String> = setting
        .thresholds
        .iter()
        .map(|threshold| format!("{threshold:?}"))
        .collect();
    format!(
        "{{ thresholds = [{}], top1 = {}, macs_share = {}, leave = {}, held_out_top1 = {}, \
         held_out_macs_share = {} }}",
        thresholds.join(", "),
        share(setting.top1),
        share(setting.macs_share),
        shares(&setting.leave),
        share(setting.held_out_top1),
        share(setting.held_out_macs_share)
    )
}

fn latency(latency: &Latency) -> String {
    format!(
        "{{ mean = {}, p95 = {} }}",
        seconds(latency.mean),
        seconds(latency.p95)
    )
}

/// Four significant digits.
fn seconds(seconds: f64) -> String {
    format!("{seconds:.3e}")
}

/// Six digits after the point, without zeros at the end, and a float in any case.
fn share(share: f64) -> String {
    let text = format!("{share:.6}");
    let text = text.trim_end_matches('0');
    match text.ends_with('.') {
        true => format!("{text}0"),
        false => text.to_owned(),
    }
}

fn shares(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(|&number| share(number)).collect();
    format!("[{}]", numbers.join(", "))
}
