//! Every derivative against differences of values; saving and reading; learning something.

use std::sync::Arc;

use ndarray::Array2;

use super::*;
use crate::{Seed, Stream};

fn drawn(rows: usize, columns: usize, stream: &mut Stream) -> Matrix {
    Array2::from_shape_simple_fn((rows, columns), || (2.0 * stream.unit() - 1.0) as f32)
}

fn weights() -> Weights {
    let mut stream = Seed(1).stream("weights", 0);
    let mut weights = Weights::default();
    for (name, rows, columns) in [
        ("in.w", 3, 4),
        ("in.b", 1, 4),
        ("cell.w", 8, 12),
        ("cell.b", 1, 12),
        ("cell.u", 4, 12),
        ("cell.c", 1, 12),
        ("ear.of.w", 4, 10),
        ("ear.of.b", 1, 10),
        ("ear.to.w", 4, 10),
        ("ear.to.b", 1, 10),
        ("ear.att", 1, 10),
        ("out.w", 5, 1),
        ("out.b", 1, 1),
    ] {
        weights.draw(name, rows, columns, &mut stream);
    }
    weights
}

/// A network with every operation in it, its inputs and its sum.
fn run<'w>(weights: &'w Weights, x: &Matrix) -> (Tape<'w>, Var, Var) {
    let mut tape = Tape::new(weights);
    let given = tape.input(x.clone());
    let all = tape.affine("in", given);
    let some = tape.gather(all, Arc::from([3, 0, 1]));
    let both = tape.beside(some, some);
    let state = tape.gather(all, Arc::from([1, 2, 4]));
    let new = tape.gru("cell", both, state);
    // Two sequences: one of three rows, one of two.
    let inputs = tape.beside(all, all);
    let along = tape.gru_along("cell", inputs, new, Arc::from([2, 2, 1]));
    let stack = tape.stack(vec![along, new]);
    let groups = tape.mean_by(stack, Arc::from([0, 1, 0, 1, 2, 2, 0, 1]), 3);
    let heard = tape.attend("ear", stack, groups, Arc::from([0, 1, 0, 1, 2, 0, 0, 1]));
    let heard = tape.relu(heard);
    let shares = tape.softmax(heard);
    let bent = tape.log_one_plus(heard);
    let heard = tape.times(shares, bent);
    let across = tape.turned_product(heard, shares);
    let mixed = tape.product(heard, across);
    let grown = tape.exp(mixed);
    let heard = tape.times(grown, heard);
    let out = tape.affine("out", heard);
    (tape, given, out)
}

fn total(weights: &Weights, x: &Matrix) -> f64 {
    let (tape, _, out) = run(weights, x);
    tape.value(out).iter().map(|v| f64::from(*v)).sum()
}

#[test]
fn derivatives_agree_with_differences() {
    let mut weights = weights();
    let x = drawn(5, 3, &mut Seed(2).stream("x", 0));
    let (tape, given, out) = run(&weights, &x);
    let ones = Array2::ones(tape.value(out).dim());
    let gradients = tape.backward(vec![(out, ones)]);
    let inputs = gradients.input(given).unwrap().clone();
    // Small enough that few entries cross a kink of a rectifier between their two values.
    let step = 2e-3f32;
    let (mut entries, mut wrong) = (0, Vec::new());
    let mut close = |found: f32, plus: f64, minus: f64, what: &str| {
        let difference = (plus - minus) / (2.0 * f64::from(step));
        let error = (f64::from(found) - difference).abs();
        entries += 1;
        if error > 1e-3 + 0.01 * difference.abs() {
            wrong.push(format!("{what}: {found} {difference}"));
        }
    };
    for row in 0..5 {
        for column in 0..3 {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[(row, column)] += by;
                total(&weights, &x)
            };
            close(inputs[(row, column)], moved(step), moved(-step), "input");
        }
    }
    for number in 0..weights.all().len() {
        for at in 0..weights.all()[number].len() {
            let columns = weights.all()[number].ncols();
            let place = (at / columns, at % columns);
            let mut moved = |by: f32| {
                weights.all_mut()[number][place] += by;
                let value = total(&weights, &x);
                weights.all_mut()[number][place] -= by;
                value
            };
            let (plus, minus) = (moved(step), moved(-step));
            close(gradients.weights[number][place], plus, minus, "weight");
        }
    }
    assert!(wrong.len() * 100 <= entries, "{entries}: {wrong:?}");
}

#[test]
fn weights_come_back_as_they_were_and_rubbish_is_refused() {
    let weights = weights();
    let bytes = weights.to_bytes();
    let again = Weights::from_bytes(&bytes).unwrap();
    assert_eq!(again, weights);
    assert_eq!(again.check(&weights), Ok(()));
    for length in 0..bytes.len() {
        assert!(Weights::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Weights::from_bytes(&longer).is_err());
    let mut other = Weights::default();
    other.zeros("in.w", 3, 5);
    assert!(weights.check(&other).is_err());
}

#[test]
fn adam_finds_a_plane() {
    let mut weights = Weights::default();
    let mut stream = Seed(3).stream("weights", 0);
    weights.draw("out.w", 3, 1, &mut stream);
    weights.zeros("out.b", 1, 1);
    let x = drawn(64, 3, &mut Seed(3).stream("x", 0));
    let y = x.dot(&ndarray::array![[1.0], [-2.0], [0.5]]) + 3.0;
    let mut adam = Adam::new(&weights, AdamSettings::default());
    for _ in 0..800 {
        let gradients = {
            let mut tape = Tape::new(&weights);
            let given = tape.input(x.clone());
            let out = tape.affine("out", given);
            let error = (tape.value(out) - &y) / 64.0;
            tape.backward(vec![(out, error)])
        };
        adam.step(&mut weights, &gradients.weights, 0.05);
    }
    assert!((weights.all()[0][(1, 0)] + 2.0).abs() < 0.01, "{weights:?}");
    assert!((weights.all()[1][(0, 0)] - 3.0).abs() < 0.01, "{weights:?}");
}
