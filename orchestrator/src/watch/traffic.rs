//! One model by the second: what came, how it ended, where its time went.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::{Histogram, OTHER, RequestView};
use crate::face::LAST_EXIT;

/// Seconds that are remembered one by one.
pub const SECONDS: usize = 120;
/// Arms, and exits, that are told apart.
pub const NAMES: usize = 16;
/// Hops that are told apart.
pub const HOPS: usize = 64;
/// Promised times that are told apart.
pub const SLAS: usize = 16;
/// Share of what is known of hops and promises that one more request makes forgotten.
const FORGET: f64 = 0.01;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Not let in: nothing can run the model now.
    NotReady,
    /// Not let in: no arm could answer while the client waits.
    Hopeless,
    /// Not let in: too many are in flight, or the centre is leaving.
    Overloaded,
    /// Nobody waited any more.
    Expired,
    /// Given up: nodes or links were lost, or their queues were full, too often.
    Unreachable,
    /// Given up: the engine refused the tensors, or the answers could not be merged.
    Broken,
    /// Whoever asked went away.
    Cancelled,
}

impl Loss {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::NotReady,
        Self::Hopeless,
        Self::Overloaded,
        Self::Expired,
        Self::Unreachable,
        Self::Broken,
        Self::Cancelled,
    ];

    /// The word for it in views and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Hopeless => "hopeless",
            Self::Overloaded => "overloaded",
            Self::Expired => "expired",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where time goes: the parts of a response, slowest branch only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Waiting for threads.
    pub queue: Histogram,
    /// Decoding and computing.
    pub compute: Histogram,
    /// On links, encoding and the wait for the way out included.
    pub transfer: Histogram,
    /// The whole.
    pub response: Histogram,
}

impl Parts {
    fn merge(&mut self, other: &Self) {
        self.queue.merge(&other.queue);
        self.compute.merge(&other.compute);
        self.transfer.merge(&other.transfer);
        self.response.merge(&other.response);
    }
}

/// One second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slot {
    /// Which, on the caller's clock.
    pub second: u64,
    /// Requests that ended, however.
    pub ended: u32,
    /// Of these answered.
    pub answered: u32,
    /// Of these within the promise.
    pub held: u32,
    /// Those without an answer, in the order of [`Loss::ALL`].
    pub lost: [u32; Loss::ALL.len()],
    /// Where the time of answers went.
    pub parts: Parts,
    /// Seconds of all answers, and what had been forecast of them.
    pub response: f64,
    /// Of the same answers, when their arms were chosen.
    pub predicted: f64,
    /// Sum of the validated accuracies of answers.
    pub accuracy: f64,
    /// Answers by arm, in the order of [`Traffic::arms`].
    pub arms: [u32; NAMES],
    /// Answers by exit, in the order of [`Traffic::exits`].
    pub exits: [u32; NAMES],
}

/// A hop's mean times, older ones forgotten little by little, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HopMean {
    /// Frames that count.
    pub weight: f64,
    /// On the link to here.
    pub transfer_us: f64,
    /// Waiting.
    pub queue_us: f64,
    /// Decoding and computing.
    pub compute_us: f64,
    /// Encoding and the wait for the way out.
    pub encode_us: f64,
}

/// By arm, branch, hop and node.
pub type HopKey = (String, u32, u32, String);

/// One model.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    slots: VecDeque<Slot>,
    arms: Vec<String>,
    exits: Vec<String>,
    hops: BTreeMap<HopKey, HopMean>,
    /// By microseconds promised.
    slas: BTreeMap<u64, f64>,
    samples: (u64, u64),
    told: (u64, u64),
    /// Audited requests, and by exit how often it said what the network's end said, of how many.
    audited: u64,
    agreed: BTreeMap<String, (u64, u64)>,
    total: (u64, u64),
    lost: [u64; Loss::ALL.len()],
}

/// The place of a name, of so many that are told apart; the last place is [`OTHER`].
fn place(names: &mut Vec<String>, name: &str) -> usize {
    if let Some(place) = names.iter().position(|known| known == name) {
        return place;
    }
    if names.len() + 1 < NAMES {
        names.push(name.to_owned());
        return names.len() - 1;
    }
    if names.len() < NAMES {
        names.push(OTHER.into());
    }
    NAMES - 1
}

