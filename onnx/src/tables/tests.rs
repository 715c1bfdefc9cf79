//! Tables as text, and what is refused.

use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::*;
use crate::{Error, package::manifest::hex};

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()).into())
}

fn exit(name: &str, next: Vec<Vec<f64>>) -> ExitTable {
    ExitTable {
        name: name.into(),
        output: match name {
            FINAL => "scores".into(),
            _ => format!("at-{name}"),
        },
        macs: 500,
        head_macs: 20,
        latency: LATENCY,
        top1: 0.8,
        edges: vec![0.75],
        share: vec![0.4, 0.6],
        correct: vec![0.5, 1.0],
        next,
    }
}

const LATENCY: Latency = Latency {
    mean: 0.00125,
    p95: 0.002,
};

fn record() -> ExitRecord {
    let mut record = ExitRecord::new(2);
    record.push(&[(0.5, true), (0.9, true)]);
    record
}

fn tables() -> Tables {
    let setting = Setting {
        thresholds: vec![0.85],
        top1: 0.795,
        macs_share: 0.51,
        leave: vec![0.7, 0.3],
        held_out_top1: 0.79,
        held_out_macs_share: 0.52,
    };
    Tables {
        format: 1,
        data: DataSet {
            name: "clothes-test".into(),
            sha256: hash("data"),
            samples: 10_000,
        },
        machine: Machine {
            engine: "tract".into(),
            cores: 2,
            macs_per_second: 1.5e10,
        },
        variants: vec![VariantTable {
            name: "base".into(),
            settings: "0123".into(),
            files: [("base.onnx".to_owned(), hash("base.onnx"))].into(),
            top1: 0.8,
            macs: 1000,
            parameter_bytes: 400,
            file_bytes: 512,
            memory_bytes: 2048,
            latency: LATENCY,
            branches_missing: vec![0.25],
            branches: vec![BranchTable {
                file: "base.onnx".into(),
                macs: 1000,
                parameter_bytes: 400,
                memory_bytes: 2048,
                latency: LATENCY,
            }],
            exits: vec![
                exit("early", vec![vec![1.0, 0.0], vec![0.25, 0.75]]),
                exit(FINAL, Vec::new()),
            ],
            thresholds: Some(Thresholds {
                tolerance: 0.005,
                common: setting.clone(),
                each: setting,
            }),
            record: Some(Record {
                file: "exits.bin".into(),
                sha256: hex(&Sha256::digest(record().to_bytes()).into()),
            }),
            cuts: vec![CutTable {
                part: 0,
                position: 3,
                tensors: vec!["a \"b\"".into()],
                raw_bytes: 400,
                macs_before: 300,
                samples: 2000,
                top1: 0.8,
                codecs: vec![CodecTable {
                    name: "u8-rans".into(),
                    bytes: 55.5,
                    bytes_p95: 70,
                    top1: 0.7995,
                    encode: 1e-5,
                    decode: 2e-5,
                }],
            }],
        }],
    }
}

const MANIFEST: &str = r#"format = 1
package = { name = "clothes", version = "1", default_sla_ms = 10 }
input = [{ name = "image", datatype = "FP32", shape = [-1, 4] }]
output = [{ name = "scores", datatype = "FP32", shape = [-1, 2] }]

[[variant]]
name = "base"
kind = "whole"
part = [{ file = "base.onnx", sha256 = "HASH" }]
exit = [{ name = "early", output = "at-early" }]
"#;

fn open(measured: &str) -> crate::Result<Package> {
    let manifest = MANIFEST.replace("HASH", &hash("base.onnx"));
    Package::from_parts(Path::new("here"), &manifest, measured, |file| match file {
        "base.onnx" => Ok(Bytes::from_static(b"base.onnx")),
        "exits.bin" => Ok(record().to_bytes().into()),
        other => Err(Error::Picture {
            reason: other.into(),
        }),
    })
}

#[test]
fn tables_are_read_as_they_were_written() {
    let written = tables();
    assert_eq!(Tables::from_text(&written.to_text()), Ok(written));
}

#[test]
fn a_package_takes_accuracy_and_thresholds_from_its_tables() {
    let text = tables().to_text();
    let package = open(&text).unwrap();
    assert_eq!(package.tables_text, text);
    let base = &package.variants[0];
    assert_eq!(base.accuracy.as_ref().unwrap().top1, 0.8);
    assert_eq!(base.exits[0].threshold, 0.85);
    assert_eq!(package.exit_record("base").unwrap(), Some(record()));
    let files: Vec<&str> = package.files().map(|(file, ..)| file).collect();
    assert_eq!(files, ["base.onnx", "exits.bin"]);
    let table = package.tables.as_ref().unwrap().variant("base").unwrap();
    assert_eq!(
        table.cut(0, 3).unwrap().codec("u8-rans").unwrap().bytes_p95,
        70
    );
    let bins: Vec<usize> = [0.0, 0.74, 0.75, 1.0]
        .map(|confidence| table.exits[0].bin(confidence))
        .to_vec();
    assert_eq!(bins, [0, 0, 1, 1]);
    // Without tables nothing is known.
    let plain = open("").unwrap();
    assert_eq!(plain.variants[0].exits[0].threshold, NEVER);
    assert!(plain.variants[0].accuracy.is_none() && plain.tables.is_none());
}

#[test]
fn tables_of_other_files_are_refused() {
    let text = tables().to_text();
    let other = text.replace(&hash("base.onnx"), &hash("another"));
    let error = open(&other).unwrap_err().to_string();
    assert!(
        error.contains("'base.onnx' is not the file that was measured")
            && error.contains("model measure"),
        "{error}"
    );
    let renamed = text.replace("name = \"base\"", "name = \"basis\"");
    assert!(
        open(&renamed)
            .unwrap_err()
            .to_string()
            .contains("no such variant")
    );
    let exits = text.replace("at-early", "at-another");
    assert!(
        open(&exits)
            .unwrap_err()
            .to_string()
            .contains("other exits")
    );
    let damaged = text.replace(
        tables().variants[0]
            .record
            .as_ref()
            .unwrap()
            .sha256
            .as_str(),
        &hash("x"),
    );
    assert!(
        open(&damaged)
            .unwrap_err()
            .to_string()
            .contains("exits.bin")
    );
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    type Spoil = fn(&mut VariantTable);
    let refused: [(&str, Spoil); 12] = [
        ("top1", |v| v.top1 = 1.5),
        ("latency", |v| v.latency.mean = -1.0),
        ("share", |v| v.exits[0].share = vec![0.4, 0.4]),
        ("fit together", |v| v.exits[0].edges = vec![]),
        ("edges", |v| v.exits[0].edges = vec![1.5]),
        ("next", |v| v.exits[0].next = vec![vec![1.0, 0.0]]),
        ("sum", |v| v.exits[0].next[0] = vec![1.0, 1.0]),
        ("nothing comes after", |v| v.exits[1].next = vec![vec![1.0]]),
        ("thresholds", |v| v.exits.truncate(0)),
        ("outside", |v| {
            v.record.as_mut().unwrap().file = "../x".into();
        }),
        ("codec", |v| v.cuts[0].codecs[0].bytes = f64::INFINITY),
        ("hexadecimal", |v| {
            v.files.insert("a".into(), "+1".repeat(32));
        }),
    ];
    for (reason, spoil) in refused {
        let mut tables = tables();
        spoil(&mut tables.variants[0]);
        let error = tables.check().unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    assert!(Tables::from_text("format = 2").is_err());
    assert!(Tables::from_text("nonsense = 1").is_err());
}
