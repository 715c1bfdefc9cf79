//! Cuts between two nodes.

use splitplace_codec::Codec;
use splitplace_plan::{
    Way,
    partition::{
        BruteForce, Choice, Exact, Heavy, Layer, Light, METHODS, Method, Network, NetworkError,
        Neurosurgeon, Objective, Refused, Scene, Tensor, Worth, by_name,
    },
};

use crate::drawn::Lot;

const CASES: u64 = 1000;

/// Every method that has a name; the grid of one of them is coarse here, for so many cases.
fn all() -> Vec<Box<dyn Method>> {
    let method = |name: &str| -> Box<dyn Method> {
        match by_name(name).unwrap() {
            method if method.name() == "DADS heavy" => Box::new(Heavy { side: 3, rounds: 2 }),
            method => method,
        }
    };
    METHODS.into_iter().map(method).collect()
}

#[test]
fn methods_are_known_by_their_names_and_say_what_they_cost() {
    for name in METHODS {
        let method = by_name(name).unwrap();
        assert_eq!(method.name(), name);
        assert!(!method.complexity().is_empty(), "{name}");
    }
    assert!(by_name("best").is_none());
}

fn same(a: Worth, b: Worth) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 + 1e-9 * a.abs().max(b.abs());
    near(a.excess, b.excess) && (a.excess > 1e-9 || near(a.cost, b.cost))
}

fn raw(bytes: u64) -> Vec<Way> {
    vec![Way {
        codec: Codec::RAW,
        bytes,
        encode: 0.0,
        decode: 0.0,
    }]
}

fn tensor(producer: Option<usize>, consumers: &[usize], bytes: u64) -> Tensor {
    Tensor {
        producer,
        consumers: consumers.to_vec(),
        ways: raw(bytes),
        back: 0,
    }
}

fn layers(seconds: &[[f64; 2]]) -> Vec<Layer> {
    let layer = |seconds: &[f64; 2]| Layer {
        seconds: seconds.to_vec(),
    };
    seconds.iter().map(layer).collect()
}

const QUIET: Scene = Scene {
    rate: 1e6,
    delay: 0.0,
    load: 1.0,
    objective: Objective::Latency,
};

/// Times, bytes and rules from the network's own numbers, sharing nothing with the methods.
fn check(network: &Network, scene: &Scene, choice: &Choice, name: &str) {
    let is_first = |layer: usize| choice.first[layer];
    for tensor in network.tensors() {
        let is_made_there = tensor.producer.is_some_and(|producer| !is_first(producer));
        let is_used_here = tensor.consumers.iter().any(|&one| is_first(one));
        assert!(!(is_made_there && is_used_here), "{name}: sent back");
    }
    let (mut device, mut link, mut server, mut crossing) = (0.0, 0.0, 0.0, 0);
    for (number, layer) in network.layers().iter().enumerate() {
        if is_first(number) {
            device += layer.seconds[0];
        } else {
            server += layer.seconds[1] * scene.load;
        }
    }
    for (number, tensor) in network.tensors().iter().enumerate() {
        let is_here = tensor.producer.is_none_or(is_first);
        if !is_here {
            link += tensor.back as f64 / scene.rate;
        } else if tensor.consumers.iter().any(|&one| !is_first(one)) {
            let sent = choice.sent.iter().find(|(sent, _)| *sent == number);
            let way = &tensor.ways[sent.expect("what crosses is sent").1];
            crossing += 1;
            device += way.encode * network.coding()[0];
            link += way.bytes as f64 / scene.rate;
            server += way.decode * network.coding()[1] * scene.load;
        }
    }
    assert_eq!(crossing, choice.sent.len(), "{name}: sent for nothing");
    let delay = if crossing > 0 { scene.delay } else { 0.0 };
    let found = choice.stages;
    for (own, found) in [
        (device, found.device),
        (link, found.link),
        (server, found.server),
        (delay, found.delay),
    ] {
        assert!(
            (own - found).abs() < 1e-9 + 1e-9 * own,
            "{name}: {own} {found}"
        );
    }
    assert!(same(scene.worth(&found), choice.worth), "{name}");
}

