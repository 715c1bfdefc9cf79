//! What a surrogate is told: pieces, nodes, links, requests.

use std::collections::BTreeMap;

use ndarray::Array2;
use splitplace_fleet::{NodeId, Place};
use splitplace_plan::{ArmKind, ArmPlan, Plan, Problem, joint::Places};

use crate::{net::Matrix, world::World};

/// Something that runs on one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Whose it is: a number below the scene's requests.
    pub request: usize,
    /// Runs a second.
    pub rate: f64,
    /// Seconds of one on each node.
    pub service: Vec<f64>,
    /// The piece that feeds it; the centre without one.
    pub before: Option<usize>,
    /// Bytes that come in, and that go back to the centre.
    pub bytes: [f64; 2],
    /// Whether it answers.
    pub is_last: bool,
    /// How the request is split, its place among the pieces of its branch, and how many of these and of
    /// branches there are.
    pub decision: (ArmKind, usize, usize, usize),
}

/// Pieces to be placed on nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// All of them, those of one branch in order and together.
    pub pieces: Vec<Piece>,
    /// Requests of each kind a second.
    pub rates: Vec<f64>,
    /// `links[from][to]` as (bytes a second, delay in seconds); the last is the centre.
    pub links: Vec<Vec<(f64, f64)>>,
}

impl Scene {
    /// The arms of a problem that have a place, cut as they are there, and the node of each piece. Every arm of a model is
    /// taken by as many of its requests.
    #[must_use]
    pub fn of(problem: &Problem, places: &Places) -> (Self, Vec<usize>) {
        let mut scene = Self {
            pieces: Vec::new(),
            rates: Vec::new(),
            links: problem.links.clone(),
        };
        let mut nodes = Vec::new();
        let there = problem.arms.iter().zip(problem.shares()).zip(places);
        let there = there.filter_map(|((arm, share), place)| Some((arm, share, place.as_ref()?)));
        for (arm, share, branches) in there {
            let rate = arm.arrival_rate * share;
            for (chain, stages) in arm.chains.iter().zip(branches) {
                for (number, stage) in stages.iter().enumerate() {
                    let segments = &chain.segments[stage.segments.clone()];
                    let service = (0..problem.nodes.len())
                        .map(|node| segments.iter().map(|one| one.service[node]).sum());
                    let is_last = number + 1 == stages.len();
                    let bytes = |at: usize| chain.boundaries[at].raw_bytes() as f64;
                    let first = scene.pieces.len();
                    scene.pieces.push(Piece {
                        request: scene.rates.len(),
                        rate,
                        service: service.collect(),
                        before: (0 < number).then(|| first - 1),
                        bytes: [
                            bytes(stage.segments.start),
                            if is_last {
                                bytes(stage.segments.end)
                            } else {
                                0.0
                            },
                        ],
                        is_last,
                        decision: (arm.kind, number, stages.len(), branches.len()),
                    });
                    nodes.push(stage.node);
                }
            }
            scene.rates.push(rate);
        }
        (scene, nodes)
    }

    /// A plan under the world's loads, every arm of a model taking as many requests; the node of each piece,
    /// and the arm of each request. A piece's seconds are known for the node that it is on only, and taken
    /// for the same on all.
    #[must_use]
    pub fn of_plan<'p>(world: &World, plan: &'p Plan) -> (Self, Vec<usize>, Vec<&'p ArmPlan>) {
        let names: BTreeMap<&NodeId, usize> = world
            .workers
            .iter()
            .enumerate()
            .map(|(number, worker)| (&worker.node.id, number))
            .collect();
        let places: Vec<Place> = world
            .workers
            .iter()
            .map(|one| Place::from(&one.node.id))
            .chain([Place::Center])
            .collect();
        let row = |from: &Place| {
            let links = places.iter().map(|to| world.links.get(from, to));
            links
                .map(|link| (link.rate_bytes_per_second, link.delay.as_secs_f64()))
                .collect()
        };
        let mut scene = Self {
            pieces: Vec::new(),
            rates: Vec::new(),
            links: places.iter().map(row).collect(),
        };
        let (mut nodes, mut arms) = (Vec::new(), Vec::new());
        for load in &world.loads {
            let Some(model) = plan.models.get(&load.model) else {
                continue;
            };
            let is_there = |arm: &&ArmPlan| {
                let mut hops = arm.branches.iter().flat_map(|route| &route.hops);
                hops.all(|hop| names.contains_key(&hop.node))
            };
            let there: Vec<&ArmPlan> = model.arms.iter().filter(is_there).collect();
            let rate = load.arrivals.rate() / there.len().max(1) as f64;
            let samples = f64::from(load.samples);
            for arm in there {
                for route in &arm.branches {
                    for (number, hop) in route.hops.iter().enumerate() {
                        let node = names[&hop.node];
                        let worker = &world.workers[node];
                        let cores = f64::from(worker.node.cores.max(1));
                        // As many cores are taken for one that is so many times as fast.
                        let seconds = (hop.service + hop.coding).as_secs_f64()
                            * samples
                            * worker.service.mean()
                            / cores;
                        let is_last = number + 1 == route.hops.len();
                        let first = scene.pieces.len();
                        scene.pieces.push(Piece {
                            request: scene.rates.len(),
                            rate: rate * hop.reach,
                            service: vec![seconds; world.workers.len()],
                            before: (0 < number).then(|| first - 1),
                            bytes: [
                                hop.bytes_in as f64 * samples,
                                if is_last {
                                    route.bytes_out as f64 * samples
                                } else {
                                    0.0
                                },
                            ],
                            is_last,
                            decision: (arm.kind, number, route.hops.len(), arm.branches.len()),
                        });
                        nodes.push(node);
                    }
                }
                scene.rates.push(rate);
                arms.push(arm);
            }
        }
        (scene, nodes, arms)
    }

    /// Nodes without the centre.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.links.len().saturating_sub(1)
    }

    /// The unit of time: what a request's pieces take on a node of average speed, by the rates.
    #[must_use]
    pub fn unit(&self) -> f64 {
        let shares = self.shares();
        let mean = |piece: &Piece| {
            let known = piece.service.iter().filter(|one| one.is_finite());
            let (sum, count) = known.fold((0.0, 0.0), |(sum, count), one| (sum + one, count + 1.0));
            if count > 0.0 { sum / count } else { 0.0 }
        };
        let all: f64 = self
            .pieces
            .iter()
            .map(|piece| shares[piece.request] * mean(piece))
            .sum();
        all.max(1e-9)
    }

    /// Share of each kind of request; all alike where nothing comes.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let total: f64 = self.rates.iter().sum();
        let alike = 1.0 / self.rates.len().max(1) as f64;
        let share = |rate: &f64| if total > 0.0 { rate / total } else { alike };
        self.rates.iter().map(share).collect()
    }

    /// Placed for certain, as shares: pieces by nodes.
    #[must_use]
    pub fn certain(&self, nodes: &[usize]) -> Matrix {
        let mut shares = Array2::zeros((self.pieces.len(), self.nodes()));
        for (piece, &node) in nodes.iter().enumerate() {
            shares[(piece, node)] = 1.0;
        }
        shares
    }
}
