//! Searching the cubes of a user.

use futures::future::{join_all, try_join, try_join_all};
use mos_core::text_memory::Signal;
use mos_core::{CubeId, Filter, Hit, MemoryItem, MemoryType, SearchRequest, SessionId, UserId};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{CubeHandle, Mos};
use crate::error::{Error, Result};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Search {
    user: Option<UserId>,
    cubes: Option<Vec<CubeId>>,
    query: String,
    top_k: Option<usize>,
    session: Option<SessionId>,
    filter: Filter,
    include_preference: Option<bool>,
    pref_top_k: usize,
    types: Vec<MemoryType>,
    as_of: Option<String>,
}

impl Search {
    /// A question in plain words.
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            user: None,
            cubes: None,
            query: query.into(),
            top_k: None,
            session: None,
            filter: Filter::Everything,
            include_preference: None,
            pref_top_k: super::preferences::DEFAULT_TOP_K,
            types: Vec::new(),
            as_of: None,
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

    /// Only memories of these types.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = MemoryType>) -> Self {
        self.types = types.into_iter().collect();
        self
    }

    /// What was true at a moment: `2026-01-31` (the end of that day) or `2026-01-31T18:00:00Z`. Without this, of now.
    #[must_use]
    pub fn as_of(mut self, moment: impl Into<String>) -> Self {
        self.as_of = Some(moment.into());
        self
    }

    /// Only memories and preferences that pass.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }
}

/// A memory that was found, and why. Serialises as the memory with `score` and `signals` beside its fields.
#[derive(Clone, Debug)]
pub struct FoundMemory {
    /// The memory.
    pub item: MemoryItem,
    /// The fused score.
    pub score: f32,
    /// What each recall path said.
    pub signals: Vec<Signal>,
}

impl Serialize for FoundMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut value = self.item.to_value();
        value["score"] = json!(self.score);
        value["signals"] = self
            .signals
            .iter()
            .map(|signal| (signal.name.to_owned(), json!(signal.score)))
            .collect::<serde_json::Map<String, Value>>()
            .into();
        value.serialize(serializer)
    }
}

impl From<Hit> for FoundMemory {
    fn from(hit: Hit) -> Self {
        Self { item: hit.item, score: hit.score, signals: hit.signals }
    }
}

/// What was found in one cube.
#[derive(Clone, Debug, Serialize)]
pub struct CubeHits {
    /// The cube.
    pub cube_id: CubeId,
    /// Best first.
    pub memories: Vec<FoundMemory>,
}

/// A cube that could not be searched.
#[derive(Clone, Debug, Serialize)]
pub struct SkippedCube {
    /// The cube.
    pub cube_id: CubeId,
    /// Why, and what to do.
    pub reason: String,
}

/// What was found, in the shape of MemOS' `search`: one entry per cube, also for cubes without a hit.
#[derive(Clone, Debug, Default)]
pub struct SearchResult {
    /// Textual memories by cube.
    pub text_mem: Vec<CubeHits>,
    /// Preferences by cube, the stated ones first, each best first; an entry for every cube that has a memory of them, when
    /// they were asked for.
    pub pref_mem: Vec<CubeHits>,
    /// Cubes that were not named and could not be searched, for example because another encoder made them. Serialised
    /// when there are any.
    pub skipped: Vec<SkippedCube>,
}

impl SearchResult {
    /// Returns the textual memories of all cubes, best first.
    pub fn best(&self) -> Vec<(&CubeId, &FoundMemory)> {
        let mut all: Vec<(&CubeId, &FoundMemory)> = self
            .text_mem
            .iter()
            .flat_map(|cube| cube.memories.iter().map(move |found| (&cube.cube_id, found)))
            .collect();
        all.sort_by(|left, right| right.1.score.total_cmp(&left.1.score));
        all
    }
}

