//! From the table to the expected service time and memory of a range of segments on a node.

use std::{ops::Range, time::Duration};

use splitplace_fleet::Node;
use splitplace_plan::{
    FragmentId,
    predict::{Features, Guess},
};

use super::{Entry, Measured, Runs, speed_ratio};

/// A segment that is never cut further: the unit of profiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Atom {
    /// The fragment that consists of it alone, once it was cut.
    pub fragment: Option<FragmentId>,
    /// What its layers do.
    pub features: Features,
    /// Bytes of its weights.
    pub parameter_bytes: u64,
    /// Largest number of bytes of activations live at once for one sample.
    pub activation_bytes: u64,
}

/// What must be known of a part of a package to estimate any range of its segments.
#[derive(Clone, Debug, PartialEq)]
pub struct PartFacts {
    /// Its segments in order; at least one.
    pub atoms: Vec<Atom>,
    /// The fragment that is the whole part.
    pub whole: FragmentId,
}

impl PartFacts {
    /// What a fragment of these segments does.
    ///
    /// # Panics
    /// When `segments` reaches beyond the part.
    #[must_use]
    pub fn features(&self, segments: Range<usize>) -> Features {
        Features::together(self.atoms[segments].iter().map(|atom| &atom.features))
    }
}

/// How an estimate came about, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// This fragment ran on this node.
    Observed,
    /// This fragment ran on another node.
    Scaled,
    /// Its segments ran one by one.
    Profiled,
    /// Nothing ran; predicted from what layers do.
    Computed,
}

impl Source {
    /// The word for it in explanations.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Scaled => "scaled",
            Self::Profiled => "profiled",
            Self::Computed => "computed",
        }
    }
}

/// An expected value and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Expected service time of one sample.
    pub service: Duration,
    /// Standard deviation of the service time; where it is predicted, of predictions.
    pub deviation: Duration,
    /// How it came about.
    pub source: Source,
}

/// Longest estimate in seconds: a node that never answers, but no overflow.
const LONGEST: f64 = 86_400.0;

/// One part on one node, prepared so that any range of segments costs O(log records).
#[derive(Clone, Debug)]
pub struct OnNode<'a> {
    measured: &'a Measured,
    part: &'a PartFacts,
    node: &'a Node,
    /// Sums over the first segments.
    sums: Vec<Sum>,
    /// Fragments of several segments over the sum of those segments.
    time_factor: f64,
    /// By how much less what never ran here may well take.
    hope: f64,
    /// What the whole part took over what would be computed for it; `None` when it never told.
    memory_factor: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    seconds: f64,
    variance: f64,
    unmeasured: usize,
    parameter_bytes: u64,
}

