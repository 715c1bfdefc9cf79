//! The house's rules, checked by reading the tree: who may know whom, where things may be named, what a
//! file looks like. A rule that is broken says where, and why the house has it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A source file: its path from the root, and its lines with comments and the text of strings taken out.
struct Source {
    path: String,
    lines: Vec<String>,
    raw: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.')
                && !name.starts_with("target")
                && !["out", "node_modules"].contains(&&name[..])
            {
                walk(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap()
        .to_string_lossy()
        .replace('\\', "/")
}

/// Takes out `//` comments and what is between quotes. Raw strings over several lines are rare enough
/// in this house to be left alone.
fn bare(line: &str) -> String {
    let mut bare = String::new();
    let mut chars = line.chars().peekable();
    let mut in_text = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_text => {
                chars.next();
            }
            '"' => {
                in_text = !in_text;
                bare.push(c);
            }
            '/' if !in_text && chars.peek() == Some(&'/') => break,
            '\'' if !in_text && chars.clone().nth(1) == Some('\'') => {
                chars.next();
                chars.next();
            }
            c if !in_text => bare.push(c),
            _ => {}
        }
    }
    bare
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root(), ".rs", &mut paths);
    let mut sources: Vec<Source> = paths.iter().map(|path| read(path)).collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 50, "the tree was not found");
    sources
}

fn read(path: &Path) -> Source {
    let raw = fs::read_to_string(path).unwrap();
    Source {
        path: relative(path),
        lines: raw.lines().map(bare).collect(),
        raw,
    }
}

impl Source {
    /// Lines that are compiled for users: not tests, benches or build scripts.
    fn served(&self) -> impl Iterator<Item = (usize, &str)> {
        let parts: Vec<&str> = self.path.split('/').collect();
        let is_test = parts
            .iter()
            .any(|p| ["tests", "benches", "tests.rs", "build.rs"].contains(p));
        let until = self
            .lines
            .iter()
            .position(|line| line.trim() == "#[cfg(test)]");
        let until = if is_test {
            0
        } else {
            until.unwrap_or(self.lines.len())
        };
        self.lines[..until]
            .iter()
            .enumerate()
            .map(|(at, line)| (at + 1, line.as_str()))
    }
}

/// Where a word stands in lines for users, outside the files where it may.
fn strays(sources: &[Source], words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !may(&source.path)) {
        for (number, line) in source.served() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    found
}

#[track_caller]
fn none(found: &[String], why: &str) {
    assert!(found.is_empty(), "{why}\n{}", found.join("\n"));
}

type Manifests = BTreeMap<String, toml::Table>;

fn manifests() -> Manifests {
    let mut paths = Vec::new();
    walk(&root(), "Cargo.toml", &mut paths);
    let parse = |path: &PathBuf| {
        let table: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        (relative(path.parent().unwrap()), table)
    };
    // A project apart, with a workspace of its own, is bound by none of this one's rules about crates.
    let is_ours = |(folder, table): &(String, toml::Table)| {
        folder.is_empty() || !table.contains_key("workspace")
    };
    paths.iter().map(parse).filter(is_ours).collect()
}

fn dependencies<'a>(table: &'a toml::Table, kind: &str) -> Vec<&'a str> {
    let table = table.get(kind).and_then(|value| value.as_table());
    table.map_or(Vec::new(), |table| {
        table.keys().map(String::as_str).collect()
    })
}

#[test]
fn arrows_point_one_way() {
    let allowed: &[(&str, &[&str])] = &[
        (
            "core/",
            &[
                "brain",
                "codec",
                "fleet",
                "graph",
                "lifecycle",
                "plan",
                "policy",
                "queueing",
            ],
        ),
        ("onnx", &["graph", "plan", "fleet"]),
        (
            "twin",
            &["brain", "fleet", "lifecycle", "plan", "policy", "queueing"],
        ),
        ("proto", &["fleet", "graph", "plan", "policy"]),
        ("link", &["codec", "fleet", "graph", "proto"]),
        ("k8s", &[]),
        (
            "worker",
            &[
                "brain",
                "codec",
                "fleet",
                "graph",
                "lifecycle",
                "plan",
                "policy",
                "onnx",
                "proto",
                "link",
            ],
        ),
        (
            "orchestrator",
            &[
                "brain",
                "codec",
                "fleet",
                "graph",
                "lifecycle",
                "plan",
                "policy",
                "onnx",
                "proto",
                "link",
                "twin",
            ],
        ),
    ];
    let mut found = Vec::new();
    for (folder, table) in manifests() {
        let Some((_, may)) = allowed.iter().find(|(of, _)| folder.starts_with(of)) else {
            continue;
        };
        for name in dependencies(&table, "dependencies") {
            let Some(ours) = name.strip_prefix("splitplace-") else {
                continue;
            };
            if !may.contains(&ours) {
                found.push(format!("{folder}/Cargo.toml: {name}"));
            }
        }
        if dependencies(&table, "dependencies").contains(&"splitplace") {
            found.push(format!("{folder}/Cargo.toml: the binary"));
        }
    }
    none(
        &found,
        "arrows: core knows nothing else, worker and orchestrator do not know each other",
    );
}

