//! Which queue of future events? Hold model: take the earliest out, put one in an exponential gap
//! later, with n events waiting. Expected: heaps grow with log n and miss the cache from some 10^5
//! events on; radix and calendar stay nearly flat.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand_distr::{Distribution as _, Exp1};
use splitplace_fleet::Timestamp;
use splitplace_twin::{
    Seed,
    agenda::{Queue, calendar::Calendar, heap::Heap, pairing::Pairing, radix::Radix},
};

fn hold<Q: Queue<u64> + Default>(c: &mut Criterion, name: &str, gaps: &[u64]) {
    let mut group = c.benchmark_group("hold");
    group.throughput(Throughput::Elements(1));
    for size in [10u64, 1000, 100_000, 1_000_000] {
        let mut queue = Q::default();
        for event in 0..size {
            let gap = gaps[usize::try_from(event).unwrap_or(0) % gaps.len()];
            queue.push(Timestamp::from_nanos(gap), event);
        }
        let mut at = 0;
        group.bench_function(BenchmarkId::new(name, size), |b| {
            b.iter(|| {
                let (now, event) = queue.pop().expect("events never run out");
                at = (at + 1) % gaps.len();
                queue.push(Timestamp::from_nanos(now.as_nanos() + gaps[at]), event);
                event
            });
        });
    }
}

fn queues(c: &mut Criterion) {
    let mut stream = Seed(1).stream("gaps", 0);
    let gaps: Vec<u64> = (0..65_521)
        .map(|_| {
            let gap: f64 = Exp1.sample(&mut stream);
            (gap * 1e6) as u64
        })
        .collect();
    hold::<Radix<u64>>(c, "radix", &gaps);
    hold::<Heap<u64, 2>>(c, "heap of 2", &gaps);
    hold::<Heap<u64, 4>>(c, "heap of 4", &gaps);
    hold::<Pairing<u64>>(c, "pairing", &gaps);
    hold::<Calendar<u64>>(c, "calendar", &gaps);
}

fn draws(c: &mut Criterion) {
    use rand::Rng as _;
    let mut philox = Seed(1).stream("bench", 0);
    c.bench_function("draw/philox 2x64-7", |b| b.iter(|| philox.next_u64()));
    let mut chacha = Seed(1).chacha("bench");
    c.bench_function("draw/chacha 8", |b| b.iter(|| chacha.next_u64()));
}

criterion_group!(benches, queues, draws);
criterion_main!(benches);
