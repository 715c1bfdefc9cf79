//! Fragments run one after another against the whole model, for every shape of graph.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use splitplace_graph::Element;
use splitplace_onnx::{
    Fragment, Imported, Limits, Model, Package, Prepared, Value, cut_layers, cut_many, import,
    prepare,
};

const MODELS: [&str; 8] = [
    "residual",
    "dense",
    "squeeze-excite",
    "grouped",
    "external",
    "inception",
    "transformer",
    "several",
];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/testdata")
}

fn load(name: &str) -> Imported {
    let limits = Limits::default();
    let model = Model::open(&testdata().join(format!("{name}.onnx")), &limits).unwrap();
    import(model, &limits).unwrap()
}

/// Reproducible numbers between -1 and 1.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f64::from(state).mul_add(2.0 / f64::from(u32::MAX), -1.0) as f32
        })
        .collect()
}

fn inputs(prepared: &Prepared, samples: usize) -> Vec<Value> {
    (0u32..)
        .zip(&prepared.inputs)
        .map(|(seed, port)| {
            assert_eq!(port.element, Element::F32);
            let count = port.shape.iter().product::<u64>() as usize * samples;
            let bytes: Vec<u8> = noise(count, seed + 1)
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect();
            let mut shape = port.shape.clone();
            shape[0] *= samples as u64;
            Value {
                name: port.name.clone(),
                element: port.element,
                shape,
                chunks: vec![bytes.into()],
            }
        })
        .collect()
}

fn floats(value: &Value) -> Vec<f32> {
    let bytes = value.chunks.concat();
    bytes
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// Runs the fragments by name, as a chain of nodes would, and returns the model's outputs.
fn run_chain(fragments: &[Fragment], given: &[Value], outputs: &[String]) -> Vec<Value> {
    let limits = Limits::default();
    let mut known: BTreeMap<String, Value> = given
        .iter()
        .map(|value| (value.name.clone(), value.clone()))
        .collect();
    for fragment in fragments {
        let prepared = prepare("fragment", fragment.onnx.clone(), &limits).unwrap();
        let wanted: Vec<Value> = fragment
            .inputs
            .iter()
            .map(|port| {
                known
                    .get(&port.name)
                    .expect("a fragment before it made this")
                    .clone()
            })
            .collect();
        for value in prepared.run(&wanted).unwrap() {
            known.insert(value.name.clone(), value);
        }
    }
    outputs.iter().map(|name| known[name].clone()).collect()
}

fn difference(a: &[Value], b: &[Value]) -> f32 {
    let (mut most, mut scale) = (0f32, 1e-6f32);
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.shape, b.shape);
        for (x, y) in floats(a).into_iter().zip(floats(b)) {
            assert!(x.is_finite() && y.is_finite());
            most = most.max((x - y).abs());
            scale = scale.max(x.abs());
        }
    }
    most / scale
}

#[test]
fn every_cut_of_every_model_changes_nothing() {
    for name in MODELS {
        let from = load(name);
        let whole = splitplace_onnx::engine::prepare_model(&from.model).unwrap();
        let given = inputs(&whole, 2);
        let expected = whole.run(&given).unwrap();
        let singles = from.graph.single_cuts();
        let mut multis = from.graph.multi_cuts(40, 8);
        multis.retain(|cut| from.is_runnable(cut));
        assert!(!singles.is_empty(), "{name} can be cut");
        assert!(name == "several" || name == "grouped" || name == "external" || !multis.is_empty());
        for cut in singles.iter().chain(&multis) {
            let before = cut.before.iter().copied().collect();
            let after = (0..from.graph.layers().len())
                .filter(|k| !cut.before.contains(k))
                .collect();
            let fragments = [
                cut_layers(&from, &before, 0, 2).unwrap(),
                cut_layers(&from, &after, 1, 2).unwrap(),
            ];
            let found = run_chain(&fragments, &given, &from.model.outputs);
            let difference = difference(&expected, &found);
            assert!(
                difference < 1e-5,
                "{name} cut at {:?}: {difference}",
                cut.outlets
            );
        }
    }
}

#[test]
fn a_chain_of_all_segments_changes_nothing_and_holds_each_weight_once() {
    for name in MODELS {
        let from = load(name);
        let chain = from.graph.chain();
        let fragments: Vec<_> = (0..chain.len())
            .map(|k| cut_layers(&from, &chain.layers(k..k + 1).collect(), k, chain.len()).unwrap())
            .collect();
        let whole = splitplace_onnx::engine::prepare_model(&from.model).unwrap();
        let given = inputs(&whole, 3);
        let found = run_chain(&fragments, &given, &from.model.outputs);
        assert!(
            difference(&whole.run(&given).unwrap(), &found) < 1e-5,
            "{name}"
        );
        let held: u64 = fragments
            .iter()
            .map(|fragment| fragment.parameter_bytes)
            .sum();
        assert_eq!(
            held,
            from.graph.parameter_bytes(0..from.graph.layers().len())
        );
        // The same cut gives the same bytes.
        let again = cut_layers(&from, &chain.layers(0..1).collect(), 0, chain.len()).unwrap();
        assert_eq!(again.id, fragments[0].id);
    }
}

