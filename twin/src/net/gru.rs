//! A gated recurrent unit (Cho et al. 2014), all rows at once.
//!
//! ```text
//! r = σ(x Wr + h Ur)   z = σ(x Wz + h Uz)   n = tanh(x Wn + r ∘ (h Un))   h' = (1 - z) ∘ n + z ∘ h
//! ```
//! each with its bias; the three lie side by side in `{name}.w`, `{name}.b`, `{name}.u`, `{name}.c`.

use ndarray::{Array2, Axis};

use super::{
    Matrix,
    tape::{Gradients, Tape, Var},
};

/// What the way back needs.
#[derive(Debug)]
pub(super) struct Gru {
    x: Var,
    h: Var,
    numbers: [usize; 4],
    /// r, z and n side by side.
    gates: Matrix,
    /// `h Un` with its bias.
    inner: Matrix,
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Gru {
    pub(super) fn forward(tape: &Tape<'_>, name: &str, x: Var, h: Var) -> (Self, Matrix) {
        let weights = tape.weights();
        let numbers = ["w", "b", "u", "c"].map(|one| weights.number(&format!("{name}.{one}")));
        let [w, b, u, c] = numbers.map(|number| &weights.all()[number]);
        let (rows, old) = (tape.value(x), tape.value(h));
        let mut gates = rows.dot(w) + b;
        let states = old.dot(u) + c;
        let size = old.ncols();
        let mut inner = Array2::zeros(old.dim());
        let mut new = Array2::zeros(old.dim());
        for row in 0..old.nrows() {
            for k in 0..size {
                let r = sigmoid(gates[(row, k)] + states[(row, k)]);
                let z = sigmoid(gates[(row, size + k)] + states[(row, size + k)]);
                let own = states[(row, 2 * size + k)];
                let n = (gates[(row, 2 * size + k)] + r * own).tanh();
                gates[(row, k)] = r;
                gates[(row, size + k)] = z;
                gates[(row, 2 * size + k)] = n;
                inner[(row, k)] = own;
                new[(row, k)] = (1.0 - z) * n + z * old[(row, k)];
            }
        }
        let gru = Self {
            x,
            h,
            numbers,
            gates,
            inner,
        };
        (gru, new)
    }

    pub(super) fn backward(&self, tape: &Tape<'_>, g: &Matrix, to: &mut Gradients) {
        let (rows, old) = (tape.value(self.x), tape.value(self.h));
        let size = old.ncols();
        // Of what goes into the gates from the inputs, and from the states: they differ in n only.
        let mut outer = Array2::zeros(self.gates.dim());
        let mut states = Array2::zeros(self.gates.dim());
        let mut back = Array2::zeros(old.dim());
        for row in 0..old.nrows() {
            for k in 0..size {
                let (r, z) = (self.gates[(row, k)], self.gates[(row, size + k)]);
                let n = self.gates[(row, 2 * size + k)];
                let g = g[(row, k)];
                let dn = g * (1.0 - z) * (1.0 - n * n);
                let dz = g * (old[(row, k)] - n) * z * (1.0 - z);
                let dr = dn * self.inner[(row, k)] * r * (1.0 - r);
                outer[(row, k)] = dr;
                outer[(row, size + k)] = dz;
                outer[(row, 2 * size + k)] = dn;
                states[(row, k)] = dr;
                states[(row, size + k)] = dz;
                states[(row, 2 * size + k)] = dn * r;
                back[(row, k)] = g * z;
            }
        }
        let [w, b, u, c] = self.numbers;
        let all = tape.weights().all();
        to.weights[w] += &rows.t().dot(&outer);
        to.weights[b] += &outer.sum_axis(Axis(0)).insert_axis(Axis(0));
        to.weights[u] += &old.t().dot(&states);
        to.weights[c] += &states.sum_axis(Axis(0)).insert_axis(Axis(0));
        to.add(self.x, outer.dot(&all[w].t()));
        back += &states.dot(&all[u].t());
        to.add(self.h, back);
    }
}
