//! Packages from texts and bytes, no files.

use std::{io::Cursor, path::Path};

use super::*;
use crate::package::manifest::hex;

const PARTS: [&str; 3] = ["base.onnx", "left.onnx", "right.onnx"];

fn content(file: &str) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(file.as_bytes()))
}

fn hash(file: &str) -> String {
    hex(&Sha256::digest(file.as_bytes()).into())
}

fn manifest() -> String {
    let [base, left, right] = PARTS.map(hash);
    format!(
        r#"format = 1

[package]
name = "clothes"
version = "3"
description = "two \"kinds\""
licence = "Apache-2.0"
default_sla_ms = 12.5

[[input]]
name = "image"
datatype = "FP32"
shape = [-1, 3, 4, 6]

[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 4]
labels = ["a", "b", "c", "d"]

[preprocess]
input = "image"
resize = "fit-crop"
channels = "rgb"
layout = "nchw"
mean = [0.0, 10.0, 20.0]
std = [1.0, 2.0, 4.0]

[[variant]]
name = "base"
kind = "whole"
technique = "student"

[[variant.part]]
file = "base.onnx"
sha256 = "{base}"

[[variant.exit]]
name = "early"
output = "exit1"
threshold = 0.75

[[variant.exit]]
name = "later"
output = "exit2"

[[variant]]
name = "split"
kind = "semantic"
merge = "log-odds"
missing_score = -3.5

[[variant.part]]
file = "left.onnx"
sha256 = "{left}"
classes = [0, 2]

[[variant.part]]
file = "right.onnx"
sha256 = "{right}"
classes = [1, 3]
"#
    )
}

fn read(manifest: &str) -> Result<Package> {
    Package::from_parts(Path::new("here"), manifest, "", content)
}

#[test]
fn a_manifest_says_everything_and_is_written_as_it_was_read() {
    let package = read(&manifest()).unwrap();
    let base = &package.variants[0];
    assert_eq!(base.technique, Some(Technique::Student));
    assert_eq!(base.exits.len(), 2);
    assert_eq!(
        (base.exits[0].output.as_str(), base.exits[0].threshold),
        ("exit1", 0.75)
    );
    assert_eq!(base.exits[1].threshold, NEVER);
    let preprocess = package.preprocess.clone().unwrap();
    assert_eq!(Preprocess::from_text(&preprocess.to_text()), Ok(preprocess));
    let again = read(&package.written_manifest()).unwrap();
    let same = Package {
        manifest: again.manifest.clone(),
        ..package.clone()
    };
    assert_eq!(again, same);
    assert_eq!(package.manifest_text(), manifest());
}

#[test]
fn what_a_manifest_must_not_say_is_refused_with_its_reason() {
    let sound = manifest();
    for (from, to, reason) in [
        ("technique = \"student\"", "technique = \"magic\"", "magic"),
        ("threshold = 0.75", "threshold = 0.0", "threshold"),
        ("threshold = 0.75", "threshold = 1.02", "threshold"),
        ("threshold = 0.75", "threshold = nan", "threshold"),
        ("output = \"exit1\"", "output = \"scores\"", "taken"),
        ("output = \"exit2\"", "output = \"exit1\"", "taken"),
        ("name = \"later\"", "name = \"early\"", "twice"),
        ("name = \"later\"", "name = \"final\"", "end"),
        ("input = \"image\"", "input = \"sound\"", "no input 'sound'"),
        ("std = [1.0, 2.0, 4.0]", "std = [1.0, 0.0, 4.0]", "std"),
        ("mean = [0.0, 10.0, 20.0]", "mean = [0.0]", "3 channels"),
        ("channels = \"rgb\"", "channels = \"cmyk\"", "cmyk"),
        ("layout = \"nchw\"", "layout = \"nhwc\"", "channels"),
        ("classes = [1, 3]", "classes = [1, 2]", "class 2"),
    ] {
        assert!(sound.contains(from), "{from}");
        let error = read(&sound.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(reason), "{to}: {error}");
    }
}

fn encoded(width: u32, height: u32, format: image::ImageFormat) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, _| {
        image::Rgb([u8::try_from(x).unwrap(), 100, 200])
    });
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

