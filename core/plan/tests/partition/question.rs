//! Whole questions: several networks with exits, deadlines, links and a share of the server's cores, every method.

use std::collections::{BTreeMap, BTreeSet};

use splitplace_plan::partition::{
    BruteForce, Edgent, Exact, Exit, Iao, Light, Links, METHODS, Method, Network, Objective, Part,
    Question, Refused, Scene, Threshold, User, by_name,
};

use crate::{
    drawn::Lot,
    several::{every_share, exits, links, speed_up},
};

/// What a question is made of.
struct Drawn {
    networks: Vec<Network>,
    exits: Vec<Vec<Exit>>,
    curves: Vec<Vec<f64>>,
    links: Vec<Links>,
    scenes: Vec<Scene>,
    deadlines: Vec<f64>,
    cores: usize,
}

impl Drawn {
    fn new(case: u64, nodes: usize) -> Self {
        let mut lot = Lot::new(9000 + case);
        let count = 1 + lot.number(3);
        let networks: Vec<Network> = (0..count).map(|_| lot.network(6, nodes)).collect();
        Self {
            exits: networks
                .iter()
                .map(|network| {
                    let exits = exits(&mut lot, network);
                    // Some have none.
                    if lot.number(4) == 0 {
                        Vec::new()
                    } else {
                        exits
                    }
                })
                .collect(),
            curves: (0..count).map(|_| speed_up(&mut lot)).collect(),
            links: (0..count).map(|_| links(&mut lot, nodes)).collect(),
            scenes: (0..count).map(|_| lot.scene(Objective::Latency)).collect(),
            deadlines: (0..count).map(|_| lot.real(1e-2, 1.0)).collect(),
            cores: lot.number(7),
            networks,
        }
    }

    fn users(&self) -> Vec<User<'_>> {
        let user = |number: usize| User {
            exits: &self.exits[number],
            deadline: self.deadlines[number],
            speed_up: &self.curves[number],
            links: Some(&self.links[number]),
            ..User::new(&self.networks[number], self.scenes[number])
        };
        (0..self.networks.len()).map(user).collect()
    }
}

/// The latency of a part from the whole network's numbers, and whether it may run so: what its exit needs runs once,
/// nothing runs before what it needs, and whatever crosses is received in a way that there is.
fn again(user: &User<'_>, part: &Part) -> f64 {
    let network = user.network;
    let answers: BTreeMap<usize, u64> = match part.exit {
        Some(exit) => user.exits[exit].answers.clone(),
        None => {
            let made = network.tensors().iter().enumerate();
            let made = made.filter(|(_, tensor)| tensor.producer.is_some());
            made.map(|(at, tensor)| (at, tensor.back)).collect()
        }
    };
    // What is needed, from the answers back.
    let mut needed = BTreeSet::new();
    let mut open: Vec<usize> = answers.keys().copied().collect();
    while let Some(tensor) = open.pop() {
        if let Some(layer) = network.tensors()[tensor].producer
            && needed.insert(layer)
        {
            open.extend(network.inputs(layer));
        }
    }
    let place = |layer: usize| {
        let at = |stop: &splitplace_plan::partition::Stop| stop.layers.contains(&layer);
        let mut places = (0..part.stops.len()).filter(|&place| at(&part.stops[place]));
        let place = places.next().expect("every layer that is needed runs");
        assert_eq!(places.next(), None, "layer {layer} runs twice");
        place
    };
    let ran: usize = part.stops.iter().map(|stop| stop.layers.len()).sum();
    assert_eq!(ran, needed.len(), "nothing else runs");
    let speed = match part.cores {
        0 => 1.0,
        cores => user.speed_up[cores.min(user.speed_up.len()) - 1],
    };
    let slower = |node: usize| {
        if node == 1 {
            user.scene.load / speed
        } else {
            1.0
        }
    };
    let node = |place: usize| part.stops[place].node;
    let mut seconds = 0.0;
    for &layer in &needed {
        let node = node(place(layer));
        seconds += network.layers()[layer].seconds[node] * slower(node);
        assert!(network.before(layer).all(|one| place(one) <= place(layer)));
    }
    let link = |from: usize, to: usize| match (from, to) {
        (0, 1) => (user.scene.rate, user.scene.delay),
        (1, 0) => (user.scene.rate, 0.0),
        _ => user.links.map_or((0.0, 0.0), |links| links.pairs[from][to]),
    };
    for (number, tensor) in network.tensors().iter().enumerate() {
        let Some(made) = tensor.producer.map_or(Some(0), |producer| {
            needed.contains(&producer).then(|| place(producer))
        }) else {
            continue;
        };
        let used = tensor.consumers.iter().filter(|one| needed.contains(one));
        let last = used.map(|&one| place(one)).max().unwrap_or(made);
        for step in made..last {
            let received = &part.stops[step + 1].received;
            let (_, way) = received
                .iter()
                .find(|(tensor, _)| *tensor == number)
                .expect("what crosses is received");
            let (way, from, to) = (&tensor.ways[*way], node(step), node(step + 1));
            seconds += way.bytes as f64 / link(from, to).0
                + way.encode * network.coding()[from] * slower(from)
                + way.decode * network.coding()[to] * slower(to);
        }
        let back = answers.get(&number).copied().unwrap_or(0);
        if made > 0 && back > 0 {
            seconds += back as f64 / link(node(made), 0).0;
        }
    }
    for step in 1..part.stops.len() {
        seconds += link(node(step - 1), node(step)).1;
    }
    match part.stops.len() {
        1 => seconds,
        stops => seconds + link(node(stops - 1), 0).1,
    }
}

