//! Edgent (Li, Zhou, Chen, "Edge intelligence", MECOMM 2018): exit and cut together, under a deadline.
//!
//! Exits are tried from the most accurate on; of each the best way to run what it needs is found by any [`Method`]. The
//! first whose response keeps the deadline is taken. Where none does, the fastest is, and says so.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{Light, Method, Part, Question, Refused, User};

/// Where a request may leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Share of correct answers of those that leave here.
    pub accuracy: f64,
    /// Its scores: tensor, and bytes that go back to the device.
    pub answers: BTreeMap<usize, u64>,
}

/// The most accurate exit that keeps the deadline, with the cut that the method within finds for it.
pub struct Edgent {
    /// Parts what each exit needs.
    pub within: Box<dyn Method>,
}

impl Default for Edgent {
    /// With the minimum cut, which is exact for latency.
    fn default() -> Self {
        Self {
            within: Box::new(Light),
        }
    }
}

impl Method for Edgent {
    fn name(&self) -> &'static str {
        "Edgent"
    }

    fn complexity(&self) -> &'static str {
        "exits · the method within"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        question.each(|user, cores| self.one(user, cores))
    }
}

impl Edgent {
    fn one(&self, user: &User<'_>, cores: usize) -> Result<Part, Refused> {
        let within = |user: User<'_>| {
            let question = Question {
                users: &[user],
                cores,
            };
            let parts = self.within.solve(&question)?;
            parts.into_iter().next().ok_or(Refused::Scene)
        };
        if user.exits.is_empty() {
            return within(*user);
        }
        let mut order: Vec<usize> = (0..user.exits.len()).collect();
        let accuracy = |exit: usize| user.exits[exit].accuracy;
        order.sort_by(|&a, &b| accuracy(b).total_cmp(&accuracy(a)).then(a.cmp(&b)));
        let mut fastest: Option<Part> = None;
        for exit in order {
            let needs = user.needs(exit)?;
            let part = within(User {
                network: &needs.network,
                exits: &[],
                ..*user
            })?;
            let part = needs.whole(part);
            if part.holds {
                return Ok(part);
            }
            let is_faster = fastest.as_ref().is_none_or(|known| {
                let (known, new) = (known.queued.1, part.queued.1);
                new.total_cmp(&known) == Ordering::Less
            });
            if is_faster {
                fastest = Some(part);
            }
        }
        fastest.ok_or(Refused::Scene)
    }
}

/// A rate from which on a network runs like this.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Bytes a second.
    pub rate: f64,
    /// What is chosen there.
    pub part: Part,
}

/// Edgent's configuration map, of any method: what is chosen for one network with so many cores at each of these
/// rates, neighbours with the same exit, stops and codecs once, by rising rate. Rates times the method.
///
/// # Errors
/// As the method's.
pub fn map(
    method: &dyn Method,
    user: &User<'_>,
    cores: usize,
    rates: &[f64],
) -> Result<Vec<Entry>, Refused> {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    let mut map: Vec<Entry> = Vec::new();
    for rate in rates {
        let mut user = *user;
        user.scene.rate = rate;
        let question = Question {
            users: &[user],
            cores,
        };
        let parts = method.solve(&question)?;
        let part = parts.into_iter().next().ok_or(Refused::Scene)?;
        let is_same = map.last().is_some_and(|last| {
            let last = &last.part;
            last.exit == part.exit && last.stops == part.stops
        });
        if !is_same {
            map.push(Entry { rate, part });
        }
    }
    Ok(map)
}
