//! Values by numbers that only grow, of which the old ones go.

use std::collections::VecDeque;

/// A map from consecutive numbers; O(1), memory linear in the span from the oldest to the newest.
#[derive(Clone, Debug)]
pub(super) struct Window<T> {
    first: u64,
    values: VecDeque<Option<T>>,
    len: usize,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self {
            first: 0,
            values: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Window<T> {
    /// Puts in the value of the next number, and says which that is.
    pub(super) fn push(&mut self, value: T) -> u64 {
        self.values.push_back(Some(value));
        self.len += 1;
        self.first + self.values.len() as u64 - 1
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.values.get_mut(at)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let value = self.values.get_mut(at)?.take()?;
        self.len -= 1;
        while let Some(None) = self.values.front() {
            self.values.pop_front();
            self.first += 1;
        }
        Some(value)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_the_old_ones_go() {
        let mut window = Window::default();
        let numbers: Vec<u64> = "abcd".chars().map(|c| window.push(c)).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(window.remove(1), Some('b'));
        assert_eq!((window.remove(1), window.remove(9)), (None, None));
        assert_eq!(window.remove(0), Some('a'));
        assert_eq!(window.values.len(), 2);
        assert_eq!(window.get_mut(2), Some(&mut 'c'));
        window.remove(3);
        window.remove(2);
        assert!(window.is_empty() && window.values.is_empty());
        assert_eq!(window.push('e'), 4);
    }
}
