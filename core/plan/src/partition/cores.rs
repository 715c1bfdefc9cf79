//! Several networks that share a server's cores (Tang et al., "Joint multiuser DNN partitioning and computational
//! resource allocation for collaborative edge intelligence", IEEE IoT-J 2021).
//!
//! Network `i` with `f` cores takes `T_i(f)`, the least over its cuts, fewer cores included: a network may leave
//! some idle, which makes it fall with `f` even where the measured speed-up does not. Wanted: cores for each
//! network, together no more than there are, whose slowest network is as fast as can be.
//!
//! [`Iao`] is the paper's iterative alternating optimisation, [`Threshold`] finds the same by a search over
//! the answer. Both are exact for this objective, over what the method within finds for each number of cores.

use super::{Light, Method, Part, Question, Refused, User};

/// Seconds of each network with 0, 1, … cores, falling; and how it runs with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// `seconds[user][cores]`.
    pub seconds: Vec<Vec<f64>>,
    /// `parts[user][cores]`: with 0 cores everything runs on the device.
    pub parts: Vec<Vec<Part>>,
}

/// Cores for each network.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// By network.
    pub cores: Vec<usize>,
    /// Seconds of the slowest.
    pub slowest: f64,
}

/// Cores by exchanges, from an even share on; for each number of cores as the method within says.
pub struct Iao {
    /// Parts one network with some cores.
    pub within: Box<dyn Method>,
}

/// Cores by a search over the slowest time; for each number of cores as the method within says.
pub struct Threshold {
    /// Parts one network with some cores.
    pub within: Box<dyn Method>,
}

impl Default for Iao {
    /// With the minimum cut, which is exact for latency.
    fn default() -> Self {
        Self {
            within: Box::new(Light),
        }
    }
}

impl Default for Threshold {
    /// With the minimum cut, which is exact for latency.
    fn default() -> Self {
        Self {
            within: Box::new(Light),
        }
    }
}

impl Method for Iao {
    fn name(&self) -> &'static str {
        "IAO"
    }

    fn complexity(&self) -> &'static str {
        "networks · cores · the method within + O(networks³ · cores)"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        let Question { users, cores } = *question;
        let times = times(users, cores, &*self.within)?;
        let even = vec![cores / users.len().max(1); users.len()];
        let shares = exchange(&times, cores, &even);
        Ok(taken(times, &shares))
    }
}

impl Method for Threshold {
    fn name(&self) -> &'static str {
        "threshold search"
    }

    fn complexity(&self) -> &'static str {
        "networks · cores · the method within + O(networks · cores · log)"
    }

    fn solve(&self, question: &Question<'_>) -> Result<Vec<Part>, Refused> {
        let Question { users, cores } = *question;
        let times = times(users, cores, &*self.within)?;
        let shares = threshold(&times, cores);
        Ok(taken(times, &shares))
    }
}

/// How each network runs with its share; cores that would make it slower are not among its own.
fn taken(times: Times, shares: &Shares) -> Vec<Part> {
    let parts = times.parts.into_iter().zip(&shares.cores);
    let of = parts
        .filter_map(|(mut parts, &cores)| (cores < parts.len()).then(|| parts.swap_remove(cores)));
    of.collect()
}

