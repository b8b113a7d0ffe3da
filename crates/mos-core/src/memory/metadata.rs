//! Metadata of a memory: common fields, and the fields of one of four forms.

use serde_json::{Map, Value, json};

use super::kinds::{MemoryForm, MemoryType, PreferenceType, SourceKind, Status, UpdateType, Visibility};
use super::source::{SourceMessage, parse_sources};
use crate::validate::Fields;

/// One earlier state of a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedVersion {
    /// Its version number.
    pub version: i64,
    /// Whether it was a raw (fast) memory.
    pub is_fast: bool,
    /// Its text.
    pub memory: String,
    /// Why it was archived.
    pub update_type: UpdateType,
    /// The archived memory's own id, when it was kept as one.
    pub archived_memory_id: Option<String>,
    /// When it was archived, ISO 8601.
    pub created_at: String,
    /// The time it speaks of.
    pub timespec: Option<String>,
    /// State or event.
    pub memory_form: Option<MemoryForm>,
}

/// Fields of memories in a tree (graph) memory.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeFields {
    /// The shelf.
    pub memory_type: MemoryType,
    /// What the memory was drawn from.
    pub sources: Option<Vec<SourceMessage>>,
    /// The embedding, when it travels with the item.
    pub embedding: Option<Vec<f32>>,
    /// When the memory was made, ISO 8601.
    pub created_at: Option<String>,
    /// Notes about uses.
    pub usage: Vec<String>,
    /// The situation it arose in.
    pub background: Option<String>,
    /// Files it belongs to.
    pub file_ids: Vec<String>,
}

impl Default for TreeFields {
    fn default() -> Self {
        Self {
            memory_type: MemoryType::Working,
            sources: None,
            embedding: None,
            created_at: None,
            usage: Vec::new(),
            background: Some(String::new()),
            file_ids: Vec::new(),
        }
    }
}

/// Fields of preferences.
#[derive(Clone, Debug, PartialEq)]
pub struct PreferenceFields {
    /// Stated or concluded.
    pub preference_type: PreferenceType,
    /// The dialogue it was found in.
    pub dialog_id: Option<String>,
    /// The words it was found in.
    pub original_text: Option<String>,
    /// The embedding, when it travels with the item.
    pub embedding: Option<Vec<f32>>,
    /// The preference.
    pub preference: Option<String>,
    /// When it was made, ISO 8601.
    pub created_at: Option<String>,
    /// The cube it is kept in.
    pub mem_cube_id: Option<String>,
    /// Score of the search that found it.
    pub score: Option<f64>,
}

/// Which kind of metadata an item carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum MetadataForm {
    /// Only the common fields.
    #[default]
    Base,
    /// A node of a tree memory.
    Tree(Box<TreeFields>),
    /// A node of a tree memory that a search returned, with its score.
    Searched(Box<TreeFields>, f64),
    /// A preference.
    Preference(Box<PreferenceFields>),
}

/// What is known about a memory besides its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Whom it belongs to.
    pub user_id: Option<String>,
    /// The conversation it arose in.
    pub session_id: Option<String>,
    /// Whether it takes part in searches.
    pub status: Option<Status>,
    /// Whether it is raw, still to be refined.
    pub is_fast: Option<bool>,
    /// Memories that replace it.
    pub evolve_to: Vec<String>,
    /// Counts up with every change, from 1.
    pub version: i64,
    /// Earlier states, oldest first.
    pub history: Vec<ArchivedVersion>,
    /// The working memory bound to it.
    pub working_binding: Option<String>,
    /// A word of the producer: `fact`, `topic`, `reasoning` ...
    pub kind: Option<String>,
    /// A short title.
    pub key: Option<String>,
    /// How sure the producer was.
    pub confidence: Option<f64>,
    /// Where it came from.
    pub source: Option<SourceKind>,
    /// Labels.
    pub tags: Option<Vec<String>>,
    /// Who may see it.
    pub visibility: Option<Visibility>,
    /// When it was last changed, ISO 8601.
    pub updated_at: Option<String>,
    /// Data of the application.
    pub info: Option<Map<String, Value>>,
    /// Data of the system.
    pub internal_info: Option<Map<String, Value>>,
    /// What earlier memories it covers.
    pub covered_history: Option<Value>,
    /// Fields of its form.
    pub form: MetadataForm,
    /// Keys this program does not know, kept as they came.
    pub extra: Map<String, Value>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            user_id: None,
            session_id: None,
            status: Some(Status::Activated),
            is_fast: None,
            evolve_to: Vec::new(),
            version: 1,
            history: Vec::new(),
            working_binding: None,
            kind: None,
            key: None,
            confidence: None,
            source: None,
            tags: None,
            visibility: None,
            updated_at: None,
            info: None,
            internal_info: None,
            covered_history: None,
            form: MetadataForm::Base,
            extra: Map::new(),
        }
    }
}

