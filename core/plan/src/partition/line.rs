//! Several cuts: a network along several nodes, each of them used once at most.
//!
//! A walk along the nodes is a sequence of growing down-sets. It is found by dynamic programming over (down-set
//! done, nodes used, node at work): a layer is added on the node at work, or the work goes on at another node and
//! all that crosses is sent there, what only later nodes need included. Latency is a sum of both kinds of steps, so
//! the best way to a state is part of the best way through it.

use super::{Method, Network, Part, Question, Refused, User, down_sets::DownSets, real};
use crate::Way;

/// Several cuts along several nodes, each of as many tensors as cross there: exact for
/// [`Objective::Latency`](super::Objective::Latency) over every walk along at most [`User::stops`] nodes; for the other
/// objectives the same walk, judged by them.
///
/// Without [`User::links`] there are device and server only, and the walk is the cut of least latency.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain;

impl Method for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn complexity(&self) -> &'static str {
        "O(down-sets · 2ᵏ · k · (width + k)) for k nodes"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.alone(one)
    }
}

fn one(user: &User<'_>) -> Result<Part, Refused> {
    let nodes = user.network.nodes();
    let refused = Refused::Links(NODES);
    let mut links = match user.links {
        Some(links) if links.is_between(nodes) => links.clone(),
        Some(_) => return Err(refused),
        None => Links {
            pairs: vec![vec![(0.0, 0.0); nodes]; nodes],
        },
    };
    // The delay of using the server covers both ways.

    links.pairs[0][1] = (user.scene.rate, user.scene.delay);
    links.pairs[1][0] = (user.scene.rate, 0.0);
    let network = user.network.slowed(1, user.scene.load);
    let network = network.map_err(|_| Refused::Scene)?;
    let walk = shortest(&network, &links, user.stops)?;
    let (stations, delay) = stations(&network, &links, &walk);
    Ok(Part::new(user, walk.stops, stations, delay))
}

/// Seconds at each node and link of a walk, and its delays.
fn stations(network: &Network, links: &Links, walk: &Walk) -> (Vec<f64>, f64) {
    let mut stations = vec![0.0; 2 * walk.stops.len() - 1];
    let mut delay = 0.0;
    let mut before = None;
    for (place, stop) in walk.stops.iter().enumerate() {
        for &layer in &stop.layers {
            stations[2 * place] += network.layers()[layer].seconds[stop.node];
            let made = network.outputs(layer).iter();
            let back = made.map(|&tensor| network.tensors()[tensor].back);
            let back = back.fold(0, u64::saturating_add);
            if place > 0 && back > 0 {
                stations[1] += real(back) / links.pairs[stop.node][0].0;
            }
        }
        if let Some(before) = before.replace(stop.node) {
            let (rate, late) = links.pairs[before][stop.node];
            delay += late;
            for &(tensor, way) in &stop.received {
                let way = &network.tensors()[tensor].ways[way];
                stations[2 * place - 2] += way.encode * network.coding()[before];
                stations[2 * place - 1] += real(way.bytes) / rate;
                stations[2 * place] += way.decode * network.coding()[stop.node];
            }
        }
    }
    if let Some(last) = before.filter(|last| *last != 0) {
        delay += links.pairs[last][0].1;
    }
    (stations, delay)
}

/// Links between all pairs of nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    /// `pairs[from][to]` as (bytes a second, delay in seconds); a rate of 0 is no link. A given order of the nodes
    /// is had by leaving out the links against it.
    pub pairs: Vec<Vec<(f64, f64)>>,
}

impl Links {
    /// Whether it has so many nodes, and its numbers are numbers.
    #[must_use]
    pub fn is_between(&self, nodes: usize) -> bool {
        let is_square =
            self.pairs.len() == nodes && self.pairs.iter().all(|row| row.len() == nodes);
        let mut numbers = self.pairs.iter().flatten();
        is_square
            && numbers.all(|(rate, delay)| {
                rate.is_finite() && *rate >= 0.0 && delay.is_finite() && *delay >= 0.0
            })
    }
}

/// A network along nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// What it visits, in order; the first is node 0, where the input is.
    pub stops: Vec<Stop>,
    /// Seconds of one sample from beginning to answer, the way back to node 0 included.
    pub latency: f64,
}

