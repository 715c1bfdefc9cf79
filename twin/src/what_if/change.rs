//! What may be different, as words: `remove=node-2`, `load=2`, `link=center:*:4`.

use std::{fmt, str::FromStr, time::Duration};

use splitplace_fleet::{Link, NodeId, Place};
use splitplace_plan::{ModelName, Plan};

use crate::{
    arrivals::Process,
    planner::Offered,
    world::{Load, World},
};

/// One end of a link, or every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// `*`: the centre and every node.
    Any,
    /// One place.
    One(Place),
}

/// Something that would be different.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `remove=NODE`: it is gone.
    RemoveNode(NodeId),
    /// `add=NODE:LIKE`: one more, with the cores, speed, memory and links of another.
    AddNode {
        /// What the new one is called.
        name: NodeId,
        /// What it is like.
        like: NodeId,
    },
    /// `slow=NODE:TIMES`: it computes so many times slower.
    SlowNode(NodeId, f64),
    /// `load=[MODEL:]TIMES`: so many times the requests.
    Load(Option<ModelName>, f64),
    /// `rate=[MODEL:]PER_SECOND`: so many requests a second, Poisson.
    Rate(Option<ModelName>, f64),
    /// `link=FROM:TO:TIMES`: so many times the delay and the bytes' time, both ways.
    SlowLink(End, End, f64),
    /// `delay=FROM:TO:MS`: so much more delay, both ways.
    Delay(End, End, Duration),
    /// `sla=[MODEL:]MS`: this promise for every request.
    Promise(Option<ModelName>, Duration),
}

/// Why a change cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Not a change at all.
    #[error(
        "{0:?} is no change; changes are remove=NODE, add=NODE:LIKE, slow=NODE:TIMES, \
         load=[MODEL:]TIMES, rate=[MODEL:]PER_SECOND, link=FROM:TO:TIMES, delay=FROM:TO:MS, \
         sla=[MODEL:]MS"
    )]
    Grammar(String),
    /// A number that cannot be.
    #[error("{0}: the number must be finite and above 0")]
    Number(String),
    /// A node that there is not.
    #[error("there is no node {0}")]
    NoNode(NodeId),
    /// A node that there is already.
    #[error("there is a node {0} already")]
    SameNode(NodeId),
    /// A model that there is not.
    #[error("no requests for a model {0} were seen, and it has no arm")]
    NoModel(ModelName),
}

/// What the centre is called.
const CENTER: &str = "center";

impl FromStr for End {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        Ok(match text {
            "*" => Self::Any,
            CENTER => Self::One(Place::Center),
            "" => return Err(ChangeError::Grammar(text.into())),
            node => Self::One(Place::Node(node.into())),
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(Place::Center) => f.write_str(CENTER),
            Self::One(Place::Node(node)) => node.fmt(f),
        }
    }
}

impl End {
    fn holds(&self, place: &Place) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == place,
        }
    }
}

