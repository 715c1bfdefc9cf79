//! The twin's own tape.

use std::sync::Arc;

use splitplace_twin::net::{Matrix, Tape, Weights};

use crate::{Contestant, Found, Given, HIDDEN, Size};

pub struct Ours {
    size: Size,
    weights: Weights,
    x: Matrix,
}

fn matrix(columns: usize, numbers: &[f32]) -> Matrix {
    let shape = (numbers.len() / columns, columns);
    Matrix::from_shape_vec(shape, numbers.to_vec()).expect("whole rows")
}

impl Ours {
    pub fn new(given: &Given) -> Self {
        let mut weights = Weights::default();
        for (name, rows) in [("g.w", 2 * HIDDEN), ("g.b", 1), ("g.u", HIDDEN), ("g.c", 1)] {
            weights.zeros(name, rows, 3 * HIDDEN);
        }
        let values = [&given.w, &given.b, &given.u, &given.c];
        let values = values.map(|numbers| matrix(3 * HIDDEN, numbers));
        Self {
            size: given.size,
            weights: weights.with_values(values.into()),
            x: matrix(2 * HIDDEN, &given.x),
        }
    }
}

impl Contestant for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn run(&self) -> Found {
        let Size { rows, steps } = self.size;
        let mut tape = Tape::new(&self.weights);
        let x = tape.input(self.x.clone());
        let h = tape.input(Matrix::zeros((rows, HIDDEN)));
        let states = tape.gru_along("g", x, h, Arc::from(vec![rows; steps]));
        let last: Arc<[usize]> = ((steps - 1) * rows..steps * rows).collect();
        let last = tape.gather(states, last);
        let gradients = tape.backward(vec![(last, Matrix::ones((rows, HIDDEN)))]);
        let numbers = |matrix: &Matrix| matrix.iter().copied().collect();
        Found {
            state: numbers(tape.value(last)),
            w: numbers(&gradients.weights[0]),
            u: numbers(&gradients.weights[2]),
        }
    }
}
