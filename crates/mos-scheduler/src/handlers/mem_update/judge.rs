//! What a turn decides with a language model, and what it decides when there is none or it fails.

use std::sync::Arc;

use mos_core::{ChatModel, MemoryItem, ModelError};

use super::ask;
use super::report::Trigger;
use crate::monitor::content_words;

/// Asks the model as long as it answers.
pub(super) struct Judge {
    model: Option<Arc<dyn ChatModel>>,
    notes: Vec<String>,
}

impl Judge {
    pub(super) fn new(model: Option<Arc<dyn ChatModel>>) -> Self {
        Self { model, notes: Vec::new() }
    }

    /// What the model failed at, one sentence each.
    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes
    }

    /// What a question is about; without a model the words that carry its content.
    pub(super) async fn keywords(&mut self, query: &str, limit: usize) -> Vec<String> {
        let words = match self.model.clone() {
            None => None,
            Some(model) => {
                let asked = ask::keywords(&*model, query, limit).await;
                self.heard("keywords are the words of the question", asked)
            }
        };
        words.filter(|words| !words.is_empty()).unwrap_or_else(|| content_words(query, limit))
    }

    /// Whether the working memory is enough, and what is missing; without a model it is not.
    pub(super) async fn enough(&mut self, queries: &[String], memories: &[&str]) -> (Trigger, Vec<String>) {
        let Some(model) = self.model.clone() else {
            let trigger = if self.notes.is_empty() { Trigger::NoModel } else { Trigger::ModelFailed };
            return (trigger, Vec::new());
        };
        let asked = ask::enough(&*model, queries, memories).await;
        match self.heard("the question itself is searched for", asked) {
            None => (Trigger::ModelFailed, Vec::new()),
            Some(enough) if enough.trigger_retrieval => (Trigger::Missing, enough.missing_evidences),
            Some(_) => (Trigger::NotNeeded, Vec::new()),
        }
    }

    /// Returns the memories that help most, at most `top_k`, the best first, without those that have nothing to do with the
    /// questions; and whether the model gave the order. Without a model they keep their order, and all of them count.
    pub(super) async fn choose(
        &mut self,
        queries: &[String],
        mut items: Vec<MemoryItem>,
        top_k: usize,
    ) -> (Vec<MemoryItem>, bool) {
        let order = self.order(queries, &items).await;
        let is_reranked = order.is_some();
        if let Some(order) = order {
            items = order.into_iter().filter_map(|place| items.get(place).cloned()).collect();
        }
        items.truncate(top_k.max(1));
        let unrelated = self.unrelated(queries, &items).await;
        let kept = items.into_iter().enumerate().filter(|(place, _)| !unrelated.contains(place));
        (kept.map(|(_, item)| item).collect(), is_reranked)
    }

    async fn order(&mut self, queries: &[String], items: &[MemoryItem]) -> Option<Vec<usize>> {
        let model = self.model.clone().filter(|_| items.len() > 1)?;
        let asked = ask::order(&*model, queries, &texts(items)).await;
        self.heard("memories stay in the order of the search", asked)
    }

    async fn unrelated(&mut self, queries: &[String], items: &[MemoryItem]) -> Vec<usize> {
        let Some(model) = self.model.clone().filter(|_| !items.is_empty()) else { return Vec::new() };
        let asked = ask::unrelated(&*model, queries, &texts(items)).await;
        self.heard("no memory is left out as unrelated", asked).unwrap_or_default()
    }

    /// Notes a failure. A model that only answered badly is asked further questions, one that does not answer is not.
    fn heard<T>(&mut self, instead: &str, answer: Result<T, ModelError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                // The error is for the cube's users, not for the log: it may quote memories.
                tracing::warn!(instead, "the model gave no answer that a turn can use");
                self.notes.push(format!("{instead}: {error}"));
                if !matches!(error, ModelError::BadAnswer(_)) {
                    self.model = None;
                }
                None
            }
        }
    }
}

fn texts(items: &[MemoryItem]) -> Vec<&str> {
    items.iter().map(|item| item.memory.as_str()).collect()
}
