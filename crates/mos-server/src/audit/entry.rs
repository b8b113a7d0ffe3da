//! What a line says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most cubes that a line names.
const MAX_CUBES: usize = 100;

/// The most users that a line names.
const MAX_USERS: usize = 10;

/// The most names and values of a query string that are looked at.
const MAX_PAIRS: usize = 200;

/// The most bytes of an id that a line names.
const MAX_ID_BYTES: usize = mos_core::id::MAX_ID_BYTES;

/// Fields of bodies, query strings and paths that name cubes: one, or a list.
const CUBE_FIELDS: [&str; 11] = [
    "cube_id",
    "mem_cube_id",
    "writable_cube_ids",
    "mem_cube_ids",
    "cube_ids",
    "allow_knowledgebase_ids",
    "knowledgebase_id",
    "cubes",
    "cube",
    "cube_name_or_path",
    "mem_cube_name_or_path",
];

/// Fields of bodies, query strings and paths that name users: one, or a list. Who acts goes before whom it is done to.
const USER_FIELDS: [&str; 5] = ["user_id", "user", "owner_id", "agent_id", "target_user_id"];

/// The field that names a user in [`USERS_BY_NAME`]; everywhere else it says what somebody is called, which is no id.
const USER_NAME_FIELD: &str = "user_name";

/// Operations whose `user_name` is the id of a user.
const USERS_BY_NAME: &[&str] = &["/admin/keys"];

/// The field of a chat's `metadata` that names cubes, with commas between them.
const CUBES_OF_CHAT: &str = "/metadata/mos_cube";

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
    /// Further users that it named: the one that a cube is shared with, the owner of a new cube.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_users: Vec<String>,
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
    /// As they came.
    users: Vec<String>,
    tool: Option<&'static str>,
    has_users_by_name: bool,
}

/// What a request names, noted while it is read; in the extensions of the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

impl Notes {
    /// For a request of this path.
    pub(super) fn of(path: &str) -> Self {
        let has_users_by_name = USERS_BY_NAME.contains(&path);
        Self(Arc::new(Mutex::new(Noted { has_users_by_name, ..Noted::default() })))
    }

    /// Notes the cubes and the users that a body names.
    pub(crate) fn read(&self, body: &Value) {
        for field in CUBE_FIELDS {
            texts(body.get(field), |cube| self.cube(cube));
        }
        texts(body.pointer(CUBES_OF_CHAT), |cubes| self.listed_cubes(cubes));
        if self.noted().has_users_by_name {
            texts(body.get(USER_NAME_FIELD), |user| self.user(user));
        }
        for field in USER_FIELDS {
            texts(body.get(field), |user| self.user(user));
        }
    }

    /// Notes the cubes and the users that a query string names.
    pub(super) fn read_query(&self, uri: &Uri) {
        // Whoever answers the request refuses a query string that cannot be read.
        if let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) {
            self.read_pairs(pairs);
        }
    }

    /// Notes the cubes and the users among names and values.
    pub(super) fn read_pairs(&self, pairs: impl IntoIterator<Item = (String, String)>) {
        let mut map: Map<String, Value> = Map::new();
        for (name, text) in pairs.into_iter().filter(|(_, text)| is_id(text)).take(MAX_PAIRS) {
            match map.get_mut(&name) {
                // Named twice.
                Some(Value::Array(texts)) => texts.push(text.into()),
                Some(first) => *first = Value::Array(vec![first.take(), text.into()]),
                None => drop(map.insert(name, text.into())),
            }
        }
        self.read(&Value::Object(map));
    }

    /// Notes what headers name: the user of one, and the cubes of another, with commas between them.
    pub(super) fn read_headers(&self, headers: &HeaderMap, user: &str, cubes: &str) {
        let text = |name: &str| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        if let Some(user) = text(user) {
            self.user(user);
        }
        if let Some(cubes) = text(cubes) {
            self.listed_cubes(cubes);
        }
    }

    fn listed_cubes(&self, listed: &str) {
        listed.split(',').for_each(|cube| self.cube(cube.trim()));
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a cube.
    pub(crate) fn cube(&self, id: &str) {
        let mut noted = self.noted();
        if is_id(id) && noted.cubes.len() < MAX_CUBES {
            noted.cubes.insert(id.to_owned());
        }
    }

    /// Notes a user.
    pub(crate) fn user(&self, id: &str) {
        let mut noted = self.noted();
        if is_id(id) && noted.users.len() < MAX_USERS && !noted.users.iter().any(|user| user == id) {
            noted.users.push(id.to_owned());
        }
    }

    /// Notes that the request calls a tool that changes something.
    pub(crate) fn tool(&self, name: &'static str) {
        self.noted().tool = Some(name);
    }

    /// Whether the request calls a tool that changes something.
    pub(super) fn names_a_tool(&self) -> bool {
        self.noted().tool.is_some()
    }

    /// Writes what was noted into an entry.
    pub(super) fn fill(&self, entry: &mut Entry) {
        let noted = self.noted();
        entry.cubes = noted.cubes.iter().cloned().collect();
        let mut users = noted.users.iter().cloned();
        entry.named_user = users.next();
        entry.other_users = users.collect();
        if let Some(tool) = noted.tool {
            entry.what = format!("{} {tool}", entry.what);
        }
    }
}

/// Tells the text of a value, or each text of a list.
fn texts(value: Option<&Value>, mut tell: impl FnMut(&str)) {
    match value {
        Some(Value::String(text)) => tell(text),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).for_each(tell),
        _ => {}
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID_BYTES && !text.chars().any(char::is_control)
}

/// Returns what stands in the open places of a path, by their names.
pub(super) fn parameters<'a>(places: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    places.filter(|(_, text)| is_id(text)).map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
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
    fn query_strings_and_headers_are_noted_as_bodies_are() {
        let notes = Notes::default();
        notes.read_query(&"/dashboard/api/memories/1?user_id=ann%20lee&cube=notes&text=secret".parse().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert("x-mos-user", "bob".parse().unwrap());
        headers.insert("x-mos-cube", "work, home,".parse().unwrap());
        notes.read_headers(&headers, "x-mos-user", "x-mos-cube");
        notes.read(&json!({"user": "ann lee", "metadata": {"mos_cube": "garden"}, "owner_id": "eve", "user_id": ""}));
        let mut entry = Entry::default();
        notes.fill(&mut entry);
        assert_eq!(entry.cubes, ["garden", "home", "notes", "work"]);
        assert_eq!(
            (entry.named_user.as_deref(), entry.other_users.clone()),
            (Some("ann lee"), vec!["bob".to_owned(), "eve".to_owned()])
        );
        assert!(!serde_json::to_string(&entry).unwrap().contains("secret"));
    }

    #[test]
    fn what_somebody_is_called_is_not_noted() {
        for (path, expected) in [("/admin/keys", Some("ann")), ("/admin/users", None), ("/dream/trigger/cube", None)] {
            let notes = Notes::of(path);
            notes.read(&json!({"user_name": "ann", "user_id": ""}));
            notes.read_query(&format!("{path}?user_name=ann").parse().unwrap());
            let mut entry = Entry::default();
            notes.fill(&mut entry);
            assert_eq!(entry.named_user.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn open_places_of_a_path_are_named() {
        let found = parameters([("key_id", "12"), ("rest", "")].into_iter());
        assert_eq!(found, [("key_id".to_owned(), "12".to_owned())].into());
    }
}
