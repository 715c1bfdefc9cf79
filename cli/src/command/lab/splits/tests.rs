//! The lab on real networks: no method may claim less than the exact one, and what is said must be what was chosen.

use splitplace_plan::partition::{Method as _, Neurosurgeon, Objective, Question, User};

use super::{
    clock::Segments,
    ready::{Kind, Ready},
    *,
};

fn grid() -> Grid {
    Grid {
        uplinks: vec![0.005, 50.0],
        ratios: vec![10.0],
        delay: 0.001,
        load: 0.8,
        loss: 0.01,
        places: 10,
        watts: (1.3, 0.8),
        loads: vec![1.0, 5.0],
        devices: 3,
        cores: 4,
        near: (1000.0, 0.0005),
        bar: 0.05,
    }
}

fn source(path: &str) -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .join(path);
    let settings = Settings {
        codec_cost: 0.002,
        picture_bytes: 3000,
    };
    Source::open(&path, settings).unwrap()
}

/// What holds of every network.
fn check(source: &Source, grid: &Grid, network: &Network) {
    assert_eq!(network.cells.len(), grid.cells() as usize);
    for cell in &network.cells {
        let of = |name: &str| cell.choice(name).expect("every method chooses");
        let exact = of("exact").predicted;
        for choice in &cell.choices {
            let name = choice.method;
            let is_more = exact <= choice.predicted * (1.0 + 1e-9);
            // These may leave earlier, or use one more node.
            assert!(is_more || ["Edgent", "chain"].contains(&name), "{name}");
            assert!(
                choice.measured > 0.0 && choice.measured.is_finite(),
                "{name}"
            );
        }
        assert!((of("DADS light").predicted - exact).abs() <= 1e-9 * exact + 1e-9);
        let stage = of("exact, busiest stage").stage;
        assert!(stage <= of("DADS heavy").stage * (1.0 + 1e-9));
        let least = of("DADS light, energy").joules;
        assert!(
            cell.choices
                .iter()
                .filter(|one| !["Edgent", "chain"].contains(&one.method))
                .all(|one| least <= one.joules * (1.0 + 1e-9) + 1e-12)
        );
        assert!(of("device only").share == 1.0 && of("server only").share == 0.0);
        assert_eq!(cell.wins.0, of("exact").kind);
        assert!(cell.regret >= -1e-9, "the best of all is among them");
        // One more node never costs more, nor does choosing who gets which cores; both searches find the same.
        assert!(of("chain").predicted <= exact * (1.0 + 1e-9));
        let [even, iao, search] = &cell.shared[..] else {
            panic!("three ways to share");
        };
        assert!(iao.predicted <= even.predicted * (1.0 + 1e-9));
        assert!((iao.predicted - search.predicted).abs() <= 1e-9 * iao.predicted);
        for way in &cell.shared {
            let cores: usize = way.users.iter().map(|user| user.cores).sum();
            assert!(cores <= grid.cores && way.users.len() == grid.devices);
            let uplinks: Vec<f64> = way.users.iter().map(|user| user.uplink).collect();
            let around = [cell.uplink / 4.0, cell.uplink, cell.uplink * 4.0];
            assert_eq!(uplinks, around);
        }
        let edgent = of("Edgent");
        assert_eq!(edgent.holds, edgent.predicted <= cell.deadline);
        assert_eq!(edgent.exit.is_some(), !source.exits.is_empty());
    }
    // The device needs the same whatever the link.
    let device = |cell: usize| network.cells[cell].choice("device only").unwrap().measured;
    assert!((device(0) - device(1)).abs() < 1e-9);
}

/// Where it is said that the choice changes, the method changes its choice, from and to what is said.
fn check_switches(source: &Source, grid: &Grid, network: &Network) {
    // Energy once for each ratio, latency for each load too.
    let expected = grid.ratios.len() * (grid.loads.len() + 1);
    assert_eq!(network.switches.len(), expected);
    let mut changes = 0;
    for switches in &network.switches {
        let ready = Ready::new(source, switches.ratio).unwrap();
        let objective = match switches.wanted {
            "energy" => grid.energy(),
            _ => Objective::Latency,
        };
        let at = |uplink: f64| {
            let mut scene = grid.scene(uplink, objective);
            scene.load = switches.load.unwrap_or(1.0);
            let question = Question {
                users: &[User::new(&ready.end.network, scene)],
                cores: 1,
            };
            ready.end.words(&Neurosurgeon.solve(&question).unwrap()[0])
        };
        let mut above = &switches.fastest;
        for change in &switches.changes {
            assert_eq!(&at(change.uplink * 1.0001), above, "{switches:?}");
            assert_eq!(at(change.uplink * 0.9999), change.below, "{switches:?}");
            above = &change.below;
            changes += 1;
        }
        // Between the last change and the slowest uplink nothing else is chosen.
        assert_eq!(&at(0.005), above, "{switches:?}");
    }
    assert!(changes > 0);
}

