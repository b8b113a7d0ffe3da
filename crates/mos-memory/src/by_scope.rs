//! What is kept in memory of scopes that are in use, bounded over all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mos_core::Scope;

/// One value for each scope that was used lately. Values are derived: one that was dropped is made again, empty at first.
#[derive(Debug)]
pub(crate) struct ByScope<T> {
    /// The most that all values may come to together, in the unit of [`ByScope::account`].
    limit: usize,
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    of: HashMap<Scope, Entry<T>>,
    /// Counts uses.
    now: u64,
    size: usize,
}

#[derive(Debug)]
struct Entry<T> {
    value: Arc<T>,
    last_use: u64,
    size: usize,
}

impl<T: Default> ByScope<T> {
    /// Returns room for values that come to at most `limit` together.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, entries: Mutex::new(Entries { of: HashMap::new(), now: 0, size: 0 }) }
    }

    fn entries(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the value of a scope; a new one when there is none.
    pub(crate) fn get(&self, scope: &Scope) -> Arc<T> {
        let mut entries = self.entries();
        entries.now += 1;
        let now = entries.now;
        let new = || Entry { value: Arc::default(), last_use: now, size: 0 };
        let entry = entries.of.entry(scope.clone()).or_insert_with(new);
        entry.last_use = now;
        Arc::clone(&entry.value)
    }

    /// Notes the size of a scope's value. Above the limit the least recently used of the others are dropped, but none that
    /// somebody holds.
    pub(crate) fn account(&self, scope: &Scope, size: usize) {
        let mut entries = self.entries();
        let Some(entry) = entries.of.get_mut(scope) else { return };
        let before = std::mem::replace(&mut entry.size, size);
        entries.size = entries.size - before + size;
        while entries.size > self.limit {
            let is_idle = |entry: &Entry<T>| Arc::strong_count(&entry.value) == 1;
            let others = entries.of.iter().filter(|(other, entry)| *other != scope && is_idle(entry));
            let Some(oldest) = others.min_by_key(|(_, entry)| entry.last_use).map(|(other, _)| other.clone()) else {
                return;
            };
            if let Some(entry) = entries.of.remove(&oldest) {
                entries.size -= entry.size;
            }
        }
    }
}

#[cfg(test)]
impl<T: Default> ByScope<T> {
    /// How many scopes have a value.
    pub(crate) fn len(&self) -> usize {
        self.entries().of.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn scope(name: &str) -> Scope {
        Scope { cube: name.into() }
    }

    fn put(kept: &ByScope<AtomicUsize>, name: &str, size: usize) {
        kept.get(&scope(name)).store(size, Ordering::Relaxed);
        kept.account(&scope(name), size);
    }

    /// What is there, without making what is not.
    fn names(kept: &ByScope<AtomicUsize>) -> Vec<String> {
        let mut names: Vec<String> = kept.entries().of.keys().map(|scope| scope.cube.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let kept = ByScope::new(10);
        put(&kept, "a", 4);
        put(&kept, "b", 4);
        assert_eq!(kept.get(&scope("a")).load(Ordering::Relaxed), 4, "used once more");
        put(&kept, "c", 4);
        assert_eq!(names(&kept), ["a", "c"]);
        put(&kept, "c", 1);
        put(&kept, "d", 5);
        assert_eq!(names(&kept), ["a", "c", "d"], "what shrank makes room");
    }

    #[test]
    fn what_is_in_use_stays() {
        let kept = ByScope::new(10);
        put(&kept, "a", 8);
        let held = kept.get(&scope("a"));
        put(&kept, "b", 50);
        assert_eq!(names(&kept), ["a", "b"], "the one that is asked about stays, too");
        drop(held);
        put(&kept, "b", 50);
        assert_eq!(names(&kept), ["b"]);
    }
}
