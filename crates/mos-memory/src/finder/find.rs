//! A search from its request to its answer.

use std::collections::HashMap;

use mos_core::{Filter, Found, Hit, MemoryError, MemoryId, QueryPath, SearchRequest};

use super::Finder;
use super::gather::{Keeps, Within, pages_as_hits};
use super::order::Asked;
use super::plan::{Plan, Query, plan};
use crate::moments;
use crate::recall::Hints;
use crate::retrieve::{deepen, fusion};
use crate::search::Settled;
use crate::shelf::activated;
use crate::web::Pages;

/// The most pages of the internet that a search asks for.
const MAX_PAGES: usize = 20;

/// A deep search judges at most so many times the wanted hits.
const DEEP_FACTOR: usize = 2;

impl Finder {
    /// Returns the memories that fit a question and that `keeps` keeps, best first, with notes.
    ///
    /// Unless the request asks about a moment, what has stopped being true stands behind what is true, with the signal
    /// `superseded`. It takes at most a fifth of the places (none of fewer than five) where enough is true.
    ///
    /// # Errors
    /// See [`TextMemory::search`](mos_core::TextMemory::search).
    pub(crate) async fn find(&self, request: &SearchRequest, keeps: Keeps<'_>) -> Result<Found, MemoryError> {
        request.check()?;
        let as_of = request.as_of.as_deref().map(moments::asked_moment).transpose()?;
        let mut found = Found::default();
        if request.top_k == 0 {
            found.note("top_k is 0, so nothing was searched for");
            return Ok(found);
        }
        let have = self.shelf.record.embedding_space(&self.shelf.scope).await?;
        let is_empty = have.is_none();
        if is_empty && !request.internet {
            found.note(EMPTY);
            return Ok(found);
        }
        let space = self.shelf.space_beside(&*self.embedder, have).await?;
        let within = Within::of(request, space, as_of, self.shelf.clock.now(), keeps);
        let Settled { hits, left_out } = self.searched(request, &within, &mut found).await?;
        found.hits = hits;
        match left_out {
            Some(left_out) => found.note(left_out),
            None if found.hits.is_empty() => {
                let reason = if is_empty { EMPTY.to_owned() } else { self.why_nothing(request).await? };
                found.note(reason);
            }
            None => {}
        }
        Ok(found)
    }

    async fn searched(
        &self,
        request: &SearchRequest,
        within: &Within<'_>,
        found: &mut Found,
    ) -> Result<Settled, MemoryError> {
        let Plan { question, queries, internet } = plan(&self.retrieval, request, found).await;
        let asked = self.understand(queries, within).await?;
        let vector = asked.first().map(|one| one.vector.clone()).unwrap_or_default();
        let pages = async {
            match internet {
                true => self.pages(&question, request.top_k.min(MAX_PAGES)).await,
                false => Ok(Pages::default()),
            }
        };
        let gathered = self.gather(&asked, within, self.n_wanted(request));
        let (gathered, pages) = futures::future::join(gathered, pages).await;
        let mut pool = gathered?;
        let mut vectors: HashMap<MemoryId, Vec<f32>> = HashMap::new();
        match pages {
            Ok(pages) => {
                if let Some(note) = pages.note() {
                    found.note(note);
                }
                if !pages.shown.is_empty() {
                    let (hits, known) = pages_as_hits(pages.shown, &vector);
                    vectors = known;
                    fusion::add(&mut pool, hits);
                }
            }
            Err(error) => {
                tracing::warn!("the internet could not be searched; memories are returned without pages");
                found.note(format!("the internet could not be searched: {error}"));
            }
        }
        let question = Asked { request, question: &question, vector: &vector };
        if !request.deep {
            return self.ordered(pool, &question, &vectors, within, found).await;
        }
        let first = self.ordered(pool.clone(), &question, &vectors, within, found).await?;
        let brought = self.deeper(&question, &first.hits, within, found).await?;
        if brought.is_empty() {
            return Ok(first);
        }
        fusion::add(&mut pool, brought);
        self.ordered(pool, &question, &vectors, within, found).await
    }

    /// Returns what a model finds missing among the first hits and is there. A model that fails costs nothing but that.
    async fn deeper(
        &self,
        asked: &Asked<'_>,
        first: &[Hit],
        within: &Within<'_>,
        found: &mut Found,
    ) -> Result<Vec<Hit>, MemoryError> {
        let Some(model) = self.retrieval.model.as_deref() else {
            found.note("a deep search needs a language model, and this cube has none; it was searched once");
            return Ok(Vec::new());
        };
        let session = asked.request.session.as_ref();
        let search = |phrase: String, limit: usize| {
            let hints = Hints { session: session.cloned(), ..Hints::default() };
            self.found_for(Query { text: phrase, path: QueryPath::Deep, hints }, within, limit)
        };
        let limit = asked.request.top_k.saturating_mul(DEEP_FACTOR);
        let mut deepened = deepen(model, asked.question, first.to_vec(), limit, search).await?;
        if !deepened.can_answer {
            let (n_stages, reason) = (deepened.n_stages, deepened.reason.trim());
            let reason = if reason.is_empty() { "no reason was given" } else { reason };
            found.note(format!("after {n_stages} stages the memories may not answer the question: {reason}"));
        }
        Ok(deepened.hits.split_off(first.len()))
    }

    async fn found_for(&self, query: Query, within: &Within<'_>, limit: usize) -> Result<Vec<Hit>, MemoryError> {
        let asked = self.understand(vec![query], within).await?;
        let mut hits = self.gather(&asked, within, limit).await?;
        hits.truncate(limit);
        Ok(hits)
    }

    /// Says why a search found nothing. How many memories there are is not said: working memory holds copies, which nobody
    /// would count.
    async fn why_nothing(&self, request: &SearchRequest) -> Result<String, MemoryError> {
        let n_memories = self.shelf.record.count(&self.shelf.scope, &activated(&Filter::Everything)).await?;
        let is_narrowed = request.filter != Filter::Everything || !request.types.is_empty() || request.as_of.is_some();
        let reason = match n_memories {
            0 => "the cube has no memory that takes part in searches",
            _ if is_narrowed => {
                "the filter lets none of the cube's memories pass (types, conversation and time are parts of it)"
            }
            _ => "none of the cube's memories is meant",
        };
        Ok(reason.to_owned())
    }
}

/// Why nothing is found in a cube without memories.
const EMPTY: &str = "the cube has no memories yet";
