//! Stories, and random worlds in which everything must come back to rest.

use proptest::prelude::*;
use rand::{Rng, SeedableRng as _};
use splitplace_fleet::{Node, NodeState};
use splitplace_lifecycle::Limits;
use splitplace_plan::{FragmentId, Hop, ModelPlan};
use splitplace_policy::Reason;

use super::*;

/// Takes the arm whose turn it is, and remembers what it was told.
#[derive(Debug, Default)]
struct Turns {
    turn: usize,
    learnt: Vec<(Option<Duration>, f64)>,
}

impl Policy for Turns {
    fn name(&self) -> &'static str {
        "turns"
    }

    fn choose(&self, _: &Context<'_>, arms: &[ArmView<'_>], rng: &mut dyn Rng) -> Choice {
        let arm = (self.turn + rng.next_u32() as usize) % arms.len();
        Choice {
            arm,
            propensity: 1.0,
            context: "any",
            scores: vec![],
            reason: Reason::Fixed,
        }
    }

    fn learn(&mut self, outcome: &Outcome<'_>) {
        self.turn += 1;
        self.learnt.push((outcome.response, outcome.accuracy));
    }

    fn revise(&mut self, before: &Outcome<'_>, after: &Outcome<'_>) {
        let known = self
            .learnt
            .iter_mut()
            .find(|known| **known == (before.response, before.accuracy));
        *known.expect("revises what it learnt") = (after.response, after.accuracy);
    }

    fn explain(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([(
            "learnt".into(),
            f64::from(u32::try_from(self.learnt.len()).unwrap()),
        )])
    }

    fn state(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn restore(&mut self, _: &BTreeMap<String, f64>) {}
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn arm(name: &str, kind: ArmKind, first: u32, branches: &[&[&str]]) -> ArmPlan {
    let branches = (first..)
        .zip(branches)
        .map(|(id, nodes)| Route {
            id: RouteId(id),
            bytes_out: 40,
            hops: nodes
                .iter()
                .map(|&node| Hop {
                    memory_bytes: 1,
                    service: ms(4),
                    bytes_in: 100,
                    ..Hop::new(node.into(), FragmentId([0; 32]), 0..1)
                })
                .collect(),
        })
        .collect();
    let predicted = ms(4);
    ArmPlan {
        name: name.into(),
        variant: name.into(),
        kind,
        accuracy: Some(0.9),
        predicted,
        branches,
    }
}

/// Two arms: a chain over a and b, a semantic split over b and c.
fn plan(generation: u64) -> Plan {
    let arms = vec![
        arm("chain", ArmKind::Chain, 0, &[&["a", "b"]]),
        arm("semantic", ArmKind::Semantic, 1, &[&["b"], &["c"]]),
    ];
    let models = BTreeMap::from([(
        "m".into(),
        ModelPlan {
            version: "1".into(),
            arms,
        },
    )]);
    Plan {
        generation: Generation(generation),
        models,
        ..Plan::default()
    }
}

fn fleet(dead: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::empty(Timestamp::ZERO);
    for name in ["a", "b", "c"] {
        let node = Node {
            id: name.into(),
            state: if dead.contains(&name) {
                NodeState::Lost
            } else {
                NodeState::Alive
            },
            cores: 1,
            macs_per_second: 1e9,
            memory_bytes: 1 << 20,
            labels: BTreeMap::new(),
            emulated: false,
        };
        snapshot.nodes.insert(node.id.clone(), node);
    }
    snapshot
}

fn brain(seed: u64) -> Brain {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let settings = Settings {
        limits: Limits {
            in_flight_max: 8,
            attempts_max: 4,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let mut brain = Brain::new(settings, Box::<Turns>::default(), rng);
    brain.observe(at(0), fleet(&[]));
    brain.adopt(at(0), &plan(1));
    brain
}

fn arrival() -> Arrival {
    Arrival {
        min_accuracy: 0.0,
        model: "m".into(),
        samples: 1,
        sla: ms(50),
        patience: ms(200),
    }
}

fn sends(orders: &[Order]) -> Vec<(u32, u32, NodeId)> {
    orders
        .iter()
        .filter_map(|order| match order {
            Order::Send {
                attempt,
                branch,
                node,
                ..
            } => Some((*attempt, *branch, node.clone())),
            Order::WakeAt { .. } | Order::Finish { .. } => None,
        })
        .collect()
}

fn report(orders: &[Order]) -> Option<&Report> {
    orders.iter().find_map(|order| match order {
        Order::Finish { report, .. } => Some(report),
        Order::WakeAt { .. } | Order::Send { .. } => None,
    })
}

#[test]
fn a_lost_node_moves_the_request_to_the_arm_without_it() {
    let mut brain = brain(1);
    let request = RequestId(1);
    let mut orders = brain.arrive(at(0), request, arrival()).unwrap();
    // Whichever arm it was, lose a node that only this arm uses.
    let lost = if sends(&orders).len() == 1 { "a" } else { "c" };
    orders = brain.observe(at(5), fleet(&[lost]));
    let sent = sends(&orders);
    assert!(!sent.is_empty() && sent.iter().all(|(attempt, ..)| *attempt == 1));
    for (_, branch, _) in &sent {
        orders = brain.step(
            at(9),
            Event::BranchAnswered {
                request,
                attempt: 1,
                branch: *branch,
            },
        );
    }
    let report = report(&orders).unwrap();
    assert_eq!(
        report.ending,
        Ending::Answered {
            attempt: 1,
            missing: vec![]
        }
    );
    assert!(report.sla_held && report.response == ms(9));
}

#[test]
fn a_pinned_arm_is_taken_while_it_can_answer() {
    let mut brain = brain(1);
    brain.pin("m".into(), Some("semantic".into()));
    assert_eq!(brain.pinned(&"m".into()), Some("semantic"));
    for number in 0..7 {
        let orders = brain.arrive(at(0), RequestId(number), arrival()).unwrap();
        assert_eq!(sends(&orders).len(), 2, "both branches of the semantic arm");
    }
    // Without node c it cannot: the policy chooses among the rest.
    brain.observe(at(1), fleet(&["c"]));
    let orders = brain.arrive(at(2), RequestId(7), arrival()).unwrap();
    assert_eq!(sends(&orders).len(), 1);
    brain.pin("m".into(), None);
    assert_eq!(brain.pinned(&"m".into()), None);
}

#[test]
fn without_any_arm_a_request_waits_for_a_plan() {
    let mut brain = brain(1);
    brain.observe(at(0), fleet(&["b"]));
    let orders = brain.arrive(at(1), RequestId(1), arrival()).unwrap();
    assert!(sends(&orders).is_empty());
    let moved = Plan {
        models: BTreeMap::from([(
            "m".into(),
            ModelPlan {
                version: "1".into(),
                arms: vec![arm("w", ArmKind::Whole, 0, &[&["c"]])],
            },
        )]),
        ..plan(2)
    };
    let orders = brain.adopt(at(3), &moved);
    assert_eq!(sends(&orders), [(0, 0, "c".into())]);
    assert_eq!(brain.oldest_generation(), Generation(2));
}

#[test]
fn a_request_that_no_arm_can_answer_in_time_is_refused_with_the_forecast() {
    let mut brain = brain(1);
    let hurried = Arrival {
        sla: ms(1),
        patience: ms(1),
        ..arrival()
    };
    let refused = brain.arrive(at(0), RequestId(1), hurried).unwrap_err();
    assert!(matches!(refused, Refusal::Hopeless { fastest } if fastest > ms(4)));
    let unknown = Arrival {
        model: "x".into(),
        ..arrival()
    };
    assert_eq!(
        brain.arrive(at(0), RequestId(2), unknown).unwrap_err(),
        Refusal::NotReady
    );
    assert_eq!(brain.counts().arrived, 0);
}

#[test]
fn forecasts_grow_with_what_is_in_flight() {
    let mut brain = brain(1);
    let idle: Vec<_> = brain.forecasts(&"m".into());
    for number in 0..6 {
        brain.arrive(at(0), RequestId(number), arrival()).unwrap();
    }
    let busy = brain.forecasts(&"m".into());
    for ((_, idle), (_, busy)) in idle.iter().zip(&busy) {
        assert!(busy.unwrap() > idle.unwrap() + ms(10));
    }
}

#[test]
fn the_truth_replaces_what_was_assumed() {
    let mut brain = brain(1);
    let request = RequestId(1);
    let sent = sends(&brain.arrive(at(0), request, arrival()).unwrap());
    for (_, branch, _) in sent {
        brain.step(
            at(9),
            Event::BranchAnswered {
                request,
                attempt: 0,
                branch,
            },
        );
    }
    brain.classify(request, vec![3, 4]);
    assert_eq!(
        brain.feedback(request, &[3]),
        None,
        "one label for each sample"
    );
    assert_eq!(brain.feedback(request, &[3, 5]), Some(1));
    assert_eq!(brain.feedback(request, &[3, 5]), None, "once");
}

/// What a random world does next.
#[derive(Clone, Debug)]
enum Move {
    Arrive,
    Answer(usize),
    Fail(usize, Fault),
    Fleet(Vec<&'static str>),
    Adopt,
    Wake,
    Cancel(usize),
}

fn moves() -> impl Strategy<Value = Vec<(Move, u64)>> {
    let one = prop_oneof![
        4 => Just(Move::Arrive),
        6 => (0usize..8).prop_map(Move::Answer),
        2 => (0usize..8, prop_oneof![
            Just(Fault::PeerLost), Just(Fault::QueueFull), Just(Fault::Engine), Just(Fault::Expired)
        ]).prop_map(|(which, fault)| Move::Fail(which, fault)),
        1 => prop_oneof![Just(vec![]), Just(vec!["a"]), Just(vec!["b"]), Just(vec!["c", "a"])]
            .prop_map(Move::Fleet),
        1 => Just(Move::Adopt),
        2 => Just(Move::Wake),
        1 => (0usize..8).prop_map(Move::Cancel),
    ];
    proptest::collection::vec((one, 0u64..8), 0..150)
}

/// Plays the moves; returns every order as text, and the brain at rest.
fn play(seed: u64, moves: &[(Move, u64)]) -> (String, Brain) {
    let mut brain = brain(seed);
    let mut log = String::new();
    let mut open: Vec<(RequestId, u32, u32)> = Vec::new();
    let (mut now, mut next, mut generation) = (0, 0, 1);
    let mut requests = BTreeSet::new();
    let mut take = |orders: Vec<Order>, open: &mut Vec<_>, requests: &mut BTreeSet<RequestId>| {
        for order in orders {
            log.push_str(&format!("{order:?}\n"));
            match order {
                Order::Send {
                    request,
                    attempt,
                    branch,
                    ..
                } => open.push((request, attempt, branch)),
                Order::Finish { request, .. } => {
                    assert!(requests.remove(&request), "ended twice");
                }
                Order::WakeAt { .. } => {}
            }
        }
    };
    for (step, pause) in moves {
        now += pause;
        let orders = match step {
            Move::Arrive => {
                next += 1;
                requests.insert(RequestId(next));
                match brain.arrive(at(now), RequestId(next), arrival()) {
                    Ok(orders) => orders,
                    Err(_) => {
                        requests.remove(&RequestId(next));
                        vec![]
                    }
                }
            }
            Move::Answer(_) | Move::Fail(..) | Move::Cancel(_) if open.is_empty() => vec![],
            Move::Answer(which) => {
                let (request, attempt, branch) = open.remove(which % open.len());
                brain.step(
                    at(now),
                    Event::BranchAnswered {
                        request,
                        attempt,
                        branch,
                    },
                )
            }
            Move::Fail(which, fault) => {
                let (request, attempt, branch) = open.remove(which % open.len());
                let fault = *fault;
                brain.step(
                    at(now),
                    Event::BranchFailed {
                        request,
                        attempt,
                        branch,
                        fault,
                    },
                )
            }
            Move::Cancel(which) => {
                let (request, ..) = open[which % open.len()];
                brain.step(at(now), Event::Cancelled { request })
            }
            Move::Fleet(dead) => brain.observe(at(now), fleet(dead)),
            Move::Adopt => {
                generation += 1;
                brain.adopt(at(now), &plan(generation))
            }
            Move::Wake => {
                let all: Vec<_> = requests.iter().copied().collect();
                all.into_iter()
                    .flat_map(|request| brain.step(at(now), Event::Woke { request }))
                    .collect()
            }
        };
        take(orders, &mut open, &mut requests);
    }
    let left: Vec<_> = requests.iter().copied().collect();
    for request in left {
        let orders = brain.step(at(now + 1000), Event::Woke { request });
        take(orders, &mut open, &mut requests);
    }
    assert!(
        requests.is_empty(),
        "past its expiry every request has ended"
    );
    (log, brain)
}

proptest! {
    #[test]
    fn everything_comes_back_to_rest_and_replays_from_its_seed(
        seed in any::<u64>(),
        moves in moves(),
    ) {
        let (log, brain) = play(seed, &moves);
        prop_assert_eq!(brain.in_flight(), 0);
        prop_assert!(brain.flights.is_empty());
        prop_assert!(brain.in_generation.is_empty());
        for node in ["a", "b", "c"] {
            prop_assert!(brain.backlog.seconds(&node.into()) < 1e-9, "work is left on {}", node);
        }
        let (again, _) = play(seed, &moves);
        prop_assert_eq!(log, again);
    }
}
