//! Keeping the memories of a cube consistent, off the path of requests: what contradicts or repeats each other is settled,
//! what belongs together gets a topic, what has to do with each other is linked.
//!
//! - `conflicts` finds pairs, by embeddings, by `slots` (states that a person has one of at a time) and by marks of earlier
//!   runs; `judge` asks a model, `alike` compares words without one; `resolve` writes the decision down.
//! - `topics` groups memories with `linkage` and `kmeans`.
//! - `relations` links memories that share tags.
//! - `run` is one call with its `budget`; `marks` remember what was asked; `facts` read times and speakers.
//!
//! Everything works over the record alone. A decision is one write, refused when a memory that it is about was changed
//! meanwhile; nothing is erased: what gives way is closed or archived and leads to what takes its place. A run may be
//! interrupted at any point; another one goes on from there, and one that follows a finished run asks and changes nothing.
//! Two runs over the same cube at the same time do no harm to memories, but can make the same topic twice: give them one
//! after the other.
//!
//! Not here: when to run (the caller has jobs for that), adding memories, searching.

mod alike;
mod budget;
mod conflicts;
mod facts;
mod judge;
mod kmeans;
mod linkage;
mod made;
mod marks;
mod options;
mod prompts;
mod relations;
mod report;
mod resolve;
mod run;
mod slots;
mod topics;
mod vectors;

use std::sync::Arc;

use mos_core::graph::Paging;
use mos_core::{
    Analyzer, ChatModel, Clock, Embedder, IdSource, MemoryError, MemoryId, RecordStore, Scope, VectorStore,
};
use tracing::{Span, instrument};

pub use made::MadeCheck;
pub use options::OrganizeOptions;
pub use report::{Failure, LeftOver, Report, Step};

pub(crate) use facts::CONFLICT_CANDIDATE;
use facts::facts;
use run::Run;

/// How many memories are read at a time.
const PAGE: usize = 1000;

/// What an [`Organizer`] is made of.
#[derive(Clone, Debug)]
pub struct OrganizerParts {
    /// Where memories and edges are.
    pub record: Arc<dyn RecordStore>,
    /// Finds near memories; follows the same record.
    pub vectors: Arc<dyn VectorStore>,
    /// Turns texts into vectors; the cubes' own encoder.
    pub embedder: Arc<dyn Embedder>,
    /// The time of changes, and of the budget.
    pub clock: Arc<dyn Clock>,
    /// Ids of new memories.
    pub ids: Arc<dyn IdSource>,
    /// Turns texts into terms.
    pub analyzer: Arc<dyn Analyzer>,
    /// Judges; without one, similarity, words, names and time do what they can.
    pub model: Option<Arc<dyn ChatModel>>,
    /// Looks at what the model made of memories; without it, all of that is found.
    pub check: Option<Arc<dyn MadeCheck>>,
    /// When memories count as alike, and how much one run may do.
    pub options: OrganizeOptions,
}

/// Keeps memories consistent. One serves all cubes of a record.
///
/// Long-term and user memories in use take part, and such as have no type, of cubes that are no trees (which have no topics);
/// working copies follow their originals. Every call has the whole budget of
/// [`OrganizeOptions`]; what it leaves is in [`Report::left`]. Memories that a model fails on stay as they are and are left,
/// too.
#[derive(Clone, Debug)]
pub struct Organizer {
    parts: OrganizerParts,
}

impl Organizer {
    /// Returns an organizer.
    pub fn new(parts: OrganizerParts) -> Self {
        Self { parts }
    }

