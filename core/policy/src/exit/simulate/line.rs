//! The engine: which request is where, and what happens next.

use std::collections::VecDeque;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_queueing::Arrivals;

use super::{
    super::{
        At, ExitOutcome, Intent, audit,
        draw::{self, Source},
    },
    Controller, Inputs, Moment, Plan, Run,
};
use crate::fixed::{uniform, unit};

#[derive(Debug)]
struct Request {
    number: usize,
    arrived: f64,
    input: usize,
    luck: f64,
    audited: bool,
    present: usize,
    intent: Intent,
    confidences: Vec<f64>,
}

#[derive(Debug, Default)]
struct Server {
    queue: VecDeque<Request>,
    exit: usize,
    ends: f64,
    /// Changes of the number present that were not heard of yet: instant, number.
    news: VecDeque<(f64, usize)>,
    heard: usize,
}

struct Line<'a, 'b> {
    plan: &'a Plan<'b>,
    servers: Vec<Server>,
    offsets: Vec<usize>,
    last: usize,
    run: Run,
    inputs: ChaCha8Rng,
    services: ChaCha8Rng,
    choices: ChaCha8Rng,
}

/// Runs a line under a controller until all requests are gone.
/// O(log) per event is not needed: lines are short, the next event is the smallest of a few.
pub fn simulate(plan: &Plan<'_>, controller: &mut dyn Controller) -> Run {
    simulate_changing(plan, &[], controller)
}

/// The same with arrivals that change at instants, in seconds, ascending.
pub fn simulate_changing(
    plan: &Plan<'_>,
    changes: &[(f64, Arrivals)],
    controller: &mut dyn Controller,
) -> Run {
    let stream = |number: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        rng.set_stream(number);
        rng
    };
    let mut offsets = Vec::new();
    let mut exits = 0;
    for node in plan.nodes {
        offsets.push(exits);
        exits += node.stages.len();
    }
    let mut line = Line {
        plan,
        servers: plan.nodes.iter().map(|_| Server::default()).collect(),
        offsets,
        last: exits.saturating_sub(1),
        run: Run {
            arrivals: plan.requests,
            lost: vec![0; plan.nodes.len()],
            served: 0,
            correct: 0,
            late: 0,
            exits: vec![0; exits],
            responses: Vec::with_capacity(plan.requests),
            reach: match plan.inputs {
                Inputs::Records(records) if plan.trace => vec![0.0; records.len() * exits],
                _ => Vec::new(),
            },
        },
        inputs: stream(2),
        services: stream(3),
        choices: stream(4),
    };
    if exits == 0 || plan.nodes.iter().any(|node| node.stages.is_empty()) {
        return line.run;
    }
    let mut instants = stream(1);
    let mut source = Source::new(plan.arrivals, &mut instants);
    let mut changes = changes.iter().peekable();
    let mut next = source.next(&mut instants);
    let all = plan.requests + plan.warm_up;
    let mut number = 0;
    loop {
        if let Some((at, arrivals)) = changes.next_if(|(at, _)| next > *at) {
            source.change(*arrivals, *at);
            next = source.next(&mut instants);
            continue;
        }
        let busy = line
            .servers
            .iter()
            .enumerate()
            .filter(|(_, s)| !s.queue.is_empty());
        let first = busy.min_by(|a, b| a.1.ends.total_cmp(&b.1.ends));
        let first = first.map(|(node, server)| (node, server.ends));
        match first {
            Some((node, ends)) if ends <= next || number == all => {
                line.stage_ended(node, ends, controller);
            }
            _ if number < all && next.is_finite() => {
                let request = line.request(number, next);
                number += 1;
                line.enter(0, request, next, controller);
                next = source.next(&mut instants);
            }
            _ => break,
        }
    }
    line.run.responses.sort_by(f32::total_cmp);
    line.run
}

impl Line<'_, '_> {
    fn request(&mut self, number: usize, now: f64) -> Request {
        let luck = unit(&mut self.inputs);
        let input = match self.plan.inputs {
            Inputs::Table(_) => 0,
            Inputs::Records(records) => uniform(records.len(), &mut self.inputs),
        };
        Request {
            number,
            arrived: now,
            input,
            luck,
            audited: self.plan.audit > 0.0 && audit::audited(self.plan.audit, &mut self.inputs),
            present: 0,
            intent: Intent::default(),
            confidences: Vec::with_capacity(self.last + 1),
        }
    }

