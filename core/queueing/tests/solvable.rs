//! Stations whose answer is known: M/M/1/K, Erlang's formula, M/D/1/K values, limits.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use splitplace_queueing::{
    Service, diffusion, exact, qna, tandem,
    two_moment::{self, Variability},
};

#[track_caller]
fn near(got: f64, want: f64, relative: f64) {
    let wrong = (got - want).abs() / want.abs().max(f64::MIN_POSITIVE);
    assert!(wrong <= relative, "{got:e} instead of {want:e}: {wrong:e}");
}

/// (1 - ρ) ρ^K / (1 - ρ^(K+1)), and the truncated geometric law it comes from.
fn mm1k(rho: f64, capacity: usize) -> Vec<f64> {
    let terms: Vec<f64> = (0..=capacity)
        .map(|n| rho.powi(i32::try_from(n).unwrap()))
        .collect();
    let total: f64 = terms.iter().sum();
    terms.iter().map(|term| term / total).collect()
}

#[test]
fn exponential_service_is_mm1k() {
    for rho in [0.1, 0.5, 0.8, 0.999, 1.0, 1.2, 2.0, 10.0] {
        for capacity in [1, 2, 5, 10, 20, 50] {
            let service = Service::exponential(0.25).unwrap();
            let station = exact::solve(rho / 0.25, &service, capacity).unwrap();
            let law = mm1k(rho, capacity);
            near(station.loss, law[capacity], 1e-12);
            near(two_moment::loss(rho, 1.0, capacity), law[capacity], 1e-12);
            for (got, want) in station.occupancy.iter().zip(&law) {
                near(*got, *want, 1e-11);
            }
            let present: f64 = (0_u32..).zip(&law).map(|(n, p)| f64::from(n) * p).sum();
            near(station.present, present, 1e-11);
            let let_in = rho / 0.25 * (1.0 - law[capacity]);
            near(station.response, present / let_in, 1e-11);
        }
    }
}

#[test]
fn one_place_is_erlang_whatever_the_service() {
    let mixed = Service::mix(&[
        (0.9, Service::constant(0.02).unwrap()),
        (0.1, Service::gamma(0.5, 3.0).unwrap()),
    ])
    .unwrap();
    for service in [
        Service::constant(0.4).unwrap(),
        Service::gamma(0.7, 4.0).unwrap(),
        mixed,
    ] {
        for rate in [0.01, 1.0, 7.0, 300.0] {
            let rho = rate * service.mean();
            near(
                exact::loss(rate, &service, 1).unwrap(),
                rho / (1.0 + rho),
                1e-12,
            );
            near(
                two_moment::loss(rho, service.scv(), 1),
                rho / (1.0 + rho),
                1e-12,
            );
        }
    }
}

#[test]
fn constant_service_has_the_values_of_the_catalogue() {
    let one = Service::constant(1.0).unwrap();
    for (rho, capacity, want, relative) in [
        (0.8, 5, 0.03529, 2e-4),
        (0.8, 10, 3.639e-3, 2e-4),
        (1.0, 5, 0.1034, 5e-4),
        (1.0, 10, 0.050847, 1e-5),
        // Below 10⁻¹² the form 1 - 1/(π_0 + ρ) has lost its digits; this one has not.
        (0.5, 20, 1.4178e-11, 1e-4),
        (0.8, 100, 5.2e-20, 1e-2),
    ] {
        near(exact::loss(rho, &one, capacity).unwrap(), want, relative);
    }
}

#[test]
fn gamma_of_whole_shape_is_a_convolution() {
    // Erlang-2 as two constants mixed over a fine grid is no exact case, but M/E2/1/2 can be solved by hand:
    // π_0 = a_0 / (a_0 + P(A > 0)) = a_0, so L = 1 - 1 / (a_0 + ρ) with a_0 = (1 + ρ/2)^-2.
    for rho in [0.3, 0.9, 1.7] {
        let service = Service::gamma(1.0, 0.5).unwrap();
        let a0 = (1.0 + rho / 2.0_f64).powi(-2);
        near(
            exact::loss(rho, &service, 2).unwrap(),
            1.0 - 1.0 / (a0 + rho),
            1e-12,
        );
    }
}

