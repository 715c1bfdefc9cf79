//! Several networks on one server: who gets which cores, by even shares and by the methods that look for the best.

use splitplace_plan::partition::{Method, Objective, Part, Question, Refused, User, by_name};

use anyhow::Context as _;

use super::{
    clock::Segments,
    grid::{Grid, Network},
    ready::Ready,
    source::Source,
};
use crate::command::model::thread_time;

/// How networks share the server by one method.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) method: &'static str,
    pub(super) complexity: &'static str,
    pub(super) users: Vec<Share>,
    /// Seconds of the slowest.
    pub(super) predicted: f64,
    pub(super) measured: f64,
    /// Seconds of processor that choosing took.
    pub(super) choosing: f64,
}

/// What one of them gets.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) network: String,
    /// Mbit/s.
    pub(super) uplink: f64,
    pub(super) cores: usize,
    /// In words.
    pub(super) cut: String,
}

/// All networks at one uplink and ratio on one server.
#[derive(Clone, Debug)]
pub(super) struct Together {
    /// Mbit/s.
    pub(super) uplink: f64,
    pub(super) ratio: f64,
    pub(super) shared: Vec<Shared>,
}

/// How a server's cores are shared: a method that leaves them even, and those that look for the best.
const SHARING: [(&str, &str); 3] = [
    ("even shares", "DADS light"),
    ("IAO", "IAO"),
    ("threshold search", "threshold search"),
];

/// A method by its name.
pub(super) fn named(name: &str) -> anyhow::Result<Box<dyn Method>> {
    by_name(name).with_context(|| format!("there is no method {name:?}"))
}

/// An answer with the seconds of processor that it took.
pub(super) fn solved(
    method: &dyn Method,
    question: &Question<'_>,
) -> Result<(Vec<Part>, f64), Refused> {
    let before = thread_time();
    let parts = method.solve(question)?;
    Ok((parts, thread_time().saturating_sub(before).as_secs_f64()))
}

/// Who shares: a network at a ratio, its uplink in Mbit/s, what cores do for it.
pub(super) struct Sharer<'a> {
    pub(super) ready: &'a Ready<'a>,
    pub(super) uplink: f64,
    pub(super) speed_up: &'a [f64],
}

/// Every way to share. `measure` is told the number of the sharer, how it runs and how fast its cores are.
pub(super) fn share(
    grid: &Grid,
    sharers: &[Sharer<'_>],
    mut measure: impl FnMut(usize, &Part, f64) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<Shared>> {
    let users: Vec<User<'_>> = sharers
        .iter()
        .map(|one| User {
            speed_up: one.speed_up,
            ..User::new(
                &one.ready.end.network,
                grid.scene(one.uplink, Objective::Latency),
            )
        })
        .collect();
    let question = Question {
        users: &users,
        cores: grid.cores,
    };
    let mut all = Vec::new();
    for (label, name) in SHARING {
        let method = named(name)?;
        let (parts, choosing) = solved(&*method, &question)?;
        let mut measured: f64 = 0.0;
        for (number, part) in parts.iter().enumerate() {
            let curve = sharers[number].speed_up;
            let at = part.cores.clamp(1, curve.len()) - 1;
            measured = measured.max(measure(number, part, curve[at])?);
        }
        let users = sharers.iter().zip(&parts).map(|(one, part)| Share {
            network: one.ready.end.source.name.clone(),
            uplink: one.uplink,
            cores: part.cores,
            cut: one.ready.end.words(part),
        });
        all.push(Shared {
            method: label,
            complexity: method.complexity(),
            users: users.collect(),
            predicted: parts.iter().map(Part::latency).fold(0.0, f64::max),
            measured,
            choosing,
        });
    }
    Ok(all)
}

/// All networks on one server, each on a device with the cell's uplink and ratio. Nothing to share with fewer than two.
pub(super) fn together(
    sources: &[Source],
    segments: &mut [Segments],
    networks: &[Network],
    grid: &Grid,
) -> anyhow::Result<Vec<Together>> {
    let mut all = Vec::new();
    if sources.len() < 2 {
        return Ok(all);
    }
    for &ratio in &grid.ratios {
        let readies: Vec<Ready<'_>> = sources
            .iter()
            .map(|source| Ready::new(source, ratio))
            .collect::<anyhow::Result<_>>()?;
        for &uplink in &grid.uplinks {
            let sharers: Vec<Sharer<'_>> = readies
                .iter()
                .zip(networks)
                .map(|(ready, network)| Sharer {
                    ready,
                    uplink,
                    speed_up: &network.speed_up.0,
                })
                .collect();
            let shared = share(grid, &sharers, |number, part, speed| {
                let placed = &readies[number].end;
                placed.measured(part, speed, &mut segments[number])
            })?;
            all.push(Together {
                uplink,
                ratio,
                shared,
            });
        }
    }
    Ok(all)
}
