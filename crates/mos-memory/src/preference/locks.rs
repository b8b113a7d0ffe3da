//! One after the other, per cube.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use mos_core::Scope;
use tokio::sync::{Mutex, MutexGuard};

/// How many cubes can be added to at the same time, at most.
const N_LOCKS: usize = 64;

/// Lets one adder at a time look for a preference and write it, so that the same preference told twice at the same time
/// is still one record. Other processes are not held back: their conflicts are found when they write.
#[derive(Debug)]
pub struct AddLocks {
    locks: Vec<Mutex<()>>,
}

impl Default for AddLocks {
    fn default() -> Self {
        Self { locks: (0..N_LOCKS).map(|_| Mutex::new(())).collect() }
    }
}

impl AddLocks {
    /// Waits for a cube's turn; it lasts until the guard is dropped. Some cubes share a turn.
    pub(super) async fn enter(&self, scope: &Scope) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        scope.hash(&mut hasher);
        let index = hasher.finish() % N_LOCKS as u64;
        self.locks[index as usize].lock().await
    }
}
