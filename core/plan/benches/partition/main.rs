//! How long does it take to part the big networks? Expected: InceptionV3 has some ten thousand down-sets of some
//! two hundred layers, so a few milliseconds to list them and less to look at them; a maximum flow over some
//! four hundred places a millisecond; a look-up in the envelope well below a microsecond.

mod nets;

use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_plan::partition::{
    Exact, Heavy, Light, Method, Neurosurgeon, Objective, Scene,
    down_sets::DownSets,
    line::{Links, shortest},
};

const SCENE: Scene = Scene {
    rate: 1e7 / 8.0,
    delay: 0.005,
    load: 1.0,
    objective: Objective::Latency,
};

fn partition(c: &mut Criterion) {
    let under_load = Scene {
        objective: Objective::Loss {
            arrivals: 1.0,
            places: 10,
            scv: 0.1,
            most: 0.01,
        },
        ..SCENE
    };
    for (name, network) in nets::all(2) {
        let sets = DownSets::new(&network, DownSets::MOST).map(|sets| sets.sets().len());
        println!(
            "{name}: {} layers, {sets:?} down-sets",
            network.layers().len()
        );
        let methods: [&dyn Method; 4] =
            [&Neurosurgeon, &Light, &Heavy::default(), &Exact::default()];
        for method in methods {
            c.bench_function(&format!("{name}: {}", method.name()), |b| {
                b.iter(|| method.choose(&network, &SCENE));
            });
        }
        c.bench_function(&format!("{name}: exact, loss under load"), |b| {
            b.iter(|| Exact::default().choose(&network, &under_load));
        });
        c.bench_function(&format!("{name}: envelope"), |b| {
            b.iter(|| Neurosurgeon::table(&network, &SCENE, 1e4, (0.5, 4.0)));
        });
        let table = Neurosurgeon::table(&network, &SCENE, 1e4, (0.5, 4.0));
        c.bench_function(&format!("{name}: look-up"), |b| {
            b.iter(|| table.choose(SCENE.rate, 1.5));
        });
    }
    let link = (SCENE.rate, 0.002);
    let links = Links {
        pairs: vec![vec![link; 3]; 3],
    };
    for (name, network) in nets::all(3) {
        // A refusal would be timed as well, and be fast.
        let walk = shortest(&network, &links, 3).expect("links and nodes belong together");
        println!("{name}: {} stops", walk.stops.len());
        c.bench_function(&format!("{name}: three nodes"), |b| {
            b.iter(|| shortest(&network, &links, 3));
        });
    }
}

criterion_group!(benches, partition);
criterion_main!(benches);
