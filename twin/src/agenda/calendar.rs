//! A calendar queue (Brown 1988): days of equal width, a year of as many days as events.

use std::collections::VecDeque;

use splitplace_fleet::Timestamp;

use super::Queue;

/// See the module. O(1) expected when gaps are even, O(n) in the worst case: a few far events among
/// many near ones make the days too wide or the years too many.
#[derive(Clone, Debug)]
pub struct Calendar<E> {
    /// Sorted by (instant, sequence), the earliest in front.
    days: Vec<VecDeque<(u128, E)>>,
    width: u64,
    last: u64,
    next: u64,
    len: usize,
}

impl<E> Default for Calendar<E> {
    fn default() -> Self {
        Self {
            days: vec![VecDeque::new(), VecDeque::new()],
            width: 1,
            last: 0,
            next: 0,
            len: 0,
        }
    }
}

const fn instant(key: u128) -> u64 {
    (key >> 64) as u64
}

impl<E> Calendar<E> {
    fn day(&self, at: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "below the number of days")]
        let day = (at / self.width % self.days.len() as u64) as usize;
        day
    }

    fn insert(&mut self, key: u128, event: E) {
        let day = self.day(instant(key));
        let line = &mut self.days[day];
        let mut place = line.len();
        while 0 < place && key < line[place - 1].0 {
            place -= 1;
        }
        line.insert(place, (key, event));
    }

    /// As many days as events, each three times as wide as the mean gap of the earliest ones.
    fn resize(&mut self, days: usize) {
        let mut all: Vec<(u128, E)> = self.days.iter_mut().flat_map(std::mem::take).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        let sample = all.len().min(64);
        if 2 <= sample {
            let span = instant(all[sample - 1].0) - instant(all[0].0);
            self.width = (3 * span / (sample as u64 - 1)).max(1);
        }
        self.days = (0..days).map(|_| VecDeque::new()).collect();
        for (key, event) in all {
            let day = self.day(instant(key));
            self.days[day].push_back((key, event));
        }
    }

    fn take(&mut self, day: usize) -> Option<(Timestamp, E)> {
        let (key, event) = self.days[day].pop_front()?;
        self.len -= 1;
        self.last = instant(key);
        if 2 < self.days.len() && self.len < self.days.len() / 2 {
            self.resize(self.days.len() / 2);
        }
        Some((Timestamp::from_nanos(instant(key)), event))
    }
}

impl<E> Queue<E> for Calendar<E> {
    fn push(&mut self, at: Timestamp, event: E) {
        let at = at.as_nanos().max(self.last);
        self.insert(u128::from(at) << 64 | u128::from(self.next), event);
        self.next += 1;
        self.len += 1;
        if 2 * self.days.len() < self.len {
            self.resize(2 * self.days.len());
        }
    }

    fn pop(&mut self) -> Option<(Timestamp, E)> {
        if self.len == 0 {
            return None;
        }
        let first = self.last / self.width;
        for step in 0..self.days.len() as u64 {
            let end = u128::from(first + step + 1) * u128::from(self.width);
            let day = self.day((first + step).saturating_mul(self.width));
            let is_today = self.days[day]
                .front()
                .is_some_and(|(key, _)| u128::from(instant(*key)) < end);
            if is_today {
                return self.take(day);
            }
        }
        // Nothing within a year: the earliest of all.
        let days = self.days.iter().enumerate();
        let (_, day) = days
            .filter_map(|(day, line)| Some((line.front()?.0, day)))
            .min()?;
        self.take(day)
    }

    fn len(&self) -> usize {
        self.len
    }
}
