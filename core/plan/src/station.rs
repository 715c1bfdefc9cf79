//! A node as a station of several cores with room for a bounded queue, and a link as one of one core: what waiting and
//! crowding cost there, and what finds no room.
//!
//! Formulas, for screening: Sakasegawa's wait of a station of `c` servers (*An approximation formula L_q ≈ α ρ^β/(1-ρ)*,
//! Ann. Inst. Statist. Math. 1977; with one server Pollaczek–Khinchine's, exactly), times what gaps between arrivals vary
//! (Allen and Cunneen: the wait of G/G/c is that of Poisson arrivals times (c_a² + c_s²) / (1 + c_s²), and services are
//! constant here), MacGregor Smith's loss
//! ([`splitplace_queueing::two_moment`]) with the cores taken as one that is so many times as fast, and between an idle
//! node and a full one a straight line for how much longer a sample takes while others run beside it.

use std::ops::{Add, AddAssign};

use splitplace_queueing::two_moment;

use crate::{
    Problem,
    problem::{ArmProblem, Crossing, NodeSpec},
};

/// Load of a core at which a node is taken to keep up just yet.
const FULL: f64 = 0.999;
/// Logarithm of a share that is none.
const NOTHING: f64 = -80.0;

/// What comes to a node, all arms together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Offered {
    /// Σ λ s over what runs there alone.
    load: f64,
    /// Σ λ s².
    square: f64,
    /// Σ λ s² c², with the squared coefficients of variation of the gaps.
    rough: f64,
}

impl Offered {
    /// What an arm's samples do that take so many seconds.
    pub(crate) fn by(arm: &ArmProblem, seconds: f64) -> Self {
        let load = arm.arrival_rate * seconds;
        Self {
            load,
            square: load * seconds,
            rough: load * seconds * arm.arrival_scv,
        }
    }

    /// That share of it.
    pub(crate) fn times(self, share: f64) -> Self {
        Self {
            load: self.load * share,
            square: self.square * share,
            rough: self.rough * share,
        }
    }

    /// Whether nothing comes.
    pub(crate) fn is_nothing(&self) -> bool {
        self.load <= 0.0
    }

    /// Seconds of a sample, in the mean over what keeps the node busy.
    fn seconds(&self) -> f64 {
        self.square / self.load
    }

    /// Squared coefficient of variation of the gaps, in the mean over what waits.
    fn scv(&self) -> f64 {
        if self.square > 0.0 {
            self.rough / self.square
        } else {
            1.0
        }
    }
}

impl Add for Offered {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Offered {
    fn add_assign(&mut self, other: Self) {
        self.load += other.load;
        self.square += other.square;
        self.rough += other.rough;
    }
}

/// What a load means on a node, all arms together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Busy {
    /// Seconds before service, and those that service takes longer.
    pub(crate) wait: f64,
    /// Cores' work beyond what the node can do.
    pub(crate) overload: f64,
}

/// What becomes of the samples that come to one stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sojourn {
    /// Expected seconds of one that is taken in: it waits and is served.
    pub seconds: f64,
    /// Share that finds no room.
    pub loss: f64,
}

impl NodeSpec {
    /// A node of one core with so many bytes.
    #[must_use]
    pub const fn of(memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            cores: 1,
            crowding: 1.0,
        }
    }

    fn servers(&self) -> f64 {
        f64::from(self.cores.max(1))
    }

    /// How many times as long a sample takes as alone, at `load` threads' work a second of samples alone.
    fn pace(&self, load: f64) -> f64 {
        let cores = self.servers();
        if self.cores <= 1 || load <= 1.0 {
            return 1.0;
        }
        let each = (self.crowding.max(1.0) - 1.0) / (cores - 1.0);
        // Threads at work: a = load · (1 + each · (a - 1)).
        let left = 1.0 - load * each;
        let busy = if left > 0.0 {
            load * (1.0 - each) / left
        } else {
            cores
        };
        1.0 + each * (busy.clamp(1.0, cores) - 1.0)
    }

    pub(crate) fn busy(&self, offered: Offered) -> Busy {
        let Offered {
            load,
            square,
            rough,
        } = offered;
        let (cores, pace) = (self.servers(), self.pace(load));
        let rho = (load * pace / cores).min(FULL);
        let crowded = if load > 0.0 {
            (pace - 1.0) * square / load
        } else {
            0.0
        };
        Busy {
            wait: self.wait(rho, rough * pace * pace) + crowded,
            overload: (load * pace - FULL * cores).max(0.0),
        }
    }

    /// Sakasegawa's wait at a load of each core below 1, of constant services with this Σ λ s² c².
    fn wait(&self, rho: f64, rough: f64) -> f64 {
        let cores = self.servers();
        if rho <= 0.0 {
            return 0.0;
        }
        let power = (2.0 * (cores + 1.0)).sqrt() - 2.0;
        rough * rho.powf(power) / (2.0 * cores * cores * (1.0 - rho))
    }
}

