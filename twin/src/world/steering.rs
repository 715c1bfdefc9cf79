//! Exit control at the simulated centre: a governor for each arm, told what the fleet reports; its rules go to the nodes.
//!
//! As in `orchestrator/src/center/exits.rs`, with the same [`Governor`]; what it wants solved is solved, and the rules
//! hold on all nodes after [`Control::solve`](super::Control::solve).

use splitplace_fleet::Timestamp;
use splitplace_plan::{ArmKind, ModelName, Plan};
use splitplace_policy::exit::{
    ExitError,
    along::{self, Held, held},
    govern::{Governor, GovernorSettings},
    task::Solved,
};

use super::{
    exits::{ExitControl, Line},
    run::{Event, Sim},
};
use crate::agenda::Queue as _;

/// One arm under control.
#[derive(Debug)]
struct Arm {
    number: u32,
    key: (ModelName, String),
    control: ExitControl,
    governor: Governor,
    nodes: Vec<Held>,
    spent: Vec<f64>,
    /// Its route's line.
    line: u32,
    /// What was solved and holds in a moment.
    coming: Option<Result<Solved, ExitError>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// Of all plans that may be on their way; they go with their tables.
    pub(super) lines: Vec<Option<Line>>,
    arms: Vec<Arm>,
    arms_ever: u32,
    looks: u64,
    is_looking: bool,
}

impl Steering {
    /// A request was sent to the first node of a route.
    pub(super) fn sent(&mut self, line: u32, now: Timestamp) {
        let line = self.lines.get(line as usize).and_then(Option::as_ref);
        let arm = line.and_then(|line| line.arm);
        if let Some(arm) = arm.and_then(|arm| self.arm(arm)) {
            arm.governor.arrived(seconds(now));
        }
    }

    /// An audited request came to its end: what exits said, and whether they agree.
    pub(super) fn audited(&mut self, arm: u32, said: &[(f64, bool)]) {
        if let Some(arm) = self.arm(arm) {
            arm.governor.audited(said);
        }
    }

    fn arm(&mut self, number: u32) -> Option<&mut Arm> {
        self.arms.iter_mut().find(|arm| arm.number == number)
    }

    /// Forgets the lines of tables before this one.
    pub(super) fn forget(&mut self, table: u32) {
        for line in &mut self.lines {
            if line.as_ref().is_some_and(|line| line.table < table) {
                *line = None;
            }
        }
    }

    /// Nobody is on a node any more.
    pub(super) fn crash(&mut self, node: u32) {
        let lines = self.lines.iter_mut().flatten();
        lines.for_each(|line| line.crash(node));
    }

    /// Takes in what the nodes report of their stations, those that are up.
    fn hear(&mut self, is_up: impl Fn(usize) -> bool) {
        for arm in &mut self.arms {
            let Some(Some(line)) = self.lines.get_mut(arm.line as usize) else {
                continue;
            };
            let stations = line.stations.iter_mut().filter(|one| one.is_ruled());
            for (place, (held, station)) in arm.nodes.iter().zip(stations).enumerate() {
                if !is_up(station.node()) {
                    continue;
                }
                let (took, refused) = station.report();
                for _ in 0..refused {
                    arm.governor.lost();
                }
                held.tell(&mut arm.governor, place, &took);
            }
        }
    }
}

impl Arm {
    /// Gives every node of its line the rules in force.
    fn tell(&self, lines: &mut [Option<Line>]) {
        let Some(Some(line)) = lines.get_mut(self.line as usize) else {
            return;
        };
        let stations = line.stations.iter_mut().filter(|one| one.is_ruled());
        for (station, rule) in stations.zip(self.governor.rules()) {
            let control = &self.control;
            let (policy, share) = (&control.policy, control.audit_share);
            let decides = &mut station.decides;
            decides.take(rule.clone(), policy, &self.spent, share, control.places);
        }
    }
}

