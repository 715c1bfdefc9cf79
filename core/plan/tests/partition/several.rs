//! Exits, cores, and several nodes.

use std::collections::BTreeMap;

use splitplace_plan::partition::{
    BruteForce, Chain, Edgent, Exact, Exit, Light, Links, Method as _, Network, Objective, Part,
    Question, Scene, User,
    cores::{Times, exchange, threshold, times},
    exits::map,
    line::{Walk, shortest},
};

use crate::drawn::Lot;

/// Every walk there is: each layer at a place of an order of nodes, places never falling along a tensor.
pub(crate) fn slow(network: &Network, links: &Links, stops: usize) -> f64 {
    fn orders(nodes: usize, stops: usize) -> Vec<Vec<usize>> {
        let mut all = vec![vec![0]];
        let mut at = 0;
        while at < all.len() {
            let order = all[at].clone();
            at += 1;
            if order.len() == stops {
                continue;
            }
            for node in (1..nodes).filter(|node| !order.contains(node)) {
                all.push([&order[..], &[node]].concat());
            }
        }
        all
    }
    let count = network.layers().len();
    let mut least = f64::INFINITY;
    for order in orders(network.nodes(), stops) {
        for mut code in 0..order.len().pow(count as u32) {
            let places: Vec<usize> = (0..count)
                .map(|_| {
                    let place = code % order.len();
                    code /= order.len();
                    place
                })
                .collect();
            // Every stop behind the first has a layer.
            if (1..order.len()).any(|place| !places.contains(&place)) {
                continue;
            }
            let in_order = (0..count).all(|layer| {
                network
                    .before(layer)
                    .all(|before| places[before] <= places[layer])
            });
            if in_order {
                least = least.min(cost(network, links, &order, &places));
            }
        }
    }
    least
}

pub(crate) fn cost(network: &Network, links: &Links, order: &[usize], places: &[usize]) -> f64 {
    let mut seconds = 0.0;
    for (layer, &place) in places.iter().enumerate() {
        seconds += network.layers()[layer].seconds[order[place]];
    }
    for tensor in network.tensors() {
        let made = tensor.producer.map_or(0, |producer| places[producer]);
        let last = tensor.consumers.iter().map(|&one| places[one]).max();
        for step in made..last.unwrap_or(made) {
            let (from, to) = (order[step], order[step + 1]);
            let ways = tensor.ways.iter().map(|way| {
                way.bytes as f64 / links.pairs[from][to].0
                    + way.encode * network.coding()[from]
                    + way.decode * network.coding()[to]
            });
            seconds += ways.fold(f64::INFINITY, f64::min);
        }
        if 0 < made && tensor.back > 0 {
            seconds += tensor.back as f64 / links.pairs[order[made]][0].0;
        }
    }
    for step in order.windows(2) {
        seconds += links.pairs[step[0]][step[1]].1;
    }
    match order {
        [.., last] if order.len() > 1 => seconds + links.pairs[*last][0].1,
        _ => seconds,
    }
}

pub(crate) fn links(lot: &mut Lot, nodes: usize) -> Links {
    let mut row = || -> Vec<(f64, f64)> {
        let link = |_| (lot.real(1e5, 1e8), lot.real(1e-4, 1e-2));
        (0..nodes).map(link).collect()
    };
    let pairs = (0..nodes).map(|_| row()).collect();
    Links { pairs }
}

/// The latency of a walk from its stops.
fn again(network: &Network, links: &Links, walk: &Walk) -> f64 {
    let order: Vec<usize> = walk.stops.iter().map(|stop| stop.node).collect();
    let mut places = vec![usize::MAX; network.layers().len()];
    for (place, stop) in walk.stops.iter().enumerate() {
        for &layer in &stop.layers {
            assert_eq!(places[layer], usize::MAX, "twice");
            places[layer] = place;
        }
    }
    for layer in 0..places.len() {
        assert!(
            network
                .before(layer)
                .all(|before| places[before] <= places[layer])
        );
    }
    cost(network, links, &order, &places)
}

