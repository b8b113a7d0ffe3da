//! Which memories of a cube are of which files, kept in memory, so that reading a file again does not look through the whole
//! cube.
//!
//! The first file that is read into a cube goes through the cube's feed once, a page at a time, with one short field of each
//! memory; later ones read what was written since, also by other processes.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::{ChangedFields, MemoryId, RecordStore, Scope, StoreError};
use serde_json::Value;
use tokio::sync::Mutex;

/// Changes read at a time.
const PAGE: usize = 1_000;

/// The field that names the files of a memory.
const FIELDS: [&str; 1] = ["file_ids"];

/// How many cubes are kept; the one that was used least recently goes.
const MAX_CUBES: usize = 16;

/// The memories of files of some cubes.
#[derive(Debug, Default)]
pub(crate) struct HeldFiles {
    /// The cube that was used last stands last.
    cubes: Mutex<Vec<(Scope, Arc<Mutex<OfCube>>)>>,
}

impl HeldFiles {
    /// Returns the memories of some files, in no order, with everything that was written before the call.
    ///
    /// # Errors
    /// [`StoreError`] when the record cannot be read.
    pub(crate) async fn of(
        &self,
        record: &dyn RecordStore,
        scope: &Scope,
        files: &[String],
    ) -> Result<Vec<MemoryId>, StoreError> {
        let of_cube = self.cube(scope).await;
        let mut of_cube = of_cube.lock().await;
        of_cube.follow(record, scope).await?;
        let mut ids: Vec<MemoryId> = files.iter().filter_map(|file| of_cube.ids.get(file)).flatten().cloned().collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Returns every file of a cube with the first of its memories, in the order in which the first ones came; with everything
    /// that was written before the call.
    ///
    /// # Errors
    /// [`StoreError`] when the record cannot be read.
    pub(crate) async fn all(
        &self,
        record: &dyn RecordStore,
        scope: &Scope,
    ) -> Result<Vec<(String, MemoryId)>, StoreError> {
        let of_cube = self.cube(scope).await;
        let mut of_cube = of_cube.lock().await;
        of_cube.follow(record, scope).await?;
        Ok(of_cube.in_order())
    }

    async fn cube(&self, scope: &Scope) -> Arc<Mutex<OfCube>> {
        let mut cubes = self.cubes.lock().await;
        let found = match cubes.iter().position(|(known, _)| known == scope) {
            Some(place) => cubes.remove(place).1,
            None => Arc::default(),
        };
        if cubes.len() == MAX_CUBES {
            cubes.remove(0);
        }
        cubes.push((scope.clone(), Arc::clone(&found)));
        found
    }
}

/// The memories of files of one cube.
#[derive(Debug, Default)]
struct OfCube {
    /// Number of the last change that is in it.
    sequence: u64,
    ids: HashMap<String, Vec<MemoryId>>,
    /// With the number of its arrival.
    files: HashMap<MemoryId, (u64, Vec<String>)>,
}

impl OfCube {
    async fn follow(&mut self, record: &dyn RecordStore, scope: &Scope) -> Result<(), StoreError> {
        loop {
            let page = record.changed_fields(scope, &FIELDS, self.sequence, PAGE).await?;
            let is_last = page.len() < PAGE;
            for change in page {
                self.take(change);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn take(&mut self, change: ChangedFields) {
        let ChangedFields { sequence, id, state } = change;
        self.sequence = sequence;
        let before = self.files.remove(&id).map(|(_, files)| files);
        for file in before.into_iter().flatten() {
            if let Some(ids) = self.ids.get_mut(&file) {
                ids.retain(|known| *known != id);
                if ids.is_empty() {
                    self.ids.remove(&file);
                }
            }
        }
        let Some(state) = state else { return };
        let arrival = state.arrival;
        let Some(Value::Array(files)) = state.values.into_iter().next() else { return };
        let files: Vec<String> = files.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        for file in &files {
            self.ids.entry(file.clone()).or_default().push(id.clone());
        }
        if !files.is_empty() {
            self.files.insert(id, (arrival, files));
        }
    }

    fn in_order(&self) -> Vec<(String, MemoryId)> {
        let arrival = |id: &MemoryId| self.files.get(id).map_or(u64::MAX, |(arrival, _)| *arrival);
        let first = |ids: &[MemoryId]| ids.iter().map(|id| (arrival(id), id.clone())).min();
        let files = self.ids.iter().filter_map(|(file, ids)| Some((first(ids)?, file.clone())));
        let mut files: Vec<((u64, MemoryId), String)> = files.collect();
        files.sort_unstable();
        files.into_iter().map(|((_, id), file)| (file, id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use mos_core::FieldsOf;
    use serde_json::json;

    use super::*;

    fn change(sequence: u64, id: &str, files: Option<Value>) -> ChangedFields {
        let state = files.map(|files| FieldsOf { arrival: sequence, values: vec![files] });
        ChangedFields { sequence, id: id.into(), state }
    }

    #[test]
    fn memories_follow_their_files() {
        let mut of_cube = OfCube::default();
        of_cube.take(change(1, "a", Some(json!(["f", "g"]))));
        of_cube.take(change(2, "b", Some(json!(["f"]))));
        of_cube.take(change(3, "c", Some(Value::Null)));
        of_cube.take(change(4, "a", Some(json!(["g"]))));
        assert_eq!(of_cube.ids["f"], [MemoryId::new("b")]);
        assert_eq!(of_cube.ids["g"], [MemoryId::new("a")]);
        let expected = [("f".to_owned(), MemoryId::new("b")), ("g".to_owned(), MemoryId::new("a"))];
        assert_eq!(of_cube.in_order(), expected);
        of_cube.take(change(5, "b", None));
        assert!(!of_cube.ids.contains_key("f") && !of_cube.files.contains_key(&MemoryId::new("b")));
        assert_eq!(of_cube.sequence, 5);
    }
}
