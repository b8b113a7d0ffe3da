//! What MemOS can do, row by row, and the tests that prove it here.
//!
//! `tests/compatibility.json` says for each capability how `mos` stands to it and which tests prove that. A row counts
//! only when all of its tests were executed and passed; one that was passed over for want of a server has failed. The
//! table that people read is written into `docs/compatibility.md`.

mod libtest;
mod rows;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::services::Lease;
use crate::shell;
use crate::test::{self, Executable};
use libtest::Outcome;
use rows::{Row, TestName};

/// The least number of rows that must be the same or better.
const REQUIRED: usize = 140;

/// The variable that makes tests fail, rather than pass over, where a server is missing.
const NO_TEST_PASSED_OVER: &str = "MOS_TEST_SERVICES";

/// The paths of the tests that are meant, by package and binary.
type Wanted = BTreeMap<(String, String), BTreeSet<String>>;

/// What became of each test.
type Results = BTreeMap<TestName, Outcome>;

/// Builds all tests, starts the services, runs the tests that rows name, and writes the table. Ends the process with 1
/// when a test did not pass or too few rows are the same or better.
///
/// # Errors
/// When the rows are not as they should be, name tests that are not there, or nothing can be built or run.
pub(crate) fn run() -> anyhow::Result<()> {
    let rows = rows::load()?;
    let (executables, lease) = test::prepare(false, true)?;
    let wanted = wanted(&rows);
    ensure_there(&wanted, &executables)?;
    let results = run_wanted(&wanted, &executables, lease.as_ref())?;
    let notices = lease.iter().flat_map(Lease::notices).collect::<Vec<_>>();
    drop(lease);
    table::write(&rows, |row| is_proven(row, &results))?;
    let faults = faults(&rows, &results);
    for line in notices.iter().chain(&faults) {
        println!("{line}");
    }
    let n_counted = rows.iter().filter(|row| row.verdict.counts() && is_proven(row, &results)).count();
    println!("{n_counted} of {} same or better", rows::COUNT);
    if n_counted < REQUIRED || !faults.is_empty() {
        // Not as an error, whose words would come behind the last line.
        std::process::exit(1);
    }
    Ok(())
}

/// Checks that every test that a row names was built.
///
/// # Errors
/// The names that no binary has; rows that are not as they should be.
pub(crate) fn check_names(executables: &[Executable]) -> anyhow::Result<()> {
    ensure_there(&wanted(&rows::load()?), executables)
}

fn wanted(rows: &[Row]) -> Wanted {
    let mut wanted = Wanted::new();
    for test in rows.iter().flat_map(|row| &row.tests) {
        let binary = (test.package.clone(), test.binary.clone());
        wanted.entry(binary).or_default().insert(test.path.clone());
    }
    wanted
}

/// The executable of a package's binary. The unit tests of a library are the binary `lib`.
fn find<'a>(executables: &'a [Executable], package: &str, binary: &str) -> Option<&'a Path> {
    let is_meant = |target: &str| match binary {
        "lib" => target.replace('-', "_") == package.replace('-', "_"),
        _ => target == binary,
    };
    let found = executables.iter().find(|(own, target, _)| own == package && is_meant(target));
    found.map(|(_, _, path)| path.as_path())
}

fn ensure_there(wanted: &Wanted, executables: &[Executable]) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for ((package, binary), paths) in wanted {
        let listed = match find(executables, package, binary) {
            Some(path) => libtest::listed(&shell::capture(Command::new(path).args(["--list", "--format", "terse"]))?),
            None => BTreeSet::new(),
        };
        let absent = paths.iter().filter(|path| !listed.contains(*path));
        missing.extend(absent.map(|path| format!("{package}::{binary}::{path}")));
    }
    anyhow::ensure!(missing.is_empty(), "{} names tests that are not there:\n  {}", rows::FILE, missing.join("\n  "));
    Ok(())
}