#[test]
fn a_walk_along_three_nodes_is_the_best_of_all() {
    let mut long = 0;
    for case in 0..200 {
        let mut lot = Lot::new(case);
        let count = 1 + lot.number(6);
        let network = lot.network(count, 3);
        let links = links(&mut lot, 3);
        for stops in 1..=3 {
            let walk = shortest(&network, &links, stops).unwrap();
            let least = slow(&network, &links, stops);
            assert!(
                (walk.latency - least).abs() <= 1e-9 * least,
                "case {case}: {walk:?} {least}"
            );
            let again = again(&network, &links, &walk);
            assert!(
                (again - least).abs() <= 1e-9 * least,
                "case {case}: {walk:?} {again}"
            );
            assert!(walk.stops.len() <= stops && walk.stops[0].node == 0);
            long += usize::from(walk.stops.len() == 3);
        }
    }
    assert!(long > 10, "{long}");
}

#[test]
fn a_walk_along_two_nodes_is_a_cut() {
    for case in 0..200 {
        let mut lot = Lot::new(case);
        let network = lot.network(9, 2);
        let scene = lot.scene(Objective::Latency);
        let walk = Chain.choose(&network, &scene).unwrap();
        let cut = BruteForce.choose(&network, &scene).unwrap();
        let least = cut.worth.cost;
        assert!(
            (walk.worth.cost - least).abs() <= 1e-9 * least,
            "case {case}: {walk:?} {cut:?}"
        );
    }
}

/// How one network runs by a method.
pub(crate) fn one(method: &dyn splitplace_plan::partition::Method, user: User<'_>) -> Part {
    let question = Question {
        users: &[user],
        cores: 1,
    };
    method.solve(&question).unwrap().remove(0)
}

#[test]
fn a_chain_is_the_best_of_all_walks_under_the_servers_load() {
    for case in 0..200 {
        let mut lot = Lot::new(7000 + case);
        let count = 1 + lot.number(6);
        let network = lot.network(count, 3);
        let mut links = links(&mut lot, 3);
        let scene = lot.scene(Objective::Latency);
        let part = one(
            &Chain,
            User {
                links: Some(&links),
                ..User::new(&network, scene)
            },
        );
        // What it may not look at otherwise: the scene's link, and a slower server.
        links.pairs[0][1] = (scene.rate, scene.delay);
        links.pairs[1][0] = (scene.rate, 0.0);
        let slowed = network.slowed(1, scene.load).unwrap();
        let least = slow(&slowed, &links, 3);
        assert!(
            (part.latency() - least).abs() <= 1e-9 * least,
            "case {case}: {part:?} {least}"
        );
        assert!((part.worth.cost - least).abs() <= 1e-9 * least);
        let walk = Walk {
            stops: part.stops.clone(),
            latency: least,
        };
        let again = again(&slowed, &links, &walk);
        assert!((again - least).abs() <= 1e-9 * least, "case {case}");
        // One more node never costs more.
        let shorter = User {
            links: Some(&links),
            stops: 2,
            ..User::new(&network, scene)
        };
        assert!(part.latency() <= one(&Chain, shorter).latency() * (1.0 + 1e-9));
    }
}

pub(crate) fn exits(lot: &mut Lot, network: &Network) -> Vec<Exit> {
    let made: Vec<usize> = (0..network.tensors().len())
        .filter(|&tensor| network.tensors()[tensor].producer.is_some())
        .collect();
    let exit = |_| Exit {
        accuracy: lot.real(0.5, 1.0),
        answers: BTreeMap::from([(made[lot.number(made.len())], 100)]),
    };
    (0..3).map(exit).collect()
}

#[test]
fn the_most_accurate_exit_that_keeps_the_deadline_is_taken() {
    let mut late = 0;
    for case in 0..200 {
        let mut lot = Lot::new(case);
        let network = lot.network(9, 2);
        let scene = lot.scene(Objective::Latency);
        let exits = exits(&mut lot, &network);
        let deadline = lot.real(1e-2, 1.0);
        let user = User {
            exits: &exits,
            deadline,
            ..User::new(&network, scene)
        };
        let found = one(&Edgent::default(), user);
        // Every exit, by brute force.
        let seconds: Vec<f64> = exits
            .iter()
            .map(|exit| {
                let part = network.up_to(&exit.answers).unwrap().network;
                BruteForce.choose(&part, &scene).unwrap().worth.cost
            })
            .collect();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 + 1e-9 * b;
        let exit = found.exit.unwrap();
        assert!(near(found.worth.cost, seconds[exit]), "case {case}");
        let keep = (0..3).filter(|&exit| seconds[exit] <= deadline);
        let best = keep.max_by(|&a, &b| exits[a].accuracy.total_cmp(&exits[b].accuracy));
        assert_eq!(found.holds, best.is_some(), "case {case}");
        late += usize::from(!found.holds);
        match best {
            Some(best) => assert_eq!(exits[exit].accuracy, exits[best].accuracy),
            None => assert!(seconds.iter().all(|&s| seconds[exit] <= s + 1e-9)),
        }
    }
    assert!((10..190).contains(&late), "{late}");
}

