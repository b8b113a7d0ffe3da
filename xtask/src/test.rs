//! Every test of the workspace, suite by suite, with the time of each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::clients::Clients;
use crate::services::{self, Lease};
use crate::{compat, models, shell};

/// A suite, the variable that names its server, and the tests of it that change all that the server holds. They run
/// after the others, alone, and only on a server of ours.
const WHOLE_DATABASE: (&str, &str, &str) = ("mos-stores/it", "NEO4J_URI", "neo4j::schema");

/// The suite of the server over Qdrant's engine, which is no member of the workspace. It runs where that server was built.
const QDRANT_EDGE: &str = "qdrant-edge-server";

struct Suite {
    name: String,
    took: Duration,
    passed: bool,
}

/// Builds all tests, fetches models and meanwhile starts the services, runs the tests, ends the services.
pub(crate) fn run(long: bool, with_services: bool, filter: Option<&str>) -> anyhow::Result<()> {
    // They are installed while the tests are built.
    let are_wanted = with_services && filter.is_none_or(|wanted| Clients::SUITE.contains(wanted));
    let clients = std::thread::spawn(move || if are_wanted { Clients::find() } else { Ok(Clients::default()) });
    let (executables, lease) = prepare(long, with_services)?;
    let clients = clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let mut suites = Vec::new();
    if filter.is_none() {
        suites.push(names_of_proofs(&executables));
    }
    for (package, target, path) in executables {
        let name = if target == package { package.clone() } else { format!("{package}/{target}") };
        if filter.is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        let executable = || -> anyhow::Result<Command> {
            let mut command = command_of(&package, &path, lease.as_ref())?;
            command.envs(clients.environment(&name));
            if long {
                command.env("MOS_TEST_LONG", "1").env(models::INSIST, "1");
            }
            Ok(command)
        };
        suites.push(timed(name.clone(), &mut executable()?)?);
        if long && name == WHOLE_DATABASE.0 && lease.as_ref().is_some_and(|lease| lease.started(WHOLE_DATABASE.1)) {
            let name = format!("{name} {}", WHOLE_DATABASE.2);
            let mut command = executable()?;
            command.args([WHOLE_DATABASE.2, "--ignored", "--test-threads", "1"]);
            suites.push(timed(name, &mut command)?);
        }
    }
    if let Some(mut command) = services::qdrant_edge_tests()?.filter(|_| long && with_services) {
        let name = QDRANT_EDGE.to_owned();
        if filter.is_none_or(|wanted| name.contains(wanted)) {
            suites.push(timed(name, &mut command)?);
        }
    }
    if filter.is_none() {
        let mut command = shell::cargo();
        command.args(["test", "--workspace", "--doc", "--quiet"]);
        suites.push(timed("documentation".to_owned(), &mut command)?);
    }
    let mut notices = lease.iter().flat_map(Lease::notices).collect::<Vec<_>>();
    notices.extend_from_slice(clients.notices());
    drop(lease);
    report(&suites, &notices)
}

/// Package name, target name, path.
pub(crate) type Executable = (String, String, PathBuf);

/// What to run, and the services that it may talk to.
///
/// # Errors
/// When the tests cannot be built or the models not be fetched.
pub(crate) fn prepare(long: bool, with_services: bool) -> anyhow::Result<(Vec<Executable>, Option<Lease>)> {
    // The program comes with the tests: building it alone, with other features, would build half of everything twice.
    let build = || -> anyhow::Result<Vec<Executable>> {
        println!("building the tests ...");
        let mut cargo = shell::cargo();
        cargo.args(["test", "--workspace", "--no-run"]);
        if !long {
            // Its tests are there with it alone; the long run has those of a program without it.
            cargo.args(["--features", "mos-cli/opentelemetry"]);
        }
        let built = shell::built_tests(&mut cargo)?;
        models::fetch(|| Command::new(&built.mos))?;
        if long {
            models::fetch_others(|| Command::new(&built.mos))?;
        }
        Ok(built.tests)
    };
    if !with_services {
        return Ok((build()?, None));
    }
    let (built, lease) = std::thread::scope(|scope| {
        // The server over Qdrant's engine takes minutes to build.
        let starting = scope.spawn(move || services::lease(long));
        (build(), starting.join())
    });
    // First the lease, so that it ends when the build has failed.
    let lease = lease.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok((built?, Some(lease)))
}

/// A binary of tests as `cargo test` runs it, with the models and the servers that there are.
///
/// # Errors
/// When nobody says where the models are.
pub(crate) fn command_of(package: &str, path: &Path, lease: Option<&Lease>) -> anyhow::Result<Command> {
    let mut command = Command::new(path);
    let folder = package_folder(package);
    command.current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder).env(models::VARIABLE, models::folder()?);
    command.envs(lease.into_iter().flat_map(Lease::environment).map(|(name, value)| (name, value)));
    Ok(command)
}

/// Whether every test that proves a capability is there.
fn names_of_proofs(executables: &[Executable]) -> Suite {
    println!("\n== names of tests that prove capabilities");
    let start = Instant::now();
    let checked = compat::check_names(executables);
    if let Err(error) = &checked {
        println!("{error:#}");
    }
    Suite { name: "compatibility".to_owned(), took: start.elapsed(), passed: checked.is_ok() }
}

fn timed(name: String, command: &mut Command) -> anyhow::Result<Suite> {
    println!("\n== {name}");
    let start = Instant::now();
    let status = command.status()?;
    Ok(Suite { name, took: start.elapsed(), passed: status.success() })
}

fn package_folder(package: &str) -> PathBuf {
    let in_crates = shell::root().join("crates").join(package);
    if in_crates.is_dir() { in_crates } else { shell::root().join(package) }
}

fn report(suites: &[Suite], notices: &[String]) -> anyhow::Result<()> {
    println!("\n{:<32} {:>9}", "suite", "seconds");
    for suite in suites {
        let verdict = if suite.passed { "" } else { "  FAILED" };
        println!("{:<32} {:>9.1}{verdict}", suite.name, suite.took.as_secs_f64());
    }
    for notice in notices {
        println!("{notice}");
    }
    let n_failed = suites.iter().filter(|suite| !suite.passed).count();
    anyhow::ensure!(n_failed == 0, "{n_failed} of {} suites failed", suites.len());
    anyhow::ensure!(!suites.is_empty(), "no suite has that name");
    println!("all {} suites passed", suites.len());
    Ok(())
}
