//! `mem_read`: what a model draws from raw memories.
//!
//! The refined memories are stored first, durably; then each raw one says in `metadata.internal_info.refined_to` what was
//! drawn from it. Its id stays known and it stays found, unless [`ReadOptions::keep_raw`] says otherwise: then it is archived,
//! when there are memories that name it as their source, and never before. A model that fails leaves it as it was.

mod again;

use std::collections::HashSet;

use mos_core::memory::SourceMessage;
use mos_core::{MemReader, MemoryId, MemoryItem, MemoryType, Outcome, ReadMode, Reading, Status, TextMemory};
use serde_json::{Value, json};

use super::steps::{
    Failures, NODE_ID, about, archive, as_archived, finish, ids_of, is_drawn, is_in_use, is_raw, of_batch, original,
};
use crate::event::{ADD_MEMORY, ARCHIVE_MEMORY, Event, counted};
use crate::handler::{HandlerContext, HandlerError};
use crate::label::MEM_ORGANIZE;
use crate::message::ScheduleMessage;
use again::{Kind, Portion, portions};

/// Where a raw memory names what was drawn from it; empty when a model found nothing in it.
pub const REFINED_TO: &str = "refined_to";

/// The most reasons of a reader that one error tells.
const MAX_REASONS: usize = 3;

/// How raw memories are refined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether raw memories stay in use beside what was drawn from them. Both together answer more questions than the refined
    /// ones alone. Pieces of files always stay.
    pub keep_raw: bool,
    /// Whether what was drawn is organised afterwards.
    pub organize: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { keep_raw: true, organize: false }
    }
}

/// Handles `mem_read` messages, whose content is a JSON list of ids.
pub(crate) async fn handle(
    context: &HandlerContext,
    messages: &[ScheduleMessage],
    options: ReadOptions,
) -> Result<(), HandlerError> {
    for (index, message) in messages.iter().enumerate() {
        refine_all(context, message, options).await.map_err(|error| of_batch(index, error))?;
    }
    Ok(())
}

async fn refine_all(
    context: &HandlerContext,
    message: &ScheduleMessage,
    options: ReadOptions,
) -> Result<(), HandlerError> {
    let ids = ids_of(message)?;
    let Some(reader) = context.cube.reader.clone() else {
        let reason = "the cube has no reader, so that its raw memories stay as they are; configure `mem_reader`";
        return Err(HandlerError::give_up(reason));
    };
    let raws = raw_memories(context.cube.text.as_ref(), &ids).await?;
    let raw_ids: Vec<MemoryId> = raws.iter().map(|raw| raw.id.clone()).collect();
    let mut failures = Failures::default();
    for portion in portions(raws) {
        // A portion is read again as a whole, or its key would be another one.
        if portion.raws.iter().all(is_refined) {
            continue;
        }
        let refining = Refining { context, message, options, portion: &portion };
        if let Err(error) = refining.refine(reader.as_ref()).await {
            let first = portion.raws.first().map(|raw| raw.id.to_string()).unwrap_or_default();
            failures.add(&format!("memory {first} stays raw"), &error);
        }
    }
    failures.into_result()?;
    if options.organize {
        organize(context, message, &raw_ids).await?;
    }
    Ok(())
}

