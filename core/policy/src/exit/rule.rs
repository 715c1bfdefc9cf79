//! What a controller is at run time: plain numbers, small enough to be sent to the node that decides by them.
//!
//! Whoever has the records and the time solves; whoever serves has a [`Rule`]: for each of its exits
//! probabilities by confidence and by the number present here or at the next node, or "at least the exit that
//! was intended", and what a confidence is worth there.

use std::collections::BTreeMap;

use super::{
    At, ExitPolicy, ExitTable, FixedExit, Intent, Intents, Joint, MAX_PLACES, Planned, Priced,
    Thresholds, priced::Border,
};

/// What the decision at an exit looks at beside the confidence.
#[derive(Clone, Debug, PartialEq)]
pub enum Looks {
    /// Answers at the exit that was intended when service began, or behind it.
    Intent,
    /// At the number present here: stop probabilities `[bin][present]`, present from 0.
    Present(Vec<f64>),
    /// At the number present at the next node: stop probabilities `[bin][behind]`, and by bin those that hold
    /// while nothing is heard of it.
    Behind(Vec<f64>, Vec<f64>),
}

/// One exit of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleExit {
    /// Inner edges of the confidences that decisions tell apart, ascending.
    pub edges: Vec<f64>,
    /// How is decided.
    pub looks: Looks,
    /// Inner edges of the confidences that calibration tells apart.
    pub calibrated_edges: Vec<f64>,
    /// Share of correct answers by these bins.
    pub calibrated: Vec<f64>,
}

impl RuleExit {
    /// Share of correct answers that a confidence promises. O(log bins).
    #[must_use]
    pub fn promised(&self, confidence: f64) -> f64 {
        let bin = bin(&self.calibrated_edges, confidence);
        self.calibrated.get(bin).copied().unwrap_or(0.0)
    }

    fn stop(&self, at: &At, exit: usize, behind: Option<usize>) -> f64 {
        let bin = bin(&self.edges, at.confidence);
        let bins = self.edges.len() + 1;
        let read = |of: &[f64], level: usize| {
            let levels = of.len() / bins;
            let level = level.min(levels.saturating_sub(1));
            of.get(bin * levels + level).copied().unwrap_or(0.0)
        };
        match (&self.looks, behind) {
            (Looks::Intent, _) => f64::from(u8::from(exit >= usize::from(at.intent.0))),
            (Looks::Present(stop), _) => read(stop, at.present),
            (Looks::Behind(stop, _), Some(behind)) => read(stop, behind),
            (Looks::Behind(_, unheard), None) => unheard.get(bin).copied().unwrap_or(0.0),
        }
    }

    /// Whether its numbers fit each other and are probabilities.
    fn is_sound(&self) -> bool {
        let shares = |of: &[f64]| of.iter().all(|p| (0.0..=1.0).contains(p));
        let rising = |of: &[f64]| {
            shares(of) && of.windows(2).all(|pair| pair[0] <= pair[1]) && of.len() < MAX_LEVELS
        };
        let bins = self.edges.len() + 1;
        let fits = |of: &[f64]| {
            shares(of)
                && !of.is_empty()
                && of.len().is_multiple_of(bins)
                && of.len() / bins <= MAX_PLACES + 1
        };
        let looks = match &self.looks {
            Looks::Intent => true,
            Looks::Present(stop) => fits(stop),
            Looks::Behind(stop, unheard) => fits(stop) && unheard.len() == bins && shares(unheard),
        };
        rising(&self.edges)
            && rising(&self.calibrated_edges)
            && self.calibrated.len() == self.calibrated_edges.len() + 1
            && shares(&self.calibrated)
            && looks
    }
}

/// Most inner edges of an exit.
const MAX_LEVELS: usize = 256;

/// A controller's part on one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Whose rule it is.
    pub name: &'static str,
    /// Exits of the network before this node's first.
    pub first: usize,
    /// This node's exits in order. The network's end is not among them.
    pub exits: Vec<RuleExit>,
    /// What is intended when a service begins, by number present from 1; empty when nothing is.
    pub intents: Vec<Intents>,
}

