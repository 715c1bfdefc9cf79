//! From a snapshot to a plan that every node holds: measure, plan, load. Nothing is switched here.
//!
//! Works on copies, away from the control loop, so that a node that is lost meanwhile is known at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use splitplace_fleet::{Links, Node, NodeId, Snapshot};
use splitplace_onnx::Fragment;
use splitplace_plan::{ArmKind, FragmentId, Generation, ModelName, Plan, diff};
use splitplace_proto::control::{FragmentSpec, FragmentStatus, Profile, Retire, center_message};

use super::{
    Inner,
    exits::{self, Asked},
    served::Served,
};
use crate::{
    adoption::{self, AdoptError, FragmentFacts},
    catalog::profile_plan,
    measured::{Measured, Ran, ServiceTime},
    planning::{
        ArmPin, Incoming, PlanningInput, PlanningOutput, PlanningSettings, Wish, is_cut, plan,
    },
    store::Counter,
    wishes::THRESHOLDS,
};

/// How many times the runs at loading a worker has to remember for the rest to be requests, near enough.
const KEPT: u64 = 4;
/// Times of less are not known well enough to move an arm for them.
const LEAST_GAIN: Duration = Duration::from_millis(1);

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
    /// Requests a second to plan for, instead of the configured ones: what an operator says, else what is seen, and
    /// how many times that.
    pub(super) rates: BTreeMap<ModelName, (f64, f64)>,
    /// What an operator has laid down of arms.
    pub(super) places: BTreeMap<(ModelName, String), ArmPin>,
}

