//! Where work waits and is done.
//!
//! Three kinds, for three needs:
//! - [`Line`]: first come, first served, service known on arrival. The departure follows at once
//!   (Lindley's recursion), so that a job costs one event and eight bytes.
//! - [`Desk`]: the earliest deadline first over a number of servers, as our workers' threads do it. Who
//!   is next is known only when a server is free.
//! - [`Share`]: processor sharing. When anybody is done is known only when nobody else comes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use splitplace_fleet::Timestamp;

/// First come, first served over `servers`, at most `capacity` jobs waiting and in service.
#[derive(Clone, Debug)]
pub struct Line {
    capacity: usize,
    /// Departures of those inside; sorted for one server.
    inside: VecDeque<u64>,
    /// When each of several servers is free; empty for one server.
    free: BinaryHeap<Reverse<u64>>,
    last: u64,
}

impl Line {
    /// An idle station. `servers` of 0 counts as 1.
    #[must_use]
    pub fn new(servers: u32, capacity: usize) -> Self {
        let free = if 1 < servers {
            (0..servers).map(|_| Reverse(0)).collect()
        } else {
            BinaryHeap::new()
        };
        Self {
            capacity,
            inside: VecDeque::new(),
            free,
            last: 0,
        }
    }

    /// A job comes that needs `service` nanoseconds: when it leaves, or `None` when there is no room.
    /// Who leaves at this very instant has left. O(1) for one server, O(log servers + inside) else.
    #[inline]
    pub fn enter(&mut self, now: Timestamp, service: u64) -> Option<Timestamp> {
        let now = now.as_nanos();
        if self.free.is_empty() {
            while self
                .inside
                .front()
                .is_some_and(|&departure| departure <= now)
            {
                self.inside.pop_front();
            }
            if self.capacity <= self.inside.len() {
                return None;
            }
            self.last = self.last.max(now).saturating_add(service);
            self.inside.push_back(self.last);
            return Some(Timestamp::from_nanos(self.last));
        }
        self.inside.retain(|&departure| now < departure);
        if self.capacity <= self.inside.len() {
            return None;
        }
        let Reverse(free) = self.free.pop()?;
        let departure = free.max(now).saturating_add(service);
        self.free.push(Reverse(departure));
        self.inside.push_back(departure);
        Some(Timestamp::from_nanos(departure))
    }

    /// Forgets everybody, at a failure. Departures that were promised do not happen.
    pub fn clear(&mut self) {
        self.inside.clear();
        self.last = 0;
        let servers = self.free.len();
        self.free = (0..servers).map(|_| Reverse(0)).collect();
    }
}

#[derive(Clone, Debug)]
struct Waiting<J> {
    rank: u64,
    number: u64,
    job: J,
}

impl<J> PartialEq for Waiting<J> {
    fn eq(&self, other: &Self) -> bool {
        (self.rank, self.number) == (other.rank, other.number)
    }
}

impl<J> Eq for Waiting<J> {}

impl<J> PartialOrd for Waiting<J> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<J> Ord for Waiting<J> {
    /// The heap gives out the largest: the least rank, then who came first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.rank, other.number).cmp(&(self.rank, self.number))
    }
}

/// Least rank first over a number of servers. Bounds are the owner's: it may count by fragment.
#[derive(Clone, Debug)]
pub struct Desk<J> {
    waiting: BinaryHeap<Waiting<J>>,
    running: Vec<Option<J>>,
    free: Vec<u32>,
    next: u64,
}

impl<J> Desk<J> {
    /// An idle station. `servers` of 0 counts as 1.
    #[must_use]
    pub fn new(servers: u32) -> Self {
        let servers = servers.max(1);
        Self {
            waiting: BinaryHeap::new(),
            running: (0..servers).map(|_| None).collect(),
            free: (0..servers).rev().collect(),
            next: 0,
        }
    }

    /// A job comes; among equal ranks, who came first is first. O(log waiting).
    pub fn enter(&mut self, rank: u64, job: J) {
        let number = self.next;
        self.next += 1;
        self.waiting.push(Waiting { rank, number, job });
    }

    /// The next job, if a server is free; the server stays free until [`serve`](Self::serve).
    pub fn call(&mut self) -> Option<J> {
        if self.free.is_empty() {
            return None;
        }
        self.waiting.pop().map(|waiting| waiting.job)
    }

    /// Puts a job that [`call`](Self::call) gave out on a server, and says which.
    ///
    /// # Panics
    /// When no server is free.
    pub fn serve(&mut self, job: J) -> u32 {
        let server = self
            .free
            .pop()
            .expect("a job is given out to a free server");
        self.running[server as usize] = Some(job);
        server
    }

    /// A server is done; its job, or `None` when it had none.
    pub fn done(&mut self, server: u32) -> Option<J> {
        let job = self.running.get_mut(server as usize)?.take()?;
        self.free.push(server);
        Some(job)
    }

    /// Takes everybody out, at a failure: those in service first, then by order of coming.
    pub fn clear(&mut self) -> Vec<J> {
        let servers = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let mut out: Vec<J> = self.running.iter_mut().filter_map(Option::take).collect();
        self.free = (0..servers).rev().collect();
        let mut waiting = std::mem::take(&mut self.waiting).into_vec();
        waiting.sort_by_key(|waiting| waiting.number);
        out.extend(waiting.into_iter().map(|waiting| waiting.job));
        out
    }

    /// Jobs that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Jobs in service.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running.len() - self.free.len()
    }
}

