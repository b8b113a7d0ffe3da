//! Textual memories over real stores.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod general;
mod logging;
mod naive;
mod organize;
mod parametric;
mod preference;
mod preference_dump;
mod rerank;
mod searching;
mod tree;
mod web;

use std::sync::Arc;

use mos_core::{MemoryId, MemoryItem, Origin, RecordStore, Scope, SystemClock};
use mos_memory::{DEFAULT_FILE_NAME, Shelf};
use mos_stores::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

/// A SQLite store in a folder of its own.
fn store() -> (TempDir, Arc<dyn RecordStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions::at(folder.path().join("mos.db")), Arc::new(SystemClock)).unwrap();
    (folder, store)
}

fn shelf(record: &Arc<dyn RecordStore>, cube: &str) -> Shelf {
    Shelf {
        scope: Scope { cube: cube.into() },
        record: Arc::clone(record),
        clock: Arc::new(SystemClock),
        file_name: DEFAULT_FILE_NAME.to_owned(),
    }
}

fn item(number: u32, text: &str) -> MemoryItem {
    MemoryItem::new(MemoryId::new(format!("00000000-0000-4000-8000-{number:012}")), text)
}

fn origin() -> Origin {
    Origin::new("test", "test")
}

fn texts<'a>(items: impl IntoIterator<Item = &'a MemoryItem>) -> Vec<&'a str> {
    items.into_iter().map(|item| item.memory.as_str()).collect()
}
