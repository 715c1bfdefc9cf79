//! Which linear-program solver? Expected: a simplex on 100 variables and 13 rows needs some 30 pivots of 13 by
//! 100, well below a millisecond; an interior point some 15 factorisations of 113 by 113, about as long, and ends
//! between vertices.

use clarabel::{
    algebra::CscMatrix,
    solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver as _, NonnegativeConeT, ZeroConeT},
};
use criterion::{Criterion, criterion_group, criterion_main};
use splitplace_policy::exit::{
    Station, backlog,
    program::{Program, Sense},
    synthetic::Synthetic,
};
use splitplace_queueing::Arrivals;

/// The same program for clarabel: minimise, rows and bounds as cones.
fn by_interior_point(program: &Program) -> f64 {
    let n = program.gains.len();
    let (equal, at_most): (Vec<_>, Vec<_>) = program
        .rows
        .iter()
        .partition(|row| row.sense == Sense::Equal);
    let rows: Vec<_> = equal.iter().chain(&at_most).collect();
    let m = rows.len() + n;
    let mut columns: Vec<Vec<(usize, f64)>> = vec![Vec::new(); n];
    for (number, row) in rows.iter().enumerate() {
        for &(var, x) in &row.terms {
            match columns[var].last_mut() {
                Some((last, sum)) if *last == number => *sum += x,
                _ => columns[var].push((number, x)),
            }
        }
    }
    for (var, column) in columns.iter_mut().enumerate() {
        column.push((rows.len() + var, -1.0));
    }
    let mut starts = vec![0];
    let (mut at, mut values) = (Vec::new(), Vec::new());
    for column in &columns {
        at.extend(column.iter().map(|(row, _)| *row));
        values.extend(column.iter().map(|(_, x)| *x));
        starts.push(at.len());
    }
    let a = CscMatrix::new(m, n, starts, at, values);
    let mut bounds: Vec<f64> = rows.iter().map(|row| row.bound).collect();
    bounds.resize(m, 0.0);
    let cost: Vec<f64> = program.gains.iter().map(|g| -g).collect();
    let cones = [ZeroConeT(equal.len()), NonnegativeConeT(at_most.len() + n)];
    let settings = DefaultSettingsBuilder::default().verbose(false).build();
    let settings = settings.expect("settings");
    let zero = CscMatrix::<f64>::zeros((n, n));
    let mut solver =
        DefaultSolver::new(&zero, &cost, &a, &bounds, &cones, settings).expect("a program");
    solver.solve();
    -solver.solution.obj_val
}

fn programs(c: &mut Criterion) {
    let table = Synthetic::default().table(10).expect("a table");
    let station = Station {
        arrivals: Arrivals::poisson(5.0).expect("a rate"),
        capacity: 11,
        target: 0.01,
    };
    let large = backlog::program(&table, &station).expect("a program");
    let exits = 0..table.exits();
    let mut small = Program {
        gains: exits.clone().map(|e| table.accuracy(e)).collect(),
        rows: Vec::new(),
    };
    small.row(exits.clone().map(|e| (e, 1.0)).collect(), Sense::Equal, 1.0);
    small.row(
        exits.clone().map(|e| (e, table.mean(e))).collect(),
        Sense::Equal,
        0.15,
    );
    small.row(
        exits.map(|e| (e, table.second_moment(e))).collect(),
        Sense::AtMost,
        0.03,
    );
    for (name, program) in [("backlog, 99 by 13", &large), ("queueing, 9 by 3", &small)] {
        let (_, vertex) = program.solve().expect("a solution");
        let inside = by_interior_point(program);
        assert!((vertex - inside).abs() < 1e-6, "{vertex} {inside}");
        c.bench_function(&format!("microlp: {name}"), |b| b.iter(|| program.solve()));
        c.bench_function(&format!("clarabel: {name}"), |b| {
            b.iter(|| by_interior_point(program));
        });
    }
}

criterion_group!(benches, programs);
criterion_main!(benches);
