//! The ledger's laws, on hand-made stories and on random worlds.

use proptest::prelude::*;
use splitplace_plan::Generation;

use super::*;

const REQUEST: RequestId = RequestId(7);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

fn way(route: u32, nodes: &[&str]) -> BranchRoute {
    let nodes = nodes.iter().map(|&name| NodeId::from(name)).collect();
    BranchRoute {
        route: RouteId(route),
        nodes,
    }
}

fn routed(attempt: u32, branches: Vec<BranchRoute>, partial: bool) -> Event {
    Event::Routed {
        request: REQUEST,
        attempt,
        generation: Generation(1),
        branches,
        partial,
    }
}

/// A ledger with one request: promised at 10 ms, given up at 100 ms.
fn one() -> Ledger {
    let mut ledger = Ledger::new(Limits::default());
    let event = Event::Arrived {
        request: REQUEST,
        deadline: at(10),
        expiry: at(100),
    };
    let effects = ledger.step(at(0), event);
    assert!(matches!(effects[0], Effect::Decide { attempt: 0, .. }));
    ledger
}

fn ending(effects: &[Effect]) -> Option<&Ending> {
    effects.iter().find_map(|effect| match effect {
        Effect::Finish { ending, .. } => Some(ending),
        Effect::Decide { .. } | Effect::Send { .. } | Effect::WakeAt { .. } => None,
    })
}

fn decided(effects: &[Effect]) -> Option<(u32, &BTreeSet<RouteId>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Decide { attempt, avoid, .. } => Some((*attempt, avoid)),
        Effect::Finish { .. } | Effect::Send { .. } | Effect::WakeAt { .. } => None,
    })
}

#[test]
fn a_chain_answers_when_its_only_branch_does() {
    let mut ledger = one();
    let sent = ledger.step(at(0), routed(0, vec![way(3, &["a", "b"])], false));
    assert!(matches!(
        sent[..],
        [Effect::Send {
            route: RouteId(3),
            branch: 0,
            ..
        }]
    ));
    let done = ledger.step(
        at(4),
        Event::BranchAnswered {
            request: REQUEST,
            attempt: 0,
            branch: 0,
        },
    );
    assert_eq!(
        ending(&done),
        Some(&Ending::Answered {
            attempt: 0,
            missing: vec![]
        })
    );
    assert_eq!(ledger.in_flight(), 0);
}

#[test]
fn the_loss_of_a_node_starts_another_attempt_that_avoids_the_route() {
    let mut ledger = one();
    ledger.step(at(0), routed(0, vec![way(3, &["a", "b"])], false));
    let effects = ledger.step(at(2), Event::NodeLost { node: "b".into() });
    assert_eq!(decided(&effects), Some((1, &BTreeSet::from([RouteId(3)]))));
    let stale = ledger.step(
        at(3),
        Event::BranchAnswered {
            request: REQUEST,
            attempt: 0,
            branch: 0,
        },
    );
    assert!(
        stale.is_empty(),
        "an answer of a dead attempt must not count"
    );
    ledger.step(at(3), routed(1, vec![way(4, &["c"])], false));
    let done = ledger.step(
        at(5),
        Event::BranchAnswered {
            request: REQUEST,
            attempt: 1,
            branch: 0,
        },
    );
    assert_eq!(
        ending(&done),
        Some(&Ending::Answered {
            attempt: 1,
            missing: vec![]
        })
    );
}

#[test]
fn the_loss_of_a_node_that_already_answered_does_not_matter() {
    let mut ledger = one();
    ledger.step(at(0), routed(0, vec![way(0, &["a"]), way(1, &["b"])], true));
    ledger.step(
        at(1),
        Event::BranchAnswered {
            request: REQUEST,
            attempt: 0,
            branch: 0,
        },
    );
    assert!(
        ledger
            .step(at(2), Event::NodeLost { node: "a".into() })
            .is_empty()
    );
}

