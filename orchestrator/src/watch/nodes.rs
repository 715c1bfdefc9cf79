//! The fleet by its reports: how busy nodes are, what waits there, what crosses the links.

use std::collections::BTreeMap;

use serde::Serialize;
use splitplace_proto::control::Report;

/// Links that are told apart; each node has at most its peers and the centre.
pub const LINKS: usize = 8192;
/// Of what a node says against a certificate.
const DISTRUST_CHARS: usize = 300;
/// Weight of the newest report: some reports smooth out single requests.
const NEW: f64 = 0.5;

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NodeUse {
    /// Busy cores over cores.
    pub busy: f64,
    /// Frames that wait.
    pub queued: u64,
    /// Frames computed a second.
    pub computed_per_second: f64,
    /// Frames refused because a queue was full, since the fragments were loaded.
    pub refused: u64,
    /// Frames dropped because nobody waited any more.
    pub expired: u64,
    /// Frames that the engine refused.
    pub failed: u64,
}

/// What crosses a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LinkUse {
    /// Frames a second.
    pub frames_per_second: f64,
    /// Bytes of tensors a second.
    pub bytes_per_second: f64,
    /// Times that the stream was opened anew.
    pub reconnects: u64,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    at: f64,
    frames: u64,
    bytes: u64,
}

/// Everything that nodes reported last.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    nodes: BTreeMap<String, (f64, NodeUse)>,
    links: BTreeMap<(String, String), (Tally, LinkUse)>,
    /// Why certificates keep links down.
    distrust: BTreeMap<(String, String), String>,
}

impl Nodes {
    /// Takes in a report of a node with so many cores, at an instant in seconds.
    pub fn reported(&mut self, at: f64, node: &str, cores: u32, report: &Report) {
        let before = self.nodes.get(node).copied();
        let (mut seconds, mut count, mut now) = (0.0, 0.0, NodeUse::default());
        for fragment in &report.fragments {
            if let Some(service) = fragment.service {
                #[expect(clippy::cast_precision_loss, reason = "frames of one report")]
                let runs = service.count as f64;
                seconds += runs * service.mean_seconds.max(0.0);
                count += runs;
            }
            now.queued += u64::from(fragment.queued);
            now.refused += fragment.refused;
            now.expired += fragment.expired;
            now.failed += fragment.failed;
        }
        // The first report counts from the start of the worker, which is not known here.
        if let Some((last, old)) = before
            && at > last
        {
            let busy = (seconds / ((at - last) * f64::from(cores.max(1)))).min(1.0);
            now.busy = mix(old.busy, busy);
            now.computed_per_second = mix(old.computed_per_second, count / (at - last));
        }
        self.nodes.insert(node.to_owned(), (at, now));
        for link in &report.links {
            self.link(
                at,
                (node, &link.peer),
                link.frames,
                link.bytes,
                link.reconnects,
            );
        }
        self.distrust.retain(|(from, _), _| from != node);
        let distrusted = report.links.iter().filter(|link| !link.distrust.is_empty());
        for link in distrusted.take(LINKS.saturating_sub(self.distrust.len())) {
            let why = link.distrust.chars().take(DISTRUST_CHARS).collect();
            self.distrust
                .insert((node.to_owned(), link.peer.clone()), why);
        }
    }

    /// Takes in what has crossed a link since it was opened. Empty names are the centre.
    pub fn link(
        &mut self,
        at: f64,
        (from, to): (&str, &str),
        frames: u64,
        bytes: u64,
        reconnects: u64,
    ) {
        let key = (from.to_owned(), to.to_owned());
        let tally = Tally { at, frames, bytes };
        let known = self.links.get(&key).copied();
        if known.is_none() && LINKS <= self.links.len() {
            return;
        }
        let mut now = LinkUse {
            reconnects,
            ..LinkUse::default()
        };
        if let Some((last, old)) = known {
            if at <= last.at {
                return;
            }
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / (at - last.at);
            now.frames_per_second = mix(old.frames_per_second, rate(frames, last.frames));
            now.bytes_per_second = mix(old.bytes_per_second, rate(bytes, last.bytes));
        }
        self.links.insert(key, (tally, now));
    }

    /// Forgets a node and its links.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
        self.links
            .retain(|(from, to), _| from != node && to != node);
        self.distrust
            .retain(|(from, to), _| from != node && to != node);
    }

    /// Why certificates keep a link down; nothing while they do not.
    #[must_use]
    pub fn distrust(&self, from: &str, to: &str) -> &str {
        let key = (from.to_owned(), to.to_owned());
        self.distrust.get(&key).map_or("", String::as_str)
    }

    /// What a node did last.
    #[must_use]
    pub fn node(&self, name: &str) -> NodeUse {
        self.nodes
            .get(name)
            .map(|(_, seen)| *seen)
            .unwrap_or_default()
    }

    /// Every link by its ends; empty names are the centre.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str, LinkUse)> {
        self.links
            .iter()
            .map(|((from, to), (_, seen))| (&from[..], &to[..], *seen))
    }
}

fn mix(old: f64, new: f64) -> f64 {
    let mixed = old + NEW * (new - old);
    // What has stopped must be seen to stand still.
    if mixed < 1e-3 { 0.0 } else { mixed }
}