/// Seconds before a link of constant times is free: Pollaczek–Khinchine, with the variation of gaps as in Allen and
/// Cunneen's approximation, and a full queue where it cannot keep up.
pub(crate) fn link_wait(offered: Offered, places: usize) -> f64 {
    if offered.is_nothing() {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a queue's bound")]
    let full = places as f64 * offered.seconds();
    if offered.load < 1.0 {
        full.min(offered.rough / (2.0 * (1.0 - offered.load)))
    } else {
        full
    }
}

/// Share of arrivals whose gaps vary so that find none of so many places: MacGregor Smith's for Poisson arrivals; where gaps
/// vary less, so much less of what is beyond the share that no queue could keep.
fn loss(rho: f64, scv: f64, room: usize) -> f64 {
    // Less than ρ^room: nothing that could be told from nothing.
    #[expect(clippy::cast_precision_loss, reason = "a queue's bound")]
    if rho <= 0.0 || room as f64 * rho.ln() < NOTHING {
        return 0.0;
    }
    let poisson = two_moment::loss(rho, 0.0, room);
    let least = if rho > 1.0 { 1.0 - 1.0 / rho } else { 0.0 };
    least + (poisson - least).max(0.0) * scv.min(1.0)
}

impl Problem {
    /// What becomes of an arm's samples on the way from one place to another, coded in the way that is best at the arm's
    /// rate. Seconds are weighted with the share that gets there. O(ways).
    #[must_use]
    pub fn carry(&self, arm: &ArmProblem, from: usize, to: usize, crossing: &Crossing) -> Sojourn {
        if from == to {
            return Sojourn {
                seconds: 0.0,
                loss: 0.0,
            };
        }
        let way = self.best_way(arm, from, to, crossing);
        let offered = |busy: f64| self.to_link(arm, crossing, from, to, busy);
        let all = offered(self.on_link(from, to, way));
        Sojourn {
            seconds: crossing.reach * self.seconds(&offered, from, to, way),
            loss: loss(all.load, all.scv(), self.places.saturating_add(1)),
        }
    }

    /// What becomes of an arm's samples, at its own rate beside what else runs there, at a stage that takes `service` seconds
    /// of a thread of `node` alone. Where exits leave a share before it, `service` is weighted with the rest. O(1).
    #[must_use]
    pub fn sojourn(&self, arm: &ArmProblem, node: usize, service: f64) -> Sojourn {
        let spec = &self.nodes[node];
        let all = Offered::by(arm, service) + self.on_node_beside(arm.model, node);
        if all.is_nothing() {
            return Sojourn {
                seconds: service,
                loss: 0.0,
            };
        }
        let (cores, pace) = (spec.servers(), spec.pace(all.load));
        let rho = all.load * pace / cores;
        let room = self.places.saturating_add(spec.cores.max(1) as usize);
        #[expect(clippy::cast_precision_loss, reason = "a queue's bound")]
        let full = self.places as f64 * all.seconds() * pace / cores;
        let wait = if rho < 1.0 {
            spec.wait(rho, all.rough * pace * pace)
        } else {
            f64::INFINITY
        };
        Sojourn {
            seconds: service * pace + wait.min(full),
            loss: loss(rho, all.scv(), room),
        }
    }
}

#[cfg(test)]
mod tests {
    use splitplace_queueing::{Service, exact};

    use super::*;
    use crate::{ArmKind, Bounds};

    fn problem(node: NodeSpec, places: usize) -> Problem {
        Problem {
            nodes: vec![node],
            links: vec![vec![(1e6, 0.0); 2]; 2],
            coding: vec![1.0; 2],
            arms: Vec::new(),
            overhead_bytes: 0,
            spread: 0.0,
            places,
            loss_target: 0.01,
            beside: Vec::new(),
        }
    }

    fn arm(rate: f64) -> ArmProblem {
        ArmProblem {
            name: "a".into(),
            model: 0,
            kind: ArmKind::Whole,
            parts: (1, 1),
            chains: Vec::new(),
            arrival_rate: rate,
            arrival_scv: 1.0,
            bounds: Bounds::default(),
        }
    }

    #[test]
    fn one_core_with_room_waits_as_pollaczek_and_khinchine_say() {
        let problem = problem(NodeSpec::of(1), 100_000);
        for rho in [0.1, 0.5, 0.9] {
            let service = 0.02;
            let seen = problem.sojourn(&arm(rho / service), 0, service);
            let wait = rho * service / (2.0 * (1.0 - rho));
            assert!((seen.seconds - service - wait).abs() < 1e-12, "{seen:?}");
            assert!(seen.loss < 1e-12);
            let busy = problem.nodes[0].busy(Offered::by(&arm(rho / service), service));
            assert!((busy.wait - wait).abs() < 1e-12 && busy.overload == 0.0);
        }
    }

    /// Against the exact M/D/1/K, the loss is of the right size, and seconds and loss never fall with the load.
    #[test]
    fn a_short_queue_loses_what_the_exact_station_loses() {
        let (service, places) = (0.02, 7);
        let problem = problem(NodeSpec::of(1), places);
        let mut before = Sojourn {
            seconds: 0.0,
            loss: 0.0,
        };
        for step in 1..40 {
            let rho = f64::from(step) * 0.05;
            let seen = problem.sojourn(&arm(rho / service), 0, service);
            let law = Service::constant(service).unwrap();
            let truth = exact::loss(rho / service, &law, places + 1).unwrap();
            if truth > 0.02 {
                assert!(
                    (seen.loss - truth).abs() < 0.35 * truth,
                    "{rho}: {seen:?} {truth}"
                );
            }
            assert!(before.seconds <= seen.seconds + 1e-12 && before.loss <= seen.loss + 1e-12);
            before = seen;
        }
        assert!((before.loss - (1.0 - 1.0 / 1.95)).abs() < 1e-3);
    }

    /// A link that is nearly busy makes its tensors wait, one that is more than busy loses them, and then it is worth more
    /// to send few bytes than to code quickly.
    #[test]
    fn a_link_is_a_station_too_and_its_load_chooses_the_codec() {
        use splitplace_codec::Codec;

        use crate::Way;
        let mut problem = problem(NodeSpec::of(1), 50);
        problem.links[1][0] = (1e5, 0.005);
        let way = |bytes, encode| Way {
            codec: Codec::RAW,
            bytes,
            encode,
            decode: 0.0,
        };
        let crossing = Crossing {
            ways: vec![way(5_000, 0.0), way(1_000, 0.045)],
            reach: 1.0,
        };
        // A twentieth of a second on the link, or a hundredth and what coding takes.
        let quiet = problem.carry(&arm(0.0), 1, 0, &crossing);
        assert!((quiet.seconds - 0.055).abs() < 1e-12 && quiet.loss == 0.0);
        let busy = problem.carry(&arm(12.0), 1, 0, &crossing);
        let wait = 0.12 * 0.01 / (2.0 * 0.88);
        assert!((busy.seconds - 0.06 - wait).abs() < 1e-12, "{busy:?}");
        let raw = Crossing::from(5_000);
        let raw = problem.carry(&arm(40.0), 1, 0, &raw);
        assert!((raw.loss - 0.5).abs() < 0.01, "{raw:?}");
        assert!((raw.seconds - (0.055 + 50.0 * 0.05)).abs() < 1e-9);
        assert_eq!(problem.carry(&arm(40.0), 0, 0, &crossing).seconds, 0.0);
    }

    /// A client that asks again when it was answered never waits for itself, however busy it keeps a node; and no
    /// regularity helps where more comes than can be done.
    #[test]
    fn even_gaps_wait_less_and_lose_less_but_not_what_nothing_could_keep() {
        let problem = problem(NodeSpec::of(1), 7);
        let seen = |rho: f64, scv: f64| {
            let arm = ArmProblem {
                arrival_scv: scv,
                ..arm(rho / 0.02)
            };
            problem.sojourn(&arm, 0, 0.02)
        };
        for rho in [0.3, 0.9, 0.99] {
            let alone = seen(rho, 0.0);
            assert!((alone.seconds - 0.02).abs() < 1e-12 && alone.loss == 0.0);
            assert!(alone.seconds < seen(rho, 0.25).seconds);
            let mut before = alone;
            for scv in [0.25, 0.5, 1.0, 2.0, 4.0] {
                let next = seen(rho, scv);
                assert!(before.seconds <= next.seconds && before.loss <= next.loss);
                before = next;
            }
        }
        assert!((seen(2.0, 0.0).loss - 0.5).abs() < 1e-12);
        assert!(seen(2.0, 0.0).loss <= seen(2.0, 1.0).loss);
    }

    /// Of a node that does more at once less waits, and what cores take from each other counts.
    #[test]
    fn cores_shorten_the_queue_and_crowding_lengthens_it() {
        let spec = |cores, crowding| NodeSpec {
            memory_bytes: 1,
            cores,
            crowding,
        };
        let (rate, service) = (45.0, 0.02);
        let at = |spec| problem(spec, 512).sojourn(&arm(rate), 0, service).seconds;
        let one = at(spec(1, 1.0));
        let two = at(spec(2, 1.0));
        assert!(service < two && two < one / 3.0, "{one} {two}");
        // Below one thread's work nobody runs beside it.
        assert_eq!(at(spec(2, 1.6)), two);
        // Two threads that do no more than one: as if there were one core, and no more.
        let heavy = |spec| problem(spec, 512).sojourn(&arm(70.0), 0, service);
        let (free, crowded) = (heavy(spec(2, 1.0)), heavy(spec(2, 2.0)));
        assert!(
            free.loss < 1e-6 && crowded.loss > 0.25,
            "{free:?} {crowded:?}"
        );
        assert!(free.seconds < crowded.seconds);
        let offered = Offered::by(&arm(75.0), 0.02);
        let busy = spec(2, 1.25).busy(offered);
        assert!(busy.overload == 0.0 && busy.wait > spec(2, 1.0).busy(offered).wait);
    }
}
