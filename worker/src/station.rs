//! The exits of one route on this node: who decides at them, how long it takes to get there, what came of it.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use splitplace_link::ExitSaid;
use splitplace_plan::Generation;
use splitplace_policy::exit::{
    At, ExitOutcome, Intent, Intents, OnNode, Rule, RuleExit, rule::Looks,
};
use splitplace_proto::control;

use crate::{exits::Exit, fragments::Service, news::Told};

/// A route's exits on this node.
#[derive(Debug)]
pub(crate) struct Station {
    generation: Generation,
    route: u32,
    around: Around,
    inner: Mutex<Inner>,
}

/// The nodes beside this one on the route, as far as exits look at them.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// The node before has exits: it hears how many are present here.
    pub(crate) before: Option<Arc<Told>>,
    /// The node behind, if exits are here.
    pub(crate) behind: Option<String>,
}

#[derive(Debug)]
struct Inner {
    control: OnNode,
    rng: ChaCha8Rng,
    present: u32,
    /// How many are present at the node behind, as it was last heard.
    behind: Option<u32>,
    arrived: u64,
    refused: u64,
    stages: Vec<Service>,
    answered: Vec<u64>,
}

impl Station {
    /// For a route with so many exits here. `seed` is that of the draws.
    pub(crate) fn new(
        generation: Generation,
        route: u32,
        exits: usize,
        seed: u64,
        around: Around,
    ) -> Self {
        let inner = Inner {
            control: OnNode::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            present: 0,
            behind: None,
            arrived: 0,
            refused: 0,
            stages: vec![Service::default(); exits + 1],
            answered: vec![0; exits + 1],
        };
        Self {
            generation,
            route,
            around,
            inner: Mutex::new(inner),
        }
    }

    /// Takes rules in.
    ///
    /// # Errors
    /// What does not fit, in words; the old ones stay.
    pub(crate) fn control(&self, rules: &control::ExitRules) -> Result<(), String> {
        let rule = read(rules).ok_or("its numbers do not fit each other")?;
        let mut inner = self.inner.lock();
        let exits = inner.answered.len() - 1;
        if rule.exits.len() > exits {
            return Err(format!(
                "it is for {} exits, and {exits} are here",
                rule.exits.len()
            ));
        }
        let (policy, places) = (&rules.policy, rules.places);
        let audit_share = rules.audit_share;
        inner
            .control
            .take(rule, policy, &rules.spent, audit_share, places);
        Ok(())
    }

    /// A request came and takes a place.
    pub(crate) fn arrived(&self) {
        let mut inner = self.inner.lock();
        inner.arrived += 1;
        inner.present += 1;
        self.say(inner.present);
    }

    /// One that had just come found no place after all.
    pub(crate) fn refused(&self) {
        let mut inner = self.inner.lock();
        inner.refused += 1;
        inner.present = inner.present.saturating_sub(1);
        self.say(inner.present);
    }

    fn say(&self, present: u32) {
        if let Some(told) = &self.around.before {
            told.say(self.generation, self.route, present);
        }
    }

    /// The node behind said how many are present there; `None` when the link to it broke. Others are not heard.
    pub(crate) fn hear(&self, peer: &str, present: Option<u32>) {
        if self.around.behind.as_deref() == Some(peer) {
            self.inner.lock().behind = present;
        }
    }

    /// The service of a request that came begins.
    pub(crate) fn begin(self: &Arc<Self>, is_audited: bool) -> Visit {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let present = inner.present.max(1) as usize;
        let (intent, audits) = inner.control.begin(inner.present, &mut inner.rng);
        Visit {
            station: Arc::clone(self),
            intent,
            present,
            is_audited: is_audited || audits,
            stage: 0,
            since: Instant::now(),
            confidences: Vec::new(),
        }
    }

    /// What happened since the last report, if anything.
    pub(crate) fn report(&self) -> Option<control::StationReport> {
        let mut inner = self.inner.lock();
        if inner.arrived == 0 && inner.present == 0 && inner.answered.iter().all(|n| *n == 0) {
            return None;
        }
        let stages = inner
            .stages
            .iter_mut()
            .map(|stage| std::mem::take(stage).message());
        let stages = stages.collect();
        let answered = inner.answered.iter_mut().map(std::mem::take).collect();
        Some(control::StationReport {
            generation: self.generation.0,
            route: self.route,
            arrived: std::mem::take(&mut inner.arrived),
            refused: std::mem::take(&mut inner.refused),
            stages,
            answered,
            present: inner.present,
        })
    }
}

