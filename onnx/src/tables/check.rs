//! What tables have to fulfil before they are believed.

use super::{CutTable, ExitTable, FILE, FINAL, Latency, Setting, Tables, VariantTable};
use crate::package::{
    NEVER, Package, Variant,
    manifest::{check_file, parse_hash},
};

type Said<T = ()> = Result<T, String>;

/// Most entries of any list.
const ENTRIES_LIMIT: usize = 4096;
/// How far shares may be from summing to 1.
const SUM_SLACK: f64 = 1e-3;

impl Tables {
    /// Reads and checks tables.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn from_text(text: &str) -> Said<Self> {
        let tables: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        tables.check()?;
        Ok(tables)
    }

    pub(super) fn check(&self) -> Said {
        if self.format != 1 {
            return Err(format!(
                "its format is {}, this version reads 1",
                self.format
            ));
        }
        hash(&self.data.sha256, "data.sha256")?;
        time(self.machine.macs_per_second, "machine.macs_per_second")?;
        let mut names: Vec<&str> = self.variants.iter().map(|v| v.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("variant '{}' is there twice", pair[0]));
        }
        for variant in &self.variants {
            check_variant(variant)
                .map_err(|reason| format!("variant '{}': {reason}", variant.name))?;
        }
        Ok(())
    }

    /// Whether these tables were measured on the package's files.
    ///
    /// # Errors
    /// What differs, and that `model measure` is to be run again.
    pub fn check_against(&self, package: &Package) -> Said {
        self.variants.iter().try_for_each(|table| {
            belongs(table, package).map_err(|reason| {
                format!(
                    "variant '{}': {reason}; run `splitplace model measure` again, or remove {FILE}",
                    table.name
                )
            })
        })
    }

    /// Drops the tables of variants that are no longer what was measured.
    pub fn keep_what_fits(&mut self, package: &Package) {
        self.variants
            .retain(|table| belongs(table, package).is_ok());
    }
}

/// Whether a table was measured on the files and exits that the package has.
fn belongs(table: &VariantTable, package: &Package) -> Said {
    let mut variants = package.variants.iter();
    let variant = variants
        .find(|variant| variant.name == table.name)
        .ok_or("the manifest has no such variant")?;
    same_files(table, variant)?;
    let mut names: Vec<(&str, &str)> = variant
        .exits
        .iter()
        .map(|exit| (exit.name.as_str(), exit.output.as_str()))
        .collect();
    if !names.is_empty() {
        let end = package.outputs.first().map_or("", |o| o.name.as_str());
        names.push((FINAL, end));
    }
    let measured = table.exits.iter();
    let measured = measured.map(|exit| (exit.name.as_str(), exit.output.as_str()));
    match measured.eq(names) {
        true => Ok(()),
        false => Err("it was measured with other exits".into()),
    }
}

fn same_files(table: &VariantTable, variant: &Variant) -> Said {
    for part in &variant.parts {
        let measured = table.files.get(&part.file).and_then(|hex| parse_hash(hex));
        if measured != Some(part.sha256) {
            return Err(format!("'{}' is not the file that was measured", part.file));
        }
    }
    if table.files.len() != variant.parts.len() {
        return Err("it was measured with other files".into());
    }
    Ok(())
}

fn check_variant(table: &VariantTable) -> Said {
    for (file, hex) in &table.files {
        check_file(file)?;
        hash(hex, file)?;
    }
    share(table.top1, "top1")?;
    latency(&table.latency)?;
    few(table.branches_missing.len(), "branches_missing")?;
    few(table.cuts.len(), "cut")?;
    few(table.exits.len(), "exit")?;
    for &top1 in &table.branches_missing {
        share(top1, "branches_missing")?;
    }
    for branch in &table.branches {
        latency(&branch.latency)?;
    }
    for (at, exit) in table.exits.iter().enumerate() {
        check_exit(exit, table.exits.get(at + 1))
            .map_err(|reason| format!("exit '{}': {reason}", exit.name))?;
    }
    if let Some(thresholds) = &table.thresholds {
        share(thresholds.tolerance, "thresholds.tolerance")?;
        check_setting(&thresholds.common, table.exits.len())?;
        check_setting(&thresholds.each, table.exits.len())?;
    }
    if let Some(record) = &table.record {
        check_file(&record.file)?;
        hash(&record.sha256, "record.sha256")?;
    }
    for cut in &table.cuts {
        check_cut(cut)
            .map_err(|reason| format!("cut {} of part {}: {reason}", cut.position, cut.part))?;
    }
    Ok(())
}

