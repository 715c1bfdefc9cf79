//! From a fleet, loaded models and measurements to the next plan.
//!
//! [`plan`] is a function of values: it asks no clock and draws nothing but from its seed. It
//!
//! 1. lists the arms that each model could have (`candidates`): every whole variant in one piece, as a
//!    chain, and with its early exits; every semantic variant in its branches; every compressed one in as
//!    many pieces as are best. How tensors are coded on each link is part of a place;
//! 2. writes them as one dense problem and lets a [`Strategy`] solve it (`solve`);
//! 3. where every arm of a model needs the same node, moves one arm off it if that costs no more than
//!    [`PlanningSettings::resilience`] allows (`spread`): losing one node then leaves an arm that
//!    answers while the next plan is made. Beyond that, disjointness is a tie-break: the problem counts
//!    a node that another arm uses a little slower;
//! 4. keeps each arm where the parent has it unless its new place is better by
//!    [`PlanningSettings::inertia`] (`keep`): moving costs loading, and measurements are noisy. New fragments are loaded while the
//!    parent's still run, so places are sought beside those first;
//! 5. cuts, numbers the routes, says why (`explain`), and has the result judged by the linter, which
//!    shares nothing with the strategy. A plan with findings is not handed out.

mod candidates;
mod explain;
mod keep;
mod solve;
mod spread;
mod translate;
mod tries;
mod why;

pub use self::{
    candidates::{arms_of, is_cut},
    tries::{Step, Tries, same_places},
    why::{Alternative, Switch, Why, why},
};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use splitplace_fleet::{NodeId, Snapshot};
use splitplace_onnx::Fragment;
use splitplace_plan::{
    ArmKind, ArmProblem, FragmentId, Generation, ModelName, ModelPlan, Plan, Problem, RouteId,
    Strategy,
    lint::{Finding, lint},
};

use crate::{
    catalog::{CatalogError, Loaded},
    measured::Measured,
    wishes::Wishes,
};

/// What may be chosen about planning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanningSettings {
    /// Most fragments of a chain.
    pub max_parts: usize,
    /// How much slower a node counts that another arm uses already, as a share.
    pub spread: f64,
    /// How many times its least latency an arm may take so that the loss of one node leaves an arm. At
    /// half as long again an arm still serves; much slower, it would be a bad answer all the time to a
    /// loss that a new plan mends within a second.
    pub resilience: f64,
    /// Most accuracy, as a share of answers, that coding tensors on one link may cost.
    pub codec_cost: f64,
    /// Share of its latency by which an arm must get faster before it is moved.
    pub inertia: f64,
    /// Requests that may wait for a fragment on its node.
    pub places: usize,
    /// Share of the requests that may find no room on an arm's way, where a model's own wish says nothing.
    pub loss_target: f64,
    /// Time by which it must get faster as well: what is measured is not known better.
    pub least_gain: Duration,
}

impl Default for PlanningSettings {
    fn default() -> Self {
        Self {
            max_parts: 4,
            spread: 0.05,
            resilience: 1.5,
            codec_cost: 0.002,
            inertia: 0.1,
            places: Problem::PLACES,
            loss_target: Problem::LOSS,
            least_gain: Duration::ZERO,
        }
    }
}

/// A model that should be served, and how.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The model.
    pub loaded: Arc<Loaded>,
    /// Kinds of arms that may be planned.
    pub arms: BTreeSet<ArmKind>,
    /// What the operator asks for beyond that.
    pub asked: Wishes,
    /// What each arm should be able to carry.
    pub load: Load,
    /// Variants whose exits are controlled: each of them may answer, whatever its threshold.
    pub controlled: BTreeSet<String>,
    /// What an operator has laid down of arms, by name.
    pub pins: BTreeMap<String, ArmPin>,
    /// How its input comes; `None` before anything came.
    pub input: Option<Incoming>,
}

/// What comes for a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests a second; 0 plans for an idle system.
    pub rate_per_second: f64,
    /// How many times that is planned for: a rate that was seen is a mean, and the plan has to last.
    pub headroom: f64,
    /// Squared coefficient of variation of the gaps between them.
    pub gaps_scv: f64,
}

