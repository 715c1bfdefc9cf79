//! The links of the fleet as they show themselves: by the frames of requests, and by probes where nobody asks.
//!
//! Each directed pair of places that a frame was seen on has a [`LinkWatch`]. Where no frame said anything of the
//! rate lately, a probe is due: a tiny frame for the delay, and one that keeps the link busy for
//! [`ProbeSettings::busy`] for the rate. Probes may take a share of each link's time, no more.
//!
//! Values in, values out: instants are parameters. Memory is bounded by the pairs.

use std::{collections::BTreeMap, time::Duration};

use splitplace_fleet::{Link, LinkWatch, Links, Place, Timestamp, WatchSettings};

/// Pairs that are watched; more are not.
const PAIRS: usize = 65_536;
/// A probe that has not come after this long never will.
const LOST: Duration = Duration::from_secs(30);
/// A tiny probe, in bytes.
const TINY: u32 = 64;
/// A message by which links are compared, beside an empty one, in bytes.
const MESSAGE: u64 = 128 << 10;

/// Factor on the time of a message by which a link is not any more what it was, once so many frames were seen since
/// it changed; before that it has to be more.
const MOVED: f64 = 1.33;
const SURE: u32 = 12;
const MOVED_FAR: f64 = 3.0;
/// Rates above are no limit to anything that is planned, in bytes a second.
const NO_LIMIT: f64 = 1.25e9;

/// What may be chosen about probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeSettings {
    /// Share of a link's time that they may take; 0 for no probes.
    pub share: f64,
    /// Time without a frame that said something of the rate, before one is due.
    pub every: Duration,
    /// Time for which one should keep the link busy: longer says more and costs more.
    pub busy: Duration,
    /// Fewest and most bytes of one: on a link that has become fifty times slower one must not hold up requests for long.
    pub bytes: (u32, u32),
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            share: 0.02,
            every: Duration::from_secs(1),
            busy: Duration::from_millis(20),
            bytes: (2 << 10, 16 << 10),
        }
    }
}

/// A frame to be sent for what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who sends.
    pub from: Place,
    /// To whom.
    pub to: Place,
    /// Of nothing.
    pub bytes: u32,
}

/// A link that is not any more what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// From where.
    pub from: Place,
    /// To where.
    pub to: Place,
    /// As it was taken to be.
    pub before: Link,
    /// As it is taken to be.
    pub after: Link,
}

#[derive(Clone, Debug)]
struct Road {
    watch: LinkWatch,
    /// Frames since it was found to have changed.
    since: u32,
    /// Seconds of the link's time that probes may take, and since when more are earned.
    credit: f64,
    credited: Timestamp,
    probed: Option<Timestamp>,
    /// Bytes of the probe that is on its way. Where a link has become slow, more of them would only fill it.
    pending: Option<u32>,
}

/// Every link that something was seen of.
#[derive(Clone, Debug)]
pub struct Roads {
    known: Links,
    watching: WatchSettings,
    probing: ProbeSettings,
    roads: BTreeMap<(Place, Place), Road>,
}

impl Roads {
    /// Nothing seen yet; links are what is known of them.
    #[must_use]
    pub const fn new(known: Links, watching: WatchSettings, probing: ProbeSettings) -> Self {
        Self {
            known,
            watching,
            probing,
            roads: BTreeMap::new(),
        }
    }

    /// A frame of `bytes` took `seconds`; says whether the link has changed. O(log pairs) and what the watch costs.
    pub fn observe(
        &mut self,
        now: Timestamp,
        (from, to): (&Place, &Place),
        bytes: f64,
        seconds: f64,
    ) -> bool {
        let Some(road) = self.road(now, from, to) else {
            return false;
        };
        if road
            .pending
            .is_some_and(|pending| f64::from(pending) <= bytes)
        {
            road.pending = None;
        }
        let has_changed = road.watch.observe(now, bytes, seconds);
        road.since = if has_changed {
            0
        } else {
            road.since.saturating_add(1)
        };
        has_changed
    }

    /// The link of which a share `quantile` of the frames is expected to be no slower.
    #[must_use]
    pub fn link(&self, from: &Place, to: &Place, quantile: f64) -> Link {
        let road = self.roads.get(&(from.clone(), to.clone()));
        road.map_or_else(
            || self.known.get(from, to),
            |road| road.watch.forecast(quantile),
        )
    }

    /// The pairs whose links were found to be otherwise than they are known.
    pub fn changed(&self) -> impl Iterator<Item = (&Place, &Place)> {
        let changed = self.roads.iter();
        let changed = changed.filter(|(_, road)| road.watch.changes() > 0);
        changed.map(|((from, to), _)| (from, to))
    }

