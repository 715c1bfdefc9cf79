//! The decision process of one station: follow a table forwards, value it, improve it.
//!
//! State at a decision: exit e just computed, confidence bin b, m present, and the phase of the arrivals, which the
//! controller does not see. Inside a service decisions form a tree; beginnings of service form a Markov chain.
//! A *level* is all states of one exit: a row for each bin, one after another.
//!
//! Rewards are averaged per service, or per second (`timed`): per service they are the constrained problem of one
//! station, whose served rate is fixed by its loss; per second they let stations of a line, whose arrivals
//! depend on each other, be compared.

use super::{
    ExitTable, StopTable,
    chain::{Chain, Costs, solve, stationary},
};

/// Rounds of policy iteration.
const ROUNDS: usize = 24;

/// A station with some exits of a network.
#[derive(Debug)]
pub(crate) struct Process<'a> {
    pub(crate) network: &'a ExitTable,
    /// The stages to the exits that are here.
    pub(crate) chain: Chain,
    /// The first exit that is here.
    pub(crate) first: usize,
    /// The last exit that is here.
    pub(crate) last: usize,
    /// Share of the bins at the first exit.
    pub(crate) entry: Vec<f64>,
    /// By bin of the last exit: what leaving there is worth.
    pub(crate) leave: Vec<f64>,
    /// Whether rewards are averaged over time.
    pub(crate) timed: bool,
}

/// One table, followed forwards: by the state in which a service begins.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) reward: Vec<f64>,
    pub(crate) lost: Vec<f64>,
    area: Vec<f64>,
    time: Vec<f64>,
    moves: Vec<f64>,
    /// How often a service begins in each state.
    pub(crate) law: Vec<f64>,
}

impl Run {
    pub(crate) fn mean(&self, of: &[f64]) -> f64 {
        of.iter().zip(&self.law).map(|(x, p)| x * p).sum()
    }

    /// Share of the arrivals that is lost.
    pub(crate) fn loss(&self) -> f64 {
        let lost = self.mean(&self.lost);
        lost / (1.0 + lost)
    }

    fn net(&self, state: usize, costs: &Costs) -> f64 {
        self.reward[state] - costs.lost * self.lost[state] - costs.present * self.area[state]
    }
}

/// A table with its run and values.
#[derive(Clone, Debug)]
pub(crate) struct Solution {
    pub(crate) table: StopTable,
    pub(crate) run: Run,
    /// Average reward less costs, per service or per second.
    pub(crate) gain: f64,
}

/// Values behind a greedy table.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    /// Of beginning a service, as a row.
    pub(crate) starts: Vec<f64>,
    /// By exit that is here, after it is computed: a level.
    pub(crate) levels: Vec<Vec<f64>>,
    /// By exit but the last: before the stage to the next exit, a row for each bin.
    pub(crate) before: Vec<Vec<f64>>,
}

