//! Which class a picture is of: by its folder, or by a list.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path};

use anyhow::{Context as _, bail, ensure};

use super::File;

/// Largest list, in bytes.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Names of a held-out part, the first that is there counts.
const HELD_OUT: [&str; 4] = ["test", "val", "validation", "valid"];

/// Only the held-out part, where a folder of that name is on the way to some pictures; and what it is
/// called.
pub(super) fn held_out(files: Vec<File>) -> (Vec<File>, String) {
    for part in HELD_OUT {
        let is_in = |file: &File| {
            let mut folders = file.path.iter().rev().skip(1);
            folders.any(|folder| folder.eq_ignore_ascii_case(part))
        };
        if files.iter().any(is_in) {
            let files = files.into_iter().filter(is_in).collect();
            return (files, format!("-{part}"));
        }
    }
    (files, String::new())
}

/// The class is the name of the folder: one of `classes`, or its number; without names, folders count in
/// alphabetical order.
pub(super) fn by_folder(files: &[File], classes: &[String]) -> anyhow::Result<Vec<u32>> {
    let folder = |file: &File| -> anyhow::Result<String> {
        let parent = file.path.parent().and_then(Path::file_name);
        let name = parent.map(OsStr::to_string_lossy).with_context(|| {
            format!(
                "{} lies in no folder that would say its class; name a list with --labels",
                file.path.display()
            )
        })?;
        Ok(name.into_owned())
    };
    let names = files
        .iter()
        .map(folder)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    sorted.dedup();
    let mut found = BTreeMap::new();
    for (number, name) in sorted.iter().enumerate() {
        let class = match classes.is_empty() {
            true => u32::try_from(number).ok(),
            false => class(name, classes),
        };
        let class = class.with_context(|| {
            format!(
                "folder '{name}' is none of the package's classes: {}",
                listed(classes)
            )
        })?;
        if let Some(other) = found.values().position(|&known| known == class) {
            let other = found
                .keys()
                .nth(other)
                .map_or("", |name: &&String| name.as_str());
            bail!("folders '{other}' and '{name}' are of the same class");
        }
        found.insert(*name, class);
    }
    Ok(names.iter().map(|name| found[name]).collect())
}

/// The class stands in a list, a line for each picture: file name, spaces, name or number of the class.
pub(super) fn by_list(files: &[File], list: &Path, classes: &[String]) -> anyhow::Result<Vec<u32>> {
    let size = fs::metadata(list)
        .with_context(|| format!("cannot read {}", list.display()))?
        .len();
    ensure!(
        size <= LIST_BYTES_MAX,
        "{} has {size} bytes, more than the {LIST_BYTES_MAX} of a list",
        list.display()
    );
    let text =
        fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = || format!("{}, line {}", list.display(), number + 1);
        let (name, label) = line
            .split_once(|space: char| space.is_whitespace() || space == ',')
            .with_context(|| format!("{}: a file name and a class are needed", at()))?;
        let label = label.trim();
        let class = match classes.is_empty() {
            true => label.parse().ok(),
            false => class(label, classes),
        };
        let class = class.with_context(|| {
            format!(
                "{}: '{label}' is none of the classes: {}",
                at(),
                listed(classes)
            )
        })?;
        found.insert(name, class);
    }
    let of = |file: &File| {
        let path = file.path.to_str();
        let name = file.path.file_name().and_then(OsStr::to_str);
        let known = path.and_then(|path| found.get(path));
        known
            .or_else(|| name.and_then(|name| found.get(name)))
            .copied()
            .with_context(|| format!("{} is not in {}", file.path.display(), list.display()))
    };
    files.iter().map(of).collect()
}

/// A class by its name, whatever its capitals and what stands between its words, or by its number. A name
/// that two classes have, as ImageNet's cranes do, says nothing.
fn class(said: &str, classes: &[String]) -> Option<u32> {
    let plain = |name: &str| -> String {
        let letters = name.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let wanted = plain(said);
    let mut places = (0..classes.len()).filter(|&place| plain(&classes[place]) == wanted);
    let place = places.next().filter(|_| places.next().is_none());
    let place = place.or_else(|| said.parse().ok().filter(|&number| number < classes.len()));
    place.and_then(|place| u32::try_from(place).ok())
}

fn listed(classes: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = classes.get(..SHOWN).unwrap_or(classes).join(", ");
    match classes.len() > SHOWN {
        true => format!("{shown}, …"),
        false => shown,
    }
}
