//! Small systems whose answers can be worked out by hand, and the grammar of changes.

use splitplace_fleet::{Link, NodeId, NodeState};
use splitplace_plan::{ArmKind, ArmProblem, Bounds, ChainProblem, Exact, SegmentSpec};

use super::*;
use crate::{
    arrivals::Process,
    planner::{Offer, Planner, PlannerSettings},
};

fn worker(name: &str) -> Worker {
    Worker::new(Node {
        id: name.into(),
        state: NodeState::Alive,
        cores: 1,
        macs_per_second: 1e9,
        memory_bytes: 1000,
        labels: BTreeMap::new(),
        emulated: false,
    })
}

/// A model that takes 10 ms on `a` and 30 ms on `b`, links of 1 ms, requests at a low constant rate.
fn observed() -> Observed {
    let offer = Offer {
        model: "m".into(),
        variant: "base".into(),
        accuracy: Some(0.9),
        problem: ArmProblem {
            name: "base/whole".into(),
            model: 0,
            kind: ArmKind::Whole,
            parts: (1, 1),
            chains: vec![ChainProblem {
                segments: vec![SegmentSpec {
                    weight_bytes: 100,
                    activation_bytes: 0,
                    service: vec![0.010, 0.030],
                }],
                boundaries: vec![0.into(), 0.into()],
            }],
            arrival_rate: 0.0,
            arrival_scv: 1.0,
            bounds: Bounds::default(),
        },
    };
    let planner = Offered {
        nodes: vec!["a".into(), "b".into()],
        offers: vec![offer],
        strategy: Arc::new(Exact),
        settings: PlannerSettings::default(),
        inertia: 0.1,
    };
    let mut observed = Observed {
        workers: vec![worker("a"), worker("b")],
        links: Links::new(Link {
            rate_bytes_per_second: f64::INFINITY,
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
        }),
        plan: Plan::default(),
        planner,
        loads: vec![Load {
            model: "m".into(),
            arrivals: Process::Constant { rate: 5.0 },
            slas: vec![(Duration::from_millis(20), 1.0)],
            patience: Duration::from_secs(1),
            samples: 1,
            feedback: 0.0,
        }],
        shown: BTreeMap::new(),
        settings: Settings::default(),
        control: Control::default(),
        policy: ("two-context".into(), BTreeMap::new(), BTreeMap::new()),
    };
    plan(&mut observed);
    observed
}

/// Puts a plan of its own planner in force.
fn plan(observed: &mut Observed) {
    let snapshot = snapshot(&world(observed, Effort::default()));
    let planner = &observed.planner;
    observed.plan = planner.plan(&snapshot, &Plan::default(), splitplace_plan::Generation(1));
}

fn ask(changes: &[&str]) -> Answer {
    let changes: Vec<Change> = changes.iter().map(|text| text.parse().unwrap()).collect();
    let effort = Effort {
        runs: 3,
        ..Effort::default()
    };
    what_if(&observed(), &changes, effort, Seed(1)).unwrap()
}

fn mean(side: &Side) -> f64 {
    side.outcome.models[&ModelName::new("m")].mean.mean()
}

#[test]
fn one_side_alone_is_what_a_question_tells_of_it() {
    let mut observed = observed();
    observed.planner.settings.spread = 0.0;
    let effort = Effort {
        measured: Duration::from_secs(2),
        warm_up: Duration::ZERO,
        runs: 3,
    };
    let side = as_it_is(&observed, effort, Seed(4)).unwrap();
    let change = "load=2".parse().unwrap();
    let answer = what_if(&observed, &[change], effort, Seed(4)).unwrap();
    assert_eq!(side.outcome.traces, answer.before.outcome.traces);
    assert_eq!(side.plan, answer.before.plan);
}

#[test]
fn without_the_fast_node_the_slow_one_answers() {
    let answer = ask(&["remove=a"]);
    assert!((mean(&answer.before) - 0.012).abs() < 1e-6);
    assert!((mean(&answer.after) - 0.032).abs() < 1e-6);
    let difference = &answer.models[&ModelName::new("m")];
    assert!((difference.response.mean() - 0.020).abs() < 1e-6);
    // 20 ms were promised: all held before, none afterwards.
    assert!((difference.violations.mean() - 1.0).abs() < 1e-9);
    let moved = vec![(
        "m/base/whole".to_owned(),
        vec!["a".to_owned()],
        vec!["b".to_owned()],
    )];
    assert_eq!(answer.moved(), moved);
}

/// Where the arm of the answer's later side runs.
fn after(observed: &Observed, change: &str) -> Vec<NodeId> {
    let effort = Effort {
        measured: Duration::from_secs(2),
        warm_up: Duration::ZERO,
        runs: 2,
    };
    let answer = what_if(observed, &[change.parse().unwrap()], effort, Seed(1)).unwrap();
    let model = &answer.after.plan.models[&ModelName::new("m")];
    let arms = model.arms.iter();
    arms.flat_map(|arm| arm.nodes().into_iter().cloned().collect::<Vec<_>>())
        .collect()
}

