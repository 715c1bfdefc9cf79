//! Runs of zeros apart from what lies between them.
//!
//! A run is a byte: 0 to 254 zeros and then an element that is not zero, or 255 for 255 zeros and nothing
//! after them. Zeros after the last element that is not zero are not written: the number of elements is
//! known. An element is zero if all its bytes are.

/// A run of this many zeros is followed by another run.
const LONG: u8 = 255;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Tensors taken apart: runs, and each plane's bytes of the elements that are not zero.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    pub(crate) runs: Vec<u8>,
    pub(crate) values: Vec<Vec<u8>>,
}

/// Takes planes of equal length apart.
pub(crate) fn split(planes: &[&[u8]]) -> Runs {
    let joined: Vec<u8>;
    let presence = match planes {
        [only] => *only,
        _ => {
            let mut any = vec![0; planes.first().map_or(0, |plane| plane.len())];
            for plane in planes {
                any.iter_mut()
                    .zip(*plane)
                    .for_each(|(any, byte)| *any |= byte);
            }
            joined = any;
            &joined
        }
    };
    let mut runs = Vec::with_capacity(presence.len() / 4);
    let mut values: Vec<Vec<u8>> = planes
        .iter()
        .map(|plane| Vec::with_capacity(plane.len() / 4))
        .collect();
    let mut next = 0;
    let mut found = |at: usize| {
        let mut zeros = at - next;
        while usize::from(LONG) <= zeros {
            runs.push(LONG);
            zeros -= usize::from(LONG);
        }
        runs.push(zeros as u8);
        for (values, plane) in values.iter_mut().zip(planes) {
            values.push(plane[at]);
        }
        next = at + 1;
    };
    let (eights, rest) = presence.as_chunks::<8>();
    for (number, eight) in eights.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        // The high bit of each byte that is not zero.
        let mut left = (((word & !HIGH_BITS) + !HIGH_BITS) | word) & HIGH_BITS;
        while left != 0 {
            found(8 * number + left.trailing_zeros() as usize / 8);
            left &= left - 1;
        }
    }
    for (at, &byte) in rest.iter().enumerate() {
        if byte != 0 {
            found(8 * eights.len() + at);
        }
    }
    Runs { runs, values }
}

/// How many elements that are not zero there are.
pub(crate) fn values(runs: &[u8]) -> usize {
    runs.iter().map(|&run| usize::from(run != LONG)).sum()
}

/// Puts one plane's values into a plane of zeros; `None` if a value would lie outside.
/// `values` has as many bytes as [`values`] says.
pub(crate) fn spread(runs: &[u8], values: &[u8], plane: &mut [u8]) -> Option<()> {
    let mut values = values.iter();
    let mut at = 0;
    for &run in runs {
        at += usize::from(run);
        if run != LONG {
            *plane.get_mut(at)? = *values.next()?;
            at += 1;
        }
    }
    // A long run may reach to the end, and no further.
    (at <= plane.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_are_what_they_are_said_to_be() {
        let mut plane = vec![0; 600];
        plane[3] = 7;
        plane[4] = 8;
        plane[4 + 1 + 255] = 9;
        assert_eq!(
            split(&[&plane]),
            Runs {
                runs: vec![3, 0, 255, 0],
                values: vec![vec![7, 8, 9]]
            }
        );
    }

    #[test]
    fn what_lies_outside_is_refused() {
        assert_eq!(spread(&[4], &[1], &mut [0; 4]), None);
        assert_eq!(spread(&[255], &[], &mut [0; 254]), None);
        assert_eq!(spread(&[255], &[], &mut [0; 255]), Some(()));
        assert_eq!(spread(&[0, 0], &[1], &mut [0; 9]), None);
    }

    proptest! {
        #[test]
        fn planes_come_back(
            elements in proptest::collection::vec(
                (prop_oneof![0usize..3, 0usize..700], any::<u8>(), any::<u8>()), 0..20),
        ) {
            let mut planes = [Vec::new(), Vec::new()];
            for (zeros, a, b) in elements {
                planes.iter_mut().for_each(|plane| plane.extend(vec![0; zeros]));
                planes[0].push(a & 1);
                planes[1].push(b);
            }
            for planes in [&planes[..1], &planes[..]] {
                let planes: Vec<&[u8]> = planes.iter().map(Vec::as_slice).collect();
                let found = split(&planes);
                prop_assert_eq!(values(&found.runs), found.values[0].len());
                for (plane, values) in planes.iter().zip(&found.values) {
                    let mut again = vec![0; plane.len()];
                    prop_assert_eq!(spread(&found.runs, values, &mut again), Some(()));
                    prop_assert_eq!(&again, plane);
                }
            }
        }
    }
}