impl FromStr for Change {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let wrong = || ChangeError::Grammar(text.to_owned());
        let (what, of) = text.split_once('=').ok_or_else(wrong)?;
        let number = |text: &str| -> Result<f64, ChangeError> {
            let number: f64 = text.parse().map_err(|_| wrong())?;
            let is_sane = number.is_finite() && number > 0.0 && number < 1e12;
            is_sane
                .then_some(number)
                .ok_or_else(|| ChangeError::Number(text.to_owned()))
        };
        let pair = || of.rsplit_once(':').ok_or_else(wrong);
        let modelled = || -> Result<(Option<ModelName>, f64), ChangeError> {
            match of.rsplit_once(':') {
                Some((model, times)) => Ok((Some(ModelName::new(model)), number(times)?)),
                None => Ok((None, number(of)?)),
            }
        };
        let link = || -> Result<(End, End, f64), ChangeError> {
            let (ends, last) = pair()?;
            let (from, to) = ends.split_once(':').ok_or_else(wrong)?;
            Ok((from.parse()?, to.parse()?, number(last)?))
        };
        let time = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        match what {
            "remove" if !of.is_empty() => Ok(Self::RemoveNode(of.into())),
            "add" => pair().map(|(name, like)| Self::AddNode {
                name: name.into(),
                like: like.into(),
            }),
            "slow" => {
                let (node, times) = pair()?;
                Ok(Self::SlowNode(node.into(), number(times)?))
            }
            "load" => modelled().map(|(model, times)| Self::Load(model, times)),
            "rate" => modelled().map(|(model, rate)| Self::Rate(model, rate)),
            "sla" => modelled().map(|(model, ms)| Self::Promise(model, time(ms))),
            "link" => link().map(|(from, to, times)| Self::SlowLink(from, to, times)),
            "delay" => link().map(|(from, to, ms)| Self::Delay(from, to, time(ms))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |model: &Option<ModelName>| {
            let named = model.as_ref();
            named.map_or(String::new(), |model| format!("{model}:"))
        };
        match self {
            Self::RemoveNode(node) => write!(f, "remove={node}"),
            Self::AddNode { name, like } => write!(f, "add={name}:{like}"),
            Self::SlowNode(node, times) => write!(f, "slow={node}:{times}"),
            Self::Load(model, times) => write!(f, "load={}{times}", of(model)),
            Self::Rate(model, rate) => write!(f, "rate={}{rate}", of(model)),
            Self::SlowLink(from, to, times) => write!(f, "link={from}:{to}:{times}"),
            Self::Delay(from, to, by) => write!(f, "delay={from}:{to}:{}", by.as_secs_f64() * 1e3),
            Self::Promise(model, sla) => {
                write!(f, "sla={}{}", of(model), sla.as_secs_f64() * 1e3)
            }
        }
    }
}

impl Change {
    /// Makes it so: for the world, for the planner and for the plan in force. All of them know of it.
    pub(super) fn apply(
        &self,
        world: &mut World,
        offered: &mut Offered,
        plan: &mut Plan,
    ) -> Result<(), ChangeError> {
        match self {
            Self::RemoveNode(node) => {
                let at = find(world, node)?;
                world.workers.remove(at);
            }
            Self::AddNode { name, like } => add(world, offered, name, like)?,
            Self::SlowNode(node, times) => {
                let at = find(world, node)?;
                world.workers[at].node.macs_per_second /= times;
                slow(offered, plan, node, *times);
            }
            Self::Load(model, times) => {
                for load in loads(world, offered, model.as_ref())? {
                    load.arrivals = load.arrivals.faster(*times);
                }
            }
            Self::Rate(model, rate) => {
                let missing = model.iter().filter(|model| {
                    let known = offered.offers.iter().any(|offer| offer.model == **model);
                    known && !world.loads.iter().any(|load| load.model == **model)
                });
                let missing: Vec<Load> = missing.map(load).collect();
                world.loads.extend(missing);
                if world.loads.is_empty() {
                    let models = offered.offers.iter().map(|offer| &offer.model);
                    let models: std::collections::BTreeSet<_> = models.collect();
                    world.loads.extend(models.into_iter().map(load));
                }
                for load in loads(world, offered, model.as_ref())? {
                    load.arrivals = Process::Poisson { rate: *rate };
                }
            }
            Self::SlowLink(from, to, times) => relink(world, (from, to), |link| Link {
                rate_bytes_per_second: link.rate_bytes_per_second / times,
                delay: link.delay.mul_f64(*times),
                jitter: link.jitter.mul_f64(*times),
            })?,
            Self::Delay(from, to, by) => relink(world, (from, to), |link| Link {
                delay: link.delay + *by,
                ..link
            })?,
            Self::Promise(model, sla) => {
                for load in loads(world, offered, model.as_ref())? {
                    load.slas = vec![(*sla, 1.0)];
                }
            }
        }
        Ok(())
    }
}

/// A client of whom nothing is known.
fn load(model: &ModelName) -> Load {
    Load {
        model: model.clone(),
        arrivals: Process::Poisson { rate: 0.0 },
        slas: vec![(Duration::from_millis(100), 1.0)],
        patience: Duration::from_secs(5),
        samples: 1,
        feedback: 0.0,
    }
}

fn find(world: &World, node: &NodeId) -> Result<usize, ChangeError> {
    let mut workers = world.workers.iter();
    workers
        .position(|worker| worker.node.id == *node)
        .ok_or_else(|| ChangeError::NoNode(node.clone()))
}

fn loads<'w>(
    world: &'w mut World,
    offered: &Offered,
    model: Option<&ModelName>,
) -> Result<Vec<&'w mut Load>, ChangeError> {
    let is_meant = |load: &Load| model.is_none_or(|model| load.model == *model);
    if let Some(model) = model
        && !world.loads.iter().any(is_meant)
        && !offered.offers.iter().any(|offer| offer.model == *model)
    {
        return Err(ChangeError::NoModel(model.clone()));
    }
    Ok(world
        .loads
        .iter_mut()
        .filter(|load| is_meant(load))
        .collect())
}

