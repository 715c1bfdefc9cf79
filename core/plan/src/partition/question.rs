//! What every method is asked, and what it answers.

use std::borrow::Cow;

use super::{
    Choice, Exit, Links, Network, Refused, Scene, Stages, Stop, Worth, line::NODES, network::Needed,
};

/// Networks, and the server's cores between them.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The networks, each with what is its own.
    pub users: &'a [User<'a>],
    /// Cores of the server. A network without any runs on its device.
    pub cores: usize,
}

/// A network, where it runs, and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Its layers. Node 0 is its device; node 1 the server, whose seconds are those of one core.
    pub network: &'a Network,
    /// Link from device to server and what is wanted; `load` comes on top of what cores do.
    pub scene: Scene,
    /// Where requests may leave; without any they answer with all that the network makes.
    pub exits: &'a [Exit],
    /// Seconds from arrival to answer that are wanted; infinite where nobody waits.
    pub deadline: f64,
    /// How many times as fast the server is with 1, 2, … cores, as it was measured; 1 first. With more cores than
    /// measured it is as fast as with the last; without any it stays as fast as with one.
    pub speed_up: &'a [f64],
    /// Links between all nodes, for more than two; that between device and server is always the scene's.
    pub links: Option<&'a Links>,
    /// Most nodes that it may run on, 1 at least.
    pub stops: usize,
}

impl<'a> User<'a> {
    /// One without exits and deadline, between device and server.
    #[must_use]
    pub const fn new(network: &'a Network, scene: Scene) -> Self {
        Self {
            network,
            scene,
            exits: &[],
            deadline: f64::INFINITY,
            speed_up: &[],
            links: None,
            stops: NODES,
        }
    }

    /// The scene with so many cores, 1 at least.
    pub(crate) fn scene_with(&self, cores: usize) -> Scene {
        let at = cores.min(self.speed_up.len()).max(1) - 1;
        let speed = self.speed_up.get(at).copied().unwrap_or(1.0).max(1e-9);
        Scene {
            load: self.scene.load / speed,
            ..self.scene
        }
    }

    /// What runs when nobody chooses an exit: what the most accurate one needs.
    fn most_accurate(&self) -> Result<Needs<'a>, Refused> {
        let accuracy = |exit: usize| self.exits[exit].accuracy;
        let best = (0..self.exits.len()).rev();
        match best.max_by(|&a, &b| accuracy(a).total_cmp(&accuracy(b))) {
            Some(exit) => self.needs(exit),
            None => Ok(Needs {
                exit: None,
                network: Cow::Borrowed(self.network),
                numbers: None,
            }),
        }
    }

    /// What one exit needs. O(size).
    pub(crate) fn needs(&self, exit: usize) -> Result<Needs<'a>, Refused> {
        let answers = &self.exits[exit].answers;
        let tensors = self.network.tensors();
        let is_made = |tensor: &usize| tensors.get(*tensor).is_some_and(|t| t.producer.is_some());
        if answers.is_empty() || !answers.keys().all(is_made) {
            return Err(Refused::Exit(exit));
        }
        let needed = self.network.up_to(answers);
        let Needed {
            network,
            layers,
            tensors,
        } = needed.map_err(|_| Refused::Exit(exit))?;
        Ok(Needs {
            exit: Some(exit),
            network: Cow::Owned(network),
            numbers: Some((layers, tensors)),
        })
    }
}

/// The part of a network that runs when a request leaves at an exit.
pub(crate) struct Needs<'a> {
    exit: Option<usize>,
    pub(crate) network: Cow<'a, Network>,
    /// By its layers and tensors: what they are in the whole; `None` when it is the whole.
    numbers: Option<(Vec<usize>, Vec<usize>)>,
}

impl Needs<'_> {
    /// A part of this network as one of the whole.
    pub(crate) fn whole(&self, mut part: Part) -> Part {
        part.exit = self.exit;
        if let Some((layers, tensors)) = &self.numbers {
            for stop in &mut part.stops {
                stop.layers.iter_mut().for_each(|one| *one = layers[*one]);
                let received = stop.received.iter_mut();
                received.for_each(|(tensor, _)| *tensor = tensors[*tensor]);
            }
        }
        part
    }
}

/// How one network runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Number of the exit that answers; `None` for all that the network makes.
    pub exit: Option<usize>,
    /// Cores of the server.
    pub cores: usize,
    /// What runs where and what is sent, from the device on; numbers are those of the whole network.
    pub stops: Vec<Stop>,
    /// Seconds of one sample at each station: node, link to the next, next node, …, coding with the nodes. The first
    /// link's are those of the device's radio: answers from whatever node are among them.
    pub stations: Vec<f64>,
    /// Seconds of delay, which is no work for anybody.
    pub delay: f64,
    /// By the scene's objective.
    pub worth: Worth,
    /// Expected share that is lost, and mean seconds from arrival to answer, under the objective's arrivals; none and
    /// the latency without.
    pub queued: (f64, f64),
    /// Whether that keeps the deadline, and the loss what may be.
    pub holds: bool,
}

impl Part {
    /// Stations along stops, judged.
    pub(crate) fn new(user: &User<'_>, stops: Vec<Stop>, stations: Vec<f64>, delay: f64) -> Self {
        let queued = user.scene.queued_along(&stations, delay);
        let worth = user.scene.worth_along(&stations, delay);
        Self {
            exit: None,
            cores: 0,
            stops,
            stations,
            delay,
            worth,
            queued,
            holds: queued.1 <= user.deadline && worth.excess <= 0.0,
        }
    }

