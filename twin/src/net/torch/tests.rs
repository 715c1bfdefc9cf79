//! The published file, files made by hand, and broken ones: read as they are, or refused with a reason.

use std::io::Write as _;

use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;

const PUBLISHED: &[u8] = include_bytes!("../../../tests/data/chainnet-published/model.pth");

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [b"X", &length[..], text.as_bytes()].concat()
}

fn int(number: i32) -> Vec<u8> {
    [b"J", &number.to_le_bytes()[..]].concat()
}

fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &parts.concat()[..], b"t"].concat()
}

fn ints(numbers: &[i32]) -> Vec<u8> {
    tuple(&numbers.iter().map(|one| int(*one)).collect::<Vec<_>>())
}

/// A tensor of storage 0, as `torch.save` writes it.
fn tensor(class: &str, count: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n").into_bytes();
    let storage = tuple(&[text("storage"), class, text("0"), text("cpu"), int(count)]);
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let given = tuple(&[
        [storage, b"Q".to_vec()].concat(),
        int(offset),
        ints(shape),
        ints(strides),
        vec![0x89],
        hooks,
    ]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n", &given[..], b"R"].concat()
}

/// A dict of one tensor, `w`.
fn dict(tensor: &[u8]) -> Vec<u8> {
    [b"\x80\x02}(", &text("w")[..], tensor, b"u."].concat()
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        writer.start_file(format!("net/{name}"), stored).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn numbers(count: i32) -> Vec<u8> {
    (0..count)
        .flat_map(|one| (one as f32).to_le_bytes())
        .collect()
}

/// A file of one tensor over the numbers 0 to 11.
fn file(tensor: &[u8]) -> Vec<u8> {
    archive(&[("data.pkl", &dict(tensor)), ("data/0", &numbers(12))])
}

fn refusal(bytes: &[u8], shape: &[usize]) -> String {
    let read = StateDict::open(bytes).and_then(|mut dict| dict.tensor("w", shape));
    read.unwrap_err().to_string()
}

#[test]
fn the_published_file_holds_what_its_authors_say() {
    let mut dict = StateDict::open(PUBLISHED).unwrap();
    let shapes: Vec<(String, Vec<usize>)> = dict
        .tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
        .collect();
    let mut count = 0;
    for (name, shape) in shapes {
        count += dict.tensor(&name, &shape).unwrap().len();
    }
    assert_eq!(count, 179_714);
    // Four bytes of the file, read by eye: 40 78 ab 3d.
    assert_eq!(
        dict.tensor("throughput_mlp.6.bias", &[1]).unwrap(),
        [f32::from_bits(0x3dab_7840)]
    );
}

#[test]
fn views_are_read_by_offset_and_strides() {
    let bytes = file(&tensor("FloatStorage", 12, 1, &[2, 3], &[1, 4]));
    let mut dict = StateDict::open(&bytes).unwrap();
    assert_eq!(
        dict.tensor("w", &[2, 3]).unwrap(),
        [1.0, 5.0, 9.0, 2.0, 6.0, 10.0]
    );
    let whole = file(&tensor("FloatStorage", 12, 0, &[12], &[1]));
    assert_eq!(
        StateDict::open(&whole).unwrap().tensor("w", &[12]).unwrap()[11],
        11.0
    );
}

#[test]
fn a_state_dict_is_found_within_a_checkpoint() {
    let inner = dict(&tensor("FloatStorage", 12, 0, &[12], &[1]));
    let inner = &inner[2..inner.len() - 1];
    let parts = [
        &b"\x80\x02}("[..],
        &text("epoch"),
        &int(3),
        &text(INNER),
        inner,
        b"u.",
    ];
    let bytes = archive(&[("data.pkl", &parts.concat()), ("data/0", &numbers(12))]);
    assert_eq!(StateDict::open(&bytes).unwrap().tensors.len(), 1);
}

#[test]
fn what_is_cut_off_is_refused() {
    let lengths = (0..PUBLISHED.len()).step_by(4801);
    for length in lengths.chain(PUBLISHED.len() - 100..PUBLISHED.len()) {
        let told = StateDict::open(&PUBLISHED[..length])
            .unwrap_err()
            .to_string();
        assert!(
            told.starts_with("the file: no whole zip archive"),
            "{length}: {told}"
        );
    }
}

#[test]
fn a_changed_number_is_noticed() {
    let mut bytes = PUBLISHED.to_vec();
    // Nearly everything are numbers; so is the middle.
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let mut dict = StateDict::open(&bytes).unwrap();
    let shapes = dict.tensors.clone().into_iter();
    let damaged: Vec<String> = shapes
        .filter_map(|(name, tensor)| dict.tensor(&name, &tensor.shape).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert!(
        damaged[0].contains("the file is damaged, fetch it again"),
        "{damaged:?}"
    );
}

#[test]
fn nothing_is_called_that_is_not_known() {
    let evil = [
        &b"\x80\x02cos\nsystem\n"[..],
        &tuple(&[text("true")]),
        b"R.",
    ]
    .concat();
    let told = refusal(&archive(&[("data.pkl", &evil)]), &[]);
    assert!(
        told.starts_with("data.pkl, byte 2: it asks for \"os.system\""),
        "{told}"
    );
    assert!(
        told.contains("torch.save(model.state_dict(), FILE)"),
        "{told}"
    );
    let known = b"\x80\x02ctorch\nFloatStorage\n)R.";
    let told = pickle::tensors(known, INNER).unwrap_err();
    assert!(told.what.starts_with("nothing is called but"), "{told:?}");
}

#[test]
fn each_mistake_says_where_it_is_and_what_may_help() {
    let float = |count, offset, shape: &[i32], strides: &[i32]| {
        file(&tensor("FloatStorage", count, offset, shape, strides))
    };
    let sound = float(12, 0, &[3, 4], &[4, 1]);
    let old = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    let infinite = f32::INFINITY.to_le_bytes().repeat(12);
    let infinite = archive(&[
        (
            "data.pkl",
            &dict(&tensor("FloatStorage", 12, 0, &[12], &[1])),
        ),
        ("data/0", &infinite),
    ]);
    let big_endian = archive(&[("data.pkl", b"."), ("byteorder", b"big")]);
    let cases: &[(&[u8], &[usize], &str)] = &[
        (old, &[12], "the file: no whole zip archive"),
        (
            &archive(&[("readme", b"")]),
            &[12],
            "the file: a zip archive without FOLDER/data.pkl",
        ),
        (
            &sound,
            &[4, 3],
            "tensor w: it is of [3, 4] and not of [4, 3]",
        ),
        (
            &file(&tensor("HalfStorage", 12, 0, &[12], &[1])),
            &[12],
            "data.pkl, byte ",
        ),
        (
            &float(12, 1, &[12], &[1]),
            &[12],
            "tensor w: it reaches beyond the 12 numbers",
        ),
        (
            &float(12, 0, &[3, 4], &[i32::MAX, 1]),
            &[3, 4],
            "tensor w: it reaches beyond",
        ),
        (
            &float(13, 0, &[12], &[1]),
            &[12],
            "tensor w: its storage has 48 bytes and not 52",
        ),
        (
            &float(11, 0, &[11], &[1]),
            &[11],
            "data/0: 48 bytes; at most 44 belong here",
        ),
        (&float(-1, 0, &[12], &[1]), &[12], "data.pkl, byte "),
        (&float(12, 0, &[1; 9], &[1; 9]), &[1; 9], "data.pkl, byte "),
        (&infinite, &[12], "tensor w: number 0 is inf"),
        (&big_endian, &[12], "byteorder: only little-endian"),
        (
            &archive(&[("data.pkl", b"\x80\x02}.")]),
            &[],
            "data.pkl, as a whole: a dict without tensors",
        ),
        (
            &archive(&[("data.pkl", b"\x80\x02).")]),
            &[],
            "data.pkl, as a whole: no dict",
        ),
        (
            &archive(&[("data.pkl", b"")]),
            &[],
            "data.pkl, byte 0: the pickle ends too soon",
        ),
        (
            &archive(&[("data.pkl", b"\x80\x02G")]),
            &[],
            "data.pkl, byte 2: operation 0x47",
        ),
    ];
    for (bytes, shape, beginning) in cases {
        let told = refusal(bytes, shape);
        assert!(told.starts_with(beginning), "{told} is not {beginning}");
    }
    let missing = StateDict::open(&sound)
        .unwrap()
        .tensor("v", &[12])
        .unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("tensor v: it is not among the 1"),
        "{missing}"
    );
}

/// Every place where a header of the archive names the size or the method of its entries.
fn headers(bytes: &[u8], size_at: [usize; 2]) -> Vec<usize> {
    let mut found = Vec::new();
    for at in 0..bytes.len() - 4 {
        match &bytes[at..at + 4] {
            b"PK\x03\x04" => found.push(at + size_at[0]),
            b"PK\x01\x02" => found.push(at + size_at[1]),
            _ => {}
        }
    }
    found
}

#[test]
fn what_would_grow_is_refused() {
    let sound = file(&tensor("FloatStorage", 12, 0, &[12], &[1]));
    // Entries said to be compressed.
    let mut deflated = sound.clone();
    for at in headers(&sound, [8, 10]) {
        deflated[at] = 8;
    }
    let told = refusal(&deflated, &[12]);
    assert!(told.starts_with("data.pkl: "), "{told}");
    assert!(told.contains("torch.save"), "{told}");
    // Entries said to hold 2 GiB, both stored and as they come out.
    let mut grown = sound.clone();
    for [local, central] in [[18, 20], [22, 24]] {
        for at in headers(&sound, [local, central]) {
            grown[at..at + 4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        }
    }
    assert!(StateDict::open(&grown).is_err());
    // A count of numbers that no file could hold.
    let claimed = file(&tensor("FloatStorage", i32::MAX, 0, &[12], &[1]));
    let told = refusal(&claimed, &[12]);
    assert!(
        told.starts_with("tensor w: its storage has 48 bytes"),
        "{told}"
    );
    let long = vec![b'}'; usize::try_from(PICKLE).unwrap() + 1];
    let told = refusal(&archive(&[("data.pkl", &long)]), &[12]);
    assert!(
        told.starts_with("data.pkl: 262145 bytes; at most 262144"),
        "{told}"
    );
    let wide = [b"\x80\x02", &text(&"w".repeat(1025))[..], b"."].concat();
    let told = refusal(&archive(&[("data.pkl", &wide)]), &[12]);
    assert!(
        told.starts_with("data.pkl, byte 2: a text of 1025 bytes"),
        "{told}"
    );
    let large = vec![0; LARGEST + 1];
    assert!(
        StateDict::open(&large)
            .unwrap_err()
            .to_string()
            .contains("at most")
    );
}

/// Whatever a byte of the pickle is changed to, there is an answer.
#[test]
fn no_pickle_stops_the_reader() {
    let sound = dict(&tensor("FloatStorage", 12, 0, &[3, 4], &[4, 1]));
    assert_eq!(pickle::tensors(&sound, INNER).unwrap().len(), 1);
    let mut refused = 0;
    for at in 0..sound.len() {
        assert!(pickle::tensors(&sound[..at], INNER).is_err(), "{at}");
        for to in 0..=u8::MAX {
            let mut other = sound.clone();
            other[at] = to;
            refused += usize::from(pickle::tensors(&other, INNER).is_err());
        }
    }
    assert!(sound.len() * 128 < refused, "{refused}");
}
