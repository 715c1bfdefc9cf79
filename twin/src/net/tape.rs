//! A tape of matrix operations: run forward as it is written, then backward for the gradients.

use std::sync::Arc;

use ndarray::{Array2, Axis, Zip, concatenate, linalg::general_mat_mul, s};

use super::{Matrix, Weights, attend::Attention, gru::Gru};

/// Where [`Tape::exp`] stops.
const STEEP: f32 = 12.0;

/// A value on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var(usize);

/// Weights' numbers and values' places that an operation was made from.
#[derive(Debug)]
enum Op {
    Input,
    Affine {
        x: Var,
        w: usize,
        b: usize,
    },
    Relu {
        x: Var,
    },
    /// `a b`, or `aᵀ b`.
    Product {
        a: Var,
        b: Var,
        is_turned: bool,
    },
    /// Number by number.
    Times {
        a: Var,
        b: Var,
    },
    Exp {
        x: Var,
    },
    LogOnePlus {
        x: Var,
    },
    /// Of each row.
    Softmax {
        x: Var,
    },
    /// Columns side by side.
    Beside {
        a: Var,
        b: Var,
    },
    /// Rows under each other.
    Stack {
        parts: Vec<Var>,
    },
    Gather {
        x: Var,
        rows: Arc<[usize]>,
    },
    /// Mean of the rows of each group.
    MeanBy {
        x: Var,
        group: Arc<[usize]>,
    },
    Gru(Box<Gru>),
    Attend(Box<Attention>),
}

/// What was computed, in order.
#[derive(Debug)]
pub struct Tape<'w> {
    weights: &'w Weights,
    values: Vec<Matrix>,
    ops: Vec<Op>,
}

impl<'w> Tape<'w> {
    /// An empty tape over these weights.
    #[must_use]
    pub const fn new(weights: &'w Weights) -> Self {
        Self {
            weights,
            values: Vec::new(),
            ops: Vec::new(),
        }
    }

    /// A value.
    #[must_use]
    pub fn value(&self, var: Var) -> &Matrix {
        &self.values[var.0]
    }

    fn push(&mut self, value: Matrix, op: Op) -> Var {
        debug_assert!(value.is_standard_layout(), "values lie in rows");
        self.values.push(value);
        self.ops.push(op);
        Var(self.values.len() - 1)
    }

    /// Something given.
    pub fn input(&mut self, value: Matrix) -> Var {
        let value = if value.is_standard_layout() {
            value
        } else {
            value.as_standard_layout().into_owned()
        };
        self.push(value, Op::Input)
    }

    /// `x W + b`, the weights by name: `{name}.w` and `{name}.b`.
    pub fn affine(&mut self, name: &str, x: Var) -> Var {
        let w = self.weights.number(&format!("{name}.w"));
        let b = self.weights.number(&format!("{name}.b"));
        let all = self.weights.all();
        let value = affine(&self.values[x.0], &all[w], &all[b]);
        self.push(value, Op::Affine { x, w, b })
    }

    /// What is above 0.
    pub fn relu(&mut self, x: Var) -> Var {
        let value = self.values[x.0].mapv(|v| v.max(0.0));
        self.push(value, Op::Relu { x })
    }

    /// `a b`.
    pub fn product(&mut self, a: Var, b: Var) -> Var {
        let value = self.values[a.0].dot(&self.values[b.0]);
        let is_turned = false;
        self.push(value, Op::Product { a, b, is_turned })
    }

    /// `aᵀ b`.
    pub fn turned_product(&mut self, a: Var, b: Var) -> Var {
        let value = self.values[a.0].t().dot(&self.values[b.0]);
        let is_turned = true;
        self.push(value, Op::Product { a, b, is_turned })
    }

    /// Number by number, both of the same shape.
    pub fn times(&mut self, a: Var, b: Var) -> Var {
        let value = &self.values[a.0] * &self.values[b.0];
        self.push(value, Op::Times { a, b })
    }

    /// `eˣ`; beyond ±`STEEP` it goes on level.
    pub fn exp(&mut self, x: Var) -> Var {
        let value = self.values[x.0].mapv(|v| v.clamp(-STEEP, STEEP).exp());
        self.push(value, Op::Exp { x })
    }

    /// `ln(1 + x)` of what is not below 0.
    pub fn log_one_plus(&mut self, x: Var) -> Var {
        let value = self.values[x.0].mapv(|v| v.max(0.0).ln_1p());
        self.push(value, Op::LogOnePlus { x })
    }

    /// Shares of each row: `eˣ` over the row's sum of them.
    pub fn softmax(&mut self, x: Var) -> Var {
        let mut value = self.values[x.0].clone();
        for mut row in value.rows_mut() {
            let most = row.fold(f32::NEG_INFINITY, |most, &v| most.max(v));
            row.mapv_inplace(|v| (v - most).exp());
            let sum = row.sum();
            row /= sum;
        }
        self.push(value, Op::Softmax { x })
    }