/// The raw memories that exist among `ids`, in the order asked; of working copies their originals.
async fn raw_memories(text: &dyn TextMemory, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, HandlerError> {
    let mut raws: Vec<MemoryItem> = Vec::with_capacity(ids.len());
    for found in text.get_by_ids(ids).await? {
        let found = match found.working_copy_of().map(MemoryId::from) {
            Some(shown) => original(text, &shown).await?,
            None => Some(found),
        };
        let Some(raw) = found else { continue };
        let is_left = raw.metadata.status != Some(Status::Deleted) && (is_in_use(&raw) || is_refined(&raw));
        if is_left && is_unread(&raw) && !raws.iter().any(|known| known.id == raw.id) {
            raws.push(raw);
        }
    }
    Ok(raws)
}

/// Whether nothing about a memory says that somebody has read it: it is marked as raw, or it has nothing but its text.
fn is_unread(item: &MemoryItem) -> bool {
    is_raw(item) || (item.metadata.kind.is_none() && item.metadata.key.is_none())
}

fn is_refined(raw: &MemoryItem) -> bool {
    raw.metadata.internal_info.as_ref().is_some_and(|info| info.contains_key(REFINED_TO))
}

/// Has everything organised that was drawn from raw memories, also by an attempt before this one.
async fn organize(
    context: &HandlerContext,
    message: &ScheduleMessage,
    raw_ids: &[MemoryId],
) -> Result<(), HandlerError> {
    let raws = context.cube.text.get_by_ids(raw_ids).await?;
    let noted = |raw: &MemoryItem| raw.metadata.internal_info.as_ref().and_then(|info| info.get(REFINED_TO)).cloned();
    let drawn: Vec<Value> = raws
        .iter()
        .filter_map(noted)
        .flat_map(|ids| match ids {
            Value::Array(ids) => ids,
            _ => Vec::new(),
        })
        .collect();
    if !drawn.is_empty() {
        context.submit(vec![message.following(MEM_ORGANIZE, Value::Array(drawn).to_string())]).await?;
    }
    Ok(())
}

/// One portion on its way.
struct Refining<'a> {
    context: &'a HandlerContext,
    message: &'a ScheduleMessage,
    options: ReadOptions,
    portion: &'a Portion,
}

