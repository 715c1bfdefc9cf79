//! An ended request as a tree of spans, rebuilt from what its frames said on their way.
//!
//! Workers send no spans of their own: every frame carries what each hop cost, and the centre, which alone knows
//! how the request ended, lays these times on its own clock. An answer's are laid backwards from its arrival, so
//! that the way back is where it was seen; those of a branch that failed forwards from when it was sent, because
//! nobody measured the way from where it failed. Differences between clocks are taken off as far as the sessions
//! have measured them, and said in each hop's `splitplace.clock_offset_us`.
//!
//! The tree: the call, its attempts, branches where there are several, and in them links (`transfer`) and hops
//! with `queue`, `decode`, `compute`, `encode`. Names and attributes follow OpenTelemetry's semantic conventions
//! where there are some; the rest begins with `splitplace.`.

use std::borrow::Cow;

use splitplace_link::HopTiming;

use super::{
    RequestView,
    trace::{Context, Kept, SpanIds},
};
use crate::face::Via;

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Int(i64),
    /// A number with digits behind the point.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// Part of a tree. Times are microseconds since the Unix epoch on the centre's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its own id.
    pub id: u64,
    /// That of the span around it; `None` at the root of a trace that begins here.
    pub parent: Option<u64>,
    /// Whether that span is another process's.
    pub is_parent_remote: bool,
    /// The worker that it happened on; empty for the centre.
    pub node: String,
    /// Whether it is the answer to a call from outside.
    pub is_server: bool,
    /// Few different ones.
    pub name: Cow<'static, str>,
    /// Begin.
    pub start_us: i64,
    /// End, not before that.
    pub end_us: i64,
    /// What there is to say about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A request's spans, parents before their children.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The trace.
    pub trace: u128,
    /// Why it is kept.
    pub kept: Kept,
    /// The spans; the first is the call.
    pub spans: Vec<Span>,
}

/// Where trees go.
pub trait Traces: Send + Sync + 'static {
    /// Takes a tree without waiting; `false` when it is dropped because too many wait already.
    fn take(&self, tree: Tree) -> bool;
}

/// A branch was handed to its first link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Attempt, from 0.
    pub attempt: u32,
    /// Branch.
    pub branch: u32,
    /// When, on the centre's clock.
    pub at_us: i64,
}

/// A branch came back, with an answer or without.
#[derive(Clone, Copy, Debug)]
pub struct Back<'a> {
    /// Attempt, from 0.
    pub attempt: u32,
    /// Branch.
    pub branch: u32,
    /// When it came, on the centre's clock.
    pub came_us: i64,
    /// When it left, on the clock of the worker that sent it.
    pub left_us: i64,
    /// What its hops cost.
    pub trail: &'a [HopTiming],
    /// Why it is no answer.
    pub failure: Option<&'a str>,
}

/// Everything that a tree is made of.
pub struct Seen<'a> {
    /// The request.
    pub view: &'a RequestView,
    /// How it came.
    pub via: Via,
    /// Its caller's place in a trace.
    pub caller: Option<Context>,
    /// The error's code, without an answer.
    pub code: Option<&'static str>,
    /// When it ended, on the centre's clock.
    pub ended_us: i64,
    /// What was sent.
    pub sent: &'a [Sent],
    /// What came back.
    pub back: &'a [Back<'a>],
    /// By how much a node's clock is ahead of the centre's, in microseconds.
    pub ahead_us: &'a dyn Fn(&str) -> i64,
}

/// Builds the tree. O(spans).
#[must_use]
pub fn tree(seen: &Seen<'_>, mut ids: SpanIds, trace: u128, kept: Kept) -> Tree {
    let mut builder = Builder {
        seen,
        ids: &mut ids,
        spans: Vec::new(),
    };
    let call = builder.call(kept);
    let mut attempts: Vec<u32> = seen.sent.iter().map(|sent| sent.attempt).collect();
    attempts.dedup();
    for attempt in attempts {
        builder.attempt(call, attempt);
    }
    let spans = builder.spans;
    Tree { trace, kept, spans }
}

