//! The reference's error table (section d.3): exact loss, two moments, diffusion, for 30 stations.
//!
//! Tolerance: the digits that are printed there, half a unit of the last one.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use splitplace_queueing::{Service, diffusion, exact, two_moment};

fn constants(parts: &[(f64, f64)]) -> Service {
    let parts: Vec<_> = parts
        .iter()
        .map(|&(weight, mean)| (weight, Service::constant(mean).unwrap()))
        .collect();
    Service::mix(&parts).unwrap()
}

/// Two exponentials with balanced means: mean 1, `scv`.
fn hyper(scv: f64) -> Service {
    let p = f64::midpoint(1.0, ((scv - 1.0) / (scv + 1.0)).sqrt());
    let of = |mean| Service::exponential(mean).unwrap();
    Service::mix(&[(p, of(0.5 / p)), (1.0 - p, of(0.5 / (1.0 - p)))]).unwrap()
}

/// A printed number and half a unit of its last digit.
fn printed(text: &str) -> (f64, f64) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits = mantissa.split_once('.').map_or(0, |(_, after)| after.len());
    let scale = 10f64.powi(exponent.parse().unwrap());
    let half = 0.5 * 10f64.powi(-i32::try_from(digits).unwrap());
    (text.parse().unwrap(), half * scale)
}

#[track_caller]
fn as_printed(what: &str, got: f64, text: &str) {
    let (want, half) = printed(text);
    // A little more than half a unit: the table was rounded from a number that was itself printed.
    assert!(
        (got - want).abs() <= 1.1 * half,
        "{what}: {got:e} instead of {text}"
    );
}

/// Service, ρ, K, exact, formula, diffusion; `-` where the table has none.
type Row = (
    &'static str,
    f64,
    usize,
    &'static str,
    &'static str,
    &'static str,
);

const ROWS: &[Row] = &[
    ("M", 0.5, 10, "4.885e-4", "4.885e-4", "6.20e-4"),
    ("M", 0.8, 5, "8.882e-2", "8.882e-2", "8.93e-2"),
    ("M", 0.8, 20, "2.327e-3", "2.327e-3", "2.37e-3"),
    ("M", 1.0, 10, "9.091e-2", "9.091e-2", "9.09e-2"),
    ("M", 1.2, 5, ".2506", ".2506", ".2508"),
    ("M", 2.0, 5, ".5079", ".5079", ".5088"),
    ("D", 0.5, 2, "9.63e-2", "9.36e-2", "3.50e-2"),
    ("D", 0.5, 5, "2.18e-3", "3.44e-3", "8.4e-5"),
    ("D", 0.5, 10, "4.06e-6", "1.61e-5", "3.8e-9"),
    ("D", 0.8, 2, ".1996", ".1866", ".1586"),
    ("D", 0.8, 5, "3.53e-2", "3.65e-2", "2.37e-2"),
    ("D", 0.8, 10, "3.64e-3", "4.30e-3", "1.79e-3"),
    ("D", 0.8, 20, "4.83e-5", "7.47e-5", "1.20e-5"),
    ("D", 1.0, 2, ".2689", ".25", ".25"),
    ("D", 1.0, 5, ".1034", ".10", ".10"),
    ("D", 1.0, 10, ".0508", ".05", ".05"),
    ("D", 1.0, 20, ".0252", ".025", ".025"),
    ("D", 1.2, 2, ".3339", ".3110", ".3317"),
    ("D", 1.2, 5, ".1991", ".1935", ".2040"),
    ("D", 1.2, 10, ".1709", ".1698", ".1726"),
    ("D", 2.0, 2, ".5317", ".5120", ".5506"),
    ("D", 2.0, 5, ".5003", ".5000", ".5023"),
    ("E4", 0.8, 10, "7.45e-3", "8.05e-3", "5.30e-3"),
    ("exits", 0.8, 5, "7.10e-2", "7.04e-2", "6.61e-2"),
    ("exits", 0.8, 10, "1.48e-2", "1.53e-2", "1.36e-2"),
    ("exits", 0.5, 10, "1.22e-4", "1.91e-4", "8.7e-5"),
    ("steep", 0.5, 5, "8.27e-2", "7.78e-2", "-"),
    ("steep", 0.5, 10, "1.37e-2", "1.55e-2", "-"),
    ("steep", 0.5, 20, "4.3e-4", "6.8e-4", "-"),
    ("H2", 0.5, 10, "1.75e-2", "1.23e-2", "3.5e-2"),
    ("H2", 0.5, 20, "1.29e-3", "4.2e-4", "3.7e-3"),
    ("H2", 0.8, 5, ".168", ".194", ".212"),
    ("H2", 0.8, 10, ".0887", ".0932", ".108"),
];

#[test]
fn every_row_of_the_table() {
    for &(name, rho, capacity, exact, formula, gelenbe) in ROWS {
        let service = match name {
            "M" => Service::exponential(1.0).unwrap(),
            "D" => Service::constant(1.0).unwrap(),
            "E4" => Service::gamma(1.0, 0.25).unwrap(),
            "exits" => constants(&[(0.5, 0.4), (0.3, 1.0), (0.2, 2.5)]),
            "steep" => constants(&[(0.9, 0.02), (0.1, 0.5)]),
            _ => hyper(4.0),
        };
        let what = format!("{name} rho {rho} K {capacity}");
        let rate = rho / service.mean();
        as_printed(&what, exact::loss(rate, &service, capacity).unwrap(), exact);
        as_printed(
            &what,
            two_moment::loss(rho, service.scv(), capacity),
            formula,
        );
        if gelenbe != "-" {
            as_printed(
                &what,
                diffusion::loss(rho, 1.0, service.scv(), capacity),
                gelenbe,
            );
        }
    }
}
