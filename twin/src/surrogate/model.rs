//! The network: what it is fed, what it says, what it learns.

use std::sync::Arc;

use ndarray::Array2;
use splitplace_plan::ArmKind;

use super::Scene;
use crate::{
    Seed,
    net::{Gradients, Learner, Matrix, Tape, Var, Weights, WeightsError},
};

/// Whether it is fed the split decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awareness {
    /// GOBI.
    Unaware,
    /// DASO.
    Aware,
}

impl Awareness {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Unaware, Self::Aware];

    /// The name of the method.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unaware => "gobi",
            Self::Aware => "daso",
        }
    }
}

/// Columns of every state of the shipped networks.
const HIDDEN: usize = 24;
/// Features of a node, of a piece, of a decision about a request.
const NODE: usize = 4;
const PIECE: usize = 10;
const DECISION: usize = 5;
/// The name of the matrix that holds the errors shown on examples that were held out.
const ERROR: &str = "error";

/// The network.
#[derive(Clone, Debug, PartialEq)]
pub struct Surrogate {
    awareness: Awareness,
    weights: Weights,
}

/// What it says of one kind of request; of all of them together when it does not tell them apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    /// Mean seconds to the answer.
    pub response: f64,
    /// Share without an answer.
    pub loss: f64,
}

/// A placement that was run.
#[derive(Clone, Debug)]
pub struct Example {
    fed: Fed,
    places: Matrix,
    /// By request; none where nothing was answered.
    truth: Vec<Option<Said>>,
    shares: Vec<f64>,
}

/// A scene as matrices of the network's inputs, for placements in shares.
#[derive(Clone, Debug)]
pub(super) struct Fed {
    awareness: Awareness,
    /// Seconds.
    unit: f64,
    /// Pieces by nodes: service in units, work a second, second moment of the work.
    service: Matrix,
    load: Matrix,
    moment: Matrix,
    /// Nodes by 1: how fast it is against the mean.
    speed: Matrix,
    /// Pieces by features.
    known: Matrix,
    /// Requests by pieces, requests by features.
    pool: Matrix,
    decisions: Matrix,
    /// Places by places, the centre last: delay, and units a byte.
    delay: Matrix,
    inverse: Matrix,
    /// Pieces by 1: bytes in; bytes out; whether it answers.
    bytes: [Matrix; 3],
    /// Row of the piece before; the row after the last piece is the centre.
    before: Arc<[usize]>,
}

fn column(values: impl Iterator<Item = f64>) -> Matrix {
    let all: Vec<f32> = values.map(|value| value as f32).collect();
    let rows = all.len();
    Array2::from_shape_vec((rows, 1), all).unwrap_or_default()
}

impl Fed {
    pub(super) fn new(scene: &Scene, awareness: Awareness) -> Self {
        let (pieces, nodes, unit) = (&scene.pieces, scene.nodes(), scene.unit());
        let is_aware = awareness == Awareness::Aware;
        let of = |f: &dyn Fn(usize, usize) -> f64| {
            Array2::from_shape_fn((pieces.len(), nodes), |(piece, node)| {
                f(piece, node).min(1e6) as f32
            })
        };
        let mean = |piece: usize| {
            let service = &pieces[piece].service;
            service.iter().sum::<f64>() / service.len().max(1) as f64
        };
        let speed = (0..nodes).map(|node| {
            let ratios =
                (0..pieces.len()).map(|piece| mean(piece) / pieces[piece].service[node].max(1e-12));
            (ratios.sum::<f64>() / pieces.len().max(1) as f64)
                .clamp(0.01, 100.0)
                .ln()
        });
        let requests = if is_aware { scene.rates.len() } else { 1 };
        let mut pool: Matrix = Array2::zeros((requests, pieces.len()));
        let mut decisions: Matrix = Array2::zeros((requests, DECISION));
        let mut known: Matrix = Array2::zeros((pieces.len(), PIECE - 3));
        for (row, piece) in pieces.iter().enumerate() {
            known[(row, 0)] = (piece.rate * unit).ln_1p() as f32;
            if !is_aware {
                pool[(0, row)] = 1.0 / pieces.len() as f32;
                continue;
            }
            let (kind, number, of, branches) = piece.decision;
            let of_kind = kind_columns(kind);
            // Pieces in a row add up; of branches side by side the mean is taken, and corrected.
            pool[(piece.request, row)] = 1.0 / branches.max(1) as f32;
            for (at, share) in of_kind.into_iter().enumerate() {
                known[(row, 1 + at)] = share;
                decisions[(piece.request, at)] = share;
            }
            known[(row, 4)] = number as f32 / 4.0;
            known[(row, 5)] = of as f32 / 4.0;
            known[(row, 6)] = branches as f32 / 4.0;
            decisions[(piece.request, 3)] = of as f32 / 4.0;
            decisions[(piece.request, 4)] = branches as f32 / 4.0;
        }
        let places = scene.links.len();
        let between = |f: &dyn Fn((f64, f64)) -> f64| {
            Array2::from_shape_fn((places, places), |(from, to)| {
                if from == to {
                    0.0
                } else {
                    f(scene.links[from][to]) as f32
                }
            })
        };
        Self {
            awareness,
            unit,
            service: of(&|piece, node| pieces[piece].service[node] / unit),
            load: of(&|piece, node| pieces[piece].rate * pieces[piece].service[node]),
            moment: of(&|piece, node| {
                pieces[piece].rate * pieces[piece].service[node].powi(2) / unit
            }),
            speed: column(speed),
            known,
            pool,
            decisions,
            delay: between(&|(_, delay)| delay / unit),
            // Of a million bytes, so that the numbers are of the same size.
            inverse: between(&|(rate, _)| 1e6 / rate / unit),
            bytes: [
                column(pieces.iter().map(|piece| piece.bytes[0] / 1e6)),
                column(pieces.iter().map(|piece| piece.bytes[1] / 1e6)),
                column(
                    pieces
                        .iter()
                        .map(|piece| f64::from(u8::from(piece.is_last))),
                ),
            ],
            before: pieces
                .iter()
                .map(|piece| piece.before.unwrap_or(pieces.len()))
                .collect(),
        }
    }

