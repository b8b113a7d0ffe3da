//! A filter made ready to be asked about the rows of an index.

use std::collections::BTreeSet;

use mos_core::{Condition, Filter, Operator, StoreError, is_moment_field};
use serde_json::Value;

use super::columns::{Column, Columns, MAX_COLUMNS};
use super::payload::Payload;
use super::vectors::BLOCK_ROWS;

/// A field with more different values than this is not asked about all of them for each search, but about those of the
/// rows that are near enough.
const MAX_ASKED: usize = 4096;
/// The name of the text among the fields.
const MEMORY: &str = "memory";

/// Returns the fields that a filter needs columns of. A filter that names more fields than are kept has none: it reads the
/// payloads.
pub(super) fn columns_of(filter: &Filter) -> BTreeSet<String> {
    let fields = fields_of(filter);
    if fields.len() > MAX_COLUMNS { BTreeSet::new() } else { fields }
}

fn fields_of(filter: &Filter) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    collect_fields(filter, &mut fields);
    fields
}

fn collect_fields(filter: &Filter, fields: &mut BTreeSet<String>) {
    match filter {
        Filter::Everything => {}
        Filter::Is(condition) if condition.field == MEMORY => {}
        Filter::Is(condition) => {
            fields.insert(condition.field.clone());
        }
        Filter::All(parts) | Filter::Any(parts) => parts.iter().for_each(|part| collect_fields(part, fields)),
        Filter::Not(part) => collect_fields(part, fields),
    }
}

/// Collects the filters all of which must let a memory pass.
fn collect_parts<'a>(filter: &'a Filter, parts: &mut Vec<&'a Filter>) {
    match filter {
        Filter::Everything => {}
        Filter::All(inner) => inner.iter().for_each(|part| collect_parts(part, parts)),
        other => parts.push(other),
    }
}

/// A filter over the columns of one index: what is answered by looking up comes before the vectors are compared, the rest
/// after it.
#[derive(Debug)]
pub(super) struct RowFilter<'a> {
    quick: Option<Test<'a>>,
    slow: Option<Test<'a>>,
    payloads: &'a [Payload],
}

