//! Searching the cubes of a user.

use std::collections::BTreeMap;

use futures::future::{join_all, try_join, try_join_all};
use mos_core::{
    CubeId, Duplicates, Filter, Found, KindLimits, MemoryType, Message, SearchMode, SearchRequest, SessionId, UserId,
};

use super::found::{CubeHits, FoundMemory, SearchResult, SkippedCube};
use super::{CubeHandle, Mos};
use crate::error::{Error, Result};
use crate::plugin::{HookContext, SearchHook};

/// What is looked for.
///
/// ```no_run
/// # use mos::{Mos, Search};
/// # use mos_core::SearchMode;
/// # async fn run(mos: Mos) -> mos::Result<()> {
/// let question = Search::new("Where do I live?").user("ann").mode(SearchMode::Fine).top_k(3);
/// let found = mos.search(question).await?;
/// for (cube, hit) in found.best() {
///     println!("{cube}: {} ({:.2}), because of {:?}", hit.item.memory, hit.relativity, hit.signals);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    user: Option<UserId>,
    cubes: Option<Vec<CubeId>>,
    top_k: Option<usize>,
    session: Option<SessionId>,
    include_preference: Option<bool>,
    pref_top_k: usize,
    /// What must hold in some cubes besides.
    own_filters: BTreeMap<CubeId, Filter>,
    /// All but the number of hits and the filter of the session.
    request: SearchRequest,
}

impl Search {
    /// A question in plain words.
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            user: None,
            cubes: None,
            top_k: None,
            session: None,
            include_preference: None,
            pref_top_k: super::preferences::DEFAULT_TOP_K,
            own_filters: BTreeMap::new(),
            request: SearchRequest::new(query, 0),
        }
    }

    /// Who asks; without this the settings' user.
    #[must_use]
    pub fn user(mut self, user: impl Into<UserId>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Only these cubes; without this every registered cube of the user.
    #[must_use]
    pub fn cubes(mut self, cubes: impl IntoIterator<Item = CubeId>) -> Self {
        self.cubes = Some(cubes.into_iter().collect());
        self
    }

    /// The most memories per cube; without this the settings' `top_k`.
    #[must_use]
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = Some(top_k);
        self
    }

    /// Whether preferences are looked for too, in the cubes that have a memory of them; without this as the settings'
    /// `enable_preference_memory` says.
    #[must_use]
    pub fn include_preference(mut self, include_preference: bool) -> Self {
        self.include_preference = Some(include_preference);
        self
    }

    /// The most preferences of each type (stated, concluded) per cube; without this 6.
    #[must_use]
    pub fn pref_top_k(mut self, pref_top_k: usize) -> Self {
        self.pref_top_k = pref_top_k;
        self
    }

    /// Only memories of this conversation. Preferences hold beyond the conversation that they showed in.
    #[must_use]
    pub fn session(mut self, session: impl Into<SessionId>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Memories of this conversation come earlier; the others are found all the same.
    #[must_use]
    pub fn prefer_session(mut self, session: impl Into<SessionId>) -> Self {
        self.request.session = Some(session.into());
        self
    }

    /// Only memories of these types.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = MemoryType>) -> Self {
        self.request.types = types.into_iter().collect();
        self
    }

    /// What was true at a moment: `2026-01-31` (the end of that day) or `2026-01-31T18:00:00Z`. Without this, of now.
    #[must_use]
    pub fn as_of(mut self, moment: impl Into<String>) -> Self {
        self.request.as_of = Some(moment.into());
        self
    }

    /// Only memories and preferences that pass. Pages of the internet are not asked.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.request.filter = filter;
        self
    }

    /// In this cube only memories and preferences that pass this besides.
    #[must_use]
    pub fn filter_in(mut self, cube: impl Into<CubeId>, filter: Filter) -> Self {
        let own = self.own_filters.entry(cube.into()).or_default();
        *own = std::mem::take(own).and(filter);
        self
    }

    /// How much is thought before: without this [`SearchMode::Fast`], which asks no language model.
    #[must_use]
    pub fn mode(mut self, mode: SearchMode) -> Self {
        self.request.mode = mode;
        self
    }

    /// What was said before, oldest first, for questions that refer to it; modes that ask a model look at the end of it.
    #[must_use]
    pub fn conversation(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.request.conversation = messages.into_iter().collect();
        self
    }

    /// Lets a model split a hard question, and searches for the easier ones too. Cubes whose `search_strategy` says `cot`
    /// always do so.
    #[must_use]
    pub fn sub_questions(mut self, sub_questions: bool) -> Self {
        self.request.sub_questions = sub_questions;
        self
    }

    /// Lets a model judge whether the hits answer the question, and searches for what is missing, in at most three stages.
    #[must_use]
    pub fn deep(mut self, deep: bool) -> Self {
        self.request.deep = deep;
        self
    }

    /// Whether a cube's reranker orders the hits; without this it does, where there is one.
    #[must_use]
    pub fn rerank(mut self, rerank: bool) -> Self {
        self.request.rerank = rerank;
        self
    }

    /// Searches the internet too, where the cube or the settings name a retriever. Without this it is searched only when a
    /// model says so in a mode that asks one. Its pages are of the type `OuterMemory` and are stored nowhere.
    #[must_use]
    pub fn internet(mut self, internet: bool) -> Self {
        self.request.internet = internet;
        self
    }

    /// Which hits are left out as repetitions; without this those of the same text.
    #[must_use]
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.request.duplicates = duplicates;
        self
    }

    /// The least relativity of memories and preferences, from 0 (without this: no limit) to 1. What has less takes nobody's place
    /// and makes nothing a repetition. Tools and skills need none where [`Search::kinds`] limits them.
    #[must_use]
    pub fn relevance(mut self, relevance: f32) -> Self {
        self.request.relevance = relevance;
        self
    }

    /// Limits for tools and skills, which then come beside the `top_k` of all other kinds; without this they are counted
    /// like those.
    #[must_use]
    pub fn kinds(mut self, kinds: KindLimits) -> Self {
        self.request.kinds = Some(kinds);
        self
    }

    /// The most memories of all cubes together that are of use to somebody who wants `top_k` unless this says otherwise.
    pub(super) fn n_wanted(&self, top_k: usize) -> usize {
        let beside = self.request.kinds.map_or(0, |kinds| kinds.tools.saturating_mul(2).saturating_add(kinds.skills));
        self.top_k.unwrap_or(top_k).saturating_add(beside)
    }

    /// Asks `query` where `earlier` was asked.
    pub(super) fn asking_instead_of(mut self, earlier: &str, query: &str) -> Self {
        if self.request.query == earlier {
            self.request.query = query.to_owned();
        }
        self
    }

    /// Adds what was said before, where a model looks at it and nothing was named.
    pub(super) fn after(mut self, earlier: impl FnOnce() -> Vec<Message>) -> Self {
        if self.request.mode.asks_a_model() && self.request.conversation.is_empty() {
            self.request.conversation = earlier();
        }
        self
    }

    /// The same search for another question.
    pub(crate) fn asking(mut self, query: &str) -> Self {
        self.request.query = query.to_owned();
        self
    }

    /// The same search for a part of the question: at most `top_k` memories, no model is asked, no preferences.
    pub(super) fn for_part(mut self, question: &str, top_k: usize) -> Self {
        self.request.query = question.to_owned();
        self.request.mode = SearchMode::Fast;
        (self.request.sub_questions, self.request.deep) = (false, false);
        (self.top_k, self.include_preference) = (Some(top_k), Some(false));
        self
    }

    /// The request to one cube.
    fn into_request(self, top_k: usize) -> SearchRequest {
        let filter = match &self.session {
            None => self.request.filter,
            Some(session) => self.request.filter.and(Filter::equals("session_id", session.as_str())),
        };
        SearchRequest { top_k: self.top_k.unwrap_or(top_k), filter, ..self.request }
    }
}

