//! Cuts of random graphs against the definition, tried on every set of layers.

use proptest::prelude::*;

use super::*;
use crate::graph::{Element, GraphError, LayerSpec, OutletSpec};

/// A graph from the list of each layer's inputs: 0 is the graph's input, k the output of layer k - 1.
fn graph(layers: &[Vec<usize>], outputs: &[usize]) -> Result<Graph, GraphError> {
    let name = |k: usize| format!("t{k}");
    let outlets = (0..=layers.len())
        .map(|k| OutletSpec {
            name: name(k),
            element: Element::F32,
            shape: vec![1, 1 + k as u64 % 3],
        })
        .collect();
    let specs = layers
        .iter()
        .enumerate()
        .map(|(k, inputs)| LayerSpec {
            name: format!("l{k}"),
            operator: "Op".into(),
            macs: 1 + k as u64,
            parameter_bytes: 4,
            inputs: inputs.iter().map(|&input| name(input)).collect(),
            outputs: vec![name(k + 1)],
        })
        .collect();
    let outputs: Vec<String> = outputs.iter().map(|&k| name(k)).collect();
    Graph::new(outlets, &[name(0)], &outputs, specs)
}

/// Random layers, each fed by earlier ones; every tensor that nobody consumes is an output.
fn random() -> impl Strategy<Value = Graph> {
    proptest::collection::vec(
        proptest::collection::vec(any::<prop::sample::Index>(), 1..3),
        1..10,
    )
    .prop_map(|draws| {
        let layers: Vec<Vec<usize>> = draws
            .iter()
            .enumerate()
            .map(|(k, inputs)| inputs.iter().map(|index| index.index(k + 1)).collect())
            .collect();
        let used: BTreeSet<usize> = layers.iter().flatten().copied().collect();
        let outputs: Vec<usize> = (1..=layers.len()).filter(|k| !used.contains(k)).collect();
        graph(&layers, &outputs).unwrap()
    })
}

/// Every down-set, by trying every set of layers.
fn down_sets(graph: &Graph) -> Vec<Vec<usize>> {
    let count = graph.layers().len();
    (0u32..1 << count)
        .map(|mask| {
            (0..count)
                .filter(|k| mask >> k & 1 == 1)
                .collect::<Vec<_>>()
        })
        .filter(|set| {
            set.iter().all(|&layer| {
                graph.layers()[layer].inputs.iter().all(|&input| {
                    graph
                        .outlet(input)
                        .producer
                        .is_none_or(|producer| set.contains(&producer))
                })
            })
        })
        .collect()
}

#[test]
fn a_residual_block_can_be_cut_around_and_through() {
    // x -> a -> b -> add(a, c) with c = f(b); then d.
    let graph = graph(&[vec![0], vec![1], vec![2], vec![1, 3], vec![4]], &[5]).unwrap();
    let singles: Vec<_> = graph
        .single_cuts()
        .iter()
        .map(|cut| cut.before.len())
        .collect();
    assert_eq!(singles, [1, 4]);
    let multi = graph.multi_cuts(100, 4);
    assert!(multi.iter().all(|cut| cut.outlets.len() == 2));
    assert_eq!(multi.len(), 2);
}

#[test]
fn an_early_exit_does_not_hide_the_cuts_of_the_trunk() {
    // x -> a -> exit; a -> b -> c.
    let graph = graph(&[vec![0], vec![1], vec![1], vec![3]], &[2, 4]).unwrap();
    let cuts = graph.single_cuts();
    assert!(
        cuts.iter()
            .any(|cut| cut.outlets.len() == 1 && cut.carried.len() == 1)
    );
}

#[test]
fn what_is_wrong_with_a_graph_is_named() {
    assert_eq!(
        graph(&[vec![2], vec![1]], &[2]).unwrap_err(),
        GraphError::Cycle("l0".into())
    );
    assert_eq!(graph(&[vec![0]], &[]).unwrap_err(), GraphError::NoOutput);
    assert!(matches!(
        graph(&[vec![7]], &[1]),
        Err(GraphError::MadeByNobody { .. })
    ));
}

#[test]
fn a_thousand_wide_layers_do_not_explode() {
    let mut layers: Vec<Vec<usize>> = vec![vec![0]; 999];
    layers.push((1..1000).collect());
    let graph = graph(&layers, &[1000]).unwrap();
    assert!(graph.multi_cuts(64, 2000).len() <= 64);
    assert_eq!(graph.single_positions(), Vec::<usize>::new());
}

proptest! {
    #[test]
    fn cuts_agree_with_the_definition(graph in random()) {
        let sets = down_sets(&graph);
        let all: BTreeSet<Cut> = sets.iter().filter_map(|set| graph.cut_after(set)).collect();
        prop_assert_eq!(all.len(), sets.len());
        // A cut of one outlet, none of whose dependents lies before it.
        let wanted: BTreeSet<Cut> = all
            .iter()
            .filter(|cut| {
                let [only] = cut.outlets[..] else { return false };
                graph.outlet(only).producer.is_some()
                    && graph.outlet(only).consumers.iter().all(|k| !cut.before.contains(k))
            })
            .cloned()
            .collect();
        let found = graph.single_cuts();
        prop_assert!(found.iter().all(|cut| wanted.contains(cut)));
        let outlets = |cuts: &mut dyn Iterator<Item = &Cut>| -> BTreeSet<Vec<OutletId>> {
            cuts.map(|cut| cut.outlets.clone()).collect()
        };
        prop_assert_eq!(outlets(&mut found.iter()), outlets(&mut wanted.iter()));
        // The positions of the chain are cuts of one outlet, and all of them if there is one output.
        let positions = graph.single_positions();
        for &position in &positions {
            let cut = graph.prefix_cut(position).unwrap();
            prop_assert!(all.contains(&cut) && cut.outlets.len() == 1);
        }
        if graph.outputs().len() == 1 {
            for cut in &found {
                prop_assert!(positions.contains(&cut.before.len()));
            }
        }
        // The bounded search only finds cuts by the definition.
        for cut in graph.multi_cuts(64, 8) {
            prop_assert!(all.contains(&cut) && cut.outlets.len() > 1);
        }
    }

    #[test]
    fn a_chain_loses_nothing(graph in random(), most in 1usize..6) {
        let chain = graph.chain();
        for chain in [chain.coarsen(&graph, most), chain] {
            let layers = graph.layers().len();
            prop_assert_eq!(chain.boundaries.len(), chain.segments.len() + 1);
            prop_assert_eq!(chain.layers(0..chain.len()), 0..layers);
            let macs: u64 = chain.segments.iter().map(|segment| segment.macs).sum();
            prop_assert_eq!(macs, graph.macs(0..layers));
            let heaviest = graph.layers().iter().map(|layer| layer.activation_bytes).max().unwrap();
            let peak = chain.segments.iter().map(|segment| segment.activation_bytes).max().unwrap();
            prop_assert!(peak >= heaviest);
        }
        prop_assert!(graph.chain().coarsen(&graph, most).len() <= most.max(1));
    }
}
