//! A user's own network: two commands make a package of it, with measured codecs and exits.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const COLOURS: [&str; 3] = ["red", "green", "blue"];

fn testdata(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models/testdata")
        .join(file)
}

/// Standard output of a command that has to succeed.
fn splitplace(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_splitplace"))
        .args(args)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that has to fail.
fn refused(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_splitplace"))
        .args(args)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Pictures that are mostly of one colour, 16 x 12, a folder for each.
fn pictures(folder: &Path, each: u8) {
    for (class, name) in COLOURS.iter().enumerate() {
        let folder = folder.join("test").join(name);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..each {
            let picture = image::RgbImage::from_fn(16, 12, |x, y| {
                let noise = u8::try_from((x * 7 + y * 13 + u32::from(number)) % 11).unwrap();
                let mut pixel = [60 + noise; 3];
                pixel[class] = 150 + 5 * (number % 20);
                image::Rgb(pixel)
            });
            picture.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
}

#[test]
fn a_plain_network_and_a_folder_of_pictures_become_a_package() {
    let root = tempfile::tempdir().unwrap();
    let (data, package) = (root.path().join("pictures"), root.path().join("package"));
    pictures(&data, 20);
    let labels = root.path().join("labels.txt");
    fs::write(&labels, "Red\nGreen\nBlue\n").unwrap();
    let model = testdata("colours.onnx");
    splitplace(&[
        "model",
        "make",
        text(&model),
        "--labels",
        text(&labels),
        "--mean",
        "127.5",
        "--std",
        "127.5",
        "-o",
        text(&package),
    ]);
    let shown = splitplace(&["model", "show", text(&package)]);
    assert!(
        shown.contains("not measured") && shown.contains("channels = \"rgb\""),
        "{shown}"
    );

    let measure = [
        "model",
        "measure",
        text(&package),
        "--data",
        text(&data),
        "--codec-samples",
        "30",
    ];
    let measured: Value =
        serde_json::from_str(&splitplace(&[&measure[..], &["--json"]].concat())).unwrap();
    assert_eq!(measured["data"]["samples"], 60);
    let base = &measured["variant"][0];
    assert_eq!(base["top1"], 1.0);
    // A convolution of 6 x 3 x 3 x 3 at 8 x 8 places, and one of 3 x 6 at 4 x 4.
    assert_eq!(base["macs"], 64 * 162 + 16 * 18);
    let cuts = base["cut"].as_array().unwrap();
    assert!(cuts.len() >= 4, "{cuts:?}");
    for cut in cuts {
        let codec = |name: &str| {
            let codecs = cut["codec"].as_array().unwrap();
            codecs
                .iter()
                .find(|codec| codec["name"] == name)
                .unwrap()
                .clone()
        };
        let raw = cut["raw_bytes"].as_f64().unwrap();
        assert_eq!(codec("raw")["top1"], cut["top1"]);
        assert!(codec("raw")["bytes"].as_f64().unwrap() >= raw);
        assert!(codec("f16")["bytes"].as_f64().unwrap() < raw.max(40.0));
        assert_eq!(codec("f16")["top1"], 1.0);
    }
    let picture = cuts[0]["codec"].as_array().unwrap();
    assert!(picture.iter().any(|codec| codec["name"] == "picture"));

    // Nothing is measured twice; what was measured is kept and shown.
    let again = splitplace(&measure);
    assert!(again.contains("measured already"), "{again}");
    let shown = splitplace(&["model", "show", text(&package), "--all"]);
    assert!(
        shown.contains("100.00 %") && shown.contains("u8c-zrans"),
        "{shown}"
    );
    let plots = root.path().join("plots");
    splitplace(&["model", "plot", text(&package), "-o", text(&plots)]);
    assert_eq!(fs::read_dir(&plots).unwrap().count(), 4);

    // Tables of another network are refused.
    let manifest = fs::read_to_string(package.join("package.toml")).unwrap();
    let content = fs::read(package.join("colours.onnx")).unwrap();
    fs::copy(testdata("colours-exit.onnx"), package.join("colours.onnx")).unwrap();
    assert!(refused(&["model", "show", text(&package)]).contains("not the one that was measured"));
    let start = manifest.find("sha256 = \"").unwrap() + 10;
    let hash = &manifest[start..start + 64];
    let measured = fs::read_to_string(package.join("measured.toml")).unwrap();
    fs::write(
        package.join("measured.toml"),
        measured.replace(hash, &"0".repeat(64)),
    )
    .unwrap();
    fs::write(package.join("colours.onnx"), content).unwrap();
    let error = refused(&["model", "show", text(&package)]);
    assert!(error.contains("model measure"), "{error}");
}

#[test]
fn exits_are_measured_and_their_thresholds_hold() {
    let root = tempfile::tempdir().unwrap();
    let (data, package) = (root.path().join("pictures"), root.path().join("package"));
    pictures(&data, 10);
    let spec = root.path().join("SPEC.toml");
    fs::copy(testdata("colours-exit.onnx"), root.path().join("net.onnx")).unwrap();
    let description = r#"format = 1
package = { name = "colours", version = "1", default_sla_ms = 10 }
input = [{ name = "image", datatype = "FP32", shape = [-1, 3, 8, 8] }]
output = [{ name = "scores", datatype = "FP32", shape = [-1, 3], labels = ["red", "green", "blue"] }]

[preprocess]
input = "image"
resize = "fit-crop"
channels = "rgb"
layout = "nchw"
mean = [0.0, 0.0, 0.0]
std = [50.0, 50.0, 50.0]

[[variant]]
name = "base"
kind = "whole"
part = [{ file = "net.onnx" }]
exit = [{ name = "first", output = "exit1" }]
"#;
    fs::write(&spec, description).unwrap();
    splitplace(&["model", "make", text(&spec), "-o", text(&package)]);
    assert!(refused(&["model", "make", text(&spec), "-o", text(&package)]).contains("--force"));
    splitplace(&[
        "model",
        "measure",
        text(&package),
        "--data",
        text(&data),
        "--codecs",
        "u4c-rans",
        "--jobs",
        "2",
    ]);
    let shown: Value =
        serde_json::from_str(&splitplace(&["model", "show", text(&package), "--json"])).unwrap();
    let table = &shown["measured"]["variant"][0];
    assert_eq!(table["exit"][0]["name"], "first");
    assert_eq!(table["exit"][1]["name"], "final");
    let chosen = &table["thresholds"]["each"];
    assert_eq!(
        shown["variants"][0]["exits"][0]["threshold"],
        chosen["thresholds"][0]
    );
    assert!(chosen["macs_share"].as_f64().unwrap() <= 1.0);
    assert!(package.join("exits-base.bin").exists());
    assert!(!package.join("measuring.json").exists());
    // Made again from the same files it keeps what was measured.
    splitplace(&[
        "model",
        "make",
        text(&spec),
        "-o",
        text(&package),
        "--force",
    ]);
    let again: Value =
        serde_json::from_str(&splitplace(&["model", "show", text(&package), "--json"])).unwrap();
    assert_eq!(again["measured"], shown["measured"]);

    let wrong = description.replace("output = \"exit1\"", "output = \"exit9\"");
    fs::write(&spec, wrong).unwrap();
    let error = refused(&[
        "model",
        "make",
        text(&spec),
        "-o",
        text(&package),
        "--force",
    ]);
    assert!(error.contains("exit9"), "{error}");
    let outside = description.replace("net.onnx", "../net.onnx");
    fs::write(&spec, outside).unwrap();
    let error = refused(&[
        "model",
        "make",
        text(&spec),
        "-o",
        text(&package),
        "--force",
    ]);
    assert!(error.contains("outside"), "{error}");
}

#[test]
fn a_reader_that_goes_away_ends_a_command_in_silence() {
    for arguments in [&["crds"][..], &["completions", "bash"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
        let output = command.args(arguments).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}
