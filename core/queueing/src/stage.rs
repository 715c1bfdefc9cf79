//! What happens to a queue while one stage of service runs: arrivals, losses, and time spent at each length.
//!
//! A controller that may stop after each exit of a network sees its queue at the ends of stages. From `m`
//! present at the start of a stage, `min(m + A, K)` are present at its end. Arrivals may come from a process
//! with two phases; then everything is kept by the phase before and after.
//!
//! For two phases the process is uniformised: with Θ the largest rate of leaving a phase or bringing an arrival,
//! N ~ arrivals of a Poisson process of rate Θ during the service time ([`Counts`], exact for every
//! service law), each of which is an arrival, a switch or nothing. So no matrix exponential is needed.

use crate::{Arrivals, Counts, Error, MAX_CAPACITY, Service, real};

/// Probability that may be cut off the law of N.
const CUT: f64 = 1e-15;

/// One stage of service, seen by the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    phases: usize,
    capacity: usize,
    mean: f64,
    /// `[from][k][to]`: P(A = k and phase), `k < capacity`.
    moves: Vec<f64>,
    /// `[from][c][to]`: P(A >= c and phase), `c <= capacity`.
    tails: Vec<f64>,
    /// `[from][c]`: E\[(A - c)⁺\], `c <= capacity`.
    excess: Vec<f64>,
    /// `[from][c]`: E ∫ min(A(t), c) dt, `c <= capacity`.
    area: Vec<f64>,
}

impl Stage {
    /// A stage that takes `service`, for a queue of `capacity` places.
    /// O(capacity) for Poisson; O(n · capacity) with n ≈ Θ E\[S\] + 10 √(Θ E\[S\]) for two phases, of which at
    /// most [`MAX_CAPACITY`] are followed (Θ E\[S\] up to some 3500; beyond, later events are left out).
    ///
    /// # Errors
    /// When the arrivals are none or the capacity not in `1..=MAX_CAPACITY`.
    pub fn new(arrivals: &Arrivals, service: &Service, capacity: usize) -> Result<Self, Error> {
        arrivals.check()?;
        match *arrivals {
            Arrivals::Poisson { rate } => Self::poisson(rate, service, capacity),
            Arrivals::Switching { rates, leave } => {
                Self::switching(rates, leave, service, capacity)
            }
        }
    }

    fn poisson(rate: f64, service: &Service, capacity: usize) -> Result<Self, Error> {
        let counts = Counts::new(rate, service, capacity)?;
        let mut tails = vec![1.0];
        tails.extend_from_slice(counts.above());
        let excess = counts.excess().to_vec();
        // Time with k so far is P(A > k) / rate, so all time with at least c so far is excess[c] / rate.
        let mut area = vec![0.0; capacity + 1];
        if rate > 0.0 {
            let mut below = 0.0;
            for c in 0..=capacity {
                area[c] = (below + real(c) * excess[c]) / rate;
                if c < capacity {
                    below += real(c) * counts.above()[c];
                }
            }
        }
        Ok(Self {
            phases: 1,
            capacity,
            mean: service.mean(),
            moves: counts.pmf().to_vec(),
            tails,
            excess,
            area,
        })
    }

    fn switching(
        rates: [f64; 2],
        leave: [f64; 2],
        service: &Service,
        capacity: usize,
    ) -> Result<Self, Error> {
        let theta = (rates[0] + leave[0]).max(rates[1] + leave[1]);
        let events = events(theta, service, capacity)?;
        let arrive = [rates[0] / theta, rates[1] / theta];
        let switch = [leave[0] / theta, leave[1] / theta];
        let width = capacity + 1;
        let mut stage = Self {
            phases: 2,
            capacity,
            mean: service.mean(),
            moves: vec![0.0; 4 * capacity],
            tails: vec![0.0; 4 * width],
            excess: vec![0.0; 2 * width],
            area: vec![0.0; 2 * width],
        };
        for from in 0..2 {
            let mut now = vec![[0.0; 2]; width];
            now[0][from] = 1.0;
            let (mut ends, mut time) = (vec![[0.0; 2]; width], vec![0.0; width]);
            let (mut beyond, mut excess) = (0.0, 0.0);
            for (n, (&p, &above)) in events.pmf().iter().zip(events.above()).enumerate() {
                // The tail that was cut off is put on the last term.
                let p = if n + 1 == events.pmf().len() {
                    p + above
                } else {
                    p
                };
                for k in 0..width {
                    ends[k][0] += p * now[k][0];
                    ends[k][1] += p * now[k][1];
                    time[k] += above / theta * (now[k][0] + now[k][1]);
                }
                excess += p * beyond;
                let mut next = vec![[0.0; 2]; width];
                for k in 0..width {
                    for i in 0..2 {
                        let x = now[k][i];
                        next[(k + 1).min(capacity)][i] += x * arrive[i];
                        next[k][1 - i] += x * switch[i];
                        next[k][i] += x * (1.0 - arrive[i] - switch[i]).max(0.0);
                        if k == capacity {
                            beyond += x * arrive[i];
                        }
                    }
                }
                now = next;
            }
            stage.keep(from, &ends, &time, excess);
        }
        Ok(stage)
    }

