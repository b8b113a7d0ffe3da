//! Recall of every query, and pages of the internet.

use std::collections::HashMap;

use futures::future::try_join_all;
use jiff::Timestamp;
use mos_core::{
    Duplicates, EmbeddingSpace, Filter, Hit, MemoryError, MemoryId, MemoryItem, MemoryType, ModelError, QueryPath,
    SearchRequest, Signal, StoreError,
};

use super::Finder;
use super::plan::Query;
use crate::moments;
use crate::recall::{Asked, Hints, Question, Recalled};
use crate::retrieve::duplicates::n_distinct;
use crate::retrieve::fusion::{self, Trace};
use crate::retrieve::relativity;
use crate::search::of_types;
use crate::shelf::activated;
use crate::web::Pages;

/// By how much more is recalled when too little of it could be returned.
const MORE: usize = 4;

/// Ten times its cosine is what recall says of a vector.
const SIMILARITY_UNIT: f32 = 10.0;

/// What recall's signals of meaning weigh together in the score of a memory that stands alone, as a page does.
const MEANING_WEIGHT: f32 = 0.95;

/// Decides which of the memories that were found are meant.
pub(super) type Keeps<'a> = &'a (dyn Fn(&MemoryItem) -> bool + Send + Sync);

/// Which memories a search looks at.
pub(super) struct Within<'a> {
    pub(super) space: EmbeddingSpace,
    /// One part, or one for the plain kinds and one for each special kind.
    parts: Vec<Part>,
    pub(super) keeps: Keeps<'a>,
    /// The time by which memories are superseded; `None` when another moment is asked about.
    now: Option<Timestamp>,
    is_each_text_wanted: bool,
}

impl<'a> Within<'a> {
    /// Returns what a request looks at, which is made at `now`.
    pub(super) fn of(
        request: &SearchRequest,
        space: EmbeddingSpace,
        as_of: Option<Timestamp>,
        now: Timestamp,
        keeps: Keeps<'a>,
    ) -> Self {
        let mut filter = activated(&request.filter.clone().and(of_types(&request.types)));
        if let Some(at) = as_of {
            filter = filter.and(moments::true_at(at));
        }
        Self {
            space,
            parts: by_kind(request, filter),
            keeps,
            now: as_of.is_none().then_some(now),
            is_each_text_wanted: request.duplicates == Duplicates::Keep,
        }
    }

    /// Whether what a hit says has stopped being true, when that matters.
    pub(super) fn is_superseded(&self, hit: &Hit) -> bool {
        self.now.is_some_and(|now| moments::is_superseded(&hit.item, now))
    }

    /// How many of the hits are of use: still true, and no repetitions.
    fn n_usable(&self, hits: &[Hit]) -> usize {
        let usable = hits.iter().filter(|hit| !self.is_superseded(hit));
        if self.is_each_text_wanted { usable.count() } else { n_distinct(usable) }
    }
}

/// Memories that are looked for on their own.
struct Part {
    /// The only kind that passes; `None` where there may be others.
    kind: Option<MemoryType>,
    filter: Filter,
}

/// Each special kind that has a limit is looked for on its own: better plain memories must not hide it.
fn by_kind(request: &SearchRequest, filter: Filter) -> Vec<Part> {
    let Some(kinds) = request.kinds else { return vec![Part { kind: None, filter }] };
    let special = [
        (MemoryType::ToolSchema, kinds.tools),
        (MemoryType::ToolTrajectory, kinds.tools),
        (MemoryType::Skill, kinds.skills),
    ];
    let words = special.map(|(kind, _)| kind.as_str());
    let plain = filter.clone().and(Filter::Not(Box::new(Filter::one_of("memory_type", words))));
    let mut parts = vec![Part { kind: None, filter: plain }];
    for (kind, limit) in special {
        if limit > 0 && (request.types.is_empty() || request.types.contains(&kind)) {
            let filter = filter.clone().and(Filter::equals("memory_type", kind.as_str()));
            parts.push(Part { kind: Some(kind), filter });
        }
    }
    parts
}

/// A query that recall can be asked.
pub(super) struct Understood {
    question: Question,
    pub(super) vector: Vec<f32>,
    hints: Hints,
    path: QueryPath,
}

impl Finder {
    /// Reads queries and embeds them, all in one call.
    pub(super) async fn understand(
        &self,
        queries: Vec<Query>,
        within: &Within<'_>,
    ) -> Result<Vec<Understood>, MemoryError> {
        let mut questions = Vec::with_capacity(queries.len());
        for query in &queries {
            questions.push(self.recall.understand(&self.shelf.scope, &within.space, &query.text).await?);
        }
        let texts: Vec<String> = questions.iter().map(|question| question.neutral.clone()).collect();
        let vectors = self.embedder.embed_queries(&texts).await?;
        if vectors.len() != texts.len() {
            let counts = format!("{} embeddings for {} texts", vectors.len(), texts.len());
            return Err(ModelError::BadAnswer(format!("the encoder returned {counts}; use another one")).into());
        }
        let understood = queries.into_iter().zip(questions).zip(vectors);
        let understood = understood.map(|((query, question), vector)| Understood {
            question,
            vector,
            hints: query.hints,
            path: query.path,
        });
        Ok(understood.collect())
    }

    /// Returns what the queries find, best first: at least `n_wanted` that are of use, as far as there are so many.
    pub(super) async fn gather(
        &self,
        asked: &[Understood],
        within: &Within<'_>,
        n_wanted: usize,
    ) -> Result<Vec<Hit>, MemoryError> {
        let mut limit = n_wanted;
        loop {
            let lists = self.recalled(asked, within, limit).await?;
            let is_all = lists.iter().all(|list| list.len() < limit);
            let mut hits = self.read(fusion::fused(lists)).await?;
            hits.retain(|hit| (within.keeps)(&hit.item));
            if is_all || within.n_usable(&hits) >= n_wanted {
                return Ok(hits);
            }
            limit = limit.saturating_mul(MORE);
        }
    }

