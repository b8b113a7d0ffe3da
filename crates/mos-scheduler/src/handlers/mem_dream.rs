//! `mem_dream`: recent memories are reflected on. What a model concludes from them is kept as a few memories that name what
//! they rest on, and as an entry in a diary.
//!
//! One reflection per cube at a time; where nothing is new since the last one, nothing is done.

mod reflect;

use std::time::Duration;

use jiff::Timestamp;
use mos_core::{AddRequest, Expected, Filter, MemoryId, MemoryItem, Paging, Scope, StateStore, Status, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::steps::{about, finish, is_drawn, of_batch};
use crate::event::{ADD_MEMORY, Event, counted};
use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;
use reflect::Reflection;

/// The log of what was reflected.
const DIARY: &str = "scheduler/diary";

/// The document that says who reflects, and up to where the last one came.
const STATE: &str = "scheduler/dream";

/// How many entries of a cube's diary are kept.
pub const KEPT_ENTRIES: usize = 365;

/// How many entries are looked at to find out whether one was written already.
const N_LOOKED_AT: u64 = 32;

/// The tag of what was concluded in a reflection.
pub const DREAM: &str = "dream";

/// How recent memories are reflected on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DreamOptions {
    /// The most memories that one reflection looks at, newest first.
    pub max_memories: usize,
    /// How many of them must be new, or have changed, since the last one.
    pub min_new: usize,
    /// The most conclusions that are kept of one.
    pub max_insights: usize,
    /// How often the model is asked until its answer can be read.
    pub attempts: usize,
    /// How long one may take before another consumer may begin; longer than a handler may take.
    pub lease: Duration,
}

impl Default for DreamOptions {
    fn default() -> Self {
        Self { max_memories: 50, min_new: 5, max_insights: 3, attempts: 3, lease: Duration::from_secs(900) }
    }
}

/// An entry of the diary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiaryEntry {
    /// Its name: that of the message that led to it.
    pub diary_id: String,
    /// The task of the application that it belongs to.
    #[serde(default)]
    pub task_id: Option<String>,
    /// In a few words.
    pub title: String,
    /// In one or two sentences.
    pub summary: String,
    /// The whole text.
    pub dream_entry: String,
    /// What it is about.
    #[serde(default)]
    pub themes: Vec<String>,
    /// When it was written, ISO 8601.
    pub created_at: String,
    /// The memories that were looked at.
    pub memories: Vec<MemoryId>,
    /// The memories that were concluded.
    pub insights: Vec<MemoryId>,
}

/// Returns the diary of a cube, oldest first; at most [`KEPT_ENTRIES`] are kept.
///
/// # Errors
/// [`StoreError::Corrupt`] for an entry that is none; store errors.
pub async fn diary(state: &dyn StateStore, scope: &Scope) -> Result<Vec<DiaryEntry>, StoreError> {
    let entries = state.entries(scope, DIARY, 0, KEPT_ENTRIES).await?;
    entries.into_iter().map(|entry| diary_entry(entry.value)).collect()
}

fn diary_entry(value: Value) -> Result<DiaryEntry, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::Corrupt {
        what: "an entry of a cube's diary".to_owned(),
        detail: error.to_string(),
    })
}

/// Who reflects, and up to where the last reflection came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Turn {
    /// The message whose turn it is; none when nobody reflects.
    holder: Option<String>,
    /// Until when.
    until: Option<Timestamp>,
    /// The newest `updated_at` that was looked at.
    seen: Option<String>,
    /// The message that was done last: doing it again is nothing.
    done: Option<String>,
}

/// Handles `mem_dream` messages; what they say is not heeded.
pub(crate) async fn handle(
    context: &HandlerContext,
    messages: &[ScheduleMessage],
    options: Option<&DreamOptions>,
) -> Result<(), HandlerError> {
    let Some(options) = options else {
        let reason = "reflecting on memories is switched off; give `WorkOptions::dream` to switch it on";
        return Err(HandlerError::give_up(reason));
    };
    if context.cube.model.is_none() {
        let reason =
            "there is no model that may reflect on memories in the background; configure one for the scheduler";
        return Err(HandlerError::give_up(reason));
    }
    for (index, message) in messages.iter().enumerate() {
        dream(context, message, options).await.map_err(|error| of_batch(index, error))?;
    }
    Ok(())
}

