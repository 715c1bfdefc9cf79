//! The arms that could be, with what they would cost on every node that may be given work.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use splitplace_codec::Codec;
use splitplace_fleet::{Node, NodeId, Place, Snapshot};
use splitplace_onnx::VariantKind;
use splitplace_plan::{
    ArmKind, ArmProblem, Bounds, ChainProblem, Crossing, ModelName, NodeSpec, SegmentSpec, Way,
};

use super::{ArmPin, Incoming, PlanningInput, Wish, translate};
use crate::{
    catalog::{Loaded, LoadedExit, LoadedPart, LoadedVariant},
    measured::{Measured, OnNode},
};

/// The nodes that may be given work, numbered by name, and the links as the strategy wants them.
pub(super) struct Fleet<'a> {
    pub(super) nodes: Vec<&'a Node>,
    /// Bytes on each node that may be planned with.
    room: Vec<u64>,
    /// How many times as long a sample takes on each while all of its cores are busy.
    crowding: Vec<f64>,
    /// Row and column of the centre come last.
    pub(super) links: Vec<Vec<(f64, f64)>>,
    /// Seconds of one multiply-accumulate in each place, by which coding is scaled.
    pub(super) coding: Vec<f64>,
}

impl<'a> Fleet<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, measured: &Measured) -> Self {
        let nodes: Vec<_> = snapshot.alive().collect();
        let mut places: Vec<_> = nodes.iter().map(|node| Place::from(&node.id)).collect();
        places.push(Place::Center);
        let row = |from: &Place| {
            let links = places.iter().map(|to| snapshot.links.get(from, to));
            links
                .map(|link| (link.rate_bytes_per_second, link.delay.as_secs_f64()))
                .collect()
        };
        Self {
            links: places.iter().map(row).collect(),
            // The centre codes nothing; as if it were as fast as the fastest node.
            coding: nodes
                .iter()
                .map(|node| node.macs_per_second)
                .chain([nodes
                    .iter()
                    .map(|node| node.macs_per_second)
                    .fold(0.0, f64::max)])
                .map(|speed| if 0.0 < speed { 1.0 / speed } else { 0.0 })
                .collect(),
            room: nodes.iter().map(|node| node.memory_bytes).collect(),
            crowding: nodes
                .iter()
                .map(|node| measured.crowding(&node.id))
                .collect(),
            nodes,
        }
    }

    /// The same fleet with that much less room on some nodes.
    pub(super) fn beside(mut self, taken: &BTreeMap<NodeId, u64>) -> Self {
        for (room, node) in self.room.iter_mut().zip(&self.nodes) {
            *room = room.saturating_sub(taken.get(&node.id).copied().unwrap_or(0));
        }
        self
    }

    pub(super) fn specs(&self) -> Vec<NodeSpec> {
        let nodes = self.nodes.iter().zip(&self.room).zip(&self.crowding);
        nodes
            .map(|((node, &memory_bytes), &crowding)| NodeSpec {
                memory_bytes,
                cores: node.cores,
                crowding,
            })
            .collect()
    }

    pub(super) fn find(&self, node: &NodeId) -> Option<usize> {
        self.nodes.iter().position(|known| known.id == *node)
    }
}

/// An arm that could be.
pub(super) struct Candidate<'a> {
    pub(super) wish: &'a Wish,
    pub(super) variant: usize,
    /// As the strategy sees it. A whole part is one segment there.
    pub(super) problem: ArmProblem,
    /// What each part would take on each node: `estimates[part][node]`.
    pub(super) estimates: Vec<Vec<OnNode<'a>>>,
    /// How often it was made larger.
    enlarged: usize,
}

/// Most times that an arm is made larger; after that it goes without a place.
const ENLARGED_LIMIT: usize = 4;

