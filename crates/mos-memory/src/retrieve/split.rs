//! A hard question as several easier ones.

use mos_core::{ChatModel, MemoryError};
use serde::Deserialize;
use serde_json::Value;

use super::prompts;
use crate::ask::ask_json;
use crate::schema;

/// The most questions that one becomes.
pub const MAX_SUB_QUESTIONS: usize = 3;

/// How often a model is asked before its answer is given up.
const ATTEMPTS: usize = 2;

#[derive(Debug, Deserialize)]
struct Answer {
    is_complex: bool,
    #[serde(default)]
    sub_questions: Vec<String>,
}

fn answer_schema() -> Value {
    schema::object(&[("is_complex", schema::boolean()), ("sub_questions", schema::list(schema::text()))])
}

/// Returns at most [`MAX_SUB_QUESTIONS`] questions that together answer the given one; none when it is simple.
///
/// # Errors
/// Errors of the model; the question is then best searched for as it stands.
pub async fn sub_questions(model: &dyn ChatModel, question: &str) -> Result<Vec<String>, MemoryError> {
    let answer: Answer = ask_json(model, prompts::split(question), &answer_schema(), ATTEMPTS).await?;
    if !answer.is_complex {
        return Ok(Vec::new());
    }
    let questions = answer.sub_questions.iter().map(|one| one.trim()).filter(|one| !one.is_empty() && *one != question);
    Ok(questions.take(MAX_SUB_QUESTIONS).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use mos_testkit::chat::ScriptedChat;

    use super::*;

    #[tokio::test]
    async fn only_complex_questions_are_split_and_not_without_end() {
        let answers = [
            r#"{"is_complex": true, "sub_questions": ["a?", "", "b?", "c?", "d?"]}"#,
            r#"{"is_complex": false, "sub_questions": ["a?"]}"#,
        ];
        let model = ScriptedChat::new(answers);
        assert_eq!(sub_questions(&model, "a and b and c?").await.unwrap(), ["a?", "b?", "c?"]);
        assert!(sub_questions(&model, "a?").await.unwrap().is_empty());
        for (request, answer) in model.requests().iter().zip(answers) {
            schema::assert_shows(request.answer_schema.as_ref().unwrap(), &serde_json::from_str(answer).unwrap());
        }
    }
}
