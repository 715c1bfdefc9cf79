//! The loop over events.

use rand_distr::{Distribution as _, StandardNormal};
use splitplace_fleet::Timestamp;

use super::{Chain, Discipline, Loss, Network, Until};
use crate::{
    Law, Seed, Stream, TraceHash,
    agenda::{Agenda, Queue as _},
    arrivals::Arrivals,
    law::nanos,
    station::{Desk, Line, Share},
    wire::Wire,
};

/// Told what becomes of each job. Costs nothing that it does not do.
pub trait Observer {
    /// A job came to the end of its chain.
    fn delivered(&mut self, chain: usize, born: Timestamp, now: Timestamp);
    /// A job was lost at a step.
    fn lost(&mut self, chain: usize, step: usize, born: Timestamp, why: Loss);
}

/// What a run cost, and its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Events taken out of the agenda.
    pub events: u64,
    /// Jobs that came.
    pub arrived: u64,
    /// When the last event was.
    pub ended: Timestamp,
    /// Of the whole trace; the same for the same network and seed.
    pub trace: u64,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    number: u64,
    born: Timestamp,
    chain: u32,
    step: u16,
    /// Where it is going: to the station of `step`, or onto the wire behind the step before.
    is_on_wire: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The next job of a chain comes.
    Comes { chain: u32 },
    /// A job reaches the station of its step, or the end. `left` is the epoch of the [`Line`] that it
    /// comes from: when that failed meanwhile, the job is gone.
    Reaches { job: Job, left: u32 },
    /// A server of a [`Desk`] is done, or a [`Share`].
    Done {
        station: u32,
        server: u32,
        epoch: u32,
    },
    /// A station goes down or comes back.
    Turns {
        station: u32,
        is_up: bool,
        is_planned: bool,
    },
}

enum Place {
    Line(Line),
    Desk(Desk<Job>),
    Share(Share<Job>),
}

struct Station {
    place: Place,
    capacity: usize,
    /// Of nested outages.
    down: u32,
    epoch: u32,
}

struct State<'n, O> {
    network: &'n Network,
    agenda: Agenda<Event>,
    stations: Vec<Station>,
    wires: Vec<Wire>,
    arrivals: Vec<Arrivals>,
    services: Vec<Stream>,
    jitter: Stream,
    failures: Vec<Stream>,
    until: Until,
    arrived: u64,
    trace: TraceHash,
    observer: &'n mut O,
}

/// Runs until nothing is left to happen: arrivals end as `until` says, and who came goes his way.
///
/// Costs one event for a job and step at a station in order without wires, two at others, and one more
/// for each wire. Memory is linear in stations, chains, and jobs inside.
///
/// # Panics
/// When [`Network::check`] finds something.
pub fn run(network: &Network, seed: Seed, until: Until, observer: &mut impl Observer) -> Ran {
    let wrong = network.check();
    assert!(wrong.is_empty(), "the network cannot be run: {wrong:?}");
    let mut state = State::new(network, seed, until, observer);
    let mut events = 0u64;
    let mut ended = Timestamp::ZERO;
    while let Some((now, event)) = state.agenda.pop() {
        events += 1;
        ended = now;
        state.trace.add(now.as_nanos());
        state.happen(now, event);
    }
    Ran {
        events,
        arrived: state.arrived,
        ended,
        trace: state.trace.get(),
    }
}

