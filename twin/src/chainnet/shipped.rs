//! The weights that come with the crate; `twin/weights/README.md` has the commands that made them.

use super::{ChainNet, Kind, Shape};
use crate::net::{Weights, WeightsError};

/// Columns and rounds of the shipped networks.
const SHAPE: (usize, usize) = (32, 3);

impl ChainNet {
    /// The shipped network of a kind.
    ///
    /// # Errors
    /// Never, unless the files were changed.
    pub fn shipped(kind: Kind) -> Result<Self, WeightsError> {
        let bytes: &[u8] = match kind {
            Kind::Plain => include_bytes!("../../weights/chainnet-plain.bin"),
            Kind::Residual => include_bytes!("../../weights/chainnet-residual.bin"),
        };
        let (hidden, rounds) = SHAPE;
        let shape = Shape {
            kind,
            hidden,
            rounds,
        };
        Self::with(shape, Weights::from_bytes(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Seed,
        chainnet::{System, score_of_formulas},
    };

    /// On systems that it has not seen, labelled afresh, the residual must better the formulas it stands on.
    #[test]
    fn what_is_shipped_is_better_than_the_formulas() {
        let systems: Vec<System> = (0..150)
            .map(|number| System::draw(Seed(77), number).labelled(20_000, Seed(78)))
            .collect();
        let formulas = score_of_formulas(&systems);
        let found = ChainNet::shipped(Kind::Residual).unwrap().score(&systems);
        assert!(
            found.throughput.mean() < 0.7 * formulas.throughput.mean(),
            "{found:?}"
        );
        assert!(
            found.latency.mean() < 0.6 * formulas.latency.mean(),
            "{found:?}"
        );
        assert!(found.loss.mean() < 0.6 * formulas.loss.mean(), "{found:?}");
    }

    /// The bar of the published network, on drawn systems that are not those of its training. Their labels are themselves
    /// simulated: 100 000 arrivals leave noise of about half a per cent in a ratio, and .001 in a loss, which is in what
    /// is found, so the network itself is better than this says.
    #[test]
    fn the_plain_one_keeps_the_bar_of_the_published_network() {
        let systems: Vec<System> = (0..150)
            .map(|number| System::draw(Seed(77), number).labelled(100_000, Seed(78)))
            .collect();
        let found = ChainNet::shipped(Kind::Plain).unwrap().score(&systems);
        let pooled = f64::midpoint(found.throughput.mean(), found.latency.mean());
        assert!(pooled < 0.034, "{found:?}");
        assert!(found.loss.mean() < 0.0035, "{found:?}");
    }
}
