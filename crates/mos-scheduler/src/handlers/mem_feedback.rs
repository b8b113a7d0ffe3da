//! `mem_feedback`: a user corrects memories in plain words.
//!
//! A model decides, about the memories that it is shown and no others, which are to be changed, archived or added, and which
//! word is to be replaced everywhere. The decision is written down before the first change, so that a second attempt does the
//! rest of the same, and not something else. Nothing is removed: what changes keeps its id and its history.

mod apply;
mod judge;
mod plan;
mod replace;
mod used;

use mos_core::{Clock, Expected, IdSource, MemoryId, Message, Scope, SessionId, StateStore, StoreError, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::steps::{about, cut, of_batch};
use crate::cube::SchedulerCube;
use crate::event::{ADD_MEMORY, ARCHIVE_MEMORY, Event, UPDATE_MEMORY, counted};
use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;
use plan::Plan;

/// The log of what feedback has done.
const LOG: &str = "scheduler/feedback";

/// How many reports of a cube are kept.
pub const KEPT_REPORTS: usize = 200;

/// How corrections are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedbackOptions {
    /// How many memories are looked for besides those that the request names.
    pub top_k: usize,
    /// The most memories that the model is shown.
    pub max_shown: usize,
    /// The most memories in which a word is replaced.
    pub max_replaced: usize,
    /// How often the model is asked until its answer can be read.
    pub attempts: usize,
}

impl Default for FeedbackOptions {
    fn default() -> Self {
        Self { top_k: 10, max_shown: 25, max_replaced: 200, attempts: 3 }
    }
}

/// What a user says about memories.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackRequest {
    /// Names the request among those of its user for the cube: the same one done twice is done once.
    pub name: String,
    /// Who says it.
    pub user: UserId,
    /// In which conversation.
    pub session: Option<SessionId>,
    /// What.
    pub text: String,
    /// The conversation before it, oldest first.
    pub history: Vec<Message>,
    /// The memories that the user was shown.
    pub retrieved: Vec<MemoryId>,
    /// When it was said, as the client wrote it.
    pub time: Option<String>,
}

impl FeedbackRequest {
    /// Returns what a user says, without a conversation.
    pub fn new(name: impl Into<String>, user: impl Into<UserId>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            user: user.into(),
            session: None,
            text: text.into(),
            history: Vec::new(),
            retrieved: Vec::new(),
            time: None,
        }
    }

    /// Reads a `mem_feedback` message: JSON with `feedback_content` (or `feedback`, `text`), `history` (or `messages`,
    /// `chat_history`), `retrieved_memory_ids`, `feedback_time`, `session_id` and `request_name`; or plain text. Without a name
    /// the message's is the request's.
    ///
    /// # Errors
    /// [`HandlerError::GiveUp`] for fields of the wrong form.
    pub fn of_message(message: &ScheduleMessage) -> Result<Self, HandlerError> {
        let mut request = Self::new(message.item_id.as_str(), message.user_id.clone(), message.content.as_str());
        request.session = Some(message.session_id.as_str()).filter(|id| !id.is_empty()).map(SessionId::from);
        request.history = message.chat_history.clone().unwrap_or_default();
        let fields = match serde_json::from_str::<Value>(&message.content) {
            Ok(Value::Object(fields)) => fields,
            Ok(Value::String(text)) => {
                request.text = text;
                return Ok(request);
            }
            _ => return Ok(request),
        };
        let refused = |why: String| HandlerError::GiveUp(format!("the content of a `mem_feedback` message: {why}"));
        let first = |names: &[&str]| names.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
        request.text = match first(&["feedback_content", "feedback", "text"]) {
            Some(Value::String(text)) => text.clone(),
            None => String::new(),
            Some(_) => return Err(refused("`feedback_content` must be a text".to_owned())),
        };
        if let Some(history) = first(&["history", "messages", "chat_history"]) {
            request.history = serde_json::from_value(history.clone())
                .map_err(|error| refused(format!("`history` holds no messages: {error}")))?;
        }
        if let Some(ids) = first(&["retrieved_memory_ids"]) {
            request.retrieved = serde_json::from_value(ids.clone())
                .map_err(|error| refused(format!("`retrieved_memory_ids` is no list of ids: {error}")))?;
        }
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        request.time = text("feedback_time").map(str::to_owned);
        request.name = text("request_name").map_or(request.name, str::to_owned);
        request.session = text("session_id").map(SessionId::from).or(request.session);
        Ok(request)
    }
}

