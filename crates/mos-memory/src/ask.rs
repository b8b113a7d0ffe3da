//! Asking a language model for JSON of a known shape.

use mos_core::{ChatModel, MemoryError, Message};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// As [`mos_core::ask::ask_json`], with a schema for the servers that can be held to one.
///
/// # Errors
/// Those of the model.
pub(crate) async fn ask_json<T: DeserializeOwned>(
    model: &dyn ChatModel,
    messages: Vec<Message>,
    schema: &Value,
    attempts: usize,
) -> Result<T, MemoryError> {
    Ok(mos_core::ask::ask_json(model, messages, Some(schema), attempts).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::{ModelError, Role};
    use mos_testkit::chat::ScriptedChat;
    use serde::Deserialize;

    use crate::schema;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Fact {
        fact: String,
    }

    fn schema_of_fact() -> Value {
        schema::object(&[("fact", schema::text())])
    }

    fn question() -> Vec<Message> {
        vec![Message::user("Which fact?")]
    }

    #[tokio::test]
    async fn each_new_question_says_what_was_wrong() {
        let model = ScriptedChat::new(["I do not know.", "", r#"{"facts": []}"#, r#"```{"fact": "tea"}```"#]);
        let fact: Fact = ask_json(&model, question(), &schema_of_fact(), 4).await.unwrap();
        assert_eq!(fact, Fact { fact: "tea".to_owned() });
        let asked = model.requests();
        assert_eq!(asked.len(), 4);
        assert!(asked.iter().all(|request| request.answer_schema == Some(schema_of_fact())), "{asked:?}");
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
        let error = ask_json::<Fact>(&model, question(), &schema_of_fact(), 2).await.unwrap_err();
        assert!(matches!(error, MemoryError::Model(ModelError::BadAnswer(_))));
        let text = error.to_string();
        assert!(text.contains("2 attempts") && text.contains("no xxx") && text.len() < 500, "{text}");
        assert_eq!(model.requests().len(), 2);
    }

    #[tokio::test]
    async fn errors_of_the_connection_are_not_asked_again() {
        let model = ScriptedChat::new(Vec::<String>::new());
        let error = ask_json::<Fact>(&model, question(), &schema_of_fact(), 3).await.unwrap_err();
        assert!(matches!(error, MemoryError::Model(ModelError::Unavailable(_))), "{error}");
        assert_eq!(model.requests().len(), 1);
    }

    #[tokio::test]
    async fn of_several_values_the_fitting_one_is_taken() {
        let model = ScriptedChat::new([r#"Like {"example": 1}: {"fact": "tea"}"#]);
        let fact: Fact = ask_json(&model, question(), &schema_of_fact(), 1).await.unwrap();
        assert_eq!(fact.fact, "tea");
    }
}