#[test]
fn a_fragment_is_a_model_that_can_be_imported_and_cut_again() {
    let from = load("residual");
    let chain = from.graph.chain();
    let half = cut_layers(&from, &chain.layers(0..chain.len() / 2).collect(), 0, 2).unwrap();
    let limits = Limits::default();
    let model = Model::from_bytes("half", half.onnx, &limits).unwrap();
    let keys: Vec<_> = model
        .proto
        .metadata_props
        .iter()
        .map(|p| p.key.clone())
        .collect();
    assert!(keys.contains(&"splitplace.model_sha256".to_owned()));
    let again = import(model, &limits).unwrap();
    assert!(again.model.is_batched);
    assert!(again.graph.chain().len() > 1);
}

#[test]
fn cuts_are_named_by_their_tensors_and_mistakes_are_explained() {
    let from = load("residual");
    let name = |k: usize| {
        let cut = &from.graph.single_cuts()[k];
        from.graph.outlet(cut.outlets[0]).name.clone()
    };
    let fragments = cut_many(&from, &[vec![name(1)], vec![name(3)]]).unwrap();
    assert_eq!(fragments.len(), 3);
    let text = |cuts: &[Vec<String>]| cut_many(&from, cuts).unwrap_err().to_string();
    assert!(text(&[vec!["nothing".into()]]).contains("no tensor 'nothing'"));
    assert!(text(&[vec![name(3)], vec![name(1)]]).contains("behind"));
    let branch = from.graph.multi_cuts(40, 8)[0].outlets.clone();
    let one = from.graph.outlet(branch[1]).name.clone();
    assert!(text(&[vec![one]]).contains("would cross as well"));
}

#[test]
fn costs_are_what_the_formulas_say() {
    let from = load("grouped");
    let macs: BTreeMap<_, _> = from
        .graph
        .layers()
        .iter()
        .filter(|layer| layer.macs > 0)
        .map(|layer| (layer.operator.clone(), layer.macs))
        .collect();
    // 16 x 8 x 8 outputs of 4 channels by 3 x 3 for both large convolutions; then 8 x 4 x 4 of 16.
    assert_eq!(macs["Gemm"], 6 * 128);
    let all: u64 = from.graph.macs(0..from.graph.layers().len());
    assert_eq!(all, 2 * (16 * 64 * 4 * 9) + 8 * 16 * 16 + 6 * 128);
    let parameters = from.graph.parameter_bytes(0..from.graph.layers().len());
    assert_eq!(
        parameters,
        4 * ((4 * 9 * 16 + 16) * 2 + 16 * 8 + 8 + 128 * 6 + 6)
    );
}

#[test]
fn the_engine_says_what_does_not_fit() {
    let from = load("several");
    let prepared = splitplace_onnx::engine::prepare_model(&from.model).unwrap();
    let given = inputs(&prepared, 2);
    assert!(
        prepared
            .run(&given[..1])
            .unwrap_err()
            .to_string()
            .contains("missing")
    );
    let mut short = given.clone();
    short[0].chunks[0].truncate(20);
    assert!(
        prepared
            .run(&short)
            .unwrap_err()
            .to_string()
            .contains("no multiple")
    );
    let mut other = given.clone();
    other[1].chunks[0].truncate(16);
    assert!(
        prepared
            .run(&other)
            .unwrap_err()
            .to_string()
            .contains("samples")
    );
    // Pieces of any size are put together.
    let mut pieces = given.clone();
    let whole = pieces[0].chunks[0].clone();
    pieces[0].chunks = (0..whole.len())
        .step_by(5)
        .map(|k| whole.slice(k..(k + 5).min(whole.len())))
        .collect();
    assert_eq!(
        prepared.run(&given).unwrap(),
        prepared.run(&pieces).unwrap()
    );
}

#[test]
fn integers_are_served_as_integers() {
    let limits = Limits::default();
    let package = Package::open(&testdata().join("../packages/simple"), &limits).unwrap();
    let content = package.variants[0].parts[0].content.clone();
    let prepared = prepare("simple", content, &limits).unwrap();
    let value = |name: &str, first: i32| Value {
        name: name.into(),
        element: Element::I32,
        shape: vec![2, 16],
        chunks: vec![
            (first..first + 32)
                .flat_map(i32::to_le_bytes)
                .collect::<Vec<u8>>()
                .into(),
        ],
    };
    let out = prepared
        .run(&[value("INPUT0", 10), value("INPUT1", 3)])
        .unwrap();
    let numbers = |value: &Value| -> Vec<i32> {
        value
            .chunks
            .concat()
            .chunks(4)
            .map(|b| i32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    assert_eq!(
        numbers(&out[0]),
        (0..32).map(|k| 13 + 2 * k).collect::<Vec<_>>()
    );
    assert_eq!(numbers(&out[1]), vec![7; 32]);
}

#[test]
fn every_cut_that_is_listed_can_be_named() {
    for name in MODELS {
        let from = load(name);
        let graph = &from.graph;
        let mut cuts = graph.single_cuts();
        cuts.extend(graph.multi_cuts(64, 4));
        for cut in cuts.iter().filter(|cut| from.is_runnable(cut)) {
            let names: Vec<String> = cut
                .outlets
                .iter()
                .map(|&id| graph.outlet(id).name.clone())
                .collect();
            let fragments = cut_many(&from, std::slice::from_ref(&names));
            let fragments = fragments.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(fragments.len(), 2, "{name} at {names:?}");
            let crossing: Vec<&str> = fragments[1]
                .inputs
                .iter()
                .map(|port| port.name.as_str())
                .collect();
            for tensor in crossing {
                let is_input = graph
                    .inputs()
                    .iter()
                    .any(|&id| graph.outlet(id).name == tensor);
                assert!(
                    is_input || names.iter().any(|n| n == tensor),
                    "{name}: {tensor}"
                );
            }
        }
    }
}
