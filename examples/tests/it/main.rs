//! Every example as a person runs it: a process on a fresh data folder, with real models, and what it prints.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod memories;
mod services;
mod talking;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program of an example, which `cargo test` has built beside this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap();
    let program = built.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is missing; run `cargo test -p mos-examples`, or `cargo build --examples -p mos-examples` before a single test",
        program.display()
    );
    program
}

/// Runs an example without anything of the caller's environment that could change what it does.
fn start(name: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program(name));
    for (variable, _) in std::env::vars_os() {
        let variable = variable.to_string_lossy().into_owned();
        let is_ours = variable.starts_with("MOS_") && variable != "MOS_MODELS_DIR";
        if is_ours || variable.starts_with("OPENAI_") || variable == "RUST_LOG" {
            command.env_remove(variable);
        }
    }
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // An example that reads nothing may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Standard output of an example that must succeed.
fn run(name: &str, arguments: &[&str], input: &str) -> String {
    let output = start(name, arguments, input);
    let (out, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?}: {errors}\n{out}");
    out
}

/// As [`run`], on a data folder of its own.
fn run_fresh(name: &str, arguments: &[&str], input: &str) -> String {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().display().to_string();
    run(name, &[&["--data-dir", folder.as_str()][..], arguments].concat(), input)
}

/// What stands behind `text`, which must be there.
fn after<'a>(out: &'a str, text: &str) -> &'a str {
    out.split_once(text).unwrap_or_else(|| panic!("`{text}` is missing: {out}")).1
}

/// The number directly before each `unit`, in order.
fn numbers_before(out: &str, unit: &str) -> Vec<usize> {
    out.match_indices(unit)
        .filter_map(|(place, _)| out[..place].rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect()
}

/// Asserts that all of these texts stand in what was printed.
fn assert_told(out: &str, texts: &[&str]) {
    for text in texts {
        assert!(out.contains(text), "`{text}` is missing: {out}");
    }
}

#[test]
fn every_example_is_described() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(package.join(path)).unwrap();
    let (manifest, readme, page) = (read("Cargo.toml"), read("../README.md"), read("../docs/examples.md"));
    let names: Vec<&str> = manifest
        .split("[[example]]")
        .skip(1)
        .map(|section| section.split('"').nth(1).expect("an example has a name"))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "README.md does not name {name}");
        assert!(page.contains(&format!("`{name}`")), "docs/examples.md does not name {name}");
    }
}

#[test]
fn an_unknown_argument_is_told() {
    let output = start("quickstart", &["--modle", "x"], "");
    assert!(!output.status.success());
    assert_told(&String::from_utf8_lossy(&output.stderr), &["`--modle` is unknown", "--model NAME"]);
}
