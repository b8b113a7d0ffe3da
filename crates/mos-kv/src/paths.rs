//! Exact prefixes that were computed for merges, kept for the next time.

use std::collections::HashSet;

use mos_engine::{KvPrefix, KvSegment};

use crate::merge::common;

/// The most prefixes that are kept.
const MAX_PATHS: usize = 64;

/// Prefixes in order of use, bounded by bytes.
#[derive(Debug)]
pub(crate) struct Paths {
    /// Least recently used first.
    kept: Vec<KvPrefix>,
    limit_bytes: u64,
}

impl Paths {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { kept: Vec::new(), limit_bytes }
    }

    /// Keeps an exact prefix; what it makes superfluous, and what was used longest ago, goes.
    pub(crate) fn keep(&mut self, prefix: KvPrefix) {
        let tokens: Vec<u32> = prefix.tokens().collect();
        self.kept.retain(|old| common(old, &tokens) < old.len());
        self.kept.push(prefix);
        while !self.kept.is_empty() && (self.kept.len() > MAX_PATHS || self.bytes() > self.limit_bytes) {
            self.kept.remove(0);
        }
    }

    /// Returns the longest kept beginning of a sequence.
    pub(crate) fn longest(&mut self, tokens: &[u32]) -> KvPrefix {
        let best = self.kept.iter().enumerate().map(|(at, prefix)| (common(prefix, tokens), at)).max();
        match best {
            Some((len, at)) if len > 0 => {
                let prefix = self.kept.remove(at);
                self.kept.push(prefix.clone());
                prefix.truncated(len)
            }
            _ => KvPrefix::default(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Bytes of all prefixes; what several share counts once.
    fn bytes(&self) -> u64 {
        let mut seen: HashSet<*const KvSegment> = HashSet::new();
        let parts = self.kept.iter().flat_map(KvPrefix::parts);
        let own = parts.filter(|part| seen.insert(std::sync::Arc::as_ptr(&part.segment)));
        own.map(|part| part.segment.bytes() as u64).sum()
    }
}