#[test]
fn a_configuration_map_says_at_each_rate_what_choosing_there_says() {
    let mut lot = Lot::new(5);
    let network = lot.chain(8);
    let scene = lot.scene(Objective::Latency);
    let exits = [(3, 0.7), (5, 0.8), (8, 0.9)].map(|(tensor, accuracy)| Exit {
        accuracy,
        answers: BTreeMap::from([(tensor, 40)]),
    });
    let method = Edgent {
        within: Box::new(Exact::default()),
    };
    let user = User {
        exits: &exits,
        deadline: 0.1,
        ..User::new(&network, scene)
    };
    let rates: Vec<f64> = (0..60).map(|step| 1e4 * 1.2f64.powi(step)).collect();
    let map = map(&method, &user, 1, &rates).unwrap();
    assert!(map.len() > 1 && map.len() < rates.len());
    for &rate in &rates {
        let entry = map.iter().rev().find(|entry| entry.rate <= rate).unwrap();
        let scene = Scene { rate, ..scene };
        let part = one(&method, User { scene, ..user });
        assert_eq!(entry.part.exit, part.exit);
        assert_eq!(entry.part.stops, part.stops);
    }
}

/// Measured speed-ups, which need not rise.
pub(crate) fn speed_up(lot: &mut Lot) -> Vec<f64> {
    (0..1 + lot.number(6))
        .map(|core| if core == 0 { 1.0 } else { lot.real(0.8, 5.0) })
        .collect()
}

/// Every way to give out cores.
pub(crate) fn every_share(times: &Times, cores: usize) -> f64 {
    fn go(times: &Times, user: usize, left: usize) -> f64 {
        let Some(seconds) = times.seconds.get(user) else {
            return 0.0;
        };
        (0..=left.min(seconds.len() - 1))
            .map(|take| seconds[take].max(go(times, user + 1, left - take)))
            .fold(f64::INFINITY, f64::min)
    }
    go(times, 0, cores)
}

#[test]
fn exchange_and_threshold_find_what_trying_every_share_finds() {
    for case in 0..200 {
        let mut lot = Lot::new(case);
        let (count, cores) = (1 + lot.number(4), lot.number(9));
        let networks: Vec<Network> = (0..count).map(|_| lot.network(6, 2)).collect();
        let curves: Vec<Vec<f64>> = (0..count).map(|_| speed_up(&mut lot)).collect();
        let users: Vec<User<'_>> = (0..count)
            .map(|number| User {
                speed_up: &curves[number],
                ..User::new(&networks[number], lot.scene(Objective::Latency))
            })
            .collect();
        let times = times(&users, cores, &Light).unwrap();
        for seconds in &times.seconds {
            assert!(seconds.windows(2).all(|pair| pair[1] <= pair[0]));
        }
        let least = every_share(&times, cores);
        let begin: Vec<usize> = (0..count).map(|_| lot.number(9)).collect();
        for shares in [threshold(&times, cores), exchange(&times, cores, &begin)] {
            assert!(shares.cores.iter().sum::<usize>() <= cores, "case {case}");
            assert!(
                (shares.slowest - least).abs() <= 1e-12,
                "case {case}: {shares:?} {least}"
            );
            let of = shares.cores.iter().zip(&times.seconds);
            let slowest = of
                .map(|(&cores, seconds)| seconds[cores])
                .fold(0.0, f64::max);
            assert!(slowest <= shares.slowest + 1e-12);
        }
        // One more network never helps the others.
        let fewer = Times {
            seconds: times.seconds[1..].to_vec(),
            parts: times.parts[1..].to_vec(),
        };
        assert!(threshold(&fewer, cores).slowest <= least + 1e-12);
    }
}
