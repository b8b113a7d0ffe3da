//! `api_mix_search`: a thorough search is done ahead of the next question of the same words.

mod once;

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use mos_core::state::MAX_STATE_BYTES;
use mos_core::{
    Duplicates, Expected, Found, MemoryId, MemoryItem, MemoryType, Message, Scope, SearchMode, SearchRequest,
    SessionId, StateStore, StoreError, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use once::prepare_once;

use super::steps::of_batch;
use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;

/// How many memories a search asks for when its message does not say.
const DEFAULT_TOP_K: usize = 10;

/// The most memories that are prepared for one question.
const MAX_TOP_K: usize = 50;

/// How often a list of answers or questions is written again when somebody else changed it meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// Where prepared answers stand.
const ANSWERS: &str = "scheduler/mix/";

/// Keys that are listed at a time.
const PAGE: usize = 1_000;

/// How much is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixOptions {
    /// The most answers that are kept of one user in one cube; beyond it the oldest go.
    pub max_answers: usize,
    /// How long one is kept.
    pub max_age: Duration,
    /// How long the same question has no other one prepared. What was added to the cube meanwhile, searches find that do not
    /// wait for a model.
    pub fresh: Duration,
}

impl Default for MixOptions {
    fn default() -> Self {
        Self { max_answers: 20, max_age: Duration::from_secs(24 * 3_600), fresh: Duration::from_secs(600) }
    }
}

/// A memory of a prepared answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredHit {
    /// The memory as it was.
    pub item: MemoryItem,
    /// As [`Hit::score`](mos_core::Hit).
    pub score: f32,
    /// As [`Hit::relativity`](mos_core::Hit).
    pub relativity: f32,
}

/// An answer that was prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredMix {
    /// Who asked.
    pub user: UserId,
    /// What.
    pub query: String,
    /// Names the question with the wishes that it was asked with.
    #[serde(default)]
    pub asked: String,
    /// When it was prepared.
    pub at: Timestamp,
    /// The memories that fit, best first.
    pub hits: Vec<StoredHit>,
    /// What could not be done.
    pub notes: Vec<String>,
}

impl StoredMix {
    /// Whether it is older than `age` at `now`.
    pub fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        is_older(self.at, age, now)
    }
}

/// Returns the answer that was prepared for this question of a user; `None` when there is none. Memories may have changed
/// since: look at its [`at`](StoredMix::at), and at the memories.
///
/// # Errors
/// [`StoreError::Corrupt`] for a document that is no such answer; store errors.
pub async fn stored_mix(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
    query: &str,
) -> Result<Option<StoredMix>, StoreError> {
    let Some(document) = state.read(scope, &answer_key(user, query)).await? else { return Ok(None) };
    let mix: StoredMix = serde_json::from_value(document.value).map_err(|error| StoreError::Corrupt {
        what: "a prepared answer".to_owned(),
        detail: format!("{error}; it is replaced when the question is asked again"),
    })?;
    // Names are short; texts may share one.
    Ok(Some(mix).filter(|mix| mix.user == *user && mix.query == normal(query)))
}

/// Removes the prepared answers that hold one of some memories (all answers with `None`): their texts must not stay there when
/// the memories are gone.
///
/// # Errors
/// Store errors.
pub(crate) async fn forget(
    state: &dyn StateStore,
    scope: &Scope,
    ids: Option<&HashSet<&str>>,
) -> Result<(), StoreError> {
    for key in keys(state, scope, ANSWERS).await? {
        let is_meant = match ids {
            None => true,
            Some(ids) => state.read(scope, &key).await?.is_some_and(|document| holds(&document.value, ids)),
        };
        if is_meant {
            state.remove(scope, &key).await?;
        }
    }
    Ok(())
}

/// Removes the answers that were prepared for a user.
///
/// # Errors
/// Store errors.
pub(crate) async fn forget_user(state: &dyn StateStore, scope: &Scope, user: &UserId) -> Result<(), StoreError> {
    for key in keys(state, scope, &format!("{ANSWERS}{}/", user_name(user))).await? {
        state.remove(scope, &key).await?;
    }
    state.remove(scope, &sent_key(user)).await?;
    // Last, so that an answer that could not be removed is still known.
    state.remove(scope, &list_key(user)).await.map(drop)
}

/// The keys of all documents that begin with `prefix`.
async fn keys(state: &dyn StateStore, scope: &Scope, prefix: &str) -> Result<Vec<String>, StoreError> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let page = state.keys(scope, prefix, all.last().map(String::as_str), PAGE).await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

fn holds(value: &Value, ids: &HashSet<&str>) -> bool {
    let hits = value["hits"].as_array().into_iter().flatten();
    hits.filter_map(|hit| hit["item"]["id"].as_str()).any(|id| ids.contains(id))
}