impl Measured {
    /// Prepares estimates for ranges of segments of `part` on `node`. `cut` names fragments of the part: what those that ran
    /// took on the node, against the sum of their segments, is what other fragments will take against theirs.
    /// O((segments + fragments) log records).
    ///
    /// # Panics
    /// When a range in `ran` reaches beyond the part.
    #[must_use]
    pub fn on<'a>(
        &'a self,
        part: &'a PartFacts,
        node: &'a Node,
        cut: &[(Range<usize>, FragmentId)],
    ) -> OnNode<'a> {
        let mut sums = vec![Sum::default()];
        let mut sum = Sum::default();
        for atom in &part.atoms {
            let measured = atom.fragment.and_then(|id| self.scaled(id, node));
            match measured {
                Some((runs, _)) => {
                    sum.seconds += runs.mean;
                    sum.variance += runs.variance;
                }
                None => {
                    let guess = self.computed(&atom.features, node);
                    sum.seconds += guess.mean;
                    sum.variance += guess.variance;
                    sum.unmeasured += 1;
                }
            }
            sum.parameter_bytes = sum.parameter_bytes.saturating_add(atom.parameter_bytes);
            sums.push(sum);
        }
        let (factor, runs) = self.factor_here(part, node, cut, &sums);
        OnNode {
            time_factor: factor.unwrap_or_else(|| self.factor_anywhere(part)),
            hope: self.hope(runs),
            memory_factor: self.memory_factor(part),
            measured: self,
            part,
            node,
            sums,
        }
    }

    /// What fragments of several segments take on this very node over the sums of their segments, and the runs by which
    /// that is known.
    fn factor_here(
        &self,
        part: &PartFacts,
        node: &Node,
        cut: &[(Range<usize>, FragmentId)],
        sums: &[Sum],
    ) -> (Option<f64>, f64) {
        let whole = (0..part.atoms.len(), part.whole);
        let others = cut.iter().filter(|(_, id)| *id != part.whole);
        let (mut together, mut alone, mut weight) = (0.0, 0.0, 0.0);
        for (segments, id) in others.chain([&whole]) {
            let here = self.here(*id, node);
            if let Some(runs) = here.filter(|_| segments.len() > 1) {
                together += runs.weight * runs.mean;
                alone += runs.weight * (sums[segments.end].seconds - sums[segments.start].seconds);
                weight += runs.weight;
            }
        }
        let is_measured = sums.last().is_some_and(|sum| sum.unmeasured == 0);
        (ratio(together, alone).filter(|_| is_measured), weight)
    }

    /// What the whole part takes over what is computed for it, where it takes most.
    fn memory_factor(&self, part: &PartFacts) -> Option<f64> {
        let whole = self.most_memory(part.whole)?;
        let weights = part.atoms.iter().map(|atom| atom.parameter_bytes);
        let weights = weights.fold(0, u64::saturating_add);
        let live = part.atoms.iter().map(|atom| atom.activation_bytes).max();
        let computed = self.computed_memory(weights, live.unwrap_or(0));
        Some((as_f64(whole) / as_f64(computed).max(1.0)).clamp(0.05, 20.0))
    }

    fn most_memory(&self, fragment: FragmentId) -> Option<u64> {
        let nodes = self.by_fragment.get(&fragment)?;
        nodes.values().filter_map(|entry| entry.memory_bytes).max()
    }

    fn computed_memory(&self, weights: u64, live: u64) -> u64 {
        scaled_bytes(weights, self.settings.weights_factor)
            .saturating_add(scaled_bytes(live, self.settings.activations_factor))
            .saturating_add(self.settings.base_bytes)
    }

    /// What `fragment` is expected to take where it ran already.
    fn here(&self, fragment: FragmentId, node: &Node) -> Option<Runs> {
        let entry = self.entry(fragment, &node.id)?;
        let entry = entry.at_speed(node.macs_per_second);
        entry.expected(self.pace(&node.id), self.settings.settled_runs)
    }

    /// What is best known of `fragment`, as it would be on `node`, and whether it is from there. Of another node what was
    /// measured counts, at the pace of this one: how requests fare there says nothing of here.
    fn scaled(&self, fragment: FragmentId, node: &Node) -> Option<(Runs, bool)> {
        if let Some(here) = self.here(fragment, node) {
            return Some((here, true));
        }
        let nodes = self.by_fragment.get(&fragment)?;
        // The node whose speed is nearest, then the one with most runs, then the first by name.
        let distance = |entry: &Entry| {
            speed_ratio(entry.macs_per_second, node.macs_per_second)
                .ln()
                .abs()
        };
        let (from, entry) =
            nodes
                .iter()
                .filter(|(_, entry)| entry.has_run())
                .min_by(|(_, a), (_, b)| {
                    let by_distance = distance(a).total_cmp(&distance(b));
                    by_distance.then(b.weight().total_cmp(&a.weight()))
                })?;
        let mut entry = entry.at_speed(node.macs_per_second);
        if entry.alone.weight > 0.0 {
            entry.served = Runs::default();
        }
        let runs = entry.expected(self.pace(&node.id), self.settings.settled_runs)?;
        let slower = self.learned.slower(&node.id, from);
        let mut runs = runs.times(slower.mean);
        runs.variance += slower.variance * runs.mean * runs.mean;
        Some((runs, false))
    }

    /// Seconds for what never ran anywhere, at the pace of requests on the node.
    fn computed(&self, features: &Features, node: &Node) -> Guess {
        let guess = self.learned.predict(features, node);
        let pace = self.pace(&node.id);
        let mean = guess.mean * pace;
        // Also where the speed is no number at all.
        if node.macs_per_second > 0.0 && mean.is_finite() && mean <= LONGEST {
            Guess {
                mean,
                variance: guess.variance * pace * pace,
            }
        } else {
            Guess {
                mean: LONGEST,
                variance: 0.0,
            }
        }
    }

    /// The whole part over the sum of its segments, on the nodes on which all of them ran.
    fn factor_anywhere(&self, part: &PartFacts) -> f64 {
        let Some(nodes) = self.by_fragment.get(&part.whole) else {
            return 1.0;
        };
        let (mut together, mut alone) = (0.0, 0.0);
        for (node, whole) in nodes {
            let (pace, settled) = (self.pace(node), self.settings.settled_runs);
            let mean = |entry: Entry| {
                let entry = entry.at_speed(whole.macs_per_second);
                Some(entry.expected(pace, settled)?.mean)
            };
            let segments = part.atoms.iter();
            let segments: Option<f64> = segments
                .map(|atom| mean(self.entry(atom.fragment?, node)?))
                .sum();
            if let (Some(segments), Some(whole)) = (segments, mean(*whole)) {
                together += whole;
                alone += segments;
            }
        }
        ratio(together, alone).unwrap_or(1.0)
    }
}

