//! A worker's side: frames queue, are computed, go on, or fail.

use splitplace_fleet::Timestamp;
use splitplace_lifecycle::Fault as Trouble;

use super::{
    control::{HopRow, NO_LINE},
    node::{Frame, Place},
    run::{Event, Sim},
};
use crate::{agenda::Queue as _, law::nanos, network::Discipline};

impl Sim<'_> {
    /// A frame is at a node's door.
    pub(super) fn arrive(&mut self, now: Timestamp, node: u32, mut frame: Frame) {
        let site = &mut self.sites[node as usize];
        if !site.is_up {
            return;
        }
        let found = self.centre.table(frame.table).and_then(|table| {
            let route = &table.routes[frame.route as usize];
            let hop = route.hops.get(usize::from(frame.hop))?;
            (hop.node == node).then_some((*hop, route.line))
        });
        let Some((hop, line)) = found.filter(|_| site.tables.contains(&frame.table)) else {
            self.fail(now, node, frame, Trouble::StaleRoute);
            return;
        };
        let is_taken = site.wait(hop.slot);
        if line != NO_LINE {
            self.comes_to(now, line, &hop);
        }
        if !is_taken {
            self.leaves(now, line, &hop, true);
            self.fail(now, node, frame, Trouble::QueueFull);
            return;
        }
        let site = &mut self.sites[node as usize];
        site.account(now);
        let is_in_order = site.discipline == Discipline::InOrder;
        match &mut site.place {
            Place::Desk(desk) => {
                let rank = if is_in_order {
                    0
                } else {
                    frame.deadline.as_nanos()
                };
                desk.enter(rank, frame);
                self.start(now, node);
            }
            Place::Share(_) if frame.expiry <= now => {
                site.begin(hop.slot);
                site.expired += 1;
                self.leaves(now, line, &hop, false);
                self.fail(now, node, frame, Trouble::Expired);
            }
            Place::Share(_) => {
                if line != NO_LINE {
                    self.turns_to(line, &hop, &mut frame);
                }
                let service = self.service(node, &frame, &hop, line);
                if let Place::Share(share) = &mut self.sites[node as usize].place {
                    share.enter(now, service, frame);
                }
                self.promise(node);
            }
        }
    }

    /// Nanoseconds that a frame needs for a hop.
    fn service(&mut self, node: u32, frame: &Frame, hop: &HopRow, line: u32) -> u64 {
        let law = &self.world.workers[node as usize].service;
        let factor = if law.is_constant() {
            law.mean()
        } else {
            law.draw(&mut self.services.of(frame.entity()))
        };
        let site = &self.sites[node as usize];
        let work = hop.service.as_nanos() as f64 * f64::from(frame.samples);
        let service = nanos(work * factor * site.slow * site.crowding() / 1e9);
        if line != NO_LINE {
            self.takes(line, hop, frame.hop, service);
        }
        service
    }

    /// Puts waiting frames on free threads.
    fn start(&mut self, now: Timestamp, node: u32) {
        loop {
            let site = &mut self.sites[node as usize];
            let Place::Desk(desk) = &mut site.place else {
                return;
            };
            let Some(mut frame) = desk.call() else {
                return;
            };
            let found = self.centre.table(frame.table).map(|table| {
                let route = &table.routes[frame.route as usize];
                (route.hops[usize::from(frame.hop)], route.line)
            });
            let Some((hop, line)) = found else {
                self.fail(now, node, frame, Trouble::StaleRoute);
                continue;
            };
            site.begin(hop.slot);
            if frame.expiry <= now {
                site.expired += 1;
                self.leaves(now, line, &hop, false);
                self.fail(now, node, frame, Trouble::Expired);
                continue;
            }
            if line != NO_LINE {
                self.turns_to(line, &hop, &mut frame);
            }
            self.serve(now, node, frame, &hop, line);
        }
    }

    /// Puts a frame on a thread that is free.
    fn serve(&mut self, now: Timestamp, node: u32, frame: Frame, hop: &HopRow, line: u32) {
        let service = self.service(node, &frame, hop, line);
        let site = &mut self.sites[node as usize];
        if let Place::Desk(desk) = &mut site.place {
            let server = desk.serve(frame);
            let at = Timestamp::from_nanos(now.as_nanos().saturating_add(service));
            let epoch = site.epoch;
            let done = Event::Done {
                node,
                server,
                epoch,
            };
            self.agenda.push(at, done);
        }
    }

    /// A frame that was computed stays for the next hop: nobody else is served in between.
    fn go_on(&mut self, now: Timestamp, node: u32, frame: Frame, hop: &HopRow, line: u32) {
        let site = &mut self.sites[node as usize];
        if frame.expiry <= now {
            site.expired += 1;
            self.leaves(now, line, hop, false);
            self.next(now, node);
            self.fail(now, node, frame, Trouble::Expired);
            return;
        }
        if let Place::Desk(_) = site.place {
            self.serve(now, node, frame, hop, line);
            return;
        }
        site.stay(hop.slot);
        let service = self.service(node, &frame, hop, line);
        if let Place::Share(share) = &mut self.sites[node as usize].place {
            share.enter(now, service, frame);
        }
        self.promise(node);
    }

    /// One frame fewer is computed.
    fn next(&mut self, now: Timestamp, node: u32) {
        match &self.sites[node as usize].place {
            Place::Desk(_) => self.start(now, node),
            Place::Share(_) => self.promise(node),
        }
    }

    fn promise(&mut self, node: u32) {
        if let Place::Share(share) = &self.sites[node as usize].place
            && let Some((at, epoch)) = share.next()
        {
            let server = u32::MAX;
            let done = Event::Done {
                node,
                server,
                epoch,
            };
            self.agenda.push(at, done);
        }
    }

    pub(super) fn done(&mut self, now: Timestamp, node: u32, server: u32, epoch: u32) {
        let site = &mut self.sites[node as usize];
        site.account(now);
        let frame = match &mut site.place {
            Place::Desk(desk) => (site.epoch == epoch).then(|| desk.done(server)).flatten(),
            Place::Share(share) => share.done(now, epoch),
        };
        let Some(mut frame) = frame else {
            return;
        };
        site.computed += 1;
        let is_shared = matches!(site.place, Place::Share(_));
        let Some(table) = self.centre.table(frame.table).cloned() else {
            self.next(now, node);
            self.fail(now, node, frame, Trouble::StaleRoute);
            return;
        };
        let route = &table.routes[frame.route as usize];
        let line = route.line;
        let hop = &route.hops[usize::from(frame.hop)];
        if is_shared {
            self.sites[node as usize].begin(hop.slot);
        }
        let next = route.hops.get(usize::from(frame.hop) + 1);
        let next = if line == NO_LINE {
            next.filter(|hop| self.gets_to(&frame, hop.reach))
        } else {
            let is_answered = self.is_answered(now, line, hop, &frame, next.is_none());
            next.filter(|_| !is_answered)
        };
        frame.hop += 1;
        if let Some(next) = next.filter(|next| next.node == node) {
            self.go_on(now, node, frame, next, line);
            return;
        }
        self.leaves(now, line, hop, false);
        self.next(now, node);
        let centre = self.sites.len() as u32;
        let (to, bytes) = next.map_or((centre, route.bytes_out), |hop| (hop.node, hop.bytes_in));
        let is_reachable = to == centre || self.centre.is_reachable(to);
        let is_gone = is_reachable && self.send(now, node, to, bytes, frame, None);
        if !is_gone && to != centre {
            self.fail(now, node, frame, Trouble::PeerLost);
        }
    }

    /// Whether no exit answers a request before a hop that this share of requests gets to. A request is as
    /// hard at every exit of every arm: what answers it early answers all that are easier.
    fn gets_to(&self, frame: &Frame, reach: f64) -> bool {
        reach >= 1.0 || self.hardness.of(frame.request).unit() < reach
    }

    /// Tells the centre that a frame goes no further.
    pub(super) fn fail(&mut self, now: Timestamp, node: u32, frame: Frame, trouble: Trouble) {
        let centre = self.sites.len() as u32;
        self.send(now, node, centre, 0, frame, Some(trouble));
    }
}