impl<'a> Candidate<'a> {
    pub(super) fn loaded(&self) -> &'a Loaded {
        &self.wish.loaded
    }

    pub(super) fn model(&self) -> &'a ModelName {
        self.loaded().name()
    }

    pub(super) fn variant(&self) -> &'a LoadedVariant {
        &self.loaded().variants()[self.variant]
    }

    pub(super) fn part(&self, part: usize) -> &'a LoadedPart {
        &self.variant().parts[part]
    }

    /// The part's own segments behind a range of the problem's.
    pub(super) fn segments(&self, part: usize, stage: &Range<usize>) -> Range<usize> {
        if is_cut(self.problem.kind) {
            stage.clone()
        } else {
            0..self.part(part).segments()
        }
    }

    /// The fragments of a stage, in the problem's count: one, but that an exit ends a fragment.
    pub(super) fn fragments(&self, stage: &Range<usize>) -> Vec<Range<usize>> {
        let mut fragments = Vec::new();
        let mut start = stage.start;
        if self.problem.kind == ArmKind::Exits {
            for exit in self.exits() {
                if start < exit.behind && exit.behind < stage.end {
                    fragments.push(start..exit.behind);
                    start = exit.behind;
                }
            }
        }
        fragments.push(start..stage.end);
        fragments
    }

    /// The exits that may answer.
    pub(super) fn exits(&self) -> impl Iterator<Item = &'a LoadedExit> {
        let may = self.problem.kind == ArmKind::Exits;
        exits(self.wish, self.variant()).filter(move |_| may)
    }

    /// Share of requests that get to the segment after so many.
    pub(super) fn reach(&self, segments: usize) -> f64 {
        reach(self.exits(), segments)
    }
}

/// The exits of a variant that may answer: controlled ones all.
fn exits<'a>(
    wish: &Wish,
    variant: &'a LoadedVariant,
) -> impl Iterator<Item = &'a LoadedExit> + use<'a> {
    let is_controlled = wish.controlled.contains(&variant.name);
    let exits = variant.exits.iter();
    exits.filter(move |exit| is_controlled || exit.may_answer())
}

/// Whether the segments of a part are placed one by one.
#[must_use]
pub const fn is_cut(kind: ArmKind) -> bool {
    match kind {
        ArmKind::Chain | ArmKind::Exits | ArmKind::Compressed => true,
        ArmKind::Whole | ArmKind::Semantic => false,
    }
}

/// Share of requests that no exit before the boundary after so many segments has answered. Never
/// nothing: what is expected may be wrong.
fn reach<'e>(exits: impl Iterator<Item = &'e LoadedExit>, segments: usize) -> f64 {
    let left = exits
        .filter(|exit| exit.behind <= segments)
        .map(|exit| exit.leave);
    (1.0 - left.sum::<f64>()).clamp(0.001, 1.0)
}

/// Whether a variant may run as an arm of that kind at all.
fn suits(wish: &Wish, variant: &LoadedVariant, kind: ArmKind) -> bool {
    let may_exit = || exits(wish, variant).next().is_some();
    match (variant.kind, variant.technique, kind) {
        (VariantKind::Semantic, _, _) => kind == ArmKind::Semantic,
        (VariantKind::Whole, Some(_), _) => kind == ArmKind::Compressed,
        (VariantKind::Whole, None, ArmKind::Exits) => may_exit(),
        (VariantKind::Whole, None, _) => matches!(kind, ArmKind::Whole | ArmKind::Chain),
    }
}