/// Every network with every number of cores up to `cores`: so many times the method.
///
/// # Errors
/// As the method's.
pub fn times(users: &[User<'_>], cores: usize, method: &dyn Method) -> Result<Times, Refused> {
    let mut all = Times {
        seconds: Vec::with_capacity(users.len()),
        parts: Vec::with_capacity(users.len()),
    };
    for user in users {
        let (mut seconds, mut parts) = (Vec::new(), Vec::<Part>::new());
        for count in 0..=cores {
            let question = Question {
                users: &[*user],
                cores: count,
            };
            let found = method.solve(&question)?.into_iter().next();
            let found = found.ok_or(Refused::Scene)?;
            // Fewer cores may be better: then the others are left idle.
            match (seconds.last(), parts.last()) {
                (Some(&least), Some(known)) if found.queued.1 >= least => {
                    let known = known.clone();
                    seconds.push(least);
                    parts.push(known);
                }
                _ => {
                    seconds.push(found.queued.1);
                    parts.push(found);
                }
            }
        }
        all.seconds.push(seconds);
        all.parts.push(parts);
    }
    Ok(all)
}

/// The least time of the slowest by a search over the times that there are: for a limit `T` each network needs
/// the fewest cores with `T_i <= T`. O(n c log(n c)) for n networks and c cores.
///
/// Cores that nobody needs are left idle. With no network nothing is slow.
#[must_use]
pub fn threshold(times: &Times, cores: usize) -> Shares {
    let mut limits: Vec<f64> = times.seconds.iter().flatten().copied().collect();
    limits.sort_by(f64::total_cmp);
    limits.dedup();
    let need = |limit: f64| -> Option<Vec<usize>> {
        let each = times.seconds.iter().map(|seconds| {
            let fewest = seconds.partition_point(|&took| took > limit);
            (fewest < seconds.len()).then_some(fewest)
        });
        let each: Vec<usize> = each.collect::<Option<_>>()?;
        (each.iter().sum::<usize>() <= cores).then_some(each)
    };
    let least = limits.partition_point(|&limit| need(limit).is_none());
    let limit = limits.get(least).copied().unwrap_or(0.0);
    Shares {
        cores: need(limit).unwrap_or_else(|| vec![0; times.seconds.len()]),
        slowest: limit,
    }
}

/// IAO: while it makes the slowest network faster, a core goes to it, from those that are idle or else from the one
/// that then is least slow. `begin` is where cores are now: from a running system it is a few steps, each O(n).
/// At most n² (c + 1) of them: each takes a network off the slowest time, which never rises.
#[must_use]
pub fn exchange(times: &Times, cores: usize, begin: &[usize]) -> Shares {
    let count = times.seconds.len();
    let most = |user: usize| times.seconds[user].len() - 1;
    let mut share: Vec<usize> = (0..count)
        .map(|user| begin.get(user).copied().unwrap_or(0).min(most(user)))
        .collect();
    // More than there are: taken from the largest.
    while cores < share.iter().sum::<usize>() {
        let largest = (0..count).max_by_key(|&user| share[user]);
        let Some(largest) = largest else { break };
        share[largest] -= 1;
    }
    let took = |user: usize, cores: usize| times.seconds[user][cores];
    // A step may leave the slowest as slow for a while, where its times have a plateau: as many cores as it needs
    // to be faster at all are one step.
    'steps: for _ in 0..=count * count * (cores + 1) {
        let slowest = (0..count).max_by(|&a, &b| took(a, share[a]).total_cmp(&took(b, share[b])));
        let Some(slowest) = slowest else { break };
        let limit = took(slowest, share[slowest]);
        let next = times.seconds[slowest].partition_point(|&t| t >= limit);
        if most(slowest) < next {
            break;
        }
        let mut trial = share.clone();
        let idle = |share: &[usize]| cores - share.iter().sum::<usize>();
        for _ in share[slowest]..next {
            if idle(&trial) == 0 {
                let givers = (0..count).filter(|&user| user != slowest && 0 < trial[user]);
                let giver = givers
                    .filter(|&user| took(user, trial[user] - 1) < limit)
                    .min_by(|&a, &b| took(a, trial[a] - 1).total_cmp(&took(b, trial[b] - 1)));
                let Some(giver) = giver else { break 'steps };
                trial[giver] -= 1;
            }
            trial[slowest] += 1;
        }
        share = trial;
    }
    let slowest = (0..count).map(|user| took(user, share[user]));
    Shares {
        slowest: slowest.fold(0.0, f64::max),
        cores: share,
    }
}
