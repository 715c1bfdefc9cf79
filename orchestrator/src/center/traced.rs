//! What leaves a trace: decided when a request has ended, and handed at once to whoever exports it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use splitplace_lifecycle::RequestId;

use super::{Center, Inner, clock::unix_us, flow::Waiting};
use crate::{
    config,
    face::{Answer, AskError, Via},
    watch::{
        RequestView,
        spans::{Back, Seen, Traces, tree},
        trace::{Context, Kept, Outcome, Sampling, SpanIds},
    },
};

/// Which requests leave a trace, and where it goes.
pub(super) struct Tracing {
    to: RwLock<Option<Arc<dyn Traces>>>,
    sampling: Sampling,
    /// Differs from one start to the next: request numbers begin anew without a store.
    seed: u64,
    refused: AtomicU64,
}

impl Tracing {
    pub(super) fn new(config: &config::Traces, seed: u64) -> Self {
        Self {
            to: RwLock::default(),
            sampling: Sampling {
                ratio: config.ratio,
                slow: Duration::from_millis(config.slow_ms),
            },
            seed: seed ^ unix_us().cast_unsigned(),
            refused: AtomicU64::new(0),
        }
    }
}

impl Center {
    /// Gives the centre somebody who exports traces. Without one nothing is recorded.
    pub fn set_traces(&self, traces: Arc<dyn Traces>) {
        *self.inner.tracing.to.write() = Some(traces);
    }
}

impl Inner {
    /// Exports the trace of an ended request if it is kept, and says so in `view` and in the answer. The
    /// trace that numbers may point to.
    pub(super) fn traced(
        &self,
        request: RequestId,
        waiting: &Waiting,
        view: &mut RequestView,
        outcome: &mut Result<Answer, AskError>,
        ended_us: i64,
    ) -> Option<u128> {
        let caller = waiting.caller;
        let Some(to) = self.tracing.to.read().clone() else {
            // The caller keeps its own.
            return caller.filter(|c| c.is_sampled).map(|c| c.trace);
        };
        let ids = SpanIds::new(self.tracing.seed, request.0);
        let trace = caller.map_or(ids.own_trace(), |caller| caller.trace);
        let how = Outcome {
            is_answered: outcome.is_ok(),
            held: view.held,
            response: Duration::from_micros(view.response_us),
        };
        let kept = self.tracing.sampling.keep(trace, caller, &how)?;
        let answers = (0u32..).zip(&waiting.parts);
        let answers = answers.filter_map(|(branch, part)| {
            let part = part.as_ref()?;
            Some(Back {
                attempt: waiting.attempt,
                branch,
                came_us: part.came_unix_us,
                left_us: part.sent_unix_us,
                trail: &part.trail,
                failure: None,
            })
        });
        let earlier = waiting.earlier.iter().map(|one| Back {
            attempt: one.attempt,
            branch: one.branch,
            came_us: one.came_us,
            left_us: one.left_us,
            trail: &one.trail,
            failure: one.why.as_deref(),
        });
        let back: Vec<Back<'_>> = earlier.chain(answers).collect();
        let seen = Seen {
            view,
            via: waiting.via,
            caller,
            code: outcome.as_ref().err().map(AskError::code),
            ended_us,
            sent: &waiting.sent,
            back: &back,
            ahead_us: &|node| self.sessions.clock_offset_us(node),
        };
        let tree = tree(&seen, ids, trace, kept);
        if !self.hand_over(&*to, kept, tree) {
            return None;
        }
        view.trace = format!("{trace:032x}");
        if let Ok(answer) = outcome {
            answer.trace = Some(trace);
        }
        Some(trace)
    }

    /// Exports the trace of a request that was not let in.
    pub(super) fn traced_refusal(
        &self,
        model: &str,
        error: &AskError,
        (caller, via): (Option<Context>, Via),
    ) {
        let Some(to) = self.tracing.to.read().clone() else {
            return;
        };
        let number = self.tracing.refused.fetch_add(1, Ordering::Relaxed);
        let ids = SpanIds::new(!self.tracing.seed, number);
        let trace = caller.map_or(ids.own_trace(), |caller| caller.trace);
        let view = RequestView {
            model: model.to_owned(),
            ending: "refused".to_owned(),
            error: error.to_string(),
            ..RequestView::default()
        };
        let seen = Seen {
            view: &view,
            via,
            caller,
            code: Some(error.code()),
            ended_us: unix_us(),
            sent: &[],
            back: &[],
            ahead_us: &|_| 0,
        };
        let tree = tree(&seen, ids, trace, Kept::Lost);
        self.hand_over(&*to, Kept::Lost, tree);
    }

    fn hand_over(&self, to: &dyn Traces, kept: Kept, tree: crate::watch::spans::Tree) -> bool {
        let is_taken = to.take(tree);
        self.metrics.traced(kept, is_taken);
        is_taken
    }
}