impl Load {
    /// Poisson arrivals at a rate that needs no headroom, because somebody says so.
    #[must_use]
    pub const fn of(rate_per_second: f64) -> Self {
        Self {
            rate_per_second,
            headroom: 1.0,
            gaps_scv: 1.0,
        }
    }
}

/// How clients send a model's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incoming {
    /// Mean bytes of one sample on the way to the first node: less than the tensor has where it is a picture's file.
    pub bytes: u64,
    /// Share of the samples that come as pictures' files.
    pub pictures: f64,
    /// Multiply-accumulates in whose time a node makes the tensor of one sample.
    pub decode_macs: f64,
}

/// What an operator has laid down of an arm, beyond what is asked for of its model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmPin {
    /// Segments before each cut, and no other cuts; of an empty set the arm is in one piece.
    pub cuts: Option<BTreeSet<usize>>,
    /// Nodes of fragments, by number from 0.
    pub nodes: BTreeMap<usize, NodeId>,
}

impl Wish {
    /// Every kind of arm, in an idle system.
    #[must_use]
    pub fn new(loaded: Arc<Loaded>) -> Self {
        Self {
            loaded,
            arms: BTreeSet::from(ArmKind::ALL),
            asked: Wishes::default(),
            load: Load::of(0.0),
            controlled: BTreeSet::new(),
            pins: BTreeMap::new(),
            input: None,
        }
    }
}

/// Everything that a plan depends on.
#[derive(Clone, Copy)]
pub struct PlanningInput<'a> {
    /// The plan in force.
    pub parent: &'a Plan,
    /// The new plan's number, above the parent's.
    pub generation: Generation,
    /// The fleet.
    pub snapshot: &'a Snapshot,
    /// The models, each once.
    pub wishes: &'a [Wish],
    /// What fragments took.
    pub measured: &'a Measured,
    /// Who places.
    pub strategy: &'a dyn Strategy,
    /// What may be chosen.
    pub settings: PlanningSettings,
    /// Of the strategy's choices.
    pub seed: u64,
}

/// A plan, and what is needed to carry it out.
#[derive(Clone, Debug)]
pub struct PlanningOutput {
    /// The plan; free of findings.
    pub plan: Plan,
    /// Every fragment that it names.
    pub fragments: BTreeMap<FragmentId, Arc<Fragment>>,
    /// Why arms are missing, by model, with the arithmetic.
    pub unplaced: BTreeMap<ModelName, Vec<String>>,
    /// Nodes that cannot hold this plan and its parent at once, with the bytes that both together need
    /// and the bytes that are there: they have to let go of the parent first. Empty whenever the same
    /// arms can be placed without.
    pub crowded: BTreeMap<NodeId, (u64, u64)>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// A fragment cannot be cut.
    #[error("cannot cut a fragment of {model}: {source}")]
    Cut {
        /// The model.
        model: ModelName,
        /// What is wrong with it.
        source: CatalogError,
    },
    /// The plan that came out cannot be carried out; the one in force stays.
    #[error("the plan made by strategy {strategy} is unsound: {}", told(.findings))]
    Unsound {
        /// Who placed.
        strategy: &'static str,
        /// What the linter found.
        findings: Vec<Finding>,
    },
    /// The strategy's answer does not fit the question.
    #[error(
        "strategy {strategy} answered for {answered} of {asked} arms, or with impossible stages"
    )]
    Nonsense {
        /// Who placed.
        strategy: &'static str,
        /// Arms asked for.
        asked: usize,
        /// Arms answered for.
        answered: usize,
    },
}

fn told(findings: &[Finding]) -> String {
    let told: Vec<_> = findings.iter().map(ToString::to_string).collect();
    told.join("; ")
}

