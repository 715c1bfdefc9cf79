//! Adam (Kingma and Ba 2015), with the gradient's length bounded.

use ndarray::{Array2, Zip};

use super::{Matrix, Weights};

/// What may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Of the running means of gradients and of their squares.
    pub decay: (f32, f32),
    /// Longest gradient, over all weights together.
    pub longest: f32,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self {
            decay: (0.9, 0.99),
            longest: 1.0,
        }
    }
}

/// The optimiser's state.
#[derive(Clone, Debug)]
pub struct Adam {
    settings: AdamSettings,
    means: Vec<Matrix>,
    squares: Vec<Matrix>,
    steps: i32,
}

impl Adam {
    /// For weights of this shape.
    #[must_use]
    pub fn new(weights: &Weights, settings: AdamSettings) -> Self {
        let zeros = || weights.all().iter().map(|one| Array2::zeros(one.dim()));
        Self {
            settings,
            means: zeros().collect(),
            squares: zeros().collect(),
            steps: 0,
        }
    }

    /// One step against these gradients, in the weights' order.
    pub fn step(&mut self, weights: &mut Weights, gradients: &[Matrix], rate: f32) {
        self.steps = self.steps.saturating_add(1);
        let squares = gradients.iter().flat_map(|one| one.iter().map(|g| g * g));
        let length = squares.sum::<f32>().sqrt();
        if !length.is_finite() {
            return;
        }
        let shrink = (self.settings.longest / length.max(1e-12)).min(1.0);
        let (first, second) = self.settings.decay;
        let (fresh, fresher) = (1.0 - first.powi(self.steps), 1.0 - second.powi(self.steps));
        let state = self.means.iter_mut().zip(&mut self.squares);
        for ((weight, gradient), (mean, square)) in
            weights.all_mut().iter_mut().zip(gradients).zip(state)
        {
            Zip::from(weight)
                .and(gradient)
                .and(mean)
                .and(square)
                .for_each(|w, &g, m, s| {
                    let g = g * shrink;
                    *m = first * *m + (1.0 - first) * g;
                    *s = second * *s + (1.0 - second) * g * g;
                    *w -= rate * (*m / fresh) / ((*s / fresher).sqrt() + 1e-8);
                });
        }
    }

    /// The state as weights, to be saved beside them.
    #[must_use]
    pub fn state(&self) -> (Vec<Matrix>, Vec<Matrix>, i32) {
        (self.means.clone(), self.squares.clone(), self.steps)
    }

    /// Goes on from a state of the same shapes; anything else is ignored and says so by `false`.
    pub fn restore(&mut self, means: Vec<Matrix>, squares: Vec<Matrix>, steps: i32) -> bool {
        let alike = |old: &[Matrix], new: &[Matrix]| {
            old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a.dim() == b.dim())
        };
        let fits = alike(&self.means, &means) && alike(&self.squares, &squares) && 0 <= steps;
        if fits {
            (self.means, self.squares, self.steps) = (means, squares, steps);
        }
        fits
    }
}
