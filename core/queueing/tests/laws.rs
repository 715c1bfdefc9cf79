//! What must hold for any station: growth with load, places and variability; totality; the phases of a stage.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use splitplace_queueing::{
    Arrivals, Counts, Service, Stage, diffusion, exact, qna, tandem, two_moment,
};

fn service() -> impl Strategy<Value = Service> {
    let part = (0.01..3.0, prop_oneof![Just(0.0), 0.01..6.0])
        .prop_map(|(mean, scv)| Service::gamma(mean, scv).unwrap());
    prop::collection::vec((0.05..1.0, part), 1..5).prop_map(|parts| Service::mix(&parts).unwrap())
}

/// Any finite number, the strange ones often.
fn any_finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(1.0),
        Just(f64::MAX),
        Just(f64::MIN),
        Just(f64::MIN_POSITIVE),
        Just(5e-324),
        Just(1.0 + f64::EPSILON),
        Just(1.0 - f64::EPSILON),
        0.0..10.0,
        any::<f64>().prop_filter("finite", |x| x.is_finite()),
    ]
}

fn is_share(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

proptest! {
    #[test]
    fn loss_grows_with_load_and_falls_with_places(
        service in service(), rate in 0.01..5.0, more in 1.01..2.0, capacity in 1_usize..30,
    ) {
        let loss = exact::loss(rate, &service, capacity).unwrap();
        let loaded = exact::loss(rate * more, &service, capacity).unwrap();
        let roomier = exact::loss(rate, &service, capacity + 1).unwrap();
        prop_assert!(loaded >= loss);
        prop_assert!(roomier <= loss * (1.0 + 1e-12));
        // No queue serves more than its server can.
        prop_assert!(loss >= 1.0 - 1.0 / (rate * service.mean()) - 1e-12);
    }

    #[test]
    fn loss_grows_with_variability(
        scv in 0.0..4.0, more in 0.05..3.0, rho in 0.05..3.0, capacity in 2_usize..25,
    ) {
        let of = |scv| exact::loss(rho, &Service::gamma(1.0, scv).unwrap(), capacity).unwrap();
        prop_assert!(of(scv + more) >= of(scv) * (1.0 - 1e-9));
        let formula = |scv| two_moment::loss(rho, scv, capacity);
        prop_assert!(formula(scv + more) >= formula(scv) * (1.0 - 1e-9));
    }

    #[test]
    fn occupancy_is_a_law_and_its_end_the_loss(
        service in service(), rate in 0.0..50.0, capacity in 1_usize..40,
    ) {
        let station = exact::solve(rate, &service, capacity).unwrap();
        let total: f64 = station.occupancy.iter().sum();
        prop_assert!((total - 1.0).abs() < 1e-9, "{total}");
        prop_assert!(station.response >= service.mean() * (1.0 - 1e-9));
        // The server is busy for as long as its work takes.
        let busy = 1.0 - station.occupancy[0];
        prop_assert!((busy - station.rho * (1.0 - station.loss)).abs() < 1e-9);
        // The other form, where it still has digits.
        if station.loss > 1e-6 {
            let other = 1.0 - 1.0 / (station.occupancy[0] / (1.0 - station.loss) + station.rho);
            prop_assert!((station.loss - other).abs() < 1e-9);
        }
    }

    #[test]
    fn counts_are_a_law_with_the_right_mean(
        service in service(), rate in 0.0..20.0, capacity in 1_usize..60,
    ) {
        let counts = Counts::new(rate, &service, capacity).unwrap();
        let mean = rate * service.mean();
        prop_assert!((counts.excess()[0] - mean).abs() < 1e-9 * mean.max(1.0));
        let total: f64 = counts.pmf().iter().sum::<f64>() + counts.above()[capacity - 1];
        prop_assert!((total - 1.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_not_a_number(
        a in any_finite(), b in any_finite(), c in any_finite(), d in any_finite(), k in 0_usize..300,
    ) {
        prop_assert!(is_share(two_moment::loss(a, b, k)));
        prop_assert!(is_share(diffusion::loss(a, b, c, k)));
        if let two_moment::Variability::AtMost(scv) = two_moment::scv_for(a, b, k) {
            prop_assert!(scv >= 0.0);
        }
        if let Some(places) = two_moment::capacity_for(a, b, c) {
            prop_assert!(places >= 1.0);
        }
        prop_assert!(!qna::departures(a, b, c).is_nan());
        prop_assert!(!qna::split(a, b).is_nan());
        prop_assert!(qna::wait(a, b, c, d) >= 0.0);
        let flow = |rate, scv| qna::Flow { rate, scv };
        let merged = qna::merge(&[flow(a, b), flow(c, d)], a);
        prop_assert!(!merged.rate.is_nan() && !merged.scv.is_nan());
        if let (Ok(one), Ok(two)) = (Service::gamma(a, b), Service::gamma(c, d)) {
            prop_assert!(!one.scv().is_nan() && !one.mean().is_nan());
            let mixed = Service::mix(&[(a, one.clone()), (b, two.clone())]).unwrap_or(one);
            for rate in [a, b, 1.0] {
                if let Ok(station) = exact::solve(rate, &mixed, k) {
                    prop_assert!(is_share(station.loss), "{}", station.loss);
                    prop_assert!(!station.response.is_nan() && !station.present.is_nan());
                    prop_assert!(station.occupancy.iter().all(|&p| is_share(p)));
                }
                if let Ok(tandem) = tandem::thinned(rate, &[(mixed.clone(), k), (two.clone(), k)]) {
                    prop_assert!(is_share(tandem.loss) && !tandem.response.is_nan());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_phases_are_poisson(
        service in service(), rate in 0.1..4.0, leave in prop::array::uniform2(0.05..3.0),
        capacity in 1_usize..15,
    ) {
        let plain = Stage::new(&Arrivals::Poisson { rate }, &service, capacity).unwrap();
        let twice = Arrivals::Switching { rates: [rate, rate], leave };
        let twice = Stage::new(&twice, &service, capacity).unwrap();
        for c in 0..=capacity {
            for from in 0..2 {
                let fill: f64 = (0..2).map(|to| twice.fill(from, c, to)).sum();
                prop_assert!((fill - plain.fill(0, c, 0)).abs() < 1e-9);
                prop_assert!((twice.lost(from, c) - plain.lost(0, c)).abs() < 1e-8);
                prop_assert!((twice.area(from, c) - plain.area(0, c)).abs() < 1e-8);
                if c < capacity {
                    let p: f64 = (0..2).map(|to| twice.arrive(from, c, to)).sum();
                    prop_assert!((p - plain.arrive(0, c, 0)).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn phases_turn_over_as_they_should(
        mean in 0.1..3.0, rates in prop::array::uniform2(0.0..5.0), leave in prop::array::uniform2(0.05..2.0),
    ) {
        // Over a constant time the chance of the other phase is p (1 - e^{-(q_0 + q_1) t}).
        let arrivals = Arrivals::Switching { rates, leave };
        let stage = Stage::new(&arrivals, &Service::constant(mean).unwrap(), 6).unwrap();
        let other = leave[0] / (leave[0] + leave[1]) * (1.0 - (-(leave[0] + leave[1]) * mean).exp());
        prop_assert!((stage.fill(0, 0, 1) - other).abs() < 1e-9);
        // Started in the long run's phases, arrivals come at the mean rate.
        let share = arrivals.share();
        let lost = share[0] * stage.lost(0, 0) + share[1] * stage.lost(1, 0);
        prop_assert!((lost - arrivals.rate() * mean).abs() < 1e-8 * lost.max(1.0));
        // The mean time to an arrival, and where, balance: as many per second as the rate says.
        let (a, to_a) = arrivals.next(0);
        let (b, to_b) = arrivals.next(1);
        if rates[0] + rates[1] > 0.1 {
            prop_assert!((to_a[0] + to_a[1] - 1.0).abs() < 1e-12);
            // Phases seen just after arrivals: v = v P.
            let v = if to_a[1] + to_b[0] > 0.0 { to_b[0] / (to_a[1] + to_b[0]) } else { 1.0 };
            let between = v * a + (1.0 - v) * b;
            prop_assert!((between * arrivals.rate() - 1.0).abs() < 1e-8);
        }
    }
}

#[test]
fn bursts_have_the_mean_that_was_asked_for() {
    let arrivals = Arrivals::bursty(10.0, 3.0, 0.2, 5.0).unwrap();
    assert!((arrivals.rate() - 10.0).abs() < 1e-12);
    assert!((arrivals.rates()[1] - 30.0).abs() < 1e-12);
    assert!((arrivals.rates()[0] - 5.0).abs() < 1e-12);
    assert!((arrivals.share()[1] - 0.2).abs() < 1e-12);
    assert!(arrivals.dispersion() > 50.0);
    assert!((arrivals.scaled(2.0).rate() - 20.0).abs() < 1e-12);
    assert!(Arrivals::bursty(10.0, 6.0, 0.2, 5.0).is_err());
    assert!(Arrivals::poisson(f64::NAN).is_err());
}
