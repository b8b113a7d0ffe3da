//! Every test of the workspace, suite by suite, with the time of each.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{models, shell};

struct Suite {
    name: String,
    took: Duration,
    passed: bool,
}

/// Fetches models, builds all tests, runs them.
pub(crate) fn run(long: bool, filter: Option<&str>) -> anyhow::Result<()> {
    models::fetch()?;
    if long {
        models::fetch_others()?;
    }
    println!("building the tests ...");
    let mut build = shell::cargo();
    let executables = shell::built_tests(build.args(["test", "--workspace", "--no-run"]))?;
    let mut suites = Vec::new();
    for (package, target, path) in executables {
        let name = if target == package { package.clone() } else { format!("{package}/{target}") };
        if filter.is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        println!("\n== {name}");
        let mut command = Command::new(&path);
        // As `cargo test` runs it.
        let folder = package_folder(&package);
        command.current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder).env(models::VARIABLE, models::folder()?);
        if long {
            command.env("MOS_TEST_LONG", "1").env(models::INSIST, "1");
        }
        suites.push(timed(name, &mut command)?);
    }
    if filter.is_none() {
        println!("\n== examples in the documentation");
        let mut command = shell::cargo();
        command.args(["test", "--workspace", "--doc", "--quiet"]);
        suites.push(timed("documentation".to_owned(), &mut command)?);
    }
    report(&suites)
}

fn timed(name: String, command: &mut Command) -> anyhow::Result<Suite> {
    let start = Instant::now();
    let status = command.status()?;
    Ok(Suite { name, took: start.elapsed(), passed: status.success() })
}

fn package_folder(package: &str) -> PathBuf {
    let in_crates = shell::root().join("crates").join(package);
    if in_crates.is_dir() { in_crates } else { shell::root().join(package) }
}

fn report(suites: &[Suite]) -> anyhow::Result<()> {
    println!("\n{:<32} {:>9}", "suite", "seconds");
    for suite in suites {
        let verdict = if suite.passed { "" } else { "  FAILED" };
        println!("{:<32} {:>9.1}{verdict}", suite.name, suite.took.as_secs_f64());
    }
    let n_failed = suites.iter().filter(|suite| !suite.passed).count();
    anyhow::ensure!(n_failed == 0, "{n_failed} of {} suites failed", suites.len());
    anyhow::ensure!(!suites.is_empty(), "no suite has that name");
    println!("all {} suites passed", suites.len());
    Ok(())
}
