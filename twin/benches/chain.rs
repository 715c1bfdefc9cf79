//! How many events a second? A chain of five queues, and how that grows with the fleet. The bar is 5
//! million a second on one core. Expected: 60 to 110 ns for an event's way through the agenda, 10 to 30
//! for the draw, a few for the queue: 7 to 12 million a second, less when the stations leave the cache.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use splitplace_fleet::Timestamp;
use splitplace_twin::{
    Law, Seed,
    arrivals::Process,
    network::{Chain, Discipline, Network, StationSpec, Step, Tally, Until, run},
};

/// `chains` chains over five stations each, at a load of 0.8.
fn network(chains: usize, discipline: Discipline, law: &Law) -> Network {
    let steps = |chain: usize| {
        (0..5).map(move |step| Step {
            over: None,
            station: chain * 5 + step,
            service: law.clone(),
        })
    };
    Network {
        stations: vec![
            StationSpec {
                discipline,
                ..StationSpec::in_order(20)
            };
            chains * 5
        ],
        wires: Vec::new(),
        chains: (0..chains)
            .map(|chain| Chain {
                arrivals: Process::Poisson { rate: 80.0 },
                steps: steps(chain).collect(),
                back: None,
                promise: Duration::from_millis(100),
            })
            .collect(),
    }
}

fn chain(c: &mut Criterion) {
    let mut group = c.benchmark_group("events");
    group.sample_size(10);
    let constant = Law::constant(0.01).expect("a law");
    let gamma = Law::gamma(0.01, 0.3).expect("a law");
    let cases = [
        ("in order, constant", Discipline::InOrder, &constant),
        ("in order, gamma", Discipline::InOrder, &gamma),
        (
            "earliest deadline, gamma",
            Discipline::EarliestDeadline,
            &gamma,
        ),
        ("sharing, gamma", Discipline::Sharing, &gamma),
    ];
    for (name, discipline, law) in cases {
        for chains in [1, 100, 10_000] {
            if chains != 1 && discipline != Discipline::InOrder {
                continue;
            }
            let network = network(chains, discipline, law);
            let until = Until {
                time: Timestamp::MAX,
                arrivals: 200_000,
            };
            let go = || {
                let mut tally = Tally::new(chains, Duration::ZERO);
                run(&network, Seed(1), until, &mut tally).events
            };
            group.throughput(Throughput::Elements(go()));
            let id = BenchmarkId::new(name, format!("{} stations", chains * 5));
            group.bench_function(id, |b| b.iter(go));
        }
    }
}

criterion_group!(benches, chain);
criterion_main!(benches);
