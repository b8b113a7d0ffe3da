//! Which memories stand on which shelf, kept in memory, so that no write has to look through the whole record.
//!
//! The first use of a scope in a process goes through its feed once, a page at a time, with four short fields of each memory
//! (no texts, vectors or sources); later ones read what was written since. About 200 bytes stay for each memory.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use mos_core::{ChangedFields, FieldsOf, MemoryId, MemoryType, RecordStore, Scope, Status, StoreError, moment};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::by_scope::ByScope;

/// Changes read at a time.
const PAGE: usize = 1000;

/// What is asked of each memory: nothing else of it is read, whatever it holds.
const FIELDS: [&str; 4] = ["memory_type", "status", "updated_at", "working_binding"];

/// How many memories of all scopes together are kept; the scopes that were used least recently go first.
const MAX_MEMORIES: usize = 2_000_000;

/// What stands on the shelves of all scopes of a record. It follows the record's feed, also for what other processes write.
#[derive(Debug)]
pub struct TreeShelves {
    scopes: ByScope<AsyncMutex<Shelved>>,
}

impl Default for TreeShelves {
    fn default() -> Self {
        Self { scopes: ByScope::new(MAX_MEMORIES) }
    }
}

impl TreeShelves {
    /// Returns the shelves of a scope with everything that was written before the call. Whoever holds them keeps other
    /// writers of this process waiting, so that decisions about what a shelf holds need no second try.
    pub(super) async fn enter(
        &self,
        record: &dyn RecordStore,
        scope: &Scope,
    ) -> Result<OwnedMutexGuard<Shelved>, StoreError> {
        let mut shelved = self.scopes.get(scope).lock_owned().await;
        shelved.settle(record, scope).await?;
        self.scopes.account(scope, shelved.len());
        Ok(shelved)
    }
}

/// What is known of a memory on a shelf.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    is_activated: bool,
    updated_at: Timestamp,
    arrival: u64,
    copy_of: Option<MemoryId>,
}

/// The shelves of one scope.
#[derive(Debug, Default)]
pub(super) struct Shelved {
    /// Number of the last change that is in it.
    sequence: u64,
    shelves: BTreeMap<MemoryType, HashMap<MemoryId, Place>>,
    type_of: HashMap<MemoryId, MemoryType>,
}

