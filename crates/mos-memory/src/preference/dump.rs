//! The preferences of a cube as a file: MemOS' lists of vector items, one list per preference type.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use mos_core::{
    EmbeddingSpace, EmbeddingWrite, Filter, MemoryError, MemoryId, MemoryItem, Origin, PreferenceType, WriteBatch,
};
use serde_json::{Map, Value, json};

use super::item::{as_preference, preference_type};
use super::{PrefText, is_preference};
use crate::embedded::text_to_embed;
use crate::file;
use crate::shelf::check_text;

/// Where MemOS puts the text of a preference, in the order of its versions.
const TEXT_KEYS: [&str; 3] = ["memory", "dialog_str", "preference"];

impl PrefText {
    pub(super) async fn dump_to(&self, dir: &Path) -> Result<(), MemoryError> {
        let items = self.list(&Filter::Everything).await?;
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        let mut vectors: HashMap<MemoryId, Vec<f32>> =
            self.shelf().record.embeddings(&self.shelf().scope, &ids).await?.into_iter().collect();
        let mut lists = Map::new();
        for kind in [PreferenceType::Explicit, PreferenceType::Implicit] {
            let of_kind = items.iter().filter(|item| preference_type(item) == kind);
            let entries: Vec<Value> = of_kind.map(|item| entry(item, vectors.remove(&item.id))).collect();
            lists.insert(kind.as_str().to_owned(), Value::Array(entries));
        }
        file::write_json(&dir.join(&self.shelf().file_name), Value::Object(lists)).await
    }

    pub(super) async fn load_from(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError> {
        let path = dir.join(&self.shelf().file_name);
        let Some(lists) = file::read_lists(&path).await? else { return Ok(0) };
        let dumped = self.read(&path, lists)?;
        let n_items = dumped.items.len();
        if n_items == 0 {
            return Ok(0);
        }
        self.refuse_other_memories(&path, &dumped.items).await?;
        let embeddings = self.embeddings_of(dir, &dumped).await?;
        let batch = WriteBatch { put: dumped.items, embeddings: Some(embeddings), ..WriteBatch::new(origin) };
        self.shelf().record.apply(&self.shelf().scope, batch).await?;
        Ok(n_items)
    }

    fn read(&self, path: &Path, lists: Vec<(String, Vec<Value>)>) -> Result<Dumped, MemoryError> {
        let mut dumped = Dumped { items: Vec::new(), vectors: Vec::new() };
        let now = self.shelf().clock.now_text();
        let mut seen = HashSet::new();
        for (name, entries) in lists {
            let kind = PreferenceType::parse(&name).ok_or_else(|| MemoryError::File {
                path: path.display().to_string(),
                detail: format!("is not a file of preferences: it has a list `{name}`"),
            })?;
            for (index, entry) in entries.into_iter().enumerate() {
                let bad = |detail: String| file::bad_entry(path, index, format!("of {name}: {detail}"));
                let (item, vector) = read_entry(kind, entry, &now).map_err(bad)?;
                if !seen.insert(item.id.clone()) {
                    return Err(bad(format!("the id `{}` is there twice", item.id)));
                }
                dumped.items.push(item);
                dumped.vectors.push(vector);
            }
        }
        Ok(dumped)
    }

    /// A file of preferences replaces preferences and nothing else.
    async fn refuse_other_memories(&self, path: &Path, items: &[MemoryItem]) -> Result<(), MemoryError> {
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        match self.shelf().get_by_ids(&ids).await?.into_iter().find(|item| !is_preference(item)) {
            None => Ok(()),
            Some(other) => Err(MemoryError::File {
                path: path.display().to_string(),
                detail: format!("`{}` is the id of a memory of this cube that is no preference", other.id),
            }),
        }
    }

    /// The file's own vectors when the dump says which encoder made them and the cube can take them, else new ones.
    async fn embeddings_of(&self, dir: &Path, dumped: &Dumped) -> Result<EmbeddingWrite, MemoryError> {
        let have = self.shelf().record.embedding_space(&self.shelf().scope).await?;
        let complete: Option<Vec<Vec<f32>>> = dumped.vectors.iter().cloned().collect();
        let (space, vectors) = match (space_of_dump(dir).await?, complete) {
            (Some(made_with), Some(vectors)) if have.as_ref().is_none_or(|have| *have == made_with) => {
                (made_with, vectors)
            }
            _ => {
                let texts: Vec<String> = dumped.items.iter().map(text_to_embed).collect();
                (self.checked_space().await?, self.parts.embedder.embed(&texts).await?)
            }
        };
        let ids = dumped.items.iter().map(|item| item.id.clone());
        Ok(EmbeddingWrite { space, vectors: ids.zip(vectors).collect(), made_of: None, aside: false })
    }
}

/// A file as it was read: the vectors stand beside the items.
struct Dumped {
    items: Vec<MemoryItem>,
    vectors: Vec<Option<Vec<f32>>>,
}

fn entry(item: &MemoryItem, vector: Option<Vec<f32>>) -> Value {
    let mut metadata = item.to_compact_value();
    let payload = metadata.get_mut("metadata").map(Value::take).unwrap_or_default();
    json!({
        "id": item.id,
        "memory": item.memory,
        "original_text": item.metadata.extra.get("original_text"),
        "vector": vector,
        "payload": payload,
    })
}

fn read_entry(kind: PreferenceType, entry: Value, now: &str) -> Result<(MemoryItem, Option<Vec<f32>>), String> {
    let Value::Object(mut entry) = entry else { return Err("is not an object".to_owned()) };
    let Some(Value::Object(mut payload)) = entry.shift_remove("payload") else {
        return Err("has no `payload`".to_owned());
    };
    let text = TEXT_KEYS.iter().find_map(|key| said(&entry, key).or_else(|| said(&payload, key)));
    let text = text.ok_or_else(|| format!("has no text (one of {})", TEXT_KEYS.join(", ")))?.to_owned();
    check_text(&text).map_err(|error| error.to_string())?;
    payload.insert("preference_type".to_owned(), Value::from(kind.as_str()));
    payload.shift_remove("dialog_str");
    let id = entry.get("id").or_else(|| payload.get("id")).cloned().unwrap_or_default();
    let item = MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": payload}), String::new)
        .map_err(|error| error.to_string())?;
    let vector = match entry.shift_remove("vector") {
        None | Some(Value::Null) => None,
        Some(value) => Some(serde_json::from_value(value).map_err(|_| "`vector` is not a list of numbers".to_owned())?),
    };
    Ok((as_preference(item, now).map_err(|error| error.to_string())?, vector))
}

fn said<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

/// What our manifest says that the vectors of a dump were made with.
async fn space_of_dump(dir: &Path) -> Result<Option<EmbeddingSpace>, MemoryError> {
    let manifest = file::read_object(&dir.join("manifest.json")).await?;
    let space = manifest.and_then(|mut manifest| manifest.shift_remove("embedding_space"));
    Ok(space.and_then(|space| serde_json::from_value(space).ok()))
}