    /// Compares memories with those near to them, in the order given, and settles what contradicts or repeats.
    ///
    /// With a model: of two facts that contradict each other the earlier one is closed; what contradicts at the same time or
    /// repeats is merged into a new memory, or the older one gives way. Without one: what is said again in the same words is
    /// one memory, and possible conflicts are marked. Unknown ids and memories that take no part are passed over.
    ///
    /// # Errors
    /// [`StoreError::EmbeddingSpace`](mos_core::StoreError::EmbeddingSpace) when the cube was embedded by another model;
    /// store errors, and errors of the encoder before the first comparison. What was decided before stays.
    #[instrument(skip_all, fields(cube = %scope.cube, n_ids = ids.len(), n_pairs, n_model_calls))]
    pub async fn conflicts(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Report, MemoryError> {
        let mut run = Run::begin(&self.parts, scope).await?;
        run.conflicts(ids).await?;
        Ok(ended(run))
    }

    /// Gives memories without a topic to the topic that they are near to, and makes topics of those that are near each
    /// other when there are enough.
    ///
    /// # Errors
    /// As [`Organizer::conflicts`].
    #[instrument(skip_all, fields(cube = %scope.cube, n_pairs, n_model_calls))]
    pub async fn topics(&self, scope: &Scope) -> Result<Report, MemoryError> {
        let mut run = Run::begin(&self.parts, scope).await?;
        run.topics().await?;
        Ok(ended(run))
    }

    /// Links memories, in the order given, with those that share tags, session or topic with them. Without a model only
    /// `FOLLOWS` and `RELATE` are found, and [`Report::notes`] says so.
    ///
    /// # Errors
    /// As [`Organizer::conflicts`].
    #[instrument(skip_all, fields(cube = %scope.cube, n_ids = ids.len(), n_pairs, n_model_calls))]
    pub async fn relations(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Report, MemoryError> {
        let mut run = Run::begin(&self.parts, scope).await?;
        run.relations(ids).await?;
        Ok(ended(run))
    }

    /// Does all of it in this order, for some memories or (with `None`) for all of the cube, oldest first, within one
    /// budget.
    ///
    /// # Errors
    /// As [`Organizer::conflicts`].
    pub async fn organize(&self, scope: &Scope, ids: Option<&[MemoryId]>) -> Result<Report, MemoryError> {
        self.steps(scope, ids, &Step::ALL).await
    }

    /// Does some of it, in the order of [`Step::ALL`], for some memories or (with `None`) for all of the cube, oldest first,
    /// within one budget. Topics are always those of the whole cube.
    ///
    /// # Errors
    /// As [`Organizer::conflicts`].
    #[instrument(skip_all, fields(cube = %scope.cube, n_pairs, n_model_calls))]
    pub async fn steps(&self, scope: &Scope, ids: Option<&[MemoryId]>, steps: &[Step]) -> Result<Report, MemoryError> {
        let is_asked = |step: Step| steps.contains(&step);
        let mut ids = match ids {
            Some(ids) => ids.to_vec(),
            None if is_asked(Step::Conflicts) || is_asked(Step::Relations) => self.all(scope).await?,
            None => Vec::new(),
        };
        let mut run = Run::begin(&self.parts, scope).await?;
        if is_asked(Step::Conflicts) {
            run.conflicts(&ids).await?;
            // Merged memories are linked as well.
            ids.extend(run.report.created.iter().cloned());
        }
        if is_asked(Step::Topics) {
            run.topics().await?;
        }
        if is_asked(Step::Relations) {
            run.relations(&ids).await?;
        }
        Ok(ended(run))
    }

    /// Does what an earlier run has left.
    ///
    /// # Errors
    /// As [`Organizer::conflicts`].
    pub async fn go_on(&self, scope: &Scope, left: &LeftOver) -> Result<Report, MemoryError> {
        self.go_on_in(scope, left, &Step::ALL).await
    }

    /// Does what an earlier run has left of some steps.
    ///
    /// # Errors
    /// As [`Organizer::conflicts`].
    #[instrument(skip_all, fields(cube = %scope.cube, n_pairs, n_model_calls))]
    pub async fn go_on_in(&self, scope: &Scope, left: &LeftOver, steps: &[Step]) -> Result<Report, MemoryError> {
        let mut run = Run::begin(&self.parts, scope).await?;
        if steps.contains(&Step::Conflicts) {
            run.conflicts(&left.conflicts).await?;
        }
        let mut related = left.relations.clone();
        related.extend(run.report.created.iter().cloned());
        if left.topics && steps.contains(&Step::Topics) {
            run.topics().await?;
        }
        if steps.contains(&Step::Relations) {
            run.relations(&related).await?;
        }
        Ok(ended(run))
    }

    /// Every memory that takes part, oldest first.
    async fn all(&self, scope: &Scope) -> Result<Vec<MemoryId>, MemoryError> {
        let mut ids = Vec::new();
        loop {
            let paging = Paging { offset: ids.len(), limit: PAGE };
            let page = self.parts.record.list(scope, &facts(None), paging).await?;
            let n_read = page.entries.len();
            ids.extend(page.entries.into_iter().map(|item| item.id));
            if n_read < PAGE {
                return Ok(ids);
            }
        }
    }
}

fn ended(run: Run<'_>) -> Report {
    let report = run.finish();
    Span::current().record("n_pairs", report.n_pairs).record("n_model_calls", report.n_model_calls);
    report
}
