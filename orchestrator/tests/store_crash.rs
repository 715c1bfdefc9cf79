//! `kill -9` at any moment loses nothing that was acknowledged.
//!
//! The test runs itself again as a child which writes to a store and says on its standard output what
//! was acknowledged. After a seeded number of lines it is killed; the store must then hold everything
//! that was said, and whatever was being written must be there whole or not at all. The next round
//! goes on in the same folder.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_orchestrator::store::{
    Counter, Digest, PackageRecord, PartRecord, SledStore, Store, StoreLimits,
};
use splitplace_plan::{Generation, ModelName, ModelPlan, Plan};

/// Names the folder to the child; without it the child has nothing to do.
const FOLDER: &str = "SPLITPLACE_TEST_STORE";
const ROUNDS: u64 = 12;
const SEED: u64 = 0x5eed;
const MODELS: u64 = 4;

fn open(folder: &Path) -> SledStore {
    SledStore::open(folder, StoreLimits::default()).unwrap()
}

/// The package that step `step` writes: its content tells which step it was.
fn package(step: u64) -> (PackageRecord, BTreeMap<Digest, Bytes>) {
    let length = 1_000 + usize::try_from(step % 7).unwrap() * 20_000;
    let mut content = vec![step.to_le_bytes()[0]; length];
    content[..8].copy_from_slice(&step.to_le_bytes());
    let digest = Digest::of(&content);
    let part = PartRecord {
        file: "base.onnx".into(),
        digest,
        size_bytes: length as u64,
    };
    let record = PackageRecord {
        name: ModelName::new(&format!("m{}", step % MODELS)),
        version: step.to_string(),
        manifest: String::new(),
        tables: String::new(),
        parts: vec![part],
        loaded: step.is_multiple_of(2),
        wishes: step.to_string(),
    };
    (record, BTreeMap::from([(digest, content.into())]))
}

fn plan(step: u64) -> Plan {
    let model = ModelPlan {
        version: step.to_string(),
        arms: vec![],
    };
    Plan {
        generation: Generation(step),
        parent: step.checked_sub(1).map(Generation),
        models: BTreeMap::from([("m".into(), model)]),
        explanation: "x".repeat(usize::try_from(step % 5_000).unwrap()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "steps are few"
)]
fn step_of(state: BTreeMap<String, f64>) -> u64 {
    state["step"] as u64
}

/// The child: writes for ever, and says what was acknowledged.
#[test]
fn child() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let store = open(Path::new(&folder));
    let first = store
        .plan()
        .unwrap()
        .map_or(1, |plan| plan.generation.0 + 1);
    let mut out = std::io::stdout();
    let mut say = |what: &str, number: u64| {
        // One write for one line: the parent may rely on every line that it can read to its end.
        out.write_all(format!("\nack {what} {number}\n").as_bytes())
            .unwrap();
        out.flush().unwrap();
    };
    for step in first.. {
        let (record, contents) = package(step);
        store.put_package(&record, &contents).unwrap();
        say("package", step);
        store.put_plan(&plan(step)).unwrap();
        say("plan", step);
        #[expect(clippy::cast_precision_loss, reason = "steps are few")]
        let state = BTreeMap::from([("step".to_owned(), step as f64)]);
        store.put_policy("ucb", &state).unwrap();
        say("policy", step);
        let numbers = store.reserve(Counter::Request, 1 + step % 3).unwrap();
        say("number", numbers.end - 1);
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let lives = rng.random_range(0..60);
        let mut note = |line: Vec<u8>| {
            let line = String::from_utf8(line).unwrap();
            let words: Vec<_> = line.split(' ').collect();
            let ["ack", what, number] = words[..] else {
                return false;
            };
            let before = said.insert(what.to_owned(), number.parse().unwrap());
            assert!(
                before <= said.get(what).copied(),
                "round {round}: {what} went back"
            );
            true
        };
        let mut heard = 0;
        while heard < lives {
            let line = lines.next().expect("the child writes until it is killed");
            heard += u32::from(note(line.unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Acknowledged in the meantime; a last line without its end was acknowledged too.
        for line in lines {
            note(line.unwrap());
        }
        check(folder.path(), &said, round);
    }
    assert!(said["plan"] > 20, "the children hardly lived: {said:?}");
}

fn check(folder: &Path, said: &BTreeMap<String, u64>, round: u64) {
    let store = open(folder);
    let said = |what: &str| said.get(what).copied().unwrap_or(0);
    // A step that was under way may be there too, but no later one.
    let is_plausible = |what: &str, found: u64| {
        assert!(
            (said(what)..=said(what) + 1).contains(&found),
            "round {round}: {what} {} was acknowledged and {found} is there",
            said(what)
        );
    };
    let kept = store.plan().unwrap();
    is_plausible("plan", kept.as_ref().map_or(0, |plan| plan.generation.0));
    if let Some(kept) = kept {
        assert_eq!(kept, plan(kept.generation.0), "round {round}: half a plan");
    }
    is_plausible("policy", store.policy("ucb").unwrap().map_or(0, step_of));
    let packages = store.packages().unwrap();
    let newest = packages
        .iter()
        .map(|package| package.version.parse::<u64>().unwrap());
    let newest = newest.max().unwrap_or(0);
    is_plausible("package", newest);
    assert_eq!(
        packages.len() as u64,
        newest.min(MODELS),
        "round {round}: packages are missing"
    );
    for found in packages {
        let step = found.version.parse::<u64>().unwrap();
        assert!(
            newest - step < MODELS,
            "round {round}: {found:?} is out of date"
        );
        let (record, contents) = package(step);
        assert_eq!(found, record, "round {round}: half a package");
        let digest = record.parts[0].digest;
        assert_eq!(store.content(&digest).unwrap().unwrap(), contents[&digest]);
    }
    let next = store.reserve(Counter::Request, 0).unwrap().start;
    let number = said("number");
    assert!(
        (number + 1..=number + 4).contains(&next),
        "round {round}: {number} was acknowledged and {next} would come next"
    );
}
