//! Several sequences in one run.

use std::ops::Range;

use mos_core::ModelError;

use super::{Backend, CancelToken, Decoder, LogitRows};
use crate::kv::{KvPrefix, KvTail};

/// Tokens to compute after what a conversation holds already.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// The tokens.
    pub tokens: &'a [u32],
    /// What stands before the tail.
    pub prefix: &'a KvPrefix,
    /// What the tokens are appended to.
    pub tail: &'a mut KvTail,
}

/// Tokens of a sequence inside a chunk.
pub(super) struct Piece {
    /// Number of the sequence.
    pub(super) sequence: usize,
    /// Which of its tokens.
    pub(super) tokens: Range<usize>,
    /// Row of the first one in the chunk.
    pub(super) row: usize,
}

impl Piece {
    /// Its rows in the chunk.
    pub(super) fn rows(&self) -> Range<usize> {
        self.row..self.row + self.tokens.len()
    }

    /// The rows after which logits are wanted, of a sequence of `tokens` tokens.
    fn wanted(&self, want: LogitRows, tokens: usize) -> Range<usize> {
        let count = match want {
            LogitRows::None => 0,
            LogitRows::Last => usize::from(self.tokens.end == tokens),
            LogitRows::All => self.tokens.len(),
        };
        self.rows().end - count..self.rows().end
    }

    /// Places of the tokens in their conversation.
    pub(super) fn positions(&self, sequences: &[Sequence<'_>]) -> Range<usize> {
        let Sequence { prefix, tail, .. } = &sequences[self.sequence];
        let start = prefix.len() + tail.len();
        start..start + self.tokens.len()
    }
}

impl Decoder {
    /// Computes several sequences in one run: their tokens share the products with the weights.
    ///
    /// Returns the logits asked for, per sequence as [`Decoder::forward`] returns them, on the processor with the same
    /// bits. After an error all tails are as they were before the call.
    ///
    /// # Errors
    /// As [`Decoder::forward`], for any of the sequences.
    pub fn forward_batch(
        &self,
        sequences: &mut [Sequence<'_>],
        want: LogitRows,
        cancel: &CancelToken,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        for Sequence { tokens, prefix, tail } in &mut *sequences {
            self.check(tokens, prefix, tail)?;
            tail.begin(prefix)?;
        }
        for Sequence { tokens, tail, .. } in &mut *sequences {
            // Single tokens are an answer being made: nobody knows how many follow.
            if tokens.len() > 1 {
                tail.reserve(tokens.len());
            }
        }
        let before: Vec<usize> = sequences.iter().map(|sequence| sequence.tail.len()).collect();
        let result = self.forward_chunks(sequences, want, cancel);
        if result.is_err() {
            sequences.iter_mut().zip(before).for_each(|(sequence, before)| sequence.tail.truncate(before));
        }
        result
    }

    fn forward_chunks(
        &self,
        sequences: &mut [Sequence<'_>],
        want: LogitRows,
        cancel: &CancelToken,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut logits = vec![Vec::new(); sequences.len()];
        let mut done = vec![0; sequences.len()];
        loop {
            let pieces = self.next_pieces(sequences, &done);
            if pieces.is_empty() {
                return Ok(logits);
            }
            let of_piece = |piece: &Piece| piece.wanted(want, sequences[piece.sequence].tokens.len());
            let wanted: Vec<Range<usize>> = pieces.iter().map(of_piece).collect();
            let computed = match &self.backend {
                Backend::Processor(processor) => processor.forward_chunk(sequences, &pieces, &wanted, cancel)?,
                Backend::Tensors(model) => model.forward_chunk(sequences, &pieces, &wanted, cancel)?,
            };
            for piece in &pieces {
                done[piece.sequence] = piece.tokens.end;
            }
            let mut rest = computed.as_slice();
            for (piece, wanted) in pieces.iter().zip(&wanted) {
                let (own, others) = rest.split_at(wanted.len() * self.spec().vocabulary);
                logits[piece.sequence].extend_from_slice(own);
                rest = others;
            }
        }
    }

    /// As many of the tokens that are left as fit into a chunk.
    fn next_pieces(&self, sequences: &[Sequence<'_>], done: &[usize]) -> Vec<Piece> {
        let left = sequences.iter().zip(done).map(|(sequence, done)| sequence.tokens.len() - done).sum();
        let room = self.next_chunk(left);
        let mut pieces = Vec::new();
        let mut row = 0;
        for (sequence, (Sequence { tokens, .. }, &start)) in sequences.iter().zip(done).enumerate() {
            let end = tokens.len().min(start + room - row);
            if start < end {
                pieces.push(Piece { sequence, tokens: start..end, row });
                row += end - start;
            }
        }
        pieces
    }
}