impl Traffic {
    fn slot(&mut self, second: u64) -> &mut Slot {
        let is_new = self.slots.back().is_none_or(|slot| slot.second < second);
        if is_new {
            if SECONDS <= self.slots.len() {
                self.slots.pop_front();
            }
            self.slots.push_back(Slot {
                second,
                ..Slot::default()
            });
        }
        let last = self.slots.len() - 1;
        &mut self.slots[last]
    }

    /// Counts a request that was not let in.
    pub fn refused(&mut self, second: u64, loss: Loss) {
        let slot = self.slot(second);
        slot.ended += 1;
        slot.lost[loss as usize] += 1;
        self.total.1 += 1;
        self.lost[loss as usize] += 1;
    }

    /// Counts a request that has ended. O(hops).
    pub fn ended(&mut self, second: u64, request: &RequestView, loss: Option<Loss>) {
        self.promised(request.sla_us);
        if let Some(loss) = loss {
            return self.refused(second, loss);
        }
        self.total.0 += 1;
        self.samples.0 += 1;
        self.samples.1 += u64::from(request.samples);
        let arm = place(&mut self.arms, &request.arm);
        let exit = place(&mut self.exits, &request.exit);
        let micros = |us: u64| std::time::Duration::from_micros(us).as_secs_f64();
        let [queue, compute, transfer] = slowest(request);
        let slot = self.slot(second);
        slot.ended += 1;
        slot.answered += 1;
        slot.held += u32::from(request.held);
        slot.response += micros(request.response_us);
        slot.predicted += micros(request.predicted_us);
        slot.accuracy += request.accuracy;
        slot.arms[arm] += 1;
        slot.exits[exit] += 1;
        slot.parts.queue.add(micros(queue));
        slot.parts.compute.add(micros(compute));
        slot.parts.transfer.add(micros(transfer));
        slot.parts.response.add(micros(request.response_us));
        for hop in &request.hops {
            self.hop(&request.arm, hop);
        }
    }

    fn hop(&mut self, arm: &str, hop: &super::HopView) {
        let key = (arm.to_owned(), hop.branch, hop.hop, hop.node.clone());
        if !self.hops.contains_key(&key) && HOPS <= self.hops.len() {
            // The one that was seen least lately makes room.
            let least = self
                .hops
                .iter()
                .min_by(|a, b| a.1.weight.total_cmp(&b.1.weight));
            if let Some(least) = least.map(|(key, _)| key.clone()) {
                self.hops.remove(&least);
            }
        }
        let mean = self.hops.entry(key).or_default();
        mean.weight = mean.weight * (1.0 - FORGET) + 1.0;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one hop")]
        let mix = |mean: &mut f64, us: u64, weight: f64| *mean += (us as f64 - *mean) / weight;
        mix(&mut mean.transfer_us, hop.transfer_us, mean.weight);
        mix(&mut mean.queue_us, hop.queue_us, mean.weight);
        mix(&mut mean.compute_us, hop.compute_us, mean.weight);
        mix(&mut mean.encode_us, hop.encode_us, mean.weight);
    }

    fn promised(&mut self, us: u64) {
        for weight in self.slas.values_mut() {
            *weight *= 1.0 - FORGET;
        }
        let key = if self.slas.contains_key(&us) || self.slas.len() < SLAS {
            us
        } else {
            let near = self.slas.keys().min_by_key(|known| known.abs_diff(us));
            near.copied().unwrap_or(us)
        };
        *self.slas.entry(key).or_default() += 1.0;
        self.slas.retain(|_, weight| *weight > 1e-3);
    }

    /// Counts what a client said about one answer.
    pub fn feedback(&mut self, right: u32, samples: usize) {
        self.told.0 += u64::from(right);
        self.told.1 += samples as u64;
    }

    /// Right samples and all of those that clients spoke of.
    #[must_use]
    pub const fn told(&self) -> (u64, u64) {
        self.told
    }

