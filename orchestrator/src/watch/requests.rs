//! Single requests: the last ones, and the last that were lost, each with its trail.

use std::{collections::VecDeque, sync::Arc};

use serde::Serialize;

/// Ended requests that are remembered.
pub const RECENT: usize = 2048;
/// Lost ones that are remembered beside them: they must not be pushed out by many that went well.
pub const LOST: usize = 256;

/// One step of a request's trail, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HopView {
    /// Where; empty for the way back to the centre.
    pub node: String,
    /// Branch of a semantic variant, else 0.
    pub branch: u32,
    /// Position on the route.
    pub hop: u32,
    /// How tensors were coded on the way here.
    pub codec: String,
    /// On the link to here.
    pub transfer_us: u64,
    /// Waiting for a thread.
    pub queue_us: u64,
    /// Decoding and computing.
    pub compute_us: u64,
    /// Encoding, and waiting for the way out.
    pub encode_us: u64,
}

/// One ended request, with the decision behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequestView {
    /// Its number, as text: it uses all 64 bits.
    pub id: String,
    /// When it ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The model.
    pub model: String,
    /// Samples in it.
    pub samples: u32,
    /// The arm; empty when none was chosen.
    pub arm: String,
    /// How the arm ran.
    pub kind: String,
    /// The exit that answered; `last` for the end of the network, empty without an answer.
    pub exit: String,
    /// The plan.
    pub generation: u64,
    /// The policy's word for the context.
    pub context: String,
    /// Why the arm was chosen.
    pub reason: String,
    /// Probability with which it was chosen.
    pub propensity: f64,
    /// Validated accuracy of the arm; 0 when the package names none.
    pub accuracy: f64,
    /// What was promised.
    pub sla_us: u64,
    /// What was forecast when the arm was chosen.
    pub predicted_us: u64,
    /// From arrival to the end.
    pub response_us: u64,
    /// `answered`, `expired`, `failed`, `refused` or `cancelled`.
    pub ending: String,
    /// Whether it was answered within the promise.
    pub held: bool,
    /// Attempts made.
    pub attempts: u32,
    /// Branches left out of the merge.
    pub missing: Vec<u32>,
    /// Why there is no answer; empty when there is one.
    pub error: String,
    /// Id of its trace, in hexadecimal digits; empty when none is kept.
    pub trace: String,
    /// The trail of the attempt that answered.
    pub hops: Vec<HopView>,
}

/// What is remembered of single requests.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    recent: VecDeque<Arc<RequestView>>,
    lost: VecDeque<Arc<RequestView>>,
}

/// Which requests are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    Newest,
    /// The slowest of those remembered first.
    Slowest,
    /// Those without an answer, the newest first.
    Lost,
}

fn keep(ring: &mut VecDeque<Arc<RequestView>>, most: usize, one: Arc<RequestView>) {
    if most <= ring.len() {
        ring.pop_front();
    }
    ring.push_back(one);
}

impl Requests {
    /// Remembers one, and forgets the oldest when there are too many.
    pub fn push(&mut self, request: Arc<RequestView>) {
        if request.ending != "answered" {
            keep(&mut self.lost, LOST, Arc::clone(&request));
        }
        keep(&mut self.recent, RECENT, request);
    }

    /// The request of that number, if it is remembered. O(requests).
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<RequestView>> {
        let all = self.recent.iter().rev().chain(self.lost.iter().rev());
        all.into_iter().find(|one| one.id == id).cloned()
    }

    /// At most `count` requests, of one model when it is named.
    #[must_use]
    pub fn list(&self, order: Order, model: Option<&str>, count: usize) -> Vec<Arc<RequestView>> {
        let wanted = |one: &&Arc<RequestView>| model.is_none_or(|model| one.model == model);
        match order {
            Order::Newest => {
                let all = self.recent.iter().rev().filter(wanted);
                all.take(count).cloned().collect()
            }
            Order::Lost => {
                let all = self.lost.iter().rev().filter(wanted);
                all.take(count).cloned().collect()
            }
            Order::Slowest => {
                let mut all: Vec<_> = self.recent.iter().filter(wanted).cloned().collect();
                all.sort_by_key(|one| std::cmp::Reverse(one.response_us));
                all.truncate(count);
                all
            }
        }
    }
}
