//! From a snapshot to a plan that every node holds: measure, plan, load. Nothing is switched here.
//!
//! Works on copies, away from the control loop, so that a node that is lost meanwhile is known at once.

mod ask;
mod load;
mod profile;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use splitplace_fleet::{Links, Node, NodeId, Snapshot};
use splitplace_plan::{FragmentId, Generation, ModelName, Plan};

pub(super) use self::ask::{settings, wishes};
use self::{
    ask::asked,
    load::{fragments_of, load, make_room},
    profile::profile,
};
use super::{Inner, exits::Asked, served::Served};
use crate::{
    adoption::AdoptError,
    measured::{Measured, Ran, ServiceTime},
    planning::{ArmPin, Load, PlanningInput, PlanningOutput, Step, Tries, plan, same_places},
    store::Counter,
};

/// What a roll-out starts from.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) snapshot: Snapshot,
    pub(super) models: Vec<Arc<Served>>,
    pub(super) measured: Measured,
    /// The plan whose places are kept if they are good.
    pub(super) parent: Plan,
    /// Nodes that joined since the parent was put in force: they hold nothing of it.
    pub(super) unsettled: BTreeSet<NodeId>,
    /// A plan from before a restart, to be put in force as it is if everything is still there.
    pub(super) stored: Option<Plan>,
    /// Links as they show themselves, before an operator's assumptions.
    pub(super) known_links: Links,
    /// Loads to plan for, instead of the configured ones: what an operator says, else what is seen.
    pub(super) loads: BTreeMap<ModelName, Load>,
    /// What an operator has laid down of arms.
    pub(super) places: BTreeMap<(ModelName, String), ArmPin>,
    /// Fragments that nodes hold, of which they told what they took when they were loaded.
    pub(super) told: BTreeSet<(NodeId, FragmentId)>,
}

impl Start {
    /// Whether the parent serves everything, so that there is time to try what else there may be.
    fn is_calm(&self) -> bool {
        let mut hops = self.parent.routes().flat_map(|route| &route.hops);
        let is_served = |served: &Arc<Served>| {
            let model = self.parent.models.get(&served.name);
            model.is_some_and(|model| {
                model.version == served.loaded.version() && !model.arms.is_empty()
            })
        };
        self.unsettled.is_empty()
            && self.models.iter().all(is_served)
            && hops.all(|hop| self.snapshot.is_alive(&hop.node))
    }

    /// Has the table learn from what was measured of the models that are served. Takes milliseconds where much was: for a
    /// thread that may be kept busy, before anything is planned.
    pub(super) fn learn(&mut self) {
        let models = self.models.iter();
        let described: Vec<_> = models.flat_map(|model| model.loaded.features()).collect();
        self.measured.learn(&described);
    }
}

/// Runs of a fragment on a node.
pub(super) struct Observation {
    pub(super) node: NodeId,
    pub(super) fragment: FragmentId,
    pub(super) service: Option<ServiceTime>,
    /// What its worker remembers of it, of one sample on one thread, from before a restart too.
    pub(super) kept: Option<ServiceTime>,
    pub(super) memory_bytes: Option<u64>,
}

impl Observation {
    /// Takes it in.
    pub(super) fn learn(&self, measured: &mut Measured, node: &Node) {
        if let Some(kept) = self.kept {
            measured.recall(node, self.fragment, kept);
        }
        let (service, memory_bytes) = (self.service, self.memory_bytes);
        measured.observe(node, self.fragment, Ran::Alone, service, memory_bytes);
    }
}

/// How a roll-out ended.
pub(super) enum End {
    /// Every node holds its part; the plan is in the store.
    Ready {
        plan: Plan,
        /// What its nodes were told of their exits' queues.
        exits: Asked,
        unplaced: BTreeMap<ModelName, Vec<String>>,
    },
    /// Nothing would move.
    Same {
        unplaced: BTreeMap<ModelName, Vec<String>>,
    },
    /// It did not come about.
    Failed {
        reason: String,
        refused_by: Option<NodeId>,
    },
}

/// What a roll-out comes back with, however it ended.
pub(super) struct Outcome {
    pub(super) observations: Vec<Observation>,
    pub(super) planned_in: Duration,
    /// From the plan to its last fragment loaded.
    pub(super) loaded_in: Duration,
    /// Bytes of fragments that were sent meanwhile.
    pub(super) sent_bytes: u64,
    /// Nodes that had to let go of the parent.
    pub(super) emptied: BTreeSet<NodeId>,
    pub(super) end: End,
}

/// Measures what was never measured, plans, and has the nodes load it.
#[tracing::instrument(skip_all, name = "roll_out")]
pub(super) async fn roll_out(inner: Arc<Inner>, mut start: Start) -> Outcome {
    let mut observations = profile(&inner, &mut start).await;
    let mut planned_in = Duration::ZERO;
    let mut emptied = BTreeSet::new();
    let (began, fetched) = (Instant::now(), inner.sessions.fetched_bytes());
    let ended = attempt(
        &inner,
        &mut start,
        &mut observations,
        &mut planned_in,
        &mut emptied,
    )
    .await;
    let end = match ended {
        Ok(end) => end,
        Err(Failure { reason, refused_by }) => End::Failed { reason, refused_by },
    };
    Outcome {
        observations,
        loaded_in: began.elapsed().saturating_sub(planned_in),
        planned_in,
        sent_bytes: inner.sessions.fetched_bytes().saturating_sub(fetched),
        emptied,
        end,
    }
}

