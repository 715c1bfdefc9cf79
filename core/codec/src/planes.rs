//! Elements of several bytes as planes: all first bytes, then all second bytes, and so on. The bytes of
//! one plane are alike (exponents, say), those of one element are not.

use half::{f16, slice::HalfFloatSliceExt as _};

/// Elements converted at a time.
const BLOCK: usize = 256;

/// Takes elements of `width` bytes apart.
pub(crate) fn split(elements: &[u8], width: usize) -> Vec<u8> {
    fn apart<const W: usize>(elements: &[u8], planes: &mut Vec<u8>) {
        let elements = elements.as_chunks::<W>().0;
        for at in 0..W {
            planes.extend(elements.iter().map(|element| element[at]));
        }
    }
    let mut planes = Vec::with_capacity(elements.len());
    match width {
        1 => planes.extend_from_slice(elements),
        2 => apart::<2>(elements, &mut planes),
        4 => apart::<4>(elements, &mut planes),
        8 => apart::<8>(elements, &mut planes),
        _ => {
            for at in 0..width {
                planes.extend(elements.iter().skip(at).step_by(width));
            }
        }
    }
    planes
}

/// Puts planes together again.
pub(crate) fn join(planes: &[u8], width: usize) -> Vec<u8> {
    let count = planes.len() / width;
    let mut elements = vec![0; planes.len()];
    match width {
        1 => elements.copy_from_slice(planes),
        2 => {
            let (a, b) = planes.split_at(count);
            for (element, (a, b)) in elements.as_chunks_mut().0.iter_mut().zip(a.iter().zip(b)) {
                *element = [*a, *b];
            }
        }
        4 => {
            let (ab, cd) = planes.split_at(2 * count);
            let ((a, b), (c, d)) = (ab.split_at(count), cd.split_at(count));
            let pairs = a.iter().zip(b).zip(c.iter().zip(d));
            for (element, ((a, b), (c, d))) in elements.as_chunks_mut().0.iter_mut().zip(pairs) {
                *element = [*a, *b, *c, *d];
            }
        }
        _ => {
            for (at, plane) in planes.chunks_exact(count.max(1)).enumerate() {
                for (byte, from) in elements.iter_mut().skip(at).step_by(width).zip(plane) {
                    *byte = *from;
                }
            }
        }
    }
    elements
}

/// f32 to f16, both little-endian; none becomes infinite if all are below 65 520.
pub(crate) fn halve(singles: &[[u8; 4]]) -> Vec<u8> {
    let mut halves = Vec::with_capacity(2 * singles.len());
    let (mut from, mut to) = ([0f32; BLOCK], [f16::ZERO; BLOCK]);
    for block in singles.chunks(BLOCK) {
        for (value, bytes) in from.iter_mut().zip(block) {
            *value = f32::from_le_bytes(*bytes);
        }
        to[..block.len()].convert_from_f32_slice(&from[..block.len()]);
        halves.extend(
            to[..block.len()]
                .iter()
                .flat_map(|value| value.to_le_bytes()),
        );
    }
    halves
}

/// f16 to f32, both little-endian.
pub(crate) fn widen(halves: &[[u8; 2]]) -> Vec<u8> {
    let mut singles = vec![0; 4 * halves.len()];
    let (mut from, mut to) = ([f16::ZERO; BLOCK], [0f32; BLOCK]);
    let blocks = halves.chunks(BLOCK);
    for (block, singles) in blocks.zip(singles.as_chunks_mut::<4>().0.chunks_mut(BLOCK)) {
        for (value, bytes) in from.iter_mut().zip(block) {
            *value = f16::from_le_bytes(*bytes);
        }
        from[..block.len()].convert_to_f32_slice(&mut to[..block.len()]);
        for (bytes, value) in singles.iter_mut().zip(&to) {
            *bytes = value.to_le_bytes();
        }
    }
    singles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_lie_one_after_the_other() {
        assert_eq!(split(&[1, 2, 3, 4, 5, 6], 2), [1, 3, 5, 2, 4, 6]);
        assert_eq!(split(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn any_width_comes_back() {
        for width in 1..=16 {
            for count in [0, 1, 7, 64] {
                let elements: Vec<u8> = (0..width * count).map(|k| (k * 7) as u8).collect();
                assert_eq!(join(&split(&elements, width), width), elements, "{width}");
            }
        }
    }

    #[test]
    fn halves_are_rounded_to_nearest_and_come_back() {
        let values: Vec<f32> = (0..600).map(|k| (k as f32 - 300.0) * 0.37).collect();
        let singles: Vec<[u8; 4]> = values.iter().map(|x| x.to_le_bytes()).collect();
        let halves = halve(&singles);
        let wide = widen(halves.as_chunks().0);
        assert_eq!(wide.len(), 2400);
        for (wide, value) in wide.as_chunks::<4>().0.iter().zip(values) {
            assert_eq!(f32::from_le_bytes(*wide), f16::from_f32(value).to_f32());
        }
    }
}