/// Handles `api_mix_search` messages: the JSON of a search request.
pub(crate) async fn handle(
    context: &HandlerContext,
    messages: &[ScheduleMessage],
    options: MixOptions,
) -> Result<(), HandlerError> {
    for (index, message) in messages.iter().enumerate() {
        prepare(context, message, options).await.map_err(|error| of_batch(index, error))?;
    }
    Ok(())
}

async fn prepare(context: &HandlerContext, message: &ScheduleMessage, options: MixOptions) -> Result<(), HandlerError> {
    let request = request_of(message)?;
    if !request.conversation.is_empty() {
        // The same words mean something else in another conversation, and answers are found by the words.
        return Ok(());
    }
    let found = context.cube.text.search(&request).await?;
    let (user, query) = (&message.user_id, request.query.as_str());
    let value = written(stored(message, query, found, context.clock.now()))?;
    let (scope, key) = (context.cube.scope(), answer_key(user, query));
    // The list first: an answer that nobody knows of would stay for ever.
    note(context, &scope, user, &key, options).await?;
    context.state.write(&scope, &key, &value, Expected::Anything).await?;
    if is_any_gone(context, &value).await? {
        // Whoever removed it has looked for answers that hold it already.
        context.state.remove(&scope, &key).await?;
    }
    Ok(())
}

/// Whether a memory of an answer was removed since it was found. Pages of the web were never stored.
async fn is_any_gone(context: &HandlerContext, value: &Value) -> Result<bool, HandlerError> {
    let hits = value["hits"].as_array().into_iter().flatten().map(|hit| &hit["item"]);
    let stored = hits.filter(|item| item["metadata"]["memory_type"] != MemoryType::Outer.as_str());
    let ids: Vec<MemoryId> = stored.filter_map(|item| item["id"].as_str()).map(MemoryId::from).collect();
    let known = context.cube.text.get_by_ids(&ids).await?;
    Ok(ids.iter().any(|id| known.iter().all(|item| item.id != *id)))
}

fn stored(message: &ScheduleMessage, query: &str, found: Found, at: Timestamp) -> StoredMix {
    let hits = found.hits.into_iter().map(|mut hit| {
        // Vectors are large and can be had from the memory itself.
        hit.item.metadata.take_embedding();
        hit.item.metadata.history.clear();
        StoredHit { item: hit.item, score: hit.score, relativity: hit.relativity }
    });
    StoredMix {
        user: message.user_id.clone(),
        query: normal(query),
        asked: once::asked(&message.user_id, &message.content),
        at,
        hits: hits.collect(),
        notes: found.notes,
    }
}

/// The answer as a document; the last of its memories are left out when there is no room for them.
fn written(mut mix: StoredMix) -> Result<Value, HandlerError> {
    loop {
        let value = serde_json::to_value(&mix)
            .map_err(|error| HandlerError::give_up(format!("the answer cannot be written: {error}")))?;
        if mix.hits.is_empty() || value.to_string().len() <= MAX_STATE_BYTES {
            return Ok(value);
        }
        mix.hits.truncate(mix.hits.len() / 2);
    }
}

