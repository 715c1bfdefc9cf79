//! Linear programs, solved by `microlp`.
//!
//! Simplex ends in a vertex, which is what a table that mixes as little as possible needs, and it is pure Rust.
//! `benches/programs.rs` holds it against the interior points of `clarabel`, for programs of the size of the backlog
//! LP (100 variables, 13 rows) and for the small ones of the queueing LP. This is the only file that names it.

use microlp::{ComparisonOp, OptimizationDirection, Problem};

use super::ExitError;

/// How a row is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// Equal to the bound.
    Equal,
    /// At most the bound.
    AtMost,
}

/// A row of a program: coefficients by variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Variable and coefficient; the same variable may come twice.
    pub terms: Vec<(usize, f64)>,
    /// How it is bounded.
    pub sense: Sense,
    /// By what.
    pub bound: f64,
}

/// Maximise `gains · x` with `x >= 0` and the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// One for each variable.
    pub gains: Vec<f64>,
    /// The constraints.
    pub rows: Vec<Row>,
}

impl Program {
    /// Adds a row.
    pub fn row(&mut self, terms: Vec<(usize, f64)>, sense: Sense, bound: f64) {
        self.rows.push(Row {
            terms,
            sense,
            bound,
        });
    }

    /// A vertex that is optimal, and its gain.
    ///
    /// # Errors
    /// When there is no solution, none is best, a coefficient is not finite, or the solver gave up.
    pub fn solve(&self) -> Result<(Vec<f64>, f64), ExitError> {
        let finite = |x: &f64| x.is_finite();
        let terms = self.rows.iter().flat_map(|row| &row.terms);
        let known = terms
            .clone()
            .all(|(var, x)| *var < self.gains.len() && x.is_finite());
        let bounds = self.rows.iter().all(|row| row.bound.is_finite());
        if !known || !bounds || !self.gains.iter().all(finite) {
            return Err(ExitError::Program);
        }
        let mut problem = Problem::new(OptimizationDirection::Maximize);
        let gains = self.gains.iter();
        let vars: Vec<_> = gains
            .map(|&g| problem.add_var(g, (0.0, f64::INFINITY)))
            .collect();
        for row in &self.rows {
            let mut dense = vec![0.0; self.gains.len()];
            for &(var, x) in &row.terms {
                dense[var] += x;
            }
            let terms = dense.iter().zip(&vars).filter(|(x, _)| **x != 0.0);
            let terms: Vec<_> = terms.map(|(&x, &var)| (var, x)).collect();
            let op = match row.sense {
                Sense::Equal => ComparisonOp::Eq,
                Sense::AtMost => ComparisonOp::Le,
            };
            problem.add_constraint(terms, op, row.bound);
        }
        let outcome = problem.solve().map_err(|_| ExitError::Program)?;
        let solution = outcome.into_solution().map_err(|_| ExitError::Program)?;
        let x: Vec<f64> = vars
            .iter()
            .map(|&var| solution.var_value(var).max(0.0))
            .collect();
        if x.iter().all(finite) {
            Ok((x, solution.objective()))
        } else {
            Err(ExitError::Program)
        }
    }
}
