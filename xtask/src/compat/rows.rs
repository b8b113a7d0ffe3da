//! The rows of `tests/compatibility.json`.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Context;
use serde::Deserialize;

use crate::shell;

/// Where the rows are, from the workspace's folder.
pub(super) const FILE: &str = "tests/compatibility.json";

/// How many capabilities there are.
pub(super) const COUNT: usize = 156;

/// How `mos` stands to a capability of MemOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It does the same.
    Same,
    /// It does the same, and what is missing or broken there.
    Better,
    /// It does something else for the same purpose, or a part of it.
    Different,
    /// It does not do it.
    Absent,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Different => "different",
            Self::Absent => "absent",
        }
    }

    /// Whether a row of this verdict is one that is wanted.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Same | Self::Better)
    }
}

/// A test: its package (by its folder), its binary (`lib` for unit tests), and its path as the binary prints it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TestName {
    pub(super) package: String,
    pub(super) binary: String,
    pub(super) path: String,
}

impl TryFrom<String> for TestName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts: Vec<&str> = text.splitn(3, "::").collect();
        match parts.as_slice() {
            [package, binary, path] if parts.iter().all(|part| !part.is_empty()) => {
                Ok(Self { package: (*package).to_owned(), binary: (*binary).to_owned(), path: (*path).to_owned() })
            }
            _ => Err(format!("`{text}` is no test; write PACKAGE::BINARY::PATH")),
        }
    }
}

impl fmt::Display for TestName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}::{}::{}", self.package, self.binary, self.path)
    }
}

/// A capability of MemOS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) row: usize,
    pub(super) capability: String,
    pub(super) verdict: Verdict,
    /// What is better or different, or why it is absent.
    #[serde(default)]
    pub(super) why: String,
    /// The tests that prove it.
    #[serde(default)]
    pub(super) tests: Vec<TestName>,
}

/// Returns the rows of the file, in their order.
///
/// # Errors
/// When it cannot be read, or not every row is there once, with what it needs.
pub(super) fn load() -> anyhow::Result<Vec<Row>> {
    let path = shell::root().join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    read(&text).with_context(|| format!("{FILE} is not as it should be"))
}

fn read(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = serde_json::from_str(text)?;
    rows.sort_by_key(|row| row.row);
    let numbers: BTreeSet<usize> = rows.iter().map(|row| row.row).collect();
    let mut problems: Vec<String> = rows.iter().flat_map(problems_of).collect();
    problems.extend((1..=COUNT).filter(|number| !numbers.contains(number)).map(|number| format!("no row {number}")));
    let twice = rows.windows(2).filter(|pair| pair[0].row == pair[1].row);
    problems.extend(twice.map(|pair| format!("row {} is there twice", pair[0].row)));
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(rows)
}

fn problems_of(row: &Row) -> Vec<String> {
    let mut problems = Vec::new();
    let mut is_wrong = |condition: bool, what: &str| {
        if condition {
            problems.push(format!("row {} {what}", row.row));
        }
    };
    is_wrong(!(1..=COUNT).contains(&row.row), "is no capability");
    is_wrong(row.capability.trim().is_empty(), "names no capability");
    is_wrong(row.verdict != Verdict::Same && row.why.trim().is_empty(), "does not say what differs (`why`)");
    is_wrong(row.verdict.counts() && row.tests.is_empty(), "has no test that proves it");
    let distinct: BTreeSet<&TestName> = row.tests.iter().collect();
    is_wrong(distinct.len() != row.tests.len(), "names a test twice");
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Good rows, one of them changed.
    fn with(change: impl FnOnce(&mut Vec<Value>)) -> anyhow::Result<Vec<Row>> {
        let good = |number| json!({"row": number, "capability": format!("c {number}"), "verdict": "same", "tests": ["a::lib::b::c"]});
        let mut rows: Vec<Value> = (1..=COUNT).rev().map(good).collect();
        change(&mut rows);
        read(&json!(rows).to_string())
    }

    fn problem(change: impl FnOnce(&mut Vec<Value>)) -> String {
        with(change).unwrap_err().to_string()
    }

    #[test]
    fn every_row_is_there_once_in_its_order() {
        let rows = with(|_| ()).unwrap();
        assert!(rows.iter().map(|row| row.row).eq(1..=COUNT));
        let test = &rows[0].tests[0];
        assert_eq!((test.package.as_str(), test.binary.as_str(), test.path.as_str()), ("a", "lib", "b::c"));
        assert_eq!(test.to_string(), "a::lib::b::c");
        assert_eq!(problem(|rows| drop(rows.remove(0))), format!("no row {COUNT}"));
        assert_eq!(problem(|rows| rows[0]["row"] = json!(1)), format!("no row {COUNT}; row 1 is there twice"));
        assert_eq!(problem(|rows| rows.push(rows[0].clone())), format!("row {COUNT} is there twice"));
        let further = json!({"row": COUNT + 1, "capability": "c", "verdict": "absent", "why": "w"});
        assert_eq!(problem(|rows| rows.push(further)), format!("row {} is no capability", COUNT + 1));
    }

    #[test]
    fn rows_say_what_they_must() {
        let first = |change: Value| {
            problem(|rows| rows[COUNT - 1].as_object_mut().unwrap().extend(change.as_object().unwrap().clone()))
        };
        assert!(first(json!({"verdict": "perfect"})).contains("unknown variant `perfect`"));
        assert!(first(json!({"other": 1})).contains("unknown field `other`"));
        assert!(first(json!({"tests": ["only::two"]})).contains("`only::two` is no test"));
        assert!(first(json!({"tests": ["a::::b"]})).contains("is no test"));
        assert_eq!(first(json!({"verdict": "better"})), "row 1 does not say what differs (`why`)");
        assert_eq!(first(json!({"tests": []})), "row 1 has no test that proves it");
        assert_eq!(first(json!({"capability": " "})), "row 1 names no capability");
        assert_eq!(first(json!({"tests": ["a::b::c", "a::b::c"]})), "row 1 names a test twice");
        let absent = json!({"verdict": "absent", "why": "nobody asked", "tests": []});
        let change = |rows: &mut Vec<Value>| {
            rows[COUNT - 1].as_object_mut().unwrap().extend(absent.as_object().unwrap().clone());
        };
        assert!(!with(change).unwrap()[0].verdict.counts());
    }

    #[test]
    fn the_file_is_as_it_should_be() {
        load().unwrap();
    }
}
