//! The memories of one scope as the ranking needs them, kept up to date by the record's feed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mos_core::{Change, EmbeddingSpace, MemoryId, MemoryType, VectorPoint, field_value};
use serde_json::Value;

use super::Hints;
use super::forms::Terms;
use super::labels::{Labelled, Labels};
use super::names::Speakers;
use super::options::WordOptions;
use super::postings::{Postings, Words};
use super::question::{Question, ReadAt};
use super::sessions::{Around, BEFORE, Sessions};
use super::turn::Turn;
use super::window;
use crate::time::Days;

/// Vectors by memory, at hand while a page of changes is followed.
pub(super) type VectorsAtHand = HashMap<MemoryId, Vec<f32>>;

/// Bytes of an entry in the map of ids, about.
const BYTES_OF_AN_ENTRY: usize = 48;

#[derive(Debug)]
struct Row {
    turn: Turn,
    kind: Option<MemoryType>,
    words: Words,
    labelled: Labelled,
    /// The memories around it in its session.
    around: Around,
    /// Dot products with the one to four memories before it in its session.
    before: [f32; BEFORE],
    /// Length of the vector of the window around it.
    window_length: f32,
}

impl Row {
    fn n_bytes(&self) -> usize {
        let numbers = (BEFORE + 1) * size_of::<f32>() + size_of::<Around>();
        let labels = size_of::<Labelled>() + self.labelled.n_bytes();
        self.turn.n_bytes() + self.words.n_bytes() + labels + numbers + BYTES_OF_AN_ENTRY
    }
}

/// What a scope holds. Only memories with an embedding are in it.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Number of the last change that is in it.
    sequence: u64,
    /// What the vectors were made with; `None` before the first search.
    space: Option<EmbeddingSpace>,
    /// Places of removed memories are used again.
    rows: Vec<Option<Row>>,
    free: Vec<u32>,
    row_of: HashMap<MemoryId, u32>,
    postings: Postings,
    labels: Labels,
    sessions: Sessions,
    speakers: Speakers,
    /// How many memories of each kind there are.
    kinds: BTreeMap<MemoryType, usize>,
    /// Rows whose dot products with those before them must be made anew.
    unsettled: BTreeSet<u32>,
    /// Rows whose windows alone must be measured anew: who stood behind them has gone.
    exposed: BTreeSet<u32>,
    /// Weights of the memories around one in its window.
    window: [f32; BEFORE],
    n_row_bytes: usize,
}

/// Preferences stand in the same scope and are found by a memory of their own: neither the statistics of words nor the
/// windows of sessions know of them.
fn is_preference(point: &VectorPoint) -> bool {
    point.metadata.get("memory_type").and_then(Value::as_str) == Some(MemoryType::Preference.as_str())
}

/// Returns the kind by which filters know a memory.
fn kind(point: &VectorPoint) -> Option<MemoryType> {
    let word = field_value("memory_type", &point.memory, &point.metadata)?;
    word.as_str().and_then(MemoryType::parse)
}

impl Index {
    /// Returns an index without memories, for vectors of a space and windows of these weights.
    pub(super) fn of(space: EmbeddingSpace, window: [f32; BEFORE]) -> Self {
        Self { space: Some(space), window, ..Self::default() }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn space(&self) -> Option<&EmbeddingSpace> {
        self.space.as_ref()
    }

    /// Whether it has memories, nothing is left undone, and the vectors are of a space.
    pub(super) fn is_of(&self, space: &EmbeddingSpace) -> bool {
        self.len() > 0 && !self.is_unsettled() && self.space() == Some(space)
    }

    /// How many memories it has.
    pub(super) fn len(&self) -> usize {
        self.row_of.len()
    }

    /// Whether lengths of windows, or who stands around whom, are not what they should be.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty() || !self.exposed.is_empty()
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_row_bytes
            + self.rows.capacity() * size_of::<Option<Row>>()
            + self.postings.n_term_bytes()
            + self.labels.n_bytes()
            + self.sessions.n_bytes()
            + self.speakers.n_bytes()
    }