impl Serialize for SearchResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut value = json!({"text_mem": self.text_mem, "act_mem": [], "para_mem": [], "pref_mem": self.pref_mem});
        if let Some(text) = self.pref_string() {
            value["pref_string"] = json!(text);
            value["pref_note"] = json!(super::PREFERENCE_NOTE);
        }
        if !self.skipped.is_empty() {
            value["skipped"] = json!(self.skipped);
        }
        value.serialize(serializer)
    }
}

impl Mos {
    /// Returns what fits a question, cube by cube. When no cube is named, one that cannot be searched does not stand
    /// in the way of the others: [`SearchResult::skipped`] tells why.
    ///
    /// # Errors
    /// Rights (every named cube is checked); [`Error::Invalid`] for an empty query; store and model errors of a named
    /// cube, or when no cube at all could be searched.
    pub async fn search(&self, search: Search) -> Result<SearchResult> {
        if search.query.trim().is_empty() {
            return Err(Error::Invalid("the query is empty; ask for something".to_owned()));
        }
        // Also told to someone who has no cube yet.
        search.as_of.as_deref().map(mos_memory::asked_moment).transpose()?;
        let user = self.user_or_default(search.user.as_ref());
        let is_named = search.cubes.is_some();
        let mut skipped = Vec::new();
        let cubes = match search.cubes.as_deref() {
            Some(ids) => try_join_all(ids.iter().map(|id| self.cube(&user, id))).await?,
            None => self.registered_cubes(&user, &mut skipped).await?,
        };
        let include_preference = search.include_preference.unwrap_or(self.parts.settings.enable_preference_memory);
        let preferences = include_preference.then(|| (search.filter.clone(), search.pref_top_k));
        let filter = match &search.session {
            None => search.filter,
            Some(session) => search.filter.and(Filter::equals("session_id", session.as_str())),
        };
        let top_k = search.top_k.unwrap_or(self.parts.settings.top_k);
        let (types, as_of) = (search.types, search.as_of);
        let request = SearchRequest { query: search.query, top_k, filter, types, as_of };
        let (mut text_mem, mut pref_mem) = (Vec::with_capacity(cubes.len()), Vec::new());
        let mut first_error = None;
        let searched = join_all(cubes.iter().map(|cube| search_cube(cube, &request, preferences.as_ref()))).await;
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
        match first_error {
            Some(error) if text_mem.is_empty() => Err(error),
            _ => Ok(SearchResult { text_mem, pref_mem, skipped }),
        }
    }

    /// Every registered cube of the user that can be opened.
    async fn registered_cubes(&self, user: &UserId, skipped: &mut Vec<SkippedCube>) -> Result<Vec<CubeHandle>> {
        let mut handles = Vec::new();
        for cube in self.list_cubes(user).await?.into_iter().filter(|cube| cube.is_registered) {
            match self.cube(user, &cube.cube_id).await {
                Ok(handle) => handles.push(handle),
                Err(error) => skipped.push(skipped_cube(&cube.cube_id, &error)),
            }
        }
        Ok(handles)
    }
}

fn skipped_cube(cube_id: &CubeId, error: &Error) -> SkippedCube {
    tracing::warn!(cube = %cube_id, %error, "a cube could not be searched");
    SkippedCube { cube_id: cube_id.clone(), reason: error.to_string() }
}

/// Returns what was found in one cube, and its preferences when it has a memory of them and they are asked for.
async fn search_cube(
    cube: &CubeHandle,
    request: &SearchRequest,
    preferences: Option<&(Filter, usize)>,
) -> Result<(CubeHits, Option<CubeHits>)> {
    let preferences = async {
        match (cube.pref_mem(), preferences) {
            (Some(memory), Some((filter, top_k))) => memory.search(&request.query, *top_k, filter).await.map(Some),
            _ => Ok(None),
        }
    };
    let (hits, preferences) = try_join(cube.text_mem().search(request), preferences).await?;
    let found = |hits: Vec<Hit>| CubeHits {
        cube_id: cube.info().cube_id.clone(),
        memories: hits.into_iter().map(FoundMemory::from).collect(),
    };
    Ok((found(hits), preferences.map(found)))
}
