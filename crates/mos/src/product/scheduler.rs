//! Where the work in the background stands, for one user.

use std::collections::{BTreeMap, BTreeSet};

use mos_core::{Cube, CubeId, JobId, QueueStats, Scope as CubeScope, UserId};
use mos_scheduler::{ItemState, RecentMessage, Scheduler};
use serde::Serialize;

use super::app::Product;
use super::caller::{Identity, Scope};
use super::error::{ProductError, ProductResult};
use super::reply::Reply;

/// What the names of a user's queues begin with, as in MemOS.
const STREAM_PREFIX: &str = "scheduler:messages:stream:v2.0";

/// Stands where the label does of work that this process has not sent, which the queue counts by cube alone.
const QUEUED: &str = "queued";

/// The most cubes whose part of the queue is counted for a summary of all: each is looked up.
const MAX_COUNTED: usize = 1_000;

/// How far back the summaries look, in seconds.
const SUMMARY_SECONDS: i64 = 24 * 60 * 60;

request! {
    /// Asks where a task, or every message of a user, stands.
    pub struct SchedulerStatusRequest as SchedulerStatusRequest {
        /// Whose.
        required user_id: String;
        /// A task of the application, or a message.
        optional task_id: String;
    }
}

request! {
    /// Asks what waits for a user.
    pub struct TaskQueueRequest as TaskQueueRequest {
        /// Whose.
        required user_id: String;
    }
}

/// Where a task or message stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskState {
    /// The task, or the message.
    pub task_id: String,
    /// Where it stands.
    pub status: ItemState,
}

/// How many stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TaskSummary {
    /// That wait.
    pub waiting: usize,
    /// That are being done.
    pub in_progress: usize,
    /// Kept for MemOS' form: what is neither; always 0.
    pub pending: usize,
    /// That were done.
    pub completed: usize,
    /// That were given up.
    pub failed: usize,
    /// That were taken back.
    pub cancelled: usize,
    /// All of them.
    pub total: usize,
}

/// What became of the last 24 hours' work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AllStatus {
    /// Of the messages.
    pub scheduler_summary: TaskSummary,
    /// Of the tasks of the application; a message without a task counts as one.
    pub all_tasks_summary: TaskSummary,
}

/// What waits for a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TaskQueue {
    /// Whose.
    pub user_id: String,
    /// Kept for MemOS' form; the user again.
    pub user_name: Option<String>,
    /// The user's cube, when there is only one.
    pub mem_cube_id: Option<String>,
    /// The queues: `<prefix>:<user>:<cube>:<label>`; the label is `queued` for what another process has sent, or this one before
    /// it was started anew.
    pub stream_keys: Vec<String>,
    /// For how many users there are messages.
    pub users_count: usize,
    /// How many messages are being handled.
    pub pending_tasks_count: usize,
    /// How many messages wait.
    pub remaining_tasks_count: usize,
    /// The same by queue, `<queue>:<number>`.
    pub pending_tasks_detail: Vec<String>,
    /// The same by queue, `<queue>:<number>`.
    pub remaining_tasks_detail: Vec<String>,
}

impl TaskSummary {
    fn count(&mut self, state: ItemState, number: usize) {
        let counter = match state {
            ItemState::Waiting => &mut self.waiting,
            ItemState::InProgress => &mut self.in_progress,
            ItemState::Completed => &mut self.completed,
            ItemState::Failed => &mut self.failed,
            ItemState::Cancelled => &mut self.cancelled,
        };
        *counter += number;
        self.total += number;
    }
}

