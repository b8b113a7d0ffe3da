//! The table of `docs/compatibility.md`.

use anyhow::Context;

use super::rows::{COUNT, Row, Verdict};
use crate::shell;

const FILE: &str = "docs/compatibility.md";
const BEGIN: &str = "<!-- capabilities: begin -->";
const END: &str = "<!-- capabilities: end -->";

/// Writes the table into the document.
///
/// # Errors
/// When the document cannot be read or written, or has no place for it.
pub(super) fn write(rows: &[Row], is_proven: impl Fn(&Row) -> bool) -> anyhow::Result<()> {
    let path = shell::root().join(FILE);
    let document = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let changed = replaced(&document, &table(rows, is_proven))?;
    if changed != document {
        std::fs::write(&path, changed).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {FILE}");
    }
    Ok(())
}

/// Returns the table; rows whose tests did not pass say so.
fn table(rows: &[Row], is_proven: impl Fn(&Row) -> bool) -> String {
    let count = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict && is_proven(row)).count();
    let counts = [Verdict::Same, Verdict::Better, Verdict::Different, Verdict::Absent]
        .map(|verdict| format!("{} {}", count(verdict), verdict.word()))
        .join(", ");
    let mut text = format!("Of {COUNT}: {counts}.\n\n| # | capability | verdict | what differs |\n|---|---|---|---|\n");
    for row in rows {
        let verdict = if is_proven(row) { row.verdict.word() } else { "not proven" };
        let [capability, why] = [&row.capability, &row.why].map(|cell| cell.trim().replace('|', "\\|"));
        text.push_str(&format!("| {} | {capability} | {verdict} | {why} |\n", row.row).replace("|  |\n", "| |\n"));
    }
    text
}

/// Returns the document with the table between the two marks.
fn replaced(document: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("{FILE} has no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{FILE} has no {END} behind {BEGIN}"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    fn sample() -> Vec<Row> {
        let rows = r#"[
            {"row": 1, "capability": "a | b", "verdict": "same", "tests": ["a::lib::b"]},
            {"row": 2, "capability": "c", "verdict": "better", "why": "it works", "tests": ["a::lib::c"]}
        ]"#;
        serde_json::from_str(rows).unwrap()
    }

    #[test]
    fn rows_become_lines_and_what_is_not_proven_says_so() {
        let all = table(&sample(), |_| true);
        assert!(all.starts_with("Of 156: 1 same, 1 better, 0 different, 0 absent.\n\n| # |"), "{all}");
        assert!(all.ends_with("|---|\n| 1 | a \\| b | same | |\n| 2 | c | better | it works |\n"), "{all}");
        let one = table(&sample(), |row| row.row == 1);
        assert!(one.contains("1 same, 0 better") && one.ends_with("| 2 | c | not proven | it works |\n"), "{one}");
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let document = format!("# Head\n\n{BEGIN}\nold\n{END}\n\ntail\n");
        let once = replaced(&document, "new\n").unwrap();
        assert_eq!(once, format!("# Head\n\n{BEGIN}\nnew\n{END}\n\ntail\n"));
        assert_eq!(replaced(&once, "new\n").unwrap(), once);
        let swapped = format!("{END} {BEGIN}");
        for bad in ["nothing", BEGIN, swapped.as_str()] {
            assert!(replaced(bad, "new").unwrap_err().to_string().contains("has no <!-- capabilities"));
        }
    }

    /// When this fails, run `cargo xtask compat`.
    #[test]
    fn the_document_shows_the_rows() {
        let document = std::fs::read_to_string(shell::root().join(FILE)).unwrap();
        let table = table(&rows::load().unwrap(), |_| true);
        assert!(replaced(&document, &table).unwrap() == document, "{FILE} does not show the rows of {}", rows::FILE);
    }
}
