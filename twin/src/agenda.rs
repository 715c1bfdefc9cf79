//! What will happen, in order: the queue of future events.
//!
//! Events of one instant come out in the order in which they went in, so that a trace depends on
//! nothing but the seed. Three structures were measured (`benches/agenda.rs`, hold model with
//! exponential gaps); [`Agenda`] is the one that won, the others stay as oracles and for the next
//! measurement.
//!
//! Time never goes back: an event may not be put before the last one taken out.

pub mod calendar;
pub mod heap;
pub mod pairing;
pub mod radix;

use splitplace_fleet::Timestamp;

/// A queue of future events.
pub trait Queue<E> {
    /// Puts an event in. `at` must not lie before the last event taken out; if it does, the event
    /// happens at once.
    fn push(&mut self, at: Timestamp, event: E);

    /// Takes out the earliest event; among those of one instant, the one that went in first.
    fn pop(&mut self) -> Option<(Timestamp, E)>;

    /// Events that wait.
    fn len(&self) -> usize;

    /// Whether nothing will happen any more.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The queue that simulations use.
pub type Agenda<E> = radix::Radix<E>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    /// Pops must come in order of (instant, sequence): compared with a sorted list.
    fn holds(queue: &mut dyn Queue<u32>, spread: usize) {
        let mut stream = Seed(7).stream("test", spread as u64);
        let mut expected = std::collections::BTreeMap::new();
        let (mut now, mut number) = (0u64, 0u32);
        for round in 0..20_000 {
            let pushes = if round < 300 { 2 } else { stream.below(3) };
            for _ in 0..pushes {
                // Many ties when the spread is small; now and then far away.
                let far = if stream.below(50) == 0 { 1 << 20 } else { 1 };
                let at = now + (stream.below(spread) * far) as u64;
                queue.push(Timestamp::from_nanos(at), number);
                expected.insert((at, number), ());
                number += 1;
            }
            assert_eq!(queue.len(), expected.len());
            let next = expected.pop_first().map(|((at, number), ())| (at, number));
            let popped = queue.pop().map(|(at, event)| (at.as_nanos(), event));
            assert_eq!(popped, next);
            now = next.map_or(now, |(at, _)| at);
        }
        while let Some(((at, number), ())) = expected.pop_first() {
            let popped = queue.pop().map(|(at, event)| (at.as_nanos(), event));
            assert_eq!(popped, Some((at, number)));
        }
        assert!(queue.is_empty() && queue.pop().is_none());
    }

    #[test]
    fn every_queue_is_in_order_and_stable() {
        for spread in [1, 3, 1000, 1 << 30] {
            holds(&mut radix::Radix::default(), spread);
            holds(&mut heap::Heap::<u32, 2>::default(), spread);
            holds(&mut heap::Heap::<u32, 4>::default(), spread);
            holds(&mut pairing::Pairing::default(), spread);
            holds(&mut calendar::Calendar::default(), spread);
        }
    }

    #[test]
    fn the_past_is_now() {
        let mut queue = radix::Radix::default();
        queue.push(Timestamp::from_nanos(10), 'a');
        queue.push(Timestamp::from_nanos(12), 'b');
        assert_eq!(queue.pop(), Some((Timestamp::from_nanos(10), 'a')));
        queue.push(Timestamp::from_nanos(3), 'c');
        assert_eq!(queue.pop(), Some((Timestamp::from_nanos(10), 'c')));
        assert_eq!(queue.pop(), Some((Timestamp::from_nanos(12), 'b')));
    }
}
