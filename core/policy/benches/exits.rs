//! How long does it take to make an exit controller, and to ask it? Expected for 11 places, 9 exits and 10 bins: a
//! round of policy iteration follows 11 beginnings through 9 levels of 10 rows of 12 states, some 250 000
//! multiplications; 5 rounds at 30 prices make 40 million, some 50 ms. Must stay below a second. A choice is a
//! search among 9 edges and one look into a table: tens of nanoseconds, must stay below a microsecond.

use criterion::{Criterion, criterion_group, criterion_main};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_policy::exit::{
    AdaEe, AdaEeSettings, At, ExitPolicy, Intent, Joint, Nested, NestedSettings, Station,
    Thresholds, backlog::backlog, data_driven, gaussian::Search, on_table, single,
    synthetic::Synthetic,
};
use splitplace_queueing::Arrivals;
use std::hint::black_box;

fn exits(c: &mut Criterion) {
    let network = Synthetic::default();
    let records = network.records().expect("records");
    let table = network.table(10).expect("a table");
    let station = |arrivals| Station {
        arrivals,
        capacity: 11,
        target: 0.01,
    };
    let poisson = station(Arrivals::poisson(5.0).expect("a rate"));
    let bursty = station(Arrivals::bursty(3.0, 2.5, 0.2, 10.0).expect("bursts"));
    let mut group = c.benchmark_group("solve for 11 places, 9 exits, 10 bins");
    group.sample_size(10);
    group.bench_function("knapsack", |b| {
        b.iter(|| single::knapsack(&table, &poisson));
    });
    group.bench_function("queueing-lp", |b| {
        b.iter(|| single::queueing(&table, &poisson));
    });
    group.bench_function("backlog-lp", |b| b.iter(|| backlog(&table, &poisson)));
    group.bench_function("joint", |b| b.iter(|| Joint::new(&table, &poisson)));
    group.bench_function("joint, bursts", |b| b.iter(|| Joint::new(&table, &bursty)));
    group.bench_function("data-driven", |b| {
        b.iter(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let model = data_driven::LossModel::Exact;
            let search = Search::default();
            data_driven::data_driven(&records, &table, &poisson, model, &search, &mut rng)
        });
    });
    let joint = Joint::new(&table, &poisson).expect("a controller");
    group.bench_function("exact evaluation", |b| {
        b.iter(|| on_table(&joint, &table, &poisson));
    });
    group.finish();

    let policies: Vec<Box<dyn ExitPolicy>> = vec![
        Box::new(Thresholds::new(vec![0.8; 8])),
        Box::new(single::knapsack(&table, &poisson).expect("a controller")),
        Box::new(backlog(&table, &poisson).expect("a controller")),
        Box::new(AdaEe::new(&table, AdaEeSettings::default())),
        Box::new(Nested::new(&table, NestedSettings::default())),
        Box::new(joint),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for policy in &policies {
        c.bench_function(&format!("{} begins", policy.name()), |b| {
            b.iter(|| policy.begin(black_box(4), &mut rng));
        });
        c.bench_function(&format!("{} chooses", policy.name()), |b| {
            let at = At {
                exit: 3,
                confidence: 0.7,
                present: 4,
                intent: Intent(4),
            };
            b.iter(|| policy.choose(black_box(&at), &mut rng));
        });
    }
}

criterion_group!(benches, exits);
criterion_main!(benches);
