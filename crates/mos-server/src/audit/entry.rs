//! What a line says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most cubes that a line names.
const MAX_CUBES: usize = 100;

/// The most bytes of an id that a line names.
const MAX_ID_BYTES: usize = mos_core::id::MAX_ID_BYTES;

/// Fields of bodies that name cubes: one, or a list.
const CUBE_FIELDS: [&str; 7] =
    ["cube_id", "mem_cube_id", "writable_cube_ids", "mem_cube_ids", "cube_ids", "allow_knowledgebase_ids", "cubes"];

/// Fields of bodies that name the user who is meant.
const USER_FIELDS: [&str; 3] = ["user_id", "user_name", "target_user_id"];

/// One change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Numbers the lines; set when it is written.
    #[serde(default)]
    pub(crate) number: u64,
    /// When the request came, ISO 8601.
    pub(crate) at: String,
    /// The id of the key; null for an open server.
    pub(crate) key: Option<String>,
    /// The user whose key it is; null for a program's.
    pub(crate) user: Option<String>,
    /// Method and path of the operation.
    pub(crate) what: String,
    /// What stood in the places of the path that are left open.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parameters: BTreeMap<String, String>,
    /// The user that the request named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) named_user: Option<String>,
    /// The cubes that the request named.
    pub(crate) cubes: Vec<String>,
    /// The status of the answer; 0 when the caller was gone before there was one.
    pub(crate) status: u16,
    /// The id of the request in logs and traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
}

#[derive(Debug, Default)]
struct Noted {
    cubes: BTreeSet<String>,
    user: Option<String>,
    tool: Option<&'static str>,
}

/// What a request names, noted while it is read; in the extensions of the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

impl Notes {
    /// Notes the cubes and the user that a body names.
    pub(crate) fn read(&self, body: &Value) {
        for field in CUBE_FIELDS {
            match body.get(field) {
                Some(Value::String(cube)) => self.cube(cube),
                Some(Value::Array(cubes)) => cubes.iter().filter_map(Value::as_str).for_each(|cube| self.cube(cube)),
                _ => {}
            }
        }
        if let Some(user) = USER_FIELDS.iter().find_map(|field| body.get(*field).and_then(Value::as_str)) {
            self.user(user);
        }
    }

    /// Notes a cube.
    pub(crate) fn cube(&self, id: &str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_id(id) && noted.cubes.len() < MAX_CUBES {
            noted.cubes.insert(id.to_owned());
        }
    }

    /// Notes the user who is meant.
    pub(crate) fn user(&self, id: &str) {
        if is_id(id) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).user = Some(id.to_owned());
        }
    }

    /// Notes that the request calls a tool that changes something.
    pub(crate) fn tool(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tool = Some(name);
    }

    /// Whether the request calls a tool that changes something.
    pub(super) fn names_a_tool(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tool.is_some()
    }

    /// Writes what was noted into an entry.
    pub(super) fn fill(&self, entry: &mut Entry) {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entry.cubes = noted.cubes.iter().cloned().collect();
        entry.named_user.clone_from(&noted.user);
        if let Some(tool) = noted.tool {
            entry.what = format!("{} {tool}", entry.what);
        }
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID_BYTES && !text.chars().any(char::is_control)
}

/// Returns what stands in the open places of a matched path.
pub(super) fn parameters(matched: &str, path: &str) -> BTreeMap<String, String> {
    let pairs = matched.split('/').zip(path.split('/'));
    let open = pairs.filter_map(|(pattern, part)| {
        let name = pattern.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*');
        is_id(part).then(|| (name.to_owned(), part.to_owned()))
    });
    open.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_noted_by_its_ids_alone() {
        let notes = Notes::default();
        notes.read(&json!({
            "user_id": "ann",
            "mem_cube_id": "notes",
            "writable_cube_ids": ["work", "notes", 1],
            "messages": "My secret is 1234",
            "cubes": ["x".repeat(1000)],
        }));
        let mut entry = Entry::default();
        notes.fill(&mut entry);
        assert_eq!(
            (entry.cubes.clone(), entry.named_user.as_deref()),
            (vec!["notes".into(), "work".into()], Some("ann"))
        );
        assert!(!serde_json::to_string(&entry).unwrap().contains("1234"));
        notes.read(&json!(["no object"]));
    }

    #[test]
    fn open_places_of_a_path_are_named() {
        let found = parameters("/admin/keys/{key_id}", "/admin/keys/12");
        assert_eq!(found, [("key_id".to_owned(), "12".to_owned())].into());
        assert!(parameters("/admin/keys", "/admin/keys").is_empty());
    }
}
