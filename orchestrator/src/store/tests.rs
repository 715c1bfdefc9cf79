//! What both stores promise, and what only the one on disk can break.

mod contract;
mod damage;
mod plans;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

/// A package with these files.
fn package(name: &str, files: &[&[u8]]) -> (PackageRecord, BTreeMap<Digest, Bytes>) {
    let contents: BTreeMap<_, _> = files
        .iter()
        .map(|content| (Digest::of(content), Bytes::copy_from_slice(content)))
        .collect();
    let parts = files
        .iter()
        .enumerate()
        .map(|(number, content)| PartRecord {
            file: format!("part-{number}.onnx"),
            digest: Digest::of(content),
            size_bytes: content.len() as u64,
        });
    let record = PackageRecord {
        name: name.into(),
        version: "1".into(),
        manifest: format!("[package]\nname = \"{name}\"\n"),
        tables: format!("format = {}\n", name.len()),
        parts: parts.collect(),
        loaded: false,
        wishes: format!("{{\"priority\":{}}}", name.len()),
    };
    (record, contents)
}

fn plan(generation: u64) -> Plan {
    Plan {
        generation: Generation(generation),
        parent: generation.checked_sub(1).map(Generation),
        models: BTreeMap::new(),
        explanation: format!("plan number {generation}"),
    }
}

fn measurement(fragment: u8, node: &str) -> MeasurementRecord {
    MeasurementRecord {
        fragment: FragmentId([fragment; 32]),
        node: node.into(),
        macs_per_second: 1e9,
        weight: 12.5,
        mean_seconds: 0.003,
        variance_seconds2: 1e-8,
        alone_weight: 5.0,
        alone_seconds: 0.002,
        memory_bytes: fragment.is_multiple_of(2).then_some(1 << 20),
    }
}

fn decision(request: u64) -> DecisionRecord {
    use std::time::Duration;
    DecisionRecord {
        request,
        unix_ms: 1_700_000_000_000 + request,
        model: "m".into(),
        arm: "base/chain".into(),
        context: "tight".into(),
        reason: "best".into(),
        propensity: 0.75,
        generation: Generation(3),
        sla: Duration::from_millis(60),
        predicted: Duration::from_micros(12_345),
        response: (!request.is_multiple_of(3)).then_some(Duration::from_nanos(17_000_001)),
        ending: "answered".into(),
    }
}