/// Every arm that could be, and of the others why not. What a small fleet should have first comes first: every
/// model's whole, then a semantic variant of each, the chain, the one with exits, a compressed one, in the
/// package's order; then the second of each kind, and so on. So each model is served in one way before one of
/// them is in two, and in ways of every kind before in two of a kind.
pub(super) fn list<'a>(
    input: &PlanningInput<'a>,
    fleet: &Fleet<'a>,
) -> (Vec<Candidate<'a>>, BTreeMap<ModelName, Vec<String>>) {
    let mut candidates = Vec::new();
    let mut refused: BTreeMap<ModelName, Vec<String>> = BTreeMap::new();
    for (wish, number, kind) in ways(input.wishes) {
        let loaded: &'a Loaded = &wish.loaded;
        let variant = &loaded.variants()[number];
        let name = arm_name(variant, kind);
        match refuse(input, fleet, wish, variant, kind) {
            Some(why) => {
                let told = format!("{name} {why}");
                refused.entry(loaded.name().clone()).or_default().push(told);
            }
            None => candidates.push(candidate(input, fleet, wish, number, kind, name)),
        }
    }
    for wish in input.wishes {
        let name = wish.loaded.name();
        let is_missing = candidates.iter().all(|arm| arm.model() != name);
        if is_missing && !refused.contains_key(name) {
            let kinds = ArmKind::ALL.into_iter().filter(|kind| may(wish, *kind));
            let kinds: Vec<_> = kinds.map(ArmKind::label).collect();
            let told = format!(
                "the package has no variant that runs as {}",
                if kinds.is_empty() {
                    "nothing".into()
                } else {
                    kinds.join(" or ")
                }
            );
            refused.entry(name.clone()).or_default().push(told);
        }
    }
    (candidates, refused)
}

/// Each variant of each model with each kind of arm that it may be, in the order of [`list`].
fn ways(wishes: &[Wish]) -> Vec<(&Wish, usize, ArmKind)> {
    const KINDS: [ArmKind; 5] = [
        ArmKind::Whole,
        ArmKind::Semantic,
        ArmKind::Chain,
        ArmKind::Exits,
        ArmKind::Compressed,
    ];
    let mut ways = Vec::new();
    for (place, kind) in KINDS.into_iter().enumerate() {
        for wish in wishes.iter().filter(|wish| may(wish, kind)) {
            let variants = wish.loaded.variants().iter().enumerate();
            let suiting = variants.filter(|(_, variant)| suits(wish, variant, kind));
            let ranked = suiting.enumerate();
            ways.extend(ranked.map(|(rank, (number, _))| ((rank, place), (wish, number, kind))));
        }
    }
    ways.sort_by_key(|(order, _)| *order);
    ways.into_iter().map(|(_, way)| way).collect()
}

/// Every arm that a model could have, by name, with the number of its variant.
#[must_use]
pub fn arms_of(loaded: &Arc<Loaded>) -> Vec<(String, usize, ArmKind)> {
    let wish = Wish {
        controlled: loaded.variants().iter().map(|v| v.name.clone()).collect(),
        ..Wish::new(Arc::clone(loaded))
    };
    let wishes = [wish];
    let ways = ways(&wishes).into_iter();
    ways.map(|(_, number, kind)| {
        let name = arm_name(&loaded.variants()[number], kind);
        (name, number, kind)
    })
    .collect()
}

/// Whether configuration and operator both allow arms of that kind.
fn may(wish: &Wish, kind: ArmKind) -> bool {
    wish.arms.contains(&kind) && wish.asked.allow(kind)
}

/// `base/whole`, `base/chain`, `base/exits`, `semantic`, `int8`: variants' names hold no slash, so these
/// are unique.
fn arm_name(variant: &LoadedVariant, kind: ArmKind) -> String {
    match kind {
        ArmKind::Semantic | ArmKind::Compressed => variant.name.clone(),
        ArmKind::Whole | ArmKind::Chain | ArmKind::Exits => {
            format!("{}/{}", variant.name, kind.label())
        }
    }
}