#[test]
fn every_method_answers_every_question_and_its_times_are_true() {
    for case in 0..100 {
        let drawn = Drawn::new(case, 2 + usize::from(case % 2 == 0));
        let users = drawn.users();
        for name in METHODS {
            let question = Question {
                users: &users,
                cores: drawn.cores,
            };
            let parts = by_name(name).unwrap().solve(&question).unwrap();
            assert_eq!(parts.len(), users.len(), "{name}");
            let cores: usize = parts.iter().map(|part| part.cores).sum();
            let is_search = ["IAO", "threshold search"].contains(&name);
            assert!(cores <= drawn.cores, "{name}");
            // Who does not choose leaves it at an even share, and at the most accurate exit.
            let each: Vec<usize> = parts.iter().map(|part| part.cores).collect();
            let spread = each.iter().max().unwrap() - each.iter().min().unwrap();
            assert!(is_search || (cores == drawn.cores && spread <= 1), "{name}");
            for (user, part) in users.iter().zip(&parts) {
                assert_eq!(part.exit.is_none(), user.exits.is_empty(), "{name}");
                if let Some(exit) = part.exit
                    && name != "Edgent"
                {
                    let best = user.exits.iter().map(|exit| exit.accuracy);
                    assert_eq!(user.exits[exit].accuracy, best.fold(0.0, f64::max));
                }
                let (again, found) = (again(user, part), part.latency());
                assert!(
                    (again - found).abs() <= 1e-9 * again,
                    "case {case}, {name}: {again} {part:?}"
                );
                assert_eq!(part.holds, found <= user.deadline, "{name}");
            }
        }
    }
}

/// Least seconds with 0, 1, … cores by trying every set of layers for each exit, and by Edgent's rule.
fn slow(user: &User<'_>, cores: usize) -> Vec<f64> {
    let mut falling = Vec::new();
    for count in 0..=cores {
        let speed = match count {
            0 => 1.0,
            count => user.speed_up[count.min(user.speed_up.len()) - 1],
        };
        let scene = Scene {
            load: user.scene.load / speed,
            ..user.scene
        };
        let seconds = |network: &Network| match count {
            0 => network.layers().iter().map(|layer| layer.seconds[0]).sum(),
            _ => BruteForce.choose(network, &scene).unwrap().worth.cost,
        };
        let mut order: Vec<&Exit> = user.exits.iter().collect();
        order.sort_by(|a, b| b.accuracy.total_cmp(&a.accuracy));
        let of = |exit: &&Exit| seconds(&user.network.up_to(&exit.answers).unwrap().network);
        let each: Vec<f64> = order.iter().map(of).collect();
        let kept = each.iter().copied().find(|&took| took <= user.deadline);
        let fastest = each.iter().copied().fold(f64::INFINITY, f64::min);
        let took = match order.len() {
            0 => seconds(user.network),
            _ => kept.unwrap_or(fastest),
        };
        falling.push(falling.last().map_or(took, |&least: &f64| least.min(took)));
    }
    falling
}

