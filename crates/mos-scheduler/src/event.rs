//! Events: what happened to memories, for people who watch.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use jiff::Timestamp;
use mos_core::{BoxError, CubeId, LogEntry, Message, Scope, StateStore, StoreError, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::message::{ScheduleMessage, naive};

/// A message of a conversation was remembered.
pub const ADD_MESSAGE: &str = "addMessage";
/// A memory was added.
pub const ADD_MEMORY: &str = "addMemory";
/// A memory was changed.
pub const UPDATE_MEMORY: &str = "updateMemory";
/// Memories became one.
pub const MERGE_MEMORY: &str = "mergeMemory";
/// A memory was archived.
pub const ARCHIVE_MEMORY: &str = "archiveMemory";
/// Documents were added.
pub const KNOWLEDGE_BASE_UPDATE: &str = "knowledgeBaseUpdate";
/// A task of the application ended.
pub const TASK_STATUS: &str = "taskStatus";

/// Events that are kept of a cube.
pub const KEPT_EVENTS: usize = 1_000;

/// Events that a listener may be behind before it misses some.
const LISTENER_CAPACITY: usize = 256;

const LOG: &str = "scheduler/events";

/// What happened. Its JSON is that of MemOS' `ScheduleLogForWebItem`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its name: the same event recorded twice has the same.
    pub item_id: String,
    /// The task of the application that it belongs to.
    #[serde(default)]
    pub task_id: Option<String>,
    /// For whom.
    pub user_id: UserId,
    /// In which cube.
    pub mem_cube_id: CubeId,
    /// What happened, for example [`ADD_MEMORY`].
    pub label: String,
    /// Where the memory was.
    #[serde(default)]
    pub from_memory_type: Option<String>,
    /// Where it is.
    #[serde(default)]
    pub to_memory_type: Option<String>,
    /// In words.
    pub log_content: String,
    /// How many memories there are, by the names that MemOS gives the shelves (`long_term_memory_size` ...); -1: unknown.
    #[serde(default)]
    pub current_memory_sizes: BTreeMap<String, i64>,
    /// How many fit; -1: unknown.
    #[serde(default)]
    pub memory_capacities: BTreeMap<String, i64>,
    /// When, in UTC; written without an offset.
    #[serde(with = "naive")]
    pub timestamp: Timestamp,
    /// The memories that it is about, for a page that shows them.
    #[serde(default)]
    pub memcube_log_content: Option<Vec<Value>>,
    /// Their metadata.
    #[serde(default)]
    pub metadata: Option<Vec<Value>>,
    /// The cube's name.
    #[serde(default)]
    pub memcube_name: Option<String>,
    /// How many memories it is about.
    #[serde(default)]
    pub memory_len: Option<usize>,
    /// `completed` or `failed`, of a task; `cancelled` when all its messages were taken back.
    #[serde(default)]
    pub status: Option<String>,
    /// The document that it came from.
    #[serde(default)]
    pub source_doc_id: Option<String>,
    /// The conversation.
    #[serde(default)]
    pub chat_history: Option<Vec<Message>>,
    /// The operation of the server that led to it.
    #[serde(default)]
    pub api_path: Option<String>,
}

impl Event {
    /// Returns an event that a message led to. `name` tells several events of one message apart.
    pub fn of(message: &ScheduleMessage, label: &str, name: &str, content: impl Into<String>, at: Timestamp) -> Self {
        let size = |name: &str, size: i64| (name.to_owned(), size);
        Self {
            item_id: format!("{}/{label}/{name}", message.item_id),
            task_id: message.task_id.clone(),
            user_id: message.user_id.clone(),
            mem_cube_id: message.mem_cube_id.clone(),
            label: label.to_owned(),
            from_memory_type: None,
            to_memory_type: None,
            log_content: content.into(),
            current_memory_sizes: BTreeMap::from([
                size("long_term_memory_size", -1),
                size("user_memory_size", -1),
                size("working_memory_size", -1),
                size("transformed_act_memory_size", -1),
            ]),
            memory_capacities: BTreeMap::from([
                size("long_term_memory_capacity", 10_000),
                size("user_memory_capacity", 10_000),
                size("working_memory_capacity", 20),
                size("transformed_act_memory_capacity", -1),
            ]),
            timestamp: at,
            memcube_log_content: None,
            metadata: None,
            memcube_name: None,
            memory_len: None,
            status: None,
            source_doc_id: None,
            chat_history: None,
            api_path: message.api_path.clone(),
        }
    }

