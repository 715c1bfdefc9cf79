//! The exit by backlog: exact control of a station whose exits are chosen when service begins.
//!
//! `x(n, e)` is the long-run share of served requests that begin with n present and aim at exit e.
//!
//! ```text
//! max Σ x(n,e) a_e
//! for each n:  Σ_e x(n,e) = Σ_{m,e} x(m,e) P(next service begins with n | m,e)
//! Σ x = 1,     Σ x(n,e) E\[lost during it | n,e\] <= ε / (1 - ε)
//! ```
//!
//! K · E variables and K + 2 rows. A vertex mixes exits in one state; the table falls with backlog. Both the
//! knapsack and the queueing LP are points of this program, so for Poisson arrivals of the assumed rate it is at
//! least as good as they are. Bursts are not in the model: the mean rate is taken as Poisson.

use std::collections::BTreeMap;

use splitplace_queueing::Arrivals;

use super::{
    ExitError, ExitTable, Intents, Planned, Station,
    chain::Chain,
    program::{Program, Sense},
};

/// The program, and for each variable its (number present, exit).
///
/// # Errors
/// When the station makes no sense.
pub fn program(table: &ExitTable, station: &Station) -> Result<Program, ExitError> {
    let poisson = Station {
        arrivals: Arrivals::poisson(station.arrivals.rate())?,
        ..*station
    };
    let chain = Chain::new(table.stages(), &poisson)?;
    let (places, exits) = (station.capacity, table.exits());
    let variable = |present: usize, exit: usize| (present - 1) * exits + exit;
    let mut program = Program::default();
    let mut balance: Vec<Vec<(usize, f64)>> = vec![Vec::new(); places];
    let mut lost = Vec::new();
    for present in 1..=places {
        let mut row = vec![0.0; chain.width()];
        row[present] = 1.0;
        let mut loss = 0.0;
        for exit in 0..exits {
            let mut next = vec![0.0; chain.width()];
            loss += chain.advance(exit, &row, &mut next).lost;
            let mut starts = vec![0.0; chain.width()];
            chain.depart(&next, &mut starts);
            let var = variable(present, exit);
            program.gains.push(table.accuracy(exit));
            lost.push((var, loss));
            balance[present - 1].push((var, -1.0));
            for (n, &p) in starts.iter().enumerate().skip(1) {
                balance[n - 1].push((var, p));
            }
            row = next;
        }
    }
    // The rows of balance sum to zero: one of them follows from the others.
    for row in balance.into_iter().skip(1) {
        program.row(row, Sense::Equal, 0.0);
    }
    let all = (0..places * exits).map(|var| (var, 1.0)).collect();
    program.row(all, Sense::Equal, 1.0);
    program.row(lost, Sense::AtMost, station.lost_per_served());
    Ok(program)
}

/// The best table of exits by backlog for a loss target. The first exit everywhere when none meets it.
/// States that never occur get the exits of the next smaller backlog that does.
///
/// # Errors
/// When the station makes no sense.
pub fn backlog(table: &ExitTable, station: &Station) -> Result<Planned, ExitError> {
    let program = program(table, station)?;
    let mut numbers = BTreeMap::from([("rate".into(), station.arrivals.rate())]);
    let Ok((x, accuracy)) = program.solve() else {
        let first = vec![Intents::exits(&[])];
        return Ok(Planned::new("backlog-lp", first, numbers));
    };
    numbers.insert("accuracy".into(), accuracy);
    let mut by_present: Vec<Intents> = Vec::new();
    for weights in x.chunks(table.exits()) {
        let seen: f64 = weights.iter().sum();
        let intents = match by_present.last() {
            Some(&before) if seen < 1e-11 => before,
            _ => Intents::exits(weights),
        };
        by_present.push(intents);
    }
    Ok(Planned::new("backlog-lp", by_present, numbers))
}
