//! Tells the program which commit it was built from.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

use std::process::Command;

/// Names the commit where the sources come without their history, as in a container.
const TOLD: &str = "MOS_COMMIT";

fn main() {
    println!("cargo::rerun-if-env-changed={TOLD}");
    let told = std::env::var(TOLD).ok().filter(|commit| !commit.trim().is_empty());
    let commit = told.or_else(of_git);
    let commit = commit.as_deref().map_or("unknown", str::trim);
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    println!("cargo::rerun-if-changed=../../.git/refs/heads");
}

fn of_git() -> Option<String> {
    Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
}