fn run_wanted(wanted: &Wanted, executables: &[Executable], lease: Option<&Lease>) -> anyhow::Result<Results> {
    let mut results = Results::new();
    for ((package, binary), paths) in wanted {
        let Some(path) = find(executables, package, binary) else { continue };
        println!("== {package} {binary}: {} tests", paths.len());
        let mut command = test::command_of(package, path, lease)?;
        command.env(NO_TEST_PASSED_OVER, "1").arg("--exact").args(paths);
        for (path, outcome) in outcomes(&mut command)? {
            results.insert(TestName { package: package.clone(), binary: binary.clone(), path }, outcome);
        }
    }
    Ok(results)
}

/// Runs tests; what they said is shown when one failed.
fn outcomes(command: &mut Command) -> anyhow::Result<BTreeMap<String, Outcome>> {
    let shown = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", shown.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        println!("{said}");
    }
    Ok(libtest::outcomes(&said))
}

fn is_proven(row: &Row, results: &Results) -> bool {
    row.tests.iter().all(|test| results.get(test) == Some(&Outcome::Passed))
}

/// A line for each test of a row that did not pass.
fn faults(rows: &[Row], results: &Results) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        for test in &row.tests {
            let what = match results.get(test) {
                Some(Outcome::Passed) => continue,
                Some(Outcome::Failed) => "failed",
                Some(Outcome::Ignored) => "is ignored",
                None => "did not run",
            };
            faults.push(format!("row {}: {test} {what}", row.row));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn sample() -> Vec<Row> {
        let rows = r#"[
            {"row": 1, "capability": "a", "verdict": "same", "tests": ["mos::it::one", "mos-core::lib::deep::two"]},
            {"row": 2, "capability": "b", "verdict": "better", "why": "c", "tests": ["mos::it::one"]},
            {"row": 3, "capability": "c", "verdict": "absent", "why": "d"}
        ]"#;
        serde_json::from_str(rows).unwrap()
    }

    fn results(two: Option<Outcome>) -> Results {
        let [one, deep] = ["mos::it::one", "mos-core::lib::deep::two"]
            .map(|name| TestName::try_from(name.to_owned()).expect("a good name"));
        let two = two.map(|outcome| (deep, outcome));
        [(one, Outcome::Passed)].into_iter().chain(two).collect()
    }

    #[test]
    fn a_row_counts_only_when_all_its_tests_ran_and_passed() {
        let rows = sample();
        let proven = |results: &Results| rows.iter().map(|row| is_proven(row, results)).collect::<Vec<_>>();
        assert_eq!(proven(&results(Some(Outcome::Passed))), [true, true, true]);
        assert!(faults(&rows, &results(Some(Outcome::Passed))).is_empty());
        for (outcome, words) in
            [(Some(Outcome::Failed), "failed"), (Some(Outcome::Ignored), "is ignored"), (None, "did not run")]
        {
            assert_eq!(proven(&results(outcome)), [false, true, true]);
            assert_eq!(faults(&rows, &results(outcome)), [format!("row 1: mos-core::lib::deep::two {words}")]);
        }
    }

    #[test]
    fn binaries_are_found_by_their_targets_and_libraries_by_their_packages() {
        let executables: Vec<Executable> =
            [("mos-core", "mos_core"), ("mos-core", "it"), ("mos", "it"), ("mos", "mos")]
                .map(|(package, target)| {
                    (package.to_owned(), target.to_owned(), PathBuf::from(format!("{package}/{target}")))
                })
                .into();
        let found = |package: &str, binary: &str| find(&executables, package, binary).map(Path::to_owned);
        assert_eq!(found("mos-core", "lib"), Some(PathBuf::from("mos-core/mos_core")));
        assert_eq!(found("mos", "lib"), Some(PathBuf::from("mos/mos")));
        assert_eq!(found("mos", "it"), Some(PathBuf::from("mos/it")));
        assert_eq!((found("mos", "other"), found("mos-kv", "lib")), (None, None));
        let wanted = wanted(&sample());
        assert_eq!(wanted.len(), 2);
        assert_eq!(wanted[&("mos".to_owned(), "it".to_owned())].len(), 1, "a test of two rows runs once");
    }

    #[test]
    fn a_name_without_a_binary_is_told() {
        let error = ensure_there(&wanted(&sample()), &[]).unwrap_err().to_string();
        assert!(error.contains("mos::it::one") && error.contains("mos-core::lib::deep::two"), "{error}");
    }
}
