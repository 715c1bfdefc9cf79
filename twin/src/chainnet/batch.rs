//! Several systems as one graph: what each chain, fragment and device of it is fed.

use super::{
    Kind, System, Thinned,
    layout::{Layout, matrix},
};
use crate::net::Matrix;

/// Features of a fragment, of a device, of a chain.
pub(super) const FEATURES: [usize; 3] = [9, 5, 4];
/// Log-odds beyond this are taken for this.
const ODDS: f64 = 7.0;

/// Several systems as one graph, and what it is fed.
pub(super) struct Batch {
    pub(super) layout: Layout,
    pub(super) features: [Matrix; 3],
    /// By fragment, for the plain network: what a full queue makes a job wait there, over the work of its chain.
    pub(super) longest: Vec<f32>,
    /// What the formulas say, in log-odds: latency and throughput by chain as they lie.
    pub(super) prior: Vec<[f32; 2]>,
}

fn odds(share: f64) -> f64 {
    let share = share.clamp(1e-6, 1.0 - 1e-6);
    (share / (1.0 - share)).ln().clamp(-ODDS, ODDS)
}

impl Batch {
    /// Of these systems, fed as this kind of network is.
    pub(super) fn new(systems: &[&System], kind: Kind) -> Self {
        let (mut fragments, mut devices, mut chains) = (Vec::new(), Vec::new(), Vec::new());
        let (mut longest, mut prior) = (Vec::new(), Vec::new());
        for system in systems {
            let thinned = match kind {
                Kind::Plain => None,
                Kind::Residual => Some(Thinned::of(system)),
            };
            let known = thinned.as_ref();
            devices.extend(device_features(system, known));
            for (at, chain) in system.chains.iter().enumerate() {
                let steps = known.map(|known| &known.chains[at]);
                for step in 0..chain.path.len() {
                    let known = steps.map(|steps| steps[step]);
                    fragments.push(fragment_features(system, at, step, known));
                    longest.push(full_wait(system, at, step));
                }
            }
            let said = known.map(|known| known.ratios(system));
            for at in 0..system.chains.len() {
                let said = said.as_ref().map(|said| said[at]);
                let ratios = said.map_or([0.0; 2], |one| {
                    [one.latency, one.throughput].map(|ratio| odds(ratio) as f32)
                });
                prior.push(ratios);
                let [latency, throughput] = ratios.map(|odds| odds / 4.0);
                let work: f64 = system.chains[at].services.iter().sum();
                let load = (work / system.chains[at].interarrival).ln() / 3.0;
                chains.push([1.0, latency, throughput, load as f32]);
            }
        }
        let layout = Layout::of(systems);
        Self {
            prior: layout.chains_as_they_lie(&prior).collect(),
            features: [
                matrix(layout.fragments_as_they_lie(&fragments)),
                matrix(devices.into_iter()),
                matrix(layout.chains_as_they_lie(&chains)),
            ],
            longest: layout.fragments_as_they_lie(&longest).collect(),
            layout,
        }
    }
}

/// Fragments hosted over capacity as published, the device's offered load, its capacity; for the residual, loss and
/// wait besides, and the load thinned.
fn device_features(system: &System, known: Option<&Thinned>) -> Vec<[f32; FEATURES[1]]> {
    let mut features = vec![[0.0; FEATURES[1]]; system.capacities.len()];
    for (at, chain) in system.chains.iter().enumerate() {
        for (step, &device) in chain.path.iter().enumerate() {
            let capacity = system.capacities[device] as f64;
            let own = &mut features[device];
            own[0] += (1.0 / capacity) as f32;
            own[1] = (capacity.ln() / 2.0) as f32;
            if let Some(known) = known {
                let seen = known.chains[at][step];
                own[2] = log(seen.load);
                own[3] = (odds(seen.loss) / 4.0) as f32;
                own[4] = (seen.wait + 1.0).ln() as f32;
            } else {
                own[2] += (chain.services[step] / chain.interarrival) as f32;
            }
        }
    }
    if known.is_none() {
        features
            .iter_mut()
            .for_each(|own| own[2] = log(f64::from(own[2])));
    }
    features
}

/// Fragments hosted on a device: their rates and services.
fn hosted(system: &System, device: usize) -> impl Iterator<Item = (f64, f64)> {
    system.chains.iter().flat_map(move |one| {
        let steps = one.path.iter().zip(&one.services);
        steps
            .filter(move |(host, _)| **host == device)
            .map(|(_, service)| (1.0 / one.interarrival, *service))
    })
}

/// What a job waits that takes the last place of a device: the mean service of what comes there, for each of the
/// others; over the work of the chain.
fn full_wait(system: &System, chain: usize, step: usize) -> f32 {
    let spec = &system.chains[chain];
    let device = spec.path[step];
    let (mut rate, mut load) = (0.0, 0.0);
    for (own, service) in hosted(system, device) {
        rate += own;
        load += own * service;
    }
    let work: f64 = spec.services.iter().sum();
    let others = system.capacities[device].saturating_sub(1) as f64;
    (others * load / rate / work) as f32
}

/// As published, in logarithms: offered load of the step, its share of the device's services, 1 over capacity; and
/// its share of the chain's work. For the
/// residual besides: its load where it is not thinned, reach, loss, the ratio that it alone would have, and
/// how much longer than this an earlier step of the chain served: behind a slower server nobody queues.
fn fragment_features(
    system: &System,
    chain: usize,
    step: usize,
    known: Option<super::AtDevice>,
) -> [f32; FEATURES[0]] {
    let spec = &system.chains[chain];
    let (device, service) = (spec.path[step], spec.services[step]);
    let together: f64 = hosted(system, device).map(|(_, service)| service).sum();
    let load = service / spec.interarrival;
    let share = service / together.max(f64::MIN_POSITIVE);
    let room = 1.0 / system.capacities[device] as f64;
    let Some(known) = known else {
        let work: f64 = spec.services.iter().sum();
        let [share_log, part] = [share, service / work].map(log);
        return [
            log(load),
            share as f32,
            room as f32,
            share_log,
            part,
            0.0,
            0.0,
            0.0,
            0.0,
        ];
    };
    let longest = spec.services[..step].iter().copied().fold(0.0, f64::max);
    [
        log(load),
        share as f32,
        room as f32,
        log(load * known.reach),
        known.reach as f32,
        (odds(known.loss) / 4.0) as f32,
        (service / (service + known.wait).max(f64::MIN_POSITIVE)) as f32,
        log(longest / service.max(1e-6)),
        f32::from(u8::from(service <= longest)),
    ]
}

fn log(value: f64) -> f32 {
    (value.max(1e-3).ln() / 3.0) as f32
}