/// What one node runs, and what it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// The node.
    pub node: usize,
    /// Its layers, ascending; only the first stop may have none.
    pub layers: Vec<usize>,
    /// What it receives, with the number of the way.
    pub received: Vec<(usize, usize)>,
}

/// Most nodes of a walk.
pub const NODES: usize = 6;

/// The walk of least latency in an idle system over at most `stops` nodes of up to [`NODES`].
///
/// Answers go back to node 0 from where they are made, one after another; a node that only passes tensors on is
/// no stop. O(down-sets · 2ᵏ · k · (width + k)) for k nodes.
///
/// # Errors
/// [`Refused::Wide`] for too many down-sets, [`Refused::Links`] when links and nodes do not belong together or no
/// walk gets to the end.
pub fn shortest(network: &Network, links: &Links, stops: usize) -> Result<Walk, Refused> {
    let nodes = network.nodes();
    if NODES < nodes || !links.is_between(nodes) || stops == 0 {
        return Err(Refused::Links(NODES));
    }
    let sets = DownSets::new(network, DownSets::MOST)?;
    let mut search = Search {
        network,
        links,
        sets: &sets,
        nodes,
        ways: ways(network, links),
        ran: Vec::new(),
        arrived: Vec::new(),
    };
    search.fill(stops);
    search.trace().ok_or(Refused::Links(NODES))
}

/// The best way of each tensor between every two nodes, with its seconds; infinite where there is none.
fn ways(network: &Network, links: &Links) -> Vec<(usize, f64)> {
    let (nodes, coding) = (network.nodes(), network.coding());
    let best = |ways: &[Way], from: usize, to: usize| {
        let (rate, _) = links.pairs[from][to];
        let mut best = (0, f64::INFINITY);
        for (number, way) in ways.iter().enumerate() {
            let seconds =
                real(way.bytes) / rate + way.encode * coding[from] + way.decode * coding[to];
            if seconds < best.1 {
                best = (number, seconds);
            }
        }
        best
    };
    let tensors = network.tensors().iter();
    tensors
        .flat_map(|tensor| {
            (0..nodes * nodes).map(move |pair| best(&tensor.ways, pair / nodes, pair % nodes))
        })
        .collect()
}

struct Search<'a> {
    network: &'a Network,
    links: &'a Links,
    sets: &'a DownSets,
    nodes: usize,
    /// `ways[(tensor * nodes + from) * nodes + to]`: the best one, and its seconds.
    ways: Vec<(usize, f64)>,
    /// Least seconds by (set, used, node) whose last step was a layer, and whose last step was a move.
    ran: Vec<f64>,
    arrived: Vec<f64>,
}