impl Product {
    /// Returns where a task stands, by the application's name or that of a message; without one where every message of the user
    /// stands that this process has sent in the last week.
    ///
    /// # Errors
    /// [`ProductError`]: 403 for another user, 404 for an unknown task.
    pub async fn scheduler_status(&self, request: SchedulerStatusRequest) -> ProductResult<Reply<Vec<TaskState>>> {
        let user = self.watched(&request.user_id)?;
        let states = match request.task_id.filter(|task| !task.is_empty()) {
            None => {
                let recent = self.states_of(self.sent(|message| message.user_id == user)).await?;
                let state =
                    |(message, status): (RecentMessage, ItemState)| TaskState { task_id: message.item_id, status };
                let mut states: Vec<TaskState> = recent.into_iter().map(state).collect();
                // What another process has sent, or this one before it was started anew, is not known by its name.
                let is_open = |state: &TaskState| matches!(state.status, ItemState::Waiting | ItemState::InProgress);
                if !states.iter().any(is_open) && self.n_open(&user).await? > 0 {
                    states.push(TaskState { task_id: format!("{user}/queued"), status: ItemState::Waiting });
                }
                states
            }
            Some(task) => {
                let found = self.state_of_task(&user, &task).await?;
                let unknown = || ProductError::new(404, format!("Task {task} not found for user {user}"));
                let status = found.ok_or_else(unknown)?;
                vec![TaskState { task_id: task, status }]
            }
        };
        Ok(Reply::new("Memory get status successfully", states))
    }

    /// Returns what became of the messages of the last 24 hours that this process has sent: those of the caller's user, or of
    /// all for a program. What else waits, or is being done, counts too: in the user's own cubes, or in all, of which 1000 are
    /// looked at.
    ///
    /// # Errors
    /// [`ProductError`]: 403 without rights; store errors.
    pub async fn scheduler_allstatus(&self) -> ProductResult<Reply<AllStatus>> {
        self.caller.check(Scope::Read)?;
        let since = self.mos().parts.clock.now().as_second() - SUMMARY_SECONDS;
        let is_meant = |message: &RecentMessage| {
            message.timestamp.as_second() >= since
                && match &self.caller.identity {
                    Identity::Program => true,
                    Identity::User(user) => message.user_id == *user,
                }
        };
        let mut all = AllStatus::default();
        let mut tasks: BTreeMap<(UserId, String), Vec<ItemState>> = BTreeMap::new();
        let mut known: BTreeMap<CubeId, TaskSummary> = BTreeMap::new();
        for (message, state) in self.states_of(self.sent(is_meant)).await? {
            all.scheduler_summary.count(state, 1);
            known.entry(message.mem_cube_id).or_default().count(state, 1);
            let task = message.task_id.unwrap_or(message.item_id);
            tasks.entry((message.user_id, task)).or_default().push(state);
        }
        for state in tasks.into_values().filter_map(|states| together(&states)) {
            all.all_tasks_summary.count(state, 1);
        }
        let queued = match &self.caller.identity {
            Identity::User(user) => self.queued_for(user).await?,
            Identity::Program => self.queued().await?,
        };
        for (cube, stats) in queued {
            let (waiting, in_progress) = not_known(&stats, known.get(&cube).copied().unwrap_or_default());
            for summary in [&mut all.scheduler_summary, &mut all.all_tasks_summary] {
                summary.count(ItemState::Waiting, waiting);
                summary.count(ItemState::InProgress, in_progress);
            }
        }
        Ok(Reply::new("Memory get status summary successfully", all))
    }