impl Metadata {
    /// The fields of a tree node, when it is one.
    pub fn tree(&self) -> Option<&TreeFields> {
        match &self.form {
            MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) => Some(fields),
            MetadataForm::Base | MetadataForm::Preference(_) => None,
        }
    }

    /// The fields of a tree node, to be changed, when it is one.
    pub fn tree_mut(&mut self) -> Option<&mut TreeFields> {
        match &mut self.form {
            MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) => Some(fields),
            MetadataForm::Base | MetadataForm::Preference(_) => None,
        }
    }

    /// The shelf it stands on, when it is a tree node.
    pub fn memory_type(&self) -> Option<MemoryType> {
        self.tree().map(|fields| fields.memory_type)
    }

    /// The embedding that travels with the item, if any.
    pub fn embedding(&self) -> Option<&[f32]> {
        match &self.form {
            MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) => fields.embedding.as_deref(),
            MetadataForm::Preference(fields) => fields.embedding.as_deref(),
            MetadataForm::Base => None,
        }
    }

    /// Removes and returns the embedding that travels with the item.
    pub fn take_embedding(&mut self) -> Option<Vec<f32>> {
        match &mut self.form {
            MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) => fields.embedding.take(),
            MetadataForm::Preference(fields) => fields.embedding.take(),
            MetadataForm::Base => None,
        }
    }

    /// Returns the JSON form with every field, absent ones as null.
    pub fn to_map(&self) -> Map<String, Value> {
        let mut map = self.base_map();
        match &self.form {
            MetadataForm::Base => {}
            MetadataForm::Tree(fields) => tree_map(fields, &mut map),
            MetadataForm::Searched(fields, relativity) => {
                tree_map(fields, &mut map);
                map.insert("relativity".to_owned(), json!(relativity));
            }
            MetadataForm::Preference(fields) => preference_map(fields, &mut map),
        }
        map.extend(self.extra.clone());
        map
    }

    fn base_map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
        put("user_id", json!(self.user_id));
        put("session_id", json!(self.session_id));
        put("status", json!(self.status));
        put("is_fast", json!(self.is_fast));
        put("evolve_to", json!(self.evolve_to));
        put("version", json!(self.version));
        put("history", Value::Array(self.history.iter().map(version_value).collect()));
        put("working_binding", json!(self.working_binding));
        put("type", json!(self.kind));
        put("key", json!(self.key));
        put("confidence", json!(self.confidence));
        put("source", json!(self.source));
        put("tags", json!(self.tags));
        put("visibility", json!(self.visibility));
        put("updated_at", json!(self.updated_at));
        put("info", json!(self.info));
        put("internal_info", json!(self.internal_info));
        put("covered_history", json!(self.covered_history));
        map
    }

    /// Reads metadata, choosing the form by the keys that are present.
    pub(crate) fn from_fields(mut fields: Fields<'_>, has: impl Fn(&str) -> bool) -> Self {
        let is_preference = has("preference_type");
        let is_tree = ["sources", "memory_type", "embedding", "background", "usage"].into_iter().any(&has);
        let relativity = if has("relativity") { fields.number("relativity") } else { None };
        let form = match (relativity, is_preference, is_tree) {
            (Some(score), _, _) => MetadataForm::Searched(Box::new(read_tree(&mut fields)), score),
            (None, true, _) if !has("memory_type") => MetadataForm::Preference(Box::new(read_preference(&mut fields))),
            (None, _, true) => MetadataForm::Tree(Box::new(read_tree(&mut fields))),
            (None, _, false) => MetadataForm::Base,
        };
        let status = if has("status") {
            fields.literal("status", Status::parse, Status::WORDS)
        } else {
            fields.take("status");
            Some(Status::Activated)
        };
        Self {
            user_id: fields.string("user_id"),
            session_id: fields.string("session_id"),
            status,
            is_fast: fields.boolean("is_fast"),
            evolve_to: fields.strings("evolve_to").unwrap_or_default(),
            version: fields.integer("version").unwrap_or(1),
            history: read_history(&mut fields),
            working_binding: fields.string("working_binding"),
            kind: fields.string("type"),
            key: fields.string("key"),
            confidence: fields.number("confidence"),
            source: fields.literal("source", SourceKind::parse, SourceKind::WORDS),
            tags: fields.strings("tags"),
            visibility: fields.literal("visibility", Visibility::parse, Visibility::WORDS),
            updated_at: fields.string("updated_at"),
            info: fields.object("info"),
            internal_info: fields.object("internal_info"),
            covered_history: fields.take("covered_history"),
            form,
            extra: fields.rest(),
        }
    }
}

