//! What happens to bytes that were not written by us.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use splitplace_codec::{Codec, Element, Entropy, Error, Limits, Spec, decode};

use crate::made::{bytes, f32s, normal, sparse};

const SHAPE: [i64; 4] = [2, 6, 7, 9];
const COUNT: usize = 2 * 6 * 7 * 9;

fn encoded(codec: Codec, seed: u64) -> Vec<u8> {
    let tensor = match seed % 3 {
        0 => normal(COUNT, seed),
        1 => sparse(COUNT, 0.5, seed),
        _ => sparse(COUNT, 0.95, seed),
    };
    let mut wire = Vec::new();
    codec
        .encode(&f32s(&SHAPE), &bytes(&tensor), &mut wire)
        .unwrap();
    wire
}

/// The right checksum for a tensor of this spec, as the format says: element, dimensions, bytes.
fn seal(wire: &mut Vec<u8>, spec: &Spec<'_>) {
    let element = match spec.element {
        Element::F32 => 0,
        Element::Other { bytes } => bytes,
    };
    let mut sealed = vec![element];
    sealed.extend(spec.shape.iter().flat_map(|dim| dim.to_le_bytes()));
    sealed.extend(&*wire);
    wire.extend(crc32fast::hash(&sealed).to_le_bytes());
}

#[test]
fn each_change_of_a_byte_is_found() {
    for codec in Codec::all() {
        let mut wire = encoded(codec, 1);
        for at in 0..wire.len() {
            for change in [1, 0x80, 0xff] {
                wire[at] ^= change;
                let found = decode(&wire, &f32s(&SHAPE), Limits::default());
                assert_eq!(found, Err(Error::Checksum), "{codec}, byte {at}");
                wire[at] ^= change;
            }
        }
        for len in 0..wire.len() {
            assert!(decode(&wire[..len], &f32s(&SHAPE), Limits::default()).is_err());
        }
    }
}

#[test]
fn a_tensor_is_not_taken_for_one_of_another_shape() {
    for codec in Codec::all() {
        let wire = encoded(codec, 0);
        let others = [[6, 2, 7, 9], [2, 6, 9, 7], [1, 12, 7, 9], [2, 6, 7, 8]];
        for shape in &others {
            let found = decode(&wire, &f32s(shape), Limits::default());
            assert_eq!(found, Err(Error::Checksum), "{codec}");
        }
        let element = Element::Other { bytes: 4 };
        let spec = Spec {
            element,
            shape: &SHAPE,
        };
        assert_eq!(
            decode(&wire, &spec, Limits::default()),
            Err(Error::Checksum)
        );
    }
}

#[test]
fn a_tensor_over_the_limit_is_refused_before_anything_is_read() {
    let limits = Limits { tensor_bytes: 99 };
    let error = decode(&[], &f32s(&[5, 5]), limits).unwrap_err();
    assert_eq!(
        error,
        Error::TooLarge {
            bytes: 100,
            limit: 99
        }
    );
    assert_eq!(decode(&[], &f32s(&[-1]), limits), Err(Error::Shape));
    assert_eq!(decode(&[2], &f32s(&[1]), limits), Err(Error::Truncated));
}

