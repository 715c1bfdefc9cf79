//! Quantiles of times without keeping the times.

/// A histogram of nanoseconds: 128 cells for each power of two, so that a quantile is off by at most
/// 0.4 %. Up to 59 kB; cells are made when they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    cells: Vec<u64>,
    count: u64,
}

const BITS: u32 = 7;

fn cell(nanos: u64) -> usize {
    if nanos < 1 << BITS {
        return nanos as usize;
    }
    let power = nanos.ilog2() - BITS;
    (((power as usize) + 1) << BITS) + ((nanos >> power) as usize & ((1 << BITS) - 1))
}

/// The middle of a cell.
fn middle(cell: usize) -> f64 {
    let (power, rest) = (cell >> BITS, cell & ((1 << BITS) - 1));
    if power == 0 {
        return rest as f64;
    }
    let width = (1u64 << (power - 1)) as f64;
    ((1 << BITS) + rest) as f64 * width + (width - 1.0) / 2.0
}

impl Quantiles {
    /// Takes in one time.
    pub fn add(&mut self, nanos: u64) {
        let cell = cell(nanos);
        if self.cells.len() <= cell {
            self.cells.resize(cell + 1, 0);
        }
        self.cells[cell] += 1;
        self.count += 1;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        if self.cells.len() < other.cells.len() {
            self.cells.resize(other.cells.len(), 0);
        }
        for (own, more) in self.cells.iter_mut().zip(&other.cells) {
            *own += more;
        }
        self.count += other.count;
    }

    /// Times taken in.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Seconds that a share `quantile` of the times do not exceed; 0 for no time.
    #[must_use]
    pub fn seconds(&self, quantile: f64) -> f64 {
        let rank = (quantile.clamp(0.0, 1.0) * self.count as f64)
            .ceil()
            .max(1.0) as u64;
        let mut seen = 0;
        for (cell, count) in self.cells.iter().enumerate() {
            seen += count;
            if rank <= seen {
                return middle(cell) / 1e9;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_off_by_less_than_half_a_percent() {
        let mut quantiles = Quantiles::default();
        let times: Vec<u64> = (1..=100_000u64).map(|n| n * n).collect();
        times.iter().for_each(|&time| quantiles.add(time));
        for share in [0.001, 0.5, 0.95, 0.99, 0.999, 1.0] {
            let exact = times[(share * 1e5f64) as usize - 1] as f64 / 1e9;
            let found = quantiles.seconds(share);
            assert!(
                (found / exact - 1.0).abs() < 0.005,
                "{share}: {found} {exact}"
            );
        }
        assert_eq!(Quantiles::default().seconds(0.5), 0.0);
    }

    #[test]
    fn every_time_has_a_cell_whose_middle_is_near() {
        for nanos in [0, 1, 127, 128, 129, 255, 256, 1 << 40, u64::MAX] {
            let middle = middle(cell(nanos));
            assert!(
                (middle - nanos as f64).abs() <= nanos as f64 * 0.004,
                "{nanos}"
            );
        }
        let mut one = Quantiles::default();
        one.add(5);
        let mut two = Quantiles::default();
        two.add(5_000_000);
        one.merge(&two);
        assert_eq!(one.count(), 2);
        assert!(one.seconds(1.0) > 0.004);
    }
}