impl<'n, O: Observer> State<'n, O> {
    fn new(network: &'n Network, seed: Seed, until: Until, observer: &'n mut O) -> Self {
        let stations = network.stations.iter().map(|spec| Station {
            place: match spec.discipline {
                Discipline::InOrder => Place::Line(Line::new(spec.servers, spec.capacity)),
                Discipline::EarliestDeadline => Place::Desk(Desk::new(spec.servers)),
                Discipline::Sharing => Place::Share(Share::new(spec.servers)),
            },
            capacity: spec.capacity,
            down: 0,
            epoch: 0,
        });
        let chains = || network.chains.iter().zip(0u64..);
        let arrivals = chains()
            .map(|(chain, id)| Arrivals::new(chain.arrivals.clone(), seed.stream("arrivals", id)));
        let mut state = Self {
            stations: stations.collect(),
            wires: network
                .wires
                .iter()
                .map(|spec| Wire::new(&spec.link))
                .collect(),
            arrivals: arrivals.collect(),
            services: chains().map(|(_, id)| seed.stream("service", id)).collect(),
            jitter: seed.stream("jitter", 0),
            failures: (0u64..)
                .zip(&network.stations)
                .map(|(id, _)| seed.stream("failures", id))
                .collect(),
            agenda: Agenda::default(),
            arrived: 0,
            trace: TraceHash::default(),
            network,
            until,
            observer,
        };
        for chain in 0..network.chains.len() {
            state.expect(chain);
        }
        for (station, spec) in (0u32..).zip(&network.stations) {
            for (from, to) in &spec.outages {
                let turns = |is_up| Event::Turns {
                    station,
                    is_up,
                    is_planned: true,
                };
                state.agenda.push(*from, turns(false));
                state.agenda.push(*to, turns(true));
            }
            if let Some((up, _)) = &spec.failures {
                state.fails_after(Timestamp::ZERO, station, up, false);
            }
        }
        state
    }

    /// Puts the next arrival of a chain on the agenda.
    #[inline]
    fn expect(&mut self, chain: usize) {
        if self.until.arrivals <= self.arrived {
            return;
        }
        if let Some(at) = self.arrivals[chain].next()
            && at < self.until.time
        {
            self.agenda.push(
                at,
                Event::Comes {
                    chain: chain as u32,
                },
            );
        }
    }

    fn fails_after(&mut self, now: Timestamp, station: u32, law: &Law, is_up: bool) {
        let after = nanos(law.draw(&mut self.failures[station as usize])).max(1);
        let at = Timestamp::from_nanos(now.as_nanos().saturating_add(after));
        if at < self.until.time || is_up {
            self.agenda.push(
                at,
                Event::Turns {
                    station,
                    is_up,
                    is_planned: false,
                },
            );
        }
    }