/// Removes the answers of a user that have no place any more beside a new one, then writes that into the list: what leaves the
/// list before it is removed would stay for ever when the process ends between both.
async fn note(
    context: &HandlerContext,
    scope: &Scope,
    user: &UserId,
    key: &str,
    options: MixOptions,
) -> Result<(), HandlerError> {
    let (list_key, now) = (list_key(user), context.clock.now());
    for _ in 0..MAX_ATTEMPTS {
        let document = context.state.read(scope, &list_key).await?;
        let mut listed = document.as_ref().map(|document| entries(&document.value)).unwrap_or_default();
        listed.retain(|(known, _)| known != key);
        listed.push((key.to_owned(), now));
        let n_surplus = listed.len().saturating_sub(options.max_answers.max(1));
        let mut surplus: Vec<String> = listed.drain(..n_surplus).map(|(key, _)| key).collect();
        listed.retain(|(known, at)| {
            let is_kept = !is_older(*at, options.max_age, now);
            if !is_kept {
                surplus.push(known.clone());
            }
            is_kept
        });
        for key in &surplus {
            context.state.remove(scope, key).await?;
        }
        let written: Vec<Value> = listed.iter().map(|(key, at)| json!({"key": key, "at": at})).collect();
        let expected = document.map_or(Expected::Absent, |document| Expected::Version(document.version));
        match context.state.write(scope, &list_key, &json!({"answers": written}), expected).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(HandlerError::retry("the list of prepared answers is changed by too many at once"))
}

fn entries(value: &Value) -> Vec<(String, Timestamp)> {
    let entry = |entry: &Value| {
        let at = entry["at"].as_str()?.parse::<Timestamp>().ok()?;
        Some((entry["key"].as_str()?.to_owned(), at))
    };
    value["answers"].as_array().into_iter().flatten().filter_map(entry).collect()
}

fn is_older(at: Timestamp, age: Duration, now: Timestamp) -> bool {
    let passed = now.as_second().saturating_sub(at.as_second());
    u64::try_from(passed).is_ok_and(|passed| passed > age.as_secs())
}

/// Reads the fields of a search request that a search in the background can heed.
fn request_of(message: &ScheduleMessage) -> Result<SearchRequest, HandlerError> {
    let refused =
        |why: String| HandlerError::GiveUp(format!("an `api_mix_search` message holds a search request; {why}"));
    let value: Value =
        serde_json::from_str(&message.content).map_err(|error| refused(format!("this one is no JSON: {error}")))?;
    let query = value["query"].as_str().filter(|query| !query.trim().is_empty());
    let query = query.ok_or_else(|| refused("this one has no `query`".to_owned()))?;
    if value["filter"].as_object().is_some_and(|filter| !filter.is_empty()) {
        return Err(refused(
            "one with a `filter` has no prepared answer: it would serve questions without it".to_owned(),
        ));
    }
    let top_k = value["top_k"].as_u64().and_then(|top_k| usize::try_from(top_k).ok()).unwrap_or(DEFAULT_TOP_K);
    let mut request = SearchRequest::new(query, top_k.clamp(1, MAX_TOP_K));
    request.mode = match value["mode"].as_str().and_then(SearchMode::parse) {
        Some(SearchMode::Mixture) => SearchMode::Mixture,
        _ => SearchMode::Fine,
    };
    let word = value["dedup"].as_str().and_then(Duplicates::parse);
    request.duplicates = word.unwrap_or_default();
    request.rerank = value["rerank"].as_bool().unwrap_or(true);
    request.internet = value["internet_search"].as_bool().unwrap_or(false);
    request.session = value["session_id"].as_str().map(SessionId::from);
    if let Some(history) = value.get("chat_history").filter(|history| history.is_array()) {
        let history: Vec<Message> = serde_json::from_value(history.clone())
            .map_err(|error| refused(format!("its `chat_history` holds no messages: {error}")))?;
        request.conversation = history;
    }
    Ok(request)
}

/// The same question in other spaces is the same question.
fn normal(query: &str) -> String {
    query.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn answer_key(user: &UserId, query: &str) -> String {
    let query = normal(query);
    let name = blake3::hash(query.as_bytes()).to_hex();
    format!("{ANSWERS}{}/{}", user_name(user), &name[..32])
}

fn list_key(user: &UserId) -> String {
    format!("scheduler/mixes/{}", user_name(user))
}

/// Where it stands what a user's questions were queued as.
fn sent_key(user: &UserId) -> String {
    format!("scheduler/mixed/{}", user_name(user))
}

/// Ids may be longer than keys.
fn user_name(user: &UserId) -> String {
    blake3::hash(user.as_str().as_bytes()).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use mos_core::{RandomIds, SystemClock};

    use super::*;

    fn read(content: &Value) -> Result<SearchRequest, HandlerError> {
        let content = content.to_string();
        request_of(&ScheduleMessage::new("api_mix_search", "ann", "cube", content, &SystemClock, &RandomIds))
    }

    #[test]
    fn requests_are_thorough_and_bounded() {
        let request = read(&json!({"query": "tea?", "mode": "fast", "top_k": 900, "dedup": "no",
            "chat_history": [{"role": "user", "content": "Hi"}]}))
        .unwrap();
        assert_eq!((request.mode, request.top_k), (SearchMode::Fine, 50));
        assert_eq!((request.duplicates, request.conversation.len()), (Duplicates::Keep, 1));
        assert_eq!(read(&json!({"query": "tea?", "mode": "mixture"})).unwrap().mode, SearchMode::Mixture);
        for bad in [
            json!({"query": " "}),
            json!([]),
            json!({"query": "x", "filter": {"a": 1}}),
            json!({"query": "x", "chat_history": [1]}),
        ] {
            assert!(matches!(read(&bad), Err(HandlerError::GiveUp(_))), "{bad}");
        }
    }

    #[test]
    fn users_and_questions_have_keys_of_their_own() {
        let key = |user: &str, query: &str| answer_key(&user.into(), query);
        assert_eq!(key("ann", " what  tea?"), key("ann", "what tea?"));
        assert_ne!(key("ann", "what tea?"), key("bob", "what tea?"));
        assert_ne!(key("ann", "what tea?"), key("ann", "which tea?"));
        assert!(key(&"x".repeat(512), &"y".repeat(10_000)).len() < mos_core::state::MAX_STATE_KEY_BYTES);
    }
}
