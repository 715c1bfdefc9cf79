//! Frames on their way: from the centre to workers, between them, and back.

use std::time::Duration;

use rand_distr::{Distribution as _, StandardNormal};
use splitplace_brain::Order;
use splitplace_fleet::{Place as End, Timestamp};
use splitplace_lifecycle::{Event as Fact, Fault as Trouble, RequestId};

use super::{
    World,
    control::NO_LINE,
    node::Frame,
    run::{Event, Sim},
};
use crate::{agenda::Queue as _, wire::Wire};

/// One direction between two places.
pub(super) struct Pipe {
    pub(super) wire: Wire,
    pub(super) from: u32,
    pub(super) to: u32,
    inside: u32,
    most: u32,
}

impl Sim<'_> {
    /// Sends a request on its way, or says why not.
    pub(super) fn leave(&mut self, now: Timestamp, order: &Order) -> Option<Fact> {
        let Order::Send {
            request,
            attempt,
            branch,
            generation,
            route,
            ref node,
            slack,
            patience,
        } = *order
        else {
            return None;
        };
        let waiting = self.requests.get_mut(request.0)?;
        (waiting.attempt, waiting.right) = (attempt, None);
        let samples = self.world.loads[waiting.load as usize].samples;
        let failed = |fault| {
            Some(Fact::BranchFailed {
                request,
                attempt,
                branch,
                fault,
            })
        };
        let to = self.numbers.get(node).copied();
        let table = self.centre.number_of(generation);
        let (Some(to), Some(number)) = (to.filter(|to| self.centre.is_connected(*to)), table)
        else {
            return failed(Trouble::PeerLost);
        };
        let table = self.centre.table(number);
        let found = table.and_then(|table| {
            let route = table.route_number(route)?;
            let row = &table.routes[route as usize];
            Some((route, row.hops[0].bytes_in, row.line))
        });
        let Some((route, bytes, line)) = found else {
            return failed(Trouble::StaleRoute);
        };
        if line != NO_LINE {
            self.steering.sent(line, now);
        }
        let frame = Frame {
            request: request.0,
            deadline: now + slack,
            expiry: now + patience,
            attempt,
            samples,
            table: number,
            route,
            branch: branch as u16,
            hop: 0,
            intent: u16::MAX,
            present: 0,
            is_audited: false,
        };
        let centre = self.sites.len() as u32;
        if self.send(now, centre, to, bytes, frame, None) {
            None
        } else {
            failed(Trouble::QueueFull)
        }
    }

    /// Hands a frame to a link; `false` when as many are in it as may.
    pub(super) fn send(
        &mut self,
        now: Timestamp,
        from: u32,
        to: u32,
        sample_bytes: u64,
        frame: Frame,
        trouble: Option<Trouble>,
    ) -> bool {
        let number = self.pipe(from, to);
        let bytes = sample_bytes.saturating_mul(u64::from(frame.samples));
        let pipe = &mut self.pipes[number as usize];
        if pipe.most <= pipe.inside {
            return false;
        }
        pipe.inside += 1;
        let mut at = now + overhead(self.world, from);
        if let Some(Some(uplink)) = self.uplinks.get_mut(from as usize) {
            at = uplink.send(at, bytes, 0.0);
        }
        let deviate = if pipe.wire.has_jitter() {
            StandardNormal.sample(&mut self.jitter.of(frame.entity()))
        } else {
            0.0
        };
        at = pipe.wire.send(at, bytes, deviate) + overhead(self.world, to);
        let epoch = self.sites.get(from as usize).map_or(0, |site| site.epoch);
        let event = Event::Reaches {
            frame,
            pipe: number,
            epoch,
            trouble,
        };
        self.agenda.push(at, event);
        true
    }

    pub(super) fn end(&self, place: u32) -> End {
        match self.world.workers.get(place as usize) {
            Some(worker) => End::from(&worker.node.id),
            None => End::Center,
        }
    }

    /// The pipe between two places, made when it is first needed.
    fn pipe(&mut self, from: u32, to: u32) -> u32 {
        if let Some(number) = self.pipe_of.get(&(from, to)) {
            return *number;
        }
        let link = self.links.get(&self.end(from), &self.end(to));
        let (peer, centre) = self.world.control.peer_frames;
        let is_centre = from as usize == self.sites.len();
        let number = self.pipes.len() as u32;
        self.pipes.push(Pipe {
            wire: Wire::new(&link),
            from,
            to,
            inside: 0,
            // Before the emulated link and in it.
            most: 2 * if is_centre { centre } else { peer },
        });
        self.pipe_of.insert((from, to), number);
        number
    }

    pub(super) fn reaches(
        &mut self,
        now: Timestamp,
        frame: Frame,
        pipe: u32,
        epoch: u32,
        trouble: Option<Trouble>,
    ) {
        let pipe = &mut self.pipes[pipe as usize];
        pipe.inside -= 1;
        let (from, to) = (pipe.from, pipe.to);
        let is_lost = self
            .sites
            .get(from as usize)
            .is_some_and(|site| site.epoch != epoch);
        if is_lost {
            return;
        }
        if (to as usize) < self.sites.len() {
            self.arrive(now, to, frame);
            return;
        }
        let request = RequestId(frame.request);
        let (attempt, branch) = (frame.attempt, u32::from(frame.branch));
        self.trace.add(frame.entity());
        if let Some(fault) = trouble {
            let fact = Fact::BranchFailed {
                request,
                attempt,
                branch,
                fault,
            };
            self.tell(now, fact);
        } else if self
            .requests
            .get_mut(frame.request)
            .is_some_and(|w| w.attempt == attempt)
        {
            let fact = Fact::BranchAnswered {
                request,
                attempt,
                branch,
            };
            self.tell(now, fact);
        }
    }
}

fn overhead(world: &World, place: u32) -> Duration {
    let worker = world.workers.get(place as usize);
    worker.map_or(Duration::ZERO, |worker| worker.overhead)
}
