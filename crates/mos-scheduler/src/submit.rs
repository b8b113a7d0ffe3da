//! Messages on their way into the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use mos_core::id::MAX_ID_BYTES;
use mos_core::state::MAX_STATE_KEY_BYTES;
use mos_core::{Expected, JobId, JobQueue, JobState, NewJob, Scope, StateStore, StoreError};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::message::{MAX_DEPTH, ScheduleMessage};
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::registry::Registry;

/// The most items that a task of the application has in one cube.
pub(crate) const MAX_TASK_ITEMS: usize = 1_000;

/// The list of the tasks of a cube, in the order in which they were first heard of.
const TASKS: &str = "scheduler/tasks";

/// Entries that the list has besides, for processes that list tasks at the same time.
const SPARE_TASKS: usize = 64;

/// How often open tasks are given a new place, at most, when a new one comes.
const FORGETTING_ATTEMPTS: usize = 4;

/// The most open tasks that share a place in the list, and about how many bytes of names; further ones are forgotten. It takes that
/// many times more open tasks than are kept.
const MAX_TOGETHER: usize = 100;
const MAX_TOGETHER_BYTES: usize = 256 * 1024;

/// How often the document of a task is written again when somebody else changed it meanwhile.
const TASK_ATTEMPTS: usize = 16;

/// What became of submitted messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitted {
    /// The [`item_id`](ScheduleMessage::item_id)s of those that are in the queue because of it.
    pub new: Vec<String>,
    /// Those that were known already: nothing was done about them.
    pub known: Vec<String>,
}

/// Puts messages into the queue.
#[derive(Clone, Debug)]
pub(crate) struct Submitter {
    pub(crate) queue: Arc<dyn JobQueue>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recent: Arc<Recent>,
    pub(crate) disabled: Arc<[String]>,
    pub(crate) max_attempts: u32,
    pub(crate) kept_tasks: usize,
    /// Wakes the dispatcher of this process at once.
    pub(crate) awake: Arc<Notify>,
}

impl Submitter {
    pub(crate) async fn submit(&self, messages: Vec<ScheduleMessage>) -> Result<Submitted, StoreError> {
        for message in &messages {
            self.check(message)?;
        }
        // In order within a cube; cubes are apart.
        let mut of_cubes: BTreeMap<Scope, Vec<ScheduleMessage>> = BTreeMap::new();
        for message in messages {
            of_cubes.entry(Scope::of(&message.mem_cube_id)).or_default().push(message);
        }
        let mut submitted = Submitted::default();
        for (scope, messages) in of_cubes {
            let jobs = messages.iter().map(|message| self.job(message)).collect::<Result<Vec<_>, _>>()?;
            let pushed = match self.note_tasks(&scope, &messages).await {
                Ok(()) => self.queue.push(&scope, jobs).await,
                // Some of several tasks may know their messages already.
                Err(error) => Err(error),
            };
            let receipt = match pushed {
                Ok(receipt) => receipt,
                Err(error) => {
                    self.forget_tasks(&scope, &messages).await;
                    return Err(error);
                }
            };
            for message in &messages {
                if receipt.new.iter().any(|id| id.as_str() == message.item_id) {
                    self.metrics.change(&message.label, |metrics| metrics.submitted += 1);
                }
            }
            submitted.new.extend(receipt.new.iter().map(ToString::to_string));
            submitted.known.extend(receipt.known.iter().map(ToString::to_string));
        }
        self.awake.notify_one();
        Ok(submitted)
    }

    fn check(&self, message: &ScheduleMessage) -> Result<(), StoreError> {
        if message.depth > MAX_DEPTH {
            return Err(StoreError::Invalid(format!(
                "message `{}` of label `{}` follows from {} others; at most {MAX_DEPTH} are allowed: a handler seems to send \
                 messages to itself",
                message.item_id, message.label, message.depth
            )));
        }
        if message.label.is_empty() {
            return Err(StoreError::Invalid(format!("message `{}` has no label", message.item_id)));
        }
        if self.disabled.contains(&message.label) {
            return Err(StoreError::Invalid(format!(
                "messages of label `{}` are switched off; take it out of `disabled_handlers`",
                message.label
            )));
        }
        Ok(())
    }