    /// Seconds of one unit of time.
    pub(super) const fn unit(&self) -> f64 {
        self.unit
    }
}

/// Not split, by layers, by classes.
fn kind_columns(kind: ArmKind) -> [f32; 3] {
    match kind {
        ArmKind::Whole | ArmKind::Compressed => [1.0, 0.0, 0.0],
        ArmKind::Chain | ArmKind::Exits => [0.0, 1.0, 0.0],
        ArmKind::Semantic => [0.0, 0.0, 1.0],
    }
}

impl Surrogate {
    /// A network that knows nothing yet.
    #[must_use]
    pub fn new(awareness: Awareness, seed: Seed) -> Self {
        let mut stream = seed.stream("weights", 0);
        let mut weights = Weights::default();
        for (name, inputs, outputs) in [
            ("node.1", NODE, HIDDEN),
            ("node.2", HIDDEN, HIDDEN),
            ("piece.1", HIDDEN + PIECE, HIDDEN),
            ("piece.2", HIDDEN, HIDDEN),
            ("request.1", DECISION, 8),
        ] {
            weights.draw(&format!("{name}.w"), inputs, outputs, &mut stream);
            weights.zeros(&format!("{name}.b"), 1, outputs);
        }
        for (name, inputs) in [("seconds", HIDDEN), ("lost", HIDDEN), ("join", 8)] {
            weights.zeros(&format!("{name}.w"), inputs, 1);
            weights.zeros(&format!("{name}.b"), 1, 1);
        }
        weights.zeros(ERROR, 1, 2);
        Self { awareness, weights }
    }

    /// A trained one.
    ///
    /// # Errors
    /// When these are not the weights of such a network.
    pub fn with(awareness: Awareness, weights: Weights) -> Result<Self, WeightsError> {
        weights.check(&Self::new(awareness, Seed(0)).weights)?;
        Ok(Self { awareness, weights })
    }

    /// The shipped network; `twin/weights/README.md` has the commands that made it.
    ///
    /// # Errors
    /// Never, unless the files were changed.
    pub fn shipped(awareness: Awareness) -> Result<Self, WeightsError> {
        let bytes: &[u8] = match awareness {
            Awareness::Unaware => include_bytes!("../../weights/gobi.bin"),
            Awareness::Aware => include_bytes!("../../weights/daso.bin"),
        };
        Self::with(awareness, Weights::from_bytes(bytes)?)
    }

    /// Whether it is fed the split decision.
    #[must_use]
    pub const fn awareness(&self) -> Awareness {
        self.awareness
    }

    /// Root of the mean squared error on examples that were held out when it was trained: of the logarithm of
    /// the response, and of the share lost.
    #[must_use]
    pub fn error(&self) -> [f64; 2] {
        let known = &self.weights.all()[self.weights.number(ERROR)];
        [0, 1].map(|at| f64::from(known[(0, at)]))
    }

    /// Judges held-out examples, and keeps the result beside the weights.
    pub fn hold_against(&mut self, examples: &[Example]) -> [f64; 2] {
        let error = self.score(examples);
        let number = self.weights.number(ERROR);
        let mut all = self.weights.all().to_vec();
        for (at, value) in error.into_iter().enumerate() {
            all[number][(0, at)] = value as f32;
        }
        self.weights = self.weights.with_values(all);
        error
    }

