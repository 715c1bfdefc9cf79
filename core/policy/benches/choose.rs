//! How long does a choice take? Expected: a few comparisons and one small allocation, so well below a
//! microsecond.

use std::{collections::BTreeMap, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_plan::ArmKind;
use splitplace_policy::{ArmView, Context, NAMES, by_name};

fn choose(c: &mut Criterion) {
    let arm = |name, kind| ArmView {
        name,
        kind,
        accuracy: 0.9,
        predicted: Duration::from_millis(10),
    };
    let arms = [
        arm("a", ArmKind::Chain),
        arm("b", ArmKind::Whole),
        arm("c", ArmKind::Semantic),
    ];
    let sla = Duration::from_millis(20);
    let context = Context {
        model: "m",
        sla,
        slack: sla,
    };
    for name in NAMES {
        let policy = by_name(name, &BTreeMap::new()).expect("a known name");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        c.bench_function(&format!("{name} chooses among 3 arms"), |b| {
            b.iter(|| policy.choose(&context, &arms, &mut rng));
        });
    }
}

criterion_group!(benches, choose);
criterion_main!(benches);