impl Start {
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

type Held = BTreeMap<FragmentId, Arc<Fragment>>;

/// Measures what was never measured, plans, and has the nodes load it.
#[tracing::instrument(skip_all, name = "roll_out")]
pub(super) async fn roll_out(inner: Arc<Inner>, mut start: Start) -> Outcome {
    let mut observations = profile(&inner, &mut start).await;
    let mut planned_in = Duration::ZERO;
    let mut emptied = BTreeSet::new();
    let (began, fetched) = (Instant::now(), inner.sessions.fetched_bytes());
    let ended = attempt(
        &inner,
        &start,
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

async fn attempt(
    inner: &Arc<Inner>,
    start: &Start,
    observations: &mut Vec<Observation>,
    planned_in: &mut Duration,
    emptied: &mut BTreeSet<NodeId>,
) -> Result<End, Failure> {
    if let Some(stored) = &start.stored {
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
    let began = Instant::now();
    let output = {
        let store = Arc::clone(&inner.store);
        let (settings, wishes) = (settings(inner), wishes(inner, start));
        let (mut start, inner) = (start.clone(), Arc::clone(inner));
        let work = move || -> Result<PlanningOutput, String> {
            start.learn();
            let numbers = store
                .reserve(Counter::Generation, 1)
                .map_err(|e| e.to_string())?;
            let input = PlanningInput {
                parent: &start.parent,
                generation: Generation(numbers.start.max(start.parent.generation.0 + 1)),
                snapshot: &start.snapshot,
                wishes: &wishes,
                measured: &start.measured,
                strategy: inner.strategy.as_ref(),
                settings,
                seed: inner.seed,
            };
            plan(&input).map_err(|error| error.to_string())
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| error.to_string())??
    };
    *planned_in = began.elapsed();
    let touches_unsettled = output
        .plan
        .routes()
        .flat_map(|r| &r.hops)
        .any(|hop| start.unsettled.contains(&hop.node));
    let exits = asked(inner, start, &output.plan);
    let is_same = same_places(&start.parent, &output.plan) && exits == inner.steering.in_force();
    if !touches_unsettled && is_same {
        return Ok(End::Same {
            unplaced: output.unplaced,
        });
    }
    if !output.crowded.is_empty() {
        emptied.extend(output.crowded.keys().cloned());
        make_room(inner, start, emptied);
    }
    load(inner, start, &output.plan, output.fragments, observations).await?;
    let (store, plan) = (Arc::clone(&inner.store), output.plan.clone());
    let kept = tokio::task::spawn_blocking(move || store.put_plan(&plan)).await;
    kept.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    Ok(End::Ready {
        plan: output.plan,
        exits,
        unplaced: output.unplaced,
    })
}

/// What is asked for at the exits of a plan's arms.
fn asked(inner: &Inner, start: &Start, plan: &Plan) -> Asked {
    let models = start.models.iter();
    let models = models.map(|served| (served.name.clone(), Arc::clone(served)));
    exits::asked(plan, &models.collect(), &inner.config.exits)
}

/// What may be chosen about planning.
pub(super) fn settings(inner: &Inner) -> PlanningSettings {
    PlanningSettings {
        max_parts: inner.config.planning.max_parts,
        codec_cost: if inner.config.planning.codecs {
            inner.config.planning.codec_cost
        } else {
            f64::NEG_INFINITY
        },
        places: inner.config.workers.queue_limit as usize,
        loss_target: inner
            .config
            .exits
            .loss_target
            .unwrap_or(PlanningSettings::default().loss_target),
        least_gain: LEAST_GAIN,
        ..PlanningSettings::default()
    }
}

/// What is to be served, and how much of it.
pub(super) fn wishes(inner: &Inner, start: &Start) -> Vec<Wish> {
    let arms = arms(&inner.config.planning.arms);
    let configured = (inner.config.planning.rate_per_second, 1.0);
    let rate = |served: &Served| start.rates.get(&served.name).copied().unwrap_or(configured);
    let wish = |served: &Arc<Served>| Wish {
        arms: arms.clone(),
        rate_per_second: rate(served).0,
        headroom: rate(served).1,
        controlled: controlled(&inner.config.exits, served),
        asked: served.wishes.clone(),
        pins: start
            .places
            .iter()
            .filter(|((model, _), _)| *model == served.name)
            .map(|((_, arm), pin)| (arm.clone(), pin.clone()))
            .collect(),
        input: incoming(inner, start, served),
        ..Wish::new(Arc::clone(&served.loaded))
    };
    start.models.iter().map(wish).collect()
}

/// How clients send a model's input, as far as it was seen. What a picture takes to decode is what the first node of the
/// plan in force spends beside computing on what comes.
fn incoming(inner: &Inner, start: &Start, served: &Served) -> Option<Incoming> {
    let seen = served.demand.lock().seen(inner.clock.now())?;
    let arms = start
        .parent
        .models
        .get(&served.name)
        .map_or(&[][..], |m| &m.arms);
    let first = arms.iter().flat_map(|arm| &arm.branches);
    let codings = inner.codings.lock();
    let decode = first.filter_map(|route| {
        let hop = route.hops.first()?;
        let speed = start.snapshot.nodes.get(&hop.node)?.macs_per_second;
        let seconds = codings.of(&hop.node, hop.fragment)?.as_secs_f64();
        Some(seconds * speed)
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of a sample, which came in a message"
    )]
    Some(Incoming {
        bytes: seen.bytes.ceil() as u64,
        pictures: seen.pictures,
        decode_macs: if seen.pictures > 0.0 {
            decode.min_by(f64::total_cmp).unwrap_or(0.0)
        } else {
            0.0
        },
    })
}

/// Has the nodes that hold too much let go of the parent first. The arms that need them are not chosen
/// any more; what is on its way through them is answered as stale there, and tried again elsewhere.
fn make_room(inner: &Inner, start: &Start, crowded: &BTreeSet<NodeId>) {
    inner.flow.lock().brain.suspend(crowded.clone());
    for node in crowded {
        let below_generation = start.parent.generation.0.saturating_add(1);
        let retire = center_message::Kind::Retire(Retire { below_generation });
        // A node that is gone holds nothing.
        let _ = inner.sessions.send(node, retire);
    }
}

/// The variants of a model whose exits are controlled.
fn controlled(config: &crate::config::Exits, served: &Served) -> BTreeSet<String> {
    let variants = served.loaded.variants().iter();
    let names = variants.map(|variant| variant.name.clone());
    names
        .filter(|name| exits::chosen(config, served, name).0 != THRESHOLDS)
        .collect()
}

/// Has every node load its part of a plan.
#[tracing::instrument(skip_all, name = "load")]
async fn load(
    inner: &Arc<Inner>,
    start: &Start,
    plan: &Plan,
    fragments: Held,
    observations: &mut Vec<Observation>,
) -> Result<(), Failure> {
    let facts: BTreeMap<FragmentId, FragmentFacts> = plan
        .models
        .iter()
        .flat_map(|(model, planned)| planned.arms.iter().map(move |arm| (model, arm)))
        .flat_map(|(model, arm)| {
            arm.branches
                .iter()
                .flat_map(|r| &r.hops)
                .map(move |h| (model, arm, h))
        })
        .map(|(model, arm, hop)| {
            let label = format!(
                "{model}/{}/{}-{}",
                arm.variant, hop.segments.start, hop.segments.end
            );
            let size_bytes = fragments
                .get(&hop.fragment)
                .map_or(0, |f| f.onnx.len() as u64);
            (hop.fragment, FragmentFacts { label, size_bytes })
        })
        .collect();
    inner.fragments.held.write().extend(fragments);
    let interfaces = start.models.iter();
    let interfaces = interfaces.map(|served| (served.name.clone(), served.interface()));
    let shapes = inner.shapes.read().clone();
    let in_force = inner.flow.lock().brain.generation();
    let assignments = adoption::assignments(
        plan,
        in_force,
        &facts,
        &interfaces.collect(),
        &inner.sessions.addresses(),
        shapes.as_ref(),
        &|model, arm| {
            let is_controlled = arm.kind == ArmKind::Exits
                && start.models.iter().any(|served| {
                    served.name == *model
                        && exits::chosen(&inner.config.exits, served, &arm.variant).0 != THRESHOLDS
                });
            let limit = inner.config.workers.queue_limit;
            // One of the places is in service.
            let waiting = inner.config.exits.places.saturating_sub(1).max(1);
            if is_controlled {
                limit.min(waiting)
            } else {
                limit
            }
        },
    );
    let adopted = adoption::adopt(&inner.sessions, assignments, inner.load_timeout()).await;
    let (loaded, failed) = match adopted {
        Ok(loaded) => (loaded, None),
        Err(mut error) => (std::mem::take(&mut error.measured), Some(error)),
    };
    for (node, statuses) in loaded {
        inner.profiled(&node, &statuses);
        observations.extend(
            statuses
                .iter()
                .filter_map(|status| observation(&node, status)),
        );
    }
    match failed {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

/// Runs every segment of models that were never measured, one after another, on the fastest node.
#[tracing::instrument(skip_all, name = "measure")]
async fn profile(inner: &Arc<Inner>, start: &mut Start) -> Vec<Observation> {
    let runs = inner.config.planning.profile_runs;
    let mut observations = Vec::new();
    let fastest = start
        .snapshot
        .alive()
        .max_by(|a, b| a.macs_per_second.total_cmp(&b.macs_per_second))
        .cloned();
    let (Some(node), true) = (fastest, runs > 0) else {
        return observations;
    };
    for (number, served) in (1u64..).zip(&start.models) {
        let (loaded, measured) = (Arc::clone(&served.loaded), start.measured.clone());
        let work = move || profile_plan(&loaded, &measured);
        let wanted = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(wanted)) if !wanted.is_empty() => wanted,
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => {
                tracing::warn!(code = "SP403", model = %served.name, %error, "cannot be measured; estimates are computed");
                continue;
            }
            Err(error) => {
                tracing::warn!(code = "SP403", model = %served.name, %error, "cannot be measured; estimates are computed");
                continue;
            }
        };
        let specs = wanted.iter().map(|profiled| FragmentSpec {
            id: profiled.fragment.id.0.to_vec().into(),
            label: profiled.label.clone(),
            size_bytes: profiled.fragment.onnx.len() as u64,
            queue_limit: 1,
            threads: 1,
        });
        let request = Profile {
            id: number,
            fragments: specs.collect(),
            runs,
        };
        let lent: Vec<FragmentId> = wanted.iter().map(|p| p.fragment.id).collect();
        {
            let mut held = inner.fragments.held.write();
            held.extend(wanted.into_iter().map(|p| (p.fragment.id, p.fragment)));
        }
        let answer = match inner.sessions.profile(&node.id, request) {
            Ok(answer) => tokio::time::timeout(inner.load_timeout(), answer).await,
            Err(_) => break,
        };
        match answer {
            Ok(Ok(Ok(statuses))) => {
                inner.profiled(&node.id, &statuses);
                for observed in statuses
                    .iter()
                    .filter_map(|status| observation(&node.id, status))
                {
                    observed.learn(&mut start.measured, &node);
                    observations.push(observed);
                }
            }
            Ok(Ok(Err(refused))) => {
                let reason = refused.reason;
                tracing::warn!(code = "SP403", model = %served.name, node = %node.id, reason, "could not be measured");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(code = "SP403", model = %served.name, node = %node.id, "measuring did not end");
            }
        }
        let in_force: BTreeSet<FragmentId> = start
            .parent
            .routes()
            .flat_map(|r| &r.hops)
            .map(|h| h.fragment)
            .collect();
        let mut held = inner.fragments.held.write();
        for id in lent {
            if !in_force.contains(&id) {
                held.remove(&id);
            }
        }
    }
    observations
}

pub(super) fn observation(node: &NodeId, status: &FragmentStatus) -> Option<Observation> {
    let fragment = FragmentId::from_slice(&status.id)?;
    let service = status.service.as_ref().and_then(ServiceTime::told);
    let memory_bytes = (status.memory_bytes > 0).then_some(status.memory_bytes);
    let mut points = status.profile.iter();
    let one = points.find(|point| (point.batch, point.threads) == (1, 1));
    // The runs by which it was measured just now are among them, and are no requests.
    let fresh = status.service.as_ref().map_or(0, |fresh| fresh.count);
    let kept = one.and_then(|point| point.service.as_ref());
    let kept = kept.filter(|kept| KEPT * fresh < kept.count);
    let kept = kept.and_then(ServiceTime::told);
    Some(Observation {
        node: node.clone(),
        fragment,
        service,
        kept,
        memory_bytes,
    })
}

fn arms(names: &[String]) -> BTreeSet<ArmKind> {
    ArmKind::ALL
        .into_iter()
        .filter(|kind| names.iter().any(|name| name == kind.label()))
        .collect()
}

/// Whether two plans run the same fragments at the same places by the same arms, with the same codecs
/// and exits between them.
fn same_places(a: &Plan, b: &Plan) -> bool {
    let versions = |plan: &Plan| -> Vec<_> {
        let models = plan.models.iter();
        models
            .map(|(name, model)| (name.clone(), model.version.clone()))
            .collect()
    };
    versions(a) == versions(b) && diff(a, b).changes.is_empty()
}

/// The fragments of a plan from before a restart, when models and nodes are all there and cutting
/// gives the same bytes; else why not.
fn fragments_of(plan: &Plan, start: &Start) -> Result<Held, String> {
    let names = start.models.iter().map(|served| &served.name);
    if !plan.models.keys().eq(names) {
        return Err("other models are served".into());
    }
    if plan.models.values().all(|model| model.arms.is_empty()) {
        return Err("nothing was placed".into());
    }
    let mut held = Held::new();
    for (served, planned) in start.models.iter().zip(plan.models.values()) {
        if served.loaded.version() != planned.version {
            return Err(format!("model {} has another version", served.name));
        }
        for arm in &planned.arms {
            let variants = served.loaded.variants();
            let variant = variants
                .iter()
                .position(|variant| variant.name == arm.variant)
                .ok_or_else(|| format!("model {} has no variant {}", served.name, arm.variant))?;
            if variants[variant].parts.len() != arm.branches.len() {
                return Err(format!("arm {} has another number of branches", arm.name));
            }
            for (part, route) in arm.branches.iter().enumerate() {
                for hop in &route.hops {
                    let count = variants[variant].parts[part].segments();
                    // A part that was not cut counts as one segment.
                    let segments = if is_cut(arm.kind) {
                        hop.segments.clone()
                    } else {
                        0..count
                    };
                    if !start.snapshot.is_alive(&hop.node) {
                        return Err(format!("node {} is not there", hop.node));
                    }
                    let cut = || format!("{}/{}-{}", arm.name, segments.start, segments.end);
                    if segments.is_empty() || count < segments.end {
                        return Err(format!("fragment {} reaches beyond {count}", cut()));
                    }
                    let fragment = served.loaded.fragment(variant, part, segments.clone());
                    let fragment = fragment.map_err(|error| error.to_string())?;
                    if fragment.id != hop.fragment {
                        return Err(format!("fragment {} is cut otherwise now", cut()));
                    }
                    held.insert(fragment.id, fragment);
                }
            }
        }
    }
    Ok(held)
}
