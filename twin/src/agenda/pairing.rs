//! A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986) in one array, ordered by (instant,
//! sequence).

use splitplace_fleet::Timestamp;

use super::Queue;

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node<E> {
    key: u128,
    event: Option<E>,
    child: u32,
    sibling: u32,
}

/// See the module. O(1) to put in, O(log n) amortised to take out; at most 2^32 - 1 events.
#[derive(Clone, Debug)]
pub struct Pairing<E> {
    nodes: Vec<Node<E>>,
    free: Vec<u32>,
    root: u32,
    next: u64,
    last: u64,
    len: usize,
    pairs: Vec<u32>,
}

impl<E> Default for Pairing<E> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            next: 0,
            last: 0,
            len: 0,
            pairs: Vec::new(),
        }
    }
}

impl<E> Pairing<E> {
    fn meld(&mut self, a: u32, b: u32) -> u32 {
        if a == NONE {
            return b;
        }
        if b == NONE {
            return a;
        }
        let (top, low) = if self.nodes[a as usize].key < self.nodes[b as usize].key {
            (a, b)
        } else {
            (b, a)
        };
        self.nodes[low as usize].sibling = self.nodes[top as usize].child;
        self.nodes[top as usize].child = low;
        top
    }
}

impl<E> Queue<E> for Pairing<E> {
    fn push(&mut self, at: Timestamp, event: E) {
        let at = at.as_nanos().max(self.last);
        let node = Node {
            key: u128::from(at) << 64 | u128::from(self.next),
            event: Some(event),
            child: NONE,
            sibling: NONE,
        };
        self.next += 1;
        self.len += 1;
        let place = if let Some(place) = self.free.pop() {
            self.nodes[place as usize] = node;
            place
        } else {
            let place = u32::try_from(self.nodes.len()).unwrap_or(NONE);
            self.nodes.push(node);
            place
        };
        self.root = self.meld(self.root, place);
    }

    fn pop(&mut self) -> Option<(Timestamp, E)> {
        if self.root == NONE {
            return None;
        }
        let root = self.root;
        let (key, event) = {
            let node = &mut self.nodes[root as usize];
            (node.key, node.event.take()?)
        };
        let mut child = self.nodes[root as usize].child;
        self.free.push(root);
        self.len -= 1;
        let mut pairs = std::mem::take(&mut self.pairs);
        while child != NONE {
            let second = self.nodes[child as usize].sibling;
            let rest = if second == NONE {
                NONE
            } else {
                self.nodes[second as usize].sibling
            };
            pairs.push(self.meld(child, second));
            child = rest;
        }
        self.root = NONE;
        while let Some(pair) = pairs.pop() {
            self.root = self.meld(self.root, pair);
        }
        if self.root != NONE {
            self.nodes[self.root as usize].sibling = NONE;
        }
        self.pairs = pairs;
        let at = (key >> 64) as u64;
        self.last = at;
        Some((Timestamp::from_nanos(at), event))
    }

    fn len(&self) -> usize {
        self.len
    }
}
