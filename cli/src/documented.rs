//! Commands that the documents show exist, with the options that they show.

use std::{fs, path::Path};

use clap::CommandFactory as _;

/// Commands of a document: lines of its blocks of code, and code within its sentences, each from `splitplace` on.
fn shown(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if is_fenced || line.starts_with("    ") {
            let mut whole = line.to_owned();
            while whole.ends_with('\\') {
                whole.pop();
                whole.push_str(lines.next().unwrap_or_default());
            }
            found.push(whole);
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found.iter().filter_map(|line| command(line)).collect()
}

/// The command within a line of a shell, without what comes before and after it.
fn command(line: &str) -> Option<String> {
    let line = line.split(" # ").next().unwrap_or_default().trim();
    let starts = ["splitplace ", "/splitplace ", "cargo run --release -- "];
    let at = |start: &str| {
        let found = line.find(start)?;
        let is_word = line[..found]
            .chars()
            .next_back()
            .is_none_or(|before| " $(".contains(before));
        let rest = &line[found + start.len()..];
        // A table within a block: its columns are apart.
        (is_word && !rest.starts_with(' ')).then_some(rest)
    };
    // `helm install splitplace …` names a release, `exec … -- /splitplace …` a program.
    let is_others = ["helm ", "kubectl ", "git ", "mkdir ", "cp "]
        .iter()
        .any(|other| line.starts_with(other));
    let rest = if is_others {
        at("/splitplace ")?
    } else {
        starts.iter().find_map(|start| at(start))?
    };
    let end = ["| ", "|", "> ", "&", ";", ")", "…", "2>"]
        .iter()
        .filter_map(|end| rest.find(end))
        .min();
    Some(rest[..end.unwrap_or(rest.len())].trim().to_owned())
}

/// What is wrong with a command: a word that is no command, an option that it does not have.
fn wrong(text: &str) -> Option<String> {
    let mut own = crate::Cli::command();
    own.build();
    let mut at = &own;
    let mut words = text.split_whitespace().peekable();
    while let Some(next) = words.peek().and_then(|word| at.find_subcommand(word)) {
        at = next;
        words.next();
    }
    if at.get_name() == own.get_name() {
        let word = words.peek()?;
        let is_placeholder =
            word.starts_with('-') || word.chars().all(|c| c.is_uppercase() || !c.is_alphabetic());
        return (!is_placeholder).then(|| format!("there is no command {word}"));
    }
    if at.has_subcommands() && at.is_subcommand_required_set() {
        return words
            .peek()
            .map(|word| format!("{} has no {word}", at.get_name()));
    }
    for word in words.take_while(|word| *word != "--") {
        let option = word.trim_matches(['[', ']', '"', '\'', ',', '.']);
        let option = option.split('=').next().unwrap_or_default();
        let is_known = if let Some(long) = option.strip_prefix("--") {
            let mut all = at.get_arguments();
            all.any(|arg| {
                arg.get_long() == Some(long)
                    || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
            })
        } else if let Some(short) = option
            .strip_prefix('-')
            .and_then(|rest| rest.chars().next())
        {
            let is_short = at.get_arguments().any(|arg| arg.get_short() == Some(short));
            is_short || !short.is_alphabetic()
        } else {
            true
        };
        if !is_known {
            return Some(format!("{} has no {option}", at.get_name()));
        }
    }
    None
}

#[test]
fn every_command_of_the_documents_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages = vec![root.join("README.md"), root.join("image/INSTALL.md")];
    for folder in ["docs", "docs/errors"] {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let entries = entries.map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    let (mut count, mut found) = (0, Vec::new());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for command in shown(&text) {
            count += 1;
            if let Some(why) = wrong(&command) {
                found.push(format!("{}: {why}: splitplace {command}", page.display()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "commands that do not exist:\n{}",
        found.join("\n")
    );
    assert!(
        80 < count,
        "only {count} commands were found: are they still recognised?"
    );
}

#[test]
fn what_does_not_exist_is_found_wherever_it_is_written() {
    let page = "See `splitplace doctor --cluster`.\n\n    $ splitplace infer x \\\n      --pikture 7 | head\n\n```\n\
                kubectl exec deploy/x -- /splitplace doctor --nam x   # why\nhelm install splitplace charts/splitplace\n```\n\
                and `splitplace dokter`, `splitplace model chek X`, `splitplace status --server H:1`";
    let found: Vec<String> = shown(page)
        .iter()
        .filter_map(|command| wrong(command))
        .collect();
    assert_eq!(
        found,
        [
            "infer has no --pikture",
            "doctor has no --nam",
            "there is no command dokter",
            "model has no chek"
        ]
    );
}
