//! Searching again for what is missing.

use std::collections::HashSet;
use std::future::Future;

use mos_core::{ChatModel, Hit, MemoryError, MemoryId};
use serde::Deserialize;
use serde_json::Value;

use super::prompts;
use crate::ask::ask_json;
use crate::schema;

/// The most times that a model is asked whether the memories answer.
pub const MAX_STAGES: usize = 3;

/// How often a model is asked before its answer is given up.
const ATTEMPTS: usize = 2;

/// Phrases that are searched for in one stage.
const MAX_PHRASES: usize = 3;

/// Memories that each phrase may bring.
const HITS_PER_PHRASE: usize = 3;

#[derive(Debug, Deserialize)]
struct Answer {
    can_answer: bool,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    retrieval_phrases: Vec<String>,
}

fn answer_schema() -> Value {
    schema::object(&[
        ("can_answer", schema::boolean()),
        ("reason", schema::text()),
        ("retrieval_phrases", schema::list(schema::text())),
    ])
}

/// What a deep search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Deepened {
    /// What was given, in its order, then what later stages brought, in the order in which they did.
    pub hits: Vec<Hit>,
    /// How often the model was asked.
    pub n_stages: usize,
    /// Whether the model found the memories enough.
    pub can_answer: bool,
    /// The model's reason of the last stage, or why it had none.
    pub reason: String,
}

/// Asks a model whether the memories answer the question, and searches for the phrases that it names, in at most
/// [`MAX_STAGES`] stages. `search` returns the best hits for a phrase; at most `limit` hits are returned.
///
/// A model that fails ends the search with what was found.
///
/// # Errors
/// Errors of `search`.
pub async fn deepen<S, F>(
    model: &dyn ChatModel,
    question: &str,
    hits: Vec<Hit>,
    limit: usize,
    search: S,
) -> Result<Deepened, MemoryError>
where
    S: Fn(String, usize) -> F + Send + Sync,
    F: Future<Output = Result<Vec<Hit>, MemoryError>> + Send,
{
    let mut known: HashSet<MemoryId> = hits.iter().map(|hit| hit.item.id.clone()).collect();
    let mut found = Deepened { hits, n_stages: 0, can_answer: false, reason: String::new() };
    let mut searched: HashSet<String> = HashSet::new();
    while found.n_stages < MAX_STAGES {
        found.n_stages += 1;
        let asked = prompts::sufficient(question, &found.hits);
        let answer: Answer = match ask_json(model, asked, &answer_schema(), ATTEMPTS).await {
            Ok(answer) => answer,
            Err(error) => {
                // The error goes to the caller, not to the log: it may quote memories.
                tracing::warn!("the model gave no judgement; the search goes no deeper");
                found.reason = error.to_string();
                break;
            }
        };
        (found.can_answer, found.reason) = (answer.can_answer, answer.reason);
        if found.can_answer || found.n_stages == MAX_STAGES {
            break;
        }
        let n_before = found.hits.len();
        for phrase in answer.retrieval_phrases.into_iter().take(MAX_PHRASES) {
            let phrase = phrase.trim().to_owned();
            if phrase.is_empty() || !searched.insert(phrase.to_lowercase()) {
                continue;
            }
            for hit in search(phrase, HITS_PER_PHRASE).await? {
                if found.hits.len() < limit && known.insert(hit.item.id.clone()) {
                    found.hits.push(hit);
                }
            }
        }
        if found.hits.len() == n_before {
            // The same memories would be judged in the same way.
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mos_testkit::chat::ScriptedChat;
    use serde_json::json;

    use super::*;

    fn hit(text: &str) -> Hit {
        let number = text.bytes().fold(0_u64, |number, byte| number * 256 % 999_999_999_989 + u64::from(byte));
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let item = mos_core::MemoryItem::from_value(json!({"id": id, "memory": text}), String::new).unwrap();
        Hit::new(item, 1.0, 1.0, Vec::new())
    }

    async fn run(answers: &[&str], limit: usize) -> (Deepened, Vec<String>, usize) {
        let model = ScriptedChat::new(answers.iter().copied());
        let phrases = Mutex::new(Vec::new());
        let search = |phrase: String, n: usize| {
            phrases.lock().unwrap().push(phrase.clone());
            async move { Ok((0..n).map(|index| hit(&format!("{phrase}{index}"))).collect()) }
        };
        let found = deepen(&model, "who?", vec![hit("first")], limit, search).await.unwrap();
        let asked = phrases.lock().unwrap().clone();
        for request in model.requests() {
            schema::assert_shows(request.answer_schema.as_ref().unwrap(), &serde_json::from_str(MORE).unwrap());
        }
        (found, asked, model.requests().len())
    }

    fn texts(found: &Deepened) -> Vec<&str> {
        found.hits.iter().map(|hit| hit.item.memory.as_str()).collect()
    }

    const MORE: &str = r#"{"can_answer": false, "reason": "no name", "retrieval_phrases": ["a", "A", "b"]}"#;
    const OTHER: &str = r#"{"can_answer": false, "reason": "no name", "retrieval_phrases": ["c"]}"#;
    const LAST: &str = r#"{"can_answer": false, "reason": "still", "retrieval_phrases": ["d"]}"#;
    const ENOUGH: &str = r#"{"can_answer": true, "reason": "there it is"}"#;

    #[tokio::test]
    async fn it_stops_when_the_question_can_be_answered() {
        let (found, phrases, n_asked) = run(&[MORE, ENOUGH], 99).await;
        assert_eq!(texts(&found), ["first", "a0", "a1", "a2", "b0", "b1", "b2"]);
        assert_eq!((phrases, n_asked, found.n_stages, found.can_answer), (vec!["a".into(), "b".into()], 2, 2, true));
        let (found, phrases, _) = run(&[ENOUGH], 99).await;
        assert_eq!((found.hits.len(), phrases.len(), found.reason.as_str()), (1, 0, "there it is"));
    }

    #[tokio::test]
    async fn it_stops_after_three_stages_and_when_nothing_new_comes() {
        let (found, phrases, n_asked) = run(&[MORE, OTHER, LAST], 99).await;
        assert_eq!((found.n_stages, found.can_answer, n_asked), (3, false, 3));
        assert_eq!(phrases, ["a", "b", "c"], "what the last stage names is not looked at by anybody");
        let (found, _, n_asked) = run(&[MORE, MORE, ENOUGH], 99).await;
        assert_eq!((found.n_stages, n_asked), (2, 2));
        let (found, _, _) = run(&[MORE, ENOUGH], 3).await;
        assert_eq!(texts(&found), ["first", "a0", "a1"], "bounded");
    }

    #[tokio::test]
    async fn a_model_that_fails_takes_nothing_away() {
        let (found, _, n_asked) = run(&["hm", "hm"], 99).await;
        assert_eq!((texts(&found), n_asked, found.can_answer), (vec!["first"], 2, false));
        assert!(found.reason.contains("2 attempts"), "{}", found.reason);
    }
}