/// Makes the next plan. The same input gives the same output.
///
/// Costs what the strategy costs, a few times over for one arm each, and cutting for fragments that
/// were never cut before.
///
/// # Errors
/// [`PlanningError`]; the plan in force should stay then.
pub fn plan(input: &PlanningInput<'_>) -> Result<PlanningOutput, PlanningError> {
    let fleet = candidates::Fleet::of(input.snapshot, input.measured);
    let (mut arms, mut unplaced) = candidates::list(input, &fleet);
    let mut placed = place(input, &fleet, &mut arms)?;
    if !translate::crowded(input.parent, &placed, &fleet).is_empty() {
        // Beside everything that the parent holds; taken if no arm loses its place by that.
        let taken = translate::parent_memory(input.parent);
        let beside = candidates::Fleet::of(input.snapshot, input.measured).beside(&taken);
        let (mut others, _) = candidates::list(input, &beside);
        let other = place(input, &beside, &mut others)?;
        if count(&other) == count(&placed) {
            (arms, placed) = (others, other);
        }
    }
    let (placed, is_kept) = keep::keep_or_move(input, &fleet, &arms, placed)?;
    let crowded = translate::crowded(input.parent, &placed, &fleet);
    for (arm, placed) in arms.iter().zip(&placed) {
        if let translate::Place::Nowhere(why) = placed {
            unplaced
                .entry(arm.model().clone())
                .or_default()
                .push(why.clone());
        }
    }
    let explanation = explain::explain(input, &fleet, &arms, &placed, &unplaced, &crowded, is_kept);
    let mut plan = Plan {
        generation: input.generation,
        parent: Some(input.parent.generation),
        models: input
            .wishes
            .iter()
            .map(|wish| {
                let model = ModelPlan {
                    version: wish.loaded.version().to_owned(),
                    arms: Vec::new(),
                };
                (wish.loaded.name().clone(), model)
            })
            .collect(),
        explanation,
    };
    let mut fragments = BTreeMap::new();
    for (arm, placed) in arms.iter().zip(placed) {
        if let translate::Place::Here(here) = placed {
            fragments.extend(here.fragments);
            if let Some(model) = plan.models.get_mut(arm.model()) {
                model.arms.push(here.plan);
            }
        }
    }
    let routes = plan.models.values_mut().flat_map(|model| &mut model.arms);
    let routes = routes.flat_map(|arm| &mut arm.branches);
    for (number, route) in (0..).zip(routes) {
        route.id = RouteId(number);
    }
    let findings = lint(&plan, input.snapshot);
    if !findings.is_empty() {
        return Err(PlanningError::Unsound {
            strategy: input.strategy.name(),
            findings,
        });
    }
    Ok(PlanningOutput {
        plan,
        fragments,
        unplaced,
        crowded,
    })
}

/// An arm that could be, with what it would cost on each node that is alive, by name.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Whose.
    pub model: ModelName,
    /// The variant that it runs.
    pub variant: String,
    /// Validated share of correct answers.
    pub accuracy: Option<f64>,
    /// As a strategy sees it.
    pub problem: ArmProblem,
}

/// Every arm that could be, in the order in which places are sought for them.
#[must_use]
pub fn candidates(input: &PlanningInput<'_>) -> Vec<Candidate> {
    let fleet = candidates::Fleet::of(input.snapshot, input.measured);
    let (arms, _) = candidates::list(input, &fleet);
    let told = arms.iter().map(|arm| Candidate {
        model: arm.model().clone(),
        variant: arm.variant().name.clone(),
        accuracy: candidates::accuracy(arm.variant(), arm.problem.kind),
        problem: arm.problem.clone(),
    });
    told.collect()
}

/// Places every arm, as far as memory allows.
fn place(
    input: &PlanningInput<'_>,
    fleet: &candidates::Fleet<'_>,
    arms: &mut [candidates::Candidate<'_>],
) -> Result<Vec<translate::Place>, PlanningError> {
    let mut placed = loop {
        let mut solved = solve::solve(input, fleet, arms)?;
        spread::spread(input, fleet, arms, &mut solved);
        let placed = translate::all(input, fleet, arms, &solved)?;
        // Fragments that are known to take more than their segments promised count that much from now
        // on. Each round makes at least one arm larger and none smaller, and the rounds are bounded.
        if !candidates::enlarge(fleet, arms, &placed) {
            break placed;
        }
    };
    candidates::drop_overfull(fleet, arms, &mut placed);
    Ok(placed)
}

fn count(placed: &[translate::Place]) -> usize {
    let here = placed.iter();
    here.filter(|place| matches!(place, translate::Place::Here(_)))
        .count()
}

#[cfg(test)]
mod tests;
