//! The language model's part in a turn. Every question has an answer without it.

use std::collections::BTreeSet;

use mos_core::ask::ask_json;
use mos_core::{ChatModel, ModelError};
use serde::Deserialize;

use super::prompts::{self, Asked};

/// How often a model is asked for an answer that can be used.
const ATTEMPTS: usize = 2;

/// The most phrases that are searched for.
const MAX_EVIDENCES: usize = 5;

/// What a model says about the working memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Enough {
    /// Whether something has to be looked up.
    pub(super) trigger_retrieval: bool,
    /// What.
    #[serde(default)]
    pub(super) missing_evidences: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Keywords {
    Named { keywords: Vec<String> },
    Plain(Vec<String>),
}

#[derive(Deserialize)]
struct Order {
    new_order: Vec<usize>,
}

#[derive(Deserialize)]
struct Unrelated {
    unrelated: Vec<usize>,
}

async fn ask<T: serde::de::DeserializeOwned>(model: &dyn ChatModel, asked: Asked) -> Result<T, ModelError> {
    ask_json(model, asked.messages, Some(&asked.schema), ATTEMPTS).await
}

/// Returns what a question is about, at most `limit` words or phrases, each once.
pub(super) async fn keywords(model: &dyn ChatModel, query: &str, limit: usize) -> Result<Vec<String>, ModelError> {
    let answer: Keywords = ask(model, prompts::keywords(query)).await?;
    let (Keywords::Named { keywords } | Keywords::Plain(keywords)) = answer;
    Ok(tidy(keywords, limit))
}

/// Returns whether memories are enough for questions, and what is missing.
pub(super) async fn enough(model: &dyn ChatModel, queries: &[String], memories: &[&str]) -> Result<Enough, ModelError> {
    let mut answer: Enough = ask(model, prompts::enough(queries, memories)).await?;
    answer.missing_evidences = tidy(answer.missing_evidences, MAX_EVIDENCES);
    Ok(answer)
}

/// Returns the places of memories, the most helpful first: those that the model names, then the others in their order.
pub(super) async fn order(
    model: &dyn ChatModel,
    queries: &[String],
    memories: &[&str],
) -> Result<Vec<usize>, ModelError> {
    let answer: Order = ask(model, prompts::order(queries, memories)).await?;
    let named = places(&answer.new_order, memories.len());
    if named.is_empty() {
        return Err(ModelError::BadAnswer("the model named none of the memories in its order".to_owned()));
    }
    let others = (0..memories.len()).filter(|place| !named.contains(place));
    Ok(named.iter().copied().chain(others).collect())
}

/// Returns the places of memories that have nothing to do with the questions.
pub(super) async fn unrelated(
    model: &dyn ChatModel,
    queries: &[String],
    memories: &[&str],
) -> Result<Vec<usize>, ModelError> {
    let answer: Unrelated = ask(model, prompts::unrelated(queries, memories)).await?;
    Ok(places(&answer.unrelated, memories.len()))
}

/// The places that numbers from 1 name, each once; numbers of nothing are passed over.
fn places(numbers: &[usize], n: usize) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let places = numbers.iter().filter_map(|number| number.checked_sub(1)).filter(|place| *place < n);
    places.filter(|place| seen.insert(*place)).collect()
}

fn tidy(texts: Vec<String>, limit: usize) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let trimmed = texts.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    trimmed.filter(|text| seen.insert(text.to_lowercase())).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_nothing_and_repetitions_are_passed_over() {
        assert_eq!(places(&[3, 0, 1, 9, 3], 3), [2, 0]);
        assert!(places(&[1], 0).is_empty());
        let texts = ["  tea ", "", "Tea", "cake"].map(str::to_owned).to_vec();
        assert_eq!(tidy(texts.clone(), 9), ["tea", "cake"]);
        assert_eq!(tidy(texts, 1), ["tea"]);
    }
}