impl Sim<'_> {
    /// Follows a plan that is put in force. An arm that lies on the same nodes as before keeps what is known of it.
    pub(super) fn follow(&mut self, now: Timestamp, plan: &Plan, table: u32) {
        let mut before = std::mem::take(&mut self.steering.arms);
        for line in self.steering.lines.iter_mut().flatten() {
            line.arm = None;
        }
        let Some(table) = self.centre.table(table).cloned() else {
            return;
        };
        for (model, planned) in &plan.models {
            for arm in planned.arms.iter().filter(|arm| arm.kind == ArmKind::Exits) {
                let known = self.world.exits.get(&(model.clone(), arm.variant.clone()));
                let Some((exits, control)) = known.and_then(|it| Some((it, it.governed()?))) else {
                    continue;
                };
                let [route] = &arm.branches[..] else { continue };
                let Some(row) = table.route_number(route.id) else {
                    continue;
                };
                let line = table.routes[row as usize].line;
                let nodes = held(route, |node| {
                    let number = self.numbers.get(node);
                    let worker = number.map(|&number| &self.world.workers[number as usize]);
                    worker.map_or(1, |worker| worker.node.cores.max(1))
                });
                let key = (model.clone(), arm.name.clone());
                let same = before
                    .iter()
                    .position(|old| old.key == key && old.nodes == nodes);
                let new = match same.map(|at| before.swap_remove(at)) {
                    Some(old) => Arm { line, ..old },
                    None => {
                        let settings = GovernorSettings {
                            policy: control.policy.clone(),
                            target: control.target,
                            places: control.places as usize,
                            thresholds: exits.thresholds.to_vec(),
                            ..GovernorSettings::default()
                        };
                        let assumed = nodes.iter().map(|held| held.assumed.clone()).collect();
                        // Where exits of the plan and of the records are not the same, thresholds hold.
                        let Ok(governor) = Governor::new(settings, &exits.records, assumed) else {
                            continue;
                        };
                        self.steering.arms_ever += 1;
                        Arm {
                            number: self.steering.arms_ever,
                            key,
                            control: control.clone(),
                            governor,
                            spent: along::spent(&nodes),
                            nodes,
                            line,
                            coming: None,
                        }
                    }
                };
                let lines = &mut self.steering.lines;
                if let Some(Some(line)) = lines.get_mut(line as usize) {
                    line.arm = Some(new.number);
                }
                new.tell(lines);
                self.steering.arms.push(new);
            }
        }
        if !self.steering.arms.is_empty() && !self.steering.is_looking {
            self.steering.is_looking = true;
            self.agenda.push(now, Event::Look);
        }
    }

    /// Time to look what has moved, and now and then to hear the nodes' reports.
    pub(super) fn look(&mut self, now: Timestamp) {
        let control = self.world.control;
        let steering = &mut self.steering;
        if steering.arms.is_empty() {
            steering.is_looking = false;
            return;
        }
        steering.looks += 1;
        let every = control.report.as_nanos() / control.look.as_nanos().max(1);
        if u128::from(steering.looks).is_multiple_of(every.max(1)) {
            steering.hear(|node| self.sites[node].is_up);
        }
        for arm in &mut steering.arms {
            if let Some(task) = arm.governor.due(seconds(now)) {
                arm.coming = Some(task.solve());
                let event = Event::Ruled(arm.number);
                self.agenda.push(now + control.solve, event);
            }
        }
        self.agenda.push(now + control.look, Event::Look);
    }

    /// Rules are solved and sent.
    pub(super) fn ruled(&mut self, number: u32) {
        let Steering { lines, arms, .. } = &mut self.steering;
        let Some(arm) = arms.iter_mut().find(|arm| arm.number == number) else {
            return;
        };
        if let Some(solved) = arm.coming.take()
            && arm.governor.done(solved)
        {
            arm.tell(lines);
        }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_nanos() as f64 / 1e9
}
