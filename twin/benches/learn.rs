//! What a step of training costs, and a judgement: the graph network on 32 drawn systems, as `twin train` takes them,
//! and on one, as a search does. Expected: 280 000 multiplications and additions a system and round forwards, three
//! times that with the way back, so some 5 million operations a system: 0.1 ms at 50 a nanosecond, where the
//! products are large enough; the residual kind pays for the formulas besides. The published network does 9 million for
//! the forward way alone, with eight rounds of 64 columns: ten times ours.

use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_twin::{
    Seed,
    chainnet::{ChainNet, Judge, Kind, Published, System},
};

fn learn(c: &mut Criterion) {
    let systems: Vec<System> = (0..32)
        .map(|number| System::draw(Seed(1), number).labelled(1000, Seed(2)))
        .collect();
    let all: Vec<&System> = systems.iter().collect();
    for kind in Kind::ALL {
        let net = ChainNet::shipped(kind).expect("it is shipped");
        let label = kind.label();
        c.bench_function(&format!("{label}: a step on 32 systems"), |b| {
            b.iter(|| net.learn(&all));
        });
        c.bench_function(&format!("{label}: a judgement of one"), |b| {
            b.iter(|| net.predict(&all[..1]));
        });
    }
    let file = include_bytes!("../tests/data/chainnet-published/model.pth");
    let published = Published::read(file).expect("it is as published");
    c.bench_function("published: a judgement of one", |b| {
        b.iter(|| published.ratios(&systems[0], Seed(0)));
    });
}

criterion_group!(benches, learn);
criterion_main!(benches);
