//! Asking a language model for JSON of a known shape.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::chat::{ChatModel, ChatRequest, FinishReason};
use crate::error::ModelError;
use crate::json_repair;
use crate::message::Message;

/// How much of an answer that cannot be used is shown to the model again, in characters.
const MAX_SHOWN: usize = 2_000;

/// How much of the last answer an error tells, in characters.
const MAX_TOLD: usize = 200;

/// Returns the model's answer to a conversation, read as JSON of type `T`.
///
/// An answer that is no such JSON is asked for again, at most `attempts` times in all (and at least once): each new
/// question holds the conversation, the last answer and one sentence that says what was wrong with it. Of an answer
/// with several values the first that fits `T` is taken. Servers that can be held to a JSON schema get `schema`.
///
/// # Errors
/// [`ModelError::BadAnswer`] after the last attempt, with the reason and the beginning of the last answer; every other
/// error of the model at once, because the model's client has retried what can be retried.
pub async fn ask_json<T: DeserializeOwned>(
    model: &dyn ChatModel,
    messages: Vec<Message>,
    schema: Option<&Value>,
    attempts: usize,
) -> Result<T, ModelError> {
    let attempts = attempts.max(1);
    let mut conversation = messages.clone();
    let (mut last_answer, mut last_reason) = (String::new(), String::new());
    for _ in 0..attempts {
        // What is asked about one tenant must not make the questions of others faster.
        let request = ChatRequest {
            messages: conversation,
            no_cache: true,
            answer_schema: schema.cloned(),
            ..ChatRequest::default()
        };
        let (answer, usage) = model.complete(request).await?;
        let reason = match read(&answer) {
            Ok(value) => return Ok(value),
            Err(reason) if usage.finish == FinishReason::Length => {
                format!("{reason}; it was cut off at the limit of its length, so answer more briefly")
            }
            Err(reason) => reason,
        };
        conversation = once_more(&messages, &answer, &reason);
        (last_answer, last_reason) = (answer, reason);
    }
    let told: String = last_answer.trim().chars().take(MAX_TOLD).collect();
    Err(ModelError::BadAnswer(format!(
        "the model `{}` gave no usable JSON in {attempts} attempts; of the last one: {last_reason}. It began: {told:?}",
        model.name()
    )))
}

/// Returns the first value of an answer that fits.
fn read<T: DeserializeOwned>(answer: &str) -> Result<T, String> {
    let mut first_reason = None;
    for value in json_repair::candidates(answer)? {
        match serde_json::from_value(value) {
            Ok(fitting) => return Ok(fitting),
            Err(error) => {
                first_reason.get_or_insert_with(|| format!("the JSON is not of the form that was asked for: {error}"));
            }
        }
    }
    Err(first_reason.unwrap_or_else(|| "the answer holds no JSON".to_owned()))
}

/// The conversation with the answer that cannot be used and what to do better. Roles go on alternating, which some
/// models insist on.
fn once_more(messages: &[Message], answer: &str, reason: &str) -> Vec<Message> {
    let mut shown: String = answer.trim().chars().take(MAX_SHOWN).collect();
    if shown.is_empty() {
        "(no answer)".clone_into(&mut shown);
    }
    let mut conversation = messages.to_vec();
    conversation.push(Message::assistant(shown));
    conversation.push(Message::user(format!(
        "This cannot be used: {reason}. Answer again, with the JSON alone and in the form that was asked for."
    )));
    conversation
}