#[test]
fn the_brain_is_pure() {
    let small = [
        "crc32fast",
        "half",
        "microlp",
        "rand",
        "rand_chacha",
        "smallvec",
        "thiserror",
        "zstd",
    ];
    let mut found = Vec::new();
    for (folder, table) in manifests()
        .iter()
        .filter(|(folder, _)| folder.starts_with("core/"))
    {
        for name in dependencies(table, "dependencies") {
            if !name.starts_with("splitplace-") && !small.contains(&name) {
                found.push(format!("{folder}/Cargo.toml: {name}"));
            }
        }
    }
    let sources = sources();
    let words = [
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::process",
        "std::io",
        "Instant",
        "SystemTime",
        "println!",
        "async fn",
        ".await",
        "rand::rng()",
    ];
    found.extend(strays(&sources, &words, |path| !path.starts_with("core/")));
    none(
        &found,
        "core: no I/O, no clock, no async, no logging; time and randomness are parameters",
    );
}

#[test]
fn libraries_are_named_in_their_own_place_only() {
    let sources = sources();
    let rules: &[(&str, &[&str])] = &[
        ("tract_onnx", &["onnx/"]),
        ("sled::", &["orchestrator/src/store"]),
        ("figment::", &["cli/src/settings.rs"]),
        ("kube::", &["k8s/"]),
        ("k8s_openapi", &["k8s/"]),
        ("rcgen::", &["cli/src/certificates.rs"]),
        ("clap::", &["cli/"]),
        (
            "opentelemetry",
            &["cli/src/telemetry.rs", "cli/src/output.rs"],
        ),
        (
            "axum::",
            &["orchestrator/src/api", "orchestrator/src/app.rs"],
        ),
    ];
    let mut found = Vec::new();
    for (word, places) in rules {
        let may = |path: &str| places.iter().any(|place| path.starts_with(place));
        found.extend(strays(&sources, &[word], may));
    }
    none(
        &found,
        "a library that may be replaced one day is named in one place",
    );
}

#[test]
fn only_the_binary_touches_the_machine() {
    let words = [
        "TcpListener::bind",
        "std::env::var",
        "env::vars",
        "signal::ctrl_c",
        "process::exit",
    ];
    let found = strays(&sources(), &words, |path| {
        path.starts_with("cli/") || path.starts_with("tests/")
    });
    none(
        &found,
        "only the binary binds sockets, reads the environment, installs signal handlers",
    );
}

#[test]
fn nothing_is_global_and_nothing_is_unsafe() {
    let words = [
        "static mut",
        "OnceLock",
        "LazyLock",
        "thread_local!",
        "lazy_static!",
    ];
    none(
        &strays(&sources(), &words, |_| false),
        "no globals: ten nodes live in one process",
    );
    let has_unsafe = |source: &&Source| source.lines.iter().any(|line| line.contains("unsafe "));
    let found: Vec<String> = sources()
        .iter()
        .filter(has_unsafe)
        .filter(|source| !source.path.ends_with("tests/structure.rs"))
        .map(|source| source.path.clone())
        .collect();
    none(&found, "no unsafe of ours without a written proof of need");
}

#[test]
fn a_file_has_one_idea_and_says_it() {
    let mut found = Vec::new();
    for source in sources() {
        let path = &source.path;
        let name = path.rsplit('/').next().unwrap();
        if !source.raw.starts_with("//!") {
            found.push(format!(
                "{path}: does not begin with a //! that says what it is"
            ));
        }
        let vague = [
            "mod.rs",
            "util.rs",
            "utils.rs",
            "helper.rs",
            "helpers.rs",
            "common.rs",
            "misc.rs",
        ];
        if vague.contains(&name) || name.contains("manager") {
            found.push(format!("{path}: its name says nothing"));
        }
        if source.lines.len() > 800 {
            found.push(format!(
                "{path}: {} lines are two ideas",
                source.lines.len()
            ));
        }
    }
    none(&found, "a file has one idea and a //! that says it");
}

/// Codes of errors that a text names between quotes.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    let is_code = |word: &&str| {
        word.len() == 5 && word.starts_with("SP") && word[2..].bytes().all(|b| b.is_ascii_digit())
    };
    text.split('"').filter(is_code)
}

