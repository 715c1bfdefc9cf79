//! The envelope against looking at every plane.

use splitplace_plan::partition::{
    Envelope, Method as _, Neurosurgeon, Objective, Plane, Scene, Switch,
};

use crate::drawn::Lot;

#[test]
fn the_look_up_is_the_best_plane_wherever_it_is_asked() {
    for case in 0..300 {
        let mut lot = Lot::new(case);
        let count = 1 + lot.number(40);
        let planes: Vec<Plane> = (0..count)
            .map(|_| Plane {
                fixed: lot.real(1e-3, 1.0),
                work: lot.real(1e-3, 1.0),
                bytes: lot.real(1.0, 1e6),
            })
            .collect();
        let envelope = Envelope::new(&planes, 1e3, (0.1, 10.0));
        for _ in 0..50 {
            let (rate, load) = (lot.real(1e3, 1e9), lot.real(0.1, 10.0));
            let found = envelope.choose(rate, load).unwrap();
            let cost = |plane: &Plane| plane.cost(1.0 / rate, load);
            let least = planes.iter().map(cost).fold(f64::INFINITY, f64::min);
            let found = cost(&planes[found]);
            assert!(
                found <= least * (1.0 + 1e-7),
                "case {case}: {found} {least}"
            );
        }
    }
}

#[test]
fn at_a_switch_both_sides_cost_the_same_and_the_choice_changes() {
    let mut switches = 0;
    for case in 0..100 {
        let mut lot = Lot::new(case);
        let network = lot.chain(10);
        let scene = lot.scene(Objective::Latency);
        let table = Neurosurgeon::table(&network, &scene, 1e3, (0.1, 10.0));
        let load = lot.real(0.1, 10.0);
        let mut last = f64::INFINITY;
        for Switch { rate, above, below } in table.envelope.switches(load) {
            assert!(rate < last, "from fast to slow");
            last = rate;
            let cost = |plane: usize| table.envelope.planes()[plane].cost(1.0 / rate, load);
            assert!((cost(above) - cost(below)).abs() < 1e-9 * cost(above));
            if 1e3 < rate * 0.999 {
                assert_eq!(
                    table.envelope.choose(rate * 1.0001, load),
                    Some(above),
                    "case {case}"
                );
                assert_eq!(
                    table.envelope.choose(rate * 0.9999, load),
                    Some(below),
                    "case {case}"
                );
                switches += 1;
            }
        }
    }
    assert!(switches > 50, "{switches}");
}

#[test]
fn the_table_is_the_method_at_every_rate_and_load() {
    for case in 0..100 {
        let mut lot = Lot::new(case);
        let network = lot.network(9, 2);
        for objective in [
            Objective::Latency,
            Objective::Energy {
                compute: 2.0,
                radio: 3.0,
            },
        ] {
            let scene = lot.scene(objective);
            let table = Neurosurgeon::table(&network, &scene, 1e3, (0.1, 10.0));
            for _ in 0..20 {
                let scene = Scene {
                    rate: lot.real(1e3, 1e9),
                    load: lot.real(0.1, 10.0),
                    ..scene
                };
                let best = Neurosurgeon.choose(&network, &scene).unwrap();
                let number = table.envelope.choose(scene.rate, scene.load).unwrap();
                let cost = table.envelope.planes()[number].cost(1.0 / scene.rate, scene.load);
                let least = best.worth.cost;
                assert!(
                    (cost - least).abs() <= 1e-7 * least,
                    "case {case}: {cost} {least}"
                );
                let candidate = &table.candidates[number];
                assert!(network.trunk().contains(&candidate.position));
            }
        }
    }
}

#[test]
fn a_hand_made_envelope_switches_where_the_lines_meet() {
    // At load 1: 0.1 + 1e6 x, 1 + 1e5 x, 3: they meet at x = 1e-6 and 2e-5.
    let plane = |fixed, bytes| Plane {
        fixed,
        work: 0.0,
        bytes,
    };
    let planes = [
        plane(3.0, 0.0),
        plane(1.0, 1e5),
        plane(0.1, 1e6),
        plane(4.0, 1e6),
    ];
    let envelope = Envelope::new(&planes, 1e2, (0.5, 2.0));
    let found = envelope.switches(1.0);
    assert_eq!(found.len(), 2);
    assert!((found[0].rate - 1e6).abs() < 1e-3 && (found[1].rate - 5e4).abs() < 1e-3);
    assert_eq!((found[0].above, found[0].below), (2, 1));
    assert_eq!((found[1].above, found[1].below), (1, 0));
    assert_eq!(Envelope::new(&[], 1.0, (1.0, 1.0)).choose(1.0, 1.0), None);
}
