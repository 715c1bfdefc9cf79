//! A line of stations that share a network: what one of them needs to know of the others.
//!
//! Node s holds some consecutive exits. At its last exit, the *border*, a request is answered or sent to node s + 1,
//! which may be full. The node's own decisions are a decision process like that of a single station; the rest
//! of the line enters it through two things only: what leaving at the border is worth, by confidence bin, and how
//! many requests come in, with which bins. Both are small, and both are here.

use splitplace_queueing::Arrivals;

use super::{
    ExitError, ExitTable, Station, StopTable,
    chain::{Chain, Costs},
    process::{Process, Solution},
    real,
    simulate::Node,
};

/// Share of the arrivals below which a node is not thought to get fewer.
const TRICKLE: f64 = 1e-6;

/// What a node offers for a request that is sent to it: all that is shared along a line. K + B numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// By number present, 0 to K: what one more request is worth to the node and all behind it, on the
    /// average over what may be sent. The last one is the price of a lost request.
    pub place: Vec<f64>,
    /// By bin at the border: how much more or less than the average it is worth.
    pub worth: Vec<f64>,
    /// By number present: share of the time.
    pub share: Vec<f64>,
}

impl Offer {
    /// For a request in that bin when so many are present.
    #[must_use]
    pub fn value(&self, bin: usize, present: usize) -> f64 {
        let full = self.place.len() - 1;
        let place = self.place[present.min(full)];
        if present >= full {
            place
        } else {
            place + self.worth[bin]
        }
    }

    /// By bin: the mean of the better of answering and sending, and how often sending is better.
    fn mean(&self, bin: usize, accuracy: f64) -> (f64, f64) {
        let (mut value, mut goes) = (0.0, 0.0);
        for (present, p) in self.share.iter().enumerate() {
            let offered = self.value(bin, present);
            value += p * offered.max(accuracy);
            goes += if offered > accuracy { *p } else { 0.0 };
        }
        (value, goes)
    }
}

/// A line: its nodes, and where each one's exits begin.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Confidences and accuracies of the whole network; its stage times are not used.
    pub network: &'a ExitTable,
    /// The nodes with their own stage times.
    pub nodes: &'a [Node],
    /// What comes to the first.
    pub arrivals: Arrivals,
}

/// How one node decides, as it is found.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) table: StopTable,
    pub(crate) offer: Offer,
    /// Share of all arrivals that reaches the node.
    pub(crate) reach: f64,
    /// By bin at the border before: share of those.
    pub(crate) entry: Vec<f64>,
    /// Share of what reaches it that finds no place.
    pub(crate) loss: f64,
    /// By bin at its border: share of the served that is there and is sent on.
    pub(crate) sent: Vec<f64>,
}

impl<'a> Line<'a> {
    /// The first exit of a node, and the last.
    #[must_use]
    pub fn exits(&self, node: usize) -> (usize, usize) {
        let first: usize = self.nodes[..node].iter().map(|n| n.stages.len()).sum();
        (first, first + self.nodes[node].stages.len().max(1) - 1)
    }

    /// Whether nodes and network fit.
    ///
    /// # Errors
    /// When there are not as many stages as exits, or a node has none, or a station makes no sense.
    pub fn check(&self) -> Result<(), ExitError> {
        let stages: usize = self.nodes.iter().map(|node| node.stages.len()).sum();
        let is_empty = self.nodes.iter().any(|node| node.stages.is_empty());
        if stages != self.network.exits() || is_empty {
            let exits = self.network.exits();
            return Err(super::TableError::Exits { exits, stages }.into());
        }
        for node in self.nodes {
            self.station(node, 1.0).check()?;
        }
        Ok(())
    }

    fn station(&self, node: &Node, reach: f64) -> Station {
        Station {
            arrivals: self.arrivals.scaled(reach),
            capacity: node.capacity,
            target: 0.5,
        }
    }

    /// Where iteration begins: everything reaches every node, nothing stops.
    pub(crate) fn begin(&self) -> Vec<Local> {
        let of = |node: usize| {
            let (first, last) = self.exits(node);
            let bins = |exit: usize| self.network.bins(exit).share.clone();
            let capacity = self.nodes[node].capacity;
            Local {
                table: StopTable::new(self.network, capacity, 0.0),
                offer: Offer::default(),
                reach: 1.0,
                entry: if first > 0 {
                    bins(first - 1)
                } else {
                    vec![1.0]
                },
                loss: 0.0,
                sent: bins(last),
            }
        };
        (0..self.nodes.len()).map(of).collect()
    }

