//! What was once written can be read for ever: if one of these tests fails, the format has changed, and a
//! codec that has changed needs a new number.

use splitplace_codec::{Codec, Entropy, Limits, decode};

use crate::made::{bytes, f32s, values};

/// Two channels of 8 × 9: a pattern with zeros, and small steps about zero.
fn small() -> Vec<f32> {
    let first = (0..72).map(|k| if k % 3 == 0 { (k % 8) as f32 } else { 0.0 });
    let second = (0..72).map(|k| (k % 5) as f32 * 0.5 - 1.0);
    first.chain(second).collect()
}

/// Six channels of 64 × 64, half noise with a long tail, half flat.
fn large() -> Vec<f32> {
    let mut state = 1u32;
    let value = |at: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 8) as f32 / 16_777_216.0;
        match at / 512 % 2 {
            0 => (noise * noise - 0.1).max(0.0) * noise * (1 + at / 4096) as f32,
            _ => (at / 4096 % 3) as f32 * 0.25,
        }
    };
    (0..6 * 4096).map(value).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const SMALL: &[(&str, &str)] = &[
    (
        "raw-rans",
        "10202300005088d9c1ef3082bffbe16f23fc60841f8cf00b313be8cf6105fa89011000f4cd0e009f87400078280500d5aba6b13eaa11d72da056267da34327d3119ab8f66d2e3216bb58855f64754a030b2e0ab658434be1d47f6430a404f75a3f820baf2341a3f679f42d6577",
    ),
    (
        "raw-zrans",
        "20281e9f0af196c9337101ea0100a010b3837f7bc1df59c0df5ef8c10b3f78e137f083f798817e620104002efe0a001b35cc002ebd80283ef6aa47d3b0a23ccd083ce41450d1eb9820e6a2683c8d22199059d04fb5e99f7c05b25f4a8f9a5f820882086ee96ee990f848e8",
    ),
    (
        "f16-zrans",
        "211f1d9f0af196c9337101ea016820062bb70b0b4ff7e01e42042710aeec0e2c8003cd7db60088ed010086b30800b572a30b51fc4e377273c5697224f54672d8f8c1fde6240b69d9801b4662b34bfb772c32a5450f8ffa3b7aaf3209fb8c7a94",
    ),
    (
        "u8",
        "02013d200000005f0000bf00002000007f0000de00004000009f00000000005f0000bf00002000007f0000de00004000009f00000000005f0000bf00002000007f0000de00004000009f0000e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f0001020e0f03a254df3",
    ),
    (
        "u8-rans",
        "12013d201d1e85981dffecf860873f9dd083137e70c20f4ef8810b7ae05aedf860c703bc0f3d0066c47e114c970200f86b020088041f10b8091a491404e44acfc66556d81b1b0aaf0c059df06556b6219dc5e86b78187a9e8b91a143a585f8d967b6b5",
    ),
    (
        "u8-zrans",
        "22013d20251d9f0af196c9337101ea1b04b072e30b0bf8d30d3db8e10737fce0861fdcd0837b65810f2cf0cd7db60093b0010087b30800b572a30b5fb14e371071c56972240dddba8cf8c1fde6450e69d95f9b4662b34b2c32fb77a5450f8f7aaffa3b3209e8dafad9",
    ),
    (
        "u8-crans",
        "32013d204118831080192166c75f333e98e13f23f460841f8ce00f4cd003d3c0840f4cf810b3e30f037ce1007f9a013f95033e70c087981de86d2ffce0859fdcf08f177af0820187918a148539dedf96fdfa06ecbe0f07689f449c2097a4a434eb06f53015deb4e490a31244d5039eb1fc855ddcec6fbffcee5146",
    ),
    (
        "u8c-zrans",
        "2302013d20261d3f15e22d9367e202d4370860e5c61716f0a71b7a70c30f6ef8c10d3fb8a107f7ca021f58e001cd7db60093b0010087b30800b572a30b5fb14e371071c56972240dddba8cf8c1fde6450e69d95f9b4662b34b2c32fb77a5450f8f7aaffa3b3209d2629cf9",
    ),
    (
        "u6",
        "04033e0800005c00f0020002001f00dc000001c0090000005c00f0020002001f00dc000001c0090000005c00f0020002001f00dc000001c00900380f1008ce030482f30081e03c4020380f1008ce030482f30081e03c4020380f1008ce030482f30081e03c4020380f1008ce030482f35790e4fd",
    ),
    (
        "u6c-rans",
        "1502033e08181e0b31bb9fddc1cea79306270f4e1e9c3c70f1a0b03ad80187bc0f3d0066c47e114c970200f86b020088041f10b8091a491404e44acfc66556d81b1b0aaf0c059df06556b6219dc5e86b78187a9e8b91a143a585f865250a19",
    ),
    (
        "u4",
        "06093f020060000b200007d0000490000060000b200007d0000490000060000b200007d000049000fe10e20f21fe10e20f21fe10e20f21fe10e20f21fe10e20f21fe10e20f21fe10e20f21fe4ee39e6a",
    ),
    (
        "u4c",
        "0702093f020060000b200007d0000490000060000b200007d0000490000060000b200007d000049000fe10e20f21fe10e20f21fe10e20f21fe10e20f21fe10e20f21fe10e20f21fe10e20f21fec7263ba0",
    ),
];

