//! Keeps the rules of a line of nodes true to what is seen: arrivals, times, losses, confidences.
//!
//! Whoever serves tells facts and instants, asks [`Governor::due`] now and then, hands the [`Task`] that it gets to a
//! thread, and brings back what came of it; the nodes go on by the old rules until then. What changes:
//!
//! - *Rate.* A long window while nothing moves, so that its error is small; when a short one differs from it by
//!   more than 3.5 standard errors, the long one begins anew with the short one's arrivals.
//! - *Bursts.* Rules cannot follow what is over before they are made: short bursts are met by rules that are made
//!   for both rates ([`Bursts`]).
//! - *Loss.* What is lost beyond the target, or far below it, moves the target of the next solution (`aim`): real
//!   nodes are not quite the stations of the model.
//! - *Confidence.* Audited requests say how often an exit agrees with the network's end. An exit whose promises
//!   no longer hold is believed in proportion from then on.

use std::sync::Arc;

use splitplace_queueing::{Arrivals, Service};

use super::{
    ExitError, ExitTable, MAX_PLACES, Records,
    audit::{Calibration, Drift},
    bursts::Bursts,
    observe::{Basis, Moved, RateWindow, StageTimes, Tolerance, needs_resolve},
    real,
    simulate::Node,
    task::{Solved, Task},
};

/// Arrivals of the windows, and seconds after which they are too old.
const SHORT: (usize, f64) = (128, 4.0);
const LONG: (usize, f64) = (4096, 300.0);
/// Standard errors between the windows that are no chance.
const STEP_ERRORS: f64 = 3.5;
/// Runs of a stage that count.
const STAGE_MEMORY: f64 = 500.0;
/// Offered load, if all ran to the end, that is assumed before anything has arrived.
const QUIET_LOAD: f64 = 0.3;
/// Seconds between two looks for bursts, and the mean length from which on one is a step that rules can follow:
/// some seconds to notice, some to solve, and a good part of it must be left.
const BURST_LOOK: f64 = 3.0;
const BURST_LONG: f64 = 10.0;
/// Relative change of bursts that is worth a new solution.
const BURST_STEP: f64 = 0.5;
/// Arrivals after which the loss is compared with the target, and before which it is only where it is far beyond:
/// by so many standard errors of losses that come in clumps of so many, and by so many losses more.
const LOSS_ARRIVALS: u64 = 2_000;
const LOSS_ERRORS: f64 = 3.0;
const LOSS_CLUMP: f64 = 3.0;
/// Bounds of the aim, as a share of the target.
const AIM: (f64, f64) = (0.2, 1.0);
/// Change of the aim that is worth a new solution.
const AIM_STEP: f64 = 0.15;
/// Recorded inputs that solutions are made from at most: beyond, they take longer and gain nothing.
const INPUTS: usize = 4_000;

/// What may be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct GovernorSettings {
    /// One of [`SERVED`](super::task::SERVED).
    pub policy: String,
    /// ε: share of the arrivals that may be lost.
    pub target: f64,
    /// Share of the target kept in hand.
    pub margin: f64,
    /// K of every node, the request in service included.
    pub places: usize,
    /// Confidences told apart.
    pub bins: usize,
    /// The package's thresholds.
    pub thresholds: Vec<f64>,
    /// How far the world may move before rules are made anew.
    pub tolerance: Tolerance,
    /// Of searches and simulations.
    pub seed: u64,
}

impl Default for GovernorSettings {
    fn default() -> Self {
        Self {
            policy: "joint".into(),
            target: 0.01,
            margin: 0.1,
            places: 16,
            bins: 10,
            thresholds: Vec::new(),
            tolerance: Tolerance::default(),
            seed: 0,
        }
    }
}

/// One node as it is assumed before it has reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumed {
    /// Seconds between its exits; behind the last one of the line comes the network's end.
    pub stages: Vec<f64>,
    /// Requests that it serves at once.
    pub servers: u32,
}

