//! The requests that wait, beside the brain that decides about them.

use std::{collections::HashMap, sync::Arc};

use splitplace_brain::{Brain, Order, Report};
use splitplace_fleet::{NodeId, Timestamp};
use splitplace_lifecycle::RequestId;
use splitplace_link::{Frame, HopTiming, Tensor};
use tokio::sync::oneshot;

use super::{clock::unix_us, served::Served};
use crate::{
    face::{Answer, AskError, Via},
    watch::{spans::Sent, trace::Context},
};

/// A request that was let in and has not ended.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) reply: oneshot::Sender<Result<Answer, AskError>>,
    pub(super) served: Arc<Served>,
    pub(super) inputs: Vec<Tensor>,
    /// Outputs that the client named; all when empty.
    pub(super) outputs: Vec<String>,
    pub(super) samples: u32,
    pub(super) caller: Option<Context>,
    pub(super) via: Via,
    /// Least accuracy that the client asks for; 0 for none.
    pub(super) min_accuracy: f64,
    pub(super) attempt: u32,
    /// What the branches of the running attempt sent back.
    pub(super) parts: Vec<Option<Part>>,
    /// The last thing that somebody said went wrong.
    pub(super) trouble: Option<String>,
    /// Branches that were sent, and those that came back without an answer or in an attempt that is over: at
    /// most [`REMEMBERED`] of each.
    pub(super) sent: Vec<Sent>,
    pub(super) earlier: Vec<Earlier>,
}

/// Hand-overs of one request that its trace tells of.
const REMEMBERED: usize = 64;

/// A branch that is done with.
#[derive(Debug)]
pub(super) struct Earlier {
    pub(super) attempt: u32,
    pub(super) branch: u32,
    pub(super) came_us: i64,
    pub(super) left_us: i64,
    pub(super) trail: Vec<HopTiming>,
    /// Why it gave no answer.
    pub(super) why: Option<String>,
}

/// What one branch sent back.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tensors: Vec<Tensor>,
    pub(super) trail: Vec<HopTiming>,
    /// The early exit that answered, from 1; 0 for the end.
    pub(super) exit: u32,
    /// It went to the end for the sake of calibration.
    pub(super) is_audited: bool,
    /// When it left the last worker, by that worker's clock, and came here, in microseconds.
    pub(super) sent_unix_us: i64,
    pub(super) came_unix_us: i64,
}

impl Waiting {
    pub(super) const fn new(
        reply: oneshot::Sender<Result<Answer, AskError>>,
        served: Arc<Served>,
        inputs: Vec<Tensor>,
        outputs: Vec<String>,
        samples: u32,
        (caller, via): (Option<Context>, Via),
        min_accuracy: f64,
    ) -> Self {
        Self {
            reply,
            served,
            inputs,
            outputs,
            samples,
            caller,
            via,
            min_accuracy,
            attempt: 0,
            parts: Vec::new(),
            trouble: None,
            sent: Vec::new(),
            earlier: Vec::new(),
        }
    }
}

impl Waiting {
    /// What came back in the attempt before counts no more.
    fn begin(&mut self, attempt: u32) {
        let before = std::mem::replace(&mut self.attempt, attempt);
        if before == attempt {
            return;
        }
        for (branch, part) in (0u32..).zip(std::mem::take(&mut self.parts)) {
            let Some(part) = part else { continue };
            self.done_with(Earlier {
                attempt: before,
                branch,
                came_us: part.came_unix_us,
                left_us: part.sent_unix_us,
                trail: part.trail,
                why: None,
            });
        }
    }

    fn done_with(&mut self, branch: Earlier) {
        if self.earlier.len() < REMEMBERED {
            self.earlier.push(branch);
        }
    }
}

/// A request that has ended, with what is needed to say so.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) request: RequestId,
    pub(super) report: Report,
    pub(super) waiting: Waiting,
}

/// An order with everything that it takes to carry it out without the lock.
#[derive(Debug)]
pub(super) enum Action {
    Send { node: NodeId, frame: Box<Frame> },
    Wake { request: RequestId, at: Timestamp },
    Finish(Box<Ended>),
}

/// The brain and the requests that wait.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) brain: Brain,
    waiting: HashMap<RequestId, Waiting>,
}

/// Most branches of one attempt; packages have far fewer.
const BRANCHES: u32 = 1024;

impl Flow {
    pub(super) fn new(brain: Brain) -> Self {
        Self {
            brain,
            waiting: HashMap::new(),
        }
    }

    pub(super) fn wait(&mut self, request: RequestId, waiting: Waiting) {
        self.waiting.insert(request, waiting);
    }

    pub(super) fn forget(&mut self, request: RequestId) {
        self.waiting.remove(&request);
    }

    /// Adds to orders what they refer to. Tensors are shared, not copied.
    pub(super) fn prepare(&mut self, orders: Vec<Order>) -> Vec<Action> {
        let mut actions = Vec::with_capacity(orders.len());
        for order in orders {
            match order {
                Order::Send {
                    request,
                    attempt,
                    branch,
                    generation,
                    route,
                    node,
                    slack,
                    patience,
                } => {
                    let Some(waiting) = self.waiting.get_mut(&request) else {
                        continue;
                    };
                    waiting.begin(attempt);
                    if waiting.sent.len() < REMEMBERED {
                        waiting.sent.push(Sent {
                            attempt,
                            branch,
                            at_us: unix_us(),
                        });
                    }
                    let frame = Frame {
                        request: request.0,
                        attempt,
                        generation: generation.0,
                        route: route.0,
                        branch,
                        deadline: slack,
                        expiry: patience,
                        tensors: waiting.inputs.clone(),
                        min_accuracy: waiting.min_accuracy as f32,
                        ..Frame::default()
                    };
                    actions.push(Action::Send {
                        node,
                        frame: Box::new(frame),
                    });
                }
                Order::WakeAt { request, at } => actions.push(Action::Wake { request, at }),
                Order::Finish { request, report } => {
                    if let Some(waiting) = self.waiting.remove(&request) {
                        actions.push(Action::Finish(Box::new(Ended {
                            request,
                            report,
                            waiting,
                        })));
                    }
                }
            }
        }
        actions
    }

    /// Keeps what a branch sent back; `false` when nobody waits for it.
    pub(super) fn keep(&mut self, frame: Frame, came_unix_us: i64) -> bool {
        let Some(waiting) = self.waiting.get_mut(&RequestId(frame.request)) else {
            return false;
        };
        if waiting.attempt != frame.attempt || frame.branch >= BRANCHES {
            return false;
        }
        let branch = frame.branch as usize;
        if waiting.parts.len() <= branch {
            waiting.parts.resize_with(branch + 1, || None);
        }
        waiting.parts[branch] = Some(Part {
            tensors: frame.tensors,
            trail: frame.trail,
            exit: frame.exit,
            is_audited: frame.is_audited,
            sent_unix_us: frame.sent_unix_us,
            came_unix_us,
        });
        true
    }

    /// Remembers what somebody said went wrong with a frame.
    pub(super) fn note(&mut self, frame: &Frame, trouble: String) {
        if let Some(waiting) = self.waiting.get_mut(&RequestId(frame.request)) {
            waiting.done_with(Earlier {
                attempt: frame.attempt,
                branch: frame.branch,
                came_us: unix_us(),
                left_us: frame.sent_unix_us,
                trail: frame.trail.clone(),
                why: Some(trouble.clone()),
            });
            waiting.trouble = Some(trouble);
        }
    }
}