    fn enter(&mut self, node: usize, request: Request, now: f64, controller: &mut dyn Controller) {
        let capacity = self.plan.nodes[node].capacity;
        let is_lost = self.servers[node].queue.len() >= capacity;
        controller.came(node, now, is_lost);
        if is_lost {
            if request.number >= self.plan.warm_up {
                self.run.lost[node] += 1;
            }
            return;
        }
        self.servers[node].queue.push_back(request);
        self.note(node, now);
        if self.servers[node].queue.len() == 1 {
            self.begin(node, now, controller);
        }
    }

    fn note(&mut self, node: usize, now: f64) {
        let server = &mut self.servers[node];
        let present = server.queue.len();
        if self.plan.news > 0.0 {
            server.news.push_back((now + self.plan.news, present));
        } else {
            server.heard = present;
        }
    }

    fn heard(&mut self, node: usize, now: f64) -> usize {
        let Some(server) = self.servers.get_mut(node) else {
            return 0;
        };
        while let Some((_, present)) = server.news.pop_front_if(|(at, _)| *at <= now) {
            server.heard = present;
        }
        server.heard
    }

    fn begin(&mut self, node: usize, now: f64, controller: &mut dyn Controller) {
        let present = self.servers[node].queue.len();
        let intent = controller.begin(node, present, &mut self.choices);
        let server = &mut self.servers[node];
        server.exit = 0;
        server.ends = now + draw::service(&self.plan.nodes[node].stages[0], &mut self.services);
        if let Some(request) = server.queue.front_mut() {
            request.intent = intent;
            request.present = present;
        }
    }

    fn stage_ended(&mut self, node: usize, now: f64, controller: &mut dyn Controller) {
        let behind = self.heard(node + 1, now);
        let present = self.servers[node].queue.len();
        let local = self.servers[node].exit;
        let is_border = local + 1 == self.plan.nodes[node].stages.len();
        let exit = self.offsets[node] + local;
        let Some(mut request) = self.servers[node].queue.pop_front() else {
            return;
        };
        let (confidence, accuracy) = self.look(&mut request, exit);
        request.confidences.push(confidence);
        let moment = Moment {
            node,
            is_border,
            at: At {
                exit,
                confidence,
                present,
                intent: request.intent,
            },
            behind,
        };
        let is_last = exit == self.last;
        let stops = is_last || !request.audited && controller.stop(&moment, &mut self.choices);
        if !stops && !is_border {
            let server = &mut self.servers[node];
            server.exit += 1;
            let stage = &self.plan.nodes[node].stages[local + 1];
            server.ends = now + draw::service(stage, &mut self.services);
            server.queue.push_front(request);
            return;
        }
        self.note(node, now);
        if stops {
            let outcome = ExitOutcome {
                intent: request.intent,
                present: request.present,
                confidences: &request.confidences,
                audited: request.audited,
            };
            controller.done(node, &outcome);
            self.answer(&request, exit, accuracy, now);
        } else {
            self.enter(node + 1, request, now, controller);
        }
        if !self.servers[node].queue.is_empty() {
            self.begin(node, now, controller);
        }
    }

    /// Confidence at an exit, and the chance that its answer is correct.
    fn look(&mut self, request: &mut Request, exit: usize) -> (f64, f64) {
        match self.plan.inputs {
            Inputs::Records(records) => {
                if self.plan.trace {
                    self.run.reach[request.input * (self.last + 1) + exit] += 1.0;
                }
                let is_correct = records.is_correct(request.input, exit);
                let confidence = records.confidence(request.input, exit);
                (confidence, f64::from(u8::from(is_correct)))
            }
            Inputs::Table(table) => {
                let bins = table.bins(exit);
                let shares = if exit == 0 {
                    &bins.share
                } else {
                    &table.bins(exit - 1).next[request.input]
                };
                let mut left = unit(&mut self.inputs);
                let mut bin = shares.len() - 1;
                for (at, &share) in shares.iter().enumerate() {
                    if left < share {
                        bin = at;
                        break;
                    }
                    left -= share;
                }
                request.input = bin;
                (bins.middle(bin), bins.correct[bin])
            }
        }
    }

    fn answer(&mut self, request: &Request, exit: usize, accuracy: f64, now: f64) {
        if request.number < self.plan.warm_up {
            return;
        }
        let response = now - request.arrived;
        let run = &mut self.run;
        run.served += 1;
        run.correct += usize::from(request.luck < accuracy);
        run.late += usize::from(response > self.plan.deadline);
        run.exits[exit] += 1;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "seven digits of a response"
        )]
        run.responses.push(response as f32);
    }
}