#[test]
fn on_a_real_network_with_branches_no_method_predicts_less_than_the_exact_one() {
    let (source, grid) = (source("testdata/inception.onnx"), grid());
    let network = fill(&source, &grid, &mut Segments::default()).unwrap();
    check(&source, &grid, &network);
    let told = report::json(&grid, 1e9, std::slice::from_ref(&network), &[]);
    assert_eq!(told["networks"][0]["cells"].as_array().unwrap().len(), 2);
    assert_eq!(plots::all(10.0, &network).len(), 3);
}

#[test]
fn a_package_with_exits_is_told_whole_who_wins_where_and_where_choices_change() {
    let (source, grid) = (source("packages/fashion-mnist"), grid());
    let network = fill(&source, &grid, &mut Segments::default()).unwrap();
    check(&source, &grid, &network);
    check_switches(&source, &grid, &network);
    // 565 bytes take a second at 0.005 Mbit/s and 0.1 ms at 50: the device is worth it in one case only.
    let wins: Vec<Kind> = network.cells.iter().map(|cell| cell.wins.0).collect();
    assert_eq!(wins[1], Kind::Picture);
    assert_ne!(wins[0], Kind::Picture);
    let networks = std::slice::from_ref(&network);
    let told = report::json(&grid, 1e9, networks, &[]);
    assert_eq!(told["networks"][0]["cells"][1]["wins"], "picture");
    let picture = &told["speed_ups"][1]["picture_wins_at_ratios"];
    assert_eq!(picture, &serde_json::json!([10.0]));
    assert_eq!(told["published"].as_array().unwrap().len(), 2);
    // The sentence counts what the cells say; a bar that nothing keeps is said not to be kept.
    let said = tables::sentences(&grid, networks).join(" ");
    let count = wins.iter().filter(|kind| **kind == Kind::Picture).count();
    assert!(said.contains(&format!("best choice in {count} of 2 cells")));
    let strict = Grid {
        bar: 0.0,
        ..grid.clone()
    };
    assert!(tables::sentences(&strict, networks)[0].contains("NOT within"));
    let text = markdown(tables::all(&grid, &[10.0], networks, &[]), &[]);
    for wanted in [
        "the compressed picture",
        "3.1 mean",
        "6.45 at most",
        "8.08 at most",
        "threshold search",
        "IAO",
        "energy",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
}

#[test]
fn networks_that_share_a_server_are_told_of_by_name_and_the_search_is_never_slower() {
    let grid = Grid { cores: 3, ..grid() };
    let sources = [
        source("testdata/inception.onnx"),
        source("testdata/residual.onnx"),
    ];
    let mut segments = [Segments::default(), Segments::default()];
    let networks: Vec<Network> = sources
        .iter()
        .zip(&mut segments)
        .map(|(source, segments)| fill(source, &grid, segments).unwrap())
        .collect();
    let together = sharing::together(&sources, &mut segments, &networks, &grid).unwrap();
    assert_eq!(together.len(), 2);
    for cell in &together {
        let [even, iao, search] = &cell.shared[..] else {
            panic!("three ways to share");
        };
        assert!(iao.predicted <= even.predicted * (1.0 + 1e-9));
        assert!((iao.predicted - search.predicted).abs() <= 1e-9 * iao.predicted);
        let names: Vec<&str> = iao.users.iter().map(|user| &user.network[..]).collect();
        assert_eq!(names, ["inception", "residual"]);
        // An even share leaves the odd core to the first.
        let cores: Vec<usize> = even.users.iter().map(|user| user.cores).collect();
        assert_eq!(cores, [2, 1]);
        assert!(even.measured > 0.0 && iao.measured.is_finite());
    }
    let told = report::json(&grid, 1e9, &networks, &together);
    assert_eq!(
        told["together"][1]["sharing"][1]["users"][1]["network"],
        "residual"
    );
    let text = markdown(tables::all(&grid, &[10.0], &networks, &together), &[]);
    assert!(text.contains("All networks share 3 cores"));
    let alone = sharing::together(&sources[..1], &mut segments, &networks, &grid);
    assert!(alone.unwrap().is_empty());
}