impl Rule {
    /// Rule of a name that is known, with numbers that fit; `None` for others.
    #[must_use]
    pub fn checked(self) -> Option<Self> {
        let is_sound = self.exits.iter().all(RuleExit::is_sound)
            && self.exits.len() < super::MAX_EXITS
            && self.intents.len() <= MAX_PLACES;
        is_sound.then_some(self)
    }

    /// Probability of answering at an exit of this node (counted along the network), with so many present at the
    /// next node. 0 for exits that it does not know. O(log bins).
    #[must_use]
    pub fn stop(&self, at: &At, behind: Option<usize>) -> f64 {
        let local = at.exit.checked_sub(self.first);
        let exit = local.and_then(|local| self.exits.get(local));
        exit.map_or(0.0, |exit| exit.stop(at, at.exit, behind))
    }

    /// Share of correct answers that a confidence at an exit promises, if the exit is known.
    #[must_use]
    pub fn promised(&self, exit: usize, confidence: f64) -> Option<f64> {
        let exit = self.exits.get(exit.checked_sub(self.first)?)?;
        Some(exit.promised(confidence))
    }

    /// For exits `first..` of the network, each deciding by what `looks` says.
    pub(super) fn over(
        name: &'static str,
        table: &ExitTable,
        exits: std::ops::Range<usize>,
        mut looks: impl FnMut(usize) -> (Vec<f64>, Looks),
    ) -> Self {
        let first = exits.start;
        let of = |exit: usize| {
            let (edges, looks) = looks(exit);
            let bins = table.bins(exit);
            RuleExit {
                edges,
                looks,
                calibrated_edges: bins.edges.clone(),
                calibrated: bins.correct.clone(),
            }
        };
        Self {
            name,
            first,
            exits: exits.map(of).collect(),
            intents: Vec::new(),
        }
    }
}

fn bin(edges: &[f64], confidence: f64) -> usize {
    edges.partition_point(|&edge| edge <= confidence)
}

/// Controllers that are solved beforehand and can be written down as rules for one station.
pub trait Written {
    /// The rule for a network; its last exit needs none.
    fn rule(&self, table: &ExitTable) -> Rule;
}

impl Written for FixedExit {
    fn rule(&self, table: &ExitTable) -> Rule {
        let looks = |_| (Vec::new(), Looks::Intent);
        Rule {
            intents: vec![self.intents(1)],
            ..Rule::over(self.name(), table, 0..table.last(), looks)
        }
    }
}

impl Written for Planned {
    fn rule(&self, table: &ExitTable) -> Rule {
        let looks = |_| (Vec::new(), Looks::Intent);
        Rule {
            intents: self.by_present().to_vec(),
            ..Rule::over(self.name(), table, 0..table.last(), looks)
        }
    }
}

impl Written for Thresholds {
    fn rule(&self, table: &ExitTable) -> Rule {
        let looks = |exit: usize| match self.of().get(exit).filter(|&&at| at <= 1.0) {
            Some(&at) => (vec![at.max(0.0)], Looks::Present(vec![0.0, 1.0])),
            None => (Vec::new(), Looks::Present(vec![0.0])),
        };
        Rule::over(self.name(), table, 0..table.last(), looks)
    }
}

impl Written for Joint {
    fn rule(&self, table: &ExitTable) -> Rule {
        let stops = self.table();
        let looks = |exit: usize| {
            let edges = stops.edges(exit).to_vec();
            (edges, Looks::Present(stops.rows(exit)))
        };
        Rule::over(self.name(), table, 0..table.last(), looks)
    }
}

impl Priced {
    /// The rule of each node of the line, with `table` for what confidences promise.
    #[must_use]
    pub fn rules(&self, table: &ExitTable) -> Vec<Rule> {
        let ends = |node: usize| match node + 1 < self.len() {
            true => self.first_exit(node + 1),
            // The network's end needs no decision.
            false => table.last(),
        };
        let of = |node: usize| {
            let exits = self.first_exit(node)..ends(node);
            Rule::over("priced", table, exits, |exit| {
                match self.border(node, exit) {
                    Some(Border {
                        edges,
                        behind,
                        unheard,
                    }) => (edges, Looks::Behind(behind, unheard)),
                    None => {
                        let stops = self.table(node);
                        let edges = stops.edges(exit).to_vec();
                        (edges, Looks::Present(stops.rows(exit)))
                    }
                }
            })
        };
        (0..self.len()).map(of).collect()
    }
}