/// Processor sharing: with n jobs and c servers each runs at the speed min(1, c / n).
#[derive(Clone, Debug)]
pub struct Share<J> {
    servers: f64,
    /// Nanoseconds of service that everybody present since the beginning would have had.
    attained: f64,
    since: u64,
    /// By what `attained` will be when they are done.
    inside: BinaryHeap<Waiting<J>>,
    next: u64,
    version: u32,
}

impl<J> Share<J> {
    /// An idle station. `servers` of 0 counts as 1.
    #[must_use]
    pub fn new(servers: u32) -> Self {
        Self {
            servers: f64::from(servers.max(1)),
            attained: 0.0,
            since: 0,
            inside: BinaryHeap::new(),
            next: 0,
            version: 0,
        }
    }

    fn speed(&self) -> f64 {
        (self.servers / self.inside.len() as f64).min(1.0)
    }

    fn advance(&mut self, now: u64) {
        if !self.inside.is_empty() {
            self.attained += now.saturating_sub(self.since) as f64 * self.speed();
        }
        self.since = now;
    }

    /// A job comes that needs `service` nanoseconds on a server of its own. O(log inside).
    pub fn enter(&mut self, now: Timestamp, service: u64, job: J) {
        self.advance(now.as_nanos());
        if self.inside.is_empty() {
            // Keeps the numbers small, so that they stay exact.
            self.attained = 0.0;
        }
        // Ranks are whole: a thousandth of a nanosecond is fine enough, and rounds up.
        let rank = ((self.attained + service as f64) * 1e3).ceil() as u64;
        let number = self.next;
        self.next += 1;
        self.inside.push(Waiting { rank, number, job });
        self.version = self.version.wrapping_add(1);
    }

    /// When the next job will be done if nobody comes, with the version that this is true of.
    #[must_use]
    pub fn next(&self) -> Option<(Timestamp, u32)> {
        let first = self.inside.peek()?;
        let left = (first.rank as f64 / 1e3 - self.attained).max(0.0) / self.speed();
        let at = self.since.saturating_add(left.ceil() as u64);
        Some((Timestamp::from_nanos(at), self.version))
    }

    /// The job that is done now, if `version` is still true.
    pub fn done(&mut self, now: Timestamp, version: u32) -> Option<J> {
        if version != self.version {
            return None;
        }
        self.advance(now.as_nanos());
        self.version = self.version.wrapping_add(1);
        self.inside.pop().map(|waiting| waiting.job)
    }

    /// Jobs inside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inside.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inside.is_empty()
    }

    /// Takes everybody out, at a failure, by order of coming.
    pub fn clear(&mut self) -> Vec<J> {
        self.version = self.version.wrapping_add(1);
        let mut inside = std::mem::take(&mut self.inside).into_vec();
        inside.sort_by_key(|waiting| waiting.number);
        inside.into_iter().map(|waiting| waiting.job).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn a_line_serves_in_order_within_its_capacity() {
        let mut line = Line::new(1, 2);
        assert_eq!(line.enter(at(0), 10), Some(at(10)));
        assert_eq!(line.enter(at(1), 10), Some(at(20)));
        assert_eq!(line.enter(at(9), 10), None);
        assert_eq!(
            line.enter(at(10), 10),
            Some(at(30)),
            "who leaves now has left"
        );
        line.clear();
        assert_eq!(line.enter(at(11), 1), Some(at(12)));
        let mut two = Line::new(2, 3);
        assert_eq!(two.enter(at(0), 10), Some(at(10)));
        assert_eq!(two.enter(at(0), 4), Some(at(4)));
        assert_eq!(two.enter(at(0), 4), Some(at(8)));
        assert_eq!(two.enter(at(1), 4), None);
        assert_eq!(two.enter(at(5), 4), Some(at(12)));
    }

    #[test]
    fn a_desk_gives_out_the_earliest_deadline() {
        let mut desk = Desk::new(1);
        for (rank, job) in [(5, 'a'), (3, 'b'), (3, 'c'), (9, 'd')] {
            desk.enter(rank, job);
        }
        let job = desk.call().unwrap();
        assert_eq!(job, 'b');
        assert_eq!(desk.serve(job), 0);
        assert!(desk.call().is_none() && desk.waiting() == 3 && desk.running() == 1);
        assert_eq!(desk.done(0), Some('b'));
        assert_eq!(desk.done(0), None);
        let job = desk.call().unwrap();
        desk.serve(job);
        assert_eq!(desk.clear(), ['c', 'a', 'd']);
        assert!(desk.running() == 0 && desk.call().is_none());
    }

    #[test]
    fn a_share_gives_everybody_the_same() {
        let mut share = Share::new(1);
        share.enter(at(0), 10, 'a');
        assert_eq!(share.next().unwrap().0, at(10));
        // From 4 on at half speed: a has 6 left and needs 12, b needs 2 and takes 4.
        let stale = share.next().unwrap().1;
        share.enter(at(4), 2, 'b');
        assert_eq!(share.done(at(10), stale), None);
        let (when, version) = share.next().unwrap();
        assert_eq!(when, at(8));
        assert_eq!(share.done(when, version), Some('b'));
        let (when, version) = share.next().unwrap();
        assert_eq!(when, at(12));
        assert_eq!(share.done(when, version), Some('a'));
        assert!(share.is_empty() && share.next().is_none());
        let mut two = Share::new(2);
        two.enter(at(0), 10, 'a');
        two.enter(at(0), 10, 'b');
        assert_eq!(two.next().unwrap().0, at(10));
        assert_eq!(two.clear(), ['a', 'b']);
    }
}
