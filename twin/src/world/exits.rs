//! Exits on simulated nodes: what they say of a request, and whether they answer.
//!
//! What decides is what decides on a worker, [`OnNode`], with the node's own backlog and what it heard of the next
//! one's. What an exit says is drawn: each sample of a request is one of the recorded inputs, the same at every exit, so
//! that what is hard at one exit is hard at the next. Of several samples the one that an exit is least sure of speaks,
//! as on a worker (`worker/src/{exits,station}.rs`).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use splitplace_fleet::Timestamp;
use splitplace_policy::exit::{
    At, ExitOutcome, Intent, MAX_EXITS, MAX_PLACES, OnNode, Records, along::Took, task::SERVED,
};

use super::{
    control::{HopRow, NO_LINE, RouteRow},
    node::Frame,
    run::Sim,
};
use crate::{Stream, stats::Summary};

/// What is known of the exits of a variant, and who decides at them.
#[derive(Clone, Debug)]
pub struct Exits {
    /// What each exit, and the network's end as the last, said of each input. Requests are drawn from these.
    pub records: Arc<Records>,
    /// Least confidence at which each exit answers while no rule decides: one fewer than the records have exits.
    pub thresholds: Arc<[f64]>,
    /// Who decides instead of the thresholds.
    pub control: Option<ExitControl>,
}

/// A controller of exits, as the configuration of an orchestrator asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitControl {
    /// One of [`SERVED`].
    pub policy: String,
    /// Share of the requests that may be turned away.
    pub target: f64,
    /// Requests of one arm that may be present on a node, those in service included.
    pub places: u32,
    /// Share of the requests that go to the network's end for calibration.
    pub audit_share: f64,
}

impl Exits {
    /// What is wrong with it; nothing when it can be used.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let exits = self.records.exits();
        if self.records.is_empty() || self.thresholds.len() + 1 != exits {
            wrong.push(format!(
                "{} thresholds and records of {} inputs at {exits} exits: a threshold for each exit but the last, and \
                 some inputs",
                self.thresholds.len(),
                self.records.len()
            ));
        }
        let Some(control) = &self.control else {
            return wrong;
        };
        if !SERVED.contains(&&*control.policy) {
            wrong.push(format!(
                "there is no exit policy {:?}; known are {}",
                control.policy,
                SERVED.join(", ")
            ));
        }
        if !(control.target > 0.0 && control.target < 1.0) {
            let target = control.target;
            wrong.push(format!("a loss target of {target} is not between 0 and 1"));
        }
        if !(1..=MAX_PLACES).contains(&(control.places as usize)) {
            let places = control.places;
            wrong.push(format!("{places} places are not 1 to {MAX_PLACES}"));
        }
        if !(0.0..=1.0).contains(&control.audit_share) {
            let share = control.audit_share;
            wrong.push(format!("an audited share of {share} is none"));
        }
        wrong
    }

    /// Who makes rules, if it is not left to the thresholds.
    pub(super) fn governed(&self) -> Option<&ExitControl> {
        let control = self.control.as_ref();
        control.filter(|control| control.policy != "threshold")
    }

    /// Frames that may wait for a fragment of a controlled arm: one of the places is in service.
    pub(super) fn waiting(&self) -> Option<u32> {
        let control = self.governed()?;
        Some(control.places.saturating_sub(1).max(1))
    }

    /// The recorded inputs that a frame's samples are.
    fn inputs(&self, hardness: &Stream, frame: &Frame) -> impl Iterator<Item = usize> {
        let mut stream = hardness.of(frame.request);
        let inputs = self.records.len();
        (0..frame.samples.max(1)).map(move |_| stream.below(inputs))
    }

    /// How sure an exit is of the sample that it is least sure of.
    fn confidence(&self, hardness: &Stream, frame: &Frame, exit: usize) -> f64 {
        let inputs = self.inputs(hardness, frame);
        let all = inputs.map(|input| self.records.confidence(input, exit));
        all.fold(1.0, f64::min)
    }

    /// Share of a frame's samples of which an exit is right.
    fn right(&self, hardness: &Stream, frame: &Frame, exit: usize) -> f64 {
        let inputs = self.inputs(hardness, frame);
        let right = inputs.filter(|&input| self.records.is_correct(input, exit));
        right.count() as f64 / f64::from(frame.samples.max(1))
    }
}

/// How many are present at a node, as the node before hears it after the link's delay.
#[derive(Debug, Default)]
struct News {
    coming: VecDeque<(Timestamp, u32)>,
    heard: Option<u32>,
}