impl Search<'_> {
    fn at(&self, set: usize, used: usize, node: usize) -> usize {
        (set * (1 << self.nodes) + used) * self.nodes + node
    }

    /// Least seconds however the last step was.
    fn reached(&self, set: usize, used: usize, node: usize) -> f64 {
        let state = self.at(set, used, node);
        self.ran[state].min(self.arrived[state])
    }

    /// Seconds of a layer on a node, its answers on their way included.
    fn run(&self, layer: usize, node: usize) -> f64 {
        let seconds = self.network.layers()[layer].seconds[node];
        let made = self.network.outputs(layer).iter();
        let back = made.map(|&tensor| self.network.tensors()[tensor].back);
        let back: u64 = back.fold(0, u64::saturating_add);
        if node == 0 || back == 0 {
            return seconds;
        }
        match self.links.pairs[node][0] {
            (rate, _) if rate > 0.0 => seconds + real(back) / rate,
            _ => f64::INFINITY,
        }
    }

    /// The best way of a tensor between two nodes, with its seconds.
    fn way(&self, tensor: usize, from: usize, to: usize) -> (usize, f64) {
        self.ways[(tensor * self.nodes + from) * self.nodes + to]
    }

    /// Seconds to go on at another node.
    fn carry(&self, set: usize, from: usize, to: usize) -> f64 {
        let (rate, delay) = self.links.pairs[from][to];
        if rate <= 0.0 {
            return f64::INFINITY;
        }
        let tensors = self.sets.crossing(set).iter();
        delay
            + tensors
                .map(|&tensor| self.way(tensor, from, to).1)
                .sum::<f64>()
    }

    fn fill(&mut self, stops: usize) {
        let (masks, all) = (1usize << self.nodes, self.sets.count());
        let states = self.at(all, 0, 0);
        self.ran = vec![f64::INFINITY; states];
        self.arrived = vec![f64::INFINITY; states];
        let start = self.at(0, 1, 0);
        self.ran[start] = 0.0;
        let count = self.network.layers().len();
        let run: Vec<f64> = (0..count * self.nodes)
            .map(|at| self.run(at / self.nodes, at % self.nodes))
            .collect();
        let sets = self.sets;
        for number in 0..sets.count() {
            for &(from, layer) in sets.from(number) {
                for used in (1..masks).step_by(2) {
                    for node in (0..self.nodes).filter(|node| used >> node & 1 == 1) {
                        let seconds =
                            self.reached(from, used, node) + run[layer * self.nodes + node];
                        let state = self.at(number, used, node);
                        self.ran[state] = self.ran[state].min(seconds);
                    }
                }
            }
            if sets.crossing(number).is_empty() {
                continue;
            }
            for from in 0..self.nodes {
                for to in (1..self.nodes).filter(|&to| to != from) {
                    let carry = self.carry(number, from, to);
                    for used in (1..masks).step_by(2) {
                        let is_move = used >> from & 1 == 1 && used >> to & 1 == 0;
                        let is_short = (used.count_ones() as usize) < stops;
                        if !is_move || !is_short {
                            continue;
                        }
                        let seconds = self.ran[self.at(number, used, from)] + carry;
                        let state = self.at(number, used | 1 << to, to);
                        self.arrived[state] = self.arrived[state].min(seconds);
                    }
                }
            }
        }
    }

    /// Back from the end: what led to each state is found again by its number.
    fn trace(&self) -> Option<Walk> {
        let end = self.sets.count() - 1;
        let mut best: Option<(f64, usize, usize)> = None;
        for used in (1..1usize << self.nodes).step_by(2) {
            for node in (0..self.nodes).filter(|node| used >> node & 1 == 1) {
                let delay = if node == 0 {
                    0.0
                } else {
                    self.links.pairs[node][0].1
                };
                let seconds = self.ran[self.at(end, used, node)] + delay;
                if seconds.is_finite() && best.is_none_or(|(least, ..)| seconds < least) {
                    best = Some((seconds, used, node));
                }
            }
        }
        let (latency, mut used, mut node) = best?;
        let mut set = end;
        let mut stop = Stop {
            node,
            layers: Vec::new(),
            received: Vec::new(),
        };
        let mut stops = Vec::new();
        let mut has_run = true;
        while (set, used) != (0, 1) || !has_run {
            if has_run {
                let &(from, layer) = self.sets.from(set).iter().min_by(|a, b| {
                    let cost = |one: &(usize, usize)| {
                        self.reached(one.0, used, node) + self.run(one.1, node)
                    };
                    cost(a).total_cmp(&cost(b))
                })?;
                stop.layers.push(layer);
                set = from;
                let state = self.at(set, used, node);
                has_run = self.ran[state] <= self.arrived[state];
            } else {
                let before = used & !(1 << node);
                let from = (0..self.nodes)
                    .filter(|from| before >> from & 1 == 1)
                    .min_by(|&a, &b| {
                        let cost = |from: usize| {
                            self.ran[self.at(set, before, from)] + self.carry(set, from, node)
                        };
                        cost(a).total_cmp(&cost(b))
                    })?;
                let tensors = self.sets.crossing(set).iter();
                stop.received = tensors
                    .map(|&tensor| (tensor, self.way(tensor, from, node).0))
                    .collect();
                stop.layers.reverse();
                let next = Stop {
                    node: from,
                    layers: Vec::new(),
                    received: Vec::new(),
                };
                stops.push(std::mem::replace(&mut stop, next));
                (used, node, has_run) = (before, from, true);
            }
        }
        stop.layers.reverse();
        stops.push(stop);
        stops.reverse();
        for stop in &mut stops {
            stop.layers.sort_unstable();
        }
        Some(Walk { stops, latency })
    }
}