    /// Takes a change in and returns the vector that came with it. Lengths of windows are right again after
    /// [`Index::settle`].
    pub(super) fn follow(&mut self, change: Change, terms: &Terms) -> Option<(MemoryId, Vec<f32>)> {
        match change {
            Change::Put { sequence, arrival, point: Some(point), .. } if !is_preference(&point) => {
                self.sequence = sequence;
                self.put(&point, arrival, terms);
                Some((point.id, point.vector))
            }
            Change::Put { sequence, id, .. } | Change::Deleted { sequence, id } => {
                self.sequence = sequence;
                self.remove(&id);
                None
            }
        }
    }

    fn put(&mut self, point: &VectorPoint, arrival: u64, terms: &Terms) {
        self.remove(&point.id);
        let turn = Turn::read(point, arrival);
        let row = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            (self.rows.len() - 1) as u32
        });
        let words = self.postings.add(row, terms.of(&point.memory));
        let labelled = Labelled::read(point);
        self.labels.add(row, &labelled);
        self.row_of.insert(turn.id.clone(), row);
        if let Some(speaker) = &turn.speaker {
            self.speakers.add(speaker);
        }
        if let Some(session) = &turn.session {
            self.sessions.insert(session, arrival, row);
        }
        self.unsettle(&turn, row);
        let kind = kind(point);
        if let Some(kind) = kind {
            *self.kinds.entry(kind).or_default() += 1;
        }
        let whole =
            Row { turn, kind, words, labelled, around: [None; BEFORE], before: [0.0; BEFORE], window_length: 1.0 };
        self.n_row_bytes += whole.n_bytes();
        self.rows[row as usize] = Some(whole);
    }

    fn remove(&mut self, id: &MemoryId) {
        let Some(row) = self.row_of.remove(id) else { return };
        let Some(gone) = self.rows[row as usize].take() else { return };
        self.n_row_bytes -= gone.n_bytes();
        if let Some(n_left) = gone.kind.and_then(|kind| self.kinds.get_mut(&kind)) {
            *n_left -= 1;
        }
        self.postings.remove(row, &gone.words);
        self.labels.remove(row, &gone.labelled);
        if let Some(speaker) = &gone.turn.speaker {
            self.speakers.remove(speaker);
        }
        if let Some(session) = &gone.turn.session {
            let around = self.sessions.around(session, gone.turn.arrival);
            self.exposed.extend(around.into_iter().flatten());
            self.sessions.remove(session, gone.turn.arrival);
        }
        self.unsettle(&gone.turn, row);
        self.unsettled.remove(&row);
        self.exposed.remove(&row);
        self.free.push(row);
    }

    /// Notes that a turn came or went: it and the four behind it have others before them now.
    fn unsettle(&mut self, turn: &Turn, row: u32) {
        match &turn.session {
            None => {
                self.unsettled.insert(row);
            }
            Some(session) => self.unsettled.extend(self.sessions.beginning_at(session, turn.arrival, BEFORE + 1)),
        }
    }

    /// Returns the memories whose vectors [`Index::settle`] needs besides those at hand.
    pub(super) fn wanted(&self, at_hand: &VectorsAtHand) -> Vec<MemoryId> {
        let mut rows: BTreeSet<u32> = BTreeSet::new();
        for &row in &self.unsettled {
            let before: Vec<u32> = self.before(row).into_iter().flatten().collect();
            if !before.is_empty() {
                rows.insert(row);
                rows.extend(before);
            }
        }
        let ids = rows.into_iter().filter_map(|row| self.turn(row)).map(|turn| &turn.id);
        ids.filter(|id| !at_hand.contains_key(*id)).cloned().collect()
    }

    /// Makes the dot products and lengths anew that changes have made wrong. A memory whose vector is not given is as if it
    /// were at right angles to the others: the record has removed it, and a later change tells so.
    pub(super) fn settle(&mut self, vectors: &VectorsAtHand) {
        let unsettled = std::mem::take(&mut self.unsettled);
        let mut windows = std::mem::take(&mut self.exposed);
        for &row in &unsettled {
            let before = self.before(row).map(|earlier| earlier.map_or(0.0, |earlier| self.dot(row, earlier, vectors)));
            if let Some(row) = self.row_mut(row) {
                row.before = before;
            }
            windows.insert(row);
            windows.extend(self.find_around(row).into_iter().flatten());
        }
        for row in windows {
            let around = self.find_around(row);
            let dot = |later: u32, distance: usize| self.row(later).map_or(0.0, |row| row.before[distance - 1]);
            let length = window::length(row, around, self.window, dot);
            if let Some(row) = self.row_mut(row) {
                row.around = around;
                row.window_length = length;
            }
        }
    }

    fn dot(&self, left: u32, right: u32, vectors: &VectorsAtHand) -> f32 {
        let vector = |row: u32| self.turn(row).and_then(|turn| vectors.get(&turn.id));
        match (vector(left), vector(right)) {
            (Some(left), Some(right)) => left.iter().zip(right).map(|(a, b)| a * b).sum(),
            _ => 0.0,
        }
    }

    fn row(&self, row: u32) -> Option<&Row> {
        self.rows.get(row as usize)?.as_ref()
    }

    fn row_mut(&mut self, row: u32) -> Option<&mut Row> {
        self.rows.get_mut(row as usize)?.as_mut()
    }

    /// Returns the memories before one in its session, the nearest first.
    fn before(&self, row: u32) -> [Option<u32>; BEFORE] {
        let turn = self.turn(row);
        let session = turn.and_then(|turn| Some((turn.session.as_deref()?, turn.arrival)));
        session.map_or([None; BEFORE], |(session, arrival)| self.sessions.before(session, arrival))
    }

    /// Returns the memories at -2, -1, +1 and +2 of the same session, as they were when the index was settled last.
    pub(super) fn around(&self, row: u32) -> Around {
        self.row(row).map_or([None; BEFORE], |row| row.around)
    }

    /// Looks up who stands at -2, -1, +1 and +2 of the same session.
    fn find_around(&self, row: u32) -> Around {
        let turn = self.turn(row);
        let session = turn.and_then(|turn| Some((turn.session.as_deref()?, turn.arrival)));
        session.map_or([None; BEFORE], |(session, arrival)| self.sessions.around(session, arrival))
    }

    /// Returns what is known of a row; `None` for one that holds no memory.
    pub(super) fn turn(&self, row: u32) -> Option<&Turn> {
        self.row(row).map(|row| &row.turn)
    }

    /// Returns the row of a memory.
    pub(super) fn row_of(&self, id: &MemoryId) -> Option<u32> {
        self.row_of.get(id).copied()
    }

    /// Returns the length of the vector of the window around a row.
    pub(super) fn window_length(&self, row: u32) -> f32 {
        self.row(row).map_or(1.0, |row| row.window_length)
    }

    /// Returns for each row what the words are worth that it and the memories around it share with `terms`.
    pub(super) fn word_scores(&self, terms: &[String], options: &WordOptions) -> Vec<f32> {
        let words_of = |row: u32| self.row(row).map(|row| &row.words);
        self.postings.scores(terms, options, self.rows.len(), words_of, |row| self.around(row))
    }

    /// Reads a question about these memories.
    pub(super) fn understand(&self, text: &str, terms: &Terms, may_have_edges: bool) -> Question {
        Question {
            keys: self.labels.named(text, |phrase| terms.is_empty_word(phrase)),
            kinds: self.kinds.iter().filter(|(_, n)| **n > 0).map(|(kind, _)| *kind).collect(),
            read_at: ReadAt { sequence: self.sequence, may_have_edges },
            ..Question::read(text, &self.speakers, self.span(), terms)
        }
    }

    /// Returns the rows with a key or tags that are asked for, each with how much of what is asked for it has, up to 1.
    pub(super) fn label_shares(&self, question: &Question, hints: &Hints) -> BTreeMap<u32, f32> {
        self.labels.shares(&question.keys, &hints.keys, &hints.tags)
    }

    /// How many rows there are, those without a memory included.
    pub(super) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// The days from the first to the last on which something was said.
    fn span(&self) -> Option<Days> {
        let said_on = self.rows.iter().flatten().filter_map(|row| row.turn.said_on());
        said_on.reduce(Days::and_until)
    }
}

#[cfg(test)]
mod tests;
