//! What was once written can be read for ever.

use splitplace_codec::{Codec, Limits, decode};

use crate::made::{bytes, f32s, values};

/// Two channels of 8 × 9: a pattern with zeros, and small steps about zero.
fn tensor() -> Vec<f32> {
    let first = (0..72).map(|k| if k % 3 == 0 { (k % 8) as f32 } else { 0.0 });
    let second = (0..72).map(|k| (k % 5) as f32 * 0.5 - 1.0);
    first.chain(second).collect()
}

const SHAPE: [i64; 4] = [1, 2, 8, 9];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const GOLDEN: &[(&str, &str)] = &[];

#[test]
fn the_format_stays() {
    for (name, golden) in GOLDEN {
        let codec: Codec = name.parse().unwrap();
        let wire: Vec<u8> = (0..golden.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap())
            .collect();
        let found = values(&decode(&wire, &f32s(&SHAPE), Limits::default()).unwrap());
        for (found, value) in found.iter().zip(tensor()) {
            assert!(
                (found - value).abs() < 0.3,
                "{name}: {value} became {found}"
            );
        }
        let mut now = Vec::new();
        let used = codec
            .encode(&f32s(&SHAPE), &bytes(&tensor()), &mut now)
            .unwrap();
        assert_eq!((used, hex(&now).as_str()), (codec, *golden), "{name}");
    }
}