/// Bounded, so that one odd measurement does not make a node look free or useless.
fn ratio(together: f64, alone: f64) -> Option<f64> {
    (alone > 0.0 && together > 0.0).then(|| (together / alone).clamp(0.1, 10.0))
}

impl OnNode<'_> {
    /// Expected service time of one sample through `segments`; `fragment` is the fragment of exactly
    /// those segments, where it is known.
    ///
    /// # Panics
    /// When `segments` reaches beyond the part.
    #[must_use]
    pub fn service(&self, segments: Range<usize>, fragment: Option<FragmentId>) -> Estimate {
        let ran = fragment.and_then(|id| self.measured.scaled(id, self.node));
        if let Some((runs, is_here)) = ran {
            let source = if is_here {
                Source::Observed
            } else {
                Source::Scaled
            };
            let hope = if is_here {
                self.measured.hope(runs.weight)
            } else {
                self.hope
            };
            return estimate(runs.mean * hope, runs.variance, source);
        }
        let (before, after) = (self.sums[segments.start], self.sums[segments.end]);
        let seconds = after.seconds - before.seconds;
        let variance = after.variance - before.variance;
        let unmeasured = after.unmeasured - before.unmeasured;
        let source = if unmeasured == 0 {
            Source::Profiled
        } else {
            Source::Computed
        };
        let factor = self.time_factor;
        estimate(
            seconds * factor * self.hope,
            variance * factor * factor,
            source,
        )
    }

    /// Seconds that one segment adds to a fragment of several.
    ///
    /// # Panics
    /// When there is no such segment.
    #[must_use]
    pub fn share_of(&self, segment: usize) -> f64 {
        let seconds = self.sums[segment + 1].seconds - self.sums[segment].seconds;
        (seconds * self.time_factor * self.hope).clamp(0.0, LONGEST)
    }

    /// Bytes that `segments` are expected to take on the node, and how that is known: measured here,
    /// the most measured elsewhere, or weights and activations times what the engine makes of them,
    /// corrected by what the whole part took if it was measured.
    ///
    /// # Panics
    /// When `segments` reaches beyond the part.
    #[must_use]
    pub fn memory(&self, segments: Range<usize>, fragment: Option<FragmentId>) -> (u64, Source) {
        if let Some(id) = fragment {
            let here = self.measured.entry(id, &self.node.id);
            if let Some(bytes) = here.and_then(|entry| entry.memory_bytes) {
                return (bytes, Source::Observed);
            }
            if let Some(bytes) = self.measured.most_memory(id) {
                return (bytes, Source::Scaled);
            }
        }
        let (before, after) = (self.sums[segments.start], self.sums[segments.end]);
        let weights = after.parameter_bytes.saturating_sub(before.parameter_bytes);
        let atoms = self.part.atoms[segments].iter();
        let live = atoms.map(|atom| atom.activation_bytes).max();
        let computed = self.measured.computed_memory(weights, live.unwrap_or(0));
        let margin = self.measured.settings.memory_margin;
        match self.memory_factor {
            Some(factor) => (scaled_bytes(computed, factor * margin), Source::Profiled),
            None => (scaled_bytes(computed, margin), Source::Computed),
        }
    }

    /// Bytes of memory that one segment adds to a fragment, and those that the fragment needs once, of
    /// which the largest among its segments counts.
    ///
    /// # Panics
    /// When there is no such segment.
    #[must_use]
    pub fn memory_of(&self, segment: usize) -> (u64, u64) {
        let (atom, settings) = (&self.part.atoms[segment], &self.measured.settings);
        let factor = self.memory_factor.unwrap_or(1.0) * settings.memory_margin;
        let live = scaled_bytes(atom.activation_bytes, settings.activations_factor);
        (
            scaled_bytes(atom.parameter_bytes, settings.weights_factor * factor),
            scaled_bytes(live.saturating_add(settings.base_bytes), factor),
        )
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and the cast saturates"
)]
fn scaled_bytes(bytes: u64, factor: f64) -> u64 {
    (as_f64(bytes) * factor) as u64
}

fn estimate(seconds: f64, variance: f64, source: Source) -> Estimate {
    let seconds = seconds.clamp(0.0, LONGEST);
    let deviation = variance.max(0.0).sqrt().min(LONGEST);
    Estimate {
        service: Duration::from_secs_f64(seconds),
        deviation: Duration::from_secs_f64(deviation),
        source,
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
const fn as_f64(value: u64) -> f64 {
    value as f64
}
