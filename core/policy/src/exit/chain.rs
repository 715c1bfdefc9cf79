//! A station seen at the ends of stages: how its queue moves while a stage runs.
//!
//! A *row* is a measure over states (m present, phase i of the arrivals), `m = 0..=K`, at index
//! `m · phases + i`.

use splitplace_queueing::{Arrivals, Service, Stage};

use super::{ExitError, Station, real};

/// The stages of a network at a station.
#[derive(Clone, Debug)]
pub struct Chain {
    stages: Vec<Stage>,
    arrivals: Arrivals,
    capacity: usize,
    phases: usize,
}

/// What a stage cost a row on the average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passage {
    /// Requests turned away.
    pub lost: f64,
    /// Request-seconds spent at the station.
    pub area: f64,
}

/// What things cost, in correct answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    /// A request that is turned away.
    pub lost: f64,
    /// A request that is present for a second.
    pub present: f64,
    /// A second of the station.
    pub time: f64,
}

impl Chain {
    /// For these stages and this station.
    ///
    /// # Errors
    /// When the station makes no sense.
    pub fn new(stages: &[Service], station: &Station) -> Result<Self, ExitError> {
        station.check()?;
        let of = |service| Stage::new(&station.arrivals, service, station.capacity);
        Ok(Self {
            stages: stages.iter().map(of).collect::<Result<_, _>>()?,
            arrivals: station.arrivals,
            capacity: station.capacity,
            phases: station.arrivals.phases(),
        })
    }

    /// Places.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Phases of the arrivals.
    #[must_use]
    pub const fn phases(&self) -> usize {
        self.phases
    }

    /// Number of stages.
    #[must_use]
    pub fn exits(&self) -> usize {
        self.stages.len()
    }

    /// Length of a row.
    #[must_use]
    pub const fn width(&self) -> usize {
        (self.capacity + 1) * self.phases
    }

    /// Index of a state.
    #[must_use]
    pub const fn at(&self, present: usize, phase: usize) -> usize {
        present * self.phases + phase
    }

    /// Adds to `to` where a row is after a stage. O(K² phases²).
    pub fn advance(&self, stage: usize, from: &[f64], to: &mut [f64]) -> Passage {
        let stage = &self.stages[stage];
        let mut passage = Passage::default();
        for present in 0..=self.capacity {
            let room = self.capacity - present;
            for i in 0..self.phases {
                let mass = from[self.at(present, i)];
                if mass <= 0.0 {
                    continue;
                }
                passage.lost += mass * stage.lost(i, room);
                passage.area += mass * (real(present) * stage.mean() + stage.area(i, room));
                let first = self.at(present, 0);
                let moves = stage.arrivals(i, room);
                for (x, p) in to[first..].iter_mut().zip(moves) {
                    *x += mass * p;
                }
                for j in 0..self.phases {
                    to[self.at(self.capacity, j)] += mass * stage.fill(i, room, j);
                }
            }
        }
        passage
    }

    /// Expected value after a stage, from each state, less what the stage costs. O(K² phases²).
    pub fn expect(&self, stage: usize, costs: &Costs, after: &[f64], before: &mut [f64]) {
        let stage = &self.stages[stage];
        for present in 0..=self.capacity {
            let room = self.capacity - present;
            for i in 0..self.phases {
                let area = real(present) * stage.mean() + stage.area(i, room);
                let mut value = -costs.lost * stage.lost(i, room)
                    - costs.present * area
                    - costs.time * stage.mean();
                let (first, moves) = (self.at(present, 0), stage.arrivals(i, room));
                value += moves
                    .iter()
                    .zip(&after[first..])
                    .map(|(p, v)| p * v)
                    .sum::<f64>();
                for j in 0..self.phases {
                    value += stage.fill(i, room, j) * after[self.at(self.capacity, j)];
                }
                before[self.at(present, i)] = value;
            }
        }
    }

    /// Adds to `starts` where the next service begins when a request leaves from each state of `row`: one fewer
    /// present, or the next arrival when none is left.
    pub fn depart(&self, row: &[f64], starts: &mut [f64]) {
        for present in 1..=self.capacity {
            for i in 0..self.phases {
                let mass = row[self.at(present, i)];
                if present > 1 {
                    starts[self.at(present - 1, i)] += mass;
                } else {
                    let (_, share) = self.arrivals.next(i);
                    for j in 0..self.phases {
                        starts[self.at(1, j)] += mass * share[j];
                    }
                }
            }
        }
    }