    pub(crate) fn process(
        &self,
        node: usize,
        local: &Local,
        leave: Vec<f64>,
        timed: bool,
    ) -> Result<Process<'a>, ExitError> {
        let (first, last) = self.exits(node);
        let place = &self.nodes[node];
        let entry = if first == 0 {
            self.network.bins(0).share.clone()
        } else {
            let next = &self.network.bins(first - 1).next;
            let width = self.network.bins(first).share.len();
            let into = |to: usize| {
                local
                    .entry
                    .iter()
                    .zip(next)
                    .map(|(p, row)| p * row[to])
                    .sum()
            };
            (0..width).map(into).collect()
        };
        Ok(Process {
            network: self.network,
            chain: Chain::new(&place.stages, &self.station(place, local.reach))?,
            first,
            last,
            entry,
            leave,
            timed,
        })
    }

    /// By bin at a node's border: what leaving there is worth and how often it means to be sent on, given the
    /// next node's offer.
    pub(crate) fn border(&self, node: usize, next: Option<&Offer>) -> (Vec<f64>, Vec<f64>) {
        let (_, last) = self.exits(node);
        let correct = &self.network.bins(last).correct;
        let of = |(bin, &accuracy): (usize, &f64)| {
            next.map_or((accuracy, 0.0), |offer| offer.mean(bin, accuracy))
        };
        correct.iter().enumerate().map(of).unzip()
    }

    /// Takes a solved process in: losses, what is sent on.
    pub(crate) fn settle(
        process: &Process<'_>,
        solution: &Solution,
        goes: &[f64],
        local: &mut Local,
    ) {
        let phases = process.chain.phases();
        let mut start = vec![0.0; process.chain.width()];
        start[phases..].copy_from_slice(&solution.run.law);
        let mut sent = vec![0.0; goes.len()];
        let table = &solution.table;
        let width = process.chain.width();
        let level = |exit: usize, level: &mut [f64]| {
            for (bin, row) in level.chunks_mut(width).enumerate() {
                if exit == process.last {
                    sent[bin] = goes[bin] * row.iter().sum::<f64>();
                    continue;
                }
                for (at, mass) in row.iter_mut().enumerate() {
                    *mass *= 1.0 - table.get(exit, bin, at / phases);
                }
            }
        };
        process.forwards(&start, level, |_, _, _| {});
        local.loss = solution.run.loss();
        local.sent = sent;
        local.table = solution.table.clone();
    }

    /// Follows the flow down the line: how much reaches each node, with which bins. Moves by `step` towards what is
    /// found, and says how far that was.
    pub(crate) fn flow(&self, locals: &mut [Local], step: f64) -> f64 {
        let mut moved: f64 = 0.0;
        for node in 1..locals.len() {
            let before = &locals[node - 1];
            let sent: f64 = before.sent.iter().sum();
            let reach = (before.reach * (1.0 - before.loss) * sent).max(TRICKLE);
            let bins: Vec<f64> = if sent > TRICKLE {
                before.sent.iter().map(|x| x / sent).collect()
            } else {
                locals[node].entry.clone()
            };
            let local = &mut locals[node];
            moved = moved.max((reach - local.reach).abs());
            local.reach += step * (reach - local.reach);
            for (now, then) in local.entry.iter_mut().zip(&bins) {
                moved = moved.max((then - *now).abs());
                *now += step * (then - *now);
            }
        }
        moved
    }

    /// Share of all arrivals that the model expects to be turned away somewhere.
    pub(crate) fn loss(locals: &[Local]) -> f64 {
        locals.iter().map(|local| local.reach * local.loss).sum()
    }
}