impl Shelved {
    /// Takes in what was written since.
    pub(super) async fn settle(&mut self, record: &dyn RecordStore, scope: &Scope) -> Result<(), StoreError> {
        loop {
            let page = record.changed_fields(scope, &FIELDS, self.sequence, PAGE).await?;
            let is_last = page.len() < PAGE;
            for change in page {
                self.follow(change);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn follow(&mut self, change: ChangedFields) {
        let ChangedFields { sequence, id, state } = change;
        self.sequence = sequence;
        self.remove(&id);
        if let Some((kind, place)) = state.and_then(|state| place(&id, &state)) {
            self.type_of.insert(id.clone(), kind);
            self.shelves.entry(kind).or_default().insert(id, place);
        }
    }

    fn remove(&mut self, id: &MemoryId) {
        if let Some(kind) = self.type_of.remove(id)
            && let Some(shelf) = self.shelves.get_mut(&kind)
        {
            shelf.remove(id);
        }
    }

    fn len(&self) -> usize {
        self.type_of.len()
    }

    fn shelf(&self, kind: MemoryType) -> impl Iterator<Item = (&MemoryId, &Place)> {
        self.shelves.get(&kind).into_iter().flatten()
    }

    /// How many memories stand on a shelf.
    pub(super) fn count(&self, kind: MemoryType) -> usize {
        self.shelves.get(&kind).map_or(0, HashMap::len)
    }

    /// Returns at most `limit` memories of a shelf for which `may_go` holds, in the order in which they have to go: what
    /// takes no part in searches first, then the oldest.
    pub(super) fn oldest(&self, kind: MemoryType, limit: usize, may_go: impl Fn(&MemoryId) -> bool) -> Vec<MemoryId> {
        if limit == 0 {
            return Vec::new();
        }
        let mut found: Vec<(&MemoryId, &Place)> = self.shelf(kind).filter(|(id, _)| may_go(id)).collect();
        found.sort_by_key(|(_, place)| (place.is_activated, place.updated_at, place.arrival));
        found.into_iter().take(limit).map(|(id, _)| id.clone()).collect()
    }

    /// Returns the working memory that is in use, newest first.
    pub(super) fn newest_working(&self) -> Vec<MemoryId> {
        let mut found: Vec<(&MemoryId, &Place)> =
            self.shelf(MemoryType::Working).filter(|(_, place)| place.is_activated).collect();
        found.sort_by_key(|(_, place)| std::cmp::Reverse((place.updated_at, place.arrival)));
        found.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// Returns the memories that working memory shows, each with the copy that shows it.
    pub(super) fn shown(&self) -> HashMap<MemoryId, MemoryId> {
        let copies = self.shelf(MemoryType::Working);
        copies.filter_map(|(id, place)| Some((place.copy_of.clone()?, id.clone()))).collect()
    }

    /// Returns the working copies of some memories.
    pub(super) fn copies_of(&self, originals: &[MemoryId]) -> Vec<MemoryId> {
        let is_meant = |place: &Place| place.copy_of.as_ref().is_some_and(|original| originals.contains(original));
        let mut copies: Vec<MemoryId> =
            self.shelf(MemoryType::Working).filter(|(_, place)| is_meant(place)).map(|(id, _)| id.clone()).collect();
        copies.sort();
        copies
    }
}

/// Reads the fields of [`FIELDS`]; `None` for what stands on no shelf.
fn place(id: &MemoryId, state: &FieldsOf) -> Option<(MemoryType, Place)> {
    let [kind, status, updated_at, original] = state.values.as_slice() else { return None };
    let kind = kind.as_str().and_then(MemoryType::parse)?;
    let original = original.as_str().filter(|original| kind == MemoryType::Working && *original != id.as_str());
    let place = Place {
        is_activated: status.as_str() == Some(Status::Activated.as_str()),
        updated_at: updated_at.as_str().and_then(moment).unwrap_or(Timestamp::MIN),
        arrival: state.arrival,
        copy_of: original.map(MemoryId::from),
    };
    Some((kind, place))
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryItem;
    use serde_json::{Value, json};

    use super::*;

    fn put(shelved: &mut Shelved, id: &str, arrival: u64, metadata: Value) {
        let value = json!({"id": "00000000-0000-4000-8000-000000000000", "memory": "x", "metadata": metadata});
        let metadata = MemoryItem::from_value(value, String::new).unwrap().metadata.to_map();
        let values = FIELDS.iter().map(|field| metadata.get(*field).cloned().unwrap_or_default()).collect();
        let state = Some(FieldsOf { arrival, values });
        shelved.follow(ChangedFields { sequence: shelved.sequence + 1, id: id.into(), state });
    }

    fn working(updated_at: &str) -> Value {
        json!({"memory_type": "WorkingMemory", "updated_at": updated_at})
    }

    #[test]
    fn the_oldest_go_first_and_what_is_not_in_use_before_them() {
        let mut shelved = Shelved::default();
        put(&mut shelved, "new", 1, working("2026-01-03T00:00:00Z"));
        put(&mut shelved, "old", 2, working("2026-01-01T00:00:00Z"));
        put(&mut shelved, "as old", 3, working("2026-01-01T00:00:00Z"));
        let archived = json!({"memory_type": "WorkingMemory", "updated_at": "2027-01-01", "status": "archived"});
        put(&mut shelved, "archived", 4, archived);
        let ids = |ids: Vec<MemoryId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(ids(shelved.oldest(MemoryType::Working, 3, |_| true)), ["archived", "old", "as old"]);
        assert_eq!(ids(shelved.oldest(MemoryType::Working, 9, |id| id.as_str() == "new")), ["new"]);
        assert_eq!(ids(shelved.newest_working()), ["new", "as old", "old"]);
        assert_eq!((shelved.count(MemoryType::Working), shelved.count(MemoryType::User)), (4, 0));
    }

    #[test]
    fn changes_of_shelf_and_removals_are_followed() {
        let mut shelved = Shelved::default();
        put(&mut shelved, "a", 1, working("2026-01-01"));
        put(&mut shelved, "a", 1, json!({"memory_type": "UserMemory"}));
        assert_eq!((shelved.count(MemoryType::Working), shelved.count(MemoryType::User)), (0, 1));
        put(&mut shelved, "copy", 2, json!({"memory_type": "WorkingMemory", "working_binding": "a"}));
        put(&mut shelved, "own", 3, json!({"memory_type": "WorkingMemory", "working_binding": "own"}));
        assert_eq!(shelved.copies_of(&["a".into(), "own".into()]), ["copy".into()]);
        assert_eq!(shelved.shown(), HashMap::from([("a".into(), "copy".into())]));
        shelved.follow(ChangedFields { sequence: 9, id: "copy".into(), state: None });
        assert!(shelved.shown().is_empty() && shelved.len() == 2 && shelved.sequence == 9);
    }

    #[test]
    fn memories_that_stand_on_no_shelf_are_passed_over() {
        let mut shelved = Shelved::default();
        put(&mut shelved, "a", 1, json!({}));
        assert_eq!(shelved.len(), 0);
    }
}
