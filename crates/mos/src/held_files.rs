//! Which memories of a cube are of which files, kept in memory, so that reading a file again does not look through the whole
//! cube.
//!
//! The first file that is read into a cube goes through the cube's feed once, a page at a time, with three short fields of each
//! memory; later ones read what was written since, also by other processes.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::memory::QUARANTINE;
use mos_core::{ChangedFields, MemoryId, RecordStore, Scope, Status, StoreError};
use serde_json::Value;
use tokio::sync::Mutex;

/// Changes read at a time.
const PAGE: usize = 1_000;

/// The field that names the files of a memory, and those that tell whether it is kept apart.
const FIELDS: [&str; 3] = ["file_ids", "status", QUARANTINE];

/// How many cubes are kept; the one that was used least recently goes.
const MAX_CUBES: usize = 16;

/// A file of a cube.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldFile {
    /// Its id.
    pub(crate) file: String,
    /// The first of its memories.
    pub(crate) first: MemoryId,
    /// Whether everything that is there of it is kept apart, so that no search finds any of it.
    pub(crate) is_apart: bool,
}

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

    /// Returns every file of a cube, in the order in which the first of their memories came; with everything that was written
    /// before the call.
    ///
    /// # Errors
    /// [`StoreError`] when the record cannot be read.
    pub(crate) async fn all(&self, record: &dyn RecordStore, scope: &Scope) -> Result<Vec<HeldFile>, StoreError> {
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
    pieces: HashMap<MemoryId, Piece>,
}

/// A memory of files.
#[derive(Debug)]
struct Piece {
    /// The number of its arrival.
    arrival: u64,
    files: Vec<String>,
    standing: Standing,
}

/// Whether a memory of a file takes part in what is found of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is there.
    There,
    /// It is kept apart until it is released.
    Apart,
    /// It is marked as deleted.
    Deleted,
}

impl Standing {
    fn of(status: Option<&Value>, reason: Option<&Value>) -> Self {
        match status.and_then(Value::as_str).and_then(Status::parse) {
            Some(Status::Deleted) => Self::Deleted,
            Some(Status::Archived) if reason.is_some_and(Value::is_string) => Self::Apart,
            _ => Self::There,
        }
    }
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
        let before = self.pieces.remove(&id).map(|piece| piece.files);
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
        let [Some(Value::Array(files)), status, reason] = std::array::from_fn(|field| state.values.get(field)) else {
            return;
        };
        let standing = Standing::of(status, reason);
        let files: Vec<String> = files.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        for file in &files {
            self.ids.entry(file.clone()).or_default().push(id.clone());
        }
        if !files.is_empty() {
            self.pieces.insert(id, Piece { arrival, files, standing });
        }
    }

    fn in_order(&self) -> Vec<HeldFile> {
        let arrival = |id: &MemoryId| self.pieces.get(id).map_or(u64::MAX, |piece| piece.arrival);
        let first = |ids: &[MemoryId]| ids.iter().map(|id| (arrival(id), id.clone())).min();
        let files = self.ids.iter().filter_map(|(file, ids)| Some((first(ids)?, file.clone(), self.are_apart(ids))));
        let mut files: Vec<((u64, MemoryId), String, bool)> = files.collect();
        files.sort_unstable();
        files.into_iter().map(|((_, first), file, is_apart)| HeldFile { file, first, is_apart }).collect()
    }

    /// Whether all of these that are not marked as deleted are kept apart, one at least.
    fn are_apart(&self, ids: &[MemoryId]) -> bool {
        let standings = ids.iter().filter_map(|id| self.pieces.get(id)).map(|piece| piece.standing);
        let mut left = standings.filter(|standing| *standing != Standing::Deleted).peekable();
        left.peek().is_some() && left.all(|standing| standing == Standing::Apart)
    }
}

#[cfg(test)]
mod tests {
    use mos_core::FieldsOf;
    use serde_json::json;

    use super::*;

    fn change(sequence: u64, id: &str, files: Option<Value>) -> ChangedFields {
        written(sequence, id, files.map(|files| vec![files, json!("activated"), Value::Null]))
    }

    fn written(sequence: u64, id: &str, values: Option<Vec<Value>>) -> ChangedFields {
        let state = values.map(|values| FieldsOf { arrival: sequence, values });
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
        let held = |file: &str, first: &str| HeldFile { file: file.to_owned(), first: first.into(), is_apart: false };
        assert_eq!(of_cube.in_order(), [held("f", "b"), held("g", "a")]);
        of_cube.take(change(5, "b", None));
        assert!(!of_cube.ids.contains_key("f") && !of_cube.pieces.contains_key(&MemoryId::new("b")));
        assert_eq!(of_cube.sequence, 5);
    }

    #[test]
    fn a_file_is_kept_apart_when_all_that_is_left_of_it_is() {
        let mut of_cube = OfCube::default();
        let mut take = |sequence: u64, id: &str, status: &str, reason: Value| {
            of_cube.take(written(sequence, id, Some(vec![json!(["f"]), json!(status), reason])));
            of_cube.in_order()[0].is_apart
        };
        assert!(take(1, "a", "archived", json!("gives the model orders")));
        assert!(!take(2, "b", "activated", Value::Null), "a search finds some of it");
        assert!(take(3, "b", "deleted", Value::Null), "what is deleted is not found");
        assert!(!take(4, "c", "archived", Value::Null), "somebody archived it, nobody kept it apart");
        assert!(take(5, "c", "archived", json!("gives the model orders")));
        assert!(!take(6, "a", "activated", json!("gives the model orders")), "it was released");
        assert!(take(7, "a", "deleted", Value::Null), "what is left is kept apart");
        assert!(!take(8, "c", "deleted", Value::Null), "nothing is left that could be kept apart");
    }
}
