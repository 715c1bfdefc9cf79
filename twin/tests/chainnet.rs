//! The engine against a truth that others simulated, and the published network with its own weights against what is
//! known of it: 20 systems here, all of them where the data is.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use splitplace_twin::{
    Seed,
    chainnet::{Judge, Published, Score, Simulation, System, Texts, read},
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

fn score(systems: &[System], judge: &dyn Judge) -> Score {
    let mut score = Score::default();
    for (number, system) in (0..).zip(systems) {
        score.add(
            system,
            &judge.ratios(system, Seed(1).child("system", number)),
        );
    }
    score
}

fn simulated(systems: &[System]) -> Score {
    score(systems, &Simulation { arrivals: 400_000 })
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn twenty() -> Vec<System> {
    systems(&data("chainnet-20"), usize::MAX)
}

fn published() -> Published {
    Published::read(&fs::read(data("chainnet-published/model.pth")).unwrap()).unwrap()
}

#[test]
fn twenty_systems_come_out_as_published() {
    let systems = twenty();
    assert_eq!(systems.len(), 20);
    let score = simulated(&systems);
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
    let score = simulated(&systems(Path::new(&folder), most));
    println!("{score:?}");
    assert!(score.throughput.mean() <= 0.005, "{:?}", score.throughput);
    assert!(score.latency.mean() <= 0.01, "{:?}", score.latency);
}

/// `predicted.txt` has what the network says of these systems by another computation, in double precision.
#[test]
fn the_published_network_says_what_it_says_elsewhere() {
    let systems = twenty();
    let published = published();
    let all: Vec<&System> = systems.iter().collect();
    let together = published.predict(&all);
    let elsewhere = fs::read_to_string(data("chainnet-published/predicted.txt")).unwrap();
    let mut elsewhere = elsewhere
        .split_whitespace()
        .map(|word| word.parse::<f64>().unwrap());
    for (system, together) in systems.iter().zip(together) {
        let alone = published.ratios(system, Seed(1));
        for (alone, together) in alone.iter().zip(together) {
            for found in [
                [alone.latency, together.latency],
                [alone.throughput, together.throughput],
            ] {
                let known = elsewhere.next().unwrap();
                for found in found {
                    assert!((found - known).abs() < 2e-5, "{found} {known}");
                }
            }
        }
    }
    assert_eq!(elsewhere.next(), None);
}

/// The errors that the released weights have on the whole validation set, known from another computation.
#[test]
fn the_published_network_errs_as_much_as_is_known() {
    let Some(folder) = std::env::var_os("SPLITPLACE_CHAINNET") else {
        println!("SKIPPED: SPLITPLACE_CHAINNET does not name the folder of the data");
        return;
    };
    let systems = systems(Path::new(&folder), usize::MAX);
    assert_eq!(systems.len(), 10_000);
    let score = score(&systems, &published());
    println!("{score:?}");
    let close =
        |found: f64, known: f64| assert!((found - known).abs() <= 5.1e-5, "{found} {known}");
    close(score.latency.mean(), 0.0324);
    close(score.throughput.mean(), 0.0247);
}
