//! `feedback`: a user corrects memories in plain words.

use mos_core::{ChatRequest, CubeId, MemoryError, MemoryId, Message, SessionId, UserId};
use mos_scheduler::{FeedbackChange, FeedbackMemory, FeedbackReport, FeedbackRequest as Correction};
use serde_json::{Map, Value, json};

use super::app::Product;
use super::error::{ProductError, ProductResult};
use super::reply::Reply;
use super::shared_types::{AsyncMode, DEFAULT_SESSION, cubes_of};
use crate::error::Error;

/// What clients look for when a correction was done or taken.
const DONE: &str = "Memory feedback successfully";

/// How much of the conversation before a correction is looked at, in messages.
const MAX_HISTORY: usize = 20;

/// How a model is asked to answer once more.
const ANSWER_AGAIN: &str = "The user corrects your last answer. Answer the question once more with what the user says now, in \
the user's language. Give the corrected answer only.";

request! {
    /// What a user says about memories.
    pub struct FeedbackRequest as APIFeedbackRequest {
        /// Who says it; also the cube when none is named.
        required user_id: String;
        /// The conversation.
        #[schema(required = false, default = "default_session")]
        default session_id: Option<String> = Some(DEFAULT_SESSION.to_owned());
        /// The application's name for what is done in the background.
        optional task_id: String;
        /// The conversation before it, oldest first; may be null.
        #[schema(value_type = Option<Vec<Object>>, required = true)]
        required history: Option<Vec<Message>>;
        /// The memories that the user was shown.
        optional retrieved_memory_ids: Vec<String>;
        /// What the user says; null or blank changes nothing.
        #[schema(required = true)]
        required feedback_content: Option<String>;
        /// When it was said.
        optional feedback_time: String;
        /// The cubes whose memories are corrected.
        optional writable_cube_ids: Vec<String>;
        /// Whether it is done now or in the background.
        #[schema(required = false, default = "async")]
        default async_mode: AsyncMode = AsyncMode::Async;
        /// Whether a model answers once more, with what the user says now.
        #[schema(required = false, default = false)]
        default corrected_answer: bool = false;
        /// Accepted and not used.
        #[schema(value_type = Option<Object>)]
        optional info: Map<String, Value>;
        /// The cube, when `writable_cube_ids` names none.
        optional mem_cube_id: String;
    }
}

impl Product {
    /// Corrects memories as a user says, and returns one record per cube: `answer` and `record` with what was added, changed
    /// and taken out of use. With `async_mode` `async`, which is usual, a scheduler does it, and the answer is `[[]]`; without a
    /// scheduler it is done now.
    ///
    /// # Errors
    /// Status 403 for a cube of somebody else; 400 for words that are too long; 503 when no model answers.
    pub async fn feedback(&self, request: FeedbackRequest) -> ProductResult<Reply<Vec<Value>>> {
        let cubes = cubes_of(request.writable_cube_ids.as_deref(), request.mem_cube_id.as_ref());
        let (user, cubes) = self.to_write(&request.user_id, cubes.as_deref()).await?;
        for cube in self.check_all(&user, &cubes).await? {
            self.mos().check_remembering(&cube)?;
        }
        let correction = self.correction(&request, user)?;
        let task = request.task_id.as_deref().filter(|task| !task.is_empty());
        let is_later = request.async_mode == AsyncMode::Async && !correction.text.trim().is_empty();
        let mut records = Vec::new();
        for cube in &cubes {
            // A correction is known by its name within a cube.
            if is_later && self.mos().feedback_later(cube, &correction, task).await? {
                continue;
            }
            let report = self.mos().feedback(cube, &correction).await.map_err(told)?;
            let answer =
                if request.corrected_answer { self.answer_again(&correction, cube).await } else { String::new() };
            records.push(record(cube, &report, &answer));
        }
        if records.is_empty() {
            records.push(json!([]));
        }
        Ok(Reply::new(DONE, records))
    }

    fn correction(&self, request: &FeedbackRequest, user: UserId) -> ProductResult<Correction> {
        let session = request.session_id.as_deref().filter(|id| !id.is_empty()).unwrap_or(DEFAULT_SESSION);
        let history = request.history.as_deref().unwrap_or_default();
        let first = history.len().saturating_sub(MAX_HISTORY);
        let text = request.feedback_content.clone().unwrap_or_default();
        let retrieved = request.retrieved_memory_ids.iter().flatten();
        Ok(Correction {
            session: Some(SessionId::parse(session)?),
            history: history[first..].to_vec(),
            // Ids that no memory can have name none.
            retrieved: retrieved.filter_map(|id| MemoryId::parse(id.as_str()).ok()).collect(),
            time: request.feedback_time.clone().filter(|time| !time.is_empty()),
            ..Correction::new(self.mos().parts.ids.next_uuid(), user, text)
        })
    }

    /// Returns the answer to the question that was corrected; empty when there is nothing to answer, or the model fails: the
    /// memories are corrected all the same.
    async fn answer_again(&self, correction: &Correction, cube: &CubeId) -> String {
        if correction.text.trim().is_empty() {
            return String::new();
        }
        let mut messages = vec![Message::system(ANSWER_AGAIN)];
        messages.extend(correction.history.iter().cloned());
        messages.push(Message::user(correction.text.as_str()));
        let Ok(model) = self.mos().chat_model().await else { return String::new() };
        let model = self.mos().metered(model, &correction.user, Some(cube));
        let request = ChatRequest { messages, cache_scope: correction.user.to_string(), ..ChatRequest::default() };
        match model.complete(request).await {
            Ok((answer, _)) => answer.trim().to_owned(),
            Err(_) => {
                tracing::warn!(%cube, "a corrected answer could not be given; the memories are corrected");
                String::new()
            }
        }
    }
}

/// What the caller is told when a correction fails. Why it may work later can quote a model, which was shown memories; the
/// facade has logged that it failed.
fn told(error: Error) -> ProductError {
    match &error {
        Error::Memory(MemoryError::Model(model)) if model.is_away() => ProductError::new(
            503,
            "the memories could not be corrected at the moment; the same request does what is left",
        ),
        _ => error.into(),
    }
}

/// Returns what was done in one cube.
fn record(cube: &CubeId, report: &FeedbackReport, answer: &str) -> Value {
    let added = |memory: &FeedbackMemory| json!({"id": memory.id, "text": memory.text, "source_doc_id": null});
    let updated = |change: &FeedbackChange| {
        json!({
            "id": change.id, "text": change.text, "source_doc_id": null,
            "origin_id": change.id, "origin_memory": change.before,
        })
    };
    let archived = |memory: &FeedbackMemory| json!({"id": memory.id, "text": memory.text});
    json!({
        "answer": answer,
        "cube_id": cube,
        "record": {
            "add": report.added.iter().map(added).collect::<Vec<_>>(),
            "update": report.updated.iter().map(updated).collect::<Vec<_>>(),
            "archive": report.archived.iter().map(archived).collect::<Vec<_>>(),
            "reasons": report.reasons,
        },
    })
}
