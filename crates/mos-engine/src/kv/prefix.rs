//! The beginning of a conversation, put together from segments.

use std::ops::Range;
use std::sync::Arc;

use mos_core::ModelError;

use super::{KvSegment, context_of, foreign};

/// Far beyond any model's context; keeps arithmetic with positions from overflowing.
const LONGEST_SHIFT: u64 = 1 << 32;

/// Some tokens of a segment, as a part of a prefix.
#[derive(Clone, Debug)]
pub struct KvPart {
    /// Where keys and values are.
    pub segment: Arc<KvSegment>,
    /// Which tokens of it.
    pub range: Range<usize>,
    /// Added to a key's own position to get the position at which it is attended; 0 when keys are used as they were
    /// rotated.
    pub shift: i64,
}

impl KvPart {
    /// Returns all tokens of a segment, with the keys as they were rotated.
    pub fn whole(segment: Arc<KvSegment>) -> Self {
        Self { range: 0..segment.len(), segment, shift: 0 }
    }

    /// Returns the same tokens, attended as if they had been computed at `place`.
    #[must_use]
    pub fn at(self, place: usize) -> Self {
        Self { shift: place as i64 - self.position() as i64, ..self }
    }

    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Returns whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Returns the position of the first token when it was computed.
    pub fn position(&self) -> usize {
        self.segment.start() + self.range.start
    }

    /// Returns the tokens, in order.
    pub fn tokens(&self) -> &[u32] {
        &self.segment.tokens()[self.range.clone()]
    }
}

/// The beginning of a conversation: segments, or ranges of segments, one after the other. Nothing is copied.
#[derive(Clone, Debug, Default)]
pub struct KvPrefix {
    parts: Vec<KvPart>,
    len: usize,
    exact_len: usize,
}

impl KvPrefix {
    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether keys and values are, bit by bit, those that the model computes for these tokens.
    ///
    /// That is so when every part stands, unshifted, where it was computed, and was computed after the very tokens
    /// that stand before it.
    pub fn is_exact(&self) -> bool {
        self.exact_len == self.len
    }

    /// Returns how many of the first tokens are exact in the sense of [`KvPrefix::is_exact`].
    pub fn exact_len(&self) -> usize {
        self.exact_len
    }

    /// Appends a whole segment with its keys as they were rotated.
    ///
    /// The prefix stays exact when the segment was computed here; any other segment is used as it is and makes the
    /// prefix inexact.
    pub fn push(&mut self, segment: Arc<KvSegment>) {
        self.append(KvPart::whole(segment));
    }

    /// Appends a part: with shift 0 as its keys were rotated, wherever it stands; with the shift of [`KvPart::at`] as
    /// if it had been computed here. Parts without tokens are left out.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when the range lies outside of the segment, when the shift is longer than any
    /// conversation, or when the segment belongs to another model than those before it.
    pub fn push_part(&mut self, part: KvPart) -> Result<(), ModelError> {
        let Range { start, end } = part.range;
        if start > end || end > part.segment.len() {
            return Err(ModelError::Invalid(format!(
                "tokens {start} to {end} of a cached segment were asked for, but it has {}",
                part.segment.len()
            )));
        }
        if part.shift.unsigned_abs() > LONGEST_SHIFT {
            return Err(ModelError::Invalid(format!(
                "a cached segment cannot be moved by {} tokens; no conversation is so long",
                part.shift
            )));
        }
        if let Some(first) = self.parts.first()
            && (first.segment.fingerprint(), first.segment.shape())
                != (part.segment.fingerprint(), part.segment.shape())
        {
            return Err(foreign());
        }
        self.append(part);
        Ok(())
    }

    fn append(&mut self, part: KvPart) {
        if part.is_empty() {
            return;
        }
        if self.is_exact() && self.continues_exactly(&part) {
            self.exact_len += part.len();
        }
        self.len += part.len();
        self.parts.push(part);
    }

    /// Whether a part was computed after the tokens of this prefix.
    fn continues_exactly(&self, part: &KvPart) -> bool {
        let segment = &part.segment;
        if part.shift != 0 || part.position() != self.len {
            return false;
        }
        let own = &segment.tokens()[..part.range.start];
        segment.context() == Some(context_of(self.tokens().take(segment.start())))
            && self.tokens().skip(segment.start()).eq(own.iter().copied())
    }

    /// Returns the first `len` tokens of this prefix (all, when it is shorter); nothing is copied.
    #[must_use]
    pub fn truncated(&self, len: usize) -> Self {
        let mut result = Self::default();
        for part in &self.parts {
            let take = part.len().min(len - result.len);
            if take == 0 {
                break;
            }
            let range = part.range.start..part.range.start + take;
            result.parts.push(KvPart { segment: Arc::clone(&part.segment), range, shift: part.shift });
            result.len += take;
        }
        result.exact_len = self.exact_len.min(result.len);
        result
    }

    /// Returns whether both are the same tokens of the same segments, attended at the same positions.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&KvPart, &KvPart)| {
            Arc::ptr_eq(&a.segment, &b.segment) && (&a.range, a.shift) == (&b.range, b.shift)
        };
        self.parts.len() == other.parts.len() && self.parts.iter().zip(&other.parts).all(same)
    }

    /// Returns the parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &KvPart> {
        self.parts.iter()
    }

    /// Returns the tokens, in order.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.parts.iter().flat_map(|part| part.tokens().iter().copied())
    }
}
