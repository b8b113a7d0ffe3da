//! Answers on their way: what they are expected to take counts against budgets until it is known what they took.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Payer, UsageMeter};

/// What an answer is expected to take, and of whom.
#[derive(Debug)]
struct Expected {
    payer: Payer,
    tokens: u64,
    /// How often anything came of it.
    n_pieces: u64,
}

/// The answers of this process that are on their way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    next_number: u64,
    answers: BTreeMap<u64, Expected>,
}

impl InFlight {
    /// Returns the tokens that the answers of some payers are expected to take.
    pub(super) fn sum(&self, is_counted: impl Fn(&Payer) -> bool) -> u64 {
        let counted = self.answers.values().filter(|expected| is_counted(&expected.payer));
        counted.fold(0, |sum, expected| sum.saturating_add(expected.tokens))
    }

    /// Adds an answer and returns its number.
    pub(super) fn begin(&mut self, payer: Payer, tokens: u64) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.answers.insert(number, Expected { payer, tokens, n_pieces: 0 });
        number
    }

    /// Returns how far the answers of some payers are, by their numbers: while it changes, they get on.
    pub(super) fn progress(&self, is_counted: impl Fn(&Payer) -> bool) -> Vec<(u64, u64)> {
        let counted = self.answers.iter().filter(|(_, expected)| is_counted(&expected.payer));
        counted.map(|(number, expected)| (*number, expected.n_pieces)).collect()
    }

    fn note_piece(&mut self, number: u64) {
        if let Some(expected) = self.answers.get_mut(&number) {
            expected.n_pieces += 1;
        }
    }

    fn end(&mut self, number: u64) {
        self.answers.remove(&number);
    }
}

/// The right to one answer. What it is expected to take is free for others when this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    meter: Arc<UsageMeter>,
    number: u64,
}

impl Reservation {
    pub(super) fn new(meter: Arc<UsageMeter>, number: u64) -> Self {
        Self { meter, number }
    }

    /// Notes that a piece of the answer came: those who wait for it wait on.
    pub(super) fn note_piece(&self) {
        self.meter.in_flight().note_piece(self.number);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.meter.in_flight().end(self.number);
        self.meter.freed.notify_waiters();
    }
}