#[derive(Clone, Debug)]
struct Seen {
    assumed: Assumed,
    times: Vec<StageTimes>,
}

impl Seen {
    /// As a station with one server: c servers count as one that is c times as fast.
    fn stages(&self) -> Result<Vec<Service>, splitplace_queueing::Error> {
        let faster = 1.0 / f64::from(self.assumed.servers.max(1));
        let pairs = self.times.iter().zip(&self.assumed.stages);
        let of = |(times, &assumed): (&StageTimes, &f64)| {
            let service = if times.weight() > 0.0 {
                times.service()?
            } else {
                Service::constant(assumed.max(1e-9))?
            };
            Ok(service.scaled(faster))
        };
        pairs.map(of).collect()
    }
}

/// What operators see of it.
#[derive(Clone, Debug, PartialEq)]
pub struct GovernorView {
    /// Requests a second, as estimated.
    pub rate: f64,
    /// Offered load at the busiest node if all ran to the end.
    pub load: f64,
    /// Share of correct answers, and of losses, that the rules should achieve.
    pub accuracy: f64,
    /// See [`GovernorView::accuracy`].
    pub loss: f64,
    /// Share lost since the rate last stepped or the aim last changed, and of how many.
    pub lost: f64,
    /// See [`GovernorView::lost`].
    pub arrivals: u64,
    /// Target of the last solution, as a share of the target.
    pub aim: f64,
    /// Solutions so far.
    pub solutions: u64,
    /// Audited requests so far.
    pub audited: u64,
    /// What moved before the last solution.
    pub moved: Option<Moved>,
    /// By exit: how far its promises are believed; 1 when they hold.
    pub trust: Vec<f64>,
    /// Why the rules are not those asked for.
    pub instead: String,
}

/// The keeper of one line.
#[derive(Clone, Debug)]
pub struct Governor {
    settings: GovernorSettings,
    records: Arc<Records>,
    /// Promises of agreement with the network's end, by confidence.
    agreement: ExitTable,
    nodes: Vec<Seen>,
    long: RateWindow,
    short: RateWindow,
    /// The last arrivals, whatever was a step.
    all: RateWindow,
    bursts: Option<Bursts>,
    looked: f64,
    basis: Option<Basis>,
    basis_bursts: Option<Bursts>,
    basis_aim: f64,
    is_solving: bool,
    arrived: u64,
    lost: u64,
    /// The rules in force are none for what comes: what is lost now says nothing about the model.
    is_outdated: bool,
    aim: f64,
    trust: Vec<f64>,
    calibration: Calibration,
    audited: u64,
    drifted: Option<Drift>,
    solved: Option<Solved>,
    solutions: u64,
    moved: Option<Moved>,
}

impl Governor {
    /// For a network with these records on nodes that hold its exits in order.
    ///
    /// # Errors
    /// When there are no records, or nodes and network do not fit.
    pub fn new(
        settings: GovernorSettings,
        records: &Records,
        nodes: Vec<Assumed>,
    ) -> Result<Self, ExitError> {
        let stages: usize = nodes.iter().map(|node| node.stages.len()).sum();
        let exits = records.exits();
        let is_empty = nodes.iter().any(|node| node.stages.is_empty());
        if stages != exits || is_empty {
            return Err(super::TableError::Exits { exits, stages }.into());
        }
        let settings = GovernorSettings {
            places: settings.places.clamp(1, MAX_PLACES),
            ..settings
        };
        let step = stride(records.len());
        let records = records.filter(|input| input % step == 0);
        let ones = vec![Service::constant(1.0)?; exits];
        let agreement = records.agreeing().table(ones, settings.bins)?;
        let seen = |assumed: Assumed| Seen {
            times: vec![StageTimes::new(STAGE_MEMORY); assumed.stages.len()],
            assumed,
        };
        Ok(Self {
            aim: AIM.1,
            basis_aim: AIM.1,
            records: Arc::new(records),
            agreement,
            nodes: nodes.into_iter().map(seen).collect(),
            long: RateWindow::sized(LONG.0, LONG.1),
            short: RateWindow::sized(SHORT.0, SHORT.1),
            all: RateWindow::sized(LONG.0, LONG.1),
            bursts: None,
            looked: f64::NEG_INFINITY,
            basis: None,
            basis_bursts: None,
            is_solving: false,
            arrived: 0,
            lost: 0,
            is_outdated: true,
            trust: vec![1.0; exits],
            calibration: Calibration::new(exits),
            audited: 0,
            drifted: None,
            solved: None,
            solutions: 0,
            moved: None,
            settings,
        })
    }