/// A memory that was added, or taken out of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackMemory {
    /// Its id.
    pub id: MemoryId,
    /// The beginning of its text.
    pub text: String,
}

/// A memory that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackChange {
    /// Its id, as before.
    pub id: MemoryId,
    /// The beginning of its text now.
    pub text: String,
    /// The beginning of what it said before.
    pub before: String,
}

/// What came of a correction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackReport {
    /// New memories.
    pub added: Vec<FeedbackMemory>,
    /// Memories that say something else now.
    pub updated: Vec<FeedbackChange>,
    /// Memories that are not used any more.
    pub archived: Vec<FeedbackMemory>,
    /// Memories that were looked at and stay as they are.
    pub unchanged: Vec<MemoryId>,
    /// Why it was done, and what was not done.
    pub reasons: Vec<String>,
}

/// A report with the request that it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFeedback {
    /// As [`FeedbackRequest::name`].
    pub name: String,
    /// Who corrected.
    pub user: UserId,
    /// When, ISO 8601.
    pub at: String,
    /// What was done.
    pub report: FeedbackReport,
}

/// What a correction needs besides the cube.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackParts<'a> {
    /// Keeps what was decided and done.
    pub state: &'a dyn StateStore,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Ids of new memories.
    pub ids: &'a dyn IdSource,
}

/// Does what a user says about memories, and returns what was done; blank words do nothing. The same request (by its user and
/// name) returns the same report again. Without a model the words are stored as a memory that names those they are about.
///
/// # Errors
/// Errors of the model and of stores; what was decided is done by the next attempt.
pub async fn feedback(
    cube: &SchedulerCube,
    request: &FeedbackRequest,
    parts: &FeedbackParts<'_>,
    options: &FeedbackOptions,
) -> Result<FeedbackReport, HandlerError> {
    if request.text.trim().is_empty() {
        return Ok(FeedbackReport::default());
    }
    let scope = cube.scope();
    let key = plan_key(request);
    if let Some(done) = report_of(parts.state, &scope, request).await? {
        parts.state.remove(&scope, &key).await?;
        return Ok(done);
    }
    let plan = match read_plan(parts.state, &scope, &key).await? {
        Some(plan) => plan,
        None => {
            let plan = judge::decide(cube, request, parts, options).await?;
            write_plan(parts.state, &scope, &key, plan).await?
        }
    };
    let report = apply::apply(cube, request, &plan).await?;
    let entry = RecordedFeedback {
        name: request.name.clone(),
        user: request.user.clone(),
        at: parts.clock.now_text(),
        report: report.clone(),
    };
    parts.state.append(&scope, LOG, &[json!(entry)], KEPT_REPORTS).await?;
    parts.state.remove(&scope, &key).await?;
    Ok(report)
}

/// Returns the newest reports of a cube, oldest first; at most [`KEPT_REPORTS`] are kept.
///
/// # Errors
/// [`StoreError::Corrupt`] for an entry that is no report; store errors.
pub async fn feedback_reports(state: &dyn StateStore, scope: &Scope) -> Result<Vec<RecordedFeedback>, StoreError> {
    let entries = state.entries(scope, LOG, 0, KEPT_REPORTS).await?;
    let read = |value: Value| {
        serde_json::from_value(value).map_err(|error| StoreError::Corrupt {
            what: "a report of a correction".to_owned(),
            detail: error.to_string(),
        })
    };
    entries.into_iter().map(|entry| read(entry.value)).collect()
}