fn refuse(
    input: &PlanningInput<'_>,
    fleet: &Fleet<'_>,
    wish: &Wish,
    variant: &LoadedVariant,
    kind: ArmKind,
) -> Option<String> {
    let asked = &wish.asked;
    let allowed = |node: &&&Node| {
        asked
            .nodes
            .as_ref()
            .is_none_or(|all| all.contains(&node.id))
    };
    let nodes = fleet.nodes.iter().filter(allowed).count();
    if nodes == 0 {
        return Some(match &asked.nodes {
            Some(all) if !fleet.nodes.is_empty() => {
                let all: Vec<_> = all.iter().map(NodeId::as_str).collect();
                format!(
                    "may be on {} only, and none of them is alive",
                    all.join(", ")
                )
            }
            _ => "has no node: none is alive".into(),
        });
    }
    if let Some((number, node)) = asked
        .pins
        .iter()
        .find(|(_, node)| fleet.find(node).is_none())
    {
        return Some(format!(
            "has fragment {number} pinned to {node}, which is not alive"
        ));
    }
    let pin = wish.pins.get(&arm_name(variant, kind));
    let mut pins = pin.into_iter().flat_map(|pin| &pin.nodes);
    if let Some((number, node)) = pins.find(|(_, node)| fleet.find(node).is_none()) {
        return Some(format!(
            "has fragment {number} pinned to {node} by an operator, and that is not alive"
        ));
    }
    if let Some(least) = asked.min_accuracy {
        let accuracy = accuracy(variant, kind);
        match accuracy {
            Some(accuracy) if least <= accuracy => {}
            Some(accuracy) => {
                return Some(format!(
                    "is right in {:.2} % of cases, and {:.2} % are asked for",
                    accuracy * 100.0,
                    least * 100.0
                ));
            }
            None => {
                return Some(format!(
                    "has no validated accuracy, and {:.2} % are asked for",
                    least * 100.0
                ));
            }
        }
    }
    if kind != ArmKind::Chain {
        return None;
    }
    let segments = variant.parts[0].segments();
    if segments < 2 {
        Some("cannot be cut: nowhere do few enough tensors connect one part of the network to the rest".into())
    } else if nodes < 2 {
        Some("needs two nodes, and one is alive".into())
    } else if input.settings.max_parts < 2 {
        Some("may have one fragment only (max-parts)".into())
    } else {
        None
    }
}

/// Share of right answers that was validated for an arm.
pub(super) fn accuracy(variant: &LoadedVariant, kind: ArmKind) -> Option<f64> {
    match kind {
        ArmKind::Exits => variant.exits_accuracy,
        ArmKind::Whole | ArmKind::Chain | ArmKind::Semantic | ArmKind::Compressed => {
            variant.accuracy
        }
    }
}

/// Where the operator lets the model be, in the fleet's numbers. Nodes that are not alive have none.
fn bounds(wish: &Wish, fleet: &Fleet<'_>) -> Bounds {
    let asked = &wish.asked;
    let pins = asked.pins.iter();
    Bounds {
        nodes: asked
            .nodes
            .as_ref()
            .map(|nodes| nodes.iter().filter_map(|node| fleet.find(node)).collect()),
        pins: pins
            .filter_map(|(number, node)| Some((*number, fleet.find(node)?)))
            .collect(),
        cuts: None,
        apart: asked.apart,
        priority: asked.priority,
        loss: asked.loss_target,
    }
}

/// What an operator has pinned of an arm, on top of what is asked for of its model.
fn pinned(bounds: &mut Bounds, parts: &mut (usize, usize), pin: &ArmPin, fleet: &Fleet<'_>) {
    if let Some(cuts) = &pin.cuts {
        *parts = (cuts.len() + 1, cuts.len() + 1);
        bounds.cuts = Some(cuts.clone());
    }
    for (number, node) in &pin.nodes {
        if let Some(node) = fleet.find(node) {
            bounds.pins.insert(*number, node);
        }
    }
}