    /// A request was sent to the first node, at an instant in seconds.
    pub fn arrived(&mut self, at: f64) {
        self.long.arrived(at);
        self.short.arrived(at);
        self.all.arrived(at);
        self.arrived += 1;
    }

    /// A request found a node full.
    pub fn lost(&mut self) {
        self.lost += 1;
    }

    /// A stage of a node took these times.
    pub fn took(&mut self, node: usize, stage: usize, count: u64, mean: f64, variance: f64) {
        let times = self
            .nodes
            .get_mut(node)
            .and_then(|n| n.times.get_mut(stage));
        if let Some(times) = times {
            times.took_many(count, mean, variance);
        }
    }

    /// An audited request: by exit its confidence and whether it named the class that the network's end named.
    /// The drift that this shows, if it does.
    pub fn audited(&mut self, exits: &[(f64, bool)]) -> Option<Drift> {
        self.audited += 1;
        self.calibration.saw(&self.agreement, exits);
        let drift = self.calibration.drift()?;
        let ratio = drift.came_true / drift.promised.max(1e-6);
        if let Some(trust) = self.trust.get_mut(drift.exit) {
            *trust = (*trust * ratio).clamp(0.05, 1.0);
        }
        self.calibration.reset();
        self.drifted = Some(drift);
        Some(drift)
    }

    /// Requests a second, with the relative standard error. Begins the long window anew after a step; what stays
    /// within known bursts is none.
    fn rate(&mut self, now: f64) -> Option<(f64, f64)> {
        if now >= self.looked + BURST_LOOK {
            self.looked = now;
            let all: Vec<f64> = self.all.fresh(now).collect();
            let found = Bursts::fit(&all);
            self.bursts = found.filter(|bursts| bursts.stays[1] < BURST_LONG);
        }
        if self.bursts.is_some() {
            self.long.clone_from(&self.all);
        }
        let (long, long_error) = self.long.rate(now)?;
        if let Some((short, short_error)) = self.short.rate(now) {
            let [calm, burst] = self.bursts.map_or([long; 2], |bursts| bursts.rates);
            let off = (short - burst).max(calm - short).max(0.0);
            let error = (short * short_error).hypot(long * long_error);
            if off > STEP_ERRORS * error && short_error < 0.25 {
                // The record is kept: one of several bursts looks like a step, and they are known by several. A step
                // is no burst that is over, so it does not fit as one.
                self.bursts = None;
                self.looked = now + BURST_LOOK;
                self.long = RateWindow::sized(LONG.0, LONG.1);
                for at in self.short.fresh(now) {
                    self.long.arrived(at);
                }
                self.is_outdated = true;
                return self.long.rate(now);
            }
        }
        Some((long, long_error))
    }

    /// Mean seconds of the whole network on the busiest node.
    fn busiest(&self) -> f64 {
        let of = |seen: &Seen| -> f64 {
            let stages = seen.stages().unwrap_or_default();
            stages.iter().map(Service::mean).sum()
        };
        self.nodes.iter().map(of).fold(1e-9, f64::max)
    }

