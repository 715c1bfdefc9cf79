//! Neurosurgeon's choice as a look-up: the lower envelope of planes over bandwidth and load.
//!
//! The cost of a cut in a way is `fixed + load · work + bytes / rate`: a plane over `x = 1 / rate` and the server's
//! load `k`. Where each is least is a convex polygon. It is found by cutting the box of all `(x, k)` with one line for
//! each other plane; between two neighbouring corners' loads the same planes follow one another along `x`. So a
//! choice is two binary searches, and the bandwidths where it changes are where neighbours meet.

/// A candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plane {
    /// Cost whatever the link and the load.
    pub fixed: f64,
    /// Cost at load 1 that grows with the server's load.
    pub work: f64,
    /// Cost for each unit of `1 / rate`: bytes, times what a second of the link costs.
    pub bytes: f64,
}

impl Plane {
    /// Its cost.
    #[must_use]
    pub fn cost(&self, inverse_rate: f64, load: f64) -> f64 {
        self.fixed + load * self.work + inverse_rate * self.bytes
    }
}

/// Where the best plane changes at some load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Switch {
    /// Bytes a second.
    pub rate: f64,
    /// Number of the plane that is best above this rate.
    pub above: usize,
    /// Number of the plane that is best below it.
    pub below: usize,
}

/// The best of some planes everywhere in a box of rates and loads.
#[derive(Clone, Debug)]
pub struct Envelope {
    planes: Vec<Plane>,
    /// Loads from which on these planes follow one another by rising `1 / rate`; ascending.
    slabs: Vec<(f64, Vec<usize>)>,
}

impl Envelope {
    /// Over rates of at least `slowest` bytes a second and these loads.
    ///
    /// O(n²) for n planes that are not dearer than another one in everything; then some comparisons a look-up.
    #[must_use]
    pub fn new(planes: &[Plane], slowest: f64, loads: (f64, f64)) -> Self {
        let most = 1.0 / slowest;
        let candidates = undominated(planes);
        let mut corners = vec![loads.0, loads.1];
        for &one in &candidates {
            let mut shape = vec![
                (0.0, loads.0),
                (most, loads.0),
                (most, loads.1),
                (0.0, loads.1),
            ];
            for &other in candidates.iter().filter(|other| **other != one) {
                shape = clip(&shape, &planes[one], &planes[other]);
                if shape.is_empty() {
                    break;
                }
            }
            corners.extend(shape.iter().map(|&(_, load)| load));
        }
        corners.retain(|load| (loads.0..=loads.1).contains(load));
        corners.sort_by(f64::total_cmp);
        let grain = (loads.1 - loads.0).abs().max(1e-9) * 1e-9;
        corners.dedup_by(|next, before| *next - *before <= grain);
        if corners.len() < 2 {
            corners.push(loads.0);
        }
        let slabs = corners.windows(2).map(|pair| {
            let middle = pair[0].midpoint(pair[1]);
            (pair[0], along(planes, &candidates, middle, most))
        });
        Self {
            planes: planes.to_vec(),
            slabs: slabs.collect(),
        }
    }

    /// Number of the plane that is best. O(log n).
    #[must_use]
    pub fn choose(&self, rate: f64, load: f64) -> Option<usize> {
        let (inverse, order) = (1.0 / rate, self.order(load)?);
        let cost = |place: usize| self.planes[order[place]].cost(inverse, load);
        // The cost of two neighbours differs in one direction up to where they meet.
        let (mut low, mut high) = (0, order.len().checked_sub(1)?);
        while low < high {
            let middle = low.midpoint(high);
            if cost(middle + 1) < cost(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(order[low])
    }

    /// The rates at which the choice changes at this load, from fast to slow. O(n).
    #[must_use]
    pub fn switches(&self, load: f64) -> Vec<Switch> {
        let order = self.order(load).unwrap_or_default();
        let pairs = order.windows(2).filter_map(|pair| {
            let (near, far) = (&self.planes[pair[0]], &self.planes[pair[1]]);
            let gap = far.cost(0.0, load) - near.cost(0.0, load);
            let steps = near.bytes - far.bytes;
            (gap > 0.0 && steps > 0.0).then(|| Switch {
                rate: steps / gap,
                above: pair[0],
                below: pair[1],
            })
        });
        pairs.collect()
    }

    /// The planes.
    #[must_use]
    pub fn planes(&self) -> &[Plane] {
        &self.planes
    }

    fn order(&self, load: f64) -> Option<&[usize]> {
        let slab = self.slabs.partition_point(|(from, _)| *from <= load);
        let slab = self.slabs.get(slab.saturating_sub(1))?;
        Some(&slab.1)
    }
}

/// Numbers of the planes that no other one is at most as dear as in everything; the first of equals.
fn undominated(planes: &[Plane]) -> Vec<usize> {
    let covers =
        |a: &Plane, b: &Plane| a.fixed <= b.fixed && a.work <= b.work && a.bytes <= b.bytes;
    let is_kept = |&number: &usize| {
        let one = &planes[number];
        !planes.iter().enumerate().any(|(at, other)| {
            at != number && covers(other, one) && (at < number || !covers(one, other))
        })
    };
    (0..planes.len()).filter(is_kept).collect()
}

/// The part of a convex shape where `one` costs at most as much as `other`.
fn clip(shape: &[(f64, f64)], one: &Plane, other: &Plane) -> Vec<(f64, f64)> {
    let over = |&(x, k): &(f64, f64)| one.cost(x, k) - other.cost(x, k);
    let mut kept = Vec::with_capacity(shape.len() + 1);
    for (at, corner) in shape.iter().enumerate() {
        let next = &shape[(at + 1) % shape.len()];
        let (here, there) = (over(corner), over(next));
        if here <= 0.0 {
            kept.push(*corner);
        }
        if (here < 0.0 && there > 0.0) || (here > 0.0 && there < 0.0) {
            let share = here / (here - there);
            kept.push((
                corner.0 + share * (next.0 - corner.0),
                corner.1 + share * (next.1 - corner.1),
            ));
        }
    }
    kept
}

/// The planes that are best somewhere along `x` at one load, by rising `x`: the lower envelope of lines.
fn along(planes: &[Plane], candidates: &[usize], load: f64, most: f64) -> Vec<usize> {
    let start = |number: usize| planes[number].cost(0.0, load);
    let slope = |number: usize| planes[number].bytes;
    let mut lines = candidates.to_vec();
    lines.sort_by(|&a, &b| {
        slope(b)
            .total_cmp(&slope(a))
            .then(start(b).total_cmp(&start(a)))
    });
    // Where a later, flatter line falls below an earlier one.
    let meet = |a: usize, b: usize| (start(b) - start(a)) / (slope(a) - slope(b));
    let mut order: Vec<usize> = Vec::new();
    for line in lines {
        while let Some(&last) = order.last() {
            let is_beaten = start(line) <= start(last);
            let is_late = match order.get(order.len().wrapping_sub(2)) {
                Some(&before) if !is_beaten => meet(before, line) <= meet(before, last),
                _ => false,
            };
            if is_beaten || is_late {
                order.pop();
            } else {
                break;
            }
        }
        order.push(line);
    }
    let mut end = order.len();
    while 1 < end && meet(order[end - 2], order[end - 1]) >= most {
        end -= 1;
    }
    order.truncate(end);
    order
}