    /// Returns what each query finds, at most `limit` memories each, in the order of the queries. Kinds that the cube does
    /// not have are not looked for.
    async fn recalled(
        &self,
        asked: &[Understood],
        within: &Within<'_>,
        limit: usize,
    ) -> Result<Vec<Vec<Trace>>, MemoryError> {
        let (mut searches, mut paths) = (Vec::new(), Vec::new());
        for one in asked {
            let is_there = |part: &&Part| part.kind.is_none_or(|kind| one.question.may_find(kind));
            for part in within.parts.iter().filter(is_there) {
                searches.push(self.recall_one(one, &within.space, &part.filter, limit));
                paths.push(one.path);
            }
        }
        let lists = try_join_all(searches).await?;
        Ok(lists.into_iter().zip(paths).map(|(list, path)| traces(list, path)).collect())
    }

    async fn recall_one(
        &self,
        one: &Understood,
        space: &EmbeddingSpace,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<Recalled>, StoreError> {
        let asked = Asked { question: &one.question, query: &one.vector, hints: &one.hints };
        self.recall.search(&self.shelf.scope, space, &asked, limit, filter).await
    }

    /// Reads what was recalled. A memory that was deleted meanwhile is left out.
    async fn read(&self, traces: Vec<Trace>) -> Result<Vec<Hit>, MemoryError> {
        let ids: Vec<MemoryId> = traces.iter().map(|one| one.id.clone()).collect();
        let mut items: HashMap<MemoryId, MemoryItem> =
            self.shelf.get_by_ids(&ids).await?.into_iter().map(|item| (item.id.clone(), item)).collect();
        let hits = traces.into_iter().filter_map(|one| {
            let item = items.remove(&one.id)?;
            let relativity = relativity::of_score(one.score);
            Some(Hit { paths: one.paths, ..Hit::new(item, one.score, relativity, one.signals) })
        });
        Ok(hits.collect())
    }

    /// Returns at most `limit` pages of the internet as memories, which are stored nowhere.
    pub(super) async fn pages(&self, question: &str, limit: usize) -> Result<Pages, MemoryError> {
        match &self.retrieval.web {
            Some(web) => web.pages(question, limit).await,
            None => Ok(Pages::default()),
        }
    }
}

fn traces(recalled: Vec<Recalled>, path: QueryPath) -> Vec<Trace> {
    let trace = |one: Recalled| Trace { id: one.id, score: one.score, signals: one.signals.named(), paths: vec![path] };
    recalled.into_iter().map(trace).collect()
}

/// Returns pages as hits, scored by their likeness to the question, with their vectors apart. Without vectors their score
/// is 0: they come last unless a reranker orders them.
pub(super) fn pages_as_hits(pages: Vec<MemoryItem>, query: &[f32]) -> (Vec<Hit>, HashMap<MemoryId, Vec<f32>>) {
    let mut vectors = HashMap::new();
    let hits = pages.into_iter().map(|mut item| {
        let vector = item.metadata.take_embedding().unwrap_or_default();
        let is_comparable = !vector.is_empty() && vector.len() == query.len();
        let cosine: f32 = if is_comparable { vector.iter().zip(query).map(|(a, b)| a * b).sum() } else { 0.0 };
        if is_comparable {
            vectors.insert(item.id.clone(), vector);
        }
        let signal = Signal { name: "vector", score: SIMILARITY_UNIT * cosine };
        let score = MEANING_WEIGHT * signal.score;
        Hit { paths: vec![QueryPath::Internet], ..Hit::new(item, score, relativity::of_score(score), vec![signal]) }
    });
    let hits = hits.collect();
    (hits, vectors)
}

#[cfg(test)]
mod tests {
    use mos_core::KindLimits;

    use super::*;

    #[test]
    fn each_special_kind_that_may_be_returned_is_looked_for_on_its_own() {
        let n_parts = |request: SearchRequest| by_kind(&request, Filter::Everything).len();
        let request = SearchRequest::new("x", 5);
        assert_eq!(n_parts(request.clone()), 1);
        assert_eq!(n_parts(SearchRequest { kinds: Some(KindLimits::default()), ..request.clone() }), 4);
        assert_eq!(n_parts(SearchRequest { kinds: Some(KindLimits::NONE), ..request.clone() }), 1);
        let skills = SearchRequest { kinds: Some(KindLimits::default()), types: vec![MemoryType::Skill], ..request };
        assert_eq!(n_parts(skills), 2);
    }

    #[test]
    fn pages_are_compared_by_their_vectors_which_do_not_travel_on() {
        let page = |number: u8, vector: Option<Vec<f32>>| {
            let id = MemoryId::new(format!("00000000-0000-4000-8000-0000000000{number:02}"));
            let mut item = crate::web::page_memory(&mos_core::WebPage::default(), id, "bing", "now");
            if let Some(fields) = item.metadata.tree_mut() {
                fields.embedding = vector;
            }
            item
        };
        let pages = vec![page(1, Some(vec![0.6, 0.8])), page(2, None), page(3, Some(vec![1.0]))];
        let (hits, vectors) = pages_as_hits(pages, &[0.0, 1.0]);
        assert!((hits[0].score - 7.6).abs() < 1e-4 && hits[1].score == 0.0 && hits[2].score == 0.0);
        assert!(hits.iter().all(|hit| hit.item.metadata.embedding().is_none() && hit.paths == [QueryPath::Internet]));
        assert_eq!(vectors.len(), 1);
    }
}
