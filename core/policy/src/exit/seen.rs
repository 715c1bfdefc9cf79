//! Recorded inputs at a station: each of them followed through the queue, exactly.

use splitplace_queueing::Service;

use super::{
    At, ExitError, ExitPolicy, Intent, Records, Station, TableError,
    chain::Chain,
    evaluate::{Cycle, Evaluation, settle},
    real,
};

/// The long run of a controller on recorded inputs, each as likely as any other.
/// O(inputs · K · exits · K² · phases³).
///
/// # Errors
/// When the station makes no sense, or there are not as many stages as exits, or no inputs.
pub fn on_records(
    policy: &dyn ExitPolicy,
    records: &Records,
    stages: &[Service],
    station: &Station,
) -> Result<Evaluation, ExitError> {
    let seen = Seen::new(records, stages, station)?;
    Ok(settle(&seen.chain, &seen.cycles(policy)).0)
}

/// What became of each input.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// `[input · exits + exit]`: how often an input is seen at an exit, per served request. What
    /// [`Records::table_given`] wants to know.
    pub reach: Vec<f64>,
    /// By input: how often it is answered correctly, per time that it is served.
    pub correct: Vec<f64>,
}

/// As [`on_records`], with what became of each input. Twice the time.
///
/// # Errors
/// As [`on_records`].
pub fn trace_on_records(
    policy: &dyn ExitPolicy,
    records: &Records,
    stages: &[Service],
    station: &Station,
) -> Result<(Evaluation, Trace), ExitError> {
    let seen = Seen::new(records, stages, station)?;
    let (evaluation, law) = settle(&seen.chain, &seen.cycles(policy));
    Ok((evaluation, seen.trace(policy, &law)))
}

/// Records at a station.
pub(super) struct Seen<'a> {
    pub(super) records: &'a Records,
    pub(super) chain: Chain,
}

impl<'a> Seen<'a> {
    pub(super) fn new(
        records: &'a Records,
        stages: &[Service],
        station: &Station,
    ) -> Result<Self, ExitError> {
        let chain = Chain::new(stages, station)?;
        if records.is_empty() || records.exits() != stages.len() {
            let (exits, stages) = (records.exits(), stages.len());
            return Err(TableError::Exits { exits, stages }.into());
        }
        Ok(Self { records, chain })
    }

    /// Whether to stop, by exit and number present, for one input and intent.
    pub(super) fn stops(
        &self,
        policy: &dyn ExitPolicy,
        input: usize,
        intent: Intent,
        stops: &mut Vec<f64>,
    ) {
        let last = self.records.exits() - 1;
        stops.clear();
        for exit in 0..=last {
            let confidence = self.records.confidence(input, exit);
            for present in 0..=self.chain.capacity() {
                let at = At {
                    exit,
                    confidence,
                    present,
                    intent,
                };
                stops.push(if exit == last { 1.0 } else { policy.stop(&at) });
            }
        }
    }

    /// After the first stage, which is the same for every input: by state and intent, the row.
    fn firsts(
        &self,
        policy: &dyn ExitPolicy,
        state: usize,
        weight: f64,
        cycle: &mut Cycle,
    ) -> Vec<(Intent, Vec<f64>)> {
        let (chain, phases) = (&self.chain, self.chain.phases());
        let share = 1.0 / real(self.records.len());
        let present = state / phases + 1;
        let mut firsts = Vec::new();
        for &(intent, p) in policy.intents(present).of() {
            let mut start = vec![0.0; chain.width()];
            start[chain.at(present, state % phases)] = p * weight;
            let mut row = vec![0.0; chain.width()];
            cycle.pass(chain, 0, &start, &mut row);
            row.iter_mut().for_each(|x| *x *= share);
            firsts.push((intent, row));
        }
        firsts
    }

    /// One service of every input from every state.
    pub(super) fn cycles(&self, policy: &dyn ExitPolicy) -> Vec<Cycle> {
        let (records, chain) = (self.records, &self.chain);
        let states = chain.capacity() * chain.phases();
        let mut cycles = vec![Cycle::new(chain); states];
        let firsts: Vec<_> = (0..states)
            .map(|state| self.firsts(policy, state, 1.0, &mut cycles[state]))
            .collect();
        let mut walk = Walk::new(chain);
        let mut stops = Vec::new();
        for input in 0..records.len() {
            let mut known: Option<Intent> = None;
            for (firsts, cycle) in firsts.iter().zip(&mut cycles) {
                for (intent, first) in firsts {
                    if known != Some(*intent) {
                        self.stops(policy, input, *intent, &mut stops);
                        known = Some(*intent);
                    }
                    walk.follow(self, input, first, &stops, cycle, |_, _| {});
                }
            }
        }
        cycles
    }

    /// Who is seen where, and answered how, when services begin as `law` says.
    pub(super) fn trace(&self, policy: &dyn ExitPolicy, law: &[f64]) -> Trace {
        let (records, exits) = (self.records, self.records.exits());
        let mut trace = Trace {
            reach: vec![0.0; records.len() * exits],
            correct: vec![0.0; records.len()],
        };
        let mut cycle = Cycle::new(&self.chain);
        // States with the same intent can go together.
        let mut firsts: Vec<(Intent, Vec<f64>)> = Vec::new();
        for (state, &p) in law.iter().enumerate() {
            for (intent, row) in self.firsts(policy, state, p, &mut cycle) {
                match firsts.iter_mut().find(|(known, _)| *known == intent) {
                    Some((_, sum)) => sum.iter_mut().zip(&row).for_each(|(s, x)| *s += x),
                    None => firsts.push((intent, row)),
                }
            }
        }
        let mut walk = Walk::new(&self.chain);
        let mut stops = Vec::new();
        for input in 0..records.len() {
            let before = cycle.correct;
            for (intent, first) in &firsts {
                self.stops(policy, input, *intent, &mut stops);
                let reach = &mut trace.reach[input * exits..(input + 1) * exits];
                walk.follow(self, input, first, &stops, &mut cycle, |exit, mass| {
                    reach[exit] += mass;
                });
            }
            trace.correct[input] = (cycle.correct - before) * real(records.len());
        }
        trace
    }
}

/// Room for following one input.
struct Walk {
    row: Vec<f64>,
    moved: Vec<f64>,
    left: Vec<f64>,
}

impl Walk {
    fn new(chain: &Chain) -> Self {
        let row = vec![0.0; chain.width()];
        Self {
            moved: row.clone(),
            left: row.clone(),
            row,
        }
    }

    /// One input, from after the first stage to its answers.
    fn follow(
        &mut self,
        seen: &Seen<'_>,
        input: usize,
        first: &[f64],
        stops: &[f64],
        cycle: &mut Cycle,
        mut reached: impl FnMut(usize, f64),
    ) {
        let (records, chain) = (seen.records, &seen.chain);
        self.row.copy_from_slice(first);
        for (exit, stops) in stops.chunks(chain.capacity() + 1).enumerate() {
            if exit > 0 {
                self.moved.fill(0.0);
                cycle.pass(chain, exit, &self.row, &mut self.moved);
                std::mem::swap(&mut self.row, &mut self.moved);
            }
            let mass: f64 = self.row.iter().sum();
            if mass <= 0.0 {
                break;
            }
            reached(exit, mass);
            let accuracy = f64::from(u8::from(records.is_correct(input, exit)));
            let (row, left) = (&mut self.row, &mut self.left);
            cycle.stop(chain, row, left, (exit, accuracy), |present| stops[present]);
        }
    }
}