    /// The columns of both.
    ///
    /// # Panics
    /// When they have not as many rows.
    pub fn beside(&mut self, a: Var, b: Var) -> Var {
        let (left, right) = (&self.values[a.0], &self.values[b.0]);
        assert_eq!(left.nrows(), right.nrows(), "as many rows");
        let columns = (left.ncols(), left.ncols() + right.ncols());
        // Not `concatenate`: along columns it lays the result in columns.
        let mut value = Array2::zeros((left.nrows(), columns.1));
        value.slice_mut(s![.., ..columns.0]).assign(left);
        value.slice_mut(s![.., columns.0..]).assign(right);
        self.push(value, Op::Beside { a, b })
    }

    /// The rows of all.
    ///
    /// # Panics
    /// When there is nothing, or they have not as many columns.
    pub fn stack(&mut self, parts: Vec<Var>) -> Var {
        let all: Vec<_> = parts
            .iter()
            .map(|part| self.values[part.0].view())
            .collect();
        let value = concatenate(Axis(0), &all).expect("as many columns");
        self.push(value, Op::Stack { parts })
    }

    /// Some rows, in this order.
    pub fn gather(&mut self, x: Var, rows: Arc<[usize]>) -> Var {
        let value = self.values[x.0].select(Axis(0), &rows);
        self.push(value, Op::Gather { x, rows })
    }

    /// The mean of the rows of each of `count` groups, none of them empty.
    pub fn mean_by(&mut self, x: Var, group: Arc<[usize]>, count: usize) -> Var {
        let value = mean_by(&self.values[x.0], &group, count);
        self.push(value, Op::MeanBy { x, group })
    }

    /// One step of a gated recurrent unit: inputs and states by row. See `Gru`.
    pub fn gru(&mut self, name: &str, x: Var, h: Var) -> Var {
        let rows = Arc::from([self.values[x.0].nrows()]);
        self.gru_along(name, x, h, rows)
    }

    /// A gated recurrent unit along sequences: the state after each row of inputs, those of each step beginning
    /// where the same sequence's row of the step before ended, those of the first in `h`. Rows lie step by step;
    /// `counts` says how many sequences there are at each, never more than before. See `Gru`.
    pub fn gru_along(&mut self, name: &str, x: Var, h: Var, counts: Arc<[usize]>) -> Var {
        let (gru, value) = Gru::forward(self, name, x, h, counts);
        self.push(value, Op::Gru(Box::new(gru)))
    }

    /// What each of the groups hears from its rows. See `Attention`.
    pub fn attend(&mut self, name: &str, of: Var, to: Var, group: Arc<[usize]>) -> Var {
        let (attention, value) = Attention::forward(self, name, of, to, group);
        self.push(value, Op::Attend(Box::new(attention)))
    }

    pub(super) const fn weights(&self) -> &'w Weights {
        self.weights
    }

    /// The gradients of the weights, given those of some values. Values keep their gradients' place: the
    /// second list is by value, for those that asked by being an input.
    #[must_use]
    pub fn backward(&self, ends: Vec<(Var, Matrix)>) -> Gradients {
        let zeros = |one: &Matrix| Array2::zeros(one.dim());
        let mut gradients = Gradients {
            weights: self.weights.all().iter().map(zeros).collect(),
            values: self.values.iter().map(|_| None).collect(),
        };
        for (var, gradient) in ends {
            gradients.add(var, gradient);
        }
        for at in (0..self.ops.len()).rev() {
            if matches!(self.ops[at], Op::Input) {
                continue;
            }
            if let Some(gradient) = gradients.values[at].take() {
                self.back(at, gradient, &mut gradients);
            }
        }
        gradients
    }

    fn back(&self, at: usize, g: Matrix, to: &mut Gradients) {
        match &self.ops[at] {
            Op::Input => {}
            Op::Affine { x, w, b } => {
                add_turned_product(&self.values[x.0], &g, &mut to.weights[*w]);
                add_column_sums(&g, &mut to.weights[*b]);
                to.add(*x, product_turned(&g, &self.weights.all()[*w]));
            }
            Op::Relu { x } => {
                let mut g = g;
                Zip::from(&mut g)
                    .and(&self.values[x.0])
                    .for_each(|g, &x| *g = if x > 0.0 { *g } else { 0.0 });
                to.add(*x, g);
            }
            Op::Product { a, b, is_turned } => {
                let (left, right) = (&self.values[a.0], &self.values[b.0]);
                if *is_turned {
                    to.add(*a, product_turned(right, &g));
                    to.add(*b, left.dot(&g));
                } else {
                    to.add(*a, product_turned(&g, right));
                    to.add(*b, left.t().dot(&g));
                }
            }
            Op::Times { a, b } => {
                to.add(*a, &g * &self.values[b.0]);
                to.add(*b, &g * &self.values[a.0]);
            }
            Op::Exp { .. } | Op::LogOnePlus { .. } | Op::Softmax { .. } => {
                self.back_bent(at, g, to);
            }
            Op::Beside { a, b } => {
                let left = self.values[a.0].ncols();
                to.add(*a, g.slice(s![.., ..left]).to_owned());
                to.add(*b, g.slice(s![.., left..]).to_owned());
            }
            Op::Stack { parts } => {
                let mut from = 0;
                for part in parts {
                    let until = from + self.values[part.0].nrows();
                    to.add(*part, g.slice(s![from..until, ..]).to_owned());
                    from = until;
                }
            }
            Op::Gather { x, rows } => {
                let mut back = Array2::zeros(self.values[x.0].dim());
                for (row, &at) in g.rows().into_iter().zip(rows.iter()) {
                    let mut slot = back.row_mut(at);
                    slot += &row;
                }
                to.add(*x, back);
            }
            Op::MeanBy { x, group } => {
                let mut counts = vec![0f32; g.nrows()];
                group.iter().for_each(|&at| counts[at] += 1.0);
                let mut back = g.select(Axis(0), group);
                for (mut row, &at) in back.rows_mut().into_iter().zip(group.iter()) {
                    row /= counts[at];
                }
                to.add(*x, back);
            }
            Op::Gru(gru) => gru.backward(self, g, to),
            Op::Attend(attention) => attention.backward(self, &g, to),
        }
    }

    /// The way back through what bends.
    fn back_bent(&self, at: usize, mut g: Matrix, to: &mut Gradients) {
        let y = &self.values[at];
        match &self.ops[at] {
            Op::Exp { x } => {
                Zip::from(&mut g)
                    .and(y)
                    .and(&self.values[x.0])
                    .for_each(|g, &y, &x| *g *= if x.abs() < STEEP { y } else { 0.0 });
                to.add(*x, g);
            }
            Op::LogOnePlus { x } => {
                Zip::from(&mut g)
                    .and(&self.values[x.0])
                    .for_each(|g, &x| *g = if x > 0.0 { *g / (1.0 + x) } else { 0.0 });
                to.add(*x, g);
            }
            Op::Softmax { x } => {
                for (mut g, y) in g.rows_mut().into_iter().zip(y.rows()) {
                    let mean = g.dot(&y);
                    Zip::from(&mut g)
                        .and(&y)
                        .for_each(|g, &y| *g = y * (*g - mean));
                }
                to.add(*x, g);
            }
            _ => {}
        }
    }
}