    /// Every link, so.
    #[must_use]
    pub fn links(&self, quantile: f64) -> Links {
        let mut links = self.known.clone();
        for ((from, to), road) in &self.roads {
            if road.watch.changes() > 0 {
                links.set(from.clone(), to.clone(), road.watch.forecast(quantile));
            }
        }
        links
    }

    /// The links by which `before` is not any more what is expected now: a small message or one of 128 KiB takes
    /// longer or shorter by a third, beyond what nobody is concerned about.
    #[must_use]
    pub fn moved(&self, before: &Links) -> Vec<Moved> {
        let floor = self.watching.floor;
        let differs = |a: &Link, b: &Link, factor: f64| {
            [0, MESSAGE].into_iter().any(|bytes| {
                let time = |link: &Link| link.transfer(bytes).as_secs_f64() + floor;
                (time(a) / time(b)).ln().abs() > factor.ln()
            })
        };
        let now = self
            .roads
            .iter()
            .filter(|(_, road)| road.watch.changes() > 0);
        now.filter_map(|((from, to), road)| {
            let (before, after) = (before.get(from, to), road.watch.forecast(0.5));
            let factor = if road.since < SURE { MOVED_FAR } else { MOVED };
            differs(&before, &after, factor).then(|| Moved {
                from: from.clone(),
                to: to.clone(),
                before,
                after,
            })
        })
        .collect()
    }

    /// The probes that are due between these pairs and may be paid for; they count as sent.
    pub fn probes(
        &mut self,
        now: Timestamp,
        pairs: impl IntoIterator<Item = (Place, Place)>,
    ) -> Vec<Probe> {
        let ProbeSettings {
            share,
            every,
            busy,
            bytes: (fewest, most),
        } = self.probing;
        let mut probes = Vec::new();
        if share <= 0.0 {
            return probes;
        }
        let full = busy.as_secs_f64() * 10.0;
        for (from, to) in pairs {
            let Some(road) = self.road(now, &from, &to) else {
                continue;
            };
            let earned = now.since(road.credited).as_secs_f64() * share;
            road.credit = (road.credit + earned).min(full);
            road.credited = now;
            let last = road.probed.max(road.watch.informed());
            // What may have changed is looked at again at once.
            let pause = if road.watch.is_suspicious() {
                every / 8
            } else {
                every
            };
            if last.is_some_and(|last| now.since(last) < pause) {
                continue;
            }
            let is_lost = road.probed.is_some_and(|sent| LOST < now.since(sent));
            if road.pending.is_some() && !is_lost {
                continue;
            }
            let rate = road.watch.forecast(0.5).rate_bytes_per_second;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between the fewest and the most bytes"
            )]
            let bytes =
                (rate * busy.as_secs_f64()).clamp(f64::from(fewest), f64::from(most)) as u32;
            let cost = f64::from(bytes) / rate;
            if road.credit < cost.min(full) {
                continue;
            }
            road.credit -= cost;
            road.probed = Some(now);
            road.pending = Some(bytes);
            for bytes in [TINY, bytes] {
                let (from, to) = (from.clone(), to.clone());
                probes.push(Probe { from, to, bytes });
            }
        }
        probes
    }

    /// Forgets what was seen of the links of a place: it may come back elsewhere.
    pub fn forget(&mut self, place: &Place) {
        self.roads
            .retain(|(from, to), _| from != place && to != place);
    }

    fn road(&mut self, now: Timestamp, from: &Place, to: &Place) -> Option<&mut Road> {
        let key = (from.clone(), to.clone());
        if from == to || (self.roads.len() >= PAIRS && !self.roads.contains_key(&key)) {
            return None;
        }
        let known = self.known.get(from, to);
        let (watching, busy) = (self.watching, self.probing.busy);
        Some(self.roads.entry(key).or_insert_with(|| Road {
            watch: LinkWatch::new(known, watching),
            since: 0,
            credit: busy.as_secs_f64() * 10.0,
            credited: now,
            probed: None,
            pending: None,
        }))
    }
}