impl Mos {
    /// Returns what fits a question, cube by cube. When no cube is named, one that cannot be searched does not stand
    /// in the way of the others: [`SearchResult::skipped`] tells why.
    ///
    /// # Errors
    /// Rights (every named cube is checked); [`Error::Invalid`] for an empty query and numbers that are not from 0 to 1; store
    /// and model errors of a named cube, or when no cube at all could be searched. A language model, a reranker or an
    /// internet retriever that fails is a note of the cube.
    pub async fn search(&self, search: Search) -> Result<SearchResult> {
        // Also told to someone who has no cube yet.
        check(&search.request)?;
        let user = self.user_or_default(search.user.as_ref());
        let is_named = search.cubes.is_some();
        let mut skipped = Vec::new();
        let cubes = match search.cubes.as_deref() {
            Some(ids) => try_join_all(ids.iter().map(|id| self.readable_cube(&user, id))).await?,
            None => self.registered_cubes(&user, &mut skipped).await?,
        };
        let asked = cubes.iter().map(|cube| cube.info().cube_id.clone());
        let place = self.hook_context(&user, asked, search.session.as_ref());
        let mut search = self.before_search(place.as_ref(), search).await?;
        let own_filters = std::mem::take(&mut search.own_filters);
        let include_preference = search.include_preference.unwrap_or(self.parts.settings.enable_preference_memory);
        let preferences = include_preference.then(|| (search.request.filter.clone(), search.pref_top_k));
        let request = search.into_request(self.parts.settings.top_k);
        let (mut text_mem, mut pref_mem) = (Vec::with_capacity(cubes.len()), Vec::new());
        let mut first_error = None;
        let searched = cubes.iter().map(|cube| {
            let own = own_filters.get(&cube.info().cube_id);
            self.search_narrowed(&user, cube, &request, preferences.as_ref(), own)
        });
        let searched = join_all(searched).await;
        for (cube, result) in cubes.iter().zip(searched) {
            match result {
                Ok((hits, preferences)) => {
                    text_mem.push(hits);
                    pref_mem.extend(preferences);
                }
                Err(error) if is_named => return Err(error),
                Err(error) => {
                    skipped.push(skipped_cube(&cube.info().cube_id, &error));
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error.filter(|_| text_mem.is_empty()) {
            return Err(error);
        }
        let found = SearchResult { text_mem, pref_mem, skipped };
        match place {
            Some(place) => self.parts.plugins.after_search(place, found).await,
            None => Ok(found),
        }
    }

    /// As [`Mos::search_and_mix`], with what must hold in this cube besides.
    async fn search_narrowed(
        &self,
        user: &UserId,
        cube: &CubeHandle,
        request: &SearchRequest,
        preferences: Option<&(Filter, usize)>,
        own: Option<&Filter>,
    ) -> Result<(CubeHits, Option<CubeHits>)> {
        let Some(own) = own else { return self.search_and_mix(user, cube, request, preferences).await };
        let request = SearchRequest { filter: request.filter.clone().and(own.clone()), ..request.clone() };
        let preferences = preferences.map(|(filter, top_k)| (filter.clone().and(own.clone()), *top_k));
        self.search_and_mix(user, cube, &request, preferences.as_ref()).await
    }

    /// Searches one cube; in mixture mode with what was prepared for the question.
    async fn search_and_mix(
        &self,
        user: &UserId,
        cube: &CubeHandle,
        request: &SearchRequest,
        preferences: Option<&(Filter, usize)>,
    ) -> Result<(CubeHits, Option<CubeHits>)> {
        let is_textual = self.parts.settings.enable_textual_memory;
        let now = self.searched_now(user, cube, request);
        let (mut found, preferences) = search_cube(cube, &now, is_textual, preferences).await?;
        if is_textual {
            self.mix_prepared(user, cube, request, &mut found).await;
        }
        Ok((found, preferences))
    }

    /// Lets plugins see what is looked for.
    async fn before_search(&self, place: Option<&HookContext>, mut search: Search) -> Result<Search> {
        let Some(place) = place else { return Ok(search) };
        let top_k = search.top_k.unwrap_or(self.parts.settings.top_k);
        let request = SearchRequest { top_k, ..search.request };
        let hook = SearchHook { request, pref_top_k: search.pref_top_k };
        let SearchHook { request, pref_top_k } = self.parts.plugins.before_search(place.clone(), hook).await?;
        check(&request)?;
        search.top_k = Some(request.top_k);
        search.pref_top_k = pref_top_k;
        search.request = request;
        Ok(search)
    }

    /// Every registered cube of the user that can be opened.
    async fn registered_cubes(&self, user: &UserId, skipped: &mut Vec<SkippedCube>) -> Result<Vec<CubeHandle>> {
        let mut handles = Vec::new();
        for cube in self.list_cubes(user).await?.into_iter().filter(|cube| cube.is_registered) {
            match self.readable_cube(user, &cube.cube_id).await {
                Ok(handle) => handles.push(handle),
                Err(error) => skipped.push(skipped_cube(&cube.cube_id, &error)),
            }
        }
        Ok(handles)
    }
}

/// Refuses what cannot be searched for.
fn check(request: &SearchRequest) -> Result<()> {
    request.check()?;
    request.as_of.as_deref().map(mos_memory::asked_moment).transpose()?;
    Ok(())
}

fn skipped_cube(cube_id: &CubeId, error: &Error) -> SkippedCube {
    tracing::warn!(cube = %cube_id, error = error.without_quotes(), "a cube could not be searched");
    SkippedCube { cube_id: cube_id.clone(), reason: error.to_string() }
}

/// Returns what was found in one cube, and its preferences when it has a memory of them and they are asked for. Without textual
/// memory there is a note instead of texts.
async fn search_cube(
    cube: &CubeHandle,
    request: &SearchRequest,
    is_textual: bool,
    preferences: Option<&(Filter, usize)>,
) -> Result<(CubeHits, Option<CubeHits>)> {
    let preferences = async {
        match (cube.pref_mem(), preferences) {
            (Some(memory), Some((filter, top_k))) => memory.search(&request.query, *top_k, filter).await.map(Some),
            _ => Ok(None),
        }
    };
    let texts = async {
        if is_textual {
            return cube.text_mem().search(request).await;
        }
        let mut nothing = Found::default();
        nothing.note("textual memory is off (enable_textual_memory)");
        Ok(nothing)
    };
    let (found, preferences) = try_join(texts, preferences).await?;
    let preferences = preferences.map(|mut found| {
        let n_found = found.hits.len();
        found.hits.retain(|hit| hit.relativity >= request.relevance);
        let n_left_out = n_found - found.hits.len();
        if n_left_out > 0 {
            let least = request.relevance;
            found.note(format!(
                "{n_left_out} of {n_found} preferences have a relativity below {least} and are left out"
            ));
        }
        cube_hits(cube, found)
    });
    Ok((cube_hits(cube, found), preferences))
}

fn cube_hits(cube: &CubeHandle, found: Found) -> CubeHits {
    CubeHits {
        cube_id: cube.info().cube_id.clone(),
        memories: found.hits.into_iter().map(FoundMemory::from).collect(),
        notes: found.notes,
    }
}
