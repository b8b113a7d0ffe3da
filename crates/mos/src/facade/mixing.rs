//! Mixture searches: what was prepared in the background is mixed into what is found now.
//!
//! With `optimized_scheduler`, such a search asks no model: it is answered at once, and the thorough search is done in the
//! background for the next question of the same words. A question in a conversation gets no such answer. Otherwise
//! it does both itself, and still takes what a program had prepared. Rights are checked before: only cubes that the user may read come here.

use mos_core::filter::VALID_TO;
use mos_core::{Access, Duplicates, Filter, MemoryItem, MemoryType, SearchMode, SearchRequest, Status, UserId, moment};
use mos_scheduler::{MixOptions, ScheduleMessage, StoredHit, StoredMix, label, prepare_once, stored_mix};
use serde_json::{Value, json};

use super::sending::MAX_CONVERSATION;
use super::{CubeHandle, CubeHits, FoundMemory, Mos};
use crate::error::Result;

impl Mos {
    /// Returns how a cube is searched now; what is left to do is sent to the scheduler, when it prepares such answers.
    pub(super) fn searched_now(&self, user: &UserId, cube: &CubeHandle, request: &SearchRequest) -> SearchRequest {
        let mut now = request.clone();
        if self.prepares_ahead(cube, request)
            && let Some(content) = prepared_later(request)
        {
            let session = request.session.as_ref();
            self.prepare_later(self.message(label::API_MIX_SEARCH, user, &cube.info().cube_id, session, content));
            now.mode = SearchMode::Fast;
        }
        now
    }

    /// Sends a question whose answer is to be prepared, off the path of the search: once, while it is fresh or on its way.
    fn prepare_later(&self, message: ScheduleMessage) {
        let (Some(scheduler), Some(task)) = (self.scheduler(), self.parts.sending.begin()) else { return };
        tokio::spawn(async move {
            if let Err(error) = prepare_once(&scheduler, message, MixOptions::default().fresh).await {
                tracing::warn!(%error, "a question could not be put into the queue; no answer is prepared for the next time");
            }
            drop(task);
        });
    }

    /// Whether the thorough part of a search is done in the background: not for somebody who only reads the cube, for whom
    /// nothing is stored in it.
    fn prepares_ahead(&self, cube: &CubeHandle, request: &SearchRequest) -> bool {
        let settings = self.parts.settings.mem_scheduler.as_ref();
        is_mixed(request)
            && !request.deep
            && !request.sub_questions
            && cube.access() != Access::Reader
            && settings.is_some_and(|scheduler| scheduler.is_optimized())
            && self.is_scheduled(label::API_MIX_SEARCH)
    }

    /// Mixes the answer that was prepared for this question into what was found in a cube.
    pub(super) async fn mix_prepared(
        &self,
        user: &UserId,
        cube: &CubeHandle,
        request: &SearchRequest,
        found: &mut CubeHits,
    ) {
        if !is_mixed(request) {
            return;
        }
        match self.prepared(user, cube, request).await {
            Ok(Some((mix, hits))) => {
                let n_mixed = mixed(&mut found.memories, hits, request);
                if n_mixed > 0 {
                    let at = mix.at;
                    found.notes.push(format!("{n_mixed} memories come from the thorough search that was done at {at}"));
                }
            }
            Ok(None) => {}
            Err(error) => found.notes.push(format!("the answer that was prepared cannot be used: {error}")),
        }
    }

    /// Returns the answer that was prepared and is not too old, and those of its memories that still say what they said.
    async fn prepared(
        &self,
        user: &UserId,
        cube: &CubeHandle,
        request: &SearchRequest,
    ) -> Result<Option<(StoredMix, Vec<FoundMemory>)>> {
        let Some(state) = self.parts.state.as_deref() else { return Ok(None) };
        let Some(mut mix) = stored_mix(state, &cube.scope(), user, &request.query).await? else { return Ok(None) };
        let now = self.parts.clock.now();
        if mix.is_older_than(MixOptions::default().max_age, now) {
            return Ok(None);
        }
        let hits = std::mem::take(&mut mix.hits);
        let ids: Vec<_> = hits.iter().map(|hit| hit.item.id.clone()).collect();
        let known = cube.text_mem().get_by_ids(&ids).await?;
        let is_true = |item: &MemoryItem| {
            let end = item.metadata.extra.get(VALID_TO).and_then(Value::as_str).and_then(moment);
            end.is_none_or(|end| end > now)
        };
        let current = |hit: StoredHit| {
            let item = known.iter().find(|item| item.id == hit.item.id && item.memory == hit.item.memory)?;
            let is_used = matches!(item.metadata.status, None | Some(Status::Activated));
            if !is_used || !is_true(item) || item.working_copy_of().is_some() {
                return None;
            }
            let mut item = item.clone();
            item.metadata.take_embedding();
            let (score, relativity) = (hit.score, hit.relativity);
            Some(FoundMemory { item, score, relativity, signals: Vec::new(), reranked: None, paths: Vec::new() })
        };
        Ok(Some((mix, hits.into_iter().filter_map(current).collect())))
    }
}