/// Gradients as they come together.
#[derive(Debug)]
pub struct Gradients {
    /// In the weights' order.
    pub weights: Vec<Matrix>,
    values: Vec<Option<Matrix>>,
}

impl Gradients {
    pub(super) fn add(&mut self, var: Var, gradient: Matrix) {
        match &mut self.values[var.0] {
            Some(known) => *known += &gradient,
            empty => *empty = Some(gradient),
        }
    }

    /// The gradient of an input, if anything came of it.
    #[must_use]
    pub fn input(&self, var: Var) -> Option<&Matrix> {
        self.values[var.0].as_ref()
    }
}

/// The numbers of a matrix that lies in rows, as all do on a tape.
pub(super) fn flat(matrix: &Matrix) -> &[f32] {
    matrix.as_slice().unwrap_or_default()
}

/// The same, to be written.
pub(super) fn flat_mut(matrix: &mut Matrix) -> &mut [f32] {
    matrix.as_slice_mut().unwrap_or_default()
}

/// `x W + b`.
pub(super) fn affine(x: &Matrix, w: &Matrix, b: &Matrix) -> Matrix {
    let mut value = Array2::zeros((x.nrows(), w.ncols()));
    value.assign(b);
    general_mat_mul(1.0, x, w, 1.0, &mut value);
    value
}

/// `sum += xᵀ g`.
pub(super) fn add_turned_product(x: &Matrix, g: &Matrix, sum: &mut Matrix) {
    general_mat_mul(1.0, &x.t(), g, 1.0, sum);
}

/// `a bᵀ`. Not `dot`, which lays in columns what comes of a single column and a turned matrix.
pub(super) fn product_turned(a: &Matrix, b: &Matrix) -> Matrix {
    let mut value = Array2::zeros((a.nrows(), b.nrows()));
    general_mat_mul(1.0, a, &b.t(), 0.0, &mut value);
    value
}

/// Adds every row of `g` to the one row of `sum`.
pub(super) fn add_column_sums(g: &Matrix, sum: &mut Matrix) {
    let columns = sum.ncols();
    for row in flat(g).chunks_exact(columns.max(1)) {
        for (sum, g) in flat_mut(sum).iter_mut().zip(row) {
            *sum += g;
        }
    }
}

fn mean_by(x: &Matrix, group: &[usize], count: usize) -> Matrix {
    let mut value: Matrix = Array2::zeros((count, x.ncols()));
    let mut counts = vec![0f32; count];
    for (row, &at) in x.rows().into_iter().zip(group) {
        let mut slot = value.row_mut(at);
        slot += &row;
        counts[at] += 1.0;
    }
    for (mut row, count) in value.rows_mut().into_iter().zip(counts) {
        row /= count.max(1.0);
    }
    value
}