/// What a node offers, from its process.
pub(crate) fn offer(
    process: &Process<'_>,
    solution: &Solution,
    costs: &Costs,
    entry: &[f64],
) -> Option<Offer> {
    let values = process.values(solution, costs)?;
    let (chain, phases) = (&process.chain, process.chain.phases());
    let (width, full) = (chain.width(), chain.capacity());
    let running = Costs {
        time: costs.time + solution.gain,
        ..*costs
    };
    // Values before the first stage, for the mean of what comes in.
    let mut first = vec![0.0; width];
    process.over(
        process.first,
        &running,
        &process.entry,
        &values.levels[0],
        &mut first,
    );
    // How long the node spends with so many present, and what one more would change then.
    let mut share = vec![0.0; full + 1];
    let (mut change, mut weight) = (vec![0.0; full + 1], vec![0.0; full + 1]);
    let mut start = vec![0.0; width];
    start[phases..].copy_from_slice(&solution.run.law);
    let mut idle = vec![0.0; phases];
    let table = &solution.table;
    let level = |exit: usize, level: &mut [f64]| {
        for (bin, row) in level.chunks_mut(width).enumerate() {
            for (at, mass) in row.iter_mut().enumerate() {
                let stop = if exit == process.last {
                    1.0
                } else {
                    table.get(exit, bin, at / phases)
                };
                if at / phases == 1 {
                    idle[at % phases] += *mass * stop;
                }
                *mass *= 1.0 - stop;
            }
        }
    };
    let stage = |exit: usize, from: usize, row: &[f64]| {
        let before = if exit == process.first {
            &first[..]
        } else {
            &values.before[exit - process.first - 1][from * width..(from + 1) * width]
        };
        let mut time = vec![0.0; full + 1];
        for i in 0..phases {
            let mut of_phase = vec![0.0; width];
            for present in 1..=full {
                of_phase[chain.at(present, i)] = row[chain.at(present, i)];
            }
            time.fill(0.0);
            chain.sojourn(exit - process.first, &of_phase, &mut time);
            for present in 1..full {
                let more = before[chain.at(present + 1, i)] - before[chain.at(present, i)];
                change[present] += time[present] * more;
                weight[present] += time[present];
            }
            share.iter_mut().zip(&time).for_each(|(s, t)| *s += t);
        }
    };
    process.forwards(&start, level, stage);
    let mut left = vec![0.0; width];
    chain.departing(&values.starts, solution.gain, &mut left);
    for i in 0..phases {
        let time = (idle[i] * chain.idle(i)).min(1e300);
        // Served at once, against waiting for the next one.
        let more = first[chain.at(1, i)] - left[chain.at(1, i)];
        change[0] += time * more;
        weight[0] += time;
        share[0] += time;
    }
    let total: f64 = share.iter().sum();
    share.iter_mut().for_each(|s| *s /= total);
    let mut place: Vec<f64> = change
        .iter()
        .zip(&weight)
        .map(|(c, w)| if *w > 0.0 { c / w } else { f64::NAN })
        .collect();
    place[full] = -costs.lost;
    // A number of requests that never occurs is valued like the one above it.
    for present in (0..full).rev() {
        if place[present].is_nan() {
            place[present] = place[present + 1];
        }
    }
    Some(Offer {
        worth: worth(process, &values.levels[0], &running, entry, &start),
        place,
        share,
    })
}

/// By bin at the border before a node: value of being served there, less that of the mean of `entry`.
fn worth(
    process: &Process<'_>,
    level: &[f64],
    running: &Costs,
    entry: &[f64],
    start: &[f64],
) -> Vec<f64> {
    if process.first == 0 {
        return vec![0.0];
    }
    let rows = &process.network.bins(process.first - 1).next;
    let mut before = vec![0.0; process.chain.width()];
    let values: Vec<f64> = rows
        .iter()
        .map(|shares| {
            process.over(process.first, running, shares, level, &mut before);
            before.iter().zip(start).map(|(v, p)| v * p).sum()
        })
        .collect();
    let mean: f64 = values.iter().zip(entry).map(|(v, p)| v * p).sum();
    values.iter().map(|v| v - mean).collect()
}

/// By bin of an exit: expected accuracy at the network's end.
#[must_use]
pub fn hope(network: &ExitTable, exit: usize) -> Vec<f64> {
    let mut hope = network.bins(network.last()).correct.clone();
    for exit in (exit..network.last()).rev() {
        let over = |row: &Vec<f64>| row.iter().zip(&hope).map(|(p, a)| p * a).sum();
        hope = network.bins(exit).next.iter().map(over).collect();
    }
    hope
}

/// Equal shares of a target for so many nodes: `1 - (1 - ε)^(1/n)`.
#[must_use]
pub fn share_of(target: f64, nodes: usize) -> f64 {
    -((-target.min(1.0 - 1e-12)).ln_1p() / real(nodes.max(1))).exp_m1()
}
