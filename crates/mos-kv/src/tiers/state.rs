//! What the tiers hold, and who has to go.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::ActivationId;
use mos_engine::KvSegment;

use super::{Tier, WhenFull};
use crate::error::KvError;
use crate::item::KvCacheItem;

/// Names an item: a tenant, and an id within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) scope: String,
    pub(super) id: ActivationId,
}

impl Key {
    pub(super) fn new(scope: &str, id: &ActivationId) -> Self {
        Self { scope: scope.to_owned(), id: id.clone() }
    }

    /// The name of an item's file, which tells replaced items from their replacements, also from an equal one that was
    /// written before: who removes an old file removes no other. An id is never used as a path.
    pub(super) fn file_name(&self, item: &KvCacheItem, written: u64) -> Result<String, KvError> {
        let shown = serde_json::to_vec(item).map_err(|error| KvError::internal("naming an item", error))?;
        let segment = item.require_segment()?;
        let mut hasher = blake3::Hasher::new();
        for part in [self.scope.as_bytes(), &shown, &item.require_identity()?.weights.0] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        for number in segment.tokens() {
            hasher.update(&number.to_le_bytes());
        }
        // Equal texts may have been computed after different ones.
        hasher.update(&(segment.start() as u64).to_le_bytes());
        hasher.update(&segment.context().unwrap_or_default());
        hasher.update(&written.to_le_bytes());
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// An item, and where it is.
#[derive(Debug)]
pub(super) struct Entry {
    /// The item without its keys and values.
    pub(super) head: KvCacheItem,
    /// The name of its files.
    pub(super) name: String,
    /// Its tokens: whatever comes back from a tier is compared with them.
    pub(super) tokens: Arc<[u32]>,
    pub(super) segment: Option<Arc<KvSegment>>,
    /// Bytes in each tier that holds it.
    pub(super) bytes: [Option<u64>; 3],
    /// How often an item of this tenant and id was written; of two files the greater number counts.
    pub(super) written: u64,
    /// Order of arrival.
    pub(super) number: u64,
    /// Order of use.
    pub(super) used: u64,
    pub(super) hits: u32,
    pub(super) pins: usize,
}

impl Entry {
    pub(super) fn new(head: KvCacheItem, name: String, tokens: Arc<[u32]>, written: u64, number: u64) -> Self {
        let bytes = [None; 3];
        Self { head, name, tokens, segment: None, bytes, written, number, used: number, hits: 0, pins: 0 }
    }

    /// Whether it must stay: pinned, or somebody holds its keys and values.
    fn is_in_use(&self) -> bool {
        self.pins > 0 || self.segment.as_ref().is_some_and(|segment| Arc::strong_count(segment) > 1)
    }

    /// Seconds that a byte saves, counting the uses so far.
    fn worth(&self, bytes: u64) -> f64 {
        self.head.saved_seconds * f64::from(self.hits.saturating_add(1)) / bytes.max(1) as f64
    }

    pub(super) fn is_in(&self, tier: Tier) -> bool {
        self.bytes[tier as usize].is_some()
    }

    /// Whether a tier below has it too.
    fn is_below(&self, tier: Tier) -> bool {
        self.bytes[tier as usize + 1..].iter().any(Option::is_some)
    }
}

/// What [`State::make_room`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// These must leave the tier; they have left the books already.
    After(Vec<Key>),
    /// Those that are there are worth more.
    NotWorthIt,
    /// Nothing can leave.
    None,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: HashMap<Key, Entry>,
    /// Bytes in each tier, with what is being written.
    pub(super) in_tier: [u64; 3],
    /// How often items of a tenant went, were replaced, or came from elsewhere.
    changes: HashMap<String, u64>,
    counter: u64,
}

impl State {
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn changes(&self, scope: &str) -> u64 {
        self.changes.get(scope).copied().unwrap_or_default()
    }

    pub(super) fn note_change(&mut self, scope: &str) {
        match self.changes.get_mut(scope) {
            Some(count) => *count += 1,
            None => drop(self.changes.insert(scope.to_owned(), 1)),
        }
    }

