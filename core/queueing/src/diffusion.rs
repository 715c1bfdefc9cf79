//! Gelenbe's diffusion approximation of GI/G/1/K: a loss that takes arrivals which are not Poisson.

use crate::real;

/// L for offered load `rho`, arrival variability `arrival_scv` `c_a²`, service variability `scv` and
/// `capacity` places. O(1).
///
/// ```text
/// g = -2 (1 - ρ) / (ρ c_a² + s²)
/// L = ρ (1 - ρ) e^{g (K-1)} / (1 - ρ² e^{g (K-1)}),   the limit at ρ = 1
/// ```
///
/// Assumes renewal arrivals and a number present that moves like Brownian motion, which holds near
/// saturation. Not exact even for M/M/1/K (0 to 30 % too high); for steady service far below saturation it is
/// orders of magnitude too low. Source: Gelenbe 1975, on approximate computer system models.
/// Negative inputs count as 0; no variability at all loses `max(0, 1 - 1/ρ)`.
#[must_use]
pub fn loss(rho: f64, arrival_scv: f64, scv: f64, capacity: usize) -> f64 {
    let (rho, arrival_scv, scv) = (rho.max(0.0), arrival_scv.max(0.0), scv.max(0.0));
    if capacity == 0 || rho.is_infinite() {
        return 1.0;
    }
    if rho == 0.0 {
        return 0.0;
    }
    let spread = rho * arrival_scv + scv;
    let saturated = (1.0 - 1.0 / rho).max(0.0);
    if spread <= 0.0 {
        return saturated;
    }
    let room = real(capacity) - 1.0;
    let y = 1.0 - rho;
    if y.abs() < 1e-9 {
        // e^{g(K-1)} ≈ 1 - 2y(K-1)/spread and ρ² ≈ 1 - 2y: L = 1 / (2 + 2(K-1)/spread).
        return 1.0 / (2.0 + 2.0 * room / spread);
    }
    let exponent = -2.0 * y * room / spread;
    let loss = if exponent > 0.0 {
        // ρ > 1: divided by e^{g(K-1)}, which may overflow.
        rho * y / ((-exponent).exp() - rho * rho)
    } else {
        // ρ < 1: 1 - ρ² e^x = -expm1(x + 2 ln ρ).
        rho * y * exponent.exp() / -(exponent + 2.0 * rho.ln()).exp_m1()
    };
    if loss.is_nan() {
        saturated
    } else {
        loss.clamp(0.0, 1.0)
    }
}
