//! Tables of text: commas, semicolons, tabs or bars between the values.

use csv::ReaderBuilder;

use super::table::{MAX_COLUMNS, Tables, count_cells};
use super::{Document, DocumentKind, ParseError, ParseLimits, Position};

/// What may separate values, the likelier first.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// Rows that are looked at to find the delimiter.
const SAMPLE_ROWS: usize = 30;

/// Bytes that are looked at.
const SAMPLE_BYTES: usize = 64 << 10;

/// Returns what separates values: the delimiter whose rows are the most alike, and wide. `None` when no row has two.
pub(super) fn delimiter(text: &str) -> Option<u8> {
    let mut best: Option<(usize, u8)> = None;
    for delimiter in DELIMITERS {
        let widths = widths(text, delimiter);
        let most = widths.iter().copied().max().unwrap_or(0);
        let usual = widths.first().copied().unwrap_or(0);
        let n_alike = widths.iter().filter(|width| **width == usual).count();
        // Most rows are as wide as the first.
        if most < 2 || usual < 2 || n_alike * 4 < widths.len() * 3 {
            continue;
        }
        if best.is_none_or(|(wide, _)| usual > wide) {
            best = Some((usual, delimiter));
        }
    }
    best.map(|(_, delimiter)| delimiter)
}

/// Whether a text of unknown kind is such a table: at least three rows of at least three values, all alike.
pub(super) fn is_likely(text: &str) -> bool {
    let Some(delimiter) = delimiter(text) else { return false };
    let widths = widths(text, delimiter);
    let width = widths.first().copied().unwrap_or(0);
    let is_prose =
        text.lines().take(SAMPLE_ROWS).any(|line| line.starts_with(['#', '-', '*', '>']) || line.ends_with('.'));
    widths.len() >= 3 && width >= 3 && widths.iter().all(|other| *other == width) && !is_prose
}

/// Returns how many values the first rows have.
fn widths(text: &str, delimiter: u8) -> Vec<usize> {
    let mut end = text.len().min(SAMPLE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(&text.as_bytes()[..end]);
    reader.records().take(SAMPLE_ROWS).filter_map(Result::ok).map(|record| record.len()).collect()
}

/// # Errors
/// [`ParseError::TooMuch`] for more cells than may be.
pub(super) fn parse(text: &str, limits: &ParseLimits) -> Result<Document, ParseError> {
    let kind = DocumentKind::Csv;
    let mut document = Document::new(kind);
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter(text).unwrap_or(b','))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut tables = Tables::new(Position::default());
    let (mut number, mut n_cells, mut n_bytes, mut n_told) = (0_u32, 0, 0, 0);
    for record in reader.records() {
        number = number.saturating_add(1);
        let record = record.map_err(|error| ParseError::corrupt(kind, format!("row {number}: {error}")))?;
        count_cells(&mut n_cells, record.len(), kind, limits)?;
        n_bytes += record.as_slice().len();
        limits.check_text(kind, n_bytes)?;
        let cells = record.iter().take(MAX_COLUMNS).map(str::to_owned).collect();
        n_told += tables.row(number, cells, &mut document);
        limits.check_text(kind, n_told)?;
    }
    tables.finish(&mut document);
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_found() {
        assert_eq!(delimiter("a;b;c\n1,5;2;3\n"), Some(b';'));
        assert_eq!(delimiter("a\tb\n1, 2\t3\n"), Some(b'\t'));
        assert_eq!(delimiter("\"a,1\",b\n\"c\nd\",e\n"), Some(b','));
        assert_eq!(delimiter("one sentence\nanother, with a comma\n"), None);
        assert!(!is_likely("First, we, went.\nThen, he, came.\nAt last, all, left.\n"));
    }

    #[test]
    fn quoted_values_and_rows_are_kept() {
        let document = parse("name,says\nAnn,\"hi, \"\"you\"\"\"\n", &ParseLimits::default()).unwrap();
        assert_eq!(document.blocks[0].text, "| name | says |\n| --- | --- |\n| Ann | hi, \"you\" |");
        assert_eq!(document.blocks[0].position.row, Some(2));
    }

    #[test]
    fn a_long_head_over_many_rows_is_refused_before_it_fills_the_memory() {
        // Repeated over every 20 rows, the head would take gigabytes.
        let text = format!("{},b\n{}", "a".repeat(1 << 20), "1,2\n".repeat(200_000));
        let error = parse(&text, &ParseLimits::default()).unwrap_err();
        assert!(matches!(error, ParseError::TooMuch { what: "bytes of text", .. }), "{error}");
    }

    #[test]
    fn too_many_cells_are_refused() {
        let limits = ParseLimits { max_cells: 5, ..ParseLimits::default() };
        assert!(matches!(parse("a,b\n1,2\n3,4\n", &limits), Err(ParseError::TooMuch { what: "cells", .. })));
    }
}
