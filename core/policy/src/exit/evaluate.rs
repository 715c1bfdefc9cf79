//! What a controller achieves at a station, computed without drawing a single number.
//!
//! Seen at the beginnings of services the number present (with the phase of the arrivals) is a Markov chain,
//! whatever the controller does, because its decisions depend on nothing older. One pass over the exits from each
//! state gives the next state, what is lost meanwhile, what is answered correctly, and the time that
//! requests spend; the chain's steady state weighs them.
//!
//! Inputs come either from a table (confidence bins that follow each other as a Markov chain) or from records,
//! each input as likely as any other: then the answer is exact for those inputs, with no bins in between.

use super::{
    At, ExitError, ExitPolicy, ExitTable, Intent, Station,
    chain::{Chain, stationary},
    real,
};

/// What a controller achieves in the long run.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Share of correct answers among the served.
    pub accuracy: f64,
    /// Share of arrivals turned away.
    pub loss: f64,
    /// Mean time from arrival to answer of the served, in seconds.
    pub response: f64,
    /// Mean time in service of the served, in seconds.
    pub service: f64,
    /// Share of the served that leave at each exit.
    pub exits: Vec<f64>,
    /// P(n present when a service begins), `n = 1..=K`, from index 0.
    pub starts: Vec<f64>,
}

impl Evaluation {
    /// Mean exit of the served, from 0.
    #[must_use]
    pub fn mean_exit(&self) -> f64 {
        self.exits
            .iter()
            .enumerate()
            .map(|(e, p)| real(e) * p)
            .sum()
    }

    /// Share of correct answers among all arrivals.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        (1.0 - self.loss) * self.accuracy
    }
}

/// What happens in one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Cycle {
    pub(super) starts: Vec<f64>,
    pub(super) lost: f64,
    pub(super) area: f64,
    service: f64,
    pub(super) correct: f64,
    exits: Vec<f64>,
}

impl Cycle {
    pub(super) fn new(chain: &Chain) -> Self {
        Self {
            starts: vec![0.0; chain.width()],
            exits: vec![0.0; chain.exits()],
            ..Self::default()
        }
    }

    /// Moves a row over a stage.
    pub(super) fn pass(&mut self, chain: &Chain, stage: usize, row: &[f64], moved: &mut [f64]) {
        let passage = chain.advance(stage, row, moved);
        self.lost += passage.lost;
        self.area += passage.area;
        self.service += row.iter().sum::<f64>() * chain.mean(stage);
    }

    /// Takes what a controller stops at an exit out of `row`.
    pub(super) fn stop(
        &mut self,
        chain: &Chain,
        row: &mut [f64],
        left: &mut [f64],
        answer: (usize, f64),
        stops: impl Fn(usize) -> f64,
    ) {
        let (exit, accuracy) = answer;
        left.fill(0.0);
        for present in 1..=chain.capacity() {
            let masses = chain.at(present, 0)..chain.at(present + 1, 0);
            if row[masses.clone()].iter().all(|mass| *mass <= 0.0) {
                continue;
            }
            let p = stops(present).clamp(0.0, 1.0);
            for at in masses {
                let stopped = row[at] * p;
                left[at] = stopped;
                row[at] -= stopped;
                self.exits[exit] += stopped;
                self.correct += stopped * accuracy;
            }
        }
        chain.depart(left, &mut self.starts);
    }
}

/// The long run of a controller on inputs of a table, which it sees by the middle of each bin.
/// O(K · exits · (bins · K² + bins² · K) · phases³).
///
/// # Errors
/// When the station makes no sense.
pub fn on_table(
    policy: &dyn ExitPolicy,
    table: &ExitTable,
    station: &Station,
) -> Result<Evaluation, ExitError> {
    let chain = Chain::new(table.stages(), station)?;
    let phases = chain.phases();
    let cycle = |state: usize| {
        let mut cycle = Cycle::new(&chain);
        let present = state / phases + 1;
        for &(intent, p) in policy.intents(present).of() {
            let mut start = vec![0.0; chain.width()];
            start[chain.at(present, state % phases)] = p;
            table_cycle(policy, table, &chain, intent, start, &mut cycle);
        }
        cycle
    };
    let cycles: Vec<Cycle> = (0..chain.capacity() * phases).map(cycle).collect();
    Ok(settle(&chain, &cycles).0)
}

fn table_cycle(
    policy: &dyn ExitPolicy,
    table: &ExitTable,
    chain: &Chain,
    intent: Intent,
    start: Vec<f64>,
    cycle: &mut Cycle,
) {
    let width = chain.width();
    let mut rows = vec![start];
    let mut left = vec![0.0; width];
    for exit in 0..table.exits() {
        let bins = table.bins(exit);
        let mut next = vec![vec![0.0; width]; bins.share.len()];
        for (before, row) in rows.iter().enumerate() {
            let mass: f64 = row.iter().sum();
            if mass <= 0.0 {
                continue;
            }
            let mut moved = vec![0.0; width];
            cycle.pass(chain, exit, row, &mut moved);
            let shares = if exit == 0 {
                &bins.share
            } else {
                &table.bins(exit - 1).next[before]
            };
            for (to, &p) in next.iter_mut().zip(shares) {
                if p > 0.0 {
                    to.iter_mut().zip(&moved).for_each(|(to, x)| *to += p * x);
                }
            }
        }
        for (bin, row) in next.iter_mut().enumerate() {
            let confidence = bins.middle(bin);
            cycle.stop(
                chain,
                row,
                &mut left,
                (exit, bins.correct[bin]),
                |present| {
                    let at = At {
                        exit,
                        confidence,
                        present,
                        intent,
                    };
                    if exit == table.last() {
                        1.0
                    } else {
                        policy.stop(&at)
                    }
                },
            );
        }
        rows = next;
    }
}

/// Weighs the cycles from every state by how often it begins a service.
pub(super) fn settle(chain: &Chain, cycles: &[Cycle]) -> (Evaluation, Vec<f64>) {
    let phases = chain.phases();
    let n = chain.capacity() * phases;
    let mut moves = Vec::with_capacity(n * n);
    for cycle in cycles {
        // States begin with one request present.
        moves.extend_from_slice(&cycle.starts[phases..]);
    }
    let law = stationary(moves, n);
    let mean = |of: &dyn Fn(&Cycle) -> f64| -> f64 {
        cycles.iter().zip(&law).map(|(c, p)| p * of(c)).sum()
    };
    let lost = mean(&|c| c.lost);
    let exits = (0..chain.exits()).map(|e| mean(&|c| c.exits[e])).collect();
    let evaluation = Evaluation {
        accuracy: mean(&|c| c.correct),
        loss: lost / (1.0 + lost),
        response: mean(&|c| c.area),
        service: mean(&|c| c.service),
        exits,
        starts: law
            .chunks(phases)
            .map(|masses| masses.iter().sum())
            .collect(),
    };
    (evaluation, law)
}