/// A link's change in words: `attic → cellar from 100.0 to 2.0 Mbit/s`.
#[must_use]
pub fn told(moved: &Moved) -> String {
    let name = |place: &Place| match place {
        Place::Center => "the centre".to_owned(),
        Place::Node(node) => node.to_string(),
    };
    let rate = |link: &Link| {
        if link.rate_bytes_per_second < NO_LIMIT {
            format!("{:.1} Mbit/s", link.rate_bytes_per_second * 8e-6)
        } else {
            "no limit".to_owned()
        }
    };
    let delay = |link: &Link| format!("{:.1} ms", link.delay.as_secs_f64() * 1e3);
    let Moved {
        from,
        to,
        before,
        after,
    } = moved;
    let mut what = Vec::new();
    let rate_of = |link: &Link| link.rate_bytes_per_second.min(NO_LIMIT);
    if !(0.8..=1.25).contains(&(rate_of(before) / rate_of(after))) {
        what.push(format!("from {} to {}", rate(before), rate(after)));
    }
    if before.delay.abs_diff(after.delay) > Duration::from_millis(1) || what.is_empty() {
        what.push(format!("delay from {} to {}", delay(before), delay(after)));
    }
    format!("{} → {} {}", name(from), name(to), what.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Place, Place) {
        (Place::Node("attic".into()), Place::Node("cellar".into()))
    }

    fn roads() -> Roads {
        probing(ProbeSettings::default())
    }

    fn probing(settings: ProbeSettings) -> Roads {
        let mut known = Links::default();
        let (from, to) = ends();
        let link = Link {
            rate_bytes_per_second: 12.5e6,
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
        };
        known.set(from, to, link);
        Roads::new(known, WatchSettings::default(), settings)
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_fall_is_told_and_taken_into_account() {
        let (mut roads, (from, to)) = (roads(), ends());
        let before = roads.links(0.5);
        for n in 0..4 {
            let seconds = 0.005 + 60_000.0 / 0.25e6;
            roads.observe(at(n * 100), (&from, &to), 60_000.0, seconds);
        }
        let moved = roads.moved(&before);
        assert_eq!(moved.len(), 1);
        assert_eq!(
            told(&moved[0]),
            "attic → cellar from 100.0 Mbit/s to 2.0 Mbit/s"
        );
        let links = roads.links(0.5);
        assert!((links.get(&from, &to).rate_bytes_per_second / 0.25e6 - 1.0).abs() < 0.01);
        assert!(
            roads.moved(&links).is_empty(),
            "what was taken in has not moved"
        );
        roads.forget(&from);
        assert!(roads.moved(&links).is_empty());
    }

    #[test]
    fn probes_keep_to_their_budget_and_to_links_that_nobody_uses() {
        let large = ProbeSettings {
            bytes: (2 << 10, 1 << 20),
            ..ProbeSettings::default()
        };
        let (mut roads, (from, to)) = (probing(large), ends());
        let pairs = || [ends()];
        let mut spent = 0.0;
        let seconds = 60;
        for tick in 0..seconds * 4 {
            for probe in roads.probes(at(tick * 250), pairs()) {
                let bytes = f64::from(probe.bytes);
                spent += bytes / 12.5e6;
                let took = 0.005 + bytes / 12.5e6;
                roads.observe(at(tick * 250), (&from, &to), bytes, took);
            }
        }
        // A share of the time, and what may be spent at first.
        assert!(
            spent > 0.2 && spent < 0.02 * seconds as f64 + 0.2,
            "{spent}"
        );
        // Frames that tell the rate make probes needless.
        let later = seconds * 1000 + 10_000;
        roads.observe(at(later), (&from, &to), 100_000.0, 0.013);
        assert!(roads.probes(at(later + 500), pairs()).is_empty());
        assert!(!roads.probes(at(later + 2000), pairs()).is_empty());
        let none = ProbeSettings {
            share: 0.0,
            ..ProbeSettings::default()
        };
        let mut silent = Roads::new(Links::default(), WatchSettings::default(), none);
        assert!(silent.probes(at(0), pairs()).is_empty());
    }

    #[test]
    fn a_probe_that_is_on_its_way_is_not_followed_by_another() {
        let mut roads = roads();
        assert_eq!(roads.probes(at(0), [ends()]).len(), 2);
        for ms in (250..30_000).step_by(250) {
            assert!(roads.probes(at(ms), [ends()]).is_empty(), "at {ms} ms");
        }
        assert_eq!(
            roads.probes(at(31_000), [ends()]).len(),
            2,
            "that one was lost"
        );
    }

    #[test]
    fn a_fall_and_a_recovery_that_nobody_meets_are_found_by_probes() {
        let (mut roads, (from, to)) = (roads(), ends());
        let mut found = Vec::new();
        for tick in 0..240u64 {
            let rate = if (40..120).contains(&tick) {
                0.25e6
            } else {
                12.5e6
            };
            for probe in roads.probes(at(tick * 250), [ends()]) {
                let bytes = f64::from(probe.bytes);
                let took = 0.005 + bytes / rate;
                if roads.observe(at(tick * 250), (&from, &to), bytes, took) {
                    found.push(tick);
                }
            }
        }
        let [fall, .., rise] = found[..] else {
            panic!("{found:?}");
        };
        assert!((40..52).contains(&fall), "{found:?}");
        assert!(
            (120..132).contains(&rise) || found.iter().any(|t| (120..132).contains(t)),
            "{found:?}"
        );
        let link = roads.link(&from, &to, 0.5);
        assert!(
            (link.rate_bytes_per_second / 12.5e6 - 1.0).abs() < 0.1,
            "{link:?}"
        );
    }
}