#[test]
fn what_an_operator_laid_down_holds_after_a_change_as_well() {
    let mut observed = observed();
    // Free to move, it is where it is faster.
    assert_eq!(after(&observed, "delay=center:a:100"), ["b".into()]);
    let bounds = |observed: &mut Observed, bounds| {
        observed.planner.offers[0].problem.bounds = bounds;
        plan(observed);
    };
    bounds(
        &mut observed,
        Bounds {
            nodes: Some([0].into()),
            ..Bounds::default()
        },
    );
    assert_eq!(after(&observed, "delay=center:a:100"), ["a".into()]);
    bounds(
        &mut observed,
        Bounds {
            pins: [(0, 1)].into(),
            ..Bounds::default()
        },
    );
    assert_eq!(after(&observed, "delay=center:b:100"), ["b".into()]);
    // Nodes are numbered anew without the first one, and the pin with them.
    assert_eq!(after(&observed, "remove=a"), ["b".into()]);
    // As live: a pin to what is gone binds nothing, a list of nodes that are gone leaves none.
    assert_eq!(after(&observed, "remove=b"), ["a".into()]);
    bounds(
        &mut observed,
        Bounds {
            nodes: Some([1].into()),
            ..Bounds::default()
        },
    );
    assert_eq!(after(&observed, "remove=b"), []);
}

/// Places nothing.
struct Nowhere;

impl splitplace_plan::Strategy for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn solve(&self, problem: &splitplace_plan::Problem, _: u64) -> splitplace_plan::Solution {
        let arms = problem.arms.iter();
        let nowhere = |arm: &ArmProblem| splitplace_plan::Outcome::Unplaced(arm.name.clone());
        splitplace_plan::Solution {
            arms: arms.map(nowhere).collect(),
        }
    }
}

#[test]
fn the_strategy_that_plans_live_plans_the_question() {
    let mut observed = observed();
    observed.planner.strategy = Arc::new(Nowhere);
    assert_eq!(after(&observed, "remove=b"), []);
}

#[test]
fn each_change_does_what_it_says() {
    // Delays of 4 ms each way.
    assert!((mean(&ask(&["link=center:*:4"]).after) - 0.018).abs() < 1e-6);
    assert!((mean(&ask(&["delay=a:center:5"]).after) - 0.022).abs() < 1e-6);
    // Twice as slow is 20 ms and still the best place; four times is not.
    let slower = ask(&["slow=a:2"]);
    assert!((mean(&slower.after) - 0.022).abs() < 1e-6);
    assert!(slower.moved().is_empty());
    assert!((mean(&ask(&["slow=a:4"]).after) - 0.032).abs() < 1e-6);
    // A second fast node changes nothing for one request at a time, and saves the first one's loss.
    assert!((mean(&ask(&["add=c:a", "remove=a"]).after) - 0.012).abs() < 1e-6);
    let stricter = ask(&["sla=m:11"]);
    assert!((stricter.models[&ModelName::new("m")].violations.mean() - 1.0).abs() < 1e-9);
    // At 150 a second a node that takes 10 ms answers 100 a second at most.
    let busier = ask(&["rate=150"]);
    let outcome = &busier.after.outcome.models[&ModelName::new("m")];
    assert!(outcome.violations.mean() > 0.3);
    let twice = ask(&["load=2"]);
    let outcome = &twice.after.outcome.models[&ModelName::new("m")];
    assert!((outcome.offered.mean() - 10.0).abs() < 0.2);
}

#[test]
fn the_same_question_has_the_same_answer() {
    let traces = || {
        let answer = ask(&["load=3", "remove=b"]);
        [answer.before, answer.after].map(|side| side.outcome.traces)
    };
    assert_eq!(traces(), traces());
}

#[test]
fn impossible_questions_are_refused() {
    let refused = |changes: &[&str]| {
        let changes: Result<Vec<Change>, _> = changes.iter().map(|text| text.parse()).collect();
        let changes = changes.map_err(WhatIfError::from)?;
        what_if(&observed(), &changes, Effort::default(), Seed(1)).map(|_| ())
    };
    let no_node = ChangeError::NoNode(NodeId::new("z"));
    assert_eq!(refused(&["remove=z"]), Err(no_node.into()));
    for wrong in ["remove=", "burn=a", "load=x", "link=a:2", "add=c", "sla"] {
        let error = refused(&[wrong]).unwrap_err();
        assert!(
            matches!(error, WhatIfError::Change(ChangeError::Grammar(_))),
            "{wrong}"
        );
    }
    assert_eq!(
        refused(&["load=-1"]),
        Err(ChangeError::Number("-1".into()).into())
    );
    assert_eq!(
        refused(&["load=n:2"]),
        Err(ChangeError::NoModel("n".into()).into())
    );
    assert_eq!(
        refused(&["add=b:a"]),
        Err(ChangeError::SameNode("b".into()).into())
    );
    let mut idle = observed();
    idle.loads.clear();
    let asked = what_if(&idle, &[], Effort::default(), Seed(1)).map(|_| ());
    assert_eq!(asked, Err(WhatIfError::Idle));
    idle.workers[0].node.state = NodeState::Alive;
    let rate: Change = "rate=m:5".parse().unwrap();
    assert!(what_if(&idle, &[rate], Effort::default(), Seed(1)).is_ok());
}

#[test]
fn a_change_reads_as_it_is_written() {
    for text in [
        "remove=a",
        "add=c:a",
        "slow=a:2",
        "load=2",
        "load=m:0.5",
        "rate=m:30",
        "link=center:*:4",
        "delay=a:b:5",
        "sla=20",
        "sla=m:20",
    ] {
        let change: Change = text.parse().unwrap();
        assert_eq!(change.to_string(), text);
    }
}