/// Whether a prepared answer, which knows no conditions, can serve a request. In a conversation the same words may mean
/// something else, and it goes on before they are said again.
fn is_mixed(request: &SearchRequest) -> bool {
    let is_unconditional = request.filter == Filter::Everything && request.types.is_empty() && request.as_of.is_none();
    request.mode == SearchMode::Mixture && is_unconditional && request.conversation.is_empty()
}

/// Returns the message that has an answer prepared; `None` when the question is too long for one.
fn prepared_later(request: &SearchRequest) -> Option<String> {
    let dedup = match request.duplicates {
        Duplicates::Keep => "no",
        Duplicates::SameText => "text",
        Duplicates::Similar(_) => "sim",
        Duplicates::MarginalRelevance(_) => "mmr",
    };
    let content = json!({
        "query": request.query,
        "mode": SearchMode::Fine.as_str(),
        "top_k": request.top_k,
        "dedup": dedup,
        "rerank": request.rerank,
        "internet_search": request.internet,
        "session_id": request.session,
    });
    Some(content.to_string()).filter(|content| content.len() <= MAX_CONVERSATION)
}

/// Puts prepared memories before those that fit less, leaves out what is there already, and returns how many stay. The order of
/// what was found stays, and so does the number that was asked for.
fn mixed(found: &mut Vec<FoundMemory>, prepared: Vec<FoundMemory>, request: &SearchRequest) -> usize {
    let is_counted = |item: &MemoryItem| request.kinds.is_none() || is_plain(item);
    let mut added = Vec::new();
    for hit in prepared {
        let is_known = found.iter().any(|one| {
            one.item.id == hit.item.id
                || one.item.working_copy_of() == Some(hit.item.id.as_str())
                || (request.duplicates != Duplicates::Keep && one.item.memory == hit.item.memory)
        });
        // Tools and skills have limits of their own, which the search has heeded.
        if is_known || !is_counted(&hit.item) || hit.relativity < request.relevance {
            continue;
        }
        let fits_less = |one: &FoundMemory| is_counted(&one.item) && one.relativity < hit.relativity;
        let place = found.iter().position(fits_less).unwrap_or(found.len());
        added.push(hit.item.id.clone());
        found.insert(place, hit);
    }
    let mut n_surplus = found.iter().filter(|one| is_counted(&one.item)).count().saturating_sub(request.top_k);
    while n_surplus > 0
        && let Some(last) = found.iter().rposition(|one| is_counted(&one.item))
    {
        found.remove(last);
        n_surplus -= 1;
    }
    added.iter().filter(|id| found.iter().any(|one| one.item.id == **id)).count()
}

fn is_plain(item: &MemoryItem) -> bool {
    let special = [MemoryType::ToolSchema, MemoryType::ToolTrajectory, MemoryType::Skill];
    item.metadata.memory_type().is_none_or(|kind| !special.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(id: &str, relativity: f32) -> FoundMemory {
        let item = MemoryItem::new(id.into(), format!("text of {id}"));
        FoundMemory { item, score: 0.0, relativity, signals: Vec::new(), reranked: None, paths: Vec::new() }
    }

    fn ids(found: &[FoundMemory]) -> Vec<&str> {
        found.iter().map(|one| one.item.id.as_str()).collect()
    }

    #[test]
    fn what_was_prepared_takes_its_place_once_and_no_more_is_returned_than_was_asked_for() {
        let request = SearchRequest { mode: SearchMode::Mixture, relevance: 0.2, ..SearchRequest::new("tea?", 3) };
        let mut found = vec![hit("a", 0.9), hit("b", 0.5), hit("c", 0.4)];
        let n_mixed = mixed(&mut found, vec![hit("d", 0.7), hit("b", 0.95), hit("e", 0.3), hit("f", 0.1)], &request);
        assert_eq!((n_mixed, ids(&found)), (1, vec!["a", "d", "b"]));
        let mut few = vec![hit("a", 0.9)];
        assert_eq!(mixed(&mut few, vec![hit("e", 0.3), hit("f", 0.1)], &request), 1);
        assert_eq!(ids(&few), ["a", "e"]);
    }

    #[test]
    fn a_search_with_conditions_is_served_by_nothing_that_was_prepared_without() {
        let plain = SearchRequest { mode: SearchMode::Mixture, ..SearchRequest::new("tea?", 3) };
        assert!(is_mixed(&plain));
        assert!(!is_mixed(&SearchRequest { mode: SearchMode::Fine, ..plain.clone() }));
        assert!(!is_mixed(&SearchRequest { types: vec![MemoryType::User], ..plain.clone() }));
        assert!(!is_mixed(&SearchRequest { filter: Filter::equals("session_id", "s"), ..plain.clone() }));
        let conversation = vec![mos_core::Message::user("Ann is away")];
        assert!(!is_mixed(&SearchRequest { conversation, ..plain.clone() }), "it may be about somebody else");
        assert!(!is_mixed(&SearchRequest { as_of: Some("2026-01-31".to_owned()), ..plain }));
    }
}
