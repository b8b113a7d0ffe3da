//! What a binary of tests prints.

use std::collections::{BTreeMap, BTreeSet};

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Ignored,
}

/// Returns what became of each test of a run.
pub(super) fn outcomes(said: &str) -> BTreeMap<String, Outcome> {
    said.lines().filter_map(outcome).collect()
}

fn outcome(line: &str) -> Option<(String, Outcome)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    // A reason may follow, or the time that it took.
    let outcome = match rest.split([',', ' ']).next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "ignored" => Outcome::Ignored,
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

/// Returns the paths of the tests of a list, as `--list --format terse` prints it.
pub(super) fn listed(said: &str) -> BTreeSet<String> {
    said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_and_everything_else_is_passed_over() {
        let said = "
running 5 tests
test deep::one ... ok
test two ... FAILED
test deep::three ... ignored, a server of its own is needed
test four - should panic ... ok
test five ... ignored
test six ... what a test printed itself

failures:

---- two stdout ----
thread 'two' panicked at src/lib.rs:1:1: test two ... no

test result: FAILED. 2 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.01s
";
        let expected = [
            ("deep::one", Outcome::Passed),
            ("deep::three", Outcome::Ignored),
            ("five", Outcome::Ignored),
            ("four", Outcome::Passed),
            ("two", Outcome::Failed),
        ];
        let outcomes = outcomes(said);
        let outcomes: Vec<_> = outcomes.iter().map(|(name, outcome)| (name.as_str(), *outcome)).collect();
        assert_eq!(outcomes, expected);
        assert!(super::outcomes("").is_empty());
    }

    #[test]
    fn lists_hold_tests_and_no_benchmarks() {
        let listed = listed("deep::one: test\ntwo: test\nfast: benchmark\n\n2 tests, 1 benchmark\n");
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), ["deep::one", "two"]);
    }
}
