//! What it costs to come as far as an exit.

use std::collections::BTreeSet;

use splitplace_graph::{Graph, OutletId};

/// One exit of a network, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitCost {
    /// Positions of the layers that it and the exits before it need.
    pub layers: BTreeSet<usize>,
    /// Multiply-accumulates of them for one sample.
    pub macs: u64,
    /// Multiply-accumulates of the layers that nothing but this exit needs: its head.
    pub head_macs: u64,
}

/// Costs of exits that lie one behind the other, the network's end last. O(exits · (V + E)).
#[must_use]
pub fn costs(graph: &Graph, exits: &[OutletId]) -> Vec<ExitCost> {
    let alone: Vec<BTreeSet<usize>> = exits.iter().map(|&exit| needed(graph, exit)).collect();
    let sum = |layers: &mut dyn Iterator<Item = usize>| {
        layers.fold(0u64, |sum, at| sum.saturating_add(graph.layers()[at].macs))
    };
    let mut so_far = BTreeSet::new();
    let mut costs = Vec::with_capacity(exits.len());
    for (number, own) in alone.iter().enumerate() {
        so_far.extend(own.iter().copied());
        let is_shared = |layer: &usize| {
            let mut others = alone
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != number);
            others.any(|(_, needs)| needs.contains(layer))
        };
        costs.push(ExitCost {
            macs: sum(&mut so_far.iter().copied()),
            head_macs: sum(&mut own.iter().copied().filter(|layer| !is_shared(layer))),
            layers: so_far.clone(),
        });
    }
    costs
}

/// Positions of the layers that an outlet is made from.
fn needed(graph: &Graph, outlet: OutletId) -> BTreeSet<usize> {
    let mut layers = BTreeSet::new();
    let mut queue: Vec<usize> = graph.outlet(outlet).producer.into_iter().collect();
    while let Some(layer) = queue.pop() {
        if layers.insert(layer) {
            let inputs = graph.layers()[layer].inputs.iter();
            queue.extend(inputs.filter_map(|&input| graph.outlet(input).producer));
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use splitplace_graph::{Element, LayerSpec, OutletSpec};

    use super::*;

    #[test]
    fn an_exit_costs_the_trunk_before_it_and_all_heads_so_far() {
        // x -> a -> b -> end; a -> first, b -> second.
        let outlet = |name: &str| OutletSpec {
            name: name.into(),
            element: Element::F32,
            shape: vec![1],
        };
        let layer = |input: &str, output: &str, macs| LayerSpec {
            name: output.into(),
            operator: "Any".into(),
            macs,
            parameter_bytes: 0,
            inputs: vec![input.into()],
            outputs: vec![output.into()],
        };
        let outputs = ["first", "second", "end"].map(String::from);
        let graph = Graph::new(
            ["x", "a", "b", "first", "second", "end"]
                .map(outlet)
                .to_vec(),
            &["x".into()],
            &outputs,
            vec![
                layer("x", "a", 100),
                layer("a", "first", 1),
                layer("a", "b", 200),
                layer("b", "second", 2),
                layer("b", "end", 400),
            ],
        )
        .unwrap();
        let exits: Vec<_> = outputs
            .iter()
            .map(|name| graph.find(name).unwrap())
            .collect();
        let costs = costs(&graph, &exits);
        let macs: Vec<_> = costs
            .iter()
            .map(|cost| (cost.macs, cost.head_macs))
            .collect();
        assert_eq!(macs, [(101, 1), (303, 2), (703, 400)]);
    }
}