fn candidate<'a>(
    input: &PlanningInput<'a>,
    fleet: &Fleet<'a>,
    wish: &'a Wish,
    number: usize,
    kind: ArmKind,
    name: String,
) -> Candidate<'a> {
    let variant = &wish.loaded.variants()[number];
    let mut estimates = Vec::new();
    let mut chains = Vec::new();
    for (place, part) in variant.parts.iter().enumerate() {
        let cut = wish.loaded.fragments_of(number, place);
        let on: Vec<_> = fleet
            .nodes
            .iter()
            .map(|node| input.measured.on(&part.facts, node, &cut))
            .collect();
        let exits = exits(wish, variant).filter(|_| kind == ArmKind::Exits);
        let exits: Vec<_> = exits.collect();
        let mut chain = if is_cut(kind) {
            cut_chain(part, &on, &exits, input.settings.codec_cost)
        } else {
            uncut_chain(part, &on)
        };
        if let Some(incoming) = &wish.input {
            chain.boundaries[0] = entry(incoming);
        }
        chains.push(chain);
        estimates.push(on);
    }
    let mut parts = match kind {
        ArmKind::Chain => (2, input.settings.max_parts),
        ArmKind::Exits | ArmKind::Compressed => (1, input.settings.max_parts.max(1)),
        ArmKind::Whole | ArmKind::Semantic => (1, 1),
    };
    let mut bounds = bounds(wish, fleet);
    if let Some(pin) = wish.pins.get(&name) {
        pinned(&mut bounds, &mut parts, pin, fleet);
    }
    Candidate {
        wish,
        variant: number,
        problem: ArmProblem {
            name,
            model: input
                .wishes
                .iter()
                .take_while(|other| other.loaded.name() != wish.loaded.name())
                .count(),
            kind,
            parts,
            chains,
            arrival_rate: (wish.load.rate_per_second * wish.load.headroom).max(0.0),
            arrival_scv: wish.load.gaps_scv,
            bounds,
        },
        estimates,
        enlarged: 0,
    }
}

/// What comes to the first node: what clients send, which for a picture is its file.
fn entry(incoming: &Incoming) -> Crossing {
    let way = Way {
        codec: Codec::RAW,
        bytes: incoming.bytes,
        encode: 0.0,
        decode: incoming.decode_macs,
    };
    Crossing {
        ways: vec![way],
        reach: 1.0,
    }
}