#[test]
fn no_method_makes_an_illegal_cut_or_beats_brute_force_and_the_exact_ones_equal_it() {
    let mut heavy_equals = 0;
    for case in 0..CASES {
        let mut lot = Lot::new(case);
        let layers = 1 + lot.number(10);
        let network = lot.network(layers, 2);
        for objective in lot.objectives() {
            let scene = lot.scene(objective);
            let best = BruteForce.choose(&network, &scene).unwrap();
            for method in all() {
                let choice = match method.choose(&network, &scene) {
                    Ok(choice) => choice,
                    // Some inputs may not be sent in the network's own form; here they always may.
                    Err(why) => panic!("case {case}, {}: {why}", method.name()),
                };
                let name = format!("case {case}, {}, {objective:?}", method.name());
                check(&network, &scene, &choice, &name);
                let is_sum = matches!(objective, Objective::Latency | Objective::Energy { .. });
                let is_exact = match method.name() {
                    "exact" | "brute force" => true,
                    "DADS light" | "Edgent" => is_sum,
                    // These look for the least response.
                    "IAO" | "threshold search" | "chain" => objective == Objective::Latency,
                    _ => false,
                };
                let (found, least) = (choice.worth, best.worth);
                if is_exact {
                    assert!(same(found, least), "{name}: {found:?} {least:?}");
                } else {
                    let is_below = found.is_better(&least) && !same(found, least);
                    assert!(!is_below, "{name}: {found:?} {least:?}");
                }
                if method.name() == "DADS heavy" && objective == Objective::Bottleneck {
                    assert!(found.cost <= 3.0 * least.cost * (1.0 + 1e-9), "{name}");
                    heavy_equals += u64::from(same(found, least));
                }
            }
        }
    }
    // Nothing promises it; with so coarse a grid it still finds the best in most.
    assert!(heavy_equals * 10 > CASES * 6, "{heavy_equals} of {CASES}");
}

#[test]
fn along_a_chain_neurosurgeon_is_exact_for_every_objective() {
    for case in 0..CASES {
        let mut lot = Lot::new(case);
        let count = 1 + lot.number(12);
        let network = lot.chain(count);
        assert_eq!(network.trunk().len(), count + 1);
        for objective in lot.objectives() {
            let scene = lot.scene(objective);
            let best = BruteForce.choose(&network, &scene).unwrap();
            let found = Neurosurgeon.choose(&network, &scene).unwrap();
            assert!(same(found.worth, best.worth), "case {case}, {objective:?}");
        }
    }
}