    /// Compares what was lost with the target: as soon as it is far beyond it, else after many arrivals.
    fn watch_loss(&mut self) {
        if self.is_outdated {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of an interval")]
        let (arrived, lost) = (self.arrived as f64, self.lost as f64);
        let target = self.settings.target;
        let due = target * arrived;
        let far = due + LOSS_ERRORS * (LOSS_CLUMP * due).sqrt() + LOSS_CLUMP;
        if self.arrived < LOSS_ARRIVALS && lost <= far {
            return;
        }
        let loss = lost / arrived.max(1.0);
        let error = (target * (1.0 - target) / arrived.max(1.0)).sqrt();
        if loss > target + error {
            self.aim *= (target / loss).max(0.5);
        } else if loss < 0.5 * target {
            self.aim *= (0.5 * target / loss).clamp(1.2, 2.0);
        }
        self.aim = self.aim.clamp(AIM.0, AIM.1);
        (self.arrived, self.lost) = (0, 0);
    }

    /// What is to be solved now, if anything is. Until [`Governor::done`] nothing more is.
    pub fn due(&mut self, now: f64) -> Option<Task> {
        if self.is_solving {
            return None;
        }
        let quiet = QUIET_LOAD / self.busiest();
        let (rate, error) = self.rate(now).unwrap_or((quiet, 1.0));
        self.watch_loss();
        let stages: Vec<Vec<Service>> = self
            .nodes
            .iter()
            .map(Seen::stages)
            .collect::<Result<_, _>>()
            .ok()?;
        let accuracy = (0..self.records.exits()).map(|e| self.records.accuracy(e));
        let basis = Basis {
            rate: rate.max(quiet * 0.1),
            stages: stages.iter().flatten().map(Service::mean).collect(),
            accuracy: accuracy.zip(&self.trust).map(|(a, t)| a * t).collect(),
        };
        if let Some(before) = &self.basis {
            let moved = needs_resolve(before, &basis, error, &self.settings.tolerance);
            let is_like = match (&self.basis_bursts, &self.bursts) {
                (None, None) => true,
                (Some(before), Some(now)) => before.is_like(now, BURST_STEP),
                _ => false,
            };
            let moved = moved.or((!is_like).then_some(Moved::Bursts));
            let is_aim = (self.aim / self.basis_aim - 1.0).abs() > AIM_STEP;
            // Far from busy on both sides, every rule is the same.
            let busy = |basis: &Basis| basis.rate / quiet > 1.0;
            let is_idle = moved == Some(Moved::Rate) && !busy(before) && !busy(&basis);
            if (moved.is_none() || is_idle) && !is_aim {
                return None;
            }
            self.moved = moved;
        }
        let target = self.settings.target * (1.0 - self.settings.margin) * self.aim;
        let arrivals = match &self.bursts {
            Some(bursts) => bursts.arrivals(basis.rate),
            None => Arrivals::poisson(basis.rate),
        };
        let arrivals = arrivals.ok()?;
        self.basis_bursts = self.bursts;
        self.basis = Some(basis);
        self.basis_aim = self.aim;
        self.is_solving = true;
        Some(Task {
            policy: self.settings.policy.clone(),
            records: if self.trust.iter().all(|&t| t >= 1.0) {
                Arc::clone(&self.records)
            } else {
                Arc::new(self.records.trusting(&self.trust))
            },
            thresholds: self.settings.thresholds.clone(),
            nodes: stages
                .into_iter()
                .map(|stages| Node {
                    stages,
                    capacity: self.settings.places,
                })
                .collect(),
            arrivals,
            target,
            bins: self.settings.bins,
            seed: self.settings.seed,
        })
    }

    /// What came of the task; `false` when the old rules stay.
    pub fn done(&mut self, solved: Result<Solved, ExitError>) -> bool {
        self.is_solving = false;
        let Ok(solved) = solved else {
            return false;
        };
        self.solutions += 1;
        if std::mem::take(&mut self.is_outdated) {
            (self.arrived, self.lost) = (0, 0);
        }
        self.solved = Some(solved);
        true
    }

    /// The rules in force, one for each node.
    #[must_use]
    pub fn rules(&self) -> &[super::Rule] {
        self.solved.as_ref().map_or(&[], |solved| &solved.rules)
    }

    /// What it was told to do.
    #[must_use]
    pub const fn settings(&self) -> &GovernorSettings {
        &self.settings
    }

    /// The last drift of a calibration.
    #[must_use]
    pub const fn drifted(&self) -> Option<Drift> {
        self.drifted
    }

    /// For operators.
    #[must_use]
    pub fn view(&self) -> GovernorView {
        let rate = self.basis.as_ref().map_or(0.0, |basis| basis.rate);
        let solved = self.solved.as_ref();
        #[expect(clippy::cast_precision_loss, reason = "counts of an interval")]
        let lost = self.lost as f64 / self.arrived.max(1) as f64;
        GovernorView {
            rate,
            load: rate * self.busiest(),
            accuracy: solved.map_or(0.0, |solved| solved.accuracy),
            loss: solved.map_or(0.0, |solved| solved.loss),
            lost,
            arrivals: self.arrived,
            aim: self.basis_aim,
            solutions: self.solutions,
            audited: self.audited,
            moved: self.moved,
            trust: self.trust.clone(),
            instead: solved.map_or_else(String::new, |solved| solved.instead.clone()),
        }
    }
}

/// Of so many recorded inputs every how many-th, from the first on, solutions are made from.
#[must_use]
pub fn stride(inputs: usize) -> usize {
    inputs.div_ceil(INPUTS).max(1)
}

/// Whether `share` of a sequence holds its `number`-th element, evenly spread.
pub(super) fn spread(number: usize, share: f64) -> bool {
    ((real(number) + 1.0) * share).floor() > (real(number) * share).floor()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::exit::synthetic::Synthetic;

    fn governor(policy: &str) -> Governor {
        let made = Synthetic {
            inputs: 500,
            ..Synthetic::default()
        };
        let stages = made.stages().unwrap();
        let settings = GovernorSettings {
            policy: policy.into(),
            thresholds: vec![0.9; stages.len() - 1],
            places: 8,
            bins: 6,
            ..GovernorSettings::default()
        };
        let assumed = Assumed {
            stages: stages.iter().map(Service::mean).collect(),
            servers: 1,
        };
        Governor::new(settings, &made.records().unwrap(), vec![assumed]).unwrap()
    }

    /// Poisson arrivals up to an instant.
    fn arrive(governor: &mut Governor, now: &mut f64, rate: f64, until: f64, rng: &mut ChaCha8Rng) {
        while *now < until {
            *now -= (-rng.random::<f64>()).ln_1p() / rate;
            governor.arrived(*now);
        }
    }

    #[test]
    fn a_step_of_the_rate_is_solved_for_within_seconds_and_then_rests() {
        let mut governor = governor("joint");
        let first = governor.due(0.0).unwrap();
        assert!(governor.due(0.1).is_none(), "one at a time");
        assert!(governor.done(first.solve()));
        let service = governor.busiest();
        let (half, thrice) = (0.5 / service, 3.0 / service);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut now = 0.0;
        let solve = |governor: &mut Governor, now: f64| {
            let task = governor.due(now)?;
            assert!(governor.done(task.solve()));
            Some(task.arrivals.rate())
        };
        arrive(&mut governor, &mut now, half, 300.0, &mut rng);
        solve(&mut governor, now);
        // Three times what the last exit could hold.
        let step = now;
        let mut known = 0.0;
        while now < step + 6.0 {
            let until = now + 0.25;
            arrive(&mut governor, &mut now, thrice, until, &mut rng);
            known = solve(&mut governor, now).unwrap_or(known);
        }
        assert!((known / thrice - 1.0).abs() < 0.35, "{known} {thrice}");
        // As more is seen the estimate gets better, and once it is good nothing moves.
        let until = now + 120.0;
        arrive(&mut governor, &mut now, thrice, until, &mut rng);
        known = solve(&mut governor, now).unwrap_or(known);
        assert!((known / thrice - 1.0).abs() < 0.15, "{known} {thrice}");
        let before = governor.solutions;
        for _ in 0..40 {
            let until = now + 5.0;
            arrive(&mut governor, &mut now, thrice, until, &mut rng);
            solve(&mut governor, now);
        }
        assert!(governor.solutions - before <= 2, "it must not flap");
    }

    #[test]
    fn bursts_that_look_like_steps_are_known_once_there_were_several() {
        let mut governor = governor("threshold");
        let service = governor.busiest();
        let rate = 1.5 / service;
        // Two and a half times the rate for a fifth of the time, six seconds long.
        let phases = [(0.625 * rate, 24.0), (2.5 * rate, 6.0)];
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut now, mut phase, mut ends) = (0.0, 0, 24.0);
        while now < 300.0 {
            let until = (now + 0.5f64).min(ends);
            arrive(&mut governor, &mut now, phases[phase].0, until, &mut rng);
            if now >= ends {
                phase = 1 - phase;
                ends = now - phases[phase].1 * (-rng.random::<f64>()).ln_1p();
            }
            if let Some(task) = governor.due(now) {
                assert!(governor.done(task.solve()));
            }
        }
        let found = governor.bursts.unwrap();
        assert!((3.0..10.0).contains(&found.stays[1]), "{found:?}");
        let height = found.rates[1] / found.rate();
        assert!((1.8..3.2).contains(&height), "{found:?}");
    }

