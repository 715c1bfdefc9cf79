//! Attention over the rows of a group (Brody, Alon, Yahav 2022: GATv2), the mean of its heads.
//!
//! With `a = of · W` of each row and `b = to · V` of each group, heads side by side in the columns:
//!
//! ```text
//! score = att · LeakyReLU(a + b)   α = softmax over the group's rows   message = mean over heads of Σ α a
//! ```
//! Weights: `{name}.of.{w,b}`, `{name}.to.{w,b}`, and `{name}.att` of one row.

use std::sync::Arc;

use ndarray::Array2;

use super::{
    Matrix,
    bend::exp,
    tape::{Gradients, Tape, Var, flat, flat_mut},
};

/// Heads, as in ChainNet.
pub(crate) const HEADS: usize = 2;
/// Slope of LeakyReLU below 0.
const LEAK: f32 = 0.2;

/// What the way back needs.
#[derive(Debug)]
pub(super) struct Attention {
    a: Var,
    b: Var,
    att: usize,
    group: Arc<[usize]>,
    /// By row and head.
    alpha: Matrix,
}

impl Attention {
    pub(super) fn forward(
        tape: &mut Tape<'_>,
        name: &str,
        of: Var,
        to: Var,
        group: Arc<[usize]>,
    ) -> (Self, Matrix) {
        let a = tape.affine(&format!("{name}.of"), of);
        let b = tape.affine(&format!("{name}.to"), to);
        let att = tape.weights().number(&format!("{name}.att"));
        let weights = &tape.weights().all()[att];
        let (rows, groups) = (tape.value(a), tape.value(b));
        let wide = rows.ncols();
        let size = wide / HEADS;
        let mut alpha: Matrix = Array2::zeros((rows.nrows(), HEADS));
        let mut most = vec![[f32::NEG_INFINITY; HEADS]; groups.nrows()];
        for (row, &at) in group.iter().enumerate() {
            let (own, other) = (line(rows, row), line(groups, at));
            for head in 0..HEADS {
                let columns = head * size..(head + 1) * size;
                let weights = &flat(weights)[columns.clone()];
                let score = score(&own[columns.clone()], &other[columns], weights);
                alpha[(row, head)] = score;
                most[at][head] = most[at][head].max(score);
            }
        }
        let mut totals = vec![[0f32; HEADS]; groups.nrows()];
        for (row, &at) in group.iter().enumerate() {
            for head in 0..HEADS {
                let e = exp(alpha[(row, head)] - most[at][head]);
                alpha[(row, head)] = e;
                totals[at][head] += e;
            }
        }
        let mut message: Matrix = Array2::zeros((groups.nrows(), size));
        for (row, &at) in group.iter().enumerate() {
            let message = &mut flat_mut(&mut message)[at * size..(at + 1) * size];
            for (head, own) in line(rows, row).chunks_exact(size).enumerate() {
                let share = alpha[(row, head)] / totals[at][head];
                alpha[(row, head)] = share;
                let weight = share / HEADS as f32;
                for (sum, own) in message.iter_mut().zip(own) {
                    *sum += weight * own;
                }
            }
        }
        let attention = Self {
            a,
            b,
            att,
            group,
            alpha,
        };
        (attention, message)
    }

    pub(super) fn backward(&self, tape: &Tape<'_>, g: &Matrix, to: &mut Gradients) {
        let (rows, groups) = (tape.value(self.a), tape.value(self.b));
        let wide = rows.ncols();
        let size = wide / HEADS;
        let weights = flat(&tape.weights().all()[self.att]);
        let mut da: Matrix = Array2::zeros(rows.dim());
        let mut db: Matrix = Array2::zeros(groups.dim());
        // Of α, and its mean over the group, which the softmax takes off.
        let mut dalpha: Matrix = Array2::zeros(self.alpha.dim());
        let mut mean = vec![[0f32; HEADS]; groups.nrows()];
        for (row, &at) in self.group.iter().enumerate() {
            let heads = flat_mut(&mut da)[row * wide..].chunks_exact_mut(size);
            let heads = heads.zip(line(rows, row).chunks_exact(size));
            for (head, (da, own)) in heads.take(HEADS).enumerate() {
                let weight = self.alpha[(row, head)] / HEADS as f32;
                let g = line(g, at);
                for (da, g) in da.iter_mut().zip(g) {
                    *da = weight * g;
                }
                let d = dot(g, own) / HEADS as f32;
                dalpha[(row, head)] = d;
                mean[at][head] += self.alpha[(row, head)] * d;
            }
        }
        let datt = flat_mut(&mut to.weights[self.att]);
        for (row, &at) in self.group.iter().enumerate() {
            let (own, other) = (line(rows, row), line(groups, at));
            let da = &mut flat_mut(&mut da)[row * wide..(row + 1) * wide];
            let db = &mut flat_mut(&mut db)[at * wide..(at + 1) * wide];
            for head in 0..HEADS {
                let d = self.alpha[(row, head)] * (dalpha[(row, head)] - mean[at][head]);
                let columns = head * size..(head + 1) * size;
                let numbers = da[columns.clone()]
                    .iter_mut()
                    .zip(&mut db[columns.clone()])
                    .zip(&mut datt[columns.clone()])
                    .zip(&weights[columns.clone()])
                    .zip(&own[columns.clone()])
                    .zip(&other[columns]);
                for (((((da, db), datt), weight), own), other) in numbers {
                    let sum = own + other;
                    *datt += d * leaky(sum);
                    let d = d * weight * if sum > 0.0 { 1.0 } else { LEAK };
                    *da += d;
                    *db += d;
                }
            }
        }
        to.add(self.a, da);
        to.add(self.b, db);
    }
}

/// A row's numbers.
fn line(matrix: &Matrix, row: usize) -> &[f32] {
    let columns = matrix.ncols();
    &flat(matrix)[row * columns..(row + 1) * columns]
}

/// Sums side by side, so that additions need not wait for each other; their order is fixed.
const LANES: usize = 16;

/// `Σ w LeakyReLU(a + b)`.
fn score(a: &[f32], b: &[f32], w: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let parts = a.chunks(LANES).zip(b.chunks(LANES)).zip(w.chunks(LANES));
    for ((a, b), w) in parts {
        for (((sum, a), b), w) in sums.iter_mut().zip(a).zip(b).zip(w) {
            *sum += w * leaky(a + b);
        }
    }
    sums.iter().sum()
}

/// `Σ a b`.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

#[inline]
const fn leaky(x: f32) -> f32 {
    if x > 0.0 { x } else { LEAK * x }
}