impl Refining<'_> {
    async fn refine(&self, reader: &dyn MemReader) -> Result<(), HandlerError> {
        let cube = &self.context.cube;
        let input = self.portion.input(&self.message.user_id, &cube.info.cube_id, custom_tags(self.message));
        let mut reading = reader.read(input, ReadMode::Fine).await?;
        if let Some(reason) = failure(&reading, self.portion.kind) {
            return Err(HandlerError::Retry(reason));
        }
        let is_whole = reading.report.count(Outcome::Reference) == 0;
        self.trim(&mut reading);
        // The model took its time: what was deleted meanwhile must not come back by what was drawn from it.
        let present = self.present().await?;
        if present.is_empty() {
            return Ok(());
        }
        for items in [&mut reading.memories, &mut reading.raw] {
            items.retain(|item| self.rests_on(item, &present));
        }
        let drawn = if reading.n_memories() == 0 { Vec::new() } else { self.store(reading).await? };
        // Where a file or an image could not be fetched, there may be something to find another time.
        if is_whole || !drawn.is_empty() {
            self.mark(&drawn).await?;
        }
        self.tell(&drawn).await
    }

    /// Returns which of the raw memories are still there.
    async fn present(&self) -> Result<Vec<MemoryId>, HandlerError> {
        let ids: Vec<MemoryId> = self.portion.raws.iter().map(|raw| raw.id.clone()).collect();
        let found = self.context.cube.text.get_by_ids(&ids).await?;
        let left = found.into_iter().filter(|raw| raw.metadata.status != Some(Status::Deleted));
        Ok(left.map(|raw| raw.id).collect())
    }

    /// Whether one of the raw memories that an item names is among those that are still there; so it is for one that names none.
    fn rests_on(&self, item: &MemoryItem, present: &[MemoryId]) -> bool {
        let named: Vec<&MemoryId> = self.portion.raws.iter().map(|raw| &raw.id).filter(|id| names(item, id)).collect();
        named.is_empty() || named.into_iter().any(|id| present.contains(id))
    }

    /// Leaves out what the raw memories hold already, and names them as sources.
    fn trim(&self, reading: &mut Reading) {
        let raws = &self.portion.raws;
        match self.portion.kind {
            Kind::Said => reading.raw.clear(),
            Kind::Chunk => {
                reading.raw.clear();
                reading.raw_files.clear();
            }
            // Of a file that was read at last, pieces that could not be refined are all there is.
            Kind::Reference => {
                reading.raw.retain(|item| !raws.iter().any(|raw| raw.id == item.id || raw.memory == item.memory));
            }
        }
        for item in reading.memories.iter_mut().chain(&mut reading.raw) {
            self.name_sources(item);
        }
    }

    fn name_sources(&self, item: &mut MemoryItem) {
        let raws = &self.portion.raws;
        let Some(fields) = item.metadata.tree_mut() else { return };
        if self.portion.kind == Kind::Chunk
            && let Some(known) = raws.first().and_then(|raw| raw.metadata.tree())
        {
            // It came as a file without a name; what it is a piece of, the raw memory knows.
            fields.sources.clone_from(&known.sources);
            fields.file_ids.clone_from(&known.file_ids);
        }
        let sources = fields.sources.get_or_insert_default();
        if sources.is_empty() {
            sources.push(SourceMessage { kind: "memory".to_owned(), ..SourceMessage::default() });
        }
        for source in sources {
            let held = raws.iter().find(|raw| holds(raw, source)).or(raws.first());
            if let Some(raw) = held {
                source.extra.insert(NODE_ID.to_owned(), json!(raw.id.as_str()));
                if is_trusted_less_than_its_sources(raw) {
                    source.trust_as(raw);
                }
            }
        }
    }

    /// Stores what was drawn and returns it as it is known now.
    async fn store(&self, reading: Reading) -> Result<Vec<MemoryItem>, HandlerError> {
        let first = self.portion.raws.first().map(|raw| raw.id.as_str()).unwrap_or_default();
        let key = self.context.key(self.message, &format!("read {first}"));
        let (cube, origin) = (&self.context.cube, self.context.origin(self.message));
        let pieces: HashSet<MemoryId> = reading.raw.iter().map(|item| item.id.clone()).collect();
        let stored = cube.work.store(reading, &key).await?;
        let mut drawn = Vec::with_capacity(stored.ids.len());
        for item in cube.text.get_by_ids(&stored.ids).await? {
            if self.portion.raws.iter().any(|raw| raw.id == item.id) {
                continue;
            }
            let is_finished = is_drawn(&item) && !pieces.contains(&item.id);
            drawn.push(if is_finished { finish(cube.text.as_ref(), item, &origin).await? } else { item });
        }
        Ok(drawn)
    }

    /// Writes into each raw memory what was drawn from it.
    async fn mark(&self, drawn: &[MemoryItem]) -> Result<(), HandlerError> {
        let (text, origin) = (&self.context.cube.text, self.context.origin(self.message));
        for raw in &self.portion.raws {
            // Somebody may have changed it meanwhile.
            let Some(present) = original(text.as_ref(), &raw.id).await? else { continue };
            if present.metadata.status == Some(Status::Deleted) {
                continue;
            }
            let ids: Vec<MemoryId> =
                drawn.iter().filter(|item| names(item, &raw.id)).map(|item| item.id.clone()).collect();
            let mut next = present.clone();
            let noted: Vec<&str> = ids.iter().map(MemoryId::as_str).collect();
            next.metadata.internal_info.get_or_insert_default().insert(REFINED_TO.to_owned(), json!(noted));
            let gives_way = !self.options.keep_raw && self.portion.kind != Kind::Chunk && !ids.is_empty();
            if gives_way {
                next = as_archived(next, &ids);
                self.archive_named(&present, &ids).await?;
            }
            if next != present {
                let id = present.id.clone();
                text.update(&id, next, origin.clone()).await?;
            }
        }
        Ok(())
    }

    /// Archives the nodes of working memory that a raw memory written by MemOS names in its background.
    async fn archive_named(&self, raw: &MemoryItem, ids: &[MemoryId]) -> Result<(), HandlerError> {
        let text = self.context.cube.text.as_ref();
        let background = raw.metadata.tree().and_then(|fields| fields.background.as_deref()).unwrap_or_default();
        let named: Vec<MemoryId> = working_bindings(background).into_iter().map(MemoryId::from).collect();
        for item in text.get_by_ids(&named).await? {
            // Our own copies follow their originals.
            if item.metadata.memory_type() == Some(MemoryType::Working) && item.working_copy_of().is_none() {
                archive(text, &item.id, ids, self.context.origin(self.message)).await?;
            }
        }
        Ok(())
    }

    async fn tell(&self, drawn: &[MemoryItem]) -> Result<(), HandlerError> {
        let (Some(first), false) = (self.portion.raws.first(), drawn.is_empty()) else { return Ok(()) };
        let (name, now) = (first.id.as_str(), self.context.clock.now());
        let drawn_memories = counted(drawn.len(), "memory was", "memories were");
        let said = format!("{drawn_memories} drawn from {}", counted(self.portion.raws.len(), "raw one", "raw ones"));
        let mut events = vec![about(Event::of(self.message, ADD_MEMORY, name, said, now), drawn)];
        if !self.options.keep_raw && self.portion.kind != Kind::Chunk {
            let raws: Vec<MemoryItem> =
                self.portion.raws.iter().filter(|raw| drawn.iter().any(|item| names(item, &raw.id))).cloned().collect();
            if !raws.is_empty() {
                let gave_way = counted(raws.len(), "raw memory", "raw memories");
                let said = format!("{gave_way} gave way to what was drawn");
                events.push(about(Event::of(self.message, ARCHIVE_MEMORY, name, said, now), &raws));
            }
        }
        self.context.record(events).await
    }
}