/// One segment that is the whole part, exactly as estimated.
fn uncut_chain(part: &LoadedPart, on: &[OnNode<'_>]) -> ChainProblem {
    let (all, whole) = (0..part.segments(), Some(part.facts.whole));
    let service = on.iter().map(|on| on.service(all.clone(), whole).service);
    let memory = on.iter().map(|on| on.memory(all.clone(), whole).0).max();
    let segment = SegmentSpec {
        weight_bytes: memory.unwrap_or(0),
        activation_bytes: 0,
        service: service.map(|service| service.as_secs_f64()).collect(),
    };
    ChainProblem {
        segments: vec![segment],
        boundaries: vec![
            part.crossing_bytes(0).into(),
            part.crossing_bytes(all.end).into(),
        ],
    }
}

/// Segment by segment: what each adds to a fragment, weighted with the share of requests that get there.
fn cut_chain(
    part: &LoadedPart,
    on: &[OnNode<'_>],
    exits: &[&LoadedExit],
    codec_cost: f64,
) -> ChainProblem {
    let reach = |segments: usize| reach(exits.iter().copied(), segments);
    let count = part.segments();
    let segments = (0..count).map(|segment| {
        // Corrections are the part's, not the node's: every node says the same.
        let (weight_bytes, activation_bytes) =
            on.first().map_or((0, 0), |on| on.memory_of(segment));
        let service = on.iter().map(|on| on.share_of(segment) * reach(segment));
        SegmentSpec {
            weight_bytes,
            activation_bytes,
            service: service.collect(),
        }
    });
    let crossing = |at: usize| {
        let raw = Crossing::from(part.crossing_bytes(at));
        // What comes first is as the client sends it ([`entry`]), and answers are small.
        let codings = if 0 < at && at < count {
            part.codings(at)
        } else {
            &[]
        };
        let coded = codings.iter().filter(|coding| coding.cost <= codec_cost);
        let coded = coded.map(|coding| Way {
            codec: coding.codec,
            bytes: coding.bytes,
            encode: coding.encode * coding.macs_per_second,
            decode: coding.decode * coding.macs_per_second,
        });
        Crossing {
            ways: raw.ways.into_iter().chain(coded).collect(),
            reach: reach(at),
        }
    };
    ChainProblem {
        segments: segments.collect(),
        boundaries: (0..=count).map(crossing).collect(),
    }
}

/// Where fragments are known to take more memory than their segments promised, and a node cannot hold
/// them, makes their arms that much larger. Says whether the problem has changed.
pub(super) fn enlarge(
    fleet: &Fleet<'_>,
    candidates: &mut [Candidate<'_>],
    placed: &[translate::Place],
) -> bool {
    let taken = translate::memory(placed);
    let mut has_changed = false;
    for (candidate, placed) in candidates.iter_mut().zip(placed) {
        let translate::Place::Here(here) = placed else {
            continue;
        };
        let is_over = here.stages.iter().flatten().any(|stage| {
            let node = fleet.nodes[stage.node];
            taken
                .get(&node.id)
                .is_some_and(|&bytes| bytes > node.memory_bytes)
        });
        if !is_over || candidate.enlarged == ENLARGED_LIMIT {
            continue;
        }
        let mut has_grown = false;
        let branches = here.stages.iter().zip(&here.plan.branches);
        for (chain, (stages, route)) in candidate.problem.chains.iter_mut().zip(branches) {
            for stage in stages {
                let hops = route.hops.iter();
                let inside = hops.filter(|hop| stage.segments.contains(&hop.segments.start));
                let found = inside.map(|hop| hop.memory_bytes).sum();
                let promised = promised(chain, &stage.segments);
                if found <= promised {
                    continue;
                }
                // Its segments and no others: what is cut elsewhere is to be judged by what it was before.
                for segment in &mut chain.segments[stage.segments.clone()] {
                    segment.weight_bytes = grown(segment.weight_bytes, found, promised);
                    segment.activation_bytes = grown(segment.activation_bytes, found, promised);
                }
                has_grown = true;
            }
        }
        if !has_grown {
            continue;
        }
        candidate.enlarged += 1;
        has_changed = true;
    }
    has_changed
}

/// Takes the place of arms that are known not to fit after all, those of the least priority first, among
/// them the last.
pub(super) fn drop_overfull(
    fleet: &Fleet<'_>,
    arms: &[Candidate<'_>],
    placed: &mut [translate::Place],
) {
    for node in &fleet.nodes {
        while let Some(&bytes) = translate::memory(placed)
            .get(&node.id)
            .filter(|&&bytes| bytes > node.memory_bytes)
        {
            let uses = |place: &translate::Place| match place {
                translate::Place::Here(here) => here.plan.nodes().contains(&node.id),
                translate::Place::Nowhere(_) => false,
            };
            let there = (0..placed.len()).rev().filter(|arm| uses(&placed[*arm]));
            let Some(last) = there.min_by_key(|arm| arms[*arm].problem.bounds.priority) else {
                break;
            };
            if let translate::Place::Here(here) = &placed[last] {
                placed[last] = translate::Place::Nowhere(format!(
                    "{} would fill {} with {bytes} bytes of measured memory, and it has {}",
                    here.plan.name, node.id, node.memory_bytes
                ));
            }
        }
    }
}

/// Bytes that a fragment of these segments takes, as the strategy counts them.
pub(super) fn promised(chain: &ChainProblem, segments: &Range<usize>) -> u64 {
    let segments = &chain.segments[segments.clone()];
    let weights = segments.iter().map(|segment| segment.weight_bytes);
    let live = segments.iter().map(|segment| segment.activation_bytes);
    weights.fold(live.max().unwrap_or(0), u64::saturating_add)
}

/// `bytes · found / promised`, rounded up.
fn grown(bytes: u64, found: u64, promised: u64) -> u64 {
    let grown = (u128::from(bytes) * u128::from(found)).div_ceil(u128::from(promised.max(1)));
    u64::try_from(grown).unwrap_or(u64::MAX)
}