    /// From where to where a memory went.
    #[must_use]
    pub fn moved(mut self, from: &str, to: &str) -> Self {
        self.from_memory_type = Some(from.to_owned());
        self.to_memory_type = Some(to.to_owned());
        self
    }

    /// The memories that it is about: entries for a page, and their metadata.
    #[must_use]
    pub fn about(mut self, content: Vec<Value>, metadata: Vec<Value>) -> Self {
        self.memory_len = Some(content.len());
        self.memcube_log_content = Some(content);
        self.metadata = Some(metadata);
        self
    }
}

/// Where events go besides the log, for example to a broker.
#[async_trait]
pub trait EventSink: fmt::Debug + Send + Sync {
    /// Publishes an event.
    ///
    /// # Errors
    /// Why it was not published; it is told in the program's log, and the event stays in the store's.
    async fn publish(&self, event: &Event) -> Result<(), BoxError>;

    /// Waits, for a bounded time, until what was published is where it goes. A sink that publishes in the background is told so
    /// before the program ends.
    async fn flush(&self) {}
}

/// An event as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedEvent {
    /// Numbers the events of a cube, from 1.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// The events of cubes: the newest [`KEPT_EVENTS`] of each are kept, and told to those who listen.
#[derive(Clone, Debug)]
pub struct EventLog {
    state: Arc<dyn StateStore>,
    sender: broadcast::Sender<Event>,
    sinks: Vec<Arc<dyn EventSink>>,
}

impl EventLog {
    /// Returns a log in `state` that also tells `sinks`.
    pub fn new(state: Arc<dyn StateStore>, sinks: Vec<Arc<dyn EventSink>>) -> Self {
        Self { state, sender: broadcast::channel(LISTENER_CAPACITY).0, sinks }
    }

    /// Writes events down, then tells them to listeners and sinks. An event that is told twice has the same
    /// [`Event::item_id`].
    ///
    /// # Errors
    /// Store errors; nothing was recorded then.
    pub async fn record(&self, scope: &Scope, events: Vec<Event>) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let invalid = |error: serde_json::Error| StoreError::Invalid(format!("an event cannot be written: {error}"));
        let entries: Vec<Value> = events.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(invalid)?;
        self.state.append(scope, LOG, &entries, KEPT_EVENTS).await?;
        for event in events {
            for sink in &self.sinks {
                let published = AssertUnwindSafe(sink.publish(&event)).catch_unwind().await;
                if let Err(error) = published.unwrap_or_else(|_| Err("it panicked".into())) {
                    tracing::warn!(event = %event.label, %error, "an event could not be published; it is in the log");
                }
            }
            // Nobody listening is no failure.
            drop(self.sender.send(event));
        }
        Ok(())
    }

    /// Returns at most `limit` events of a cube that come after number `after`, oldest first: those of all its users. They quote
    /// questions, answers and memories, so show a user of a shared cube those of that [`Event::user_id`] only.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for an entry that is no event; store errors.
    pub async fn events(&self, scope: &Scope, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let entries = self.state.entries(scope, LOG, after, limit).await?;
        entries.into_iter().map(read).collect()
    }

    /// Returns the events of all cubes and users from now on, in this process; a listener that is more than 256 behind is told how many it
    /// missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}

/// Returns a number with the word for so many.
pub(crate) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn read(entry: LogEntry) -> Result<RecordedEvent, StoreError> {
    let event = serde_json::from_value(entry.value).map_err(|error| StoreError::Corrupt {
        what: format!("event {} of a cube", entry.sequence),
        detail: error.to_string(),
    })?;
    Ok(RecordedEvent { sequence: entry.sequence, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_as_one() {
        let told = [0, 1, 2].map(|number| counted(number, "memory", "memories"));
        assert_eq!(told, ["0 memories", "1 memory", "2 memories"]);
    }
}
