//! Exact prefixes that were computed for merges, kept for the next time.

use std::collections::HashSet;
use std::sync::Arc;

use mos_engine::{KvPrefix, KvSegment};

use crate::merge::common;

/// The most prefixes that are kept.
const MAX_PATHS: usize = 64;

#[derive(Debug)]
struct Path {
    prefix: KvPrefix,
    /// Those of its segments that are no stored items.
    computed: Vec<Arc<KvSegment>>,
}

/// Prefixes in order of use, bounded by the bytes that were computed for them.
#[derive(Debug)]
pub(crate) struct Paths {
    /// Least recently used first.
    kept: Vec<Path>,
    limit_bytes: u64,
}

impl Paths {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { kept: Vec::new(), limit_bytes }
    }

    /// Keeps an exact prefix whose last part was computed for it. What it makes superfluous goes, and what was used
    /// longest ago when there is too much; the newest stays, however long it is.
    pub(crate) fn keep(&mut self, prefix: KvPrefix) {
        let earlier: HashSet<*const KvSegment> = self.segments().map(Arc::as_ptr).collect();
        let last = prefix.parts().last().map(|part| Arc::as_ptr(&part.segment));
        let is_own = |segment: &Arc<KvSegment>| {
            let pointer = Arc::as_ptr(segment);
            Some(pointer) == last || earlier.contains(&pointer)
        };
        let computed = prefix.parts().map(|part| &part.segment).filter(|segment| is_own(segment)).cloned().collect();
        let tokens: Vec<u32> = prefix.tokens().collect();
        self.kept.retain(|old| common(&old.prefix, &tokens) < old.prefix.len());
        self.kept.push(Path { prefix, computed });
        while self.kept.len() > 1 && (self.kept.len() > MAX_PATHS || self.bytes() > self.limit_bytes) {
            self.kept.remove(0);
        }
    }

    /// Returns the longest kept beginning of a sequence.
    pub(crate) fn longest(&mut self, tokens: &[u32]) -> KvPrefix {
        let best = self.kept.iter().enumerate().map(|(at, path)| (common(&path.prefix, tokens), at)).max();
        match best {
            Some((len, at)) if len > 0 => {
                let path = self.kept.remove(at);
                let found = path.prefix.truncated(len);
                self.kept.push(path);
                found
            }
            _ => KvPrefix::default(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }

    fn segments(&self) -> impl Iterator<Item = &Arc<KvSegment>> {
        self.kept.iter().flat_map(|path| &path.computed)
    }

    /// Bytes that were computed for the prefixes; what several share counts once.
    fn bytes(&self) -> u64 {
        let mut seen: HashSet<*const KvSegment> = HashSet::new();
        let own = self.segments().filter(|segment| seen.insert(Arc::as_ptr(segment)));
        own.map(|segment| segment.bytes() as u64).sum()
    }
}
