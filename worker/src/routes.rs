//! Which fragment runs at which hop, by generation and route.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use splitplace_codec::Codec;
use splitplace_link::Backlog;
use splitplace_onnx::Preprocess;
use splitplace_plan::{FragmentId, Generation};
use splitplace_proto::control;

use crate::{
    exits::Exit,
    news::News,
    station::{Around, Station},
};

/// One step of a route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hop {
    pub(crate) node: String,
    pub(crate) fragment: FragmentId,
    /// Names of the tensors handed on; empty for everything that the fragment makes.
    pub(crate) forward: Vec<String>,
    /// How they are coded on the link to the next hop.
    pub(crate) codec: Codec,
    /// Exits of the fragment that may answer, in order along the network.
    pub(crate) exits: Vec<Exit>,
    /// How encoded pictures become a tensor, on a first hop.
    pub(crate) preprocess: Option<Preprocess>,
}

impl Hop {
    fn read(hop: &control::HopSpec) -> Result<Self, String> {
        let fragment =
            FragmentId::from_slice(&hop.fragment).ok_or("it names a fragment without hash")?;
        let codec = Codec::from_number(hop.codec).ok_or_else(|| {
            format!(
                "it names codec {}, which this worker does not know",
                hop.codec
            )
        })?;
        let said = Some(&hop.preprocess).filter(|said| !said.is_empty());
        let preprocess = said.map(|said| {
            Preprocess::from_text(said).map_err(|error| format!("its pictures: {error}"))
        });
        Ok(Self {
            node: hop.node.clone(),
            fragment,
            forward: hop.forward.clone(),
            codec,
            exits: hop.exits.iter().map(Exit::from).collect(),
            preprocess: preprocess.transpose()?,
        })
    }
}

/// A route as this node sees it.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) hops: Vec<Hop>,
    /// What this node's exits on it decide and have seen.
    pub(crate) station: Arc<Station>,
}

/// The tables of the generations that are served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    tables: BTreeMap<Generation, BTreeMap<u32, Arc<Way>>>,
    newest: Generation,
    /// What the nodes before this one are told.
    pub(crate) news: Arc<News>,
}

impl Routes {
    /// Takes a generation's table for `node`, unless a newer one was accepted before.
    pub(crate) fn accept(
        &mut self,
        generation: Generation,
        routes: &[control::RouteSpec],
        node: &str,
    ) -> Result<(), String> {
        if generation < self.newest {
            return Err(format!(
                "generation {generation} is older than {}, which this worker has accepted",
                self.newest
            ));
        }
        let mut table = BTreeMap::new();
        for route in routes {
            let hops = route
                .hops
                .iter()
                .map(Hop::read)
                .collect::<Result<Vec<_>, _>>();
            let hops =
                hops.map_err(|why| format!("route {} cannot be used: {why}", route.route))?;
            let here = hops.iter().filter(|hop| hop.node == node);
            let exits = here.map(|hop| hop.exits.len()).sum();
            // Any number will do, as long as two nodes do not draw alike.
            let seed = node
                .bytes()
                .fold(generation.0 << 20 ^ u64::from(route.route), |seed, byte| {
                    (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
            let around = around(&hops, node, &self.news);
            let station = Station::new(generation, route.route, exits, seed, around);
            let station = Arc::new(station);
            table.insert(route.route, Arc::new(Way { hops, station }));
        }
        self.tables.insert(generation, table);
        self.newest = generation;
        Ok(())
    }

    /// The node behind this one on any route said how many are present there, or its stream broke.
    pub(crate) fn hear(&self, peer: &str, backlogs: &[Backlog]) {
        for backlog in backlogs {
            if let Some(way) = self.get(Generation(backlog.generation), backlog.route) {
                way.station.hear(peer, Some(backlog.present));
            }
        }
    }

    /// What the peer said of itself holds no longer.
    pub(crate) fn unhear(&self, peer: &str) {
        for way in self.tables.values().flat_map(BTreeMap::values) {
            way.station.hear(peer, None);
        }
    }

    /// Forgets generations below `first`.
    pub(crate) fn retire(&mut self, first: Generation) {
        self.tables = self.tables.split_off(&first);
    }

    /// Forgets the generations that came after `in_force` and will never be routed by, now that `coming` is
    /// assigned; all that are older than `coming` when nothing is in force.
    pub(crate) fn abandon(&mut self, in_force: Generation, coming: Generation) {
        self.tables.retain(|&generation, _| {
            let may_run = generation <= in_force;
            may_run || coming <= generation
        });
    }

    /// The newest generation accepted.
    pub(crate) fn newest(&self) -> Generation {
        self.newest
    }

    /// The fragments that the tables place on `node`.
    pub(crate) fn fragments_of(&self, node: &str) -> BTreeSet<FragmentId> {
        self.tables
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|way| way.hops.iter())
            .filter(|hop| hop.node == node)
            .map(|hop| hop.fragment)
            .collect()
    }

    /// A route. Whoever computes for it keeps it: a table may be retired meanwhile.
    pub(crate) fn get(&self, generation: Generation, route: u32) -> Option<Arc<Way>> {
        self.tables.get(&generation)?.get(&route).cloned()
    }

    /// Every route that is served.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Way>> {
        self.tables.values().flat_map(BTreeMap::values)
    }
}

/// Who is beside `node` on a route: only where an exit asks.
fn around(hops: &[Hop], node: &str, news: &News) -> Around {
    let has_exits = |node: &str| {
        hops.iter()
            .any(|hop| hop.node == node && !hop.exits.is_empty())
    };
    let first = hops.iter().position(|hop| hop.node == node);
    let last = hops.iter().rposition(|hop| hop.node == node);
    let before = first.and_then(|first| hops.get(first.checked_sub(1)?));
    let behind = last.and_then(|last| hops.get(last + 1));
    Around {
        before: before
            .filter(|hop| has_exits(&hop.node))
            .map(|hop| news.of(&hop.node)),
        behind: behind
            .filter(|_| has_exits(node))
            .map(|hop| hop.node.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_generations_are_refused_and_retired_ones_forgotten() {
        let mut routes = Routes::default();
        let spec = [control::RouteSpec {
            route: 7,
            hops: vec![],
        }];
        routes.accept(Generation(5), &spec, "n").unwrap();
        assert!(
            routes
                .accept(Generation(4), &spec, "n")
                .unwrap_err()
                .contains("older than 5")
        );
        routes.accept(Generation(6), &spec, "n").unwrap();
        assert!(routes.get(Generation(5), 7).is_some());
        routes.retire(Generation(6));
        assert!(routes.get(Generation(5), 7).is_none());
        assert!(routes.get(Generation(6), 7).is_some());
        let short = control::RouteSpec {
            route: 1,
            hops: vec![control::HopSpec {
                fragment: vec![1].into(),
                ..Default::default()
            }],
        };
        assert!(routes.accept(Generation(7), &[short], "n").is_err());
    }
}
