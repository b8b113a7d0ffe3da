//! Putting what was found in order: a second, closer look at the memories that recall brought.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::error::ModelError;
use crate::memory::{MemoryItem, MemoryType, MetadataForm, SourceMessage};

/// The question that candidates are compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RerankQuery<'a> {
    /// Its words.
    pub text: &'a str,
    /// Its embedding, where recall computed one: `f32[dimension]`. It spares computing it again.
    pub embedding: Option<&'a [f32]>,
}

impl<'a> RerankQuery<'a> {
    /// Returns a question with its embedding.
    pub fn new(text: &'a str, embedding: Option<&'a [f32]>) -> Self {
        Self { text, embedding }
    }
}

impl<'a> From<&'a str> for RerankQuery<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, embedding: None }
    }
}

/// A memory that recall brought, as far as rerankers look at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RerankCandidate<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its embedding in the space of the question's: `f32[dimension]`.
    pub embedding: Option<&'a [f32]>,
    /// The shelf it stands on, when it is a memory of a tree.
    pub memory_type: Option<MemoryType>,
    /// The producer's word for it: `fact`, `topic` ...
    pub kind: Option<&'a str>,
    /// The situation it arose in; empty when nothing is known.
    pub background: &'a str,
    /// What it was drawn from.
    pub sources: &'a [SourceMessage],
}

impl<'a> RerankCandidate<'a> {
    /// Returns a candidate of which the text is all that is known.
    pub fn new(text: &'a str) -> Self {
        Self { text, embedding: None, memory_type: None, kind: None, background: "", sources: &[] }
    }

    /// Returns a memory as a candidate.
    pub fn of(item: &'a MemoryItem) -> Self {
        let candidate = Self { kind: item.metadata.kind.as_deref(), ..Self::new(&item.memory) };
        match &item.metadata.form {
            MetadataForm::Base => candidate,
            MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) => Self {
                embedding: fields.embedding.as_deref(),
                memory_type: Some(fields.memory_type),
                background: fields.background.as_deref().unwrap_or_default(),
                sources: fields.sources.as_deref().unwrap_or_default(),
                ..candidate
            },
            MetadataForm::Preference(fields) => {
                Self { embedding: fields.embedding.as_deref(), memory_type: Some(MemoryType::Preference), ..candidate }
            }
        }
    }
}

/// The place of a candidate in the new order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// Which of the candidates that were given.
    pub index: usize,
    /// How well it fits the question; only comparable within one answer.
    pub score: f32,
}

impl Ranked {
    /// Returns the first `top_k` in falling order of their scores, ties in the order in which they were given.
    pub fn best_first(mut ranked: Vec<Self>, top_k: usize) -> Vec<Self> {
        for one in &mut ranked {
            // The two zeros are one score.
            one.score += 0.0;
        }
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        ranked.truncate(top_k);
        ranked
    }

    /// Returns the first `top_k` of `n_candidates` in the order in which they were given, with the score 0.
    pub fn as_given(n_candidates: usize, top_k: usize) -> Vec<Self> {
        (0..n_candidates.min(top_k)).map(|index| Self { index, score: 0.0 }).collect()
    }
}

/// What became of a reranking.
#[derive(Clone, Debug, PartialEq)]
pub enum Ranking {
    /// A new order.
    Ordered(Vec<Ranked>),
    /// The order in which the candidates were given stays, because nothing else was wanted or (then it says so) because the
    /// new one could not be found.
    AsGiven {
        /// Why there is no order, in words; `None` when none was wanted.
        failure: Option<String>,
    },
}

/// Puts candidates in the order in which they answer a question.
#[async_trait]
pub trait Reranker: fmt::Debug + Send + Sync {
    /// The name that explanations of hits show, for example `cosine_local`.
    fn name(&self) -> &str;

    /// Returns the `top_k` best candidates: falling finite scores, ties in the order given, every candidate at most
    /// once. No candidates, or a `top_k` of 0, give an empty answer without asking anybody.
    ///
    /// # Errors
    /// [`ModelError`] when the order cannot be found; no part of it is returned then.
    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError>;

    /// Returns the order of all candidates as [`Reranker::rerank`] does, or that theirs stays: what searches ask, which
    /// tell a failure as a note where the configuration wants it so.
    ///
    /// # Errors
    /// [`ModelError`] when the order cannot be found and the search is to fail then.
    async fn order(&self, query: RerankQuery<'_>, candidates: &[RerankCandidate<'_>]) -> Result<Ranking, ModelError> {
        self.rerank(query, candidates, candidates.len()).await.map(Ranking::Ordered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MemoryId;
    use crate::memory::TreeFields;

    #[test]
    fn the_best_come_first_and_ties_keep_their_order() {
        let scores = [0.5, -0.0, 0.9, 0.0, 0.5];
        let ranked = scores.iter().enumerate().map(|(index, &score)| Ranked { index, score }).collect();
        let order: Vec<usize> = Ranked::best_first(ranked, 4).iter().map(|one| one.index).collect();
        assert_eq!(order, [2, 0, 4, 1]);
        let kept: Vec<usize> = Ranked::as_given(3, 2).iter().map(|one| one.index).collect();
        assert_eq!(kept, [0, 1]);
    }

    #[test]
    fn a_memory_brings_what_rerankers_look_at() {
        let mut item = MemoryItem::new(MemoryId::new("00000000-0000-4000-8000-000000000001"), "text");
        assert_eq!(RerankCandidate::of(&item), RerankCandidate::new("text"));
        item.metadata.kind = Some("fact".to_owned());
        item.metadata.form = MetadataForm::Tree(Box::new(TreeFields {
            memory_type: MemoryType::User,
            embedding: Some(vec![1.0, 0.0]),
            background: Some("a walk".to_owned()),
            ..TreeFields::default()
        }));
        let candidate = RerankCandidate::of(&item);
        assert_eq!((candidate.kind, candidate.background), (Some("fact"), "a walk"));
        assert_eq!((candidate.memory_type, candidate.embedding), (Some(MemoryType::User), Some(&[1.0, 0.0][..])));
    }
}