#[test]
fn measured_times_are_a_mixture_of_constants() {
    let measured = Service::empirical(&[0.4, 1.0, 0.4, 2.5, 1.0, 0.4, 0.4, 1.0, 2.5, 0.4]).unwrap();
    let constant = |s| Service::constant(s).unwrap();
    let mixed = Service::mix(&[
        (5.0, constant(0.4)),
        (3.0, constant(1.0)),
        (2.0, constant(2.5)),
    ]);
    let mixed = mixed.unwrap();
    assert_eq!(measured.parts().len(), 3);
    near(measured.mean(), 1.0, 1e-12);
    near(measured.scv(), 0.63, 1e-12);
    near(
        exact::loss(0.8, &measured, 10).unwrap(),
        exact::loss(0.8, &mixed, 10).unwrap(),
        1e-12,
    );
}

#[test]
fn extremes_are_limits_and_not_errors() {
    for service in [
        Service::constant(1.0),
        Service::gamma(1.0, 4.0),
        Service::gamma(1.0, 0.01),
    ] {
        let service = service.unwrap();
        assert_eq!(exact::loss(0.0, &service, 5).unwrap(), 0.0);
        near(exact::solve(0.0, &service, 5).unwrap().response, 1.0, 1e-12);
        for rate in [50.0, 1e3, 1e6, 1e12] {
            near(
                exact::loss(rate, &service, 7).unwrap(),
                1.0 - 1.0 / rate,
                1e-2,
            );
        }
        near(exact::loss(2.0, &service, 2000).unwrap(), 0.5, 1e-9);
        near(
            exact::loss(900.0, &service, 1000).unwrap(),
            1.0 - 1.0 / 900.0,
            1e-3,
        );
    }
    let none = Service::constant(0.0).unwrap();
    assert_eq!(exact::loss(1e9, &none, 1).unwrap(), 0.0);
    assert!(exact::loss(f64::NAN, &none, 1).is_err());
    assert!(exact::loss(-1.0, &none, 1).is_err());
    assert!(exact::loss(1.0, &none, 0).is_err());
    assert!(Service::constant(f64::INFINITY).is_err());
    assert!(Service::mix(&[]).is_err());
    assert!(Service::mix(&[(0.0, none)]).is_err());
}

#[test]
fn the_formula_has_its_limits() {
    // ρ = 1 is removable: continuous from both sides.
    for scv in [0.0, 0.5, 1.0, 4.0] {
        let at = two_moment::loss(1.0, scv, 10);
        near(two_moment::loss(1.0 - 1e-9, scv, 10), at, 1e-7);
        near(two_moment::loss(1.0 + 1e-9, scv, 10), at, 1e-7);
    }
    near(two_moment::loss(1.0, 0.0, 10), 0.05, 1e-12);
    // Where D <= 0 the formula diverges and the limit of many places is taken.
    near(two_moment::loss(4.0, 0.0, 10), 0.75, 1e-12);
    near(two_moment::loss(4.5, 0.0, 10), 1.0 - 1.0 / 4.5, 1e-12);
    near(two_moment::loss(1.5, 0.7, 1_000_000), 1.0 - 1.0 / 1.5, 1e-9);
    near(two_moment::loss(1e300, 0.7, 3), 1.0, 1e-9);
    assert_eq!(two_moment::loss(0.5, 1.0, 5000), 0.0);
    assert_eq!(two_moment::loss(0.5, 1.0, 0), 1.0);
}

#[test]
fn inverses_come_back() {
    for rho in [0.3, 0.8, 0.95, 1.0, 1.005] {
        for eps in [1e-6, 1e-3, 0.01, 0.05] {
            for capacity in [2, 5, 11, 40] {
                match two_moment::scv_for(eps, rho, capacity) {
                    Variability::AtMost(scv) if scv < 1e9 => {
                        near(two_moment::loss(rho, scv, capacity), eps, 1e-9);
                        let places = two_moment::capacity_for(eps, rho, scv).unwrap();
                        near(places, f64::from(u32::try_from(capacity).unwrap()), 1e-9);
                    }
                    Variability::AtMost(_) | Variability::Any => {}
                    Variability::None => {
                        assert!(
                            two_moment::loss(rho, 0.0, capacity) > eps || rho * (1.0 - eps) >= 1.0
                        );
                    }
                }
            }
        }
    }
    assert_eq!(two_moment::scv_for(0.5, 1.0, 1), Variability::Any);
    assert_eq!(two_moment::scv_for(0.01, 1.02, 1000), Variability::None);
    assert_eq!(two_moment::capacity_for(0.01, 1.02, 0.0), None);
}