#[test]
fn pictures_become_values_channel_by_channel() {
    let mut preprocess = read(&manifest()).unwrap().preprocess.unwrap();
    let limits = PictureLimits::default();
    let png = encoded(6, 4, image::ImageFormat::Png);
    let shape = [1, 3, 4, 6];
    let values = preprocess.apply(&png, &shape, &limits).unwrap();
    assert_eq!(values.len(), 72);
    assert_eq!(values[..6], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!((values[24], values[48]), (45.0, 45.0));
    preprocess.layout = Layout::Nhwc;
    let values = preprocess.apply(&png, &[4, 6, 3], &limits).unwrap();
    assert_eq!(values[..6], [0.0, 45.0, 45.0, 1.0, 45.0, 45.0]);

    // Twice as wide as needed: the middle is kept, or everything is squeezed.
    let wide = encoded(12, 4, image::ImageFormat::Png);
    let cropped = preprocess.apply(&wide, &[4, 6, 3], &limits).unwrap();
    assert_eq!((cropped[0], cropped[15]), (3.0, 8.0));
    preprocess.resize = Resize::Stretch;
    let squeezed = preprocess.apply(&wide, &[4, 6, 3], &limits).unwrap();
    assert!(squeezed[0] < 2.0 && squeezed[15] > 9.0, "{squeezed:?}");

    let jpeg = encoded(6, 4, image::ImageFormat::Jpeg);
    let values = preprocess.apply(&jpeg, &[4, 6, 3], &limits).unwrap();
    assert!((values[1] - 45.0).abs() < 4.0, "{values:?}");

    preprocess.channels = Channels::Grey;
    (preprocess.mean, preprocess.std) = (vec![0.0], vec![1.0]);
    let grey = preprocess.apply_grey(&[5; 6], [2, 3], &[2, 3, 1]).unwrap();
    assert_eq!(grey, [5.0; 6]);
    assert!(preprocess.apply_grey(&[5; 5], [2, 3], &[2, 3, 1]).is_err());
}

#[test]
fn pictures_from_outside_are_bounded() {
    let preprocess = read(&manifest()).unwrap().preprocess.unwrap();
    let limits = PictureLimits {
        side: 10,
        decoded_bytes: 1000,
        file_bytes: 10_000,
    };
    let shape = [1, 3, 4, 6];
    let fails = |bytes: &[u8]| {
        let error = preprocess.apply(bytes, &shape, &limits).unwrap_err();
        error.to_string()
    };
    for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg] {
        assert!(
            preprocess
                .apply(&encoded(6, 4, format), &shape, &limits)
                .is_ok()
        );
        assert!(fails(&encoded(60, 4, format)).contains("cannot be decoded"));
        let whole = encoded(6, 4, format);
        for length in 0..whole.len() / 2 {
            // Cut short: refused, or grey below, never a panic.
            let _ = preprocess.apply(&whole[..length], &shape, &limits);
        }
    }
    assert!(fails(b"GIF89a").contains("picture"));
    assert!(fails(b"text").contains("neither"));
    assert!(fails(&[0; 10_001]).contains("limit"));
    let png = encoded(6, 4, image::ImageFormat::Png);
    let large = [1, 3, 1 << 20, 1 << 20];
    for shape in [
        &[3, 4][..],
        &[2, 3, 4, 6],
        &[1, 1, 4, 6],
        &large,
        &[1, 3, 0, 6],
    ] {
        assert!(preprocess.apply(&png, shape, &limits).is_err(), "{shape:?}");
    }
}

#[test]
fn exits_have_to_be_in_the_graph() {
    use splitplace_graph::{LayerSpec, OutletSpec};
    let package = read(&manifest()).unwrap();
    let graph = |shape: u64, second: &str| {
        let outlet = |name: &str, dim| OutletSpec {
            name: name.into(),
            element: Element::F32,
            shape: vec![1, dim],
        };
        let layer = |input: &str, output: &str| LayerSpec {
            name: output.into(),
            operator: "Any".into(),
            macs: 1,
            parameter_bytes: 0,
            inputs: vec![input.into()],
            outputs: vec![output.into()],
        };
        Graph::new(
            vec![
                outlet("image", 9),
                outlet("trunk", 9),
                outlet("exit1", shape),
                outlet(second, 4),
                outlet("scores", 4),
            ],
            &["image".into()],
            &["exit1".into(), second.into(), "scores".into()],
            vec![
                layer("image", "exit1"),
                layer("image", "trunk"),
                layer("trunk", second),
                layer("trunk", "scores"),
            ],
        )
        .unwrap()
    };
    let base = &package.variants[0];
    assert_eq!(package.check_exits(base, &graph(4, "exit2")), Ok(()));
    let error = package.check_exits(base, &graph(5, "exit2")).unwrap_err();
    assert!(error.contains("'early'"), "{error}");
    let error = package.check_exits(base, &graph(4, "other")).unwrap_err();
    assert!(error.contains("no output 'exit2'"), "{error}");
    let mut turned = base.clone();
    turned.exits.reverse();
    let error = package
        .check_exits(&turned, &graph(4, "exit2"))
        .unwrap_err();
    assert!(error.contains("behind"), "{error}");
}
