//! What filters look at, field by field: per row the number of its value among the different values of the field.
//!
//! A column is made when a filter first names its field, and kept up to date from then on. A filter is asked about each
//! different value once, and about a row by looking its number up.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use mos_core::filter::field_value;
use mos_core::{StoreError, VectorPoint};
use rayon::prelude::*;
use serde_json::Value;

use super::payload::Payload;

/// Columns that are kept; for another one, that which was not used for longest goes.
pub(super) const MAX_COLUMNS: usize = 32;
/// A column is dropped when it holds this many values (and twice as many as rows): most of them are no row's any more.
const MIN_VALUES: usize = 1024;

/// The number of "no value".
const ABSENT: u32 = 0;

/// The columns of one scope.
#[derive(Debug, Default)]
pub(super) struct Columns {
    of_field: HashMap<String, Column>,
    /// Counts uses.
    now: AtomicU64,
}

/// The values of one field.
#[derive(Debug)]
pub(super) struct Column {
    /// One per row.
    numbers: Vec<u32>,
    /// The first is "no value", which no comparison accepts.
    values: Vec<Option<Value>>,
    number_of: HashMap<Box<str>, u32>,
    n_text_bytes: usize,
    last_use: AtomicU64,
}

impl Column {
    fn new() -> Self {
        Self {
            numbers: Vec::new(),
            values: vec![None],
            number_of: HashMap::new(),
            n_text_bytes: 0,
            last_use: AtomicU64::new(0),
        }
    }

    /// Number of the row's value.
    pub(super) fn number(&self, row: usize) -> usize {
        self.numbers[row] as usize
    }

    /// Numbers of all rows.
    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// The different values; a value's place is its number.
    pub(super) fn values(&self) -> &[Option<Value>] {
        &self.values
    }

    /// Returns the number of a text, `None` when no row ever had it.
    pub(super) fn number_of_text(&self, text: &str) -> Option<usize> {
        let text = Value::from(text).to_string();
        self.number_of.get(text.as_str()).map(|number| *number as usize)
    }

    /// Values are the same when their JSON texts are.
    fn intern(&mut self, value: Option<Value>) -> u32 {
        let Some(value) = value else { return ABSENT };
        let text = value.to_string();
        if let Some(number) = self.number_of.get(text.as_str()) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).expect("a scope has fewer than 2^32 memories");
        self.n_text_bytes += text.len();
        self.number_of.insert(text.into_boxed_str(), number);
        self.values.push(Some(value));
        number
    }

    fn n_bytes(&self) -> usize {
        let per_value = size_of::<Option<Value>>() + size_of::<(Box<str>, u32)>();
        self.numbers.capacity() * size_of::<u32>() + self.values.len() * per_value + 2 * self.n_text_bytes
    }

    fn is_mostly_old(&self) -> bool {
        self.values.len() > MIN_VALUES.max(2 * self.numbers.len())
    }
}

impl Columns {
    /// Whether there is a column for each of the fields.
    pub(super) fn has(&self, fields: &BTreeSet<String>) -> bool {
        fields.iter().all(|field| self.of_field.contains_key(field))
    }

    /// Returns the column of a field, and notes that it is used.
    pub(super) fn get(&self, field: &str) -> Option<&Column> {
        let column = self.of_field.get(field)?;
        column.last_use.store(self.now.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(column)
    }

    /// Makes the columns that are missing of at most [`MAX_COLUMNS`], from the payloads of all rows.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a payload cannot be read.
    pub(super) fn make(&mut self, fields: &BTreeSet<String>, payloads: &[Payload]) -> Result<(), StoreError> {
        let missing: BTreeSet<String> =
            fields.iter().filter(|field| !self.of_field.contains_key(*field)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.make_room(fields, missing.len());
        let mut columns: Vec<Column> = missing.iter().map(|_| Column::new()).collect();
        let read = |payload: &Payload| -> Result<Vec<Option<Value>>, StoreError> {
            let metadata = payload.fields(&missing)?;
            let value = |field: &String| field_value(field, "", &metadata).map(std::borrow::Cow::into_owned);
            Ok(missing.iter().map(value).collect())
        };
        // In parts, so that the values of few rows are in memory at a time.
        for part in payloads.chunks(1 << 14) {
            let rows: Vec<Vec<Option<Value>>> = part.par_iter().map(read).collect::<Result<_, _>>()?;
            for (column, value) in rows.into_iter().flat_map(|row| std::iter::zip(0.., row)) {
                let column: &mut Column = &mut columns[column];
                let number = column.intern(value);
                column.numbers.push(number);
            }
        }
        let now = self.now.load(Ordering::Relaxed);
        for (field, column) in missing.into_iter().zip(columns) {
            column.last_use.store(now, Ordering::Relaxed);
            self.of_field.insert(field, column);
        }
        Ok(())
    }

    /// Drops the columns that were not used for longest until `n_new` fit beside the rest; never one of `needed`.
    fn make_room(&mut self, needed: &BTreeSet<String>, n_new: usize) {
        while self.of_field.len() + n_new > MAX_COLUMNS {
            let others = self.of_field.iter().filter(|(field, _)| !needed.contains(*field));
            let oldest = others.min_by_key(|(_, column)| column.last_use.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(field, _)| field.clone()) else { return };
            self.of_field.remove(&oldest);
        }
    }

    /// Appends a row.
    pub(super) fn push(&mut self, point: &VectorPoint) {
        for (field, column) in &mut self.of_field {
            let number = column.intern(value_of(field, point));
            column.numbers.push(number);
        }
    }

    /// Replaces row number `at`.
    pub(super) fn set(&mut self, at: usize, point: &VectorPoint) {
        for (field, column) in &mut self.of_field {
            column.numbers[at] = column.intern(value_of(field, point));
        }
        self.of_field.retain(|_, column| !column.is_mostly_old());
    }

    /// Removes row number `at`; the last row takes its place.
    pub(super) fn swap_remove(&mut self, at: usize) {
        for column in self.of_field.values_mut() {
            column.numbers.swap_remove(at);
        }
        self.of_field.retain(|_, column| !column.is_mostly_old());
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        self.of_field.iter().map(|(field, column)| field.len() + column.n_bytes()).sum()
    }
}

fn value_of(field: &str, point: &VectorPoint) -> Option<Value> {
    field_value(field, "", &point.metadata).map(std::borrow::Cow::into_owned)
}
