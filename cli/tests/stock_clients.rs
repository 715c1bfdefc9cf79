//! Clients that somebody else wrote, unchanged. They need Python with their packages: the variable
//! `SPLITPLACE_PYTHON` names it. Without it the tests say that they were skipped.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{io::Write as _, path::Path, process::Command};

use splitplace_tests::process::Process;

/// The Python with the clients' packages; says so where it can be seen when there is none.
fn python(test: &str) -> Option<std::ffi::OsString> {
    let python = std::env::var_os("SPLITPLACE_PYTHON").filter(|path| !path.is_empty());
    if python.is_none() {
        // Past the capture of the test runner.
        let mut terminal = std::io::stderr();
        let _ = writeln!(terminal, "SKIPPED {test}: SPLITPLACE_PYTHON is not set");
    }
    python
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

#[test]
fn tritonclient_works_unchanged() {
    let Some(python) = python("tritonclient_works_unchanged") else {
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
    let Some(python) = python("onnx_runtime_reproduces_the_whole_from_fragments") else {
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
