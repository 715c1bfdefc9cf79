//! The list of down-sets against looking at every set of layers.

use std::collections::BTreeMap;

use splitplace_plan::partition::{Refused, down_sets::DownSets};

use crate::drawn::Lot;

#[test]
fn the_list_has_every_down_set_once_with_what_crosses_and_how_to_get_there() {
    for case in 0..200 {
        let mut lot = Lot::new(case);
        let layers = 1 + lot.number(11);
        let network = lot.network(layers, 2);
        let every = (0u32..1 << layers)
            .map(|set| -> Vec<bool> { (0..layers).map(|layer| set >> layer & 1 == 1).collect() });
        let every: Vec<Vec<bool>> = every.filter(|set| network.is_down_set(set)).collect();
        let sets = DownSets::new(&network, DownSets::MOST).unwrap();
        assert_eq!(sets.count(), every.len(), "case {case}");
        let listed = (0..sets.count()).map(|number| (sets.first(number, layers), number));
        let listed: BTreeMap<Vec<bool>, usize> = listed.collect();
        for set in &every {
            let number = listed[set];
            assert_eq!(sets.crossing(number), network.crossing(set), "case {case}");
            let made = network.tensors().iter();
            let back = made.filter(|tensor| tensor.producer.is_some_and(|layer| !set[layer]));
            assert_eq!(
                sets.back(number),
                back.map(|tensor| tensor.back).sum::<u64>()
            );
            // Every layer whose absence leaves a down-set is a step that leads here.
            let mut steps: Vec<(usize, usize)> = Vec::new();
            for layer in (0..layers).filter(|&layer| set[layer]) {
                let mut smaller = set.clone();
                smaller[layer] = false;
                steps.extend(listed.get(&smaller).map(|&from| (from, layer)));
            }
            steps.sort_unstable();
            let mut found = sets.from(number).to_vec();
            assert!(found.is_sorted());
            found.sort_unstable();
            assert_eq!(found, steps, "case {case}");
        }
        let most = every.len() - 1;
        assert_eq!(
            DownSets::new(&network, most).err(),
            Some(Refused::Wide(most))
        );
    }
}
