//! Edgent (Li, Zhou, Chen, "Edge intelligence", MECOMM 2018): exit and cut together, under a deadline.
//!
//! Exits are tried from the most accurate on; of each the best cut of what it needs is found by any [`Method`]. The
//! first whose latency keeps the deadline is taken. Where none does, the fastest is, and says so.

use std::collections::BTreeMap;

use super::{Choice, Method, Network, NetworkError, Refused, Scene};

/// Where a request may leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Share of correct answers of those that leave here.
    pub accuracy: f64,
    /// Its scores: tensor, and bytes that go back to the device.
    pub answers: BTreeMap<usize, u64>,
}

/// An exit with its cut.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitChoice {
    /// Number of the exit.
    pub exit: usize,
    /// The layers that run, by their number in the whole network; what the cut counts by.
    pub layers: Vec<usize>,
    /// Their cut.
    pub choice: Choice,
    /// Whether the deadline is kept.
    pub holds: bool,
}

/// What each exit needs, made once for many scenes.
#[derive(Clone, Debug)]
pub struct Exits {
    /// By falling accuracy: number, its layers as a network of their own, their numbers in the whole.
    parts: Vec<(usize, Network, Vec<usize>)>,
}

/// A rate from which on an exit and cut are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Bytes a second.
    pub rate: f64,
    /// What is chosen there.
    pub choice: ExitChoice,
}

impl Exits {
    /// O(exits · size).
    ///
    /// # Errors
    /// [`NetworkError`], when an exit needs no layer or its tensor is none.
    pub fn new(network: &Network, exits: &[Exit]) -> Result<Self, NetworkError> {
        let mut parts = Vec::with_capacity(exits.len());
        for (number, exit) in exits.iter().enumerate() {
            let (part, layers) = network.up_to(&exit.answers)?;
            parts.push((number, part, layers));
        }
        let accuracy = |part: &(usize, Network, Vec<usize>)| exits[part.0].accuracy;
        parts.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a)).then(b.0.cmp(&a.0)));
        Ok(Self { parts })
    }

    /// The most accurate exit whose best cut keeps `deadline` seconds by the scene's latency under its
    /// arrivals; the fastest exit when none does. Exits times the method.
    ///
    /// # Errors
    /// As the method's; [`Refused::Scene`] when there is no exit.
    pub fn choose(
        &self,
        method: &dyn Method,
        scene: &Scene,
        deadline: f64,
    ) -> Result<ExitChoice, Refused> {
        let mut fastest: Option<(f64, ExitChoice)> = None;
        for (exit, network, layers) in &self.parts {
            let choice = method.choose(network, scene)?;
            let (_, seconds) = scene.queued(&choice.stages);
            let holds = seconds <= deadline && choice.worth.excess <= 0.0;
            let chosen = ExitChoice {
                exit: *exit,
                layers: layers.clone(),
                choice,
                holds,
            };
            if holds {
                return Ok(chosen);
            }
            if fastest.as_ref().is_none_or(|(least, _)| seconds < *least) {
                fastest = Some((seconds, chosen));
            }
        }
        fastest.map(|(_, chosen)| chosen).ok_or(Refused::Scene)
    }

    /// Edgent's configuration map: what is chosen at each of these rates, neighbours with the same exit and cut
    /// once, by rising rate. Rates times [`Exits::choose`].
    ///
    /// # Errors
    /// As [`Exits::choose`].
    pub fn map(
        &self,
        method: &dyn Method,
        scene: &Scene,
        deadline: f64,
        rates: &[f64],
    ) -> Result<Vec<Entry>, Refused> {
        let mut rates = rates.to_vec();
        rates.sort_by(f64::total_cmp);
        let mut map: Vec<Entry> = Vec::new();
        for rate in rates {
            let scene = Scene { rate, ..*scene };
            let choice = self.choose(method, &scene, deadline)?;
            let is_same = map.last().is_some_and(|last| {
                let last = &last.choice;
                let cut = (&last.choice.first, &last.choice.sent);
                last.exit == choice.exit && cut == (&choice.choice.first, &choice.choice.sent)
            });
            if !is_same {
                map.push(Entry { rate, choice });
            }
        }
        Ok(map)
    }
}