struct Failure {
    reason: String,
    refused_by: Option<NodeId>,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self {
            reason,
            refused_by: None,
        }
    }
}

impl From<AdoptError> for Failure {
    fn from(error: AdoptError) -> Self {
        Self {
            reason: error.to_string(),
            refused_by: error.is_refusal.then_some(error.node),
        }
    }
}

/// Plans and has nodes load it, which measures what never ran there, and plans again with that: what is put in force was
/// measured, and is not undone for that in the next second.
async fn attempt(
    inner: &Arc<Inner>,
    start: &mut Start,
    observations: &mut Vec<Observation>,
    planned_in: &mut Duration,
    emptied: &mut BTreeSet<NodeId>,
) -> Result<End, Failure> {
    if let Some(stored) = &start.stored.clone() {
        match fragments_of(stored, start) {
            Ok(fragments) => {
                load(inner, start, stored, fragments, observations).await?;
                return Ok(End::Ready {
                    exits: asked(inner, start, stored),
                    plan: stored.clone(),
                    unplaced: BTreeMap::new(),
                });
            }
            Err(why) => {
                tracing::info!(
                    generation = stored.generation.0,
                    why,
                    "the plan from before the restart cannot be put back; planning anew"
                );
            }
        }
    }
    let mut tries = Tries::new(start.is_calm());
    loop {
        let (expected, took) = planned(inner, start, Outlook::Expected).await?;
        *planned_in += took;
        let PlanningOutput { unplaced, .. } = &expected;
        let same = End::Same {
            unplaced: unplaced.clone(),
        };
        let output = match tries.next(&expected.plan, stays(inner, start, &expected.plan)) {
            Step::Stay => return Ok(same),
            Step::Adopt(generation) => return ready(inner, start, expected, generation).await,
            Step::Load => expected,
            Step::Hope => {
                let (hoped, took) = planned(inner, start, Outlook::Hoped).await?;
                *planned_in += took;
                // Nobody is asked to make room for what is only tried.
                if stays(inner, start, &hoped.plan) || !hoped.crowded.is_empty() {
                    return Ok(same);
                }
                tracing::info!(
                    why = hoped.plan.explanation,
                    "little is known of another plan; it is tried"
                );
                hoped
            }
        };
        let is_forced = !output.crowded.is_empty();
        if is_forced {
            emptied.extend(output.crowded.keys().cloned());
            make_room(inner, start, emptied);
        }
        let held = output.fragments.clone();
        match load(inner, start, &output.plan, held, observations).await {
            Ok(has_news) => {
                if tries.loaded(&output.plan, has_news && !is_forced) {
                    let generation = output.plan.generation;
                    return ready(inner, start, output, generation).await;
                }
            }
            Err(Failure { reason, .. }) if tries.is_well_without() => {
                tracing::info!(reason, "what was tried cannot be had; everything stays");
                return Ok(same);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether a plan changes nothing of what every node of it holds.
fn stays(inner: &Inner, start: &Start, plan: &Plan) -> bool {
    let mut hops = plan.routes().flat_map(|route| &route.hops);
    same_places(&start.parent, plan)
        && !hops.any(|hop| start.unsettled.contains(&hop.node))
        && asked(inner, start, plan) == inner.steering.in_force()
}

/// What a plan is made from.
#[derive(Clone, Copy)]
enum Outlook {
    /// What is known.
    Expected,
    /// The same, with hope for what is hardly known.
    Hoped,
}

/// The next plan, and how long it took. What was measured is learnt from on the way.
async fn planned(
    inner: &Arc<Inner>,
    start: &mut Start,
    outlook: Outlook,
) -> Result<(PlanningOutput, Duration), String> {
    let began = Instant::now();
    let store = Arc::clone(&inner.store);
    let (settings, wishes) = (settings(inner), wishes(inner, start));
    let (mut start_now, inner) = (start.clone(), Arc::clone(inner));
    let work = move || -> Result<(PlanningOutput, Measured), String> {
        let hopeful = match outlook {
            Outlook::Expected => {
                start_now.learn();
                None
            }
            // Nothing was measured since what is expected was planned.
            Outlook::Hoped => Some(start_now.measured.clone().hopeful()),
        };
        let numbers = store
            .reserve(Counter::Generation, 1)
            .map_err(|e| e.to_string())?;
        let input = PlanningInput {
            parent: &start_now.parent,
            generation: Generation(numbers.start.max(start_now.parent.generation.0 + 1)),
            snapshot: &start_now.snapshot,
            wishes: &wishes,
            measured: hopeful.as_ref().unwrap_or(&start_now.measured),
            strategy: inner.strategy.as_ref(),
            settings,
            seed: inner.seed,
        };
        let output = plan(&input).map_err(|error| error.to_string())?;
        Ok((output, start_now.measured))
    };
    let (output, learnt) = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())??;
    start.measured = learnt;
    Ok((output, began.elapsed()))
}

/// A plan that every node holds under this number.
async fn ready(
    inner: &Arc<Inner>,
    start: &Start,
    output: PlanningOutput,
    generation: Generation,
) -> Result<End, Failure> {
    let plan = Plan {
        generation,
        ..output.plan
    };
    let (store, kept) = (Arc::clone(&inner.store), plan.clone());
    let kept = tokio::task::spawn_blocking(move || store.put_plan(&kept)).await;
    kept.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    Ok(End::Ready {
        exits: asked(inner, start, &plan),
        plan,
        unplaced: output.unplaced,
    })
}
