//! The disk schema and the domain, one into the other.
//!
//! Exact both ways, with one exception: a duration beyond 584 years comes back as 584 years.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use splitplace_codec::Codec;
use splitplace_fleet::NodeId;
use splitplace_plan::{
    ArmKind, ArmPlan, ExitRule, FragmentId, Generation, Hop, ModelName, ModelPlan, Plan, Route,
    RouteId,
};
use splitplace_proto::store as wire;

use super::{DecisionRecord, Digest, MeasurementRecord, PackageRecord, PartRecord};

/// A stored value that cannot have been written by this schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value}")]
pub(super) struct Malformed {
    what: &'static str,
    value: String,
}

fn malformed(what: &'static str, value: impl ToString) -> Malformed {
    Malformed {
        what,
        value: value.to_string(),
    }
}

/// The plan as it is kept.
#[must_use]
pub(super) fn plan_to_wire(plan: &Plan) -> wire::Plan {
    wire::Plan {
        generation: plan.generation.0,
        parent: plan.parent.map(|parent| parent.0),
        models: plan
            .models
            .iter()
            .map(|(name, model)| wire::ModelPlan {
                model: name.to_string(),
                version: model.version.clone(),
                arms: model.arms.iter().map(arm_to_wire).collect(),
            })
            .collect(),
        explanation: plan.explanation.clone(),
    }
}

/// The plan that was kept.
///
/// # Errors
/// [`Malformed`] names the field that no plan can have.
pub(super) fn plan_from_wire(plan: wire::Plan) -> Result<Plan, Malformed> {
    let mut models = BTreeMap::new();
    for model in plan.models {
        let arms = model.arms.into_iter().map(arm_from_wire);
        let planned = ModelPlan {
            version: model.version,
            arms: arms.collect::<Result<_, _>>()?,
        };
        if models
            .insert(ModelName::new(&model.model), planned)
            .is_some()
        {
            return Err(malformed("a plan has twice the model", model.model));
        }
    }
    Ok(Plan {
        generation: Generation(plan.generation),
        parent: plan.parent.map(Generation),
        models,
        explanation: plan.explanation,
    })
}

fn arm_to_wire(arm: &ArmPlan) -> wire::ArmPlan {
    let kind = match arm.kind {
        ArmKind::Whole => wire::ArmKind::Whole,
        ArmKind::Chain => wire::ArmKind::Chain,
        ArmKind::Semantic => wire::ArmKind::Semantic,
        ArmKind::Exits => wire::ArmKind::Exits,
        ArmKind::Compressed => wire::ArmKind::Compressed,
    };
    wire::ArmPlan {
        name: arm.name.clone(),
        variant: arm.variant.clone(),
        kind: kind.into(),
        accuracy: arm.accuracy,
        predicted_ns: nanos(arm.predicted),
        branches: arm.branches.iter().map(route_to_wire).collect(),
    }
}

fn arm_from_wire(arm: wire::ArmPlan) -> Result<ArmPlan, Malformed> {
    let kind = match arm.kind() {
        wire::ArmKind::Whole => ArmKind::Whole,
        wire::ArmKind::Chain => ArmKind::Chain,
        wire::ArmKind::Semantic => ArmKind::Semantic,
        wire::ArmKind::Exits => ArmKind::Exits,
        wire::ArmKind::Compressed => ArmKind::Compressed,
        wire::ArmKind::Unspecified => return Err(malformed("an arm has the kind", arm.kind)),
    };
    let branches = arm.branches.into_iter().map(route_from_wire);
    Ok(ArmPlan {
        name: arm.name,
        variant: arm.variant,
        kind,
        accuracy: arm.accuracy,
        predicted: Duration::from_nanos(arm.predicted_ns),
        branches: branches.collect::<Result<_, _>>()?,
    })
}

fn route_to_wire(route: &Route) -> wire::Route {
    wire::Route {
        id: route.id.0,
        hops: route.hops.iter().map(hop_to_wire).collect(),
        bytes_out: route.bytes_out,
    }
}

fn route_from_wire(route: wire::Route) -> Result<Route, Malformed> {
    let hops = route.hops.into_iter().map(hop_from_wire);
    Ok(Route {
        id: RouteId(route.id),
        hops: hops.collect::<Result<_, _>>()?,
        bytes_out: route.bytes_out,
    })
}

fn hop_to_wire(hop: &Hop) -> wire::Hop {
    wire::Hop {
        node: hop.node.to_string(),
        fragment: hop.fragment.0.to_vec().into(),
        first_segment: hop.segments.start as u64,
        end_segment: hop.segments.end as u64,
        memory_bytes: hop.memory_bytes,
        service_ns: nanos(hop.service),
        bytes_in: hop.bytes_in,
        forward: hop.forward.clone(),
        reach: (hop.reach < 1.0).then_some(hop.reach),
        codec: hop.codec.id().into(),
        coding_ns: nanos(hop.coding),
        exits: hop.exits.iter().map(exit_to_wire).collect(),
    }
}

fn exit_to_wire(exit: &ExitRule) -> wire::ExitRule {
    wire::ExitRule {
        name: exit.name.clone(),
        output: exit.output.clone(),
        threshold: exit.threshold,
        number: exit.number,
    }
}

