//! One search: candidates, what speaks for each, what comes over edges, the order.

use mos_core::{EmbeddingSpace, Filter, MemoryId, Scope, Scored, SessionId, StoreError};

use super::graph::spread;
use super::index::Index;
use super::question::Question;
use super::rank::{Judge, Ranked, Recalled, best_first, keep_best, order};
use super::{Recall, Settled};

/// A question, as it is put to [`Recall::search`].
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The question, understood.
    pub question: &'a Question,
    /// The vector of [`Question::neutral`].
    pub query: &'a [f32],
    /// What else is known of what is wanted.
    pub hints: &'a Hints,
}

/// What is known of what is wanted besides the words of the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Keys of memories; upper and lower case and blanks do not matter. A question that names a key whole needs no hint.
    pub keys: Vec<String>,
    /// Tags; memories with at least two of them are wanted.
    pub tags: Vec<String>,
    /// The session whose memories come first.
    pub session: Option<SessionId>,
}

/// What the vector index is asked.
#[derive(Clone, Copy, Debug)]
struct Target<'a> {
    scope: &'a Scope,
    space: &'a EmbeddingSpace,
    query: &'a [f32],
    filter: &'a Filter,
}

/// The rows that may be returned, and the similarities that are known.
#[derive(Debug)]
struct Pool {
    rows: Vec<u32>,
    /// By row: whether it may be returned.
    holds: Vec<bool>,
    /// By row.
    similar: Vec<Option<f32>>,
}

impl Pool {
    /// Returns those that were found by their vectors, and by their words. What was written after the index was read is left
    /// out.
    fn of(index: &Index, near: Vec<Scored>, worded: Vec<Scored>) -> Self {
        let n_rows = index.n_rows();
        let mut pool = Self { rows: Vec::new(), holds: vec![false; n_rows], similar: vec![None; n_rows] };
        let near = near.into_iter().map(|one| (one.id, Some(one.score)));
        for (id, similarity) in near.chain(worded.into_iter().map(|one| (one.id, None))) {
            if let Some(row) = index.row_of(&id) {
                pool.add(row, similarity);
            }
        }
        pool
    }

    /// Takes a memory in that passes the filter, once.
    fn add(&mut self, row: u32, similarity: Option<f32>) {
        let place = row as usize;
        if similarity.is_some() {
            self.similar[place] = similarity;
        }
        if !std::mem::replace(&mut self.holds[place], true) {
            self.rows.push(row);
        }
    }

    fn holds(&self, row: u32) -> bool {
        self.holds[row as usize]
    }

    /// Those that are not known count as 0.
    fn similarity(&self, row: u32) -> f32 {
        self.similar[row as usize].unwrap_or_default()
    }

    /// The rows whose similarities are still wanted: some, and those around them.
    fn unknown(&self, index: &Index, rows: &[u32]) -> Vec<u32> {
        let mut is_wanted = vec![false; self.similar.len()];
        let mut wanted = Vec::new();
        for &row in rows {
            for row in index.around(row).into_iter().flatten().chain(std::iter::once(row)) {
                let place = row as usize;
                if self.similar[place].is_none() && !std::mem::replace(&mut is_wanted[place], true) {
                    wanted.push(row);
                }
            }
        }
        wanted
    }
}

