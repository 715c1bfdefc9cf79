//! The functions that bend: exponential, logistic, hyperbolic tangent, without a branch, so that a loop over
//! a row of them becomes vector instructions. The library's own are calls, one number at a time, and were a
//! third of a training step.

/// Beyond this `exp` would leave the normal numbers.
const FURTHEST: f32 = 87.0;
/// 1.5 · 2²³: added to a number below 2²², it leaves its nearest whole number in the last bits.
const ROUNDER: f32 = 12_582_912.0;

/// `eˣ` within 2 parts in 10⁷, its argument held within ±87.
///
/// `x = k ln 2 + r`, `|r| ≤ ln 2 / 2`; `eʳ` by its series to the sixth power, `2ᵏ` by the exponent's bits; ln 2 in
/// two parts, so that `r` loses nothing (Cody and Waite 1980).
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-FURTHEST, FURTHEST);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let k = shifted - ROUNDER;
    let r = x - k * 0.693_359_4 + k * 2.121_944_4e-4;
    let series = 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let whole = shifted.to_bits().wrapping_sub(ROUNDER.to_bits());
    series * f32::from_bits(whole.wrapping_add(127) << 23)
}

/// `1 / (1 + e⁻ˣ)`.
#[inline]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh x`, within 10⁻⁷ absolute.
#[inline]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_the_librarys_to_single_precision() {
        for at in -86_000..=86_000_i32 {
            let x = at as f32 * 1e-3;
            let truth = f64::from(x).exp();
            let error = (f64::from(exp(x)) / truth - 1.0).abs();
            assert!(error < 3e-7, "e^{x}: {error}");
            let truth = 1.0 / (1.0 + f64::from(-x).exp());
            assert!((f64::from(sigmoid(x)) - truth).abs() < 2e-7, "{x}");
            assert!(
                (f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 3e-7,
                "{x}"
            );
        }
        assert!(exp(f32::INFINITY).is_finite() && exp(f32::NEG_INFINITY) >= 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