#[test]
fn every_warning_has_a_code_and_every_code_a_page() {
    let sources = sources();
    let served = |source: &&Source| source.served().next().is_some();
    let mut named = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for source in sources.iter().filter(served) {
        named.extend(codes(&source.raw));
        let last = source.served().count();
        let lines: Vec<&str> = source.raw.lines().take(last).collect();
        for (at, line) in lines.iter().enumerate() {
            let is_told = line.contains("tracing::warn!(") || line.contains("tracing::error!(");
            let next = lines.get(at + 1).copied().unwrap_or_default();
            if is_told && !line.contains("code = \"SP") && !next.contains("code = \"SP") {
                found.push(format!("{}:{}: no code", source.path, at + 1));
            }
        }
    }
    let pages = root().join("docs/errors");
    let index = fs::read_to_string(pages.join("README.md")).unwrap();
    let mut written = Vec::new();
    walk(&pages, ".md", &mut written);
    let mut written: Vec<String> = written
        .iter()
        .map(|page| page.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "README")
        .collect();
    written.sort();
    found.extend(
        named
            .iter()
            .filter(|code| !written.iter().any(|page| page == *code))
            .map(|code| format!("{code}: no page")),
    );
    for code in written {
        let page = fs::read_to_string(pages.join(format!("{code}.md"))).unwrap();
        let is_whole = page.starts_with(&format!("# {code}: "))
            && page.contains("## What to do")
            && index.contains(&format!("[{code}]({code}.md)"));
        if !is_whole {
            found.push(format!(
                "docs/errors/{code}.md: no title, no advice, or not in the index"
            ));
        }
        if !named.contains(&code[..]) {
            found.push(format!("docs/errors/{code}.md: nobody says it"));
        }
    }
    none(
        &found,
        "whoever reads a warning looks up its code: docs/errors/ says what to do",
    );
}

#[test]
fn dependencies_are_named_once() {
    let manifests = manifests();
    let table = manifests[""]["workspace"]["dependencies"]
        .as_table()
        .unwrap();
    let mut used = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for (folder, manifest) in manifests.iter().filter(|(folder, _)| !folder.is_empty()) {
        if manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .is_none()
        {
            found.push(format!(
                "{folder}/Cargo.toml: does not take the workspace's lints"
            ));
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for name in dependencies(manifest, kind) {
                used.insert(name.to_owned());
                if manifest[kind][name].get("workspace").is_none() {
                    found.push(format!(
                        "{folder}/Cargo.toml: {name} has a version of its own"
                    ));
                }
            }
        }
    }
    for name in table.keys().filter(|name| !used.contains(*name)) {
        found.push(format!("Cargo.toml: nobody uses {name}"));
    }
    none(
        &found,
        "every version is named once, and nothing is named in vain",
    );
}

#[test]
fn no_crate_names_what_it_does_not_use() {
    let sources = sources();
    let mut found = Vec::new();
    for (folder, manifest) in manifests().iter().filter(|(folder, _)| !folder.is_empty()) {
        // Generated code uses them.
        let generated = ["bytes", "prost", "tonic-prost"];
        let inside = format!("{folder}/src/");
        for name in dependencies(manifest, "dependencies") {
            let word = name.replace('-', "_");
            let mut own = sources
                .iter()
                .filter(|source| source.path.starts_with(&inside));
            let is_generated = folder == "proto" && generated.contains(&name);
            if !is_generated && !own.any(|source| source.raw.contains(&word)) {
                found.push(format!("{folder}/Cargo.toml: {name}"));
            }
        }
    }
    none(&found, "a dependency that nobody uses costs everybody time");
}

#[test]
fn documents_point_at_what_is_there() {
    let mut paths = Vec::new();
    walk(&root(), ".md", &mut paths);
    assert!(!paths.is_empty());
    let mut found = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            for link in line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                let file = link.split('#').next().unwrap();
                let is_elsewhere = file.is_empty() || file.contains("://");
                if !is_elsewhere && !path.parent().unwrap().join(file).exists() {
                    found.push(format!("{}:{}: {link}", relative(&path), number + 1));
                }
            }
        }
    }
    none(&found, "a link leads somewhere");
}

#[test]
fn nothing_names_somebodys_machine() {
    let mut paths = Vec::new();
    for ending in [".rs", ".md", ".toml", ".py", ".proto", ".yaml"] {
        walk(&root(), ending, &mut paths);
    }
    let mut found = Vec::new();
    for path in paths
        .iter()
        .filter(|path| !path.ends_with("tests/structure.rs"))
    {
        let text = fs::read_to_string(path).unwrap();
        for folder in ["/work/", "/root/", "/home/"] {
            if let Some(number) = text.lines().position(|line| line.contains(folder)) {
                found.push(format!("{}:{}: {folder}", relative(path), number + 1));
            }
        }
    }
    none(&found, "the project speaks of itself alone");
}

#[test]
fn the_rules_can_be_broken() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        lines: text.lines().map(bare).collect(),
        raw: text.into(),
    };
    let sources = [source(
        "core/x/src/a.rs",
        "//! Says std::fs.\nlet a = \"std::fs\"; // std::fs\nuse std::fs;\n#[cfg(test)]\nuse std::fs;",
    )];
    assert_eq!(
        strays(&sources, &["std::fs"], |_| false),
        ["core/x/src/a.rs:3: std::fs"]
    );
    assert!(strays(&sources, &["std::fs"], |_| true).is_empty());
    let tests = [source("core/x/tests/a.rs", "use std::fs;")];
    assert!(strays(&tests, &["std::fs"], |_| false).is_empty());
    assert_eq!(bare(r#"a('"', "b\"//", 'c') // d"#), "a(, \"\", ) ");
}