    #[inline]
    fn happen(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Comes { chain } => {
                if self.arrived < self.until.arrivals {
                    let job = Job {
                        number: self.arrived,
                        born: now,
                        chain,
                        step: 0,
                        is_on_wire: false,
                    };
                    self.arrived += 1;
                    self.trace.add(u64::from(chain));
                    self.expect(chain as usize);
                    self.depart(now, job);
                }
            }
            Event::Reaches { mut job, left } => {
                let is_gone = !job.is_on_wire
                    && self
                        .before(&job)
                        .is_some_and(|station| self.stations[station].epoch != left);
                if is_gone {
                    job.step -= 1;
                    self.lose(job, Loss::Down);
                } else if job.is_on_wire {
                    self.enter(now, job);
                } else {
                    self.depart(now, job);
                }
            }
            Event::Done {
                station,
                server,
                epoch,
            } => self.done(now, station, server, epoch),
            Event::Turns {
                station,
                is_up,
                is_planned,
            } => {
                self.turn(now, station, is_up, is_planned);
            }
        }
    }

    fn before(&self, job: &Job) -> Option<usize> {
        let step = usize::from(job.step).checked_sub(1)?;
        Some(self.network.chains[job.chain as usize].steps[step].station)
    }

    /// A job has left the step before and goes over a wire, or straight on.
    #[inline]
    fn depart(&mut self, now: Timestamp, mut job: Job) {
        let chain: &Chain = &self.network.chains[job.chain as usize];
        let over = match chain.steps.get(usize::from(job.step)) {
            Some(step) => step.over,
            None => chain.back,
        };
        let Some((wire, bytes)) = over else {
            self.enter(now, job);
            return;
        };
        let cut = &self.network.wires[wire].outages;
        if cut.iter().any(|(from, to)| (from..to).contains(&&now)) {
            self.lose(job, Loss::Cut);
            return;
        }
        let deviate = if self.wires[wire].has_jitter() {
            StandardNormal.sample(&mut self.jitter.of(job.number << 8 | u64::from(job.step)))
        } else {
            0.0
        };
        let at = self.wires[wire].send(now, bytes, deviate);
        job.is_on_wire = true;
        self.agenda.push(at, Event::Reaches { job, left: 0 });
    }

    /// A job is at the door of its next station, or at the end.
    #[inline]
    fn enter(&mut self, now: Timestamp, mut job: Job) {
        let number = job.chain as usize;
        let chain: &Chain = &self.network.chains[number];
        job.is_on_wire = false;
        let Some(step) = chain.steps.get(usize::from(job.step)) else {
            self.observer.delivered(number, job.born, now);
            return;
        };
        let station = &mut self.stations[step.station];
        if 0 < station.down {
            self.lose(job, Loss::Down);
            return;
        }
        let service = if step.service.is_constant() {
            nanos(step.service.mean())
        } else {
            let mut stream = self.services[number].of(job.number << 8 | u64::from(job.step));
            nanos(step.service.draw(&mut stream))
        };
        let place = step.station as u32;
        match &mut station.place {
            Place::Line(line) => match line.enter(now, service) {
                Some(at) => {
                    job.step += 1;
                    let left = station.epoch;
                    self.agenda.push(at, Event::Reaches { job, left });
                }
                None => self.lose(job, Loss::Full),
            },
            Place::Desk(desk) => {
                if station.capacity <= desk.waiting() + desk.running() {
                    self.lose(job, Loss::Full);
                    return;
                }
                let deadline = job.born + chain.promise;
                desk.enter(deadline.as_nanos(), job);
                self.start(now, place);
            }
            Place::Share(share) => {
                if station.capacity <= share.len() {
                    self.lose(job, Loss::Full);
                    return;
                }
                share.enter(now, service, job);
                self.promise(place);
            }
        }
    }

    /// Puts waiting jobs on free servers.
    fn start(&mut self, now: Timestamp, station: u32) {
        let Station {
            place: Place::Desk(desk),
            epoch,
            ..
        } = &mut self.stations[station as usize]
        else {
            return;
        };
        while let Some(job) = desk.call() {
            let step = &self.network.chains[job.chain as usize].steps[usize::from(job.step)];
            let mut stream =
                self.services[job.chain as usize].of(job.number << 8 | u64::from(job.step));
            let service = nanos(step.service.draw(&mut stream));
            let at = Timestamp::from_nanos(now.as_nanos().saturating_add(service));
            let (server, epoch) = (desk.serve(job), *epoch);
            self.agenda.push(
                at,
                Event::Done {
                    station,
                    server,
                    epoch,
                },
            );
        }
    }

    /// Says when a sharing station will next be done.
    fn promise(&mut self, station: u32) {
        if let Place::Share(share) = &self.stations[station as usize].place
            && let Some((at, epoch)) = share.next()
        {
            self.agenda.push(
                at,
                Event::Done {
                    station,
                    server: 0,
                    epoch,
                },
            );
        }
    }

    fn done(&mut self, now: Timestamp, station: u32, server: u32, epoch: u32) {
        let known = &mut self.stations[station as usize];
        let job = match &mut known.place {
            Place::Line(_) => None,
            Place::Desk(desk) => (known.epoch == epoch).then(|| desk.done(server)).flatten(),
            Place::Share(share) => share.done(now, epoch),
        };
        let Some(mut job) = job else {
            return;
        };
        self.start(now, station);
        self.promise(station);
        job.step += 1;
        self.depart(now, job);
    }

    fn turn(&mut self, now: Timestamp, station: u32, is_up: bool, is_planned: bool) {
        let known = &mut self.stations[station as usize];
        let lost = if is_up {
            known.down -= 1;
            Vec::new()
        } else {
            known.down += 1;
            known.epoch = known.epoch.wrapping_add(1);
            match &mut known.place {
                Place::Line(line) => {
                    // Those inside are on the agenda and find the epoch changed.
                    line.clear();
                    Vec::new()
                }
                Place::Desk(desk) => desk.clear(),
                Place::Share(share) => share.clear(),
            }
        };
        for job in lost {
            self.lose(job, Loss::Down);
        }
        let spec = &self.network.stations[station as usize];
        if let (false, Some((up, down))) = (is_planned, &spec.failures) {
            let law = if is_up { up } else { down };
            self.fails_after(now, station, law, !is_up);
        }
    }

    fn lose(&mut self, job: Job, why: Loss) {
        self.trace.add(job.number << 2 | why as u64);
        let step = usize::from(job.step);
        self.observer.lost(job.chain as usize, step, job.born, why);
    }
}
