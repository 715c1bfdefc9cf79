//! A network at one ratio, with what its parts are called and what they take by what was run here.

use splitplace_plan::partition::{self, Network, Part, Stop};

use super::{clock::Segments, source::Source};

/// A network on some nodes, with the numbers of its layers in the graph; `None` is the picture's.
pub(super) struct Placed<'a> {
    pub(super) source: &'a Source,
    pub(super) network: Network,
    pub(super) layers: Vec<Option<usize>>,
}

/// A network between device and server with its end, with its exits, and along three nodes.
pub(super) struct Ready<'a> {
    /// Device seconds over server seconds.
    pub(super) ratio: f64,
    pub(super) end: Placed<'a>,
    pub(super) exits: Placed<'a>,
    /// Device, server, and a node at the device's side.
    pub(super) three: Placed<'a>,
}

/// What nodes are called, by number.
const NODES: [&str; 3] = ["device", "server", "edge"];

/// What of a network goes where, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The picture's file is sent.
    Picture,
    /// The input's tensor is sent.
    Input,
    /// Everything runs on the device.
    Device,
    /// Some layers run on the device and some do not.
    Inside,
}

impl Kind {
    /// For people.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Picture => "the compressed picture",
            Self::Input => "the input's tensor",
            Self::Device => "the device alone",
            Self::Inside => "a cut inside",
        }
    }

    /// For programs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Input => "input",
            Self::Device => "device",
            Self::Inside => "cut",
        }
    }
}

impl<'a> Ready<'a> {
    /// The device is `ratio` times as slow as the server, the node at its side as much in between.
    pub(super) fn new(source: &'a Source, ratio: f64) -> anyhow::Result<Self> {
        let placed = |(network, layers)| Placed {
            source,
            network,
            layers,
        };
        Ok(Self {
            ratio,
            end: placed(source.network(&[ratio, 1.0])?),
            exits: placed(source.full(&[ratio, 1.0])?),
            three: placed(source.network(&[ratio, 1.0, ratio.sqrt()])?),
        })
    }
}

impl Placed<'_> {
    fn has_picture(&self) -> bool {
        self.source.picture.is_some()
    }

    /// How a part parts it.
    pub(super) fn kind(&self, part: &Part) -> Kind {
        let on_device = part.stops[0].layers.len();
        match on_device {
            _ if part.is_device_only() => Kind::Device,
            0 if self.has_picture() => Kind::Picture,
            0 => Kind::Input,
            1 if self.has_picture() && self.layers[part.stops[0].layers[0]].is_none() => {
                Kind::Input
            }
            _ => Kind::Inside,
        }
    }

    /// A part in words: what the device runs, what it sends, and on which nodes it goes on where that is not the server.
    pub(super) fn words(&self, part: &Part) -> String {
        let mut words = match self.kind(part) {
            Kind::Device => return "device".into(),
            Kind::Picture => "picture".into(),
            Kind::Input => format!("input {}", self.codecs(&part.stops[1])),
            Kind::Inside => self.layers_sent(&part.stops[0], &part.stops[1]),
        };
        for place in 1..part.stops.len() {
            let stop = &part.stops[place];
            let name = NODES[stop.node];
            match part.stops.get(place + 1) {
                Some(next) => {
                    let rest = self.layers_sent(stop, next);
                    words = format!("{words} > {name} {rest}");
                }
                None if stop.node != 1 || place > 1 => words = format!("{words} > {name}"),
                None => {}
            }
        }
        words
    }

    fn layers_sent(&self, stop: &Stop, next: &Stop) -> String {
        let count = stop
            .layers
            .iter()
            .filter(|&&one| self.layers[one].is_some());
        let several = match next.received.len() {
            1 => String::new(),
            many => format!(", {many} tensors"),
        };
        format!("{} layers{several}, {}", count.count(), self.codecs(next))
    }

    fn codecs(&self, stop: &Stop) -> String {
        let tensors = self.network.tensors();
        let ways = stop.received.iter();
        let mut codecs: Vec<String> = ways
            .map(|&(tensor, way)| tensors[tensor].ways[way].codec.to_string())
            .collect();
        codecs.dedup();
        codecs.join("+")
    }

    fn graph(&self, stop: &Stop) -> Vec<Option<usize>> {
        stop.layers
            .iter()
            .map(|&layer| self.layers[layer])
            .collect()
    }

    /// Share of the multiply-accumulates that run on the device.
    pub(super) fn share(&self, part: &Part) -> f64 {
        let macs = |stop: &Stop| self.source.macs(self.graph(stop).into_iter().flatten());
        let all: f64 = part.stops.iter().map(macs).sum();
        macs(&part.stops[0]) / all.max(1.0)
    }

    /// Seconds of a part when each of its segments takes what it took here as a fragment of its own, times how much
    /// slower its node is; the server `speed` times as fast. Coding takes what it took here too; links and delays are
    /// computed.
    pub(super) fn measured(
        &self,
        part: &Part,
        speed: f64,
        segments: &mut Segments,
    ) -> anyhow::Result<f64> {
        let slower = |node: usize| {
            let times = self.network.coding()[node];
            if node == 1 { times / speed } else { times }
        };
        let mut seconds = part.delay + part.stations.iter().skip(1).step_by(2).sum::<f64>();
        let mut before: Option<usize> = None;
        for stop in &part.stops {
            seconds += segments.seconds(self.source, &self.graph(stop))? * slower(stop.node);
            if let Some(before) = before.replace(stop.node) {
                for &(tensor, way) in &stop.received {
                    let way = &self.network.tensors()[tensor].ways[way];
                    seconds += way.encode * slower(before) + way.decode * slower(stop.node);
                }
            }
        }
        Ok(seconds)
    }
}

/// A cut that is given, whatever it is worth.
pub(super) struct Given(pub(super) Vec<bool>);

impl partition::Method for Given {
    fn name(&self) -> &'static str {
        "given"
    }

    fn complexity(&self) -> &'static str {
        "O(n)"
    }

    fn solve(&self, question: &partition::Question<'_>) -> Result<Vec<Part>, partition::Refused> {
        question.cut(|network, scene| {
            let choice = partition::Choice::at(network, scene, self.0.clone());
            choice.ok_or(partition::Refused::Scene)
        })
    }
}
