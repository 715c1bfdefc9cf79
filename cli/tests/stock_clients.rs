//! Clients that somebody else wrote, unchanged. They need Python with their packages: the variable
//! `SPLITPLACE_PYTHON` names it. Without it the tests say that they were skipped.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{path::Path, process::Command};

use splitplace_tests::{process::Process, tools::named};

const PYTHON: &str = "SPLITPLACE_PYTHON";

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

#[test]
fn tritonclient_works_unchanged() {
    let Some(python) = named(PYTHON, "tritonclient_works_unchanged") else {
        return;
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    let mut up =
        Process::start(command.args(["up", "--json", "--free-ports", "--nodes", "2"])).unwrap();
    let told = up.json_line().unwrap();
    let output = Command::new(python)
        .arg(script("triton.py"))
        .args([
            told["grpc"].as_str().unwrap(),
            told["http"].as_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn onnx_runtime_reproduces_the_whole_from_fragments() {
    let Some(python) = named(PYTHON, "onnx_runtime_reproduces_the_whole_from_fragments") else {
        return;
    };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let cases = [
        ("packages/fashion-mnist/base.onnx", vec!["--parts", "4"]),
        ("testdata/inception.onnx", vec!["--parts", "3"]),
        (
            "testdata/residual.onnx",
            vec!["--at", "/Relu_output_0,/a/a.1/Relu_output_0"],
        ),
        ("testdata/dense.onnx", vec!["--parts", "2"]),
        ("testdata/transformer.onnx", vec!["--parts", "2"]),
        ("testdata/external.onnx", vec!["--parts", "2"]),
    ];
    for (model, how) in cases {
        let folder = tempfile::tempdir().unwrap();
        let cut = Command::new(env!("CARGO_BIN_EXE_splitplace"))
            .args(["model", "cut"])
            .arg(models.join(model))
            .args(how)
            .arg("-o")
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(
            cut.status.success(),
            "{model}: {}",
            String::from_utf8_lossy(&cut.stderr)
        );
        let checked = Command::new(&python)
            .arg(models.join("check_cut.py"))
            .arg(folder.path())
            .output()
            .unwrap();
        let (out, errors) = (
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr),
        );
        assert!(checked.status.success(), "{model}: {out}\n{errors}");
    }
}
