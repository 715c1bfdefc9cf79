//! An orchestrator that does what the test says.

use std::sync::Arc;

use parking_lot::Mutex;
use splitplace_k8s::center::{
    Center, CenterError, Order, Phase, Seen, SeenArm, SeenHop, SeenModel, SeenNode,
};
use tokio::sync::watch;

struct State {
    seen: Result<Seen, CenterError>,
    /// Wishes that it does not carry out, or why it refuses.
    answer: Result<Vec<String>, CenterError>,
    calls: Vec<String>,
    orders: Vec<Order>,
    /// Whether unloading takes until the test says so.
    is_slow: bool,
    /// Why it drains no node, if it does not.
    keeps: Option<String>,
}

/// The orchestrator.
#[derive(Clone)]
pub(crate) struct Story {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Story {
    /// Two nodes that are alive, and models in the store that nobody serves.
    pub(crate) fn new() -> Self {
        let nodes = ["attic", "cellar"].map(|name| SeenNode {
            name: name.into(),
            state: "alive".into(),
            cores: 4,
            memory_bytes: 1 << 30,
            memory_used_bytes: 10 << 20,
            macs_per_second: 2e9,
            address: format!("{name}:8010"),
            links: Vec::new(),
        });
        let seen = Seen {
            version: "0.1.0".into(),
            generation: 7,
            nodes: nodes.into(),
            ..Seen::default()
        };
        let state = State {
            seen: Ok(seen),
            answer: Ok(Vec::new()),
            calls: Vec::new(),
            orders: Vec::new(),
            is_slow: false,
            keeps: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: watch::channel(0).0,
        }
    }

    /// Changes what is seen.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Seen)) {
        if let Ok(seen) = &mut self.state.lock().seen {
            change(seen);
        }
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn node(&self, name: &str, state: &str) {
        self.change(|seen| {
            let node = seen
                .nodes
                .iter_mut()
                .find(|node| node.name == name)
                .unwrap();
            node.state = state.into();
        });
    }

    /// Whether it can be reached.
    pub(crate) fn reach(&self, seen: Result<Seen, CenterError>) {
        self.state.lock().seen = seen;
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn answers(&self, answer: Result<Vec<String>, CenterError>) {
        self.state.lock().answer = answer;
    }

    pub(crate) fn is_slow(&self, is_slow: bool) {
        self.state.lock().is_slow = is_slow;
    }

    /// Why it drains no node from now on; `None` when it does.
    pub(crate) fn keeps(&self, why: Option<&str>) {
        self.state.lock().keeps = why.map(str::to_owned);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state.lock().seen.clone().unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    pub(crate) fn orders(&self) -> Vec<Order> {
        self.state.lock().orders.clone()
    }
}

/// A model on both nodes.
pub(crate) fn served(name: &str) -> SeenModel {
    let hop = |node: &str, fragment: &str| SeenHop {
        node: node.into(),
        fragment: fragment.into(),
        service_micros: 300,
        memory_bytes: 5 << 20,
    };
    let arm = |kind: &str, accuracy, predicted_micros, hops| SeenArm {
        name: format!("base/{kind}"),
        kind: kind.into(),
        accuracy,
        predicted_micros,
        available: true,
        hops,
    };
    SeenModel {
        name: name.into(),
        version: "1".into(),
        phase: Phase::Ready,
        default_sla_micros: 100_000,
        arms: vec![
            arm("whole", 0.9335, 9000, vec![hop("attic", "f0")]),
            arm(
                "chain",
                0.9335,
                4200,
                vec![hop("attic", "f1"), hop("cellar", "f2")],
            ),
        ],
        ended: Some((990, 10)),
        ..SeenModel::default()
    }
}

impl Center for Story {
    async fn look(&self) -> Result<Seen, CenterError> {
        self.state.lock().seen.clone()
    }

    async fn load(&self, order: &Order) -> Result<Vec<String>, CenterError> {
        let answer = {
            let mut state = self.state.lock();
            state.calls.push(format!("load {}", order.model));
            state.orders.push(order.clone());
            state.answer.clone()
        };
        if answer.is_ok() {
            self.change(|seen| {
                seen.models.retain(|model| model.name != order.model);
                seen.models.push(served(&order.model));
                seen.generation += 1;
            });
        }
        answer
    }

    async fn unload(&self, model: &str) -> Result<(), CenterError> {
        let is_slow = {
            let mut state = self.state.lock();
            state.calls.push(format!("unload {model}"));
            state.is_slow
        };
        self.change(|seen| {
            seen.in_flight = if is_slow { 3 } else { 0 };
            if let Some(found) = seen.models.iter_mut().find(|one| one.name == model) {
                found.phase = if is_slow {
                    Phase::Unloading
                } else {
                    Phase::Unavailable
                };
                found.arms.clear();
            }
        });
        Ok(())
    }

    async fn drain(&self, node: &str, is_drained: bool) -> Result<(), CenterError> {
        let word = if is_drained { "drain" } else { "undrain" };
        let refusal = {
            let mut state = self.state.lock();
            state.calls.push(format!("{word} {node}"));
            state.keeps.clone()
        };
        if let Some(why) = refusal {
            return Err(CenterError::Refused(why));
        }
        self.change(|seen| {
            let (from, to) = if is_drained {
                ("alive", "draining")
            } else {
                ("draining", "alive")
            };
            for known in &mut seen.nodes {
                if known.name == node && known.state == from {
                    known.state = to.into();
                }
            }
        });
        Ok(())
    }

    async fn changed(&self, _: u64) {
        let mut changed = self.changed.subscribe();
        let _ = changed.changed().await;
    }
}
