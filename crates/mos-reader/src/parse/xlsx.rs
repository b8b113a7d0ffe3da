//! Workbooks: each sheet as tables. Cells are read one after the other: a sheet that claims a million rows and has two
//! cells costs two cells.

use std::io::Cursor;

use calamine::{DataRef, ExcelDateTime, Reader, SheetType, Xlsx, XlsxError};

use super::archive::Archive;
use super::guard::Stop;
use super::table::{MAX_COLUMNS, Tables, count_cells};
use super::{Document, DocumentKind, ParseError, ParseLimits, Position};

const KIND: DocumentKind = DocumentKind::Xlsx;

/// The longest name of a sheet that is told, in bytes; Excel allows 31 letters.
const MAX_NAME_BYTES: usize = 200;

/// Cells between two looks at whether somebody still waits.
const CELLS_PER_CHECK: usize = 4_096;

/// # Errors
/// [`ParseError`] for a damaged, locked or oversized file.
pub(super) fn parse(bytes: Vec<u8>, limits: &ParseLimits, stop: &Stop) -> Result<Document, ParseError> {
    // The library unpacks without a bound: what it will unpack is known to be bounded before it does.
    Archive::open(KIND, bytes.clone(), limits)?.check()?;
    stop.check(KIND)?;
    let mut book = Xlsx::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    let names: Vec<String> = book
        .sheets_metadata()
        .iter()
        .filter(|sheet| sheet.typ == SheetType::WorkSheet)
        .map(|sheet| sheet.name.clone())
        .collect();
    if names.len() > limits.max_pages {
        return Err(ParseError::TooMuch { kind: KIND, what: "sheets", limit: limits.max_pages });
    }
    let mut document = Document::new(KIND);
    let mut size = Size::default();
    for name in names {
        sheet(&mut book, &name, &mut size, limits, stop, &mut document)?;
    }
    Ok(document)
}

/// How much was read of all sheets.
#[derive(Default)]
struct Size {
    n_cells: usize,
    /// What its cells hold.
    n_bytes: usize,
    /// What its tables hold, in which heads are repeated.
    n_told: usize,
}

fn sheet(
    book: &mut Xlsx<Cursor<Vec<u8>>>,
    name: &str,
    size: &mut Size,
    limits: &ParseLimits,
    stop: &Stop,
    document: &mut Document,
) -> Result<(), ParseError> {
    let n_before = document.blocks.len();
    // It stands beside every table.
    let shown = name[..name.floor_char_boundary(MAX_NAME_BYTES)].to_owned();
    let mut tables = Tables::new(Position { sheet: Some(shown), ..Position::default() });
    let mut cells = book.worksheet_cells_reader(name).map_err(|error| damaged(&error))?;
    let (mut row, mut number, mut is_cut) = (Vec::new(), 0_u32, false);
    while let Some(cell) = cells.next_cell().map_err(|error| damaged(&error))? {
        count_cells(&mut size.n_cells, 1, KIND, limits)?;
        if size.n_cells.is_multiple_of(CELLS_PER_CHECK) {
            stop.check(KIND)?;
        }
        let (at_row, at_column) = cell.get_position();
        if at_row != number {
            size.n_told += tables.row(number.saturating_add(1), std::mem::take(&mut row), document);
            limits.check_text(KIND, size.n_told)?;
            number = at_row;
        }
        let text = text(cell.get_value());
        size.n_bytes += text.len();
        limits.check_text(KIND, size.n_bytes)?;
        let column = usize::try_from(at_column).unwrap_or(usize::MAX);
        if column >= MAX_COLUMNS {
            is_cut = true;
        } else if !text.is_empty() {
            if row.len() <= column {
                row.resize(column + 1, String::new());
            }
            row[column] = text;
        }
    }
    size.n_told += tables.row(number.saturating_add(1), row, document);
    size.n_told += tables.finish(document);
    limits.check_text(KIND, size.n_told)?;
    if is_cut {
        document.note(format!("sheet `{name}`: only the first {MAX_COLUMNS} columns were read"));
    }
    if document.blocks.len() == n_before {
        document.note(format!("sheet `{name}` has no text"));
    }
    Ok(())
}

fn text(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number.to_string(),
        DataRef::String(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Bool(is_true) => is_true.to_string(),
        DataRef::DateTime(moment) => moment_text(moment),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::Error(error) => error.to_string(),
        DataRef::Empty => String::new(),
    }
}

fn moment_text(moment: &ExcelDateTime) -> String {
    let value = moment.as_f64();
    if moment.is_duration() {
        let seconds = (value * 86_400.0).round();
        let sign = if seconds < 0.0 { "-" } else { "" };
        let whole = seconds.abs();
        let (hours, rest) = ((whole / 3_600.0).floor(), whole % 3_600.0);
        return format!("{sign}{hours}:{:02}:{:02}", (rest / 60.0).floor(), rest % 60.0);
    }
    let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    if (0.0..1.0).contains(&value) {
        return time;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if (hour, minute, second) == (0, 0, 0) { date } else { format!("{date} {time}") }
}

fn damaged(error: &XlsxError) -> ParseError {
    ParseError::corrupt(KIND, error.to_string())
}

#[cfg(test)]
mod tests {
    use calamine::ExcelDateTimeType;

    use super::*;

    #[test]
    fn moments_are_written_out() {
        let date = |value| moment_text(&ExcelDateTime::new(value, ExcelDateTimeType::DateTime, false));
        assert_eq!(date(45943.0), "2025-10-13");
        assert_eq!(date(45943.5), "2025-10-13 12:00:00");
        assert_eq!(date(0.25), "06:00:00");
        let duration = ExcelDateTime::new(1.5, ExcelDateTimeType::TimeDelta, false);
        assert_eq!(moment_text(&duration), "36:00:00");
    }
}