/// Why a portion counts as not refined: the model failed, and what was given would stay as it is.
fn failure(reading: &Reading, kind: Kind) -> Option<String> {
    let failed: Vec<&str> = reading
        .report
        .items
        .iter()
        .filter(|item| item.outcome == Outcome::Raw)
        .map(|item| item.reason.as_deref().unwrap_or("the model failed"))
        .collect();
    // Of a file, some pieces may be refined and others not.
    let counts = kind == Kind::Said || reading.memories.is_empty();
    if failed.is_empty() || !counts {
        return None;
    }
    let mut reasons: Vec<&str> = Vec::new();
    for reason in failed {
        if reasons.len() < MAX_REASONS && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    Some(reasons.join("; "))
}

/// Whether what is drawn from a raw memory does not tell by its sources how far it can be trusted: the raw one has none, or it
/// is of a kind that is trusted less.
fn is_trusted_less_than_its_sources(raw: &MemoryItem) -> bool {
    let sources = raw.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    let of_sources = sources.iter().map(|source| source.provenance().trust).max();
    of_sources.is_none_or(|trust| trust < raw.metadata.trust())
}

/// Whether a raw memory holds what a source quotes.
fn holds(raw: &MemoryItem, source: &SourceMessage) -> bool {
    let content = source.content.as_deref().map(str::trim).filter(|content| !content.is_empty());
    let own = raw.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    let has_id = source.message_id.is_some() && own.iter().any(|known| known.message_id == source.message_id);
    has_id || content.is_some_and(|content| raw.memory.contains(content))
}

/// Whether a memory names a raw one among its sources.
fn names(item: &MemoryItem, raw: &MemoryId) -> bool {
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    sources.iter().any(|source| source.extra.get(NODE_ID).and_then(Value::as_str) == Some(raw.as_str()))
}

/// The labels that the message wants preferred.
fn custom_tags(message: &ScheduleMessage) -> Vec<String> {
    let tags = message.info.as_ref().and_then(|info| info.get("custom_tags")).and_then(Value::as_array);
    tags.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The ids in a background such as `[working_binding:<id>] rest`.
fn working_bindings(background: &str) -> Vec<&str> {
    let parts = background.split("[working_binding:").skip(1);
    parts.filter_map(|part| part.split_once(']')).map(|(id, _)| id.trim()).filter(|id| !id.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sources_do_not_tell_of_trust_the_raw_memory_does() {
        let raw = |metadata: Value| {
            let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "x", "metadata": metadata});
            MemoryItem::from_value(value, String::new).unwrap()
        };
        let (user, tool) = (json!({"type": "chat", "role": "user"}), json!({"type": "chat", "role": "tool"}));
        assert!(is_trusted_less_than_its_sources(&raw(json!({"source": "web"}))));
        assert!(is_trusted_less_than_its_sources(&raw(json!({"trust": "external", "sources": [user]}))));
        assert!(!is_trusted_less_than_its_sources(&raw(json!({"sources": [user, tool]}))), "each message is itself");
    }

    #[test]
    fn ids_in_a_background_are_found() {
        let background = "[working_binding:a1] [working_binding: b2 ] rest [working_binding:c3";
        assert_eq!(working_bindings(background), ["a1", "b2"]);
        assert!(working_bindings("plain").is_empty());
    }
}