#[test]
fn branches_that_miss_the_deadline_are_left_out() {
    let mut ledger = one();
    ledger.step(at(0), routed(0, vec![way(0, &["a"]), way(1, &["b"])], true));
    ledger.step(
        at(1),
        Event::BranchAnswered {
            request: REQUEST,
            attempt: 0,
            branch: 1,
        },
    );
    let done = ledger.step(at(10), Event::Woke { request: REQUEST });
    assert_eq!(
        ending(&done),
        Some(&Ending::Answered {
            attempt: 0,
            missing: vec![0]
        })
    );
}

#[test]
fn a_chain_is_waited_for_beyond_its_deadline_until_it_expires() {
    let mut ledger = one();
    ledger.step(at(0), routed(0, vec![way(0, &["a"])], false));
    let effects = ledger.step(at(10), Event::Woke { request: REQUEST });
    assert_eq!(
        effects,
        [Effect::WakeAt {
            request: REQUEST,
            at: at(100)
        }]
    );
    let done = ledger.step(at(100), Event::Woke { request: REQUEST });
    assert_eq!(
        ending(&done),
        Some(&Ending::Expired {
            last: None,
            attempts: 1
        })
    );
}

#[test]
fn what_cannot_be_routed_waits_for_a_change_of_routes() {
    let mut ledger = one();
    let effects = ledger.step(
        at(0),
        Event::Unroutable {
            request: REQUEST,
            attempt: 0,
        },
    );
    assert!(matches!(effects[..], [Effect::WakeAt { .. }]));
    let effects = ledger.step(at(1), Event::RoutesChanged);
    assert!(matches!(decided(&effects), Some((0, _))));
}

#[test]
fn a_pause_that_spans_the_deadline_is_not_forgotten() {
    let mut ledger = Ledger::new(Limits {
        pause: Duration::from_millis(15),
        ..Limits::default()
    });
    ledger.step(
        at(0),
        Event::Arrived {
            request: REQUEST,
            deadline: at(10),
            expiry: at(100),
        },
    );
    ledger.step(
        at(0),
        Event::Unroutable {
            request: REQUEST,
            attempt: 0,
        },
    );
    let effects = ledger.step(at(10), Event::Woke { request: REQUEST });
    assert_eq!(
        effects,
        [Effect::WakeAt {
            request: REQUEST,
            at: at(15)
        }]
    );
    assert!(decided(&ledger.step(at(15), Event::Woke { request: REQUEST })).is_some());
}

#[test]
fn what_does_not_pass_by_itself_is_tried_once_more_and_then_told() {
    for last in [Fault::Engine, Fault::PeerDistrusted] {
        let mut ledger = one();
        let fault = |attempt| Event::BranchFailed {
            request: REQUEST,
            attempt,
            branch: 0,
            fault: last,
        };
        ledger.step(at(0), routed(0, vec![way(0, &["a"])], false));
        assert!(decided(&ledger.step(at(1), fault(0))).is_some());
        ledger.step(at(1), routed(1, vec![way(1, &["b"])], false));
        let done = ledger.step(at(2), fault(1));
        assert_eq!(ending(&done), Some(&Ending::Failed { last, attempts: 2 }));
    }
}

#[test]
fn one_more_than_the_bound_is_refused() {
    let mut ledger = Ledger::new(Limits {
        in_flight_max: 2,
        ..Limits::default()
    });
    for number in 0..3 {
        let event = Event::Arrived {
            request: RequestId(number),
            deadline: at(10),
            expiry: at(10),
        };
        let effects = ledger.step(at(0), event);
        assert_eq!(ending(&effects).is_some(), number == 2);
    }
    assert_eq!(ledger.counts().refused, 1);
}