fn check_exit(exit: &ExitTable, next: Option<&ExitTable>) -> Said {
    share(exit.top1, "top1")?;
    latency(&exit.latency)?;
    let bins = exit.share.len();
    few(bins, "share")?;
    if bins == 0 || exit.correct.len() != bins || exit.edges.len() + 1 != bins {
        return Err(format!(
            "{bins} shares, {} shares of correct answers and {} edges do not fit together",
            exit.correct.len(),
            exit.edges.len()
        ));
    }
    let ascending = exit.edges.windows(2).all(|pair| pair[0] <= pair[1]);
    if !ascending || !exit.edges.iter().all(|edge| (0.0..=1.0).contains(edge)) {
        return Err("edges must ascend from 0 to 1".into());
    }
    sums(&exit.share, "share")?;
    for &correct in &exit.correct {
        share(correct, "correct")?;
    }
    match next {
        None if exit.next.is_empty() => Ok(()),
        None => Err("nothing comes after the end".into()),
        Some(next) => {
            let width = next.share.len();
            if exit.next.len() != bins || exit.next.iter().any(|row| row.len() != width) {
                return Err(format!("next must have {bins} rows of {width}"));
            }
            exit.next.iter().try_for_each(|row| sums(row, "next"))
        }
    }
}

fn check_setting(setting: &Setting, exits: usize) -> Said {
    share(setting.top1, "thresholds: top1")?;
    share(setting.macs_share, "thresholds: macs_share")?;
    share(setting.held_out_top1, "thresholds: held_out_top1")?;
    share(
        setting.held_out_macs_share,
        "thresholds: held_out_macs_share",
    )?;
    if setting.thresholds.len() + 1 != exits || setting.leave.len() != exits {
        return Err("thresholds: one for each exit, and the end leaves too".into());
    }
    if !setting
        .thresholds
        .iter()
        .all(|&threshold| 0.0 < threshold && threshold <= NEVER)
    {
        return Err(format!(
            "thresholds must lie above 0 and be at most {NEVER}"
        ));
    }
    sums(&setting.leave, "thresholds: leave")
}

fn check_cut(cut: &CutTable) -> Said {
    share(cut.top1, "top1")?;
    few(cut.codecs.len(), "codec")?;
    few(cut.tensors.len(), "tensors")?;
    for codec in &cut.codecs {
        share(codec.top1, "codec: top1")?;
        for number in [codec.bytes, codec.encode, codec.decode] {
            time(number, "codec: bytes, encode, decode")?;
        }
    }
    Ok(())
}

fn share(number: f64, what: &str) -> Said {
    match (0.0..=1.0).contains(&number) {
        true => Ok(()),
        false => Err(format!("{what} must lie between 0 and 1, it is {number}")),
    }
}

fn sums(numbers: &[f64], what: &str) -> Said {
    numbers.iter().try_for_each(|&number| share(number, what))?;
    let sum: f64 = numbers.iter().sum();
    match (sum - 1.0).abs() <= SUM_SLACK {
        true => Ok(()),
        false => Err(format!("{what} must sum to 1, it sums to {sum}")),
    }
}

fn time(number: f64, what: &str) -> Said {
    match number.is_finite() && 0.0 <= number {
        true => Ok(()),
        false => Err(format!("{what} must not be negative, it is {number}")),
    }
}

fn latency(latency: &Latency) -> Said {
    time(latency.mean, "latency.mean")?;
    time(latency.p95, "latency.p95")
}

fn few(count: usize, what: &str) -> Said {
    match count <= ENTRIES_LIMIT {
        true => Ok(()),
        false => Err(format!(
            "{what} has {count} entries, more than {ENTRIES_LIMIT}"
        )),
    }
}

fn hash(hex: &str, what: &str) -> Said {
    match parse_hash(hex) {
        Some(_) => Ok(()),
        None => Err(format!("{what} is not 64 hexadecimal digits")),
    }
}