    /// Root of the mean squared error over placements: of the logarithm of the mean response, and of the loss.
    #[must_use]
    pub fn score(&self, examples: &[Example]) -> [f64; 2] {
        let (mut sums, mut count) = ([0.0; 2], 0.0);
        for example in examples {
            let truth = example.together();
            let said = together(&self.judge(&example.fed, &example.places), &example.shares);
            sums[0] += (said.response / truth.response).ln().powi(2);
            sums[1] += (said.loss - truth.loss).powi(2);
            count += 1.0;
        }
        sums.map(|sum| {
            if count > 0.0 {
                (sum / count).sqrt()
            } else {
                0.0
            }
        })
    }

    /// What it says of a scene placed for certain: all kinds of requests together.
    #[must_use]
    pub fn says(&self, scene: &Scene, nodes: &[usize]) -> Said {
        let fed = Fed::new(scene, self.awareness);
        together(&self.judge(&fed, &scene.certain(nodes)), &scene.shares())
    }

    /// By kind of request where it tells them apart.
    pub(super) fn judge(&self, fed: &Fed, places: &Matrix) -> Vec<Said> {
        let mut tape = Tape::new(&self.weights);
        let places = tape.input(places.clone());
        let [response, loss] = self.forward(&mut tape, fed, places);
        let (response, loss) = (tape.value(response), tape.value(loss));
        let read = |row: usize| Said {
            response: f64::from(response[(row, 0)]) * fed.unit,
            loss: f64::from(loss[(row, 0)]).clamp(0.0, 1.0),
        };
        (0..response.nrows()).map(read).collect()
    }

    /// Response in units and loss of each kind of request; columns.
    pub(super) fn forward(&self, tape: &mut Tape<'_>, fed: &Fed, places: Var) -> [Var; 2] {
        let (pieces, nodes) = fed.service.dim();
        let by_piece = tape.input(Array2::ones((pieces, 1)));
        let by_node = tape.input(Array2::ones((nodes, 1)));
        // What lies on each node.
        let mut seen = tape.turned_product(places, by_piece);
        for of in [&fed.load, &fed.moment] {
            let of = tape.input(of.clone());
            let placed = tape.times(places, of);
            let sum = tape.turned_product(placed, by_piece);
            seen = tape.beside(seen, sum);
        }
        let seen = tape.log_one_plus(seen);
        let speed = tape.input(fed.speed.clone());
        let mut state = tape.beside(seen, speed);
        for name in ["node.1", "node.2"] {
            let next = tape.affine(name, state);
            state = tape.relu(next);
        }
        // What each piece hears, and what it takes itself.
        let heard = tape.product(places, state);
        let service = tape.input(fed.service.clone());
        let own = tape.times(places, service);
        let own = tape.product(own, by_node);
        let ways = self.ways(tape, fed, places);
        let taken = tape.beside(own, ways);
        let taken = tape.log_one_plus(taken);
        let known = tape.input(fed.known.clone());
        let told = tape.beside(heard, taken);
        let mut piece = tape.beside(told, known);
        for name in ["piece.1", "piece.2"] {
            let next = tape.affine(name, piece);
            piece = tape.relu(next);
        }
        let seconds = tape.affine("seconds", piece);
        let seconds = tape.exp(seconds);
        let lost = tape.affine("lost", piece);
        let lost = tape.exp(lost);
        // What a request takes.
        let pool = tape.input(fed.pool.clone());
        let seconds = tape.product(pool, seconds);
        let lost = tape.product(pool, lost);
        let decisions = tape.input(fed.decisions.clone());
        let join = tape.affine("request.1", decisions);
        let join = tape.relu(join);
        let join = tape.affine("join", join);
        let join = tape.exp(join);
        [tape.times(seconds, join), lost]
    }

