//! From the table to the expected service time and memory of a range of segments on a node.

use std::{ops::Range, time::Duration};

use splitplace_fleet::Node;
use splitplace_plan::FragmentId;

use super::{Entry, Measured, speed_ratio};

/// A segment that is never cut further: the unit of profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atom {
    /// The fragment that consists of it alone, once it was cut.
    pub fragment: Option<FragmentId>,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Bytes of its weights.
    pub parameter_bytes: u64,
    /// Largest number of bytes of activations live at once for one sample.
    pub activation_bytes: u64,
    /// Number of layers.
    pub layers: u32,
}

/// What must be known of a part of a package to estimate any range of its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFacts {
    /// Its segments in order; at least one.
    pub atoms: Vec<Atom>,
    /// The fragment that is the whole part.
    pub whole: FragmentId,
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
    /// Nothing ran; from multiply-accumulates.
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
    /// Standard deviation of the service time; zero when nothing is known of it.
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
    /// Sums over the first segments: seconds, variance, whether each was measured.
    sums: Vec<Sum>,
    /// Whole part over the sum of its segments, where both were measured.
    correction: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    seconds: f64,
    variance: f64,
    unmeasured: usize,
    parameter_bytes: u64,
}

impl Measured {
    /// Prepares estimates for ranges of segments of `part` on `node`. O(segments log records).
    #[must_use]
    pub fn on<'a>(&'a self, part: &'a PartFacts, node: &'a Node) -> OnNode<'a> {
        let mut sums = vec![Sum::default()];
        let mut sum = Sum::default();
        for atom in &part.atoms {
            let measured = atom.fragment.and_then(|id| self.scaled(id, node));
            match measured {
                Some((entry, _)) => {
                    sum.seconds += entry.mean;
                    sum.variance += entry.variance;
                }
                None => {
                    sum.seconds += self.computed(atom, node);
                    sum.unmeasured += 1;
                }
            }
            sum.parameter_bytes = sum.parameter_bytes.saturating_add(atom.parameter_bytes);
            sums.push(sum);
        }
        OnNode {
            measured: self,
            part,
            node,
            sums,
            correction: self.correction(part),
        }
    }

    /// The best entry for `fragment`, as it would be on `node`, and whether it is from there.
    fn scaled(&self, fragment: FragmentId, node: &Node) -> Option<(Entry, bool)> {
        let nodes = self.by_fragment.get(&fragment)?;
        if let Some(here) = nodes.get(&node.id).filter(|entry| entry.weight > 0.0) {
            return Some((here.at_speed(node.macs_per_second), true));
        }
        // The node whose speed is nearest, then the one with most runs, then the first by name.
        let distance = |entry: &Entry| {
            speed_ratio(entry.macs_per_second, node.macs_per_second)
                .ln()
                .abs()
        };
        nodes
            .values()
            .filter(|entry| entry.weight > 0.0)
            .min_by(|a, b| {
                let by_distance = distance(a).total_cmp(&distance(b));
                by_distance.then(b.weight.total_cmp(&a.weight))
            })
            .map(|entry| (entry.at_speed(node.macs_per_second), false))
    }

    /// Seconds for a segment that never ran anywhere.
    fn computed(&self, atom: &Atom, node: &Node) -> f64 {
        let settings = &self.settings;
        let speed = node.macs_per_second;
        let multiplying = as_f64(atom.macs) / (speed * settings.efficiency);
        let beside = settings.layer.as_secs_f64() * f64::from(atom.layers);
        let seconds = multiplying + beside * speed_ratio(settings.reference_speed, speed);
        // Also where the speed is no number at all.
        if speed > 0.0 && seconds.is_finite() {
            seconds.min(LONGEST)
        } else {
            LONGEST
        }
    }

    /// Mean over the nodes on which the whole part and all of its segments ran.
    fn correction(&self, part: &PartFacts) -> f64 {
        let Some(nodes) = self.by_fragment.get(&part.whole) else {
            return 1.0;
        };
        let (mut together, mut alone) = (0.0, 0.0);
        for (node, whole) in nodes.iter().filter(|(_, whole)| whole.weight > 0.0) {
            let segments: Option<f64> = part
                .atoms
                .iter()
                .map(|atom| {
                    let entry = self.entry(atom.fragment?, node)?;
                    let entry = entry.at_speed(whole.macs_per_second);
                    (entry.weight > 0.0).then_some(entry.mean)
                })
                .sum();
            if let Some(segments) = segments {
                together += whole.mean;
                alone += segments;
            }
        }
        if alone > 0.0 && together > 0.0 {
            (together / alone).clamp(0.2, 2.0)
        } else {
            1.0
        }
    }
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
        if let Some((entry, is_here)) = ran {
            let source = if is_here {
                Source::Observed
            } else {
                Source::Scaled
            };
            return estimate(entry.mean, entry.variance, source);
        }
        let (before, after) = (self.sums[segments.start], self.sums[segments.end]);
        let seconds = after.seconds - before.seconds;
        let variance = after.variance - before.variance;
        let unmeasured = after.unmeasured - before.unmeasured;
        if unmeasured == 0 && !segments.is_empty() {
            // One segment alone is what was measured; what the engine gains comes with company.
            let is_alone = segments.len() == 1;
            let correction = if is_alone { 1.0 } else { self.correction };
            return estimate(seconds * correction, variance, Source::Profiled);
        }
        let settings = &self.measured.settings;
        let slowness = speed_ratio(settings.reference_speed, self.node.macs_per_second);
        let call = settings.call.as_secs_f64() * slowness;
        estimate(seconds + call, variance, Source::Computed)
    }

    /// Bytes that `segments` are expected to take on the node, and how that is known: measured here,
    /// the most measured elsewhere, the sum of its segments' measurements but no more than the whole
    /// part took, or weights and activations times what the engine makes of them.
    ///
    /// # Panics
    /// When `segments` reaches beyond the part.
    #[must_use]
    pub fn memory(&self, segments: Range<usize>, fragment: Option<FragmentId>) -> (u64, Source) {
        let ran = fragment.and_then(|id| self.measured.by_fragment.get(&id));
        if let Some(nodes) = ran {
            if let Some(bytes) = nodes
                .get(&self.node.id)
                .and_then(|entry| entry.memory_bytes)
            {
                return (bytes, Source::Observed);
            }
            let most = nodes.values().filter_map(|entry| entry.memory_bytes).max();
            if let Some(bytes) = most {
                return (bytes, Source::Scaled);
            }
        }
        let (before, after) = (self.sums[segments.start], self.sums[segments.end]);
        let weights = after.parameter_bytes.saturating_sub(before.parameter_bytes);
        let atoms = &self.part.atoms[segments];
        let activations = atoms.iter().map(|atom| atom.activation_bytes).max();
        let settings = &self.measured.settings;
        let bytes = as_f64(weights) * settings.weights_factor
            + as_f64(activations.unwrap_or(0)) * settings.activations_factor
            + as_f64(settings.base_bytes);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and the cast saturates"
        )]
        (bytes as u64, Source::Computed)
    }
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
