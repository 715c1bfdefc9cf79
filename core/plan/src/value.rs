//! The plan as a value.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use splitplace_codec::Codec;
use splitplace_fleet::{NodeId, Place};

/// The name of a served model. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// Names a model.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ModelName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The content of a fragment: the SHA-256 of its ONNX bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentId(pub [u8; 32]);

impl FragmentId {
    /// The id whose bytes these are, when there are 32 of them.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The whole hash in hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for FragmentId {
    /// The first six bytes: enough to tell fragments apart in a table or a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FragmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fragment {self}")
    }
}

/// The number of a plan. Later plans have larger numbers; workers refuse to go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A route's number within its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

/// How an arm runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArmKind {
    /// One fragment on one node.
    Whole,
    /// Fragments one after another: a layer-wise split.
    Chain,
    /// Branches side by side over groups of classes: a semantic split.
    Semantic,
    /// A chain whose early exits may answer before its end.
    Exits,
    /// A smaller network that answers in the place of the exact one, in one piece or several.
    Compressed,
}

impl ArmKind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 5] = [
        Self::Whole,
        Self::Chain,
        Self::Semantic,
        Self::Exits,
        Self::Compressed,
    ];

    /// The word for it in answers, tables and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Chain => "chain",
            Self::Semantic => "semantic",
            Self::Exits => "exits",
            Self::Compressed => "compressed",
        }
    }

    /// The kind that the word names.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// Whether it gives exactly what the uncut network gives.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        matches!(self, Self::Whole | Self::Chain)
    }
}

/// When a head on the way answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitRule {
    /// Counted from 1 along the network, whether or not those before it may answer.
    pub number: u32,
    /// The exit's name in the package.
    pub name: String,
    /// The tensor of scores that its fragment makes beside its other outputs.
    pub output: String,
    /// It answers when the largest softmax of every sample's scores is at least this.
    pub threshold: f32,
}

/// One step of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// Where it runs.
    pub node: NodeId,
    /// What runs.
    pub fragment: FragmentId,
    /// Which segments of the variant's chain the fragment covers; `0..1` when it was not cut.
    pub segments: Range<usize>,
    /// Bytes that the fragment is expected to take on the node.
    pub memory_bytes: u64,
    /// Expected service time of one sample on the node.
    pub service: Duration,
    /// Bytes of one sample that arrive over the link before this hop, as they are coded there.
    pub bytes_in: u64,
    /// Names of the tensors handed on: made here, or passed through for a later hop.
    pub forward: Vec<String>,
    /// Expected share of requests that get here; below 1 behind an exit.
    pub reach: f64,
    /// How what is handed on crosses the link behind this hop.
    pub codec: Codec,
    /// Expected time to code one sample before the link to this hop and to decode it here.
    pub coding: Duration,
    /// Exits of this hop's fragment that may answer.
    pub exits: Vec<ExitRule>,
}

impl Hop {
    /// A fragment on a node, with nothing known of what it costs; every request gets there, nothing is
    /// coded.
    #[must_use]
    pub fn new(node: NodeId, fragment: FragmentId, segments: Range<usize>) -> Self {
        Self {
            node,
            fragment,
            segments,
            memory_bytes: 0,
            service: Duration::ZERO,
            bytes_in: 0,
            forward: Vec::new(),
            reach: 1.0,
            codec: Codec::RAW,
            coding: Duration::ZERO,
            exits: Vec::new(),
        }
    }
}

/// The way of one branch, from the centre through its hops and back.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its number.
    pub id: RouteId,
    /// At least one.
    pub hops: Vec<Hop>,
    /// Bytes of one sample that the last hop sends back to the centre.
    pub bytes_out: u64,
}

impl Route {
    /// The links that it goes over, from the centre through its hops and back, where it leaves a place: from where, to
    /// where, bytes of one sample, expected share of requests that get there.
    pub fn legs(&self) -> impl Iterator<Item = (Place, Place, u64, f64)> {
        let mut from = Place::Center;
        let into = self
            .hops
            .iter()
            .map(|hop| (Place::from(&hop.node), hop.bytes_in, hop.reach));
        let last = self.hops.last();
        let back = last.map(|hop| (Place::Center, self.bytes_out, hop.reach));
        let legs = into.chain(back).map(move |(to, bytes, reach)| {
            let from = std::mem::replace(&mut from, to.clone());
            (from, to, bytes, reach)
        });
        legs.filter(|(from, to, ..)| from != to)
    }
}

/// One way to answer a request.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmPlan {
    /// Unique within the model: `base/chain`, `semantic`.
    pub name: String,
    /// The variant in the package.
    pub variant: String,
    /// How it runs.
    pub kind: ArmKind,
    /// Validated share of correct answers, when the package says.
    pub accuracy: Option<f64>,
    /// Expected response of one sample in an idle system.
    pub predicted: Duration,
    /// One for whole and chain; one for each class group of a semantic variant, in its order.
    pub branches: Vec<Route>,
}

impl ArmPlan {
    /// Every node that has a part in this arm, each once.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<&NodeId> {
        self.branches
            .iter()
            .flat_map(|route| &route.hops)
            .map(|hop| &hop.node)
            .collect()
    }

    /// Share of right answers to expect of an answer that `missing` of its branches had no part in: the classes
    /// of a missing branch are taken for wrong, and for as many as those of any other. `unknown` stands for an
    /// accuracy that was never validated.
    #[must_use]
    pub fn accuracy_without(&self, missing: usize, unknown: f64) -> f64 {
        let branches = self.branches.len().max(1);
        let there = branches.saturating_sub(missing);
        self.accuracy.unwrap_or(unknown) * there as f64 / branches as f64
    }
}

/// The arms of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    /// The package's version.
    pub version: String,
    /// The arms that may answer; none when nothing fits.
    pub arms: Vec<ArmPlan>,
}

/// Everything that runs, under one number.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Plan {
    /// Its number.
    pub generation: Generation,
    /// The plan that it was made from.
    pub parent: Option<Generation>,
    /// The served models.
    pub models: BTreeMap<ModelName, ModelPlan>,
    /// Why it is what it is, in a sentence or two for an operator.
    pub explanation: String,
}

impl Plan {
    /// Every route of the plan.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.models
            .values()
            .flat_map(|model| &model.arms)
            .flat_map(|arm| &arm.branches)
    }

    /// The fragments that `node` holds under this plan, each once.
    #[must_use]
    pub fn fragments_on(&self, node: &NodeId) -> BTreeSet<FragmentId> {
        self.routes()
            .flat_map(|route| &route.hops)
            .filter(|hop| hop.node == *node)
            .map(|hop| hop.fragment)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_missing_branch_takes_its_classes_along() {
        let route = |number| Route {
            id: RouteId(number),
            hops: Vec::new(),
            bytes_out: 0,
        };
        let mut arm = ArmPlan {
            name: "semantic".into(),
            variant: "semantic".into(),
            kind: ArmKind::Semantic,
            accuracy: Some(0.8),
            predicted: Duration::ZERO,
            branches: (0..4).map(route).collect(),
        };
        let share = |arm: &ArmPlan, missing| arm.accuracy_without(missing, 0.5);
        assert!((share(&arm, 0) - 0.8).abs() < 1e-12);
        assert!((share(&arm, 1) - 0.6).abs() < 1e-12);
        assert!(share(&arm, 9).abs() < 1e-12);
        arm.accuracy = None;
        assert!((share(&arm, 2) - 0.25).abs() < 1e-12);
    }
}