fn add(
    world: &mut World,
    offered: &mut Offered,
    name: &NodeId,
    like: &NodeId,
) -> Result<(), ChangeError> {
    if find(world, name).is_ok() {
        return Err(ChangeError::SameNode(name.clone()));
    }
    let mut worker = world.workers[find(world, like)?].clone();
    worker.node.id = name.clone();
    let (new, old) = (Place::from(name), Place::from(like));
    let others = world
        .workers
        .iter()
        .map(|worker| Place::from(&worker.node.id));
    for other in others.chain([Place::Center]).collect::<Vec<_>>() {
        // To the one that it is like it has the link that other nodes have to that one, if there are any.
        let there = world.links.get(&old, &other);
        let back = world.links.get(&other, &old);
        if other == old {
            let another = world
                .workers
                .iter()
                .map(|worker| Place::from(&worker.node.id));
            let between = another
                .clone()
                .find(|place| *place != old)
                .unwrap_or(Place::Center);
            let (there, back) = (
                world.links.get(&old, &between),
                world.links.get(&between, &old),
            );
            world.links.set(new.clone(), old.clone(), there);
            world.links.set(old.clone(), new.clone(), back);
            continue;
        }
        world.links.set(new.clone(), other.clone(), there);
        world.links.set(other, new.clone(), back);
    }
    world.workers.push(worker);
    if let Some(column) = offered.nodes.iter().position(|node| node == like) {
        offered.nodes.push(name.clone());
        for segment in segments(offered) {
            let service = segment.service[column];
            segment.service.push(service);
        }
    }
    Ok(())
}

fn slow(offered: &mut Offered, plan: &mut Plan, node: &NodeId, times: f64) {
    let arms = plan.models.values_mut().flat_map(|model| &mut model.arms);
    let routes = arms.flat_map(|arm| &mut arm.branches);
    for hop in routes.flat_map(|route| &mut route.hops) {
        if hop.node == *node {
            hop.service = hop.service.mul_f64(times);
        }
    }
    if let Some(column) = offered.nodes.iter().position(|one| one == node) {
        for segment in segments(offered) {
            segment.service[column] *= times;
        }
    }
}

fn segments(offered: &mut Offered) -> impl Iterator<Item = &mut splitplace_plan::SegmentSpec> {
    let offers = offered.offers.iter_mut();
    let chains = offers.flat_map(|offer| &mut offer.problem.chains);
    chains.flat_map(|chain| &mut chain.segments)
}

fn relink(
    world: &mut World,
    (from, to): (&End, &End),
    change: impl Fn(Link) -> Link,
) -> Result<(), ChangeError> {
    for end in [from, to] {
        if let End::One(Place::Node(node)) = end {
            find(world, node)?;
        }
    }
    let nodes = world
        .workers
        .iter()
        .map(|worker| Place::from(&worker.node.id));
    let places: Vec<Place> = nodes.chain([Place::Center]).collect();
    for a in &places {
        for b in &places {
            let is_meant = from.holds(a) && to.holds(b) || from.holds(b) && to.holds(a);
            if a != b && is_meant {
                let link = change(world.links.get(a, b));
                world.links.set(a.clone(), b.clone(), link);
            }
        }
    }
    Ok(())
}
