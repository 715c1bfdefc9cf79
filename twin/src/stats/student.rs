//! Quantiles of Student's t.

/// The two-sided quantile: a draw of Student's t with `freedom` degrees lies within `±` this with
/// probability `confidence`. Exact for up to 200 degrees (Abramowitz & Stegun 26.7.3 and 26.7.4, solved
/// by bisection), beyond by the expansion of 26.7.5 around the normal quantile; O(freedom).
#[must_use]
pub fn student(freedom: u64, confidence: f64) -> f64 {
    let confidence = confidence.clamp(0.0, 1.0 - 1e-12);
    if freedom == 0 {
        return f64::INFINITY;
    }
    let within = |t: f64| {
        if freedom <= EXACT {
            inside(freedom, t)
        } else {
            inside_normal(t)
        }
    };
    let (mut low, mut high) = (0.0, 1.0);
    while within(high) < confidence && high < 1e13 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if within(middle) < confidence {
            low = middle;
        } else {
            high = middle;
        }
    }
    let found = (low + high) / 2.0;
    if freedom <= EXACT {
        return found;
    }
    let (x, v) = (found, freedom as f64);
    x + (x.powi(3) + x) / (4.0 * v)
        + (5.0 * x.powi(5) + 16.0 * x.powi(3) + 3.0 * x) / (96.0 * v * v)
}

const EXACT: u64 = 200;

/// Probability of `|T| < t`.
fn inside(freedom: u64, t: f64) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let square = cosine * cosine;
    if freedom == 1 {
        return 2.0 * angle / std::f64::consts::PI;
    }
    let is_odd = freedom % 2 == 1;
    let (mut term, mut sum) = if is_odd { (cosine, cosine) } else { (1.0, 1.0) };
    let mut k = if is_odd { 3 } else { 2 };
    while k + 2 <= freedom {
        term *= square * (k - 1) as f64 / k as f64;
        sum += term;
        k += 2;
    }
    if is_odd {
        2.0 / std::f64::consts::PI * (angle + sine * sum)
    } else {
        sine * sum
    }
}

/// Probability of `|Z| < z` for a standard normal Z: the series of A&S 7.1.6, good to 1e-14 for the
/// quantiles that intervals need.
fn inside_normal(z: f64) -> f64 {
    if 8.0 < z {
        return 1.0;
    }
    let (mut term, mut sum, mut n) = (z, z, 1.0);
    while 1e-17 * sum < term {
        term *= z * z / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    (2.0 / std::f64::consts::PI).sqrt() * (-z * z / 2.0).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the printed tables (A&S 26.10 and every textbook).
    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (1, 0.95, 12.706),
            (2, 0.95, 4.303),
            (3, 0.95, 3.182),
            (5, 0.99, 4.032),
            (10, 0.90, 1.812),
            (19, 0.95, 2.093),
            (29, 0.95, 2.045),
            (60, 0.99, 2.660),
            (120, 0.95, 1.980),
            (1_000_000, 0.95, 1.960),
            (1_000_000, 0.99, 2.576),
        ];
        for (freedom, confidence, expected) in table {
            let found = student(freedom, confidence);
            assert!(
                (found - expected).abs() < 6e-4,
                "{freedom} {confidence}: {found}"
            );
        }
        assert!(student(0, 0.95).is_infinite());
        // Both formulas agree where they meet.
        let (exact, near) = (student(200, 0.95), student(201, 0.95));
        assert!(near < exact && exact - near < 1e-4);
    }
}
