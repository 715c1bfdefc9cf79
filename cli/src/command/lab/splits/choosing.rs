//! How long choosing took, by network and method.

use super::grid::Network;

/// Seconds of processor over all cells.
#[derive(Clone, Debug)]
pub(super) struct Choosing {
    pub(super) network: String,
    pub(super) method: &'static str,
    /// How it is expected to grow.
    pub(super) complexity: &'static str,
    pub(super) median: f64,
    pub(super) largest: f64,
}

/// All of them, in the order of the cells' rows.
pub(super) fn all(networks: &[Network]) -> Vec<Choosing> {
    let mut all = Vec::new();
    for network in networks {
        let Some(first) = network.cells.first() else {
            continue;
        };
        let choices = first.choices.iter().map(|one| (one.method, one.complexity));
        let sharing = first.shared.iter().map(|one| (one.method, one.complexity));
        for (method, complexity) in choices.chain(sharing) {
            // A baseline that is given takes no choosing.
            if method == "server, tensor" {
                continue;
            }
            let cells = network.cells.iter();
            let mut took: Vec<f64> = cells
                .flat_map(|cell| {
                    let choices = cell.choices.iter().map(|one| (one.method, one.choosing));
                    let sharing = cell.shared.iter().map(|one| (one.method, one.choosing));
                    choices.chain(sharing)
                })
                .filter(|(name, _)| *name == method)
                .map(|(_, took)| took)
                .collect();
            took.sort_by(f64::total_cmp);
            all.push(Choosing {
                network: network.name.clone(),
                method,
                complexity,
                median: took[took.len() / 2],
                largest: took[took.len() - 1],
            });
        }
    }
    all
}