/// A request in service. It counts as present until this is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    station: Arc<Station>,
    intent: Intent,
    present: usize,
    /// Whether it goes to the network's end whatever the exits say.
    pub(crate) is_audited: bool,
    stage: usize,
    since: Instant,
    confidences: Vec<f64>,
}

impl Visit {
    /// Whether an exit that said this answers.
    pub(crate) fn stops(&mut self, exit: &Exit, said: &ExitSaid, min_accuracy: f32) -> bool {
        let confidence = f64::from(said.confidence);
        self.confidences.push(confidence);
        let mut inner = self.station.inner.lock();
        let inner = &mut *inner;
        let took = std::mem::replace(&mut self.since, Instant::now());
        if let Some(stage) = inner.stages.get_mut(self.stage) {
            stage.add((self.since - took).as_secs_f64());
        }
        self.stage += 1;
        let number = exit.number.saturating_sub(1) as usize;
        let at = At {
            exit: number,
            confidence,
            present: inner.present.max(1) as usize,
            intent: self.intent,
        };
        let threshold = f64::from(exit.threshold);
        let behind = inner.behind.map(|behind| behind as usize);
        let floor = f64::from(min_accuracy);
        let stops = !self.is_audited
            && inner
                .control
                .stops(&at, threshold, behind, floor, &mut inner.rng);
        if stops {
            self.leaves(inner, self.stage - 1, true);
        }
        stops
    }

    /// It leaves the node without an answer of an exit: for the next node, or from the network's end.
    pub(crate) fn passes(&mut self, is_end: bool) {
        let station = Arc::clone(&self.station);
        let mut inner = station.inner.lock();
        if let Some(stage) = inner.stages.get_mut(self.stage) {
            stage.add(self.since.elapsed().as_secs_f64());
        }
        let last = inner.answered.len() - 1;
        self.leaves(&mut inner, last, is_end);
    }

