//! What a question is after.

use mos_core::{ChatModel, Message};
use serde::Deserialize;
use serde_json::Value;

use super::prompts;
use crate::ask::ask_json;
use crate::schema;

/// How often a model is asked before its answer is given up.
const ATTEMPTS: usize = 2;

/// The most entries of each list that a model may name.
const MAX_ENTRIES: usize = 5;

/// A question, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The question to search with.
    pub question: String,
    /// Statements that an answer could stand in; searched for beside the question.
    pub statements: Vec<String>,
    /// Titles that a memory with the answer may have.
    pub keys: Vec<String>,
    /// Topics of such a memory.
    pub tags: Vec<String>,
    /// What kind of answer is wanted, in the model's word; empty without a model.
    pub kind: String,
    /// Whether the answer is rather found on the internet.
    pub internet: bool,
    /// Why no model had a say, when one was asked.
    pub failure: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    memories: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    goal_type: String,
    #[serde(default)]
    rephrased_instruction: String,
    #[serde(default)]
    internet_search: bool,
}

fn answer_schema() -> Value {
    let texts = || schema::list(schema::text());
    schema::object(&[
        ("memories", texts()),
        ("keys", texts()),
        ("tags", texts()),
        ("goal_type", schema::one_of(&["fact", "timeline", "preference", "summary", "chat"])),
        ("rephrased_instruction", schema::text()),
        ("internet_search", schema::boolean()),
    ])
}

impl Goal {
    /// Returns the goal that is the question itself. No model is asked.
    pub fn fast(question: &str) -> Self {
        Self {
            question: question.to_owned(),
            statements: Vec::new(),
            keys: Vec::new(),
            tags: Vec::new(),
            kind: String::new(),
            internet: false,
            failure: None,
        }
    }

    /// Asks a model what the question is after, which may refer to the conversation before it. When the model fails, the
    /// goal is that of [`Goal::fast`] and says why.
    pub async fn fine(model: &dyn ChatModel, question: &str, conversation: &[Message]) -> Self {
        let asked = prompts::goal(question, conversation);
        let answer: Answer = match ask_json(model, asked, &answer_schema(), ATTEMPTS).await {
            Ok(answer) => answer,
            Err(error) => {
                // The error goes to the caller, not to the log: it may quote memories.
                tracing::warn!("the model gave no goal; the question is searched for as it stands");
                return Self { failure: Some(error.to_string()), ..Self::fast(question) };
            }
        };
        let rephrased = answer.rephrased_instruction.trim();
        Self {
            question: if rephrased.is_empty() { question } else { rephrased }.to_owned(),
            statements: tidy(answer.memories),
            keys: tidy(answer.keys),
            tags: tidy(answer.tags),
            kind: answer.goal_type,
            internet: answer.internet_search,
            failure: None,
        }
    }
}

/// Without empty entries and repetitions, bounded.
fn tidy(entries: Vec<String>) -> Vec<String> {
    let mut tidied: Vec<String> = Vec::new();
    for entry in entries {
        let entry = entry.trim();
        if !entry.is_empty() && tidied.len() < MAX_ENTRIES && !tidied.iter().any(|known| known == entry) {
            tidied.push(entry.to_owned());
        }
    }
    tidied
}

#[cfg(test)]
mod tests {
    use mos_testkit::chat::ScriptedChat;

    use super::*;

    const ANSWER: &str = r#"{"memories": ["Anna has a dog", " "], "keys": ["Pets", "Pets"], "tags": ["dog"],
        "goal_type": "fact", "rephrased_instruction": "What is Anna's dog called?", "internet_search": false}"#;

    #[tokio::test]
    async fn a_model_says_what_to_look_for() {
        let model = ScriptedChat::new([ANSWER]);
        let goal = Goal::fine(&model, "and what is it called?", &[Message::user("Anna has a dog")]).await;
        assert_eq!(goal.question, "What is Anna's dog called?");
        assert_eq!(
            (goal.statements, goal.keys, goal.tags),
            (vec!["Anna has a dog".to_owned()], vec!["Pets".to_owned()], vec!["dog".to_owned()])
        );
        let asked = model.requests();
        schema::assert_shows(asked[0].answer_schema.as_ref().unwrap(), &serde_json::from_str(ANSWER).unwrap());
        assert!(asked[0].messages[1].text().contains("user: Anna has a dog"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_model_that_fails_leaves_the_question_as_it_is() {
        let model = ScriptedChat::new(["I would search for dogs.", ""]);
        let goal = Goal::fine(&model, "who has a dog?", &[]).await;
        assert_eq!((goal.question.as_str(), goal.keys.len()), ("who has a dog?", 0));
        assert!(goal.failure.is_some_and(|failure| failure.contains("2 attempts")));
        assert_eq!(model.requests().len(), 2);
    }
}
