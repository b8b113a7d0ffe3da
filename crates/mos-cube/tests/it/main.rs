//! Cubes as directories: written at once, read with suspicion.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod packing;
mod reading;
mod writing;

use std::path::Path;
use std::sync::Arc;

use mos_core::{
    CubeId, MemoryError, MemoryId, MemoryItem, Origin, RecordStore, Scope, SystemClock, TextMemory, WriteBatch,
};
use mos_cube::{DumpRequest, Manifest};
use mos_memory::{DEFAULT_FILE_NAME, NaiveText, Shelf};
use mos_stores::InMemoryStore;
use serde_json::{Value, json};

/// A memory of one text.
async fn memory(text: &str) -> NaiveText {
    let (clock, scope) = (Arc::new(SystemClock), Scope { cube: "notes".into() });
    let record = InMemoryStore::new(clock.clone());
    let item = MemoryItem::new(MemoryId::new("00000000-0000-4000-8000-000000000001"), text);
    let batch = WriteBatch { put: vec![item], ..WriteBatch::new(Origin::new("test", "test")) };
    record.apply(&scope, batch).await.unwrap();
    NaiveText::new(Shelf { scope, record, clock, file_name: DEFAULT_FILE_NAME.to_owned() })
}

fn naive_config() -> Value {
    json!({"user_id": "ann", "cube_id": "notes", "text_mem": {"backend": "naive_text", "config": {}}})
}

async fn dump(directory: &Path, text: &dyn TextMemory) -> Result<Manifest, MemoryError> {
    let request = DumpRequest {
        cube_id: &CubeId::from("notes"),
        config: &naive_config(),
        text: Some(text),
        activation: None,
        parametric: None,
        preference: None,
        embedding_space: None,
        created_at: "2026-01-02T03:04:05.000000+00:00".to_owned(),
    };
    mos_cube::dump(directory, request).await
}

/// Names of what lies in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
