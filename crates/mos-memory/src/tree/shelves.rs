//! Which memories stand on which shelf, kept in memory, so that no write has to look through the whole record.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use mos_core::{Change, MemoryId, MemoryItem, MemoryType, RecordStore, Scope, Status, StoreError, moment};
use serde_json::{Map, Value};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::by_scope::ByScope;

/// Changes read at a time.
const PAGE: usize = 1000;

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
            let page = record.changes(scope, self.sequence, PAGE).await?;
            let is_last = page.len() < PAGE;
            // The feed tells nothing of memories without an embedding but that they changed.
            let bare = |change: &Change| match change {
                Change::Put { id, point: None, .. } => Some(id.clone()),
                Change::Put { .. } | Change::Deleted { .. } => None,
            };
            let bare: Vec<MemoryId> = page.iter().filter_map(bare).collect();
            let read = if bare.is_empty() { Vec::new() } else { record.nodes(scope, &bare).await? };
            let read: HashMap<MemoryId, MemoryItem> = read.into_iter().map(|item| (item.id.clone(), item)).collect();
            for change in page {
                self.follow(change, &read);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn follow(&mut self, change: Change, read: &HashMap<MemoryId, MemoryItem>) {
        match change {
            Change::Put { sequence, arrival, id, point } => {
                self.sequence = sequence;
                self.remove(&id);
                let found = match point {
                    Some(point) => place(&id, &point.metadata, arrival),
                    // One that is gone by now is told of later.
                    None => read.get(&id).and_then(|item| place(&id, &item.metadata.to_map(), arrival)),
                };
                if let Some((kind, place)) = found {
                    self.type_of.insert(id.clone(), kind);
                    self.shelves.entry(kind).or_default().insert(id, place);
                }
            }
            Change::Deleted { sequence, id } => {
                self.sequence = sequence;
                self.remove(&id);
            }
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

fn place(id: &MemoryId, metadata: &Map<String, Value>, arrival: u64) -> Option<(MemoryType, Place)> {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    let kind = text("memory_type").and_then(MemoryType::parse)?;
    let original = text("working_binding").filter(|original| kind == MemoryType::Working && *original != id.as_str());
    let place = Place {
        is_activated: text("status") == Some(Status::Activated.as_str()),
        updated_at: text("updated_at").and_then(moment).unwrap_or(Timestamp::MIN),
        arrival,
        copy_of: original.map(MemoryId::from),
    };
    Some((kind, place))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(shelved: &mut Shelved, id: &str, arrival: u64, metadata: Value) {
        let value = json!({"id": "00000000-0000-4000-8000-000000000000", "memory": "x", "metadata": metadata});
        let item = MemoryItem::from_value(value, String::new).unwrap();
        let read = HashMap::from([(MemoryId::from(id), item)]);
        let sequence = shelved.sequence + 1;
        shelved.follow(Change::Put { sequence, arrival, id: id.into(), point: None }, &read);
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
        shelved.follow(Change::Deleted { sequence: 9, id: "copy".into() }, &HashMap::new());
        assert!(shelved.shown().is_empty() && shelved.len() == 2 && shelved.sequence == 9);
    }

    #[test]
    fn memories_that_stand_on_no_shelf_are_passed_over() {
        let mut shelved = Shelved::default();
        put(&mut shelved, "a", 1, json!({}));
        assert_eq!(shelved.len(), 0);
    }
}
