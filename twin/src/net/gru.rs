//! A gated recurrent unit (Cho et al. 2014), all rows at once, step after step.
//!
//! ```text
//! r = σ(x Wr + h Ur)   z = σ(x Wz + h Uz)   n = tanh(x Wn + r ∘ (h Un))   h' = (1 - z) ∘ n + z ∘ h
//! ```
//! each with its bias; the three lie side by side in `{name}.w`, `{name}.b`, `{name}.u`, `{name}.c`.
//!
//! Sequences lie in rows step by step, the longest first, so that those which go on are always the first rows of
//! the step before: `counts` says how many there are at each step. What the inputs put into the gates is one
//! product for all steps; only the states' part goes one after another. A single step is sequences of one.

use std::{ops::Range, sync::Arc};

use ndarray::{Array2, ArrayView2, linalg::general_mat_mul, s};

use super::{
    Matrix,
    bend::{sigmoid, tanh},
    tape::{
        Gradients, Tape, Var, add_column_sums, add_turned_product, affine, flat, flat_mut,
        product_turned,
    },
};

/// What the way back needs.
#[derive(Debug)]
pub(super) struct Gru {
    x: Var,
    h: Var,
    counts: Arc<[usize]>,
    numbers: [usize; 4],
    /// The states that the rows began with.
    old: Matrix,
    /// r, z and n side by side.
    gates: Matrix,
    /// `h Un` with its bias.
    inner: Matrix,
}

impl Gru {
    /// The state after every row.
    pub(super) fn forward(
        tape: &Tape<'_>,
        name: &str,
        x: Var,
        h: Var,
        counts: Arc<[usize]>,
    ) -> (Self, Matrix) {
        let weights = tape.weights();
        let numbers = ["w", "b", "u", "c"].map(|one| weights.number(&format!("{name}.{one}")));
        let [w, b, u, c] = numbers.map(|number| &weights.all()[number]);
        let (rows, first) = (tape.value(x), tape.value(h));
        let size = first.ncols();
        let mut gates = affine(rows, w, b);
        let mut old: Matrix = Array2::zeros((rows.nrows(), size));
        let (mut inner, mut new) = (old.clone(), old.clone());
        let mut states: Matrix = Array2::zeros((first.nrows(), 3 * size));
        let mut before = 0..0;
        for (step, range) in steps(&counts).enumerate() {
            let from: ArrayView2<'_, f32> = if step == 0 {
                first.slice(s![..range.len(), ..])
            } else {
                new.slice(s![before.start..before.start + range.len(), ..])
            };
            old.slice_mut(s![range.clone(), ..]).assign(&from);
            let mut states = states.slice_mut(s![..range.len(), ..]);
            states.assign(c);
            let from = old.slice(s![range.clone(), ..]);
            general_mat_mul(1.0, &from, u, 1.0, &mut states);
            let states = states.as_slice().unwrap_or_default();
            let lines = flat_mut(&mut gates)[range.start * 3 * size..]
                .chunks_exact_mut(3 * size)
                .zip(states.chunks_exact(3 * size))
                .zip(flat(&old)[range.start * size..].chunks_exact(size))
                .zip(flat_mut(&mut inner)[range.start * size..].chunks_exact_mut(size))
                .zip(flat_mut(&mut new)[range.start * size..].chunks_exact_mut(size));
            for ((((gates, states), old), inner), new) in lines {
                forward_row(gates, states, old, inner, new);
            }
            before = range;
        }
        let gru = Self {
            x,
            h,
            counts,
            numbers,
            old,
            gates,
            inner,
        };
        (gru, new)
    }

    pub(super) fn backward(&self, tape: &Tape<'_>, mut g: Matrix, to: &mut Gradients) {
        let [w, b, u, c] = self.numbers;
        let all = tape.weights().all();
        let size = self.old.ncols();
        // Of what goes into the gates from the inputs, and from the states: they differ in n only.
        let mut outer: Matrix = Array2::zeros(self.gates.dim());
        let mut states: Matrix = Array2::zeros(self.gates.dim());
        let mut first: Matrix = Array2::zeros(tape.value(self.h).dim());
        let ranges: Vec<Range<usize>> = steps(&self.counts).collect();
        let mut back: Matrix = Array2::zeros(first.dim());
        for (step, range) in ranges.iter().enumerate().rev() {
            let (narrow, wide) = (range.start * size, range.start * 3 * size);
            let lines = flat(&g)[narrow..range.end * size]
                .chunks_exact(size)
                .zip(flat(&self.gates)[wide..].chunks_exact(3 * size))
                .zip(flat(&self.inner)[narrow..].chunks_exact(size))
                .zip(flat(&self.old)[narrow..].chunks_exact(size))
                .zip(flat_mut(&mut outer)[wide..].chunks_exact_mut(3 * size))
                .zip(flat_mut(&mut states)[wide..].chunks_exact_mut(3 * size))
                .zip(flat_mut(&mut back).chunks_exact_mut(size));
            for ((((((g, gates), inner), old), outer), states), back) in lines {
                backward_row(g, (gates, inner, old), (outer, states), back);
            }
            let rows = states.slice(s![range.clone(), ..]);
            let mut back = back.slice_mut(s![..range.len(), ..]);
            general_mat_mul(1.0, &rows, &all[u].t(), 1.0, &mut back);
            let mut before = match step.checked_sub(1) {
                Some(at) => g.slice_mut(s![ranges[at].start..ranges[at].start + range.len(), ..]),
                None => first.slice_mut(s![..range.len(), ..]),
            };
            before += &back;
        }
        add_turned_product(tape.value(self.x), &outer, &mut to.weights[w]);
        add_column_sums(&outer, &mut to.weights[b]);
        add_turned_product(&self.old, &states, &mut to.weights[u]);
        add_column_sums(&states, &mut to.weights[c]);
        to.add(self.x, product_turned(&outer, &all[w]));
        to.add(self.h, first);
    }
}

