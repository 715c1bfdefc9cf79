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
    tape::{Gradients, Tape, Var},
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
        let size = rows.ncols() / HEADS;
        let mut alpha = Array2::zeros((rows.nrows(), HEADS));
        let mut most = vec![[f32::NEG_INFINITY; HEADS]; groups.nrows()];
        for (row, &at) in group.iter().enumerate() {
            for head in 0..HEADS {
                let columns = head * size..(head + 1) * size;
                let score: f32 = columns
                    .map(|k| weights[(0, k)] * leaky(rows[(row, k)] + groups[(at, k)]))
                    .sum();
                alpha[(row, head)] = score;
                most[at][head] = most[at][head].max(score);
            }
        }
        let mut totals = vec![[0f32; HEADS]; groups.nrows()];
        for (row, &at) in group.iter().enumerate() {
            for head in 0..HEADS {
                let e = (alpha[(row, head)] - most[at][head]).exp();
                alpha[(row, head)] = e;
                totals[at][head] += e;
            }
        }
        let mut message = Array2::zeros((groups.nrows(), size));
        for (row, &at) in group.iter().enumerate() {
            for head in 0..HEADS {
                let share = alpha[(row, head)] / totals[at][head];
                alpha[(row, head)] = share;
                for k in 0..size {
                    message[(at, k)] += share * rows[(row, head * size + k)] / HEADS as f32;
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
        let size = rows.ncols() / HEADS;
        let weights = &tape.weights().all()[self.att];
        let mut da = Array2::zeros(rows.dim());
        let mut db = Array2::zeros(groups.dim());
        // Of α, and its mean over the group, which the softmax takes off.
        let mut dalpha: Matrix = Array2::zeros(self.alpha.dim());
        let mut mean = vec![[0f32; HEADS]; groups.nrows()];
        for (row, &at) in self.group.iter().enumerate() {
            for head in 0..HEADS {
                let share = self.alpha[(row, head)];
                let mut d = 0.0;
                for k in 0..size {
                    let g = g[(at, k)] / HEADS as f32;
                    d += g * rows[(row, head * size + k)];
                    da[(row, head * size + k)] += g * share;
                }
                dalpha[(row, head)] = d;
                mean[at][head] += share * d;
            }
        }
        let datt = &mut to.weights[self.att];
        for (row, &at) in self.group.iter().enumerate() {
            for head in 0..HEADS {
                let dscore = self.alpha[(row, head)] * (dalpha[(row, head)] - mean[at][head]);
                for k in head * size..(head + 1) * size {
                    let sum = rows[(row, k)] + groups[(at, k)];
                    datt[(0, k)] += dscore * leaky(sum);
                    let d = dscore * weights[(0, k)] * if sum > 0.0 { 1.0 } else { LEAK };
                    da[(row, k)] += d;
                    db[(at, k)] += d;
                }
            }
        }
        to.add(self.a, da);
        to.add(self.b, db);
    }
}

const fn leaky(x: f32) -> f32 {
    if x > 0.0 { x } else { LEAK * x }
}
