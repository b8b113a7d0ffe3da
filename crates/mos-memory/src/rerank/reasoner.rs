//! A language model picks the memories that answer a question.

use std::sync::Arc;

use mos_core::language::{Language, detect};
use mos_core::{ChatModel, ChatRequest, MemoryError, MemoryItem, Message, ModelError};
use serde_json::Value;

use crate::schema;

/// The most memories that a model is shown; later ones cannot be picked.
const MAX_ITEMS: usize = 100;
/// The most characters of a memory, and of the question, that a model is shown.
const MAX_CHARS: usize = 600;
/// How much of an answer that cannot be used an error tells, in characters.
const MAX_TOLD: usize = 200;

const ENGLISH: &str = include_str!("reasoner_en.txt");
const CHINESE: &str = include_str!("reasoner_zh.txt");

/// Lets a language model pick memories.
#[derive(Debug)]
pub struct MemoryReasoner {
    model: Arc<dyn ChatModel>,
    attempts: usize,
}

impl MemoryReasoner {
    /// Returns a reasoner that asks at most `attempts` times for an answer that can be used, and at least once.
    pub fn new(model: Arc<dyn ChatModel>, attempts: usize) -> Self {
        Self { model, attempts: attempts.max(1) }
    }

    /// Returns the places of at most `top_k` of the items, in the order in which the model names them. The model may
    /// answer with a JSON list of ids, also inside an object, or name the ids in prose; an empty list picks none. Ids
    /// that are not those of items are passed over.
    ///
    /// # Errors
    /// [`ModelError::BadAnswer`] when no answer names an item or is an empty list; the model's own errors at once.
    pub async fn select(&self, query: &str, items: &[MemoryItem], top_k: usize) -> Result<Vec<usize>, MemoryError> {
        let items = &items[..items.len().min(MAX_ITEMS)];
        if items.is_empty() || top_k == 0 {
            return Ok(Vec::new());
        }
        let messages = conversation(query, items, top_k);
        let mut last = String::new();
        for attempt in 1..=self.attempts {
            // What is asked about one tenant must not make the questions of others faster.
            let request = ChatRequest {
                messages: messages.clone(),
                no_cache: true,
                answer_schema: Some(answer_schema()),
                ..ChatRequest::default()
            };
            let (answer, _) = self.model.complete(request).await?;
            if let Some(mut picked) = picked(&answer, items) {
                picked.truncate(top_k);
                return Ok(picked);
            }
            tracing::debug!(attempt, attempts = self.attempts, "a model's answer names no memory");
            last = answer;
        }
        let told: String = last.trim().chars().take(MAX_TOLD).collect();
        Err(ModelError::BadAnswer(format!(
            "the model `{}` named none of the memories in {} attempts; the last answer began: {told:?}",
            self.model.name(),
            self.attempts
        ))
        .into())
    }
}

fn answer_schema() -> Value {
    schema::object(&[("selected_ids", schema::list(schema::text()))])
}

fn conversation(query: &str, items: &[MemoryItem], top_k: usize) -> Vec<Message> {
    let prompt = match detect(query) {
        Language::English => ENGLISH,
        Language::Chinese => CHINESE,
    };
    let line = |item: &MemoryItem| format!("{}: {}", item.id, one_line(&item.memory));
    let lines: Vec<String> = items.iter().map(line).collect();
    let shown = format!("{}\n\n{}", one_line(query), lines.join("\n"));
    vec![Message::system(prompt.replace("{top_k}", &top_k.to_string())), Message::user(shown)]
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_CHARS).collect()
}

/// Returns the places of the items that an answer names, in its order; `None` when it says nothing of use.
fn picked(answer: &str, items: &[MemoryItem]) -> Option<Vec<usize>> {
    let answer = answer.to_lowercase();
    // The list is what was asked for; what stands around it may name the memories that were not picked.
    if let Some(list) = first_list(&answer) {
        let named = named(list, items);
        if !named.is_empty() || list.trim().is_empty() {
            return Some(named);
        }
    }
    Some(named(&answer, items)).filter(|named| !named.is_empty())
}

fn first_list(answer: &str) -> Option<&str> {
    let after = &answer[answer.find('[')? + 1..];
    after.find(']').map(|end| &after[..end])
}

fn named(text: &str, items: &[MemoryItem]) -> Vec<usize> {
    let place = |(index, item): (usize, &MemoryItem)| Some((text.find(&item.id.as_str().to_lowercase())?, index));
    let mut found: Vec<(usize, usize)> = items.iter().enumerate().filter_map(place).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::MemoryId;

    fn items() -> Vec<MemoryItem> {
        let id = |number: usize| MemoryId::new(format!("0000000a-0000-4000-8000-{number:012}"));
        (0..4).map(|number| MemoryItem::new(id(number), format!("memory {number}"))).collect()
    }

    fn id(number: usize) -> String {
        items()[number].id.to_string()
    }

    #[test]
    fn ids_are_read_from_lists_objects_and_prose() {
        let items = items();
        let (one, two, three) = (id(1), id(2), id(3));
        for (answer, expected) in [
            (format!("[\"{two}\", \"{one}\"]"), Some(vec![2, 1])),
            (format!("```json\n{{\"selected_ids\": [\"{}\"]}}\n```", three.to_uppercase()), Some(vec![3])),
            (format!("I pick {three} and {one}, and {three} again."), Some(vec![3, 1])),
            (format!("[\"{two}\"], but not {one}"), Some(vec![2])),
            (format!("{{\"ids\": [\"{two}\", \"{one}"), Some(vec![2, 1])),
            (format!("1. {one}\n2. {two}\n"), Some(vec![1, 2])),
            ("[]".to_owned(), Some(vec![])),
            ("{\"selected_ids\": [ ]}".to_owned(), Some(vec![])),
            ("[\"00000000-0000-4000-8000-000000000000\"]".to_owned(), None),
            ("I cannot decide.".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(picked(&answer, &items), expected, "{answer}");
        }
    }

    #[test]
    fn the_form_that_prompts_show_is_that_of_the_schema() {
        for prompt in [ENGLISH, CHINESE] {
            let shown = prompt.trim_end().lines().last().unwrap();
            schema::assert_shows(&answer_schema(), &serde_json::from_str(shown).unwrap());
        }
    }

    #[test]
    fn a_conversation_is_bounded_and_speaks_the_language_of_the_question() {
        let mut many = items();
        many[0].memory = format!("first\n{}", "word ".repeat(10_000));
        let english = conversation("Where does Ann live?", &many, 3);
        assert!(english[0].text().contains('3') && !english[0].text().contains("{top_k}"));
        let shown = english[1].text();
        assert_eq!(shown.lines().count(), 2 + many.len());
        assert!(shown.chars().count() < 5 * (MAX_CHARS + 50), "{}", shown.len());
        assert!(conversation("安住在哪里？", &many, 3)[0].text().contains('记'));
    }
}