    /// Units that tensors spend on links, into each piece and out of it; nothing for whoever does not know
    /// what passes between pieces.
    fn ways(&self, tape: &mut Tape<'_>, fed: &Fed, places: Var) -> Var {
        let pieces = fed.service.nrows();
        if fed.awareness == Awareness::Unaware {
            return tape.input(Array2::zeros((pieces, 2)));
        }
        let all = fed.delay.nrows();
        let none = tape.input(Array2::zeros((pieces, 1)));
        let to = tape.beside(places, none);
        let mut center = Array2::zeros((1, all));
        center[(0, all - 1)] = 1.0;
        let center = tape.input(center);
        let with_center = tape.stack(vec![to, center]);
        let from = tape.gather(with_center, Arc::clone(&fed.before));
        let ones = tape.input(Array2::ones((all, 1)));
        let [bytes_in, bytes_out, is_last] = fed.bytes.clone().map(|one| tape.input(one));
        let mut sums = Vec::with_capacity(4);
        for (of, is_scaled) in [(&fed.delay, false), (&fed.inverse, true)] {
            let back = of.column(all - 1).to_owned().insert_axis(ndarray::Axis(1));
            let of = tape.input(of.clone());
            let reached = tape.product(from, of);
            let there = tape.times(reached, to);
            let mut into = tape.product(there, ones);
            if is_scaled {
                into = tape.times(into, bytes_in);
            }
            let back = tape.input(back);
            let out = tape.product(to, back);
            let out = tape.times(out, if is_scaled { bytes_out } else { is_last });
            sums.extend([into, out]);
        }
        // Delay and sending, into and out of: added by columns.
        let adds = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]];
        let adds = tape.input(Array2::from(adds.to_vec()));
        let left = tape.beside(sums[0], sums[1]);
        let right = tape.beside(sums[2], sums[3]);
        let both = tape.beside(left, right);
        tape.product(both, adds)
    }

    /// The loss of one example, and its gradients by weight.
    fn learn_one(&self, example: &Example, weight: f64) -> (f64, Gradients) {
        let mut tape = Tape::new(&self.weights);
        let places = tape.input(example.places.clone());
        let ends = self.forward(&mut tape, &example.fed, places);
        let mut back = ends.map(|end| Array2::zeros(tape.value(end).dim()));
        let mut total = 0.0;
        let truths: Vec<(f64, Option<Said>)> = match self.awareness {
            Awareness::Unaware => vec![(1.0, Some(example.together()))],
            Awareness::Aware => {
                let shares = example.shares.iter().copied();
                shares.zip(example.truth.iter().copied()).collect()
            }
        };
        for (row, (share, truth)) in truths.into_iter().enumerate() {
            let Some(truth) = truth else { continue };
            let found = ends.map(|end| f64::from(tape.value(end)[(row, 0)]));
            let share = share * weight;
            // A smoothed absolute error: what is far off beyond saturation must not drown the rest.
            let error = (found[0] * example.fed.unit / truth.response).ln();
            let root = (error * error + BEND * BEND).sqrt();
            let off = found[1] - truth.loss;
            total += share * (root - BEND + LOSS * off * off);
            back[0][(row, 0)] = (share * error / root / found[0].max(1e-9)) as f32;
            back[1][(row, 0)] = (share * 2.0 * LOSS * off) as f32;
        }
        let [response, loss] = back;
        (
            total,
            tape.backward(vec![(ends[0], response), (ends[1], loss)]),
        )
    }
}

/// Where the error turns from squared to absolute, and what a share lost counts against it.
const BEND: f64 = 0.05;
const LOSS: f64 = 4.0;

/// All kinds of requests together, by their shares.
pub(super) fn together(said: &[Said], shares: &[f64]) -> Said {
    if let [one] = said {
        return *one;
    }
    let sum = |of: &dyn Fn(&Said) -> f64| {
        said.iter()
            .zip(shares)
            .map(|(one, share)| of(one) * share)
            .sum()
    };
    Said {
        response: sum(&|one| one.response),
        loss: sum(&|one| one.loss),
    }
}

impl Example {
    /// A scene placed so, and what a run has shown of each kind of request.
    #[must_use]
    pub fn new(
        scene: &Scene,
        nodes: &[usize],
        truth: Vec<Option<Said>>,
        awareness: Awareness,
    ) -> Self {
        Self {
            fed: Fed::new(scene, awareness),
            places: scene.certain(nodes),
            shares: scene.shares(),
            truth,
        }
    }

    fn together(&self) -> Said {
        let (mut seconds, mut answered, mut lost) = (0.0, 0.0, 0.0);
        for (truth, share) in self.truth.iter().zip(&self.shares) {
            match truth {
                Some(said) => {
                    let kept = share * (1.0 - said.loss);
                    seconds += kept * said.response;
                    answered += kept;
                    lost += share * said.loss;
                }
                None => lost += share,
            }
        }
        Said {
            response: (seconds / f64::max(answered, 1e-9)).max(1e-9),
            loss: lost,
        }
    }
}

impl Learner for Surrogate {
    type Example = Example;

    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    fn learn(&self, examples: &[&Example]) -> (f64, Gradients) {
        let weight = 1.0 / examples.len().max(1) as f64;
        let mut all: Option<(f64, Gradients)> = None;
        for example in examples {
            let (loss, gradients) = self.learn_one(example, weight);
            match &mut all {
                None => all = Some((loss, gradients)),
                Some((total, sum)) => {
                    *total += loss;
                    for (sum, own) in sum.weights.iter_mut().zip(&gradients.weights) {
                        *sum += own;
                    }
                }
            }
        }
        all.unwrap_or_else(|| (0.0, Tape::new(&self.weights).backward(Vec::new())))
    }
}
