//! Planned chains, run hop by hop with the real engine, answer what the whole network answers.

use std::path::Path;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_onnx::{Limits, Value, engine};

use super::*;
use crate::{
    catalog::Catalog,
    store::{MemoryStore, Store, StoreLimits},
};

fn values(loaded: &Loaded, rng: &mut ChaCha8Rng) -> Vec<Value> {
    let inputs = loaded.package().inputs.iter();
    inputs
        .map(|input| {
            let shape: Vec<u64> = input
                .shape
                .iter()
                .map(|&dim| dim.max(1).unsigned_abs())
                .collect();
            let count = shape.iter().product::<u64>();
            let data: Vec<u8> = match input.element {
                splitplace_graph::Element::F32 => (0..count)
                    .flat_map(|_| rng.random_range(-1.0..1.0f32).to_le_bytes())
                    .collect(),
                element => vec![1; (count * element.bytes()) as usize],
            };
            Value {
                name: input.name.clone(),
                element: input.element,
                shape,
                chunks: vec![data.into()],
            }
        })
        .collect()
}

/// What a worker does at one hop: runs the fragment on what arrived, hands on what it is told to.
fn hop(fragment: &Fragment, arrived: &[Value], forward: &[String]) -> Vec<Value> {
    let prepared = engine::prepare("a hop", fragment.onnx.clone(), &Limits::default()).unwrap();
    let taken: Vec<_> = fragment
        .inputs
        .iter()
        .map(|port| {
            arrived
                .iter()
                .find(|value| value.name == port.name)
                .unwrap()
                .clone()
        })
        .collect();
    let made = prepared.run(&taken).unwrap();
    let find = |name: &String| {
        let mut there = made.iter().chain(arrived);
        there.find(|value| value.name == *name).unwrap().clone()
    };
    forward.iter().map(find).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    let bytes = value.chunks.concat();
    let floats = bytes
        .chunks(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()));
    floats.collect()
}

#[test]
fn planned_chains_of_every_test_model_answer_like_the_whole() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let folders = ["testdata", "packages"].map(|folder| models.join(folder));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(StoreLimits::default()));
    let catalog = Catalog::new(folders.to_vec(), store, LoadSettings::default());
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut longest = 0;
    for listing in catalog.list().unwrap() {
        let loaded = Arc::new(catalog.load(&listing.name).unwrap());
        let mut world = World::new(&[
            ("a", 50.0, 90_000),
            ("b", 50.0, 90_000),
            ("c", 50.0, 90_000),
            ("d", 50.0, 90_000),
        ]);
        world.wishes = vec![Wish::new(Arc::clone(&loaded))];
        world.wishes[0].arms.remove(&ArmKind::Semantic);
        // A rate that keeps one node busy makes longer chains.
        let idle = world.plan();
        let alone = idle.plan.models[&listing.name].arms[0].branches[0].hops[0].service;
        world.wishes[0].load.rate_per_second = 0.9 / alone.as_secs_f64();
        let output = world.plan();
        let arms = output.plan.models[&listing.name].arms.iter();
        // Others answer otherwise, and every exact variant like itself.
        let exact =
            |arm: &&ArmPlan| arm.kind.is_exact() && arm.variant == loaded.variants()[0].name;
        let arms: Vec<_> = arms.filter(exact).collect();
        let inputs = values(&loaded, &mut rng);
        let mut answers = Vec::new();
        for arm in &arms {
            let [route] = &arm.branches[..] else {
                panic!("{}: {arm:?}", listing.name);
            };
            let mut tensors = inputs.clone();
            for step in &route.hops {
                tensors = hop(&output.fragments[&step.fragment], &tensors, &step.forward);
            }
            answers.push(tensors);
        }
        let is_cut = loaded.variants()[0].parts[0].segments() > 1;
        assert_eq!(answers.len(), 1 + usize::from(is_cut), "{}", listing.name);
        longest = longest.max(arms.last().map_or(0, |arm| arm.branches[0].hops.len()));
        for answer in &answers[1..] {
            assert_eq!(answer.len(), answers[0].len());
            for (one, other) in answer.iter().zip(&answers[0]) {
                assert_eq!((&one.name, &one.shape), (&other.name, &other.shape));
                for (a, b) in floats(one).iter().zip(&floats(other)) {
                    assert!(
                        (a - b).abs() <= 1e-5 * b.abs().max(1.0),
                        "{}: {a} {b}",
                        listing.name
                    );
                }
            }
        }
    }
    assert!(longest > 2, "{longest}");
}

#[test]
fn a_network_with_long_skips_is_cut_where_several_tensors_cross_and_answers_like_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("skips.onnx"),
        sample::network_with_skips(4, 10, 5),
    )
    .unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(StoreLimits::default()));
    let folders = vec![folder.path().to_owned()];
    let catalog = Catalog::new(folders, store, LoadSettings::default());
    let loaded = Arc::new(catalog.load(&"skips".into()).unwrap());
    let part = &loaded.variants()[0].parts[0];
    let widths: Vec<usize> = (0..=part.segments())
        .map(|cut| part.crossing(cut).len())
        .collect();
    assert_eq!(widths.iter().max(), Some(&4), "{widths:?}");
    let mut world = World::new(&[("a", 50.0, 90_000), ("b", 50.0, 90_000)]);
    world.wishes = vec![Wish::new(Arc::clone(&loaded))];
    let inputs = values(&loaded, &mut ChaCha8Rng::seed_from_u64(3));
    let mut answers = Vec::new();
    for cut in 1..part.segments() {
        let pin = ArmPin {
            cuts: Some(BTreeSet::from([cut])),
            ..ArmPin::default()
        };
        world.wishes[0].pins = BTreeMap::from([("base/chain".to_owned(), pin)]);
        let output = world.plan();
        for arm in &output.plan.models[&ModelName::new("skips")].arms {
            let [route] = &arm.branches[..] else {
                panic!("{arm:?}");
            };
            let mut tensors = inputs.clone();
            for step in &route.hops {
                tensors = hop(&output.fragments[&step.fragment], &tensors, &step.forward);
            }
            answers.push(floats(&tensors[0]));
        }
    }
    assert_eq!(answers.len(), 2 * (part.segments() - 1));
    for answer in &answers[1..] {
        for (a, b) in answer.iter().zip(&answers[0]) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} {b}");
        }
    }
}
