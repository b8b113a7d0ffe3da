//! Rows as Markdown tables, a few rows each, so that every piece of a large table has its head.

use super::{Document, DocumentKind, ParseError, ParseLimits, Position};

/// Rows of one table.
const ROWS_PER_TABLE: usize = 20;

/// Bytes after which a table ends even with fewer rows.
const TABLE_BYTES: usize = 2_000;

/// Columns that are read; what stands further right is left out.
pub(super) const MAX_COLUMNS: usize = 256;

/// Turns rows into tables.
#[derive(Debug)]
pub(super) struct Tables {
    position: Position,
    head: Option<Vec<String>>,
    /// The number of the first of `rows`.
    first: u32,
    rows: Vec<Vec<String>>,
    n_bytes: usize,
}

impl Tables {
    /// Tables at a place; their rows are counted there.
    pub(super) fn new(position: Position) -> Self {
        Self { position, head: None, first: 0, rows: Vec::new(), n_bytes: 0 }
    }

    /// Adds a row; the first that has text is the head. `number` counts from 1. Returns how many bytes of text the document has
    /// more: a head that is repeated can be much more than its rows.
    pub(super) fn row(&mut self, number: u32, cells: Vec<String>, document: &mut Document) -> usize {
        if cells.iter().all(|cell| cell.trim().is_empty()) {
            return 0;
        }
        if self.head.is_none() {
            self.head = Some(cells);
            return 0;
        }
        if self.rows.is_empty() {
            self.first = number;
        }
        self.n_bytes += cells.iter().map(|cell| cell.len() + 3).sum::<usize>();
        self.rows.push(cells);
        if self.rows.len() >= ROWS_PER_TABLE || self.n_bytes >= TABLE_BYTES { self.flush(document) } else { 0 }
    }

    fn flush(&mut self, document: &mut Document) -> usize {
        let Some(head) = self.head.as_deref().filter(|_| !self.rows.is_empty()) else { return 0 };
        let position = Position { row: Some(self.first), ..self.position.clone() };
        let table = markdown(head, &self.rows);
        document.push(&table, position, false);
        self.rows.clear();
        self.n_bytes = 0;
        table.len()
    }

    /// Adds what is left, and returns as [`Tables::row`]. A head without rows is a table too.
    pub(super) fn finish(mut self, document: &mut Document) -> usize {
        let n_bytes = self.flush(document);
        if self.first == 0
            && let Some(head) = &self.head
        {
            let position = Position { row: Some(1), ..self.position.clone() };
            let table = markdown(head, &[]);
            document.push(&table, position, false);
            return n_bytes + table.len();
        }
        n_bytes
    }
}

/// Returns a Markdown table; short rows are filled up.
pub(super) fn markdown(head: &[String], rows: &[Vec<String>]) -> String {
    let width = rows.iter().map(Vec::len).chain([head.len()]).max().unwrap_or(0);
    // Columns without any text only cost room.
    let used: Vec<usize> = (0..width)
        .filter(|column| {
            rows.iter()
                .map(Vec::as_slice)
                .chain([head])
                .any(|row| row.get(*column).is_some_and(|cell| !cell.trim().is_empty()))
        })
        .collect();
    let mut out = String::new();
    let mut line = |row: &[String]| {
        for column in &used {
            out.push_str("| ");
            out.push_str(&escaped(row.get(*column).map_or("", String::as_str)));
            out.push(' ');
        }
        out.push_str("|\n");
    };
    line(head);
    line(&vec!["---".to_owned(); width]);
    for row in rows {
        line(row);
    }
    out
}

/// A cell stands in one line, and bars in it are no borders.
fn escaped(cell: &str) -> String {
    let words: Vec<&str> = cell.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// Counts cells against the limit.
///
/// # Errors
/// [`ParseError::TooMuch`] beyond it.
pub(super) fn count_cells(
    n_cells: &mut usize,
    more: usize,
    kind: DocumentKind,
    limits: &ParseLimits,
) -> Result<(), ParseError> {
    *n_cells += more;
    if *n_cells > limits.max_cells {
        return Err(ParseError::TooMuch { kind, what: "cells", limit: limits.max_cells });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn cells_cannot_break_a_table() {
        let table = markdown(&row(&["a", "", "b"]), &[row(&["1|2", "", "x\ny", "z"]), row(&["3"])]);
        assert_eq!(table, "| a | b |  |\n| --- | --- | --- |\n| 1\\|2 | x y | z |\n| 3 |  |  |\n");
    }

    #[test]
    fn long_tables_repeat_their_head() {
        let mut document = Document::new(DocumentKind::Csv);
        let mut tables = Tables::new(Position::default());
        for number in 1..=42 {
            tables.row(number, row(&[&format!("n{number}"), "x"]), &mut document);
        }
        tables.finish(&mut document);
        let rows: Vec<Option<u32>> = document.blocks.iter().map(|block| block.position.row).collect();
        assert_eq!(rows, [Some(2), Some(22), Some(42)]);
        assert!(document.blocks.iter().all(|block| block.text.starts_with("| n1 | x |\n| --- | --- |\n")));
    }
}
