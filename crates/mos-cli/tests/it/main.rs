//! The program as a person or a script meets it: processes, real models, real files.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod bad_input;
mod bench;
mod chatting;
mod cube_files;
mod environment;
mod erase_killed;
mod erasing;
mod eval;
mod journeys;
mod kv;
mod looking;
mod mcp;
mod migrating;
mod organizing;
mod qdrant;
mod registering;
mod rights;
mod scheduling;
mod searching;
mod serve_killed;
mod serving;
mod skills;
mod surviving;
#[cfg(all(unix, feature = "opentelemetry"))]
mod traces;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program on a data folder, without anything of the caller's environment that could change what it does.
fn mos(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mos"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("MOS_") && name != "MOS_MODELS_DIR" || name.starts_with("OPENAI_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.arg("--data-dir").arg(data).args(arguments);
    if data.is_dir() {
        command.current_dir(data);
    }
    command
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    mos(data, arguments).output().unwrap()
}

/// A call that reads `input` from standard input.
fn run_with_input(data: &Path, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut command = mos(data, arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
    child.wait_with_output().unwrap()
}

/// Standard output of a call that must succeed.
fn stdout(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON document of a call that must succeed.
fn json(data: &Path, arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    serde_json::from_str(&stdout(data, &arguments)).unwrap()
}

/// Standard error of a call that must fail with exit code 1.
fn failure(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}
