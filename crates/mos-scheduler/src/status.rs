//! Where messages and tasks stand.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use mos_core::{CubeId, Expected, JobId, JobQueue, JobState, Scope, StateStore, StoreError, UserId};
use serde::Serialize;
use serde_json::json;

use crate::message::{ScheduleMessage, naive};
use crate::submit::{task_items, task_key};

const CANCELLED: &str = "scheduler/cancelled";

/// Cancelled messages that are remembered of a cube.
const KEPT_CANCELLED: usize = 1_000;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// It waits for its turn, or for another attempt.
    Waiting,
    /// It is being handled.
    InProgress,
    /// It was done.
    Completed,
    /// It was given up.
    Failed,
    /// Somebody took it back before it was handled.
    Cancelled,
}

impl ItemState {
    /// The word that requests use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns where several stand together: `Failed` when one has; else `InProgress` when one is not done yet; else
    /// `Completed`; `Cancelled` when all were. `None` of none.
    pub fn together(states: impl IntoIterator<Item = Self>) -> Option<Self> {
        let rank = |state: &Self| match state {
            Self::Cancelled => 0,
            Self::Completed => 1,
            Self::Waiting | Self::InProgress => 2,
            Self::Failed => 3,
        };
        let state = states.into_iter().max_by_key(rank)?;
        Some(if state == Self::Waiting { Self::InProgress } else { state })
    }
}

impl From<&JobState> for ItemState {
    fn from(state: &JobState) -> Self {
        match state {
            JobState::Waiting => Self::Waiting,
            JobState::Claimed { .. } => Self::InProgress,
            JobState::Finished => Self::Completed,
            JobState::Dead { .. } => Self::Failed,
        }
    }
}

/// Where a message stands, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemStatus {
    /// The message.
    pub item_id: String,
    /// Where it stands.
    pub status: ItemState,
    /// Why it was given up.
    pub error: Option<String>,
}

/// Where a task of the application stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskStatus {
    /// The task.
    pub task_id: String,
    /// Where its messages stand, [together](ItemState::together).
    pub status: ItemState,
    /// Its messages, in the order in which they were submitted. One that is unknown by now was completed long ago.
    pub items: Vec<ItemStatus>,
}

/// A batch that is being handled. Its JSON is that of MemOS' `RunningTaskItem`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunningTask {
    /// The first of its messages.
    pub item_id: String,
    /// Their user.
    pub user_id: UserId,
    /// Their cube.
    pub mem_cube_id: CubeId,
    /// In words.
    pub task_info: String,
    /// Which handler.
    pub task_name: String,
    /// Since when, in UTC; written without an offset.
    #[serde(serialize_with = "naive::serialize")]
    pub start_time: Timestamp,
    /// Kept for MemOS' form: what has ended is not listed. Always empty.
    pub end_time: Option<String>,
    /// Always `running`.
    pub status: &'static str,
    /// Kept for MemOS' form; always empty.
    pub result: Option<String>,
    /// Kept for MemOS' form; always empty.
    pub error_message: Option<String>,
    /// The messages.
    pub messages: Vec<String>,
    /// Kept for MemOS' form; always empty.
    pub duration_seconds: Option<f64>,
}

/// What is being handled in this process.
#[derive(Debug, Default)]
pub(crate) struct Running {
    tasks: Mutex<BTreeMap<u64, RunningTask>>,
}

impl Running {
    /// Lists a batch until what is returned is dropped, however its handling ends.
    pub(crate) fn begin(&self, claim: u64, messages: &[ScheduleMessage], at: Timestamp) -> Listed<'_> {
        let listed = Listed { running: self, claim };
        let Some(first) = messages.first() else { return listed };
        let task = RunningTask {
            item_id: first.item_id.clone(),
            user_id: first.user_id.clone(),
            mem_cube_id: first.mem_cube_id.clone(),
            task_info: format!("{} messages of label {}", messages.len(), first.label),
            task_name: format!("{}_handler", first.label),
            start_time: at,
            end_time: None,
            status: "running",
            result: None,
            error_message: None,
            messages: messages.iter().map(|message| message.item_id.clone()).collect(),
            duration_seconds: None,
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(claim, task);
        listed
    }

    pub(crate) fn all(&self) -> Vec<RunningTask> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A batch in the list of those that are being handled.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    running: &'a Running,
    claim: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.running.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.claim);
    }
}