impl News {
    fn say(&mut self, now: Timestamp, delay: Duration, present: u32) {
        self.heard(now);
        self.coming.push_back((now + delay, present));
    }

    fn heard(&mut self, now: Timestamp) -> Option<u32> {
        while let Some((_, present)) = self.coming.pop_front_if(|(at, _)| *at <= now) {
            self.heard = Some(present);
        }
        self.heard
    }
}

/// One node on a route with exits: hops in a row.
#[derive(Debug)]
pub(super) struct Station {
    node: u32,
    pub(super) decides: OnNode,
    /// Exits of the network before this node's first, and here.
    first: usize,
    exits: usize,
    /// Whether the route ends here.
    is_end: bool,
    present: u32,
    pub(super) refused: u64,
    /// For the node before, where that has exits, and after how long it hears.
    news: Option<(News, Duration)>,
    /// Of the first hop here.
    first_hop: u16,
    /// What each hop here took since the last report, and exits behind it.
    took: Vec<(Summary, u8)>,
}

impl Station {
    fn note(&mut self, now: Timestamp) {
        let present = self.present;
        if let Some((news, delay)) = &mut self.news {
            news.say(now, *delay, present);
        }
    }

    pub(super) const fn node(&self) -> usize {
        self.node as usize
    }

    /// Whether rules are made for it: it holds exits or the network's end.
    pub(super) const fn is_ruled(&self) -> bool {
        self.exits > 0 || self.is_end
    }

    /// What the times between its exits were since the last report, and what it turned away.
    pub(super) fn report(&mut self) -> (Vec<Took>, u64) {
        let mut stages = Vec::with_capacity(self.exits + 1);
        let mut since = Took::default();
        for (took, exits) in &mut self.took {
            let one = std::mem::take(took);
            since = Took {
                count: one.count(),
                mean: since.mean + one.mean(),
                variance: since.variance + one.variance(),
            };
            for _ in 0..*exits {
                stages.push(since);
                (since.mean, since.variance) = (0.0, 0.0);
            }
        }
        stages.push(since);
        (stages, std::mem::take(&mut self.refused))
    }
}

/// A route with exits of which something is known.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) exits: Exits,
    pub(super) stations: Vec<Station>,
    /// The table that the route is in.
    pub(super) table: u32,
    /// Who keeps its rules, while its plan is in force.
    pub(super) arm: Option<u32>,
}

impl Line {
    /// `delay` is the link's from one node to another.
    pub(super) fn new(
        exits: Exits,
        route: &RouteRow,
        table: u32,
        delay: impl Fn(u32, u32) -> Duration,
    ) -> Self {
        let mut stations: Vec<Station> = Vec::new();
        for (number, hop) in (0u16..).zip(&route.hops) {
            if usize::from(hop.station) == stations.len() {
                let before = stations.last().filter(|before| before.exits > 0);
                let news = before.map(|before| (News::default(), delay(hop.node, before.node)));
                let first = stations.last().map_or(0, |one| one.first + one.exits);
                stations.push(Station {
                    node: hop.node,
                    decides: OnNode::default(),
                    first,
                    exits: 0,
                    is_end: false,
                    present: 0,
                    refused: 0,
                    news,
                    first_hop: number,
                    took: Vec::new(),
                });
            }
            if let Some(station) = stations.last_mut() {
                station.exits += usize::from(hop.exits);
                station.took.push((Summary::default(), hop.exits));
                station.is_end = usize::from(number) + 1 == route.hops.len();
            }
        }
        Self {
            exits,
            stations,
            table,
            arm: None,
        }
    }

    /// A node died: nobody is there, and the node before hears no more of it.
    pub(super) fn crash(&mut self, node: u32) {
        for station in self.stations.iter_mut().filter(|one| one.node == node) {
            station.present = 0;
            if let Some((news, _)) = &mut station.news {
                *news = News::default();
            }
        }
    }
}