    /// The job of a message.
    pub(crate) fn job(&self, message: &ScheduleMessage) -> Result<NewJob, StoreError> {
        let invalid =
            |error: &dyn std::fmt::Display| StoreError::Invalid(format!("a message cannot be queued: {error}"));
        let id = JobId::parse(message.item_id.as_str()).map_err(|error| invalid(&error))?;
        let payload = serde_json::to_value(message).map_err(|error| invalid(&error))?;
        self.recent.note(message);
        Ok(NewJob {
            group: Some(group(message)),
            priority: self.registry.priority(&message.label).of_jobs(),
            max_attempts: self.max_attempts,
            ..NewJob::new(id, message.label.as_str(), payload)
        })
    }

    /// Writes down which items belong to which task, before they are in the queue: a task never looks complete too early.
    async fn note_tasks(&self, scope: &Scope, messages: &[ScheduleMessage]) -> Result<(), StoreError> {
        for (task, items) in tasks(messages) {
            self.change_task(scope, task, |known| {
                for item in &items {
                    if !known.iter().any(|known| known == item) {
                        known.push((*item).to_owned());
                    }
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Takes items that the queue refused out of their tasks again, unless they are in the queue from before.
    async fn forget_tasks(&self, scope: &Scope, messages: &[ScheduleMessage]) {
        for (task, items) in tasks(messages) {
            let mut refused = Vec::new();
            for item in items {
                if let Ok(None) = self.queue.find(scope, &JobId::new(item)).await {
                    refused.push(item);
                }
            }
            let done =
                self.change_task(scope, task, |known| known.retain(|known| !refused.contains(&known.as_str()))).await;
            if let Err(error) = done {
                tracing::warn!(%error, "a task keeps messages that the queue refused; they count as completed");
            }
        }
    }

    async fn change_task(
        &self,
        scope: &Scope,
        task: &str,
        change: impl Fn(&mut Vec<String>) + Send,
    ) -> Result<(), StoreError> {
        let key = task_key(task);
        let mut is_listed = false;
        for _ in 0..TASK_ATTEMPTS {
            let found = self.state.read(scope, &key).await?;
            let before = found.as_ref().map(|document| task_items(&document.value)).unwrap_or_default();
            let mut items = before.clone();
            change(&mut items);
            if items == before {
                return Ok(());
            }
            if items.len() > MAX_TASK_ITEMS {
                return Err(StoreError::Full {
                    what: format!("task `{task}`"),
                    limit: MAX_TASK_ITEMS,
                    detail: "give further messages another task_id".to_owned(),
                });
            }
            if found.is_none() && !is_listed {
                // First: a document that no list knows of would stay for ever.
                self.list_task(scope, task).await?;
                is_listed = true;
            }
            let expected = found.map_or(Expected::Absent, |document| Expected::Version(document.version));
            match self.state.write(scope, &key, &json!({ "items": items }), expected).await {
                Err(StoreError::Conflict(_)) => {}
                done => return done.map(drop),
            }
        }
        Err(StoreError::Conflict(format!("task `{task}` is changed by too many at once; submit again")))
    }

    /// Lists a new task, and forgets the oldest ones when there are too many. Those that have not ended take a new place in the
    /// list, together with those of the place that leaves it for theirs: however many are open, none is lost.
    async fn list_task(&self, scope: &Scope, task: &str) -> Result<(), StoreError> {
        let n_kept = u64::try_from(self.kept_tasks.max(1)).unwrap_or(u64::MAX);
        let keep = self.kept_tasks.max(1).saturating_add(SPARE_TASKS);
        let mut number = self.state.append(scope, TASKS, &[json!(task)], keep).await?;
        let mut done_to = number.saturating_sub(n_kept).saturating_sub(1);
        for _ in 0..FORGETTING_ATTEMPTS {
            let surplus = number.saturating_sub(n_kept);
            let (mut left, mut open) = (done_to, Vec::new());
            while left < surplus {
                left += 1;
                self.forget_listed(scope, left, task, &mut open).await?;
            }
            if open.is_empty() {
                return Ok(());
            }
            // Their new place pushes out the next one.
            left += 1;
            self.forget_listed(scope, left, task, &mut open).await?;
            done_to = left;
            number = self.state.append(scope, TASKS, &[json!(open)], keep).await?;
            if number.saturating_sub(n_kept) <= done_to {
                return Ok(());
            }
            // Others list tasks at the same time: what left the list for theirs is looked at too.
        }
        Ok(())
    }

    /// Forgets the tasks of a place in the list; those that have not ended join `open` instead, as far as a place has room.
    async fn forget_listed(
        &self,
        scope: &Scope,
        place: u64,
        new: &str,
        open: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let found = self.state.entries(scope, TASKS, place.saturating_sub(1), 1).await?.pop();
        let Some(entry) = found.filter(|entry| entry.sequence == place) else { return Ok(()) };
        for task in listed(&entry.value) {
            if open.iter().any(|known| known == task) {
                continue;
            }
            let n_bytes = open.iter().map(String::len).sum::<usize>() + task.len();
            let has_room = open.len() < MAX_TOGETHER && n_bytes <= MAX_TOGETHER_BYTES;
            // The new task has no document yet.
            if has_room && (task == new || self.is_open(scope, task).await?) {
                open.push(task.to_owned());
            } else {
                self.state.remove(scope, &task_key(task)).await?;
            }
        }
        Ok(())
    }

    /// Whether a message of a task waits or is being handled.
    async fn is_open(&self, scope: &Scope, task: &str) -> Result<bool, StoreError> {
        let Some(document) = self.state.read(scope, &task_key(task)).await? else { return Ok(false) };
        for item in task_items(&document.value).iter().rev() {
            let state = self.queue.find(scope, &JobId::new(item.as_str())).await?;
            if matches!(state, Some(JobState::Waiting | JobState::Claimed { .. })) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The items of each task.
fn tasks(messages: &[ScheduleMessage]) -> BTreeMap<&str, Vec<&str>> {
    let mut tasks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for message in messages {
        if let Some(task) = message.task_id.as_deref().filter(|task| !task.is_empty()) {
            tasks.entry(task).or_default().push(&message.item_id);
        }
    }
    tasks
}

/// The tasks of a place in the list.
fn listed(place: &Value) -> Vec<&str> {
    match place {
        Value::Array(together) => together.iter().filter_map(Value::as_str).collect(),
        alone => alone.as_str().into_iter().collect(),
    }
}

/// Messages of one user and label of a cube are done in order. Of a user whose id leaves no room in the name of a group, its
/// hash stands there.
fn group(message: &ScheduleMessage) -> String {
    let (user, label) = (message.user_id.as_str(), message.label.as_str());
    let name = format!("{}:{user}:{label}", user.len());
    if name.len() <= MAX_ID_BYTES { name } else { format!("#{}:{label}", blake3::hash(user.as_bytes()).to_hex()) }
}

/// Where the items of a task stand. Of a task whose name leaves no room in a key, its hash stands there.
pub(crate) fn task_key(task: &str) -> String {
    let key = format!("scheduler/task/{task}");
    if key.len() <= MAX_STATE_KEY_BYTES {
        key
    } else {
        format!("scheduler/task/#{}", blake3::hash(task.as_bytes()).to_hex())
    }
}

pub(crate) fn task_items(document: &Value) -> Vec<String> {
    let items = document["items"].as_array();
    items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use mos_core::{RandomIds, SystemClock};

    use super::*;
    use crate::label::{MEM_ORGANIZE, MEM_UPDATE};

    fn message(user: &str) -> ScheduleMessage {
        ScheduleMessage::new(MEM_ORGANIZE, user, "cube", "", &SystemClock, &RandomIds)
    }

    #[test]
    fn users_with_the_longest_ids_have_groups_of_their_own_that_queues_take() {
        let (one, other) = (format!("{}1", "u".repeat(511)), format!("{}2", "u".repeat(511)));
        let groups = [group(&message(&one)), group(&message(&other))];
        assert_ne!(groups[0], groups[1]);
        assert!(groups.iter().all(|group| group.len() <= MAX_ID_BYTES), "{groups:?}");
        assert_eq!(group(&message("ann")), "3:ann:mem_organize");
    }

    #[test]
    fn tasks_with_long_names_have_keys_of_their_own_that_stores_take() {
        let (one, other) = (format!("{}1", "t".repeat(1_000)), format!("{}2", "t".repeat(1_000)));
        assert_ne!(task_key(&one), task_key(&other));
        for key in [task_key(&one), task_key(&"t".repeat(497)), task_key(&"t".repeat(498)), task_key("import")] {
            assert!(key.len() <= MAX_STATE_KEY_BYTES, "{key}");
        }
        assert_eq!(task_key("import"), "scheduler/task/import");
    }

    #[test]
    fn what_follows_from_a_message_of_the_longest_name_can_be_queued_and_has_the_same_name_each_time() {
        let mut first = message("ann");
        first.item_id = "m".repeat(MAX_ID_BYTES);
        let name = first.with_label(MEM_UPDATE).item_id;
        assert!(JobId::parse(name.as_str()).is_ok(), "{name}");
        assert_eq!(first.with_label(MEM_UPDATE).item_id, name);
        first.item_id.replace_range(..1, "n");
        assert_ne!(first.with_label(MEM_UPDATE).item_id, name);
    }
}