    /// The value of leaving from each state, when `starts` values the beginnings of services; the mean idle
    /// time costs `gain` a second.
    pub fn departing(&self, starts: &[f64], gain: f64, values: &mut [f64]) {
        for i in 0..self.phases {
            values[self.at(0, i)] = 0.0;
            let (time, share) = self.arrivals.next(i);
            let next: f64 = (0..self.phases)
                .map(|j| share[j] * starts[self.at(1, j)])
                .sum();
            values[self.at(1, i)] = if gain == 0.0 {
                next
            } else {
                next - gain * time
            };
            for present in 2..=self.capacity {
                values[self.at(present, i)] = starts[self.at(present - 1, i)];
            }
        }
    }

    /// Adds to `time`, by number present, how long a row spends with so many during a stage, in seconds.
    pub fn sojourn(&self, stage: usize, from: &[f64], time: &mut [f64]) {
        let stage = &self.stages[stage];
        for present in 0..=self.capacity {
            let room = self.capacity - present;
            for i in 0..self.phases {
                let mass = from[self.at(present, i)];
                if mass <= 0.0 {
                    continue;
                }
                // Time with at least c arrivals so far.
                let at_least = |c: usize| match c {
                    0 => stage.mean(),
                    c => stage.area(i, c) - stage.area(i, c - 1),
                };
                for k in 0..room {
                    time[present + k] += mass * (at_least(k) - at_least(k + 1)).max(0.0);
                }
                time[self.capacity] += mass * at_least(room).max(0.0);
            }
        }
    }

    /// Mean time until the next arrival when the station was left empty in a phase, in seconds.
    #[must_use]
    pub fn idle(&self, phase: usize) -> f64 {
        self.arrivals.next(phase).0
    }

    /// Mean length of a stage, in seconds.
    #[must_use]
    pub fn mean(&self, stage: usize) -> f64 {
        self.stages[stage].mean()
    }
}

/// The law that a Markov chain keeps, by Grassmann, Taksar and Heyman's elimination: no subtraction, so
/// every share is right to all its digits. `moves` is n × n, row by row. O(n³).
#[must_use]
pub fn stationary(mut moves: Vec<f64>, n: usize) -> Vec<f64> {
    for last in (1..n).rev() {
        let out: f64 = moves[last * n..last * n + last].iter().sum();
        if out <= 0.0 {
            continue;
        }
        for i in 0..last {
            moves[i * n + last] /= out;
        }
        for i in 0..last {
            let share = moves[i * n + last];
            if share > 0.0 {
                for j in 0..last {
                    moves[i * n + j] += share * moves[last * n + j];
                }
            }
        }
    }
    let mut law = vec![0.0; n];
    law[0] = 1.0;
    for last in 1..n {
        let closed = moves[last * n..last * n + last].iter().sum::<f64>() <= 0.0;
        let into: f64 = (0..last).map(|i| law[i] * moves[i * n + last]).sum();
        if closed && into > 0.0 {
            // Everything ends here and never leaves to what lies before.
            law.iter_mut().for_each(|p| *p = 0.0);
            law[last] = 1.0;
        } else {
            law[last] = if closed { 0.0 } else { into };
        }
    }
    let total: f64 = law.iter().sum();
    law.iter_mut().for_each(|p| *p /= total);
    law
}

/// Solves `A x = b` by elimination with pivots; `None` when A is singular. `a` is n × n, row by row. O(n³).
#[must_use]
pub fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for column in 0..n {
        let pivot = (column..n)
            .max_by(|&i, &j| a[i * n + column].abs().total_cmp(&a[j * n + column].abs()))?;
        if a[pivot * n + column].abs() < 1e-300 {
            return None;
        }
        if pivot != column {
            for k in 0..n {
                a.swap(pivot * n + k, column * n + k);
            }
            b.swap(pivot, column);
        }
        for row in column + 1..n {
            let factor = a[row * n + column] / a[column * n + column];
            if factor != 0.0 {
                for k in column..n {
                    a[row * n + k] -= factor * a[column * n + k];
                }
                b[row] -= factor * b[column];
            }
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| a[row * n + k] * b[k]).sum();
        b[row] = (b[row] - known) / a[row * n + row];
    }
    b.iter().all(|x| x.is_finite()).then_some(b)
}