    #[test]
    fn too_much_loss_lowers_the_aim_and_none_raises_it_again() {
        let mut governor = governor("threshold");
        let task = governor.due(0.0).unwrap();
        governor.done(task.solve());
        for number in 0..2_000 {
            governor.arrived(f64::from(number));
            if number % 20 == 0 {
                governor.lost();
            }
        }
        let task = governor.due(2_000.0).unwrap();
        assert!(task.target < 0.6 * 0.01, "{}", task.target);
        governor.done(task.solve());
        for number in 2_000..8_100 {
            governor.arrived(f64::from(number));
            if let Some(task) = governor.due(f64::from(number)) {
                governor.done(task.solve());
            }
        }
        assert!(governor.aim > 0.7, "{}", governor.aim);
    }

    #[test]
    fn far_too_much_loss_is_met_at_once_and_what_was_lost_to_a_step_is_not_held_against_the_model()
    {
        let mut governor = governor("threshold");
        governor.done(governor.clone().due(0.0).unwrap().solve());
        let lose = |governor: &mut Governor, every: u32| {
            for number in 0..150 {
                governor.arrived(f64::from(number));
                if number % every == 0 {
                    governor.lost();
                }
            }
            governor.watch_loss();
            governor.aim
        };
        assert_eq!(
            lose(&mut governor, 50).total_cmp(&1.0),
            std::cmp::Ordering::Equal
        );
        assert!(lose(&mut governor, 6) < 0.6);
        governor.is_outdated = true;
        let before = governor.aim;
        assert!(lose(&mut governor, 2) >= before);
    }

    #[test]
    fn an_exit_that_no_longer_keeps_its_promises_is_believed_less() {
        let mut governor = governor("joint");
        let task = governor.due(0.0).unwrap();
        let before = task.records.accuracy(1);
        governor.done(task.solve());
        let mut drift = None;
        for number in 0..400 {
            // The second exit is right in a half of what it is sure of.
            let exits = [(0.99, true), (0.99, number % 2 == 0)];
            drift = drift.or(governor.audited(&exits));
        }
        assert_eq!(drift.unwrap().exit, 1);
        let task = governor.due(1.0).unwrap();
        assert!(task.records.accuracy(1) < 0.9 * before);
        assert_eq!(governor.view().audited, 400);
        assert!(governor.view().trust[1] < 0.9);
    }

    #[test]
    fn nodes_and_network_must_fit() {
        let records = Synthetic::default().records().unwrap();
        let assumed = Assumed {
            stages: vec![0.1; 2],
            servers: 1,
        };
        let settings = GovernorSettings::default();
        assert!(Governor::new(settings, &records, vec![assumed]).is_err());
    }
}