    /// Gives back the bytes that an item took.
    pub(super) fn give_back(&mut self, bytes: [Option<u64>; 3]) {
        for (used, bytes) in self.in_tier.iter_mut().zip(bytes) {
            *used -= bytes.unwrap_or_default();
        }
    }

    /// Takes an item out of the books.
    pub(super) fn take(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.give_back(entry.bytes);
        self.note_change(&key.scope);
        Some(entry)
    }

    /// Puts an item in; an earlier one of its key goes, and leaves its place in the order and its pins.
    pub(super) fn insert(&mut self, key: Key, mut entry: Entry) -> Option<Entry> {
        let old = self.take(&key);
        if let Some(old) = &old {
            (entry.number, entry.pins) = (old.number, old.pins);
        }
        self.entries.insert(key, entry);
        old
    }

    /// Makes room for `bytes` in a tier and counts them as used. Victims are the least recently used that nobody
    /// uses and that a tier below holds, or any that nobody uses when the last tier may evict.
    ///
    /// A newcomer that saves less than half as much per byte as a victim stays out when it may; the victim's uses
    /// count half from then on, so that nothing stays for ever because it was once popular.
    pub(super) fn make_room(&mut self, tier: Tier, newcomer: Newcomer<'_>, budget: u64, when_full: WhenFull) -> Room {
        let Newcomer { key, bytes, saved_seconds, hits, optional } = newcomer;
        // What the newcomer replaces goes in any case.
        let replaced = self.entries.get(key).and_then(|entry| entry.bytes[tier as usize]).unwrap_or_default();
        let used = self.in_tier[tier as usize] - replaced;
        let missing = used.saturating_add(bytes).saturating_sub(budget);
        let mut free = 0;
        let mut candidates: Vec<(&Key, &Entry)> = self
            .entries
            .iter()
            .filter(|(other, entry)| {
                *other != key
                    && entry.is_in(tier)
                    && !entry.is_in_use()
                    && (entry.is_below(tier) || when_full == WhenFull::Evict)
            })
            .collect();
        candidates.sort_unstable_by_key(|(_, entry)| entry.used);
        let worth = saved_seconds * f64::from(hits.saturating_add(1)) / bytes.max(1) as f64;
        let (mut victims, mut better) = (Vec::new(), None);
        for (key, entry) in candidates {
            if free >= missing {
                break;
            }
            let size = entry.bytes[tier as usize].unwrap_or_default();
            if optional && worth < entry.worth(size) / 2.0 {
                better = Some(key.clone());
                break;
            }
            free += size;
            victims.push(key.clone());
        }
        if let Some(entry) = better.and_then(|key| self.entries.get_mut(&key)) {
            entry.hits /= 2;
            return Room::NotWorthIt;
        }
        if free < missing {
            return Room::None;
        }
        for key in &victims {
            self.leave(tier, key);
        }
        self.in_tier[tier as usize] += bytes;
        Room::After(victims)
    }

    /// Notes that a tier's copy of an item has gone, with the item when no other tier below RAM has it.
    pub(super) fn lose(&mut self, tier: Tier, key: &Key) {
        self.leave(tier, key);
        if self.entries.get(key).is_some_and(|entry| !entry.is_below(Tier::Ram)) {
            self.take(key);
        }
    }

    /// Takes an item out of a tier's books; returns its keys and values when they were in RAM.
    pub(super) fn leave(&mut self, tier: Tier, key: &Key) -> Option<Arc<KvSegment>> {
        let entry = self.entries.get_mut(key)?;
        let bytes = entry.bytes[tier as usize].take().unwrap_or_default();
        self.in_tier[tier as usize] -= bytes;
        if tier == Tier::Ram { entry.segment.take() } else { None }
    }
}

/// An item that wants to enter a tier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer<'a> {
    pub(super) key: &'a Key,
    pub(super) bytes: u64,
    pub(super) saved_seconds: f64,
    pub(super) hits: u32,
    /// Whether it may stay out because another tier has it.
    pub(super) optional: bool,
}
