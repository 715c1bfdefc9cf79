//! The binary's commands, as pods run them.

use std::{fs, net::TcpListener, path::Path, process::Command};

use serde_json::Value;
use splitplace_tests::process::Process;

pub(crate) fn splitplace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_splitplace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPLITPLACE_")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = splitplace().args(arguments).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), text.concat())
}

#[track_caller]
pub(crate) fn good(arguments: &[&str]) -> String {
    let (code, text) = run(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub(crate) fn worker(name: &str, center: u16, folder: &Path) -> Process {
    worker_and(name, center, folder, &[])
}

/// A worker with further arguments.
pub(crate) fn worker_and(name: &str, center: u16, folder: &Path, more: &[&str]) -> Process {
    let tls = |key: &str, file: &str| {
        format!(
            "--set=tls.{key}={}",
            folder.join("tls").join(file).display()
        )
    };
    let mut command = splitplace();
    command
        .args([
            "worker",
            &format!("--node={name}"),
            &format!("--orchestrator=localhost:{center}"),
        ])
        .args([
            format!("--listen=0.0.0.0:{}", free_port()),
            "--service=".into(),
        ])
        .arg(format!("--cache={}", folder.join(name).display()))
        .args(["--set=grace-ms=5000", "--set=labels.pool=\"default\""])
        .args([
            tls("ca", "ca.crt"),
            tls("cert", "worker.crt"),
            tls("key", "worker.key"),
        ])
        .args(more)
        .env("POD_IP", "127.0.0.1");
    Process::start(&mut command).unwrap()
}

/// The state of a server, as JSON.
pub(crate) fn status(server: &str) -> Option<Value> {
    let (code, text) = run(&["status", "--json", "--server", server]);
    (code == Some(0)).then(|| serde_json::from_str(&text).unwrap())
}

/// A file in a folder, by its path.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