pub(crate) async fn item(
    queue: &dyn JobQueue,
    state: &dyn StateStore,
    scope: &Scope,
    item_id: &str,
) -> Result<Option<ItemStatus>, StoreError> {
    let status = |status, error| Some(ItemStatus { item_id: item_id.to_owned(), status, error });
    Ok(match queue.find(scope, &JobId::new(item_id)).await? {
        Some(JobState::Dead { reason }) => status(ItemState::Failed, Some(reason)),
        Some(state) => status(ItemState::from(&state), None),
        None if is_cancelled(state, scope, item_id).await? => status(ItemState::Cancelled, None),
        None => None,
    })
}

pub(crate) async fn task(
    queue: &dyn JobQueue,
    state: &dyn StateStore,
    scope: &Scope,
    task_id: &str,
) -> Result<Option<TaskStatus>, StoreError> {
    let Some(document) = state.read(scope, &task_key(task_id)).await? else { return Ok(None) };
    of_items(queue, state, scope, task_id, task_items(&document.value)).await
}

/// Where a task of these items stands; `None` without any, which are all that a task of refused messages has.
async fn of_items(
    queue: &dyn JobQueue,
    state: &dyn StateStore,
    scope: &Scope,
    task_id: &str,
    item_ids: Vec<String>,
) -> Result<Option<TaskStatus>, StoreError> {
    let mut items = Vec::with_capacity(item_ids.len());
    for item_id in item_ids {
        let status = item(queue, state, scope, &item_id).await?;
        items.push(status.unwrap_or(ItemStatus { item_id, status: ItemState::Completed, error: None }));
    }
    let status = ItemState::together(items.iter().map(|item| item.status));
    Ok(status.map(|status| TaskStatus { task_id: task_id.to_owned(), status, items }))
}

/// Returns the word with which the end of a task is to be told, to one caller only; `None` when it has not ended or was told.
/// A task that gets further items, or ends otherwise than it did before, is told again.
pub(crate) async fn end_to_tell(
    queue: &dyn JobQueue,
    state: &dyn StateStore,
    scope: &Scope,
    task_id: &str,
) -> Result<Option<&'static str>, StoreError> {
    let key = task_key(task_id);
    let Some(document) = state.read(scope, &key).await? else { return Ok(None) };
    let mut value = document.value;
    // Items end in their order as a rule: the last one mostly tells that a task of many has not ended.
    for item_id in task_items(&value).iter().rev() {
        let state = queue.find(scope, &JobId::new(item_id.as_str())).await?;
        if matches!(state, Some(JobState::Waiting | JobState::Claimed { .. })) {
            return Ok(None);
        }
    }
    let Some(task) = of_items(queue, state, scope, task_id, task_items(&value)).await? else { return Ok(None) };
    let word = match task.status {
        ItemState::Failed => "failed",
        ItemState::Cancelled => "cancelled",
        ItemState::Waiting | ItemState::InProgress | ItemState::Completed => "completed",
    };
    if !has_ended(&task) || value["told"].as_str() == Some(word) {
        return Ok(None);
    }
    value["told"] = json!(word);
    match state.write(scope, &key, &value, Expected::Version(document.version)).await {
        Ok(_) => Ok(Some(word)),
        // Somebody else told it, or added to it: then it has not ended.
        Err(StoreError::Conflict(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether every item of a task has ended.
fn has_ended(task: &TaskStatus) -> bool {
    task.items.iter().all(|item| !matches!(item.status, ItemState::Waiting | ItemState::InProgress))
}

pub(crate) async fn note_cancelled(state: &dyn StateStore, scope: &Scope, item_id: &str) -> Result<(), StoreError> {
    state.append(scope, CANCELLED, &[json!(item_id)], KEPT_CANCELLED).await.map(drop)
}

async fn is_cancelled(state: &dyn StateStore, scope: &Scope, item_id: &str) -> Result<bool, StoreError> {
    let entries = state.entries(scope, CANCELLED, 0, KEPT_CANCELLED).await?;
    Ok(entries.iter().any(|entry| entry.value.as_str() == Some(item_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_states_are_one() {
        use ItemState::{Cancelled, Completed, Failed, InProgress, Waiting};
        assert_eq!(ItemState::together([]), None);
        assert_eq!(ItemState::together([Waiting]), Some(InProgress));
        assert_eq!(ItemState::together([InProgress, Completed, Waiting]), Some(InProgress));
        assert_eq!(ItemState::together([Completed, Failed, Waiting]), Some(Failed));
        assert_eq!(ItemState::together([Completed, Cancelled]), Some(Completed));
        assert_eq!(ItemState::together([Cancelled, Cancelled]), Some(Cancelled));
    }
}
