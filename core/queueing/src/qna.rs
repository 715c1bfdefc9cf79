//! Whitt's queueing network analyser: how variable a flow is after stations, merges and splits.
//!
//! Flows are described by their rate and the squared coefficient of variation `c²` of the time between two
//! requests. Assumes renewal flows, stations without bound, one server. A flow's variability can pass a
//! lightly loaded station and strike a busy one much later (Suresh & Whitt 1990: waiting understated
//! threefold); where that matters, simulate. Source: Whitt 1983. Everything is O(flows).

/// A flow of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// Requests a second.
    pub rate: f64,
    /// Squared coefficient of variation of the time between two.
    pub scv: f64,
}

/// `c²` after a station with utilisation `rho` (clamped to `[0, 1]`) and service variability `scv`:
/// `ρ² s² + (1 - ρ²) c_a²`.
#[must_use]
pub fn departures(arrival_scv: f64, rho: f64, scv: f64) -> f64 {
    let u = if rho.is_nan() {
        0.0
    } else {
        rho.clamp(0.0, 1.0)
    };
    let u2 = u * u;
    mixed(u2, scv.max(0.0), arrival_scv.max(0.0))
}

/// `c²` of a share `p` (clamped to `[0, 1]`) of a flow, each request drawn by itself: `p c² + 1 - p`.
#[must_use]
pub fn split(scv: f64, p: f64) -> f64 {
    let p = if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) };
    mixed(p, scv.max(0.0), 1.0)
}

/// `w a + (1 - w) b`, without `0 · ∞`.
fn mixed(w: f64, a: f64, b: f64) -> f64 {
    let part = |w: f64, x: f64| if w == 0.0 { 0.0 } else { w * x };
    (part(w, a) + part(1.0 - w, b)).min(f64::MAX)
}

/// The flow that several make together, in front of a station with utilisation `rho`:
/// `c² = w Σ (λ_k/λ) c_k² + 1 - w`, `w = 1 / (1 + 4 (1 - ρ)² (v - 1))`, `v = 1 / Σ (λ_k/λ)²`.
#[must_use]
pub fn merge(flows: &[Flow], rho: f64) -> Flow {
    let largest = flows.iter().map(|flow| flow.rate).fold(0.0, f64::max);
    if largest <= 0.0 || !largest.is_finite() {
        return Flow {
            rate: 0.0,
            scv: 1.0,
        };
    }
    let share = |flow: &Flow| flow.rate.max(0.0) / largest;
    let total: f64 = flows.iter().map(share).sum();
    let (mut squares, mut scv) = (0.0, 0.0);
    for flow in flows {
        let p = share(flow) / total;
        squares += p * p;
        scv += if p > 0.0 { p * flow.scv.max(0.0) } else { 0.0 };
    }
    let v = (1.0 / squares).max(1.0);
    let idle = if rho.is_nan() {
        1.0
    } else {
        1.0 - rho.clamp(0.0, 1.0)
    };
    let w = 1.0 / (1.0 + 4.0 * idle * idle * (v - 1.0));
    Flow {
        rate: (total * largest).min(f64::MAX),
        scv: mixed(w, scv.min(f64::MAX), 1.0),
    }
}

/// Mean wait in seconds before service that takes `mean` seconds, at load `rho < 1`:
/// `ρ E[S] / (1 - ρ) · (c_a² + s²) / 2 · g`, Kraemer and Langenbach-Belz's `g` when `c_a² < 1`.
/// The largest number there is when `rho >= 1`.
#[must_use]
pub fn wait(rho: f64, mean: f64, arrival_scv: f64, scv: f64) -> f64 {
    let (rho, mean) = (rho.max(0.0), mean.max(0.0));
    if rho >= 1.0 {
        return f64::MAX;
    }
    let (ca, cs) = (arrival_scv.max(0.0), scv.max(0.0));
    let both = (ca + cs).min(f64::MAX);
    if rho == 0.0 || mean == 0.0 || both == 0.0 {
        return 0.0;
    }
    let g = if ca < 1.0 {
        (-2.0 * (1.0 - rho) * (1.0 - ca) * (1.0 - ca) / (3.0 * rho * both)).exp()
    } else {
        1.0
    };
    (rho * mean / (1.0 - rho) * (both / 2.0) * g).min(f64::MAX)
}