struct Builder<'a, 'i> {
    seen: &'a Seen<'a>,
    ids: &'i mut SpanIds,
    spans: Vec<Span>,
}

type Attributes = Vec<(&'static str, Value)>;

impl Builder<'_, '_> {
    fn add(
        &mut self,
        parent: u64,
        (node, name): (&str, &'static str),
        (start_us, end_us): (i64, i64),
        attributes: Attributes,
    ) -> u64 {
        let id = self.ids.span();
        self.spans.push(Span {
            id,
            parent: Some(parent),
            is_parent_remote: false,
            node: node.to_owned(),
            is_server: false,
            name: name.into(),
            start_us,
            end_us: end_us.max(start_us),
            attributes,
            error: None,
        });
        id
    }

    /// The call as its client sees it, less the way to the client.
    fn call(&mut self, kept: Kept) -> u64 {
        let Seen {
            view,
            via,
            caller,
            code,
            ended_us,
            ..
        } = *self.seen;
        let (name, mut attributes): (Cow<'static, str>, Attributes) = match via {
            Via::Rest => (
                "POST /v2/models/{model}/infer".into(),
                vec![
                    ("http.request.method", "POST".into()),
                    ("http.route", "/v2/models/{model}/infer".into()),
                ],
            ),
            Via::Grpc | Via::Stream => {
                let method = match via {
                    Via::Stream => "inference.GRPCInferenceService/ModelStreamInfer",
                    _ => "inference.GRPCInferenceService/ModelInfer",
                };
                let system = ("rpc.system.name", "grpc".into());
                (method.into(), vec![system, ("rpc.method", method.into())])
            }
        };
        attributes.extend([
            ("splitplace.model", view.model.as_str().into()),
            ("splitplace.samples", view.samples.into()),
            ("splitplace.ending", view.ending.as_str().into()),
            ("splitplace.sla_us", view.sla_us.into()),
            ("splitplace.sla_held", Value::Bool(view.held)),
            ("splitplace.kept", kept.label().into()),
        ]);
        if !view.id.is_empty() {
            attributes.push(("splitplace.request", view.id.as_str().into()));
        }
        if !view.arm.is_empty() {
            attributes.extend([
                ("splitplace.arm", view.arm.as_str().into()),
                ("splitplace.kind", view.kind.as_str().into()),
                ("splitplace.generation", view.generation.into()),
                ("splitplace.context", view.context.as_str().into()),
                ("splitplace.reason", view.reason.as_str().into()),
                ("splitplace.propensity", Value::Float(view.propensity)),
                ("splitplace.predicted_us", view.predicted_us.into()),
            ]);
        }
        if !view.exit.is_empty() {
            attributes.push(("splitplace.exit", view.exit.as_str().into()));
        }
        if let Some(code) = code {
            attributes.push(("error.type", code.into()));
        }
        let id = self.ids.span();
        let took = i64::try_from(view.response_us).unwrap_or(i64::MAX);
        self.spans.push(Span {
            id,
            parent: caller.map(|caller| caller.parent),
            is_parent_remote: caller.is_some(),
            node: String::new(),
            is_server: true,
            name,
            start_us: ended_us.saturating_sub(took),
            end_us: ended_us,
            attributes,
            error: (!view.error.is_empty()).then(|| view.error.clone()),
        });
        id
    }

    /// From the first branch handed over to the last that came back.
    fn attempt(&mut self, call: u64, attempt: u32) {
        let seen = self.seen;
        let of_it = |sent: &&Sent| sent.attempt == attempt;
        let back_of = |back: &&Back<'_>| back.attempt == attempt;
        let begin = seen.sent.iter().filter(of_it).map(|sent| sent.at_us).min();
        let Some(begin) = begin else { return };
        let came = seen.back.iter().filter(back_of).map(|back| back.came_us);
        let next = seen.sent.iter().filter(|sent| attempt < sent.attempt);
        let next = next.map(|sent| sent.at_us).min();
        let end = next.or_else(|| came.max()).unwrap_or(seen.ended_us);
        let number = ("splitplace.attempt", attempt.saturating_add(1).into());
        let parent = self.add(call, ("", "attempt"), (begin, end), vec![number]);
        let at = self.spans.len() - 1;
        let mut failed = seen.back.iter().filter(back_of);
        let failure = failed.find_map(|back| back.failure);
        let is_last = next.is_none();
        let is_answered = is_last && seen.view.ending == "answered";
        self.spans[at].error = match failure {
            Some(failure) => Some(failure.to_owned()),
            None if is_answered => None,
            None => Some("nothing came back".to_owned()),
        };
        let branches: Vec<&Sent> = seen.sent.iter().filter(of_it).collect();
        for sent in &branches {
            let mut back = seen.back.iter().filter(back_of);
            let back = back.rfind(|back| back.branch == sent.branch);
            let around = if branches.len() > 1 {
                let number = ("splitplace.branch", sent.branch.into());
                let until = back.map_or(end, |back| back.came_us);
                let id = self.add(parent, ("", "branch"), (sent.at_us, until), vec![number]);
                let at = self.spans.len() - 1;
                self.spans[at].error = match back {
                    Some(back) => back.failure.map(ToOwned::to_owned),
                    None => Some("nothing came back in time".to_owned()),
                };
                id
            } else {
                parent
            };
            match back {
                Some(back) if back.failure.is_none() => self.backwards(around, back),
                Some(back) => self.forwards(around, sent.at_us, back),
                None => {}
            }
        }
    }

    /// Lays an answer's hops from its arrival backwards.
    fn backwards(&mut self, parent: u64, back: &Back<'_>) {
        let trail = back.trail;
        let mut laid = Vec::with_capacity(trail.len());
        let last = trail.last().map_or("", |timing| &timing.node);
        let left = back.left_us.saturating_sub(self.ahead(last));
        let left = left.min(back.came_us);
        let mut end = left;
        for (at, timing) in trail.iter().enumerate().rev() {
            let begin = end.saturating_sub(spent(timing));
            let from = at.checked_sub(1).map_or("", |at| &trail[at].node);
            let sent = begin.saturating_sub(self.carried(from, timing));
            laid.push((from, sent, begin));
            end = sent;
        }
        for ((from, sent, begin), timing) in laid.into_iter().rev().zip(trail) {
            self.link(parent, (from, &timing.node), (sent, begin));
            self.hop(parent, timing, begin);
        }
        self.link(parent, (last, ""), (left, back.came_us));
    }

    /// Lays the hops before a failure from when the branch was sent.
    fn forwards(&mut self, parent: u64, sent_us: i64, back: &Back<'_>) {
        let (mut from, mut at) = ("", sent_us);
        for timing in back.trail {
            let begin = at.saturating_add(self.carried(from, timing));
            self.link(parent, (from, &timing.node), (at, begin));
            self.hop(parent, timing, begin);
            at = begin.saturating_add(spent(timing));
            from = &timing.node;
        }
    }

    fn ahead(&self, node: &str) -> i64 {
        if node.is_empty() {
            return 0;
        }
        (self.seen.ahead_us)(node)
    }

    /// Time on the link to a hop, with the clocks' difference taken off.
    fn carried(&self, from: &str, timing: &HopTiming) -> i64 {
        let between = self.ahead(&timing.node).saturating_sub(self.ahead(from));
        timing.transfer_us.saturating_sub(between).max(0)
    }

    fn link(&mut self, parent: u64, (from, to): (&str, &str), (start, end): (i64, i64)) {
        // Two hops in a row on one node.
        if from == to {
            return;
        }
        let name = |place: &str| Value::from(if place.is_empty() { "centre" } else { place });
        let attributes = vec![("splitplace.from", name(from)), ("splitplace.to", name(to))];
        self.add(parent, (to, "transfer"), (start, end), attributes);
    }

    fn hop(&mut self, parent: u64, timing: &HopTiming, begin: i64) {
        let node = &timing.node[..];
        let mut attributes = vec![
            ("splitplace.node", node.into()),
            ("splitplace.hop", timing.hop.into()),
            ("splitplace.clock_offset_us", Value::Int(self.ahead(node))),
        ];
        if !timing.exits.is_empty() {
            let said = timing.exits.iter();
            let said = said.map(|exit| format!("{}: {:.3}", exit.number, exit.confidence));
            let said = said.collect::<Vec<_>>().join(", ");
            attributes.push(("splitplace.confidences", said.into()));
        }
        let end = begin.saturating_add(spent(timing));
        let hop = self.add(parent, (node, "hop"), (begin, end), attributes);
        let mut at = begin;
        for (name, us) in stages(timing) {
            let until = at.saturating_add(micros(us));
            if us > 0 || name == "compute" {
                self.add(hop, (node, name), (at, until), Vec::new());
            }
            at = until;
        }
    }
}

fn stages(timing: &HopTiming) -> [(&'static str, u64); 4] {
    [
        ("queue", timing.queue_us),
        ("decode", timing.decode_us),
        ("compute", timing.compute_us),
        ("encode", timing.encode_us.saturating_add(timing.outbox_us)),
    ]
}

fn spent(timing: &HopTiming) -> i64 {
    let add = |sum: i64, (_, us): (&str, u64)| sum.saturating_add(micros(us));
    stages(timing).into_iter().fold(0, add)
}

fn micros(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(node: &str, hop: u32, [transfer, queue, compute, encode]: [u64; 4]) -> HopTiming {
        HopTiming {
            node: node.into(),
            hop,
            transfer_us: micros(transfer),
            queue_us: queue,
            compute_us: compute,
            encode_us: encode,
            ..HopTiming::default()
        }
    }

    fn view(ending: &str, response_us: u64) -> RequestView {
        RequestView {
            id: "9".into(),
            model: "m".into(),
            arm: "base/chain".into(),
            ending: ending.into(),
            response_us,
            ..RequestView::default()
        }
    }

    fn build(view: &RequestView, sent: &[Sent], back: &[Back<'_>]) -> Tree {
        let seen = Seen {
            view,
            via: Via::Grpc,
            caller: Context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            code: None,
            ended_us: 10_000,
            sent,
            back,
            // The clock of b runs 1 000 ahead.
            ahead_us: &|node| if node == "b" { 1000 } else { 0 },
        };
        tree(&seen, SpanIds::new(1, 9), 5, Kept::Head)
    }

    /// Each span as `node name start end`, by its way from the root.
    fn lines(tree: &Tree) -> Vec<String> {
        let depth = |span: &Span| {
            let (mut parent, mut depth) = (span.parent, 0);
            while let Some(above) = tree.spans.iter().find(|one| Some(one.id) == parent) {
                parent = above.parent;
                depth += 1;
            }
            depth
        };
        let line = |span: &Span| {
            let indent = " ".repeat(depth(span));
            format!(
                "{indent}{}{} {}..{}",
                if span.node.is_empty() { "" } else { &span.node },
                if span.is_server { "call" } else { &span.name },
                span.start_us,
                span.end_us
            )
        };
        tree.spans.iter().map(line).collect()
    }

    #[test]
    fn an_answer_is_laid_backwards_with_the_clocks_put_right() {
        // b stamps its arrival 1 000 late: 300 really passed on the link.
        let trail = [
            timing("a", 0, [200, 10, 500, 40]),
            timing("b", 1, [1300, 0, 700, 0]),
        ];
        let back = Back {
            attempt: 0,
            branch: 0,
            came_us: 9_900,
            left_us: 10_800,
            trail: &trail,
            failure: None,
        };
        let sent = Sent {
            attempt: 0,
            branch: 0,
            at_us: 8_000,
        };
        let tree = build(&view("answered", 2100), &[sent], &[back]);
        assert_eq!(
            lines(&tree),
            [
                "call 7900..10000",
                " attempt 8000..9900",
                "  atransfer 8050..8250",
                "  ahop 8250..8800",
                "   aqueue 8250..8260",
                "   acompute 8260..8760",
                "   aencode 8760..8800",
                "  btransfer 8800..9100",
                "  bhop 9100..9800",
                "   bcompute 9100..9800",
                "  transfer 9800..9900",
            ]
        );
        assert_eq!(tree.spans[0].parent, Some(0xb7ad_6b71_6920_3331));
        assert!(tree.spans[0].is_parent_remote);
        assert!(tree.spans.iter().all(|span| span.error.is_none()));
    }

    #[test]
    fn an_attempt_that_failed_stands_beside_the_one_that_answered() {
        let first = [timing("a", 0, [100, 0, 500, 0])];
        let second = [timing("c", 0, [100, 0, 800, 0])];
        let back = [
            Back {
                attempt: 0,
                branch: 0,
                came_us: 2_000,
                left_us: 1_900,
                trail: &first,
                failure: Some("node b cannot be reached from node a"),
            },
            Back {
                attempt: 1,
                branch: 0,
                came_us: 3_500,
                left_us: 3_400,
                trail: &second,
                failure: None,
            },
        ];
        let sent = [(0, 1_000), (1, 2_100)].map(|(attempt, at_us)| Sent {
            attempt,
            branch: 0,
            at_us,
        });
        let tree = build(&view("answered", 9_500), &sent, &back);
        assert_eq!(
            lines(&tree),
            [
                "call 500..10000",
                " attempt 1000..2100",
                "  atransfer 1000..1100",
                "  ahop 1100..1600",
                "   acompute 1100..1600",
                " attempt 2100..3500",
                "  ctransfer 2500..2600",
                "  chop 2600..3400",
                "   ccompute 2600..3400",
                "  transfer 3400..3500",
            ]
        );
        let failed: Vec<bool> = tree.spans.iter().map(|span| span.error.is_some()).collect();
        assert_eq!(failed.iter().filter(|failed| **failed).count(), 1);
        assert!(failed[1]);
    }

    #[test]
    fn branches_stand_side_by_side_and_a_missing_one_is_seen() {
        let trail = [timing("a", 0, [100, 0, 800, 0])];
        let back = Back {
            attempt: 0,
            branch: 1,
            came_us: 9_000,
            left_us: 8_900,
            trail: &trail,
            failure: None,
        };
        let sent = [0, 1].map(|branch| Sent {
            attempt: 0,
            branch,
            at_us: 8_000,
        });
        let tree = build(&view("answered", 2_000), &sent, &[back]);
        let lines = lines(&tree);
        assert_eq!(lines[2], "  branch 8000..9000");
        assert_eq!(lines[3], "  branch 8000..9000");
        assert!(lines[4].starts_with("   atransfer"), "{lines:#?}");
        assert!(tree.spans[2].error.is_some() && tree.spans[3].error.is_none());
    }

    #[test]
    fn what_a_peer_makes_up_ends_within_the_numbers_that_there_are() {
        let trail = [timing("a", 0, [u64::MAX; 4]), timing("b", 1, [u64::MAX; 4])];
        let back = Back {
            attempt: 0,
            branch: 0,
            came_us: 9_000,
            left_us: i64::MIN,
            trail: &trail,
            failure: None,
        };
        let sent = Sent {
            attempt: 0,
            branch: 0,
            at_us: 1,
        };
        let tree = build(&view("answered", u64::MAX), &[sent], &[back]);
        assert!(tree.spans.iter().all(|span| span.start_us <= span.end_us));
    }
}