impl Process<'_> {
    pub(crate) fn states(&self) -> usize {
        self.chain.capacity() * self.chain.phases()
    }

    fn bins(&self, exit: usize) -> usize {
        self.network.bins(exit).share.len()
    }

    /// Levels just after each exit, before anything stops, from a measure over beginnings. Calls `level` with
    /// the exit and its rows, which it leaves as what goes on, and `stage` with the exit that a stage
    /// leads to and each row that enters it.
    pub(crate) fn forwards(
        &self,
        start: &[f64],
        mut level: impl FnMut(usize, &mut [f64]),
        mut stage: impl FnMut(usize, usize, &[f64]),
    ) -> (f64, f64, f64) {
        let width = self.chain.width();
        let mut rows = start.to_vec();
        let (mut lost, mut area, mut time) = (0.0, 0.0, 0.0);
        let mut moved = vec![0.0; width];
        for exit in self.first..=self.last {
            let mut next = vec![0.0; self.bins(exit) * width];
            for (from, row) in rows.chunks(width).enumerate() {
                let mass: f64 = row.iter().sum();
                if mass <= 0.0 {
                    continue;
                }
                stage(exit, from, row);
                moved.fill(0.0);
                let passage = self.chain.advance(exit - self.first, row, &mut moved);
                lost += passage.lost;
                area += passage.area;
                time += mass * self.chain.mean(exit - self.first);
                let shares = if exit == self.first {
                    &self.entry
                } else {
                    &self.network.bins(exit - 1).next[from]
                };
                for (row, p) in next.chunks_mut(width).zip(shares) {
                    row.iter_mut().zip(&moved).for_each(|(x, m)| *x += p * m);
                }
            }
            level(exit, &mut next);
            rows = next;
        }
        (lost, area, time)
    }

    fn stops(&self, table: &StopTable, exit: usize, bin: usize, present: usize) -> f64 {
        if exit == self.last {
            1.0
        } else {
            table.get(exit, bin, present)
        }
    }

    fn worth(&self, exit: usize, bin: usize) -> f64 {
        if exit == self.last {
            self.leave[bin]
        } else {
            self.network.bins(exit).correct[bin]
        }
    }

    pub(crate) fn run(&self, table: &StopTable) -> Run {
        let (width, phases, n) = (self.chain.width(), self.chain.phases(), self.states());
        let mut run = Run {
            reward: vec![0.0; n],
            lost: vec![0.0; n],
            area: vec![0.0; n],
            time: vec![0.0; n],
            moves: vec![0.0; n * n],
            law: Vec::new(),
        };
        let mut left = vec![0.0; width];
        for state in 0..n {
            let mut start = vec![0.0; width];
            start[state + phases] = 1.0;
            let mut starts = vec![0.0; width];
            let (mut reward, mut idle) = (0.0, 0.0);
            let stop = |exit: usize, level: &mut [f64]| {
                left.fill(0.0);
                for (bin, row) in level.chunks_mut(width).enumerate() {
                    let worth = self.worth(exit, bin);
                    for (at, mass) in row.iter_mut().enumerate() {
                        let stopped = *mass * self.stops(table, exit, bin, at / phases);
                        left[at] += stopped;
                        reward += stopped * worth;
                        *mass -= stopped;
                    }
                }
                if self.timed {
                    let empty = (0..phases).map(|i| left[phases + i] * self.chain.idle(i));
                    idle += empty.sum::<f64>();
                }
                self.chain.depart(&left, &mut starts);
            };
            let (lost, area, time) = self.forwards(&start, stop, |_, _, _| {});
            run.reward[state] = reward;
            run.lost[state] = lost;
            run.area[state] = area;
            run.time[state] = if self.timed { time + idle } else { 1.0 };
            run.moves[state * n..(state + 1) * n].copy_from_slice(&starts[phases..]);
        }
        run.law = stationary(run.moves.clone(), n);
        run
    }

    /// Average reward less costs of a table.
    pub(crate) fn gain(&self, run: &Run, costs: &Costs) -> f64 {
        let net: Vec<f64> = (0..self.states())
            .map(|state| run.net(state, costs))
            .collect();
        run.mean(&net) / run.mean(&run.time)
    }

    /// Policy iteration; the best round.
    pub(crate) fn improve(&self, costs: &Costs, from: StopTable) -> Solution {
        let mut table = from;
        let run = self.run(&table);
        let mut best = Solution {
            gain: self.gain(&run, costs),
            table: table.clone(),
            run,
        };
        let mut run = best.run.clone();
        let mut gain = best.gain;
        for _ in 0..ROUNDS {
            let Some(starts) = self.starts(&run, costs) else {
                break;
            };
            let (better, _) = self.greedy(starts, gain, costs, &table, &run);
            if better == table {
                break;
            }
            table = better;
            run = self.run(&table);
            gain = self.gain(&run, costs);
            if gain > best.gain + 1e-13 * (1.0 + gain.abs()) {
                best = Solution {
                    table: table.clone(),
                    run: run.clone(),
                    gain,
                };
            } else if self.chain.phases() == 1 {
                break;
            }
        }
        best
    }

    /// The values behind a table, with decisions that are best for them.
    pub(crate) fn values(&self, solution: &Solution, costs: &Costs) -> Option<Values> {
        let starts = self.starts(&solution.run, costs)?;
        let run = &solution.run;
        Some(
            self.greedy(starts, solution.gain, costs, &solution.table, run)
                .1,
        )
    }

    /// Relative values of beginning a service: `h = r - gain · time + P h`, `h[0] = 0`.
    fn starts(&self, run: &Run, costs: &Costs) -> Option<Vec<f64>> {
        let n = self.states();
        let mut a: Vec<f64> = run.moves.iter().map(|p| -p).collect();
        let mut b = Vec::with_capacity(n);
        for state in 0..n {
            a[state * n + state] += 1.0;
            // h[0] is 0, so its column stands for the gain.
            a[state * n] = run.time[state];
            b.push(run.net(state, costs));
        }
        let mut h = solve(a, b)?;
        h[0] = 0.0;
        Some(h)
    }

    /// The table that is best when later services have the values h, and the values on the way.
    fn greedy(
        &self,
        h: Vec<f64>,
        gain: f64,
        costs: &Costs,
        now: &StopTable,
        run: &Run,
    ) -> (StopTable, Values) {
        let (width, phases) = (self.chain.width(), self.chain.phases());
        let mut better = now.clone();
        let mut starts = vec![0.0; width];
        starts[phases..].copy_from_slice(&h);
        let gain = if self.timed { gain } else { 0.0 };
        let costs = Costs {
            time: costs.time + gain,
            ..*costs
        };
        let mut leaving = vec![0.0; width];
        self.chain.departing(&starts, gain, &mut leaving);
        let weights = (phases > 1).then(|| self.weights(now, run));
        let (mut levels, mut before) = (Vec::new(), Vec::new());
        // Values before the stage behind the exit at hand.
        let mut behind: Vec<f64> = Vec::new();
        for exit in (self.first..=self.last).rev() {
            let mut level = vec![0.0; self.bins(exit) * width];
            for (bin, row) in level.chunks_mut(width).enumerate() {
                for present in 1..=self.chain.capacity() {
                    let states = self.chain.at(present, 0)..self.chain.at(present + 1, 0);
                    let stop = |at: usize| self.worth(exit, bin) + leaving[at];
                    if behind.is_empty() {
                        states.for_each(|at| row[at] = stop(at));
                        continue;
                    }
                    let go = |at: usize| behind[bin * width + at];
                    let weigh = |at: usize| {
                        let level = weights.as_ref().map(|w| &w[exit - self.first]);
                        level.map_or(1.0, |level| level[bin * width + at])
                    };
                    let edge: f64 = states
                        .clone()
                        .map(|at| weigh(at) * (stop(at) - go(at)))
                        .sum();
                    better.set(exit, bin, present, if edge >= 0.0 { 1.0 } else { 0.0 });
                    states.for_each(|at| row[at] = if edge >= 0.0 { stop(at) } else { go(at) });
                }
            }
            if exit > self.first {
                // Over the stage to this exit, from each bin of the one before.
                behind = vec![0.0; self.bins(exit - 1) * width];
                for (from, slot) in behind.chunks_mut(width).enumerate() {
                    let shares = &self.network.bins(exit - 1).next[from];
                    self.over(exit, &costs, shares, &level, slot);
                }
                before.push(behind.clone());
            }
            levels.push(level);
        }
        levels.reverse();
        before.reverse();
        let values = Values {
            starts,
            levels,
            before,
        };
        (better, values)
    }

    /// Values before the stage to an exit, when its bins come with these shares.
    pub(crate) fn over(
        &self,
        exit: usize,
        costs: &Costs,
        shares: &[f64],
        level: &[f64],
        before: &mut [f64],
    ) {
        let width = self.chain.width();
        let mut mixed = vec![0.0; width];
        for (row, p) in level.chunks(width).zip(shares) {
            mixed.iter_mut().zip(row).for_each(|(x, v)| *x += p * v);
        }
        self.chain.expect(exit - self.first, costs, &mixed, before);
    }

    /// How often each state is visited under a table, by exit; where never, the long-run share of the phases.
    fn weights(&self, table: &StopTable, run: &Run) -> Vec<Vec<f64>> {
        let (width, phases) = (self.chain.width(), self.chain.phases());
        let mut start = vec![0.0; width];
        start[phases..].copy_from_slice(&run.law);
        let share: Vec<f64> = (0..phases)
            .map(|i| run.law.iter().skip(i).step_by(phases).sum())
            .collect();
        let mut weights = Vec::with_capacity(self.last - self.first + 1);
        let level = |exit: usize, level: &mut [f64]| {
            let mut seen = level.to_vec();
            for masses in seen.chunks_mut(phases) {
                if masses.iter().sum::<f64>() < 1e-14 {
                    masses.copy_from_slice(&share);
                }
            }
            weights.push(seen);
            for (bin, row) in level.chunks_mut(width).enumerate() {
                for (at, mass) in row.iter_mut().enumerate() {
                    *mass *= 1.0 - self.stops(table, exit, bin, at / phases);
                }
            }
        };
        self.forwards(&start, level, |_, _, _| {});
        weights
    }
}