impl Sim<'_> {
    fn line(&mut self, number: u32) -> Option<&mut Line> {
        if number == NO_LINE {
            return None;
        }
        self.steering.lines.get_mut(number as usize)?.as_mut()
    }

    /// A frame comes to a node and takes a place.
    pub(super) fn comes_to(&mut self, now: Timestamp, line: u32, hop: &HopRow) {
        if let Some(line) = self.line(line) {
            let station = &mut line.stations[usize::from(hop.station)];
            station.present += 1;
            station.note(now);
        }
    }

    /// A frame leaves a node, however; `is_refused` when it had found no place.
    pub(super) fn leaves(&mut self, now: Timestamp, line: u32, hop: &HopRow, is_refused: bool) {
        if let Some(line) = self.line(line) {
            let station = &mut line.stations[usize::from(hop.station)];
            station.present = station.present.saturating_sub(1);
            station.refused += u64::from(is_refused);
            station.note(now);
        }
    }

    /// A node turns to a frame: what its exits intend is fixed.
    pub(super) fn turns_to(&mut self, line: u32, hop: &HopRow, frame: &mut Frame) {
        let mut draws = self.intents.of(frame.entity());
        if let Some(line) = self.line(line) {
            let station = &line.stations[usize::from(hop.station)];
            let (intent, is_audited) = station.decides.begin(station.present, &mut draws);
            frame.intent = intent.0;
            frame.present = u8::try_from(station.present).unwrap_or(u8::MAX);
            frame.is_audited |= is_audited;
        }
    }

    /// Notes what a hop will have taken.
    pub(super) fn takes(&mut self, line: u32, hop: &HopRow, number: u16, nanos: u64) {
        if let Some(line) = self.line(line) {
            let station = &mut line.stations[usize::from(hop.station)];
            let place = usize::from(number - station.first_hop);
            station.took[place].0.add(nanos as f64 / 1e9);
        }
    }

    /// Whether the request is answered now that a hop is computed: by one of its exits, or because the route ends.
    pub(super) fn is_answered(
        &mut self,
        now: Timestamp,
        number: u32,
        hop: &HopRow,
        frame: &Frame,
        is_last: bool,
    ) -> bool {
        let place = usize::from(hop.station);
        let mut draws = self.choices.of(frame.entity());
        let Some(Some(line)) = self.steering.lines.get_mut(number as usize) else {
            return false;
        };
        let behind = line.stations.get_mut(place + 1);
        let behind = behind.and_then(|next| next.news.as_mut()?.0.heard(now));
        let station = &line.stations[place];
        let first = usize::from(hop.first_exit);
        let mut exit = is_last.then(|| line.exits.records.exits() - 1);
        for here in first..first + usize::from(hop.exits) {
            let at = At {
                exit: here,
                confidence: line.exits.confidence(&self.hardness, frame, here),
                present: station.present.max(1) as usize,
                intent: Intent(frame.intent),
            };
            let threshold = line.exits.thresholds.get(here).copied();
            let threshold = threshold.unwrap_or(f64::INFINITY);
            let behind = behind.map(|behind| behind as usize);
            // No request of a scenario asks for accuracy.
            let stops = station
                .decides
                .stops(&at, threshold, behind, 0.0, &mut draws);
            if stops && !frame.is_audited {
                exit = Some(here);
                break;
            }
        }
        if let Some(exit) = exit {
            self.answers(number, place, exit, frame);
        }
        exit.is_some()
    }

    /// Somebody learns from an answer, and whether it is right is known.
    fn answers(&mut self, number: u32, place: usize, exit: usize, frame: &Frame) {
        let Some(Some(line)) = self.steering.lines.get_mut(number as usize) else {
            return;
        };
        let exits = &line.exits;
        let right = exits.right(&self.hardness, frame, exit);
        let waiting = self.requests.get_mut(frame.request);
        if let Some(waiting) = waiting.filter(|one| one.attempt == frame.attempt) {
            waiting.right = Some(right as f32);
        }
        let last = exits.records.exits() - 1;
        let station = &mut line.stations[place];
        if station.decides.learns() {
            let mut confidences = [0.0; MAX_EXITS];
            let to = (exit + 1).min(station.first + station.exits);
            for (said, here) in confidences.iter_mut().zip(station.first..to) {
                *said = exits.confidence(&self.hardness, frame, here);
            }
            station.decides.answered(&ExitOutcome {
                intent: Intent(frame.intent),
                present: usize::from(frame.present),
                confidences: &confidences[..to.saturating_sub(station.first)],
                audited: frame.is_audited,
            });
        }
        if let Some(arm) = line.arm.filter(|_| frame.is_audited && exit == last) {
            let mut said = [(0.0, false); MAX_EXITS];
            for (here, said) in said.iter_mut().enumerate().take(last) {
                let confidence = exits.confidence(&self.hardness, frame, here);
                let here = exits.right(&self.hardness, frame, here);
                *said = (confidence, (here - right).abs() < f64::EPSILON);
            }
            self.steering.audited(arm, &said[..last]);
        }
    }
}