    /// Returns what waits for a user, and what is being done: of the messages that this process has sent, and of all in the user's
    /// own cubes.
    ///
    /// # Errors
    /// [`ProductError`]: 403 for another user, 503 without a scheduler, 404 when nothing was sent for the user lately.
    pub async fn scheduler_task_queue_status(&self, request: TaskQueueRequest) -> ProductResult<Reply<TaskQueue>> {
        let user = self.watched(&request.user_id)?;
        let Some(scheduler) = self.mos().scheduler() else {
            return Err(ProductError::new(503, "there is no scheduler here; set `enable_mem_scheduler: true`"));
        };
        let mut queues: BTreeMap<String, TaskSummary> = BTreeMap::new();
        let mut cubes: BTreeMap<CubeId, TaskSummary> = BTreeMap::new();
        for (message, state) in self.states_of(self.sent(|message| message.user_id == user)).await? {
            let key = format!("{STREAM_PREFIX}:{user}:{}:{}", message.mem_cube_id, message.label);
            queues.entry(key).or_default().count(state, 1);
            cubes.entry(message.mem_cube_id).or_default().count(state, 1);
        }
        for (cube, stats) in self.queued_for(&user).await? {
            let (waiting, in_progress) = not_known(&stats, cubes.get(&cube).copied().unwrap_or_default());
            if waiting + in_progress > 0 {
                let counts = queues.entry(format!("{STREAM_PREFIX}:{user}:{cube}:{QUEUED}")).or_default();
                counts.count(ItemState::Waiting, waiting);
                counts.count(ItemState::InProgress, in_progress);
                cubes.entry(cube).or_default();
            }
        }
        if queues.is_empty() {
            return Err(ProductError::new(404, format!("No scheduler task queue found for user {user}")));
        }
        let detail = |number: fn(&TaskSummary) -> usize| -> Vec<String> {
            let some = queues.iter().filter(|(_, counts)| number(counts) > 0);
            some.map(|(key, counts)| format!("{key}:{}", number(counts))).collect()
        };
        let users_count = match &self.caller.identity {
            Identity::User(_) => 1,
            Identity::Program => {
                let mut users: BTreeSet<UserId> =
                    scheduler.recent().into_iter().map(|message| message.user_id).collect();
                users.insert(user.clone());
                users.len()
            }
        };
        let queue = TaskQueue {
            user_id: user.to_string(),
            user_name: Some(user.to_string()),
            mem_cube_id: if cubes.len() == 1 { cubes.keys().next().map(ToString::to_string) } else { None },
            users_count,
            pending_tasks_count: queues.values().map(|counts| counts.in_progress).sum(),
            remaining_tasks_count: queues.values().map(|counts| counts.waiting).sum(),
            pending_tasks_detail: detail(|counts| counts.in_progress),
            remaining_tasks_detail: detail(|counts| counts.waiting),
            stream_keys: queues.keys().cloned().collect(),
        };
        Ok(Reply::new("Memory get task queue status successfully", queue))
    }

    /// The user whose work the caller may look at.
    pub(super) fn watched(&self, user_id: &str) -> ProductResult<UserId> {
        self.caller.check(Scope::Read)?;
        self.user(user_id)
    }

    /// How many messages of a user are not done: those that this process knows of, and all in the user's own cubes.
    pub(super) async fn n_open(&self, user: &UserId) -> ProductResult<usize> {
        let is_open = |state: &ItemState| matches!(state, ItemState::Waiting | ItemState::InProgress);
        let states = self.states_of(self.sent(|message| message.user_id == *user)).await?;
        let n_known = states.iter().filter(|(_, state)| is_open(state)).count();
        let queued = self.queued_for(user).await?;
        let n_queued: usize = queued.iter().map(|(_, stats)| stats.waiting + stats.claimed).sum();
        Ok(n_known.max(n_queued))
    }

    /// How much is in the queue for the cubes that are a user's own, whoever has sent it.
    async fn queued_for(&self, user: &UserId) -> ProductResult<Vec<(CubeId, QueueStats)>> {
        let Some(queue) = self.mos().queue() else { return Ok(Vec::new()) };
        let mut queued = Vec::new();
        for cube in self.cubes_of(user).await?.into_iter().filter(|cube| cube.owner_id == *user) {
            let stats = queue.stats(&CubeScope::of(&cube.cube_id)).await?;
            queued.push((cube.cube_id, stats));
        }
        Ok(queued)
    }

    /// How much is in the queue for cubes that have something there and that the caller may use, [`MAX_COUNTED`] at most.
    async fn queued(&self) -> ProductResult<Vec<(CubeId, QueueStats)>> {
        let Some(queue) = self.mos().queue() else { return Ok(Vec::new()) };
        let mut queued = Vec::new();
        let mut tenants = queue.tenants().await?;
        tenants.retain(|scope| self.caller.check_cube(&scope.cube).is_ok());
        tenants.truncate(MAX_COUNTED);
        for scope in tenants {
            let stats = queue.stats(&scope).await?;
            queued.push((scope.cube, stats));
        }
        Ok(queued)
    }

    /// The messages that this process has sent lately and that are meant, as far as the caller may use their cubes.
    fn sent(&self, is_meant: impl Fn(&RecentMessage) -> bool) -> Vec<RecentMessage> {
        let Some(scheduler) = self.mos().scheduler() else { return Vec::new() };
        let mut sent = scheduler.recent();
        sent.retain(|message| is_meant(message) && self.caller.check_cube(&message.mem_cube_id).is_ok());
        sent
    }