/// The rows of each step.
fn steps(counts: &[usize]) -> impl Iterator<Item = Range<usize>> {
    counts.iter().scan(0, |from, &count| {
        let range = *from..*from + count;
        *from = range.end;
        Some(range)
    })
}

/// One row: `gates` are what the inputs put into them and become r, z and n.
fn forward_row(gates: &mut [f32], states: &[f32], old: &[f32], inner: &mut [f32], new: &mut [f32]) {
    let size = old.len();
    let (both, n) = gates.split_at_mut(2 * size);
    let (both_states, own) = states.split_at(2 * size);
    for (gate, state) in both.iter_mut().zip(both_states) {
        *gate = sigmoid(*gate + state);
    }
    let (r, z) = both.split_at(size);
    inner.copy_from_slice(own);
    for ((n, own), r) in n.iter_mut().zip(own).zip(r) {
        *n = tanh(*n + r * own);
    }
    for (((new, z), n), old) in new.iter_mut().zip(z).zip(&*n).zip(old) {
        *new = (1.0 - z) * n + z * old;
    }
}

/// One row back: what came of the gates, of the states' part, and straight to the old state.
fn backward_row(
    g: &[f32],
    (gates, inner, old): (&[f32], &[f32], &[f32]),
    (outer, states): (&mut [f32], &mut [f32]),
    back: &mut [f32],
) {
    let size = g.len();
    let (r, rest) = gates.split_at(size);
    let (z, n) = rest.split_at(size);
    let (dr, rest) = outer.split_at_mut(size);
    let (dz, dn) = rest.split_at_mut(size);
    let (inner, old, back) = (&inner[..size], &old[..size], &mut back[..size]);
    let (dn, z, n, r) = (&mut dn[..size], &z[..size], &n[..size], &r[..size]);
    for k in 0..size {
        dn[k] = g[k] * (1.0 - z[k]) * (1.0 - n[k] * n[k]);
        dz[k] = g[k] * (old[k] - n[k]) * z[k] * (1.0 - z[k]);
        dr[k] = dn[k] * inner[k] * r[k] * (1.0 - r[k]);
        back[k] = g[k] * z[k];
    }
    let (both, last) = states.split_at_mut(2 * size);
    let (first, second) = both.split_at_mut(size);
    first.copy_from_slice(dr);
    second.copy_from_slice(dz);
    for ((last, dn), r) in last.iter_mut().zip(&*dn).zip(r) {
        *last = dn * r;
    }
}