#[test]
fn sizes_are_those_of_the_exact_answer() {
    // Formula, exact smallest K: reference, section d.1.
    for (rho, eps, scv, formula, smallest) in [
        (0.8, 1e-3, 0.0, 13.6, 13),
        (0.8, 1e-3, 1.0, 23.8, 24),
        (0.95, 1e-2, 0.5, 26.5, 27),
    ] {
        near(
            two_moment::capacity_for(eps, rho, scv).unwrap(),
            formula,
            5e-3,
        );
        let service = Service::gamma(1.0, scv).unwrap();
        assert_eq!(
            exact::capacity_for(eps, rho, &service, 200).unwrap(),
            Some(smallest)
        );
    }
    near(
        two_moment::capacity_for(1e-3, 0.8, 4.0).unwrap(),
        54.3,
        5e-3,
    );
    let service = Service::constant(1.0).unwrap();
    assert_eq!(exact::capacity_for(0.01, 2.0, &service, 50).unwrap(), None);
}

#[test]
fn diffusion_has_its_limit_at_saturation() {
    for (ca, cs) in [(1.0, 0.0), (1.0, 1.0), (4.0, 0.5), (0.0, 0.3)] {
        let at = diffusion::loss(1.0, ca, cs, 8);
        near(diffusion::loss(1.0 - 1e-6, ca, cs, 8), at, 1e-4);
        near(diffusion::loss(1.0 + 1e-6, ca, cs, 8), at, 1e-4);
    }
    near(
        diffusion::loss(3.0, 1.0, 1.0, 100_000),
        1.0 - 1.0 / 3.0,
        1e-9,
    );
    near(diffusion::loss(3.0, 0.0, 0.0, 10), 1.0 - 1.0 / 3.0, 1e-9);
}

#[test]
fn qna_keeps_poisson_poisson() {
    // M/M/1: departures are Poisson (Burke), splits and merges of Poisson are Poisson, the wait is exact.
    near(qna::departures(1.0, 0.7, 1.0), 1.0, 1e-12);
    near(qna::split(1.0, 0.3), 1.0, 1e-12);
    let flow = |rate, scv| qna::Flow { rate, scv };
    let both = qna::merge(&[flow(2.0, 1.0), flow(3.0, 1.0)], 0.6);
    near(both.rate, 5.0, 1e-12);
    near(both.scv, 1.0, 1e-12);
    near(qna::wait(0.7, 2.0, 1.0, 1.0), 0.7 * 2.0 / 0.3, 1e-12);
    // Pollaczek-Khinchine for M/D/1.
    near(qna::wait(0.7, 2.0, 1.0, 0.0), 0.7 * 2.0 / 0.3 / 2.0, 1e-12);
    // Suresh and Whitt's nine stations: QNA says 8.90 (simulated: 29.6).
    let mut scv = 8.0;
    for _ in 0..8 {
        scv = qna::departures(scv, 0.6, 1.0);
    }
    near(qna::wait(0.9, 0.9, scv, 1.0), 8.90, 1e-3);
    let mut scv = 0.0;
    for _ in 0..8 {
        scv = qna::departures(scv, 0.6, 1.0);
    }
    near(qna::wait(0.9, 0.9, scv, 1.0), 7.99, 1e-3);
}

#[test]
fn thinned_tandems_are_those_of_the_reference() {
    // Simulated end-to-end loss and how far thinning is above it: reference, section i.
    let exp = |mean| Service::exponential(mean).unwrap();
    let constant = |mean| Service::constant(mean).unwrap();
    type Case = (f64, Vec<(Service, usize)>, f64, f64);
    let cases: [Case; 6] = [
        (0.7, vec![(exp(1.0), 5), (exp(1.0), 5)], 0.0941, 1.07),
        (1.1, vec![(exp(1.0), 5), (exp(1.0), 5)], 0.2866, 1.04),
        (
            0.9,
            vec![(constant(1.0), 5), (constant(1.0), 5)],
            0.0645,
            1.67,
        ),
        (
            0.9,
            vec![(constant(1.0), 5), (constant(0.7), 5)],
            0.0646,
            1.08,
        ),
        (
            0.9,
            vec![(constant(0.7), 5), (constant(1.0), 5)],
            0.0442,
            1.58,
        ),
        (
            0.7,
            vec![(exp(0.8), 5), (exp(1.0), 5), (exp(0.5), 5)],
            0.0721,
            1.08,
        ),
    ];
    for (rate, stations, simulated, above) in cases {
        let tandem = tandem::thinned(rate, &stations).unwrap();
        near(tandem.loss / simulated, above, 0.02);
    }
    let tiny = tandem::thinned(0.5, &[(constant(1.0), 20), (constant(1.0), 20)]).unwrap();
    near(tiny.loss, 2.0 * 1.4178e-11, 1e-4);
}