/// Lengths and checksums.
const LARGE: &[(&str, usize, u32)] = &[
    ("raw", 98309, 0x4b0bb334),
    ("raw-rans", 41668, 0x72a489fb),
    ("raw-zrans", 37738, 0x07908a8c),
    ("f16", 49157, 0xe1aefa30),
    ("f16-rans", 21874, 0x6f7699dc),
    ("f16-zrans", 20100, 0xb8716dec),
    ("u8", 24584, 0x65da58fe),
    ("u8-rans", 12877, 0xa919c580),
    ("u8-zrans", 11909, 0x7eaa447b),
    ("u8-crans", 10372, 0xce0b1914),
    ("u8c", 24600, 0x45b0189e),
    ("u8c-rans", 12398, 0xefa27f91),
    ("u8c-zrans", 11849, 0xd0079e4f),
    ("u8c-crans", 11349, 0x13e4f9a9),
    ("u6", 18440, 0xaad6fb99),
    ("u6-rans", 10188, 0x5db8c87b),
    ("u6-zrans", 9268, 0x3442e944),
    ("u6-crans", 7531, 0xd057168c),
    ("u6c", 18456, 0x46553994),
    ("u6c-rans", 9638, 0x903c8dd3),
    ("u6c-zrans", 9187, 0x4968d1bf),
    ("u6c-crans", 8456, 0xe014bff3),
    ("u4", 12296, 0xe151c3e2),
    ("u4-rans", 6378, 0xb000cbec),
    ("u4-zrans", 5502, 0xff482428),
    ("u4-crans", 4986, 0x64597e9b),
    ("u4c", 12312, 0x7c3ca74c),
    ("u4c-rans", 6884, 0xb41026ca),
    ("u4c-zrans", 6465, 0x5d02ad47),
    ("u4c-crans", 5903, 0xecd8da22),
];

#[test]
fn small_tensors_are_written_and_read_as_ever() {
    let spec = f32s(&[1, 2, 8, 9]);
    for (name, golden) in SMALL {
        let codec: Codec = name.parse().unwrap();
        let wire: Vec<u8> = (0..golden.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap())
            .collect();
        let found = values(&decode(&wire, &spec, Limits::default()).unwrap());
        for (found, value) in found.iter().zip(small()) {
            assert!(
                (found - value).abs() < 0.3,
                "{name}: {value} became {found}"
            );
        }
        let mut now = Vec::new();
        let used = codec.encode(&spec, &bytes(&small()), &mut now).unwrap();
        assert_eq!((used, hex(&now).as_str()), (codec, *golden), "{name}");
    }
}

#[test]
fn large_tensors_are_written_as_ever() {
    // Another zstd may write other frames; that it reads ours is its own promise.
    let ours = Codec::all().filter(|codec| codec.entropy != Entropy::Zstd);
    let found: Vec<(String, usize, u32)> = ours
        .map(|codec| {
            let mut wire = Vec::new();
            codec
                .encode(&f32s(&[1, 6, 64, 64]), &bytes(&large()), &mut wire)
                .unwrap();
            (codec.to_string(), wire.len(), crc32fast::hash(&wire))
        })
        .collect();
    let golden: Vec<(String, usize, u32)> = LARGE
        .iter()
        .map(|&(name, len, crc)| (name.to_owned(), len, crc))
        .collect();
    assert_eq!(found, golden);
}