#[test]
fn exits_cuts_and_cores_together_are_what_trying_everything_finds() {
    let mut better = 0;
    for case in 0..200 {
        let drawn = Drawn::new(case, 2);
        let users = drawn.users();
        let times = splitplace_plan::partition::cores::Times {
            seconds: users.iter().map(|user| slow(user, drawn.cores)).collect(),
            parts: Vec::new(),
        };
        let least = every_share(&times, drawn.cores);
        let question = Question {
            users: &users,
            cores: drawn.cores,
        };
        let edgent = |within: Box<dyn Method>| Box::new(Edgent { within });
        let methods: [Box<dyn Method>; 2] = [
            Box::new(Iao {
                within: edgent(Box::new(Light)),
            }),
            Box::new(Threshold {
                within: edgent(Box::<Exact>::default()),
            }),
        ];
        let slowest = |parts: &[Part]| parts.iter().map(Part::latency).fold(0.0, f64::max);
        for method in methods {
            let parts = method.solve(&question).unwrap();
            let found = slowest(&parts);
            assert!(
                (found - least).abs() <= 1e-9 * least,
                "case {case}, {}: {found} {least}",
                method.name()
            );
            for (user, part) in users.iter().zip(&parts) {
                assert!(part.exit.is_some() != user.exits.is_empty());
            }
        }
        let even = slowest(&Edgent::default().solve(&question).unwrap());
        assert!(least <= even * (1.0 + 1e-9));
        better += usize::from(least < even * 0.99);
    }
    assert!(better > 20, "{better}");
}

#[test]
fn what_is_no_exit_or_no_link_is_refused() {
    let mut lot = Lot::new(3);
    let network = lot.network(5, 3);
    let scene = lot.scene(Objective::Latency);
    let solve = |name: &str, user: User<'_>| {
        let question = Question {
            users: &[user],
            cores: 1,
        };
        by_name(name).unwrap().solve(&question).map(drop)
    };
    // The input is nothing that the network makes, and there is no tensor 999.
    for answers in [vec![(0, 1)], vec![(999, 1)], vec![]] {
        let exits = [Exit {
            accuracy: 0.9,
            answers: answers.into_iter().collect(),
        }];
        for name in METHODS {
            let user = User {
                exits: &exits,
                ..User::new(&network, scene)
            };
            assert_eq!(solve(name, user), Err(Refused::Exit(0)), "{name}");
        }
    }
    for pairs in [
        vec![vec![(1.0, 0.0); 2]; 2],
        vec![vec![(f64::NAN, 0.0); 3]; 3],
    ] {
        let links = Links { pairs };
        let user = User {
            links: Some(&links),
            ..User::new(&network, scene)
        };
        assert!(matches!(solve("chain", user), Err(Refused::Links(_))));
    }
    let none = Question {
        users: &[],
        cores: 4,
    };
    for name in METHODS {
        assert_eq!(by_name(name).unwrap().solve(&none), Ok(Vec::new()));
    }
}

#[test]
fn a_faster_link_never_makes_anything_worse() {
    let (mut sooner, mut more_accurate) = (0, 0);
    for case in 0..100 {
        let mut drawn = Drawn::new(500 + case, 3);
        drawn.cores += 1;
        let mut before: Option<[(f64, Vec<Option<f64>>); 3]> = None;
        for step in 0..8 {
            for scene in &mut drawn.scenes {
                scene.rate = 1e4 * 5f64.powi(step);
            }
            let users = drawn.users();
            let question = Question {
                users: &users,
                cores: drawn.cores,
            };
            let ask = |name: &str| {
                let parts = by_name(name).unwrap().solve(&question).unwrap();
                // Where the deadline is kept: how accurate.
                let kept = users.iter().zip(&parts).map(|(user, part)| {
                    let exit = part.exit.filter(|_| part.holds)?;
                    Some(user.exits[exit].accuracy)
                });
                let kept: Vec<Option<f64>> = kept.collect();
                (parts.iter().map(Part::latency).fold(0.0, f64::max), kept)
            };
            let now = [ask("threshold search"), ask("chain"), ask("Edgent")];
            if let Some(before) = &before {
                for (now, before) in now[..2].iter().zip(before) {
                    assert!(now.0 <= before.0 * (1.0 + 1e-9), "case {case}");
                    sooner += usize::from(now.0 < before.0 * 0.99);
                }
                // Edgent may take longer for a better answer: never for a worse one, and what was kept is.
                for (now, before) in now[2].1.iter().zip(&before[2].1) {
                    assert!(now >= before, "case {case}: {now:?} {before:?}");
                    more_accurate += usize::from(now > before);
                }
            }
            before = Some(now);
        }
    }
    assert!(
        sooner > 100 && more_accurate > 20,
        "{sooner} {more_accurate}"
    );
}