/// Two ways to the same optimum that share nothing, on graphs that no brute force can look through.
#[test]
fn on_larger_networks_the_list_of_all_cuts_and_the_flow_agree() {
    let mut compared = 0;
    for case in 0..60 {
        let mut lot = Lot::new(5000 + case);
        let network = if case % 4 == 0 {
            lot.chain(60)
        } else {
            lot.network(35, 2)
        };
        for objective in lot.objectives() {
            let scene = lot.scene(objective);
            let light = Light.choose(&network, &scene).unwrap();
            let found = match (Exact { most: 20_000 }).choose(&network, &scene) {
                Err(Refused::Wide(_)) => continue,
                found => found.unwrap(),
            };
            check(&network, &scene, &light, "light");
            check(&network, &scene, &found, "exact");
            let name = format!(
                "case {case}, {objective:?}: {:?} {:?}",
                light.worth, found.worth
            );
            if matches!(objective, Objective::Latency | Objective::Energy { .. }) {
                assert!(same(light.worth, found.worth), "{name}");
                compared += 1;
            } else {
                let is_below = light.worth.is_better(&found.worth);
                assert!(!is_below || same(light.worth, found.worth), "{name}");
                let heavy = Heavy { side: 3, rounds: 1 };
                let heavy = heavy.choose(&network, &scene).unwrap();
                check(&network, &scene, &heavy, "heavy");
                let is_below = heavy.worth.is_better(&found.worth);
                assert!(!is_below || same(heavy.worth, found.worth), "{name}");
            }
        }
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn a_faster_link_never_costs_more_and_never_sends_less() {
    for case in 0..100 {
        let mut lot = Lot::new(1000 + case);
        let network = lot.network(9, 2);
        for objective in lot.objectives() {
            let mut scene = lot.scene(objective);
            scene.rate = 1e3;
            let mut before: Option<Choice> = None;
            while scene.rate < 1e9 {
                let choice = Exact::default().choose(&network, &scene).unwrap();
                if let Some(before) = &before {
                    let is_worse = before.worth.is_better(&choice.worth);
                    assert!(!is_worse || same(before.worth, choice.worth), "case {case}");
                    // The optimum of cost + bytes / rate: bytes can only fall with the rate.
                    let bytes = |choice: &Choice, rate: f64| choice.stages.link * rate;
                    let is_less =
                        bytes(&choice, scene.rate) + 0.5 < bytes(before, scene.rate / 3.0);
                    if objective == Objective::Latency {
                        assert!(!is_less, "case {case} at {}", scene.rate);
                    }
                }
                before = Some(choice);
                scene.rate *= 3.0;
            }
        }
    }
}

#[test]
fn a_layer_is_not_run_on_the_device_behind_one_on_the_server() {
    // Apart, the first is better on the server and the second on the device: 2 s. That would send a tensor
    // back. What can be done: both on the server (11 s), both on the device (11 s), or first, then (20 s).
    let network = Network::new(
        layers(&[[10.0, 1.0], [1.0, 10.0]]),
        vec![
            tensor(None, &[0], 0),
            tensor(Some(0), &[1], 0),
            tensor(Some(1), &[], 0),
        ],
        vec![1.0, 1.0],
    );
    let network = network.unwrap();
    let choice = Light.choose(&network, &QUIET).unwrap();
    assert!((choice.worth.cost - 11.0).abs() < 1e-9, "{choice:?}");
    assert!(choice.is_device_only() || choice.is_server_only());
}

#[test]
fn a_tensor_that_several_need_is_sent_once() {
    // One tensor of a second's worth of bytes for three layers, on the server much faster.
    let network = Network::new(
        layers(&[[0.1, 9.0], [5.0, 0.1], [5.0, 0.1], [5.0, 0.1]]),
        vec![
            tensor(None, &[0], 50_000_000),
            tensor(Some(0), &[1, 2, 3], 1_000_000),
        ],
        vec![1.0, 1.0],
    );
    let network = network.unwrap();
    for method in [&Light as &dyn Method, &Exact::default(), &Neurosurgeon] {
        let choice = method.choose(&network, &QUIET).unwrap();
        assert!((choice.worth.cost - 1.4).abs() < 1e-9, "{}", method.name());
        assert_eq!(choice.sent, [(1, 0)]);
        assert_eq!(choice.bytes(&network), 1_000_000);
    }
}

#[test]
fn the_picture_itself_is_sent_where_the_server_is_worth_it() {
    // A tensor of 600 kB made from a picture of 20 kB; one layer of 1 s on the device and 10 ms on the server.
    let network = Network::new(
        layers(&[[1.0, 0.01]]),
        vec![tensor(None, &[0], 600_000), tensor(Some(0), &[], 0)],
        vec![1.0, 1.0],
    );
    let tensor_only = network.unwrap();
    let network = tensor_only
        .with_picture(0, 20_000, vec![0.005, 0.001])
        .unwrap();
    let at = |network: &Network, rate: f64| {
        let scene = Scene { rate, ..QUIET };
        let choice = Exact::default().choose(network, &scene).unwrap();
        (choice.is_server_only(), choice.worth.cost)
    };
    // 600 kB take 6 s at 100 kB/s: without the picture nothing is sent.
    assert_eq!(at(&tensor_only, 1e5), (false, 1.0));
    let (is_picture, seconds) = at(&network, 1e5);
    assert!(is_picture && (seconds - 0.211).abs() < 1e-9, "{seconds}");
    // Down to where the picture takes as long as the device needs: (1.005 - 0.011) s.
    assert!(at(&network, 20_000.0 / 0.993).0);
    assert!(!at(&network, 20_000.0 / 0.995).0);
    assert_eq!(
        tensor_only.with_picture(1, 1, vec![0.0, 0.0]),
        Err(NetworkError::Order(1))
    );
}

#[test]
fn a_codec_is_chosen_with_the_cut() {
    // Short but slow to make, or long as it is: each where it is better, 0.1 s against 900 kB.
    let mut sent = tensor(Some(0), &[1], 1_000_000);
    sent.ways.push(Way {
        bytes: 100_000,
        encode: 0.05,
        decode: 0.05,
        ..sent.ways[0]
    });
    let network = Network::new(
        layers(&[[0.1, 9.0], [99.0, 0.1]]),
        vec![tensor(None, &[0], 100_000_000), sent],
        vec![1.0, 1.0],
    );
    let network = network.unwrap();
    for (rate, way) in [(8e6, 1), (10e6, 0)] {
        let scene = Scene { rate, ..QUIET };
        for method in [&Light as &dyn Method, &Exact::default(), &Neurosurgeon] {
            let choice = method.choose(&network, &scene).unwrap();
            assert_eq!(choice.sent, [(1, way)], "{} at {rate}", method.name());
        }
    }
}

#[test]
fn without_arrivals_loss_asks_for_latency_and_under_load_for_a_short_stage() {
    // Server-only: 0.5 s on the link. The other cut: 0.3 s on each of device, link and server.
    let network = Network::new(
        layers(&[[0.3, 0.01], [9.0, 0.3]]),
        vec![tensor(None, &[0], 500_000), tensor(Some(0), &[1], 300_000)],
        vec![1.0, 1.0],
    );
    let network = network.unwrap();
    let scene = |arrivals: f64, most: f64| Scene {
        objective: Objective::Loss {
            arrivals,
            places: 6,
            scv: 0.0,
            most,
        },
        ..QUIET
    };
    for method in [
        &Exact::default() as &dyn Method,
        &BruteForce,
        &Heavy::default(),
    ] {
        let at = |scene: &Scene| method.choose(&network, scene).unwrap();
        let quiet = at(&scene(0.0, 0.01));
        assert!(quiet.is_server_only(), "{}", method.name());
        assert!((quiet.worth.cost - 0.81).abs() < 1e-9);
        let busy = at(&scene(2.2, 0.05));
        assert!(!busy.is_server_only(), "{}", method.name());
        assert_eq!(busy.worth.excess, 0.0);
        // Nothing keeps up with 50 a second: the cut that loses least, and it says how much too much.
        let flooded = at(&scene(50.0, 0.05));
        assert!(flooded.worth.excess > 0.5, "{:?}", flooded.worth);
    }
}

#[test]
fn what_is_no_network_or_no_scene_is_refused() {
    let ok = || layers(&[[1.0, 1.0]]);
    let two = vec![1.0, 1.0];
    let new = |layers, tensors| Network::new(layers, tensors, two.clone());
    assert_eq!(
        new(layers(&[[f64::NAN, 1.0]]), vec![tensor(None, &[0], 1)]),
        Err(NetworkError::Seconds(0))
    );
    assert_eq!(
        new(ok(), vec![tensor(None, &[1], 1)]),
        Err(NetworkError::Order(0))
    );
    assert_eq!(
        new(ok(), vec![tensor(Some(0), &[0], 1)]),
        Err(NetworkError::Order(0))
    );
    assert_eq!(new(ok(), vec![]), Err(NetworkError::Loose(0)));
    let network = new(ok(), vec![tensor(None, &[0], 1)]).unwrap();
    let broken = [
        Scene { rate: 0.0, ..QUIET },
        Scene {
            delay: f64::INFINITY,
            ..QUIET
        },
        Scene {
            load: -1.0,
            ..QUIET
        },
        Scene {
            objective: Objective::Loss {
                arrivals: 1.0,
                places: 0,
                scv: 0.0,
                most: 0.1,
            },
            ..QUIET
        },
    ];
    for scene in broken {
        for method in all() {
            assert_eq!(
                method.choose(&network, &scene),
                Err(Refused::Scene),
                "{}",
                method.name()
            );
        }
    }
    let wide = Lot::new(1).network(12, 2);
    let few = Exact { most: 3 };
    assert_eq!(few.choose(&wide, &QUIET), Err(Refused::Wide(3)));
}