#[test]
fn what_no_encoder_writes_is_refused_behind_a_right_checksum() {
    let spec = f32s(&[1, 2]);
    let open = |body: &[u8]| {
        let mut wire = body.to_vec();
        seal(&mut wire, &spec);
        decode(&wire, &spec, Limits::default())
    };
    assert_eq!(open(&[0; 9]), Ok(vec![0; 8]));
    assert_eq!(open(&[255]), Err(Error::Id(255)));
    assert!(matches!(open(&[0; 8]), Err(Error::Malformed(_))));
    // u8: a step that is NaN, one that is negative, a zero without a step; and one that is right.
    for step in [[0xc0, 0x7f, 0], [0x80, 0xbf, 0], [0, 0, 1]] {
        let [low, high, zero] = step;
        assert!(matches!(
            open(&[2, low, high, zero, 1, 2]),
            Err(Error::Malformed(_))
        ));
    }
    assert_eq!(open(&[2, 0x80, 0x3f, 0, 1, 2]), Ok(bytes(&[1.0, 2.0])));
    // u8c: no channels in a group, and more than there are.
    for per in [0, 3] {
        assert!(matches!(
            open(&[3, per, 0x80, 0x3f, 0, 1, 2]),
            Err(Error::Malformed(_))
        ));
    }
    let other = Spec {
        element: Element::Other { bytes: 1 },
        shape: &[2],
    };
    let mut wire = vec![2, 0x80, 0x3f, 0, 1, 2];
    seal(&mut wire, &other);
    let codec = "u8".parse().unwrap();
    assert_eq!(
        decode(&wire, &other, Limits::default()),
        Err(Error::Element(codec))
    );
}

/// 20 000 mutated tensors with right checksums, so that what lies behind the checksum is met.
#[test]
fn mutated_bytes_neither_panic_nor_take_more_memory_than_was_promised() {
    const SEED: u64 = 0x5eed;
    const ROUNDS: u64 = 20_000;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let codecs: Vec<Codec> = Codec::all().collect();
    let originals: Vec<Vec<u8>> = (0..3)
        .flat_map(|seed| codecs.iter().map(move |&codec| encoded(codec, seed)))
        .collect();
    let spec = f32s(&SHAPE);
    let (mut survived, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let mut wire = originals[rng.random_range(0..originals.len())].clone();
        wire.truncate(wire.len() - 4);
        for _ in 0..rng.random_range(1..6) {
            // Where the structure is: at the beginning, more often than not.
            let reach = if rng.random_bool(0.7) {
                wire.len().min(40)
            } else {
                wire.len()
            };
            let at = rng.random_range(0..reach);
            match rng.random_range(0..6) {
                0 => wire[at] = rng.random(),
                1 => wire[at] ^= 1 << rng.random_range(0..8),
                2 => wire[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
                3 => wire.truncate(at.max(1)),
                4 => wire.insert(at, rng.random()),
                _ => {
                    let from = rng.random_range(0..wire.len());
                    wire[at] = wire[from];
                }
            }
        }
        seal(&mut wire, &spec);
        let mut found = Err(Error::Truncated);
        let used = allocation_counter::measure(|| found = decode(&wire, &spec, Limits::default()));
        // Four times the tensor, and a table of fixed size, or nine.
        let is_contextual = Codec::of(&wire).is_some_and(|c| c.entropy == Entropy::ContextRans);
        let tables = if is_contextual { 9 } else { 1 };
        let most = 4 * 4 * COUNT as u64 + tables * (18 << 10);
        assert!(
            used.bytes_max <= most,
            "{} bytes for {wire:?}",
            used.bytes_max
        );
        match found {
            Ok(bytes) => {
                assert_eq!(bytes.len(), 4 * COUNT);
                survived += 1;
            }
            Err(error) => {
                assert_ne!(error, Error::Checksum, "the test seals in a different way");
                refused += 1;
            }
        }
    }
    // Both happen, or the mutations are too wild or too tame to mean something.
    assert!(
        survived > 1000 && refused > 1000,
        "{survived} survived, {refused} refused"
    );
}

#[test]
fn noise_is_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let spec = f32s(&SHAPE);
    for codec in Codec::all() {
        for _ in 0..300 {
            let mut wire = vec![codec.id()];
            let len = rng.random_range(0..300);
            wire.extend((0..len).map(|_| rng.random::<u8>()));
            seal(&mut wire, &spec);
            if let Ok(bytes) = decode(&wire, &spec, Limits::default()) {
                assert_eq!(bytes.len(), 4 * COUNT);
            }
        }
    }
}