impl ExitPolicy for Rule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn intents(&self, present: usize) -> Intents {
        let last = self.intents.len().saturating_sub(1);
        let at = present.saturating_sub(1).min(last);
        let none = Intents::one(Intent(u16::MAX));
        self.intents.get(at).copied().unwrap_or(none)
    }

    fn stop(&self, at: &At) -> f64 {
        Self::stop(self, at, None)
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([
            ("first-exit".into(), super::real(self.first)),
            ("exits".into(), super::real(self.exits.len())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use splitplace_queueing::Arrivals;

    use super::*;
    use crate::exit::{Station, backlog::backlog, on_table, single, synthetic::Synthetic};

    fn network() -> ExitTable {
        let made = Synthetic {
            inputs: 600,
            ..Synthetic::default()
        };
        let records = made.records().unwrap();
        records.table(made.stages().unwrap(), 6).unwrap()
    }

    #[test]
    fn a_written_rule_decides_as_its_controller_does() {
        let table = network();
        let station = Station {
            arrivals: Arrivals::poisson(1.5 / table.mean(table.last())).unwrap(),
            capacity: 7,
            target: 0.02,
        };
        let joint = Joint::new(&table, &station).unwrap();
        let thresholds = Thresholds::new(vec![0.9, 1.01, 0.7]);
        let queueing = single::queueing(&table, &station).unwrap();
        let by_backlog = backlog(&table, &station).unwrap();
        let last = FixedExit::last();
        let pairs: [(&dyn ExitPolicy, Rule); 5] = [
            (&joint, joint.rule(&table)),
            (&thresholds, thresholds.rule(&table)),
            (&queueing, queueing.rule(&table)),
            (&by_backlog, by_backlog.rule(&table)),
            (&last, last.rule(&table)),
        ];
        for (policy, rule) in pairs {
            let rule = rule.checked().unwrap();
            assert_eq!(rule.name, policy.name());
            for present in 1..=7 {
                assert_eq!(rule.intents(present), policy.intents(present));
                for exit in 0..table.last() {
                    for percent in 0..=100u32 {
                        let at = At {
                            exit,
                            confidence: f64::from(percent) / 100.0,
                            present,
                            intent: policy.intents(present).of()[0].0,
                        };
                        assert_eq!(ExitPolicy::stop(&rule, &at), policy.stop(&at), "{at:?}");
                    }
                }
            }
            let (as_rule, itself) = (
                on_table(&rule, &table, &station).unwrap(),
                on_table(policy, &table, &station).unwrap(),
            );
            assert!((as_rule.loss - itself.loss).abs() < 1e-12);
            assert!((as_rule.accuracy - itself.accuracy).abs() < 1e-12);
        }
    }

    #[test]
    fn what_does_not_fit_is_no_rule() {
        let table = network();
        let good = Thresholds::new(vec![0.9]).rule(&table);
        assert!(good.clone().checked().is_some());
        let mut bad = good.clone();
        bad.exits[0].looks = Looks::Present(vec![0.0, 1.5]);
        assert!(bad.clone().checked().is_none());
        bad.exits[0].looks = Looks::Present(vec![0.0, 1.0, 0.5]);
        assert!(bad.clone().checked().is_none());
        bad.exits[0].looks = Looks::Behind(vec![0.0, 1.0], vec![1.0]);
        assert!(bad.clone().checked().is_none());
        let mut bad = good;
        bad.exits[0].calibrated.pop();
        assert!(bad.checked().is_none());
    }

    #[test]
    fn an_exit_that_is_not_here_never_answers() {
        let rule = Thresholds::new(vec![0.0]).rule(&network());
        let at = At {
            exit: 99,
            confidence: 1.0,
            present: 1,
            intent: Intent(0),
        };
        assert_eq!(rule.stop(&at, None), 0.0);
        assert_eq!(rule.promised(99, 1.0), None);
    }
}