    /// Where messages stand. What the queue does not know was never accepted, or is forgotten, and is left out.
    async fn states_of(&self, sent: Vec<RecentMessage>) -> ProductResult<Vec<(RecentMessage, ItemState)>> {
        let Some(scheduler) = self.mos().scheduler() else { return Ok(Vec::new()) };
        Ok(scheduler.recent_states(sent).await?)
    }

    /// Where a task of the application, or a message, stands that is for the cubes of a user.
    async fn state_of_task(&self, user: &UserId, task: &str) -> ProductResult<Option<ItemState>> {
        let scheduler = self.mos().scheduler();
        let mut states = Vec::new();
        let cubes = self.cubes_open_to(user).await?;
        for cube in &cubes {
            let scope = CubeScope::of(&cube.cube_id);
            match &scheduler {
                Some(scheduler) => {
                    let found = scheduler.task_status(&scope, task).await?;
                    states.extend(found.map(|task| task.status));
                }
                None => states.extend(self.state_in_queue(&scope, task).await?),
            }
        }
        if let (true, Some(scheduler)) = (states.is_empty(), &scheduler) {
            states = states_of_item(scheduler, &cubes, task).await?;
        }
        Ok(together(&states))
    }

    /// Where a message stands, as the queue alone tells.
    async fn state_in_queue(&self, scope: &CubeScope, item: &str) -> ProductResult<Option<ItemState>> {
        let Some(queue) = self.mos().queue() else { return Ok(None) };
        Ok(queue.find(scope, &JobId::new(item)).await?.map(|state| ItemState::from(&state)))
    }
}

async fn states_of_item(scheduler: &Scheduler, cubes: &[Cube], item: &str) -> ProductResult<Vec<ItemState>> {
    let mut states = Vec::new();
    for cube in cubes {
        let found = scheduler.item_status(&CubeScope::of(&cube.cube_id), item).await?;
        states.extend(found.map(|item| item.status));
    }
    Ok(states)
}

/// How many of what the queue counts in a cube are none of those that are known by their names: how many wait, and how many are
/// being done. The known ones were looked at before, so that one that has begun since counts once.
fn not_known(stats: &QueueStats, known: TaskSummary) -> (usize, usize) {
    let n_open = (stats.waiting + stats.claimed).saturating_sub(known.waiting + known.in_progress);
    let waiting = n_open.min(stats.waiting.saturating_sub(known.waiting));
    (waiting, n_open - waiting)
}

/// Where several stand together; one stands where it does.
fn together(states: &[ItemState]) -> Option<ItemState> {
    if let [only] = states { Some(*only) } else { ItemState::together(states.iter().copied()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_several_messages_have_one_state() {
        use ItemState::{Cancelled, Completed, Failed, InProgress, Waiting};
        assert_eq!(together(&[]), None);
        assert_eq!(together(&[Waiting]), Some(Waiting));
        assert_eq!(together(&[Completed, Waiting]), Some(InProgress));
        assert_eq!(together(&[Completed, Failed, Waiting]), Some(Failed));
        assert_eq!(together(&[Cancelled, Completed]), Some(Completed));
    }

    #[test]
    fn summaries_count_each_once() {
        let mut summary = TaskSummary::default();
        for state in [ItemState::Waiting, ItemState::Completed, ItemState::Completed] {
            summary.count(state, 1);
        }
        assert_eq!((summary.waiting, summary.completed, summary.total), (1, 2, 3));
    }

    #[test]
    fn what_is_known_by_its_name_is_not_counted_again() {
        let stats = |waiting, claimed| QueueStats { waiting, claimed, ..QueueStats::default() };
        let known = |waiting, in_progress| TaskSummary { waiting, in_progress, ..TaskSummary::default() };
        assert_eq!(not_known(&stats(3, 1), known(0, 0)), (3, 1));
        assert_eq!(not_known(&stats(3, 1), known(1, 1)), (2, 0));
        assert_eq!(not_known(&stats(2, 1), known(3, 0)), (0, 0), "one has begun since");
        assert_eq!(not_known(&stats(0, 0), known(2, 0)), (0, 0), "all were done since");
    }
}