    /// A cut as a part of `network`.
    fn cut(user: &User<'_>, choice: &Choice) -> Self {
        let layers = |is_first: bool| {
            let all = choice.first.iter().enumerate();
            let here = all.filter(|(_, first)| **first == is_first);
            here.map(|(layer, _)| layer).collect()
        };
        let stages = choice.stages;
        let mut stops = vec![Stop {
            node: 0,
            layers: layers(true),
            received: Vec::new(),
        }];
        let mut stations = vec![stages.device];
        if !choice.is_device_only() {
            stops.push(Stop {
                node: 1,
                layers: layers(false),
                received: choice.sent.clone(),
            });
            stations.extend([stages.link, stages.server]);
        }
        Self::new(user, stops, stations, stages.delay)
    }

    /// Seconds from arrival to answer in an idle system.
    #[must_use]
    pub fn latency(&self) -> f64 {
        self.stations.iter().sum::<f64>() + self.delay
    }

    /// Expected loss, and mean seconds from arrival to answer, under the arrivals of a scene's objective.
    #[must_use]
    pub fn under(&self, scene: &Scene) -> (f64, f64) {
        scene.queued_along(&self.stations, self.delay)
    }

    /// Joules of the device at so many watts while it computes, and while it sends or receives.
    #[must_use]
    pub fn joules(&self, compute: f64, radio: f64) -> f64 {
        let station = |at: usize| self.stations.get(at).copied().unwrap_or(0.0);
        station(0) * compute + station(1) * radio
    }

    /// Seconds of the busiest station.
    #[must_use]
    pub fn bottleneck(&self) -> f64 {
        self.stations.iter().copied().fold(0.0, f64::max)
    }

    /// Whether all of it runs on the device.
    #[must_use]
    pub fn is_device_only(&self) -> bool {
        self.stops.len() == 1
    }

    /// Whether none of it runs on the device: what there is from the beginning is sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.stops[0].layers.is_empty()
    }

    /// What leaves the device, with the number of the way.
    #[must_use]
    pub fn sent(&self) -> &[(usize, usize)] {
        self.stops.get(1).map_or(&[], |stop| &stop.received)
    }

    /// Bytes that leave the device, in the ways chosen.
    #[must_use]
    pub fn bytes(&self, network: &Network) -> u64 {
        let bytes = |&(tensor, way): &(usize, usize)| network.tensors()[tensor].ways[way].bytes;
        self.sent().iter().map(bytes).fold(0, u64::saturating_add)
    }

    /// The cut that leaves the first stop, of a network of so many layers; stations beyond the server count as the
    /// server.
    pub(crate) fn choice(&self, layers: usize) -> Choice {
        let mut first = vec![false; layers];
        for &layer in &self.stops[0].layers {
            first[layer] = true;
        }
        let station = |at: usize| self.stations.get(at).copied().unwrap_or(0.0);
        Choice {
            first,
            sent: self.sent().to_vec(),
            stages: Stages {
                device: station(0),
                link: station(1),
                server: self.stations.iter().skip(2).sum(),
                delay: self.delay,
            },
            worth: self.worth,
        }
    }
}

impl<'a> Question<'a> {
    /// Even shares of the cores, the first ones one more where they do not come out even.
    fn shares(&self) -> impl Iterator<Item = (&'a User<'a>, usize)> {
        let (count, cores) = (self.users.len().max(1), self.cores);
        let users = self.users.iter().enumerate();
        users.map(move |(number, user)| (user, cores / count + usize::from(number < cores % count)))
    }

    /// One network after the other with an even share of the cores, each by `one`.
    pub(crate) fn each(
        &self,
        one: impl Fn(&User<'a>, usize) -> Result<Part, Refused>,
    ) -> Result<Vec<Part>, Refused> {
        let parts = self.shares().map(|(user, cores)| {
            let part = one(user, cores)?;
            Ok(Part { cores, ..part })
        });
        parts.collect()
    }

    /// The same for what the most accurate exit needs; a network without cores runs on its device.
    pub(crate) fn alone(
        &self,
        one: impl Fn(&User<'_>) -> Result<Part, Refused>,
    ) -> Result<Vec<Part>, Refused> {
        self.each(|user, cores| {
            let needs = user.most_accurate()?;
            let inner = User {
                network: &needs.network,
                scene: user.scene_with(cores),
                exits: &[],
                ..*user
            };
            if !inner.scene.is_sound() {
                return Err(Refused::Scene);
            }
            let part = if cores == 0 {
                let all = vec![true; inner.network.layers().len()];
                let choice = Choice::at(inner.network, &inner.scene, all);
                Part::cut(&inner, &choice.ok_or(Refused::Scene)?)
            } else {
                one(&inner)?
            };
            Ok(needs.whole(part))
        })
    }

    /// The answer of a method that knows one network, one scene and cuts between device and server: one network after
    /// the other with an even share of the cores and its most accurate exit. A network without cores runs on its
    /// device.
    ///
    /// # Errors
    /// As `one`'s; [`Refused::Scene`] and [`Refused::Exit`].
    pub fn cut(
        &self,
        one: impl Fn(&Network, &Scene) -> Result<Choice, Refused>,
    ) -> Result<Vec<Part>, Refused> {
        self.alone(|user| Ok(Part::cut(user, &one(user.network, &user.scene)?)))
    }
}