    fn keep(&mut self, from: usize, ends: &[[f64; 2]], time: &[f64], excess: f64) {
        let (capacity, width) = (self.capacity, self.capacity + 1);
        for (slot, end) in self.moves[from * capacity * 2..]
            .chunks_exact_mut(2)
            .zip(&ends[..capacity])
        {
            slot.copy_from_slice(end);
        }
        let mut tail = [0.0; 2];
        for c in (0..width).rev() {
            for to in 0..2 {
                tail[to] += ends[c][to];
                self.tails[(from * width + c) * 2 + to] = tail[to];
            }
        }
        self.excess[from * width + capacity] = excess;
        for c in (0..capacity).rev() {
            let above: f64 = self.tails[(from * width + c + 1) * 2..][..2].iter().sum();
            self.excess[from * width + c] = self.excess[from * width + c + 1] + above;
        }
        let mut later: f64 = time.iter().sum();
        let mut below = 0.0;
        for (c, spent) in time.iter().enumerate() {
            self.area[from * width + c] = below + real(c) * later;
            below += real(c) * spent;
            later = (later - spent).max(0.0);
        }
    }

    /// Number of phases of the arrivals.
    #[must_use]
    pub const fn phases(&self) -> usize {
        self.phases
    }

    /// Places of the queue.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Mean time that the stage takes, in seconds.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// P(k arrive and the phase is `to` at the end), from phase `from`; `k < capacity`.
    #[must_use]
    pub fn arrive(&self, from: usize, k: usize, to: usize) -> f64 {
        self.moves[(from * self.capacity + k) * self.phases + to]
    }

    /// P(k arrive and the phase is `to`) from phase `from` for all `k < room`, by k and then by `to`: what
    /// [`arrive`](Self::arrive) says, in one piece. `room <= capacity`.
    #[must_use]
    pub fn arrivals(&self, from: usize, room: usize) -> &[f64] {
        let start = from * self.capacity * self.phases;
        &self.moves[start..start + room * self.phases]
    }

    /// P(at least `c` arrive and the phase is `to` at the end), from phase `from`; `c <= capacity`.
    #[must_use]
    pub fn fill(&self, from: usize, c: usize, to: usize) -> f64 {
        self.tails[(from * (self.capacity + 1) + c) * self.phases + to]
    }

    /// Expected number that is turned away when there is room for `c`, from phase `from`; `c <= capacity`.
    #[must_use]
    pub fn lost(&self, from: usize, c: usize) -> f64 {
        self.excess[from * (self.capacity + 1) + c]
    }

    /// Expected ∫ min(A(t), c) dt over the stage, in request-seconds: what arrives meanwhile adds this much to the
    /// time that requests spend here; `c <= capacity`.
    #[must_use]
    pub fn area(&self, from: usize, c: usize) -> f64 {
        self.area[from * (self.capacity + 1) + c]
    }
}

/// Events of rate `theta` during the service, to so many terms that next to nothing is cut off.
fn events(theta: f64, service: &Service, capacity: usize) -> Result<Counts, Error> {
    // The capacity itself is checked by the first.
    Counts::new(theta, service, capacity)?;
    let mut terms = 32;
    loop {
        let counts = Counts::new(theta, service, terms)?;
        if counts.above()[terms - 1] < CUT || terms == MAX_CAPACITY {
            return Ok(counts);
        }
        terms = (terms * 2).min(MAX_CAPACITY);
    }
}
