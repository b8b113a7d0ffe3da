//! One run: its parts, its budget, and what the steps share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mos_core::graph::Edge;
use mos_core::{
    EmbeddingSpace, EmbeddingWrite, MemoryError, MemoryId, MemoryItem, Origin, Scope, StoreError, WriteBatch,
};

use super::OrganizerParts;
use super::budget::{BoundedModel, Budget};
use super::facts::is_fact;
use super::judge::Verdict;
use super::report::Report;

/// How often something is looked at again because somebody else changed it meanwhile.
pub(super) const MAX_LOOKS: usize = 4;

/// The work of one call.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) parts: &'a OrganizerParts,
    pub(super) scope: &'a Scope,
    pub(super) space: EmbeddingSpace,
    pub(super) model: Option<Arc<BoundedModel>>,
    pub(super) report: Report,
    pub(super) budget: Budget,
    /// Pairs that were compared; the same pair is met from both ends.
    compared: HashSet<(MemoryId, MemoryId)>,
    /// What the model said about pairs of texts, for when they are looked at again.
    pub(super) verdicts: HashMap<String, Verdict>,
    pub(super) merged_texts: HashMap<String, Option<String>>,
}

impl<'a> Run<'a> {
    /// Begins a run.
    ///
    /// # Errors
    /// [`StoreError::EmbeddingSpace`] when the cube was embedded by another model; model and store errors.
    pub(super) async fn begin(parts: &'a OrganizerParts, scope: &'a Scope) -> Result<Self, MemoryError> {
        let space = parts.embedder.space().await?;
        if let Some(have) = parts.record.embedding_space(scope).await?
            && have != space
        {
            return Err(StoreError::EmbeddingSpace { cube: scope.cube.to_string(), have, got: space }.into());
        }
        let bounded = |model: &Arc<dyn mos_core::ChatModel>| {
            Arc::new(BoundedModel::new(Arc::clone(model), parts.options.max_model_calls, scope.cube.to_string()))
        };
        Ok(Self {
            parts,
            scope,
            space,
            model: parts.model.as_ref().map(bounded),
            report: Report::default(),
            budget: Budget::new(&parts.options, Arc::clone(&parts.clock)),
            compared: HashSet::new(),
            verdicts: HashMap::new(),
            merged_texts: HashMap::new(),
        })
    }

    /// Ends the run.
    pub(super) fn finish(mut self) -> Report {
        self.report.n_model_calls = self.model.as_ref().map_or(0, |model| model.n_calls());
        self.report
    }

    /// Whether nothing new may be begun.
    pub(super) fn is_spent(&self) -> bool {
        self.budget.is_spent() || self.model.as_ref().is_some_and(|model| model.is_spent())
    }

    /// Whether a pair is met for the first time; counts it then.
    pub(super) fn meet(&mut self, left: &MemoryId, right: &MemoryId) -> bool {
        let pair = if left <= right { (left.clone(), right.clone()) } else { (right.clone(), left.clone()) };
        if !self.compared.insert(pair) {
            return false;
        }
        self.budget.take_pair();
        self.report.n_pairs += 1;
        true
    }

    /// Lets a pair be met again, for another question.
    pub(super) fn forget_pairs(&mut self) {
        self.compared.clear();
    }

    /// A memory that takes part, as it is now.
    pub(super) async fn fact(&self, id: &MemoryId) -> Result<Option<MemoryItem>, MemoryError> {
        let found = self.parts.record.nodes(self.scope, std::slice::from_ref(id)).await?;
        Ok(found.into_iter().find(is_fact))
    }

    /// Two memories that take part, as they are now; `None` when one does no longer.
    pub(super) async fn both(
        &self,
        left: &MemoryId,
        right: &MemoryId,
    ) -> Result<Option<(MemoryItem, MemoryItem)>, MemoryError> {
        let found = self.parts.record.nodes(self.scope, &[left.clone(), right.clone()]).await?;
        let mut facts = found.into_iter().filter(is_fact);
        Ok(facts.next().zip(facts.next()))
    }

    /// The vectors of those memories that have one.
    pub(super) async fn vectors(&self, ids: &[MemoryId]) -> Result<BTreeMap<MemoryId, Vec<f32>>, MemoryError> {
        Ok(self.parts.record.embeddings(self.scope, ids).await?.into_iter().collect())
    }

    /// An empty batch of this part.
    pub(super) fn batch(reason: &str) -> WriteBatch {
        WriteBatch::new(Origin::new("organizer", reason))
    }

    /// The vector of a new memory's text, to be written with it.
    pub(super) async fn embedded(&self, id: &MemoryId, text: &str) -> Result<EmbeddingWrite, MemoryError> {
        let mut vectors = self.parts.embedder.embed(&[text.to_owned()]).await?;
        let Some(vector) = vectors.pop() else {
            let reason = "the encoder returned no vector for a text; check the encoder".to_owned();
            return Err(mos_core::ModelError::BadAnswer(reason).into());
        };
        let vectors = vec![(id.clone(), vector)];
        Ok(EmbeddingWrite { space: self.space.clone(), vectors, made_of: None, aside: false })
    }

    pub(super) async fn apply(&self, batch: WriteBatch) -> Result<(), MemoryError> {
        self.parts.record.apply(self.scope, batch).await?;
        Ok(())
    }

    /// Takes a failure that concerns only some memories into the report; others end the run.
    pub(super) fn told<T>(
        &mut self,
        step: &'static str,
        ids: &[&MemoryId],
        result: Result<T, MemoryError>,
    ) -> Result<Option<T>, MemoryError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(MemoryError::Store(error)) if !matches!(error, StoreError::Conflict(_)) => Err(error.into()),
            Err(error) => {
                self.report.fail(step, ids.iter().map(|id| (*id).clone()).collect(), error.to_string());
                Ok(None)
            }
        }
    }

    pub(super) fn new_id(&self) -> MemoryId {
        MemoryId::new(self.parts.ids.next_uuid())
    }
}

/// Whether somebody else was faster.
pub(super) fn is_race(error: &MemoryError) -> bool {
    matches!(error, MemoryError::Store(StoreError::Conflict(_)))
}

/// An edge of a type.
pub(super) fn edge(source: &MemoryId, kind: &str, target: &MemoryId) -> Edge {
    Edge { source: source.clone(), target: target.clone(), kind: kind.to_owned() }
}