    fn leaves(&self, inner: &mut Inner, answered: usize, is_answered: bool) {
        if let Some(count) = inner.answered.get_mut(answered) {
            *count += 1;
        }
        if is_answered {
            inner.control.answered(&ExitOutcome {
                intent: self.intent,
                present: self.present,
                confidences: &self.confidences,
                audited: self.is_audited,
            });
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut inner = self.station.inner.lock();
        inner.present = inner.present.saturating_sub(1);
        self.station.say(inner.present);
    }
}

/// A rule as it came, if its numbers fit.
fn read(rules: &control::ExitRules) -> Option<Rule> {
    let exit = |exit: &control::ExitRule| RuleExit {
        edges: exit.edges.clone(),
        looks: match exit.looks() {
            control::exit_rule::Looks::Intent => Looks::Intent,
            control::exit_rule::Looks::Present => Looks::Present(exit.stop.clone()),
            control::exit_rule::Looks::Behind => {
                Looks::Behind(exit.stop.clone(), exit.unheard.clone())
            }
        },
        calibrated_edges: exit.calibrated_edges.clone(),
        calibrated: exit.calibrated.clone(),
    };
    let intents = rules.intents.iter().map(|intents| {
        let pairs = intents.exits.iter().zip(&intents.probabilities);
        let pairs = pairs.map(|(&exit, &p)| (Intent(u16::try_from(exit).unwrap_or(u16::MAX)), p));
        Intents::of_pairs(&pairs.collect::<Vec<_>>())
    });
    let rule = Rule {
        name: "sent",
        first: rules.first as usize,
        exits: rules.exits.iter().map(exit).collect(),
        intents: intents.collect(),
    };
    rule.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(number: u32, threshold: f32) -> Exit {
        Exit {
            number,
            output: format!("exit{number}"),
            answer: "scores".into(),
            threshold,
        }
    }

    fn said(number: u32, confidence: f32) -> ExitSaid {
        ExitSaid {
            number,
            confidence,
            class: 0,
        }
    }

    fn station(exits: usize) -> Arc<Station> {
        Arc::new(Station::new(Generation(1), 7, exits, 1, Around::default()))
    }

    /// Goes on while alone, answers from two present on.
    fn by_backlog() -> control::ExitRules {
        control::ExitRules {
            policy: "joint".into(),
            exits: vec![control::ExitRule {
                looks: control::exit_rule::Looks::Present.into(),
                stop: vec![0.0, 0.0, 1.0],
                calibrated_edges: vec![0.5],
                calibrated: vec![0.3, 0.9],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn thresholds_hold_until_a_rule_comes_which_sees_the_backlog() {
        let station = station(1);
        station.arrived();
        let mut visit = station.begin(false);
        assert!(visit.stops(&exit(1, 0.8), &said(1, 0.9), 0.0));
        drop(visit);
        station.control(&by_backlog()).unwrap();
        station.arrived();
        let mut visit = station.begin(false);
        assert!(!visit.stops(&exit(1, 0.8), &said(1, 0.9), 0.0));
        visit.passes(true);
        station.arrived();
        station.arrived();
        station.refused();
        let mut other = station.begin(false);
        assert!(
            other.stops(&exit(1, 0.8), &said(1, 0.1), 0.0),
            "two are present"
        );
        let report = station.report().unwrap();
        assert_eq!((report.arrived, report.refused, report.present), (4, 1, 2));
        assert_eq!(report.answered, [2, 1]);
        assert_eq!(report.stages[0].count, 3);
        drop((visit, other));
        assert_eq!(station.report(), None);
    }

    #[test]
    fn nobody_answers_below_the_floor_or_while_audited() {
        let station = station(1);
        station.control(&by_backlog()).unwrap();
        station.arrived();
        station.arrived();
        let mut hasty = station.begin(false);
        assert!(!hasty.stops(&exit(1, 0.0), &said(1, 0.2), 0.8));
        let mut sure = station.begin(false);
        assert!(sure.stops(&exit(1, 0.0), &said(1, 0.7), 0.8));
        station.arrived();
        let mut audited = station.begin(true);
        assert!(!audited.stops(&exit(1, 0.0), &said(1, 0.7), 0.0));
        // Thresholds promise nothing that could be compared with a floor.
        let plain = self::station(1);
        plain.arrived();
        let mut visit = plain.begin(false);
        assert!(!visit.stops(&exit(1, 0.1), &said(1, 0.9), 0.5));
    }

    #[test]
    fn bandits_learn_here_and_keep_what_they_learnt() {
        let station = station(2);
        let rules = control::ExitRules {
            policy: "ada-ee".into(),
            spent: vec![0.0, 0.5, 1.0],
            ..Default::default()
        };
        station.control(&rules).unwrap();
        for _ in 0..50 {
            station.arrived();
            let mut visit = station.begin(false);
            let stops = visit.stops(&exit(1, 0.0), &said(1, 0.6), 0.0)
                || visit.stops(&exit(2, 0.0), &said(2, 0.9), 0.0);
            if !stops {
                visit.passes(true);
            }
        }
        let learnt = |station: &Station| {
            let inner = station.inner.lock();
            inner.control.policy().unwrap().explain()["requests"]
        };
        assert_eq!(learnt(&station), 50.0);
        station.control(&rules).unwrap();
        assert_eq!(learnt(&station), 50.0);
    }

    #[tokio::test]
    async fn an_exit_at_the_border_looks_at_the_node_behind() {
        let news = crate::news::News::default();
        let around = Around {
            before: Some(news.of("a")),
            behind: Some("c".into()),
        };
        let station = Arc::new(Station::new(Generation(1), 7, 1, 1, around));
        // Answers here when two or more are present behind, and while nothing is heard.
        let rules = control::ExitRules {
            policy: "joint".into(),
            exits: vec![control::ExitRule {
                looks: control::exit_rule::Looks::Behind.into(),
                stop: vec![0.0, 0.0, 1.0],
                unheard: vec![1.0],
                calibrated: vec![0.5],
                ..Default::default()
            }],
            ..Default::default()
        };
        station.control(&rules).unwrap();
        let stops = || {
            station.arrived();
            let mut visit = station.begin(false);
            visit.stops(&exit(1, 0.0), &said(1, 0.6), 0.0)
        };
        assert!(stops(), "nothing is heard");
        station.hear("c", Some(1));
        assert!(!stops());
        station.hear("somebody", Some(9));
        assert!(!stops(), "only the node behind is heard");
        station.hear("c", Some(2));
        assert!(stops());
        station.hear("c", None);
        assert!(stops(), "the link broke");
        let told = news.next("a").await;
        assert_eq!((told.len(), told[0].route, told[0].present), (1, 7, 0));
    }

    #[test]
    fn a_rule_that_does_not_fit_is_refused_and_the_old_one_stays() {
        let station = station(1);
        let mut bad = by_backlog();
        bad.exits[0].stop.push(7.0);
        assert!(station.control(&bad).unwrap_err().contains("do not fit"));
        let mut long = by_backlog();
        long.exits.push(long.exits[0].clone());
        assert!(station.control(&long).unwrap_err().contains("2 exits"));
    }
}
