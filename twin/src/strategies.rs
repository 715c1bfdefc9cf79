//! Every strategy by name: those of formulas alone, the learned ones and the one that simulates.

use splitplace_plan::{Annealing, Exact, Greedy, Integer, Random, Responses, Strategy};

use crate::{placement::Proven, surrogate::Descent};

/// Names that [`by_name`] knows, the usual one first.
pub const STRATEGIES: [&str; 9] = [
    "exact",
    "responses",
    "proven",
    "annealing",
    "integer",
    "gobi",
    "daso",
    "greedy",
    "random",
];

/// The strategy of that name, with what it takes by default; `None` when there is none.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Strategy>> {
    Some(match name {
        "exact" => Box::new(Exact),
        "responses" => Box::new(Responses::default()),
        "proven" => Box::new(Proven::default()),
        "annealing" => Box::new(Annealing::default()),
        "integer" => Box::new(Integer::default()),
        "gobi" => Box::new(Descent::gobi()),
        "daso" => Box::new(Descent::daso()),
        "greedy" => Box::new(Greedy),
        "random" => Box::new(Random),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_the_strategy_that_has_it() {
        for name in STRATEGIES {
            assert_eq!(by_name(name).map(|strategy| strategy.name()), Some(name));
        }
        assert!(by_name("luck").is_none());
    }
}