/// A fact about one of a few requests, often stale or out of order.
fn fact() -> impl Strategy<Value = Event> {
    let request = (0u64..6).prop_map(RequestId);
    let fault = prop_oneof![
        Just(Fault::NodeLost),
        Just(Fault::PeerLost),
        Just(Fault::PeerDistrusted),
        Just(Fault::StaleRoute),
        Just(Fault::QueueFull),
        Just(Fault::Expired),
        Just(Fault::Draining),
        Just(Fault::Engine),
    ];
    let node = prop_oneof![Just("a"), Just("b"), Just("c")];
    let nodes = proptest::collection::vec(node.clone(), 1..3);
    let branches = proptest::collection::vec((0u32..5, nodes), 1..4);
    prop_oneof![
        (request.clone(), 0u64..40, 0u64..80).prop_map(|(request, deadline, more)| {
            Event::Arrived {
                request,
                deadline: at(deadline),
                expiry: at(deadline + more),
            }
        }),
        (request.clone(), 0u32..4, branches, any::<bool>()).prop_map(
            |(request, attempt, branches, partial)| Event::Routed {
                request,
                attempt,
                generation: Generation(1),
                branches: branches
                    .iter()
                    .map(|(route, nodes)| way(*route, nodes))
                    .collect(),
                partial,
            }
        ),
        (request.clone(), 0u32..4)
            .prop_map(|(request, attempt)| Event::Unroutable { request, attempt }),
        (request.clone(), 0u32..4, 0u32..3).prop_map(|(request, attempt, branch)| {
            Event::BranchAnswered {
                request,
                attempt,
                branch,
            }
        }),
        (request.clone(), 0u32..4, 0u32..3, fault).prop_map(|(request, attempt, branch, fault)| {
            Event::BranchFailed {
                request,
                attempt,
                branch,
                fault,
            }
        }),
        node.prop_map(|node| Event::NodeLost { node: node.into() }),
        Just(Event::RoutesChanged),
        request.clone().prop_map(|request| Event::Woke { request }),
        request.prop_map(|request| Event::Cancelled { request }),
    ]
}

proptest! {
    /// Whatever is said in whatever order, a request ends exactly once for each time it was let in,
    /// is silent afterwards, and everything ends once the time is over.
    #[test]
    fn every_request_ends_exactly_once(
        facts in proptest::collection::vec((fact(), 0u64..3), 0..200),
    ) {
        let mut ledger =
            Ledger::new(Limits { in_flight_max: 4, attempts_max: 3, ..Limits::default() });
        let mut open: BTreeMap<RequestId, i64> = BTreeMap::new();
        let mut ends = 0;
        let mut now = 0;
        let mut check = |effects: &[Effect], open: &mut BTreeMap<RequestId, i64>| {
            for effect in effects {
                if let Effect::Finish { request, .. } = effect {
                    *open.entry(*request).or_default() -= 1;
                    ends += 1;
                }
            }
            for effect in effects {
                if let Effect::Send { request, .. } | Effect::Decide { request, .. } = effect {
                    assert_eq!(open[request], 1, "an ended request was sent or decided");
                }
            }
        };
        for (fact, pause) in facts {
            now += pause;
            let before = ledger.counts().arrived;
            let arriving = match &fact {
                Event::Arrived { request, .. } => Some(*request),
                _ => None,
            };
            let effects = ledger.step(at(now), fact);
            if let Some(request) = arriving && ledger.counts().arrived > before {
                *open.entry(request).or_default() += 1;
            }
            check(&effects, &mut open);
            prop_assert!(open.values().all(|&count| count == 0 || count == 1));
            prop_assert!(ledger.in_flight() <= 4);
        }
        // Liveness: past every expiry, one wake each ends whatever is left.
        for number in 0..6 {
            let effects =
                ledger.step(at(now + 1000), Event::Woke { request: RequestId(number) });
            check(&effects, &mut open);
        }
        prop_assert_eq!(ledger.in_flight(), 0);
        prop_assert!(open.values().all(|&count| count == 0));
        prop_assert_eq!(ledger.counts().ended(), ends);
    }
}
