//! `search`: what fits a question, cube by cube.

use std::collections::HashSet;

use futures::future::try_join_all;
use mos_core::graph::kinds::{FOLLOWING, PRECEDING};
use mos_core::{
    CubeId, Direction, Duplicates, Edge, Filter, KindLimits, MemoryId, MemoryItem, MemoryType, Message,
    Scope as RecordScope, Status, UserId,
};
use serde_json::{Map, Value, json};

use super::app::Product;
use super::error::{ProductError, ProductResult};
use super::filters::read_filter;
use super::hits::{Shelf, bucket, hit_value};
use super::reply::Reply;
use super::shared_types::{SearchMode, cubes_of, session_of};
use crate::facade::{CubeHits, FoundMemory, PREFERENCE_NOTE, Search, SearchResult};

/// The types that `AllSummaryMemory` means: everything but the chunks of files as they are.
const SUMMARIES: [MemoryType; 9] = [
    MemoryType::Working,
    MemoryType::LongTerm,
    MemoryType::User,
    MemoryType::Outer,
    MemoryType::ToolSchema,
    MemoryType::ToolTrajectory,
    MemoryType::Skill,
    MemoryType::Preference,
    MemoryType::Context,
];

words! {
    /// Which hits are left out as repetitions.
    literal_error pub enum Dedup as Dedup {
        /// None.
        No = "no",
        /// Those that are similar to better ones.
        Sim = "sim",
        /// Those that add little to better ones.
        Mmr = "mmr",
    }
}

/// The most memories of each list of an answer.
const MAX_LISTED: usize = 1_000;

request! {
    /// What is looked for, in which cubes and how.
    pub struct SearchRequest as APISearchRequest {
        /// The question, in plain words.
        required query: String;
        /// Who asks; also the cube when none is named.
        required user_id: String;
        /// The cubes that are searched.
        optional readable_cube_ids: Vec<String>;
        /// How much is thought before.
        #[schema(required = false, default = "fast")]
        default mode: SearchMode = SearchMode::Fast;
        /// Memories of this conversation come earlier; the others are found all the same.
        optional session_id: String;
        /// Another name of `session_id`.
        #[schema(ignore)]
        optional conversation_id: String;
        /// The most memories per cube; preferences, tools and skills come besides. More than 1000 count as 1000.
        #[schema(required = false, default = 10)]
        default top_k: usize = 10, at least 1.0;
        /// The least relativity of memories and preferences; 0 is no limit.
        #[schema(required = false, default = 0.45)]
        default relativity: f64 = 0.45, at least 0.0;
        /// Which hits are left out as repetitions; with null those of the same text.
        #[schema(required = false, default = "mmr")]
        default dedup: Option<Dedup> = Some(Dedup::Mmr);
        /// Whether a cube's reranker orders the hits.
        #[schema(required = false, default = true)]
        default rerank: bool = true;
        /// The most preferences per cube. More than 1000 count as 1000.
        #[schema(required = false, default = 6)]
        default pref_top_k: usize = 6, at least 0.0;
        /// Whether preferences are looked for.
        #[schema(required = false, default = true)]
        default include_preference: bool = true;
        /// Whether tools are looked for.
        #[schema(required = false, default = true)]
        default search_tool_memory: bool = true;
        /// The most descriptions of tools per cube, and as many stories of their use. More than 1000 count as 1000.
        #[schema(required = false, default = 6)]
        default tool_mem_top_k: usize = 6, at least 0.0;
        /// Whether skills are looked for.
        #[schema(required = false, default = true)]
        default include_skill_memory: bool = true;
        /// The most skills per cube. More than 1000 count as 1000.
        #[schema(required = false, default = 3)]
        default skill_mem_top_k: usize = 3, at least 0.0;
        /// Accepted and not used: hits always come as memories.
        #[schema(required = false, default = "memory")]
        default context_format: String = "memory".to_owned();
        /// Which memories are meant: conditions, `and` and `or`, or a filter for each cube.
        #[schema(value_type = Option<Object>)]
        optional filter: Map<String, Value>;
        /// Whether the internet is searched too.
        #[schema(required = false, default = false)]
        default internet_search: bool = false;
        /// Accepted and not used.
        optional threshold: f64;
        /// `All`, the type of memories that are looked for, or `AllSummaryMemory` for all but the chunks of files.
        #[schema(required = false, default = "All")]
        default search_memory_type: String = "All".to_owned();
        /// When the question is asked; told to models that say what it is after.
        optional reference_time: String;
        /// What was said before, oldest first; modes that ask a model look at the end of it.
        #[schema(value_type = Option<Vec<Object>>)]
        optional chat_history: Vec<Message>;
        /// The cube, when `readable_cube_ids` names none.
        optional mem_cube_id: String;
        /// Accepted and not used.
        #[schema(required = false, default = false)]
        default moscube: bool = false;
        /// Accepted and not used.
        #[schema(value_type = Option<Vec<Object>>)]
        optional operation: Vec<Map<String, Value>>;
        /// Accepted and not used.
        optional source: String;
        /// Whether the chunks of files before and after those that were found come too.
        #[schema(required = false, default = false)]
        default neighbor_discovery: bool = false;
    }
}