impl Recall {
    /// Returns at most `limit` memories that pass the filter, best first; ties in the order of their first writes.
    ///
    /// Up to [`RecallOptions::max_exhaustive`](super::RecallOptions::max_exhaustive) memories every one is scored; above it
    /// only those whose vectors are nearest, those that full-text search finds, and those with a key or tags that are asked
    /// for, or at an edge of the best of these. Sees what was written before the question was understood.
    ///
    /// # Errors
    /// As [`Recall::understand`]; [`StoreError::Dimension`].
    pub async fn search(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        asked: &Asked<'_>,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Recalled>, StoreError> {
        let n_memories = self.settled_for(scope, space, asked.question).await?.index.len();
        if limit == 0 || n_memories == 0 {
            return Ok(Vec::new());
        }
        let is_exhaustive = n_memories <= self.options.max_exhaustive;
        let n_candidates = if is_exhaustive { n_memories } else { self.options.n_candidates };
        let target = Target { scope, space, query: asked.query, filter };
        let near = self.vectors.near(scope, space, asked.query, n_candidates, filter).await?;
        let worded = match is_exhaustive {
            true => Vec::new(),
            false => self.record.full_text(scope, &asked.question.nameless, n_candidates, filter).await?,
        };
        // From here on who writes to the index waits, so that rows stay what they are.
        let Settled { index, may_have_edges } = self.settled_for(scope, space, asked.question).await?;
        let index: &Index = &index;
        let mut pool = Pool::of(index, near, worded);
        if is_exhaustive && pool.rows.is_empty() {
            return Ok(Vec::new());
        }
        let judge = Judge::new(index, asked, &self.options);
        if !is_exhaustive {
            self.admit(target, index, judge.labelled(), &mut pool).await?;
        }
        self.complete(target, index, 0, &mut pool).await?;
        let judged = pool.rows.iter().filter_map(|row| judge.judge(*row, |row| pool.similarity(row)));
        let mut ranked: Vec<Ranked> = judged.collect();
        if may_have_edges {
            let n_before = pool.rows.len();
            let shares = self.over_edges(scope, index, &ranked).await?;
            if !is_exhaustive {
                self.admit(target, index, shares.iter().map(|(row, _)| *row).collect(), &mut pool).await?;
                self.complete(target, index, n_before, &mut pool).await?;
                let new = pool.rows[n_before..].iter();
                ranked.extend(new.filter_map(|row| judge.judge(*row, |row| pool.similarity(row))));
            }
            connect(&mut ranked, &shares, index.n_rows(), self);
        }
        let ordered = order(index, ranked, limit, &self.options);
        let recalled = ordered.into_iter().filter_map(|one| {
            let id = index.turn(one.row)?.id.clone();
            Some(Recalled { id, score: one.score, signals: one.signals })
        });
        Ok(recalled.collect())
    }

    /// Takes those of some rows in that pass the filter: at most as many as a search has candidates.
    async fn admit(
        &self,
        target: Target<'_>,
        index: &Index,
        mut rows: Vec<u32>,
        pool: &mut Pool,
    ) -> Result<(), StoreError> {
        rows.retain(|row| !pool.holds(*row));
        rows.truncate(self.options.n_candidates);
        if rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<MemoryId> = rows.iter().filter_map(|row| Some(index.turn(*row)?.id.clone())).collect();
        for item in self.record.nodes(target.scope, &ids).await? {
            if target.filter.matches(&item.memory, &item.metadata.to_map())
                && let Some(row) = index.row_of(&item.id)
            {
                pool.add(row, None);
            }
        }
        Ok(())
    }

    /// Asks for the similarities that the rows from place `first` on need, with those around them, as far as any is unknown.
    async fn complete(
        &self,
        target: Target<'_>,
        index: &Index,
        first: usize,
        pool: &mut Pool,
    ) -> Result<(), StoreError> {
        let mut wanted = pool.unknown(index, &pool.rows[first..]);
        wanted.retain(|row| index.turn(*row).is_some());
        if wanted.is_empty() {
            return Ok(());
        }
        let ids: Vec<MemoryId> = wanted.iter().filter_map(|row| Some(index.turn(*row)?.id.clone())).collect();
        let similarities = self.vectors.similarities(target.scope, target.space, target.query, &ids).await?;
        for (row, similarity) in wanted.into_iter().zip(similarities) {
            pool.similar[row as usize] = similarity;
        }
        Ok(())
    }

    /// Returns the rows at edges of the best memories, best first, each with what comes to it.
    async fn over_edges(&self, scope: &Scope, index: &Index, ranked: &[Ranked]) -> Result<Vec<(u32, f32)>, StoreError> {
        let options = &self.options.graph;
        if options.n_hops == 0 || options.n_seeds == 0 || self.options.weights.graph == 0.0 {
            return Ok(Vec::new());
        }
        let mut best: Vec<Ranked> = ranked.iter().filter(|one| one.score > 0.0).cloned().collect();
        keep_best(&mut best, options.n_seeds);
        best.sort_unstable_by(best_first);
        let Some(highest) = best.first().map(|one| one.score) else { return Ok(Vec::new()) };
        let seeds = best.iter().filter_map(|one| Some((index.turn(one.row)?.id.clone(), one.score / highest)));
        let reached = spread(self.record.as_ref(), scope, seeds.collect(), options).await?;
        Ok(reached.into_iter().filter_map(|(id, share)| Some((index.row_of(&id)?, share))).collect())
    }
}

/// Gives each row what comes to it over edges.
fn connect(ranked: &mut [Ranked], shares: &[(u32, f32)], n_rows: usize, recall: &Recall) {
    if shares.is_empty() {
        return;
    }
    let mut share_of = vec![0.0; n_rows];
    for (row, share) in shares {
        share_of[*row as usize] = *share;
    }
    for one in ranked {
        one.connect(share_of[one.row as usize], &recall.options);
    }
}