    /// Counts an audited request: for each exit on its way whether it named the class that the end named.
    pub fn audited<'a>(&mut self, exits: impl IntoIterator<Item = (&'a str, bool)>) {
        self.audited += 1;
        for (exit, agrees) in exits {
            let is_known = self.agreed.contains_key(exit) || self.agreed.len() < NAMES;
            let name = if is_known { exit } else { OTHER };
            let (agreed, of) = self.agreed.entry(name.to_owned()).or_default();
            *agreed += u64::from(agrees);
            *of += 1;
        }
    }

    /// Audited requests.
    #[must_use]
    pub const fn audits(&self) -> u64 {
        self.audited
    }

    /// Share of the answers within `window` that say what the network's end would have said, as audited
    /// requests tell of each exit; the end agrees with itself. `None` while an exit that answers was never
    /// audited, and without answers.
    #[must_use]
    pub fn agreement(&self, window: &Slot) -> Option<f64> {
        let (mut answers, mut agreeing) = (0.0, 0.0);
        for (exit, count) in self.exits.iter().zip(window.exits) {
            if count == 0 {
                continue;
            }
            let agrees = match self.agreed.get(exit) {
                _ if exit == LAST_EXIT => 1.0,
                #[expect(clippy::cast_precision_loss, reason = "a share for people")]
                Some((agreed, of)) => *agreed as f64 / *of as f64,
                None => return None,
            };
            answers += f64::from(count);
            agreeing += f64::from(count) * agrees;
        }
        (self.audited > 0 && answers > 0.0).then(|| agreeing / answers)
    }

    /// Answered and lost since the start.
    #[must_use]
    pub const fn total(&self) -> (u64, u64) {
        self.total
    }

    /// Lost since the start, in the order of [`Loss::ALL`].
    #[must_use]
    pub const fn lost(&self) -> &[u64; Loss::ALL.len()] {
        &self.lost
    }

    /// Names of the arms, in the order of [`Slot::arms`].
    #[must_use]
    pub fn arms(&self) -> &[String] {
        &self.arms
    }

    /// Names of the exits, in the order of [`Slot::exits`].
    #[must_use]
    pub fn exits(&self) -> &[String] {
        &self.exits
    }

    /// Mean times by hop.
    pub fn hops(&self) -> impl Iterator<Item = (&HopKey, &HopMean)> {
        self.hops.iter()
    }

    /// Promised times in microseconds with their weights.
    pub fn slas(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        self.slas.iter().map(|(&us, &weight)| (us, weight))
    }

    /// Mean samples of a request, at least 1.
    #[must_use]
    pub fn samples(&self) -> u32 {
        let mean = self.samples.1 / self.samples.0.max(1);
        u32::try_from(mean.max(1)).unwrap_or(u32::MAX)
    }

    /// The seconds that had any requests, oldest first.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        self.slots.iter()
    }

    /// The last `seconds` before `now`, added up. O(seconds).
    #[must_use]
    pub fn window(&self, now: u64, seconds: u64) -> Slot {
        let mut sum = Slot {
            second: now,
            ..Slot::default()
        };
        let from = now.saturating_sub(seconds);
        for slot in self.slots.iter().rev() {
            if slot.second < from {
                break;
            }
            if now <= slot.second {
                continue;
            }
            sum.ended += slot.ended;
            sum.answered += slot.answered;
            sum.held += slot.held;
            sum.response += slot.response;
            sum.predicted += slot.predicted;
            sum.accuracy += slot.accuracy;
            let pairs = sum.lost.iter_mut().zip(&slot.lost);
            let pairs = pairs.chain(sum.arms.iter_mut().zip(&slot.arms));
            for (mine, theirs) in pairs.chain(sum.exits.iter_mut().zip(&slot.exits)) {
                *mine += theirs;
            }
            sum.parts.merge(&slot.parts);
        }
        sum
    }
}

/// Queue, compute and transfer of the branch that took longest, in microseconds.
#[must_use]
pub fn slowest(request: &RequestView) -> [u64; 3] {
    let mut branches: BTreeMap<u32, [u64; 3]> = BTreeMap::new();
    for hop in &request.hops {
        let parts = branches.entry(hop.branch).or_default();
        parts[0] += hop.queue_us;
        parts[1] += hop.compute_us;
        parts[2] += hop.transfer_us + hop.encode_us;
    }
    let longest = branches.into_values().max_by_key(|p| p.iter().sum::<u64>());
    longest.unwrap_or_default()
}
