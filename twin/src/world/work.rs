//! A worker's side: frames queue, are computed, go on, or fail.

use std::time::Duration;

use splitplace_fleet::Timestamp;
use splitplace_lifecycle::Fault as Trouble;

use super::{
    node::{Frame, Place},
    run::{Event, Sim},
};
use crate::{agenda::Queue as _, law::nanos, network::Discipline};

impl Sim<'_> {
    /// A frame is at a node's door.
    pub(super) fn arrive(&mut self, now: Timestamp, node: u32, frame: Frame) {
        let site = &mut self.sites[node as usize];
        if !site.is_up {
            return;
        }
        let hop = self.centre.table(frame.table).and_then(|table| {
            let hop = table.routes[frame.route as usize]
                .hops
                .get(usize::from(frame.hop))?;
            (hop.node == node).then_some(*hop)
        });
        let Some(hop) = hop.filter(|_| site.tables.contains(&frame.table)) else {
            self.fail(now, node, frame, Trouble::StaleRoute);
            return;
        };
        if !site.wait(hop.slot) {
            self.fail(now, node, frame, Trouble::QueueFull);
            return;
        }
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
                self.fail(now, node, frame, Trouble::Expired);
            }
            Place::Share(_) => {
                let service = self.service(node, &frame, hop.service);
                if let Place::Share(share) = &mut self.sites[node as usize].place {
                    share.enter(now, service, frame);
                }
                self.promise(node);
            }
        }
    }

    /// Nanoseconds that a frame needs on a node.
    fn service(&self, node: u32, frame: &Frame, planned: Duration) -> u64 {
        let law = &self.world.workers[node as usize].service;
        let factor = if law.is_constant() {
            law.mean()
        } else {
            law.draw(&mut self.services.of(frame.entity()))
        };
        let site = &self.sites[node as usize];
        let work = planned.as_nanos() as f64 * f64::from(frame.samples);
        nanos(work * factor * site.slow * site.crowding() / 1e9)
    }

    /// Puts waiting frames on free threads.
    fn start(&mut self, now: Timestamp, node: u32) {
        loop {
            let site = &mut self.sites[node as usize];
            let Place::Desk(desk) = &mut site.place else {
                return;
            };
            let Some(frame) = desk.call() else {
                return;
            };
            let hop = self
                .centre
                .table(frame.table)
                .map(|table| table.routes[frame.route as usize].hops[usize::from(frame.hop)]);
            let Some(hop) = hop else {
                self.fail(now, node, frame, Trouble::StaleRoute);
                continue;
            };
            site.begin(hop.slot);
            if frame.expiry <= now {
                site.expired += 1;
                self.fail(now, node, frame, Trouble::Expired);
                continue;
            }
            let service = self.service(node, &frame, hop.service);
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
            self.fail(now, node, frame, Trouble::StaleRoute);
            return;
        };
        let route = &table.routes[frame.route as usize];
        if is_shared {
            let slot = route.hops[usize::from(frame.hop)].slot;
            self.sites[node as usize].begin(slot);
            self.promise(node);
        } else {
            self.start(now, node);
        }
        frame.hop += 1;
        let centre = self.sites.len() as u32;
        let next = route.hops.get(usize::from(frame.hop));
        let (to, bytes) = next
            .filter(|hop| self.gets_to(&frame, hop.reach))
            .map_or((centre, route.bytes_out), |hop| (hop.node, hop.bytes_in));
        if to == node {
            self.arrive(now, node, frame);
            return;
        }
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