#[derive(Debug)]
enum Test<'a> {
    /// By the number of the row's value.
    Known {
        column: &'a Column,
        is_accepted: Vec<bool>,
    },
    /// By the row's value.
    Asked {
        column: &'a Column,
        condition: &'a Condition,
    },
    /// By the row's text.
    Text(&'a Condition),
    /// By what the row's payload says about these fields.
    Read {
        filter: &'a Filter,
        fields: BTreeSet<String>,
    },
    All(Vec<Test<'a>>),
    Any(Vec<Test<'a>>),
    Not(Box<Test<'a>>),
}

impl<'a> RowFilter<'a> {
    /// The columns are there that [`columns_of`] names.
    pub(super) fn new(filter: &'a Filter, columns: &'a Columns, payloads: &'a [Payload]) -> Self {
        let fields = fields_of(filter);
        if fields.len() > MAX_COLUMNS {
            return Self { quick: None, slow: Some(Test::Read { filter, fields }), payloads };
        }
        let (mut quick, mut slow) = (Vec::new(), Vec::new());
        let mut parts = Vec::new();
        collect_parts(filter, &mut parts);
        for part in parts {
            let test = Test::new(part, columns);
            if test.is_quick() { quick.push(test) } else { slow.push(test) }
        }
        let joined = |parts: Vec<Test<'a>>| (!parts.is_empty()).then_some(Test::All(parts));
        Self { quick: joined(quick), slow: joined(slow), payloads }
    }

    /// Writes which of the rows from `first` on may pass, and returns how many those are. They are counted from `first`.
    pub(super) fn select(&self, first: usize, n_rows: usize, selected: &mut [u16; BLOCK_ROWS]) -> usize {
        let mut marks = [true; BLOCK_ROWS];
        if let Some(test) = &self.quick {
            test.mark(first, &mut marks[..n_rows]);
        }
        let mut n_selected = 0;
        for (row, is_marked) in std::iter::zip(0_u16.., &marks[..n_rows]) {
            selected[n_selected] = row;
            n_selected += usize::from(*is_marked);
        }
        n_selected
    }

    /// Whether a selected row passes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row's payload cannot be read.
    pub(super) fn passes(&self, row: usize) -> Result<bool, StoreError> {
        self.slow.as_ref().map_or(Ok(true), |test| test.passes(row, &self.payloads[row]))
    }
}

impl<'a> Test<'a> {
    fn new(filter: &'a Filter, columns: &'a Columns) -> Self {
        let all = |parts: &'a [Filter]| parts.iter().map(|part| Self::new(part, columns)).collect();
        match filter {
            Filter::Everything => Self::All(Vec::new()),
            Filter::Is(condition) if condition.field == MEMORY => Self::Text(condition),
            Filter::Is(condition) => {
                let column = columns.get(&condition.field).expect("the columns of a filter are made before it is used");
                Self::of_column(condition, column)
            }
            Filter::All(parts) => Self::All(all(parts)),
            Filter::Any(parts) => Self::Any(all(parts)),
            Filter::Not(part) => Self::Not(Box::new(Self::new(part, columns))),
        }
    }

    fn of_column(condition: &'a Condition, column: &'a Column) -> Self {
        if let Some(texts) = wanted_texts(condition) {
            let mut is_accepted = vec![false; column.values().len()];
            for number in texts.into_iter().filter_map(|text| column.number_of_text(text)) {
                is_accepted[number] = true;
            }
            return Self::Known { column, is_accepted };
        }
        if column.values().len() > MAX_ASKED {
            return Self::Asked { column, condition };
        }
        let accepts = |value: &Option<Value>| value.as_ref().is_some_and(|value| condition.accepts(value));
        Self::Known { column, is_accepted: column.values().iter().map(accepts).collect() }
    }

    fn is_quick(&self) -> bool {
        match self {
            Self::Known { .. } => true,
            Self::Asked { .. } | Self::Text(_) | Self::Read { .. } => false,
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_quick),
            Self::Not(part) => part.is_quick(),
        }
    }

    /// Marks which of the rows from `first` on pass.
    fn mark(&self, first: usize, marks: &mut [bool]) {
        match self {
            Self::Known { column, is_accepted } => {
                let numbers = &column.numbers()[first..first + marks.len()];
                for (number, mark) in numbers.iter().zip(marks) {
                    *mark = is_accepted[*number as usize];
                }
            }
            Self::All(parts) => mark_together(parts, first, marks, true, |mark, other| mark & other),
            Self::Any(parts) => mark_together(parts, first, marks, false, |mark, other| mark | other),
            Self::Not(part) => {
                part.mark(first, marks);
                marks.iter_mut().for_each(|mark| *mark = !*mark);
            }
            Self::Asked { .. } | Self::Text(_) | Self::Read { .. } => unreachable!("only quick tests mark rows"),
        }
    }

    fn passes(&self, row: usize, payload: &Payload) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Known { column, is_accepted } => is_accepted[column.number(row)],
            Self::Asked { column, condition } => {
                column.values()[column.number(row)].as_ref().is_some_and(|value| condition.accepts(value))
            }
            Self::Text(condition) => condition.accepts(&Value::from(payload.memory())),
            Self::Read { filter, fields } => filter.matches(payload.memory(), &payload.fields(fields)?),
            Self::All(parts) => {
                for part in parts {
                    if !part.passes(row, payload)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Any(parts) => {
                for part in parts {
                    if part.passes(row, payload)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(part) => !part.passes(row, payload)?,
        })
    }
}

fn mark_together(parts: &[Test<'_>], first: usize, marks: &mut [bool], start: bool, join: impl Fn(bool, bool) -> bool) {
    let mut buffer = [false; BLOCK_ROWS];
    marks.fill(start);
    for part in parts {
        let others = &mut buffer[..marks.len()];
        part.mark(first, others);
        for (mark, other) in marks.iter_mut().zip(others) {
            *mark = join(*mark, *other);
        }
    }
}

/// Returns the texts one of which the field must be, when that is what a condition says: they are looked up instead of
/// compared. Dates may be equal without being the same text.
fn wanted_texts(condition: &Condition) -> Option<Vec<&str>> {
    if is_moment_field(&condition.field) {
        return None;
    }
    match (condition.operator, &condition.value) {
        (Operator::Eq, Value::String(text)) => Some(vec![text]),
        (Operator::In, Value::Array(values)) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}
