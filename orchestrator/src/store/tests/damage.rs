//! The folder is opened twice, cut short, overwritten: an error or the truth, never a panic.

use std::{fs, path::Path};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

fn open(folder: &Path) -> Result<SledStore, StoreError> {
    SledStore::open(folder, StoreLimits::default())
}

/// Some of everything.
fn fill(folder: &Path) {
    let store = open(folder).unwrap();
    for number in 0..20u8 {
        let (record, contents) = package(&format!("m{number}"), &[&[number; 1_000], &[1; 10]]);
        store.put_package(&record, &contents).unwrap();
        store.put_plan(&plan(u64::from(number) + 1)).unwrap();
        let state = BTreeMap::from([("count".to_owned(), f64::from(number))]);
        store.put_policy("ucb", &state).unwrap();
        store.put_measurements(&[measurement(number, "a")]).unwrap();
        store.append_decisions(&[decision(number.into())]).unwrap();
        store.reserve(Counter::Request, 10).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Reads everything; `Ok` only if it is what [`fill`] wrote.
fn read_all(folder: &Path) -> Result<(), StoreError> {
    let store = open(folder)?;
    let packages = store.packages()?;
    assert_eq!(packages.len(), 20);
    for package in &packages {
        for part in &package.parts {
            let content = store.content(&part.digest)?.unwrap();
            assert_eq!(content.len() as u64, part.size_bytes);
        }
    }
    assert_eq!(store.plan()?, Some(plan(20)));
    assert_eq!(store.policy("ucb")?.unwrap()["count"], 19.0);
    assert_eq!(store.measurements()?.len(), 20);
    assert_eq!(
        store.decisions(100)?,
        (0..20).map(decision).collect::<Vec<_>>()
    );
    assert_eq!(store.reserve(Counter::Request, 1)?, 201..202);
    Ok(())
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    read_all(folder.path()).unwrap();
}

#[test]
fn a_second_store_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let second = open(folder.path());
    assert!(matches!(second, Err(StoreError::Busy { .. })), "{second:?}");
    drop(first);
    open(folder.path()).unwrap();
}

#[test]
fn a_later_format_and_somebody_elses_records_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let db = ::sled::open(folder.path().join("records")).unwrap();
    db.insert("format", &2u64.to_be_bytes()).unwrap();
    drop(db);
    let refused = open(folder.path());
    let is_foreign = matches!(
        refused,
        Err(StoreError::Foreign {
            found: 2,
            known: 1,
            ..
        })
    );
    assert!(is_foreign, "{refused:?}");

    let folder = tempfile::tempdir().unwrap();
    let db = ::sled::open(folder.path().join("records")).unwrap();
    db.insert("something", "else").unwrap();
    drop(db);
    let refused = open(folder.path());
    assert!(
        matches!(refused, Err(StoreError::Corrupt { .. })),
        "{refused:?}"
    );
}

#[test]
fn lost_or_altered_parts_are_reported_and_can_be_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let (record, contents) = package("m", &[b"content"]);
    store.put_package(&record, &contents).unwrap();
    let digest = record.parts[0].digest;
    let path = folder.path().join("parts").join(digest.to_string());
    fs::write(&path, b"Content").unwrap();
    let found = store.content(&digest);
    assert!(
        matches!(found, Err(StoreError::Corrupt { .. })),
        "{found:?}"
    );
    store.put_package(&record, &contents).unwrap();
    assert_eq!(store.content(&digest).unwrap().unwrap(), &b"content"[..]);
    fs::remove_file(&path).unwrap();
    let found = store.content(&digest);
    assert!(
        matches!(found, Err(StoreError::Corrupt { .. })),
        "{found:?}"
    );
}

#[test]
fn what_a_crash_leaves_in_parts_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let parts = folder.path().join("parts");
    let orphan = parts.join(Digest::of(b"orphan").to_string());
    fs::write(&orphan, b"orphan").unwrap();
    fs::write(parts.join("half.new"), b"ha").unwrap();
    read_all(folder.path()).unwrap();
    assert_eq!(fs::read_dir(&parts).unwrap().count(), 21);
    assert!(!orphan.exists());
}

#[test]
fn lost_records_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    let found = open(folder.path());
    assert!(
        matches!(found, Err(StoreError::Corrupt { .. })),
        "{found:?}"
    );
}

/// Each round damages a copy of a good store in one seeded way. The answer is an error, or everything
/// that was written; an older state, half of it, or a panic is a failure.
#[test]
fn damage_is_reported_or_harmless() {
    let good = tempfile::tempdir().unwrap();
    fill(good.path());
    let mut reported = 0;
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bad = tempfile::tempdir().unwrap();
        copy(good.path(), bad.path());
        let mut files: Vec<_> = fs::read_dir(bad.path().join("records"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        let path = &files[rng.random_range(0..files.len())];
        let mut bytes = fs::read(path).unwrap();
        let length = bytes.len();
        if length == 0 {
            continue;
        }
        match rng.random_range(0..3) {
            0 => bytes.truncate(rng.random_range(0..length)),
            1 => {
                // The log is mostly reserve; damage where something was written.
                let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
                for _ in 0..rng.random_range(1..20) {
                    bytes[rng.random_range(0..written)] ^= 1 << rng.random_range(0..8);
                }
            }
            _ => {
                let start = rng.random_range(0..length);
                let end = (start + rng.random_range(1..4_096)).min(length);
                rng.fill(&mut bytes[start..end]);
            }
        }
        fs::write(path, bytes).unwrap();
        if let Err(error) = read_all(bad.path()) {
            reported += 1;
            let told = error.to_string();
            assert!(told.contains(&bad.path().display().to_string()), "{told}");
        }
    }
    assert!(
        reported > 10,
        "{reported} of 60 were noticed: the damage does not reach the records"
    );
}