/// What was found in one cube, by list.
struct OfCube {
    cube: CubeId,
    text: Vec<FoundMemory>,
    preferences: Vec<FoundMemory>,
    tools: Vec<FoundMemory>,
    skills: Vec<FoundMemory>,
    notes: Vec<String>,
}

impl OfCube {
    /// Returns a cube in which nothing was found.
    fn empty(cube: CubeId) -> Self {
        Self {
            cube,
            text: Vec::new(),
            preferences: Vec::new(),
            tools: Vec::new(),
            skills: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Product {
    /// Returns what fits a question: `text_mem`, `pref_mem`, `tool_mem` and `skill_mem`, each with one entry per cube, in the order
    /// in which the cubes are named, also for those that do not exist yet, and the preferences as text for a prompt. What could
    /// not be done is told in `notes` of a cube's memories.
    ///
    /// # Errors
    /// Status 400 for an empty question, an unknown type of memories and a filter that cannot be understood; 403 for a cube of
    /// somebody else; errors of stores and of the encoder.
    pub async fn search(&self, request: SearchRequest) -> ProductResult<Reply<Value>> {
        let session = session_of(request.session_id.as_deref(), request.conversation_id.as_deref())?;
        let named = cubes_of(request.readable_cube_ids.as_deref(), request.mem_cube_id.as_ref());
        let (user, cubes) = self.to_read(&request.user_id, named.as_deref()).await?;
        if request.query.trim().is_empty() {
            return Err(ProductError::bad_value("the query is empty; ask for something"));
        }
        let types = types_of(&request.search_memory_type)?;
        // Also those that do not exist yet: keys of the filter may be any of them, and each has its place in the answer.
        let named = self.named(&user, named.as_deref())?;
        let filter = read_filter(request.filter.as_ref(), &named)?;
        let mut searches = Vec::with_capacity(cubes.len());
        for cube in &cubes {
            let filter = filter.of(cube);
            let search = search_of(&request, &user, session.as_deref(), &types).cubes([cube.clone()]);
            searches.push(self.search_cube(&request, cube, search.filter(filter.clone()), filter));
        }
        let found = in_their_places(named, try_join_all(searches).await?);
        Ok(Reply::new("Search completed successfully", answer(found)))
    }

    async fn search_cube(
        &self,
        request: &SearchRequest,
        cube: &CubeId,
        search: Search,
        filter: Filter,
    ) -> ProductResult<OfCube> {
        let found = self.mos().search(search).await?;
        let mut sorted = sorted(request, cube, found);
        if request.neighbor_discovery {
            sorted.text = self.with_neighbors(cube, sorted.text, &filter).await?;
        }
        Ok(sorted)
    }

    /// Puts the chunks of files behind the found chunks that they stand beside.
    async fn with_neighbors(
        &self,
        cube: &CubeId,
        found: Vec<FoundMemory>,
        filter: &Filter,
    ) -> ProductResult<Vec<FoundMemory>> {
        let is_chunk = |item: &MemoryItem| item.metadata.memory_type() == Some(MemoryType::RawFile);
        let chunks: Vec<MemoryId> =
            found.iter().filter(|one| is_chunk(&one.item)).map(|one| one.item.id.clone()).collect();
        if chunks.is_empty() {
            return Ok(found);
        }
        let (record, scope) = (&self.mos().parts.record, RecordScope::of(cube));
        let mut edges: Vec<Edge> = Vec::new();
        for kind in [PRECEDING, FOLLOWING] {
            edges.extend(record.edges(&scope, &chunks, Direction::Outgoing, Some(kind)).await?);
        }
        let wanted: Vec<MemoryId> = edges.iter().map(|edge| edge.target.clone()).collect();
        let mut known: HashSet<MemoryId> = found.iter().map(|one| one.item.id.clone()).collect();
        let passes = |item: &MemoryItem| {
            item.metadata.status == Some(Status::Activated) && filter.matches(&item.memory, &item.metadata.to_map())
        };
        let items: Vec<MemoryItem> = record.nodes(&scope, &wanted).await?.into_iter().filter(passes).collect();
        let mut all = Vec::with_capacity(found.len() + items.len());
        for one in found {
            let (id, score, relativity) = (one.item.id.clone(), one.score, one.relativity);
            all.push(one);
            for edge in edges.iter().filter(|edge| edge.source == id) {
                let Some(item) = items.iter().find(|item| item.id == edge.target) else { continue };
                if known.insert(item.id.clone()) {
                    // It is there because of its neighbour, and as near to the question as that.
                    let (signals, paths) = (Vec::new(), Vec::new());
                    all.push(FoundMemory { item: item.clone(), score, relativity, signals, reranked: None, paths });
                }
            }
        }
        Ok(all)
    }
}

/// Returns the types of memories that a word means; none stands for all.
fn types_of(word: &str) -> ProductResult<Vec<MemoryType>> {
    match word {
        "All" => Ok(Vec::new()),
        "AllSummaryMemory" => Ok(SUMMARIES.to_vec()),
        word => MemoryType::parse(word).map(|kind| vec![kind]).ok_or_else(|| {
            ProductError::bad_value(format!(
                "`search_memory_type` is `{word}`; it must be All, AllSummaryMemory or one of {}",
                MemoryType::WORDS.join(", ")
            ))
        }),
    }
}

/// Returns the search of one request, for any cube.
fn search_of(request: &SearchRequest, user: &UserId, session: Option<&str>, types: &[MemoryType]) -> Search {
    let kinds = KindLimits {
        tools: if request.search_tool_memory { request.tool_mem_top_k.min(MAX_LISTED) } else { 0 },
        skills: if request.include_skill_memory { request.skill_mem_top_k.min(MAX_LISTED) } else { 0 },
    };
    let duplicates = match request.dedup {
        None => Duplicates::SameText,
        // Every word has its meaning there.
        Some(dedup) => Duplicates::parse(dedup.as_str()).unwrap_or_default(),
    };
    let mut conversation = request.chat_history.clone().unwrap_or_default();
    if let Some(time) = request.reference_time.as_deref().filter(|time| !time.trim().is_empty()) {
        conversation.push(Message::system(format!("The question is asked at this time: {}", time.trim())));
    }
    let mut search = Search::new(request.query.as_str())
        .user(user.clone())
        .top_k(request.top_k.min(MAX_LISTED))
        .mode(request.mode.into())
        .rerank(request.rerank)
        .duplicates(duplicates)
        .kinds(kinds)
        .relevance(if has_usual_relativity(request) { request.relativity as f32 } else { 0.0 })
        .types(types.iter().copied())
        .internet(request.internet_search)
        .conversation(conversation)
        .include_preference(request.include_preference && request.pref_top_k > 0)
        .pref_top_k(request.pref_top_k.min(MAX_LISTED));
    if let Some(session) = session {
        search = search.prefer_session(session);
    }
    search
}

/// Whether memories can have the relativity that is asked for: it is at most 1.
fn has_usual_relativity(request: &SearchRequest) -> bool {
    request.relativity <= 1.0
}

/// Puts what was found in a cube into its lists. Tools and skills have no least relativity.
fn sorted(request: &SearchRequest, cube: &CubeId, found: SearchResult) -> OfCube {
    let SearchResult { text_mem, pref_mem, skipped: _ } = found;
    let mut sorted = OfCube::empty(cube.clone());
    // Preferences have a memory of their own; a tree may hold some besides.
    for CubeHits { memories, notes, .. } in pref_mem {
        sorted.preferences.extend(memories);
        sorted.notes.extend(notes);
    }
    for CubeHits { memories, notes, .. } in text_mem {
        sorted.notes.extend(notes);
        for one in memories {
            match Shelf::of(&one.item) {
                Shelf::Text => sorted.text.push(one),
                Shelf::Tool => sorted.tools.push(one),
                Shelf::Skill => sorted.skills.push(one),
                Shelf::Preference if request.include_preference => sorted.preferences.push(one),
                Shelf::Preference => {}
            }
        }
    }
    let n_left_out = sorted.text.len() + sorted.preferences.len();
    if !has_usual_relativity(request) && n_left_out > 0 {
        sorted.text.clear();
        sorted.preferences.clear();
        sorted
            .notes
            .push(format!("{n_left_out} memories have a relativity below {} and are left out", request.relativity));
    }
    let mut known: HashSet<MemoryId> = HashSet::new();
    sorted.preferences.retain(|one| known.insert(one.item.id.clone()));
    // Those of both types together, best first.
    sorted.preferences.sort_by(|one, other| other.relativity.total_cmp(&one.relativity));
    sorted.preferences.truncate(request.pref_top_k);
    sorted
}

/// Returns what was found with the cubes that do not exist between those that do, in the order in which they are named.
fn in_their_places(named: Vec<CubeId>, found: Vec<OfCube>) -> Vec<OfCube> {
    let mut found = found.into_iter().peekable();
    let place = |cube: CubeId| found.next_if(|one| one.cube == cube).unwrap_or_else(|| OfCube::empty(cube));
    named.into_iter().map(place).collect()
}

fn answer(found: Vec<OfCube>) -> Value {
    let list = |cube: &CubeId, memories: &[FoundMemory]| {
        let values: Vec<Value> = memories.iter().map(|one| hit_value(one, cube)).collect();
        bucket(cube, values, memories.len())
    };
    let (mut text, mut preferences, mut tools, mut skills) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut pref_mem = Vec::new();
    for of_cube in found {
        let cube = &of_cube.cube;
        let mut texts = list(cube, &of_cube.text);
        if !of_cube.notes.is_empty() {
            texts["notes"] = json!(of_cube.notes);
        }
        text.push(texts);
        preferences.push(list(cube, &of_cube.preferences));
        tools.push(list(cube, &of_cube.tools));
        skills.push(list(cube, &of_cube.skills));
        pref_mem.push(CubeHits { cube_id: of_cube.cube, memories: of_cube.preferences, notes: Vec::new() });
    }
    let told = SearchResult { pref_mem, ..SearchResult::default() }.pref_string();
    let mut answer = json!({
        "text_mem": text,
        "act_mem": [],
        "para_mem": [],
        "pref_mem": preferences,
        "tool_mem": tools,
        "skill_mem": skills,
        "pref_note": if told.is_some() { PREFERENCE_NOTE } else { "" },
    });
    if let Some(told) = told {
        answer["pref_string"] = json!(told);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_types_of_memories_are_understood_or_refused() {
        assert!(types_of("All").unwrap().is_empty());
        assert_eq!(types_of("UserMemory").unwrap(), [MemoryType::User]);
        assert!(!types_of("AllSummaryMemory").unwrap().contains(&MemoryType::RawFile));
        let error = types_of("Everything").unwrap_err();
        assert!(error.status == 400 && error.message.contains("LongTermMemory"), "{error}");
    }
}
