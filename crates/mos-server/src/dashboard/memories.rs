//! Memories: pages of them, one of them, and changes.

use axum::Json;
use mos::Add;
use mos::product::{ProductError, ProductResult};
use mos_core::language::Language;
use mos_core::{MemoryId, MemoryItem, Paging, Version};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::asking::{Asking, read};
use crate::extract::{InPath, JsonBody};

/// The most memories on a page.
const MAX_PAGE: usize = 100;
/// The most memories before a page.
const MAX_OFFSET: usize = 10_000_000;
/// The most states of a memory that are shown, the newest ones.
const MAX_VERSIONS: usize = 200;
/// The most tags of a memory that can be given here.
const MAX_TAGS: usize = 50;

/// The longest path or address of a source that is shown, in characters.
const MAX_PLACE: usize = 200;

/// Returns a memory as the page shows it: without its vector and without what is absent, with its provenance, and of one that
/// is kept apart `quarantine`, the reason.
pub(super) fn shown(item: &MemoryItem) -> Value {
    let mut value = item.to_compact_value();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("embedding");
        // Told by the operation for it, from the record.
        metadata.shift_remove("history");
    }
    value["provenance"] = provenance(item);
    if let Some(reason) = item.quarantine_reason() {
        value["quarantine"] = json!(reason);
    }
    value
}

/// Returns what a memory was drawn from, where that is, and how far it can be trusted.
pub(super) fn provenance(item: &MemoryItem) -> Value {
    let found = item.metadata.provenance();
    let place: Option<String> = found.place.map(|place| place.chars().take(MAX_PLACE).collect());
    json!({"source": found.source.in_language(Language::English), "place": place, "trust": found.trust})
}

/// Lists a page of a cube, newest first.
pub(super) async fn list(asking: Asking) -> Answer {
    let cube = asking.cube()?;
    let conditions = asking.conditions();
    let filter = conditions.listing()?;
    let (offset, limit) = (asking.number("offset", 0, MAX_OFFSET)?, asking.number("limit", 25, MAX_PAGE)?);
    let page = asking.mos.memory_page(&asking.user, &cube, &filter, Paging { offset, limit }).await?;
    let memories: Vec<Value> = page.entries.iter().map(shown).collect();
    Ok(Json(json!({"memories": memories, "total": page.total, "offset": offset, "limit": limit})))
}

/// Returns one memory.
pub(super) async fn one(asking: Asking, InPath(id): InPath) -> Answer {
    let (cube, id) = (asking.cube()?, MemoryId::parse(id)?);
    let item = asking.mos.get(&asking.user, Some(&cube), &id).await?;
    Ok(Json(shown(&item)))
}

#[derive(Debug, Deserialize)]
struct Told {
    text: String,
}

/// Stores a memory, word for word.
pub(super) async fn add(asking: Asking, JsonBody(body): JsonBody) -> Answer {
    asking.to_write()?;
    let cube = asking.cube()?;
    let Told { text } = read(body)?;
    let ids = asking.mos.add(Add::text(text.trim()).user(asking.user.clone()).cube(cube)).await?;
    Ok(Json(json!({ "ids": ids })))
}

#[derive(Debug, Deserialize)]
struct Changed {
    text: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
    /// The version that was looked at: one that somebody changed meanwhile stays.
    #[serde(default)]
    version: Option<i64>,
}

impl Changed {
    /// # Errors
    /// Status 409 when somebody has changed the memory since it was looked at.
    fn apply(&self, item: &mut MemoryItem) -> ProductResult<()> {
        if self.version.is_some_and(|version| version != item.metadata.version) {
            let told = "this memory was changed since you opened it; load it again, then repeat your change";
            return Err(ProductError::new(409, told));
        }
        self.text.trim().clone_into(&mut item.memory);
        if let Some(tags) = &self.tags {
            item.metadata.tags = Some(tags.clone());
        }
        Ok(())
    }
}

/// Changes text and tags of a memory.
pub(super) async fn update(asking: Asking, InPath(id): InPath, JsonBody(body): JsonBody) -> Answer {
    asking.to_write()?;
    let (cube, id) = (asking.cube()?, MemoryId::parse(id)?);
    let changed: Changed = read(body)?;
    if changed.tags.as_ref().is_some_and(|tags| tags.len() > MAX_TAGS) {
        return Err(ProductError::bad_value(format!("a memory can be given at most {MAX_TAGS} tags")).into());
    }
    let known = asking.mos.get(&asking.user, Some(&cube), &id).await?;
    let change = |item: &mut MemoryItem| changed.apply(item);
    let item = asking.mos.update_with(&asking.user, Some(&cube), known, change).await?;
    Ok(Json(shown(&item)))
}

/// Removes a memory; undoing brings it back.
pub(super) async fn remove(asking: Asking, InPath(id): InPath) -> Answer {
    asking.to_write()?;
    let (cube, id) = (asking.cube()?, MemoryId::parse(id)?);
    asking.mos.delete(&asking.user, Some(&cube), &id).await?;
    Ok(Json(json!({"removed": id})))
}

/// Returns the states of a memory, newest first.
pub(super) async fn history(asking: Asking, InPath(id): InPath) -> Answer {
    let (cube, id) = (asking.cube()?, MemoryId::parse(id)?);
    let versions = asking.mos.history(&asking.user, Some(&cube), &id).await?;
    let newest: Vec<Value> = versions.iter().rev().take(MAX_VERSIONS).map(shown_version).collect();
    Ok(Json(json!({"versions": newest, "total": versions.len()})))
}

fn shown_version(version: &Version) -> Value {
    let tags = version.item.as_ref().and_then(|item| item.metadata.tags.clone());
    json!({
        "number": version.number,
        "at": version.at,
        "actor": version.origin.actor,
        "reason": version.origin.reason,
        "memory": version.item.as_ref().map(|item| item.memory.as_str()),
        "status": version.item.as_ref().and_then(|item| item.metadata.status),
        "tags": tags,
    })
}

/// Takes back the last change of a memory, also its removal.
pub(super) async fn undo(asking: Asking, InPath(id): InPath) -> Answer {
    asking.to_write()?;
    let (cube, id) = (asking.cube()?, MemoryId::parse(id)?);
    let item = asking.mos.undo(&asking.user, Some(&cube), &id).await?;
    Ok(Json(shown(&item)))
}
