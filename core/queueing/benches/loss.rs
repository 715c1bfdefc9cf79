//! What does an exact loss cost? Expected for 20 places and five constant parts: 5 exponentials, some 200
//! terms of Poisson laws, 200 multiplications of the recursion and a few allocations: about a microsecond.
//! Must stay below five.

use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_queueing::{Arrivals, Service, Stage, exact, two_moment};
use std::hint::black_box;

fn loss(c: &mut Criterion) {
    let parts = [0.4, 0.7, 1.0, 1.6, 2.5].map(|s| Service::constant(s).map(|s| (0.2, s)));
    let parts = parts.map(|part| part.expect("a time"));
    let mixed = Service::mix(&parts).expect("a mixture");
    c.bench_function("exact loss, 20 places, five-way mixture", |b| {
        b.iter(|| exact::loss(black_box(0.7), &mixed, 20));
    });
    c.bench_function(
        "exact occupancy and response, 20 places, five-way mixture",
        |b| {
            b.iter(|| exact::solve(black_box(0.7), &mixed, 20));
        },
    );
    c.bench_function("loss by two moments", |b| {
        b.iter(|| two_moment::loss(black_box(0.7), 0.5, 20));
    });
    let bursts = Arrivals::bursty(0.7, 3.0, 0.2, 20.0).expect("bursts");
    c.bench_function("a stage under bursts, 20 places", |b| {
        b.iter(|| Stage::new(black_box(&bursts), &mixed, 20));
    });
}

criterion_group!(benches, loss);
criterion_main!(benches);