/// Tells a request from all others: two users may give theirs the same name.
fn mark(request: &FeedbackRequest) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(request.user.as_str().as_bytes()).update(b"\0").update(request.name.as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// Where the decision about a request stands.
fn plan_key(request: &FeedbackRequest) -> String {
    format!("scheduler/feedback/plan/{}", mark(request))
}

async fn report_of(
    state: &dyn StateStore,
    scope: &Scope,
    request: &FeedbackRequest,
) -> Result<Option<FeedbackReport>, StoreError> {
    let all = feedback_reports(state, scope).await?;
    let is_same = |entry: &RecordedFeedback| entry.name == request.name && entry.user == request.user;
    Ok(all.into_iter().find(is_same).map(|entry| entry.report))
}

async fn read_plan(state: &dyn StateStore, scope: &Scope, key: &str) -> Result<Option<Plan>, HandlerError> {
    let Some(document) = state.read(scope, key).await? else { return Ok(None) };
    let plan = serde_json::from_value(document.value)
        .map_err(|error| HandlerError::give_up(format!("what was decided about a correction is damaged: {error}")))?;
    Ok(Some(plan))
}

/// Writes down what was decided; of two that decide at the same time, the first one counts.
async fn write_plan(state: &dyn StateStore, scope: &Scope, key: &str, plan: Plan) -> Result<Plan, HandlerError> {
    match state.write(scope, key, &json!(plan), Expected::Absent).await {
        Ok(_) => Ok(plan),
        Err(StoreError::Conflict(text)) => {
            let first = read_plan(state, scope, key).await?;
            first.ok_or_else(|| HandlerError::retry(format!("another correction of this name is at work: {text}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Handles `mem_feedback` messages; see [`FeedbackRequest::of_message`].
pub(crate) async fn handle(
    context: &HandlerContext,
    messages: &[ScheduleMessage],
    options: &FeedbackOptions,
) -> Result<(), HandlerError> {
    for (index, message) in messages.iter().enumerate() {
        correct(context, message, options).await.map_err(|error| of_batch(index, error))?;
    }
    Ok(())
}

async fn correct(
    context: &HandlerContext,
    message: &ScheduleMessage,
    options: &FeedbackOptions,
) -> Result<(), HandlerError> {
    let request = FeedbackRequest::of_message(message)?;
    let parts = FeedbackParts { state: &*context.state, clock: &*context.clock, ids: &*context.ids };
    let report = feedback(&context.cube, &request, &parts, options).await?;
    let events = events(context, message, &report).await?;
    context.record(events).await
}

/// One event for each thing that was done.
async fn events(
    context: &HandlerContext,
    message: &ScheduleMessage,
    report: &FeedbackReport,
) -> Result<Vec<Event>, HandlerError> {
    let (text, now) = (context.cube.text.as_ref(), context.clock.now());
    let why = report.reasons.first().map(|reason| format!(": {}", cut(reason))).unwrap_or_default();
    let added: Vec<MemoryId> = report.added.iter().map(|memory| memory.id.clone()).collect();
    let updated: Vec<MemoryId> = report.updated.iter().map(|change| change.id.clone()).collect();
    let archived: Vec<MemoryId> = report.archived.iter().map(|memory| memory.id.clone()).collect();
    let mut events = Vec::new();
    for (label, ids, what) in
        [(ADD_MEMORY, added, "added"), (UPDATE_MEMORY, updated, "changed"), (ARCHIVE_MEMORY, archived, "archived")]
    {
        if !ids.is_empty() {
            let items = text.get_by_ids(&ids).await?;
            let said = format!("feedback {what} {}{why}", counted(ids.len(), "memory", "memories"));
            events.push(about(Event::of(message, label, "feedback", said, now), &items));
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use mos_core::{RandomIds, SystemClock};

    use super::*;

    fn message(content: &str) -> ScheduleMessage {
        let mut message = ScheduleMessage::new("mem_feedback", "ann", "cube", content, &SystemClock, &RandomIds);
        message.session_id = "s".to_owned();
        message
    }

    #[test]
    fn requests_are_read_in_their_forms() {
        let content = json!({"feedback_content": "No, Porto.", "history": [{"role": "user", "content": "Hi"}],
            "retrieved_memory_ids": ["a"], "feedback_time": "2 May", "session_id": null});
        let request = FeedbackRequest::of_message(&message(&content.to_string())).unwrap();
        assert_eq!((request.text.as_str(), request.history.len()), ("No, Porto.", 1));
        assert_eq!((request.retrieved, request.time.as_deref()), (vec!["a".into()], Some("2 May")));
        assert_eq!(request.session, Some("s".into()));
        let named = FeedbackRequest::of_message(&message(r#"{"text": "x", "request_name": "n"}"#)).unwrap();
        assert_eq!(named.name, "n");
        let plain = FeedbackRequest::of_message(&message("No, Porto.")).unwrap();
        assert_eq!((plain.text.as_str(), plain.history.len()), ("No, Porto.", 0));
        let null = FeedbackRequest::of_message(&message(r#"{"feedback_content": null, "history": null}"#)).unwrap();
        assert_eq!(null.text, "");
        for bad in [r#"{"feedback_content": 7}"#, r#"{"feedback": "x", "history": [1]}"#] {
            assert!(FeedbackRequest::of_message(&message(bad)).is_err(), "{bad}");
        }
    }
}
