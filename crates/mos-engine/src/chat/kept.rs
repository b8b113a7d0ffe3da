//! What was computed for earlier conversations and may begin a later one.

use std::collections::HashSet;
use std::sync::Arc;

use mos_core::ModelError;

use crate::decoder::Decoder;
use crate::kv::{KvPrefix, KvSegment, KvTail};
use crate::text::{PromptText, TextCodec};

/// A conversation that goes on where a kept one ended drops at most this many tokens of it; one that shares less
/// gets a copy, so that the kept one can go on as well.
const LOOSE_END_TOKENS: usize = 8;

/// The state after some tokens.
struct Entry {
    /// Who may go on from it.
    scope: String,
    tokens: Vec<u32>,
    /// The exact text of the tokens; empty when it is not known.
    text: PromptText,
    prefix: KvPrefix,
    tail: KvTail,
}

/// States in order of use, bounded by bytes.
pub(super) struct KeptStates {
    /// Least recently used first.
    entries: Vec<Entry>,
    limit_bytes: usize,
}

/// The state that a conversation begins with.
pub(super) struct Start {
    /// All tokens of the conversation.
    pub(super) tokens: Vec<u32>,
    pub(super) prefix: KvPrefix,
    pub(super) tail: KvTail,
}

impl KeptStates {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { entries: Vec::new(), limit_bytes }
    }

    /// Returns the longest kept beginning of a conversation, at most all of its tokens but the last.
    ///
    /// When the text goes on where a kept text ended and a control token follows, the kept tokens are used as they
    /// are: a model's own words need not be cut as the tokenizer would cut them.
    pub(super) fn start(
        &mut self,
        decoder: &Decoder,
        codec: &TextCodec,
        scope: &str,
        text: &PromptText,
        tokens: Vec<u32>,
    ) -> Result<Start, ModelError> {
        let shared = |entry: &Entry| common_prefix(&entry.tokens, &tokens);
        let by_tokens = self.of(scope).map(|at| (shared(&self.entries[at]), at)).max();
        let by_text = self
            .of(scope)
            .filter(|&at| !self.entries[at].text.is_empty())
            .filter_map(|at| Some((at, text.strip_prefix(&self.entries[at].text)?)))
            .max_by_key(|(at, _)| self.entries[*at].tokens.len());
        if let Some((at, rest)) = by_text
            && by_tokens.is_none_or(|(len, _)| len < self.entries[at].tokens.len())
        {
            let entry = &self.entries[at];
            let rest = codec.encode_prompt(&rest)?;
            if rest.first().is_some_and(|&token| codec.is_end(token)) {
                let kept = entry.tokens.len();
                let tokens = [entry.tokens.as_slice(), &rest].concat();
                let (prefix, tail) = self.take(decoder, at, kept);
                return Ok(Start { tokens, prefix, tail });
            }
        }
        let (prefix, tail) = match by_tokens.map(|(len, at)| (len.min(tokens.len().saturating_sub(1)), at)) {
            Some((len, at)) if len > 0 => self.take(decoder, at, len),
            _ => (KvPrefix::default(), decoder.new_tail()),
        };
        Ok(Start { tokens, prefix, tail })
    }

    /// The places of a scope's states.
    fn of(&self, scope: &str) -> impl Iterator<Item = usize> {
        (0..self.entries.len()).filter(move |&at| self.entries[at].scope == scope)
    }

    /// Returns the longest kept beginning that goes beyond an exact prefix, else the prefix; `tokens` begin with it.
    pub(super) fn start_after(&mut self, decoder: &Decoder, scope: &str, given: KvPrefix, tokens: Vec<u32>) -> Start {
        let shared = |entry: &Entry| common_prefix(&entry.tokens, &tokens).min(tokens.len() - 1);
        let longest = self.of(scope).map(|at| (shared(&self.entries[at]), at)).max();
        let (prefix, tail) = match longest {
            Some((len, at)) if len > given.len() => self.take(decoder, at, len),
            _ => (given, decoder.new_tail()),
        };
        Start { tokens, prefix, tail }
    }

    /// Returns the first `len` tokens of an entry: moved out when hardly more was kept, else copied.
    fn take(&mut self, decoder: &Decoder, at: usize, len: usize) -> (KvPrefix, KvTail) {
        let entry = self.entries.remove(at);
        let own = len.saturating_sub(entry.prefix.len());
        if !entry.tail.is_empty() && own > 0 && entry.tokens.len() - len <= LOOSE_END_TOKENS {
            let Entry { prefix, mut tail, .. } = entry;
            tail.truncate(own);
            return (prefix, tail);
        }
        let state = if own == 0 {
            (entry.prefix.truncated(len), decoder.new_tail())
        } else {
            (entry.prefix.clone(), entry.tail.fork(own))
        };
        self.entries.push(entry);
        state
    }

    /// Keeps a prefix that many conversations share.
    pub(super) fn keep_prefix(&mut self, scope: &str, prefix: KvPrefix, empty_tail: KvTail) {
        let tokens: Vec<u32> = prefix.tokens().collect();
        self.keep(Entry { scope: scope.to_owned(), tokens, text: PromptText::default(), prefix, tail: empty_tail });
    }

    /// Keeps the state of a conversation; `text` is its exact text, or empty.
    pub(super) fn keep_session(&mut self, scope: String, text: PromptText, prefix: KvPrefix, tail: KvTail) {
        if tail.is_empty() {
            return;
        }
        let tokens: Vec<u32> = prefix.tokens().chain(tail.tokens().iter().copied()).collect();
        self.keep(Entry { scope, tokens, text, prefix, tail });
    }

    fn keep(&mut self, entry: Entry) {
        self.entries.retain(|kept| kept.scope != entry.scope || kept.tokens != entry.tokens);
        self.entries.push(entry);
        while !self.entries.is_empty() && self.bytes() > self.limit_bytes {
            self.entries.remove(0);
        }
    }

    /// Bytes of all states; what several share counts once.
    fn bytes(&self) -> usize {
        let mut seen: HashSet<*const KvSegment> = HashSet::new();
        let mut total = 0;
        for entry in &self.entries {
            total += entry.tail.bytes();
            for part in entry.prefix.parts() {
                if seen.insert(Arc::as_ptr(&part.segment)) {
                    total += part.segment.bytes();
                }
            }
        }
        total
    }
}

/// Number of equal tokens at the beginning of both.
pub(super) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
