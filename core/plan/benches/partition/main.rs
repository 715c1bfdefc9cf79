//! How long does it take to part the big networks? Every method of [`METHODS`] but the oracle, through the one trait.
//!
//! Expected: InceptionV3 has some ten thousand down-sets of some two hundred layers, so two milliseconds to list them
//! and less to look at them; a maximum flow over some two hundred places some ten microseconds, and the heavy method a
//! hundred and fifty of them; Edgent as many as there are exits; IAO and the threshold search as many as networks times
//! cores; a chain as many steps as down-sets, sets of nodes and nodes; a look-up in the envelope well below a
//! microsecond. The bar is 50 ms for InceptionV3; behind the benches a line for each method says whether it holds, and
//! so does one for each that prunes over a grid of uplinks and ratios.

mod grid;
mod nets;

use std::{collections::BTreeMap, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_plan::partition::{
    Chain, Exact, Exit, Iao, Links, METHODS, Method, Network, Neurosurgeon, Objective, Question,
    Scene, Threshold, User, by_name, down_sets::DownSets,
};

const SCENE: Scene = Scene {
    rate: 1e7 / 8.0,
    delay: 0.005,
    load: 1.0,
    objective: Objective::Latency,
};

/// Seconds that choosing may take on InceptionV3.
const BAR: f64 = 0.05;

/// Cores of the server, networks that share them, and what cores do.
const CORES: usize = 8;
const USERS: usize = 4;
const SPEED_UP: [f64; CORES] = [1.0, 1.9, 2.7, 3.4, 4.0, 4.5, 4.9, 5.2];

/// A question with its name.
type Asked<'a> = (String, Box<dyn Method>, Vec<User<'a>>, usize);

/// Exits behind a quarter, half and three quarters of the layers, and the end: where heads would stand.
fn exits(network: &Network) -> Vec<Exit> {
    let count = network.layers().len();
    let exit = |quarter: usize| Exit {
        accuracy: 0.6 + 0.05 * quarter as f64,
        answers: BTreeMap::from([(network.outputs(count * quarter / 4 - 1)[0], 4000)]),
    };
    (1..=4).map(exit).collect()
}

/// Every method about one network; exits, cores and nodes about what they are for.
fn asked<'a>(two: &'a Network, along: &'a [(Network, Links)], exits: &'a [Exit]) -> Vec<Asked<'a>> {
    let alone = User::new(two, SCENE);
    let with_exits = User {
        exits,
        // Nothing keeps it: all exits are tried.
        deadline: 1e-6,
        ..alone
    };
    let sharing: Vec<User<'_>> = (0..USERS)
        .map(|number| User {
            speed_up: &SPEED_UP,
            scene: Scene {
                rate: SCENE.rate * f64::from(1 << number),
                ..SCENE
            },
            ..alone
        })
        .collect();
    let mut all: Vec<Asked<'_>> = Vec::new();
    for name in METHODS.into_iter().filter(|name| *name != "brute force") {
        let method = || by_name(name).expect("it is in the list");
        all.push(match name {
            "Edgent" => (format!("{name}, 4 exits"), method(), vec![with_exits], 1),
            "IAO" | "threshold search" => (
                format!("{name}, {USERS} networks, {CORES} cores"),
                method(),
                sharing.clone(),
                CORES,
            ),
            // In the loop below, once for each number of nodes.
            "chain" => continue,
            _ => (name.to_owned(), method(), vec![alone], 1),
        });
    }
    for (network, links) in along {
        let user = User {
            links: Some(links),
            ..User::new(network, SCENE)
        };
        let name = format!("chain, {} nodes", network.nodes());
        all.push((name, Box::new(Chain), vec![user], 1));
    }
    let exact = || Box::new(Exact::default());
    let within: [Box<dyn Method>; 2] = [
        Box::new(Iao { within: exact() }),
        Box::new(Threshold { within: exact() }),
    ];
    // Two networks on two cores: as many times the enumeration as there are pairs of them.
    for method in within {
        let name = format!("{} over exact, 2 networks, 2 cores", method.name());
        all.push((name, method, sharing[..2].to_vec(), 2));
    }
    let loaded = User {
        scene: Scene {
            objective: Objective::Loss {
                arrivals: 1.0,
                places: 10,
                scv: 0.1,
                most: 0.01,
            },
            ..SCENE
        },
        ..alone
    };
    all.push(("exact, loss under load".into(), exact(), vec![loaded], 1));
    all
}

/// Median seconds of eleven answers.
fn seconds(method: &dyn Method, question: &Question<'_>) -> f64 {
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let begin = Instant::now();
            // A refusal would be timed as well, and be fast.
            method.solve(question).expect("it can be parted");
            begin.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[5]
}

/// Every network along so many nodes, with links between all of them.
fn along(nodes: usize) -> impl Iterator<Item = (Network, Links)> {
    let link = (SCENE.rate, 0.002);
    let networks = nets::all(nodes).into_iter();
    networks.map(move |(_, network)| {
        let pairs = vec![vec![link; nodes]; nodes];
        (network, Links { pairs })
    })
}

fn partition(c: &mut Criterion) {
    let mut told = Vec::new();
    let several = along(3).zip(along(4)).zip(along(5).zip(along(6)));
    for ((name, two), ((three, four), (five, six))) in nets::all(2).into_iter().zip(several) {
        let along = [three, four, five, six];
        let sets = DownSets::new(&two, DownSets::MOST).map(|sets| sets.count());
        println!("{name}: {} layers, {sets:?} down-sets", two.layers().len());
        let exits = exits(&two);
        for (what, method, users, cores) in asked(&two, &along, &exits) {
            let question = Question {
                users: &users,
                cores,
            };
            if name == "InceptionV3" {
                told.push((
                    what.clone(),
                    method.complexity(),
                    seconds(&*method, &question),
                ));
            }
            c.bench_function(&format!("{name}: {what}"), |b| {
                b.iter(|| method.solve(&question));
            });
        }
        c.bench_function(&format!("{name}: envelope"), |b| {
            b.iter(|| Neurosurgeon::table(&two, &SCENE, 1e4, (0.5, 4.0)));
        });
        let table = Neurosurgeon::table(&two, &SCENE, 1e4, (0.5, 4.0));
        c.bench_function(&format!("{name}: look-up"), |b| {
            b.iter(|| table.choose(SCENE.rate, 1.5));
        });
    }
    let holds = |took: f64| if took < BAR { "holds" } else { "does NOT hold" };
    for (what, complexity, took) in told {
        println!(
            "InceptionV3, {what} ({complexity}): {:.3} ms, the bar of {:.0} ms {}",
            took * 1e3,
            BAR * 1e3,
            holds(took)
        );
    }
    for (what, seconds) in grid::rows() {
        let (median, largest) = (seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
        println!(
            "InceptionV3, {} cells, {what}: median {:.3} ms, largest {:.3} ms, the bar {}",
            seconds.len(),
            median * 1e3,
            largest * 1e3,
            holds(largest)
        );
    }
}

criterion_group!(benches, partition);
criterion_main!(benches);