fn version_value(version: &ArchivedVersion) -> Value {
    json!({
        "version": version.version,
        "is_fast": version.is_fast,
        "memory": version.memory,
        "update_type": version.update_type,
        "archived_memory_id": version.archived_memory_id,
        "created_at": version.created_at,
        "timespec": version.timespec,
        "memory_form": version.memory_form,
    })
}

fn tree_map(fields: &TreeFields, map: &mut Map<String, Value>) {
    let sources = fields.sources.as_ref().map(|list| list.iter().map(|one| one.to_value(true)).collect::<Vec<_>>());
    map.insert("memory_type".to_owned(), json!(fields.memory_type));
    map.insert("sources".to_owned(), json!(sources));
    map.insert("embedding".to_owned(), floats_value(fields.embedding.as_deref()));
    map.insert("created_at".to_owned(), json!(fields.created_at));
    map.insert("usage".to_owned(), json!(fields.usage));
    map.insert("background".to_owned(), json!(fields.background));
    map.insert("file_ids".to_owned(), json!(fields.file_ids));
}

fn preference_map(fields: &PreferenceFields, map: &mut Map<String, Value>) {
    map.insert("preference_type".to_owned(), json!(fields.preference_type));
    map.insert("dialog_id".to_owned(), json!(fields.dialog_id));
    map.insert("original_text".to_owned(), json!(fields.original_text));
    map.insert("embedding".to_owned(), floats_value(fields.embedding.as_deref()));
    map.insert("preference".to_owned(), json!(fields.preference));
    map.insert("created_at".to_owned(), json!(fields.created_at));
    map.insert("mem_cube_id".to_owned(), json!(fields.mem_cube_id));
    map.insert("score".to_owned(), json!(fields.score));
}

/// Writes each float with the fewest digits that read back as the same `f32` (0.1, not 0.10000000149).
fn floats_value(floats: Option<&[f32]>) -> Value {
    let shortest = |number: &f32| number.to_string().parse::<f64>().unwrap_or(f64::from(*number));
    floats.map_or(Value::Null, |list| list.iter().map(shortest).collect::<Vec<f64>>().into())
}

fn read_tree(fields: &mut Fields<'_>) -> TreeFields {
    let memory_type = fields.literal("memory_type", MemoryType::parse, MemoryType::WORDS);
    let sources = match fields.take("sources").map(parse_sources) {
        None => None,
        Some(Ok(sources)) => Some(sources),
        Some(Err(message)) => {
            fields.fail("sources", "list_type", message);
            None
        }
    };
    TreeFields {
        memory_type: memory_type.unwrap_or(MemoryType::Working),
        sources,
        embedding: fields.floats("embedding"),
        created_at: fields.string("created_at"),
        usage: fields.strings("usage").unwrap_or_default(),
        background: Some(fields.string("background").unwrap_or_default()),
        file_ids: fields.strings("file_ids").unwrap_or_default(),
    }
}

fn read_preference(fields: &mut Fields<'_>) -> PreferenceFields {
    let kind = fields.literal("preference_type", PreferenceType::parse, PreferenceType::WORDS);
    PreferenceFields {
        preference_type: kind.unwrap_or(PreferenceType::Explicit),
        dialog_id: fields.string("dialog_id"),
        original_text: fields.string("original_text"),
        embedding: fields.floats("embedding"),
        preference: fields.string("preference"),
        created_at: fields.string("created_at"),
        mem_cube_id: fields.string("mem_cube_id"),
        score: fields.number("score"),
    }
}

fn read_history(fields: &mut Fields<'_>) -> Vec<ArchivedVersion> {
    let Some(value) = fields.take("history") else { return Vec::new() };
    let Value::Array(values) = value else {
        fields.fail("history", "list_type", "must be a list of versions");
        return Vec::new();
    };
    let mut errors = Vec::new();
    let versions = values
        .into_iter()
        .filter_map(|value| match value {
            Value::Object(map) => Some(read_version(Fields::new(map, &["metadata", "history"], &mut errors))),
            _ => None,
        })
        .collect();
    for error in errors {
        fields.fail("history", error.kind, format!("{}: {}", error.loc.join("."), error.msg));
    }
    versions
}

fn read_version(mut fields: Fields<'_>) -> ArchivedVersion {
    ArchivedVersion {
        version: fields.integer("version").unwrap_or(1),
        is_fast: fields.boolean("is_fast").unwrap_or(false),
        memory: fields.string("memory").unwrap_or_default(),
        update_type: fields
            .literal("update_type", UpdateType::parse, UpdateType::WORDS)
            .unwrap_or(UpdateType::Unrelated),
        archived_memory_id: fields.string("archived_memory_id"),
        created_at: fields.string("created_at").unwrap_or_default(),
        timespec: fields.string("timespec"),
        memory_form: fields.literal("memory_form", MemoryForm::parse, MemoryForm::WORDS),
    }
}
