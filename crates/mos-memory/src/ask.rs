//! Asking a language model for JSON of a known shape.

use mos_core::chat::FinishReason;
use mos_core::{ChatModel, ChatRequest, MemoryError, Message, ModelError, json_repair};
use serde::de::DeserializeOwned;

/// How much of an answer that cannot be used is shown to the model again, in characters.
const MAX_SHOWN: usize = 2_000;

/// How much of the last answer an error tells, in characters.
const MAX_TOLD: usize = 200;

/// Returns the model's answer to a conversation, read as JSON of type `T`.
///
/// An answer that is no such JSON is asked for again, at most `attempts` times in all (and at least once): each new
/// question holds the conversation, the last answer and one sentence that says what was wrong with it. Of an answer
/// with several values the first that fits `T` is taken.
///
/// # Errors
/// [`ModelError::BadAnswer`] after the last attempt, with the reason and the beginning of the last answer; every other
/// error of the model at once, because the model's client has retried what can be retried.
pub(crate) async fn ask_json<T: DeserializeOwned>(
    model: &dyn ChatModel,
    messages: Vec<Message>,
    attempts: usize,
) -> Result<T, MemoryError> {
    let attempts = attempts.max(1);
    let mut conversation = messages.clone();
    let (mut last_answer, mut last_reason) = (String::new(), String::new());
    for attempt in 1..=attempts {
        // What is asked about one tenant must not make the questions of others faster.
        let request = ChatRequest { messages: conversation, no_cache: true, ..ChatRequest::default() };
        let (answer, usage) = model.complete(request).await?;
        let reason = match read(&answer) {
            Ok(value) => return Ok(value),
            Err(reason) if usage.finish == FinishReason::Length => {
                format!("{reason}; it was cut off at the limit of its length, so answer more briefly")
            }
            Err(reason) => reason,
        };
        // Neither answer nor reason go to the log: both may quote memories.
        tracing::debug!(attempt, attempts, n_bytes = answer.len(), "a model's answer cannot be used");
        conversation = once_more(&messages, &answer, &reason);
        (last_answer, last_reason) = (answer, reason);
    }
    let told: String = last_answer.trim().chars().take(MAX_TOLD).collect();
    Err(ModelError::BadAnswer(format!(
        "the model `{}` gave no usable JSON in {attempts} attempts; of the last one: {last_reason}. It began: {told:?}",
        model.name()
    ))
    .into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::Role;
    use mos_testkit::chat::ScriptedChat;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Fact {
        fact: String,
    }

    fn question() -> Vec<Message> {
        vec![Message::user("Which fact?")]
    }

    #[tokio::test]
    async fn each_new_question_says_what_was_wrong() {
        let model = ScriptedChat::new(["I do not know.", "", r#"{"facts": []}"#, r#"```{"fact": "tea"}```"#]);
        let fact: Fact = ask_json(&model, question(), 4).await.unwrap();
        assert_eq!(fact, Fact { fact: "tea".to_owned() });
        let asked = model.requests();
        assert_eq!(asked.len(), 4);
        for (request, reason) in asked[1..].iter().zip(["holds no JSON", "is empty", "missing field `fact`"]) {
            let [_, shown, again] = request.messages.as_slice() else { panic!("{request:?}") };
            assert_eq!((shown.role, again.role), (Role::Assistant, Role::User));
            assert!(!shown.text().is_empty() && again.text().contains(reason), "{}", again.text());
        }
    }

    #[tokio::test]
    async fn attempts_are_bounded_and_the_error_tells_the_last_answer() {
        let long = format!("no {}", "x".repeat(500));
        let model = ScriptedChat::new(["prose", long.as_str(), "{\"fact\": \"too late\"}"]);
        let error = ask_json::<Fact>(&model, question(), 2).await.unwrap_err();
        assert!(matches!(error, MemoryError::Model(ModelError::BadAnswer(_))));
        let text = error.to_string();
        assert!(text.contains("2 attempts") && text.contains("no xxx") && text.len() < 500, "{text}");
        assert_eq!(model.requests().len(), 2);
    }

    #[tokio::test]
    async fn errors_of_the_connection_are_not_asked_again() {
        let model = ScriptedChat::new(Vec::<String>::new());
        let error = ask_json::<Fact>(&model, question(), 3).await.unwrap_err();
        assert!(matches!(error, MemoryError::Model(ModelError::Unavailable(_))), "{error}");
        assert_eq!(model.requests().len(), 1);
    }

    #[tokio::test]
    async fn of_several_values_the_fitting_one_is_taken() {
        let model = ScriptedChat::new([r#"Like {"example": 1}: {"fact": "tea"}"#]);
        let fact: Fact = ask_json(&model, question(), 1).await.unwrap();
        assert_eq!(fact.fact, "tea");
    }
}
