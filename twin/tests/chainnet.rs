//! The engine against a truth that others simulated: 20 systems here, all of them where the data is.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::Path};

use splitplace_twin::{
    Seed,
    chainnet::{Score, System, Texts, read},
};

fn systems(folder: &Path, most: usize) -> Vec<System> {
    let texts = Texts::NAMES.map(|name| fs::read_to_string(folder.join(name)).unwrap());
    let [
        nodes,
        classes,
        capacity,
        arrival,
        path,
        service,
        latency,
        throughput,
    ] = texts.each_ref().map(String::as_str);
    let texts = Texts {
        nodes,
        classes,
        capacity,
        arrival,
        path,
        service,
        latency,
        throughput,
    };
    read(&texts, most).unwrap()
}

fn score(systems: &[System], arrivals: u64) -> Score {
    let mut score = Score::default();
    for (number, system) in (0..).zip(systems) {
        score.add(
            system,
            &system.simulate(arrivals, Seed(1).child("system", number)),
        );
    }
    score
}

#[test]
fn twenty_systems_come_out_as_published() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chainnet-20");
    let systems = systems(&folder, usize::MAX);
    assert_eq!(systems.len(), 20);
    let score = score(&systems, 400_000);
    println!("{score:?}");
    assert!(score.throughput.mean() <= 0.005, "{:?}", score.throughput);
    assert!(score.latency.mean() <= 0.01, "{:?}", score.latency);
}

/// Set `SPLITPLACE_CHAINNET` to the folder of the validation set; `SPLITPLACE_CHAINNET_SYSTEMS` of it
/// are simulated, 500 unless said otherwise.
#[test]
fn the_validation_set_comes_out_as_published() {
    let Some(folder) = std::env::var_os("SPLITPLACE_CHAINNET") else {
        println!("SKIPPED: SPLITPLACE_CHAINNET does not name the folder of the data");
        return;
    };
    let most = std::env::var("SPLITPLACE_CHAINNET_SYSTEMS");
    let most = most.map_or(500, |text| text.parse().unwrap());
    let score = score(&systems(Path::new(&folder), most), 400_000);
    println!("{score:?}");
    assert!(score.throughput.mean() <= 0.005, "{:?}", score.throughput);
    assert!(score.latency.mean() <= 0.01, "{:?}", score.latency);
}
