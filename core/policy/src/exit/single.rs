//! Controllers that choose the exit when service begins (Casale and Roveri, IEEE TC, thresholds in {0, 1}):
//! the service time is then known, and inputs are alike.

use std::collections::BTreeMap;

use splitplace_queueing::two_moment::{self, Variability};

use super::{
    At, ExitError, ExitPolicy, ExitTable, Intents, Station,
    program::{Program, Sense},
    real,
};

/// Points of the sweep over the mean service time (the authors' number).
const SWEEP: usize = 100;

/// A mixture of exits for each number present, decided when service begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    name: &'static str,
    /// By number present, from 1.
    by_present: Vec<Intents>,
    numbers: BTreeMap<String, f64>,
}

impl Planned {
    /// From a mixture for each number present, from 1; a station with more places takes the last one.
    #[must_use]
    pub(crate) fn new(
        name: &'static str,
        by_present: Vec<Intents>,
        numbers: BTreeMap<String, f64>,
    ) -> Self {
        Self {
            name,
            by_present,
            numbers,
        }
    }

    /// The mixtures by number present, from 1.
    #[must_use]
    pub fn by_present(&self) -> &[Intents] {
        &self.by_present
    }
}

impl ExitPolicy for Planned {
    fn name(&self) -> &'static str {
        self.name
    }

    fn intents(&self, present: usize) -> Intents {
        let last = self.by_present.len() - 1;
        self.by_present[present.saturating_sub(1).min(last)]
    }

    fn stop(&self, at: &At) -> f64 {
        f64::from(u8::from(at.exit >= usize::from(at.intent.0)))
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        let mut numbers = self.numbers.clone();
        for (present, intents) in (1..).zip(&self.by_present) {
            numbers.insert(format!("exit-at-{present}"), intents.mean());
        }
        numbers
    }
}

/// **Knapsack.** With q waiting and one to start, `n = q + 1` requests share the time until the buffer is
/// expected to be full, `B = (Q - q) / λ` with Q waiting places: one exit for each, most accuracy within B.
///
/// The requests are alike, so the best fractional packing gives all of them the same mixture of two exits
/// that are neighbours on the upper hull of (time, accuracy); the next one is drawn from it. When not even
/// the first exit fits, the first exit. Deterministic: it has no loss target, and knows the arrivals by their
/// mean rate alone.
///
/// # Errors
/// When the station makes no sense.
pub fn knapsack(table: &ExitTable, station: &Station) -> Result<Planned, ExitError> {
    station.check()?;
    let hull = hull(table);
    let rate = station.arrivals.rate();
    let by_present = (1..=station.capacity).map(|present| {
        let budget = if rate > 0.0 {
            real(station.capacity - present) / rate
        } else {
            f64::MAX
        };
        Intents::exits(&mix(table, &hull, budget / real(present)))
    });
    let by_present = by_present.collect();
    let numbers = BTreeMap::from([("rate".into(), rate)]);
    Ok(Planned::new("knapsack", by_present, numbers))
}

/// Exits on the upper hull of (mean time, accuracy), from the first exit up to the most accurate one.
#[must_use]
pub fn hull(table: &ExitTable) -> Vec<usize> {
    let point = |e: usize| (table.mean(e), table.accuracy(e));
    let mut hull: Vec<usize> = vec![0];
    for exit in 1..table.exits() {
        let (t, a) = point(exit);
        if a <= hull.iter().map(|&e| point(e).1).fold(0.0, f64::max) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            let ((t0, a0), (t1, a1)) = (point(before), point(last));
            // The last one lies below the line from the one before it to the new one.
            if (a1 - a0) * (t - t0) <= (a - a0) * (t1 - t0) {
                hull.pop();
            } else {
                break;
            }
        }
        hull.push(exit);
    }
    hull
}

/// Weights of the exits with most accuracy for a mean time.
fn mix(table: &ExitTable, hull: &[usize], time: f64) -> Vec<f64> {
    let mut weights = vec![0.0; table.exits()];
    let above = hull.iter().position(|&e| table.mean(e) > time);
    match above {
        None => weights[hull[hull.len() - 1]] = 1.0,
        Some(0) => weights[0] = 1.0,
        Some(at) => {
            let (low, high) = (hull[at - 1], hull[at]);
            let (t0, t1) = (table.mean(low), table.mean(high));
            weights[high] = (time - t0) / (t1 - t0);
            weights[low] = 1.0 - weights[high];
        }
    }
    weights
}

/// **Queueing.** One mixture of exits p, whatever the backlog. For each mean service time m of a sweep, the
/// two-moment formula tells the largest variability that meets the loss target; then
///
/// ```text
/// max Σ p_e a_e   with  Σ p_e = 1,  Σ p_e d_e = m,  Σ p_e E\[D_e²\] <= (1 + s²_max) m²,  p >= 0
/// ```
///
/// and the best m is kept. Poisson arrivals of the mean rate are assumed. The first exit when no m meets the
/// target.
///
/// # Errors
/// When the station makes no sense.
pub fn queueing(table: &ExitTable, station: &Station) -> Result<Planned, ExitError> {
    station.check()?;
    let exits = 0..table.exits();
    let rate = station.arrivals.rate();
    let shortest = table.mean(0);
    let longest = table.mean(table.last());
    let mut best: Option<(f64, Vec<f64>, f64)> = None;
    for point in 0..SWEEP {
        let m = shortest + (longest - shortest) * real(point) / real(SWEEP - 1);
        let bound = match two_moment::scv_for(station.target, rate * m, station.capacity) {
            Variability::Any => None,
            Variability::AtMost(scv) => Some((1.0 + scv) * m * m),
            Variability::None => continue,
        };
        let mut program = Program {
            gains: exits.clone().map(|e| table.accuracy(e)).collect(),
            rows: Vec::new(),
        };
        // In units of the longest time, so that rows are of one size.
        let scale = longest.max(f64::MIN_POSITIVE);
        program.row(exits.clone().map(|e| (e, 1.0)).collect(), Sense::Equal, 1.0);
        let times = exits.clone().map(|e| (e, table.mean(e) / scale));
        program.row(times.collect(), Sense::Equal, m / scale);
        if let Some(bound) = bound {
            let squares = exits
                .clone()
                .map(|e| (e, table.second_moment(e) / scale / scale));
            program.row(
                squares.collect(),
                Sense::AtMost,
                (bound / scale / scale).min(1e6),
            );
        }
        let Ok((p, accuracy)) = program.solve() else {
            continue;
        };
        if best.as_ref().is_none_or(|(most, _, _)| accuracy > *most) {
            best = Some((accuracy, p, m));
        }
    }
    let (accuracy, p, m) = best.unwrap_or_else(|| {
        let mut first = vec![0.0; table.exits()];
        first[0] = 1.0;
        (table.accuracy(0), first, shortest)
    });
    let numbers = BTreeMap::from([
        ("rate".into(), rate),
        ("accuracy".into(), accuracy),
        ("service-s".into(), m),
    ]);
    Ok(Planned::new(
        "queueing-lp",
        vec![Intents::exits(&p)],
        numbers,
    ))
}