fn hop_from_wire(hop: wire::Hop) -> Result<Hop, Malformed> {
    Ok(Hop {
        node: NodeId::new(&hop.node),
        fragment: fragment(&hop.fragment)?,
        segments: segments(hop.first_segment, hop.end_segment)?,
        memory_bytes: hop.memory_bytes,
        service: Duration::from_nanos(hop.service_ns),
        bytes_in: hop.bytes_in,
        forward: hop.forward,
        reach: hop.reach.unwrap_or(1.0),
        codec: Codec::from_number(hop.codec)
            .ok_or_else(|| malformed("a hop has the codec", hop.codec))?,
        coding: Duration::from_nanos(hop.coding_ns),
        exits: hop
            .exits
            .into_iter()
            .map(|exit| ExitRule {
                number: exit.number,
                name: exit.name,
                output: exit.output,
                threshold: exit.threshold,
            })
            .collect(),
    })
}

fn segments(first: u64, end: u64) -> Result<Range<usize>, Malformed> {
    let index = |value: u64| {
        usize::try_from(value).map_err(|_| malformed("a hop has the segment number", value))
    };
    Ok(index(first)?..index(end)?)
}

fn fragment(bytes: &[u8]) -> Result<FragmentId, Malformed> {
    FragmentId::from_slice(bytes)
        .ok_or_else(|| malformed("a fragment's hash has another length than 32:", bytes.len()))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn package_to_wire(package: &PackageRecord) -> wire::Package {
    wire::Package {
        name: package.name.to_string(),
        version: package.version.clone(),
        manifest: package.manifest.clone(),
        parts: package
            .parts
            .iter()
            .map(|part| wire::Part {
                file: part.file.clone(),
                sha256: part.digest.0.to_vec().into(),
                size_bytes: part.size_bytes,
            })
            .collect(),
        loaded: package.loaded,
        tables: package.tables.clone(),
        wishes: package.wishes.clone(),
    }
}

pub(super) fn package_from_wire(package: wire::Package) -> Result<PackageRecord, Malformed> {
    let parts = package.parts.into_iter().map(|part| {
        let digest = Digest::from_slice(&part.sha256).ok_or_else(|| {
            malformed(
                "a part's hash has another length than 32:",
                part.sha256.len(),
            )
        })?;
        Ok(PartRecord {
            file: part.file,
            digest,
            size_bytes: part.size_bytes,
        })
    });
    Ok(PackageRecord {
        parts: parts.collect::<Result<_, _>>()?,
        name: ModelName::new(&package.name),
        version: package.version,
        manifest: package.manifest,
        tables: package.tables,
        loaded: package.loaded,
        wishes: package.wishes,
    })
}

pub(super) fn policy_to_wire(policy: &str, values: &BTreeMap<String, f64>) -> wire::PolicyState {
    wire::PolicyState {
        policy: policy.to_owned(),
        values: values
            .iter()
            .map(|(name, value)| (name.clone(), *value))
            .collect(),
    }
}

pub(super) fn policy_from_wire(state: wire::PolicyState) -> BTreeMap<String, f64> {
    state.values.into_iter().collect()
}

pub(super) fn measurement_to_wire(record: &MeasurementRecord) -> wire::Measurement {
    wire::Measurement {
        fragment: record.fragment.0.to_vec().into(),
        node: record.node.to_string(),
        macs_per_second: record.macs_per_second,
        weight: record.weight,
        mean_seconds: record.mean_seconds,
        variance_seconds2: record.variance_seconds2,
        alone_weight: record.alone_weight,
        alone_seconds: record.alone_seconds,
        memory_bytes: record.memory_bytes,
    }
}

pub(super) fn measurement_from_wire(
    record: wire::Measurement,
) -> Result<MeasurementRecord, Malformed> {
    Ok(MeasurementRecord {
        fragment: fragment(&record.fragment)?,
        node: NodeId::new(&record.node),
        macs_per_second: record.macs_per_second,
        weight: record.weight,
        mean_seconds: record.mean_seconds,
        variance_seconds2: record.variance_seconds2,
        alone_weight: record.alone_weight,
        alone_seconds: record.alone_seconds,
        memory_bytes: record.memory_bytes,
    })
}

pub(super) fn decision_to_wire(record: &DecisionRecord) -> wire::Decision {
    wire::Decision {
        request: record.request,
        unix_ms: record.unix_ms,
        model: record.model.to_string(),
        arm: record.arm.clone(),
        context: record.context.clone(),
        reason: record.reason.clone(),
        propensity: record.propensity,
        generation: record.generation.0,
        sla_ns: nanos(record.sla),
        predicted_ns: nanos(record.predicted),
        response_ns: record.response.map(nanos),
        ending: record.ending.clone(),
    }
}

pub(super) fn decision_from_wire(record: wire::Decision) -> DecisionRecord {
    DecisionRecord {
        request: record.request,
        unix_ms: record.unix_ms,
        model: ModelName::new(&record.model),
        arm: record.arm,
        context: record.context,
        reason: record.reason,
        propensity: record.propensity,
        generation: Generation(record.generation),
        sla: Duration::from_nanos(record.sla_ns),
        predicted: Duration::from_nanos(record.predicted_ns),
        response: record.response_ns.map(Duration::from_nanos),
        ending: record.ending,
    }
}