async fn dream(
    context: &HandlerContext,
    message: &ScheduleMessage,
    options: &DreamOptions,
) -> Result<(), HandlerError> {
    let Some(turn) = take_turn(context, message, options).await? else { return Ok(()) };
    let reflected = reflect_on_new(context, message, options, turn.seen.as_deref()).await;
    let next = match &reflected {
        Ok(seen) => Turn { seen: seen.clone().or(turn.seen), done: Some(message.item_id.clone()), ..Turn::default() },
        Err(_) => Turn { holder: None, until: None, ..turn },
    };
    let given_back = give_back(context, message, next).await;
    // What went wrong first is what people need to know.
    reflected?;
    given_back
}

/// Takes the turn of the cube; `None` when another message has it, or this one was done before.
async fn take_turn(
    context: &HandlerContext,
    message: &ScheduleMessage,
    options: &DreamOptions,
) -> Result<Option<Turn>, HandlerError> {
    let (scope, now) = (context.cube.scope(), context.clock.now());
    let document = context.state.read(&scope, STATE).await?;
    let turn = document.as_ref().map(|document| read_turn(&document.value)).transpose()?.unwrap_or_default();
    if turn.done.as_deref() == Some(message.item_id.as_str()) {
        return Ok(None);
    }
    let is_other = turn.holder.as_deref().is_some_and(|holder| holder != message.item_id);
    if is_other && turn.until.is_some_and(|until| until > now) {
        return Ok(None);
    }
    let seconds = i64::try_from(options.lease.as_secs()).unwrap_or(i64::MAX);
    let until = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX);
    let taken = Turn { holder: Some(message.item_id.clone()), until: Some(until), ..turn };
    let expected = document.map_or(Expected::Absent, |document| Expected::Version(document.version));
    match context.state.write(&scope, STATE, &json!(taken), expected).await {
        Ok(_) => Ok(Some(taken)),
        // Another one was faster, and looks at the same memories.
        Err(StoreError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Ends the turn, unless another message has it by now.
async fn give_back(context: &HandlerContext, message: &ScheduleMessage, next: Turn) -> Result<(), HandlerError> {
    let scope = context.cube.scope();
    let Some(document) = context.state.read(&scope, STATE).await? else { return Ok(()) };
    if read_turn(&document.value)?.holder.as_deref() != Some(message.item_id.as_str()) {
        return Ok(());
    }
    let expected = Expected::Version(document.version);
    match context.state.write(&scope, STATE, &json!(next), expected).await {
        Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read_turn(value: &Value) -> Result<Turn, HandlerError> {
    serde_json::from_value(value.clone()).map_err(|error| {
        HandlerError::give_up(format!("the document `{STATE}` of the cube is damaged ({error}); remove it"))
    })
}

/// Reflects, and returns the newest `updated_at` that was looked at; `None` when there was too little to look at.
async fn reflect_on_new(
    context: &HandlerContext,
    message: &ScheduleMessage,
    options: &DreamOptions,
    seen: Option<&str>,
) -> Result<Option<String>, HandlerError> {
    let memories = recent(context, options.max_memories).await?;
    let is_new = |item: &&MemoryItem| item.metadata.updated_at.as_deref() > seen;
    if memories.iter().filter(is_new).count() < options.min_new.max(1) {
        return Ok(None);
    }
    let newest = memories.first().and_then(|item| item.metadata.updated_at.clone());
    let Some(model) = &context.cube.model else { return Ok(None) };
    let reflection = reflect::ask(model.as_ref(), &memories, options).await?;
    let insights = keep(context, message, &memories, &reflection).await?;
    write_entry(context, message, &memories, &insights, reflection).await?;
    if !insights.is_empty() {
        let (text, origin) = (context.cube.text.as_ref(), context.origin(message));
        let mut items = Vec::with_capacity(insights.len());
        for item in text.get_by_ids(&insights).await? {
            items.push(if is_drawn(&item) { finish(text, item, &origin).await? } else { item });
        }
        let said = format!(
            "{} drawn from {}",
            counted(insights.len(), "conclusion was", "conclusions were"),
            counted(memories.len(), "memory", "memories")
        );
        let event = Event::of(message, ADD_MEMORY, "dream", said, context.clock.now());
        context.record(vec![about(event, &items)]).await?;
    }
    Ok(newest)
}

/// The memories in use that changed last, newest first; none that was concluded in a reflection.
async fn recent(context: &HandlerContext, limit: usize) -> Result<Vec<MemoryItem>, HandlerError> {
    let text = &context.cube.text;
    let all = match text.as_tree() {
        Some(tree) => {
            let in_use = Filter::equals("status", Status::Activated.as_str());
            // Newest first by their making; working copies and conclusions among them are left out below.
            let paging = Paging { offset: 0, limit: limit.saturating_mul(4).saturating_add(64) };
            tree.graph(&in_use, paging).await?.graph.nodes
        }
        None => text.get_all().await?,
    };
    let is_meant = |item: &MemoryItem| {
        let is_dream = item.metadata.tags.iter().flatten().any(|tag| tag == DREAM);
        item.metadata.status == Some(Status::Activated) && item.working_copy_of().is_none() && !is_dream
    };
    let mut recent: Vec<MemoryItem> = all.into_iter().filter(is_meant).collect();
    recent.sort_by(|left, right| right.metadata.updated_at.cmp(&left.metadata.updated_at));
    recent.truncate(limit.max(1));
    Ok(recent)
}

/// Stores the conclusions and returns their ids.
async fn keep(
    context: &HandlerContext,
    message: &ScheduleMessage,
    memories: &[MemoryItem],
    reflection: &Reflection,
) -> Result<Vec<MemoryId>, HandlerError> {
    if reflection.insights.is_empty() {
        return Ok(Vec::new());
    }
    let mut items = Vec::with_capacity(reflection.insights.len());
    for insight in &reflection.insights {
        let item = insight.to_item(MemoryId::new(context.ids.next_uuid()), &message.user_id, memories);
        items.push(context.cube.work.looked_at(None, item).await?);
    }
    let request = AddRequest {
        origin: context.origin(message),
        idempotency_key: Some(context.key(message, "insights")),
        ..AddRequest::default()
    };
    Ok(context.cube.text.add(items, request).await?)
}

/// Writes the entry, unless an attempt before this one has.
async fn write_entry(
    context: &HandlerContext,
    message: &ScheduleMessage,
    memories: &[MemoryItem],
    insights: &[MemoryId],
    reflection: Reflection,
) -> Result<(), HandlerError> {
    let (scope, state) = (context.cube.scope(), &context.state);
    let last = state.append(&scope, DIARY, &[], KEPT_ENTRIES).await?;
    let newest = state.entries(&scope, DIARY, last.saturating_sub(N_LOOKED_AT), N_LOOKED_AT as usize).await?;
    if newest.iter().any(|entry| entry.value["diary_id"].as_str() == Some(message.item_id.as_str())) {
        return Ok(());
    }
    let entry = DiaryEntry {
        diary_id: message.item_id.clone(),
        task_id: message.task_id.clone(),
        title: reflection.title,
        summary: reflection.summary,
        dream_entry: reflection.entry,
        themes: reflection.themes,
        created_at: context.clock.now_text(),
        memories: memories.iter().map(|item| item.id.clone()).collect(),
        insights: insights.to_vec(),
    };
    state.append(&scope, DIARY, &[json!(entry)], KEPT_ENTRIES).await?;
    Ok(())
}
