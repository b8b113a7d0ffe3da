//! Pieces of a text packed into chunks.

use std::ops::Range;

use super::ChunkSize;
use super::boundary::{Level, cuts};
use super::protect::{addresses, is_inside};

/// Words that are longer, in bytes, are cut between groups of letters: a piece for each letter would take many times the memory
/// of the text.
const LONG_WORD: usize = 64 << 10;

/// So many groups of letters fit into a chunk.
const GROUPS_PER_CHUNK: usize = 16;

/// A piece that is not cut further.
#[derive(Clone, Debug)]
struct Piece {
    range: Range<usize>,
    size: usize,
}

/// Packs pieces of one text.
pub(super) struct Packer<'a> {
    text: &'a str,
    size: &'a ChunkSize,
    addresses: Vec<Range<usize>>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(text: &'a str, size: &'a ChunkSize) -> Self {
        Self { text, size, addresses: addresses(text) }
    }

    /// Counts a range without the space around it.
    pub(super) fn count(&self, range: &Range<usize>) -> usize {
        self.size.counter.count(self.text[range.clone()].trim())
    }

    /// Returns the chunks of `range`, without space around them; no chunk reaches over one of `breaks`. Pieces are cut at
    /// the first level, those that are too large at the next, and so on.
    pub(super) fn ranges(&self, range: Range<usize>, levels: &[Level], breaks: &[usize]) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let mut start = range.start;
        let within = breaks.iter().copied().filter(|at| range.contains(at));
        for end in within.chain([range.end]) {
            let mut pieces = Vec::new();
            self.cut(start..end, levels, &mut pieces);
            self.pack(&pieces, &mut chunks);
            start = end;
        }
        chunks
    }

    fn cut(&self, range: Range<usize>, levels: &[Level], pieces: &mut Vec<Piece>) {
        let Some((level, finer)) = levels.split_first() else {
            let size = self.count(&range);
            pieces.push(Piece { range, size });
            return;
        };
        let (mut start, mut looked_at, mut is_space) = (range.start, range.start, true);
        for cut in self.cuts(&self.text[range.clone()], *level) {
            let end = range.start + cut;
            is_space = is_space && self.text[looked_at..end].trim().is_empty();
            looked_at = end;
            // Space alone is no piece: it goes with what follows.
            if end < range.end && (is_space || is_inside(&self.addresses, end)) {
                continue;
            }
            let piece = start..end;
            start = end;
            if is_space && pieces.last().is_some_and(|last| last.range.end == piece.start) {
                // Or with what was before, at the end.
                if let Some(last) = pieces.last_mut() {
                    last.range.end = end;
                }
            } else if !finer.is_empty() && self.count(&piece) > self.size.size {
                self.cut(piece, finer, pieces);
            } else {
                let size = self.size.counter.count(&self.text[piece.clone()]);
                pieces.push(Piece { range: piece, size });
            }
            is_space = true;
        }
    }

    /// Returns the bytes after which a text can be cut, in order; its end is the last.
    fn cuts(&self, text: &str, level: Level) -> Vec<usize> {
        let n_letters = self.size.size / GROUPS_PER_CHUNK;
        if level != Level::Letter || text.len() <= LONG_WORD || n_letters < 2 {
            return cuts(text, level);
        }
        let groups = text.char_indices().step_by(n_letters).skip(1).map(|(at, _)| at);
        groups.chain([text.len()]).collect()
    }

    /// The largest size of a chunk of so many pieces.
    fn limit(&self, n_pieces: usize) -> usize {
        if n_pieces <= self.size.min_sentences && n_pieces > 1 {
            self.size.size.saturating_mul(2)
        } else {
            self.size.size
        }
    }

    fn pack(&self, pieces: &[Piece], chunks: &mut Vec<Range<usize>>) {
        let (mut first, mut covered) = (0, 0);
        while first < pieces.len() {
            let end = self.fill(pieces, first);
            if end <= covered {
                // All of it was shared with the last chunk, which left no room for more.
                first = covered;
                continue;
            }
            if let Some(range) = self.trimmed(pieces[first].range.start..pieces[end - 1].range.end) {
                chunks.push(range);
            }
            covered = end;
            first = if end == pieces.len() { end } else { self.step_back(pieces, first, end) };
        }
    }

    /// Returns how far a chunk from `first` reaches; at least one piece.
    fn fill(&self, pieces: &[Piece], first: usize) -> usize {
        let (mut end, mut total) = (first, 0_usize);
        while let Some(piece) = pieces.get(end) {
            total += piece.size;
            if end > first && total > self.limit(end - first + 1) {
                break;
            }
            end += 1;
        }
        // Two pieces may count for more together than apart.
        while end - first > 1
            && self.count(&(pieces[first].range.start..pieces[end - 1].range.end)) > self.limit(end - first)
        {
            end -= 1;
        }
        end
    }

    /// Returns where the next chunk begins: as far back as the overlap and the next piece allow, and behind `first`.
    fn step_back(&self, pieces: &[Piece], first: usize, end: usize) -> usize {
        let room = self.size.overlap.min(self.size.size.saturating_sub(pieces[end].size));
        let (mut back, mut shared) = (end, 0);
        while back > first + 1 && shared + pieces[back - 1].size <= room {
            back -= 1;
            shared += pieces[back].size;
        }
        back
    }

    /// Returns a range without the space around it; `None` when it is all space.
    pub(super) fn trimmed(&self, range: Range<usize>) -> Option<Range<usize>> {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        let end = start + text.trim().len();
        (end > start).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::EstimatedTokens;
    use super::*;

    #[test]
    fn a_word_of_megabytes_has_few_pieces() {
        let size = ChunkSize::new(Arc::new(EstimatedTokens), 512, 128);
        let address = "https://example.org/a/long/path";
        let text = format!("{}{address}", "x".repeat(2 << 20));
        let packer = Packer::new(&text, &size);
        let levels = &[Level::Word, Level::Letter];
        let mut pieces = Vec::new();
        packer.cut(0..text.len(), levels, &mut pieces);
        assert!(pieces.len() < text.len() / 8, "{} pieces of {} bytes", pieces.len(), text.len());
        let chunks = packer.ranges(0..text.len(), levels, &[]);
        let mut covered = 0;
        for chunk in &chunks {
            assert!(chunk.start <= covered && packer.count(chunk) <= 512, "{chunk:?}");
            covered = chunk.end;
            let is_cut = |at: usize| packer.addresses.iter().any(|one| one.start < at && at < one.end);
            assert!(!is_cut(chunk.start) && !is_cut(chunk.end), "{chunk:?}");
        }
        assert_eq!(covered, text.len());
    }
}
