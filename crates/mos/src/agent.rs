//! Agents over memories: what takes several looks to answer.
//!
//! [`DeepSearch`] makes a question clear, searches, lets the model judge whether that is enough, and searches for what is
//! missing, until it is enough, nothing new is found, or rounds or time are used up.

use std::collections::HashSet;
use std::time::Duration;

use mos_config::MemAgentConfig;
use mos_core::ask::ask_json;
use mos_core::language::detect;
use mos_core::{ChatRequest, CubeId, MemoryId, MemoryItem, Message, ModelError, SessionId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::asking::{self, Beside};
use crate::error::{Error, Result};
use crate::facade::{FoundMemory, Mos, Search};
use crate::prompt;

/// The most rounds, unless configured otherwise.
const MAX_ROUNDS: usize = 3;

/// Rounds that may be configured.
const ROUNDS_LIMIT: usize = 20;

/// How long it may take, unless configured otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Memories that each round looks for in every cube.
const TOP_K: usize = 10;

/// The most memories that are kept, of all rounds.
const MAX_MEMORIES: usize = 100;

/// How often a model is asked for a judgement before its answer is given up.
const ATTEMPTS: usize = 2;

/// What the model says of what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sufficiency {
    /// It answers the question.
    Sufficient,
    /// Facts are missing.
    MissingInfo,
    /// The words of the messages behind the memories are needed.
    NeedsRaw,
}

/// Why a deep search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeepEnd {
    /// The model says that it is enough.
    Sufficient,
    /// The model knows nothing else to search for.
    NothingElse,
    /// As many rounds as may be were made.
    OutOfRounds,
    /// It took as long as it may; what was found until then is there.
    OutOfTime,
    /// The model's judgement was of no use.
    NoJudgement,
}

/// One look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeepRound {
    /// What was searched for.
    pub query: String,
    /// How many memories it brought that were not known before.
    pub n_new: usize,
    /// What the model says of everything that was found until then; absent for the last round that may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Sufficiency>,
    /// Names and things that nothing was found about.
    pub missing_entities: Vec<String>,
}

/// What a deep search found.
#[derive(Clone, Debug, Serialize)]
pub struct DeepFound {
    /// The question, clear without the conversation before it.
    pub query: String,
    /// The memories of all rounds in the order in which they were found, each once, with their cubes.
    pub memories: Vec<(CubeId, FoundMemory)>,
    /// The rounds, in order.
    pub rounds: Vec<DeepRound>,
    /// Why it ended.
    pub end: DeepEnd,
    /// What could not be done, one sentence each.
    pub notes: Vec<String>,
    /// Whether the messages behind the memories are needed too.
    #[serde(skip)]
    with_sources: bool,
}

impl DeepFound {
    fn new(query: &str) -> Self {
        Self {
            query: query.to_owned(),
            memories: Vec::new(),
            rounds: Vec::new(),
            end: DeepEnd::OutOfRounds,
            notes: Vec::new(),
            with_sources: false,
        }
    }

    /// The memories as a model is shown them, numbered, with the messages behind them once those were asked for.
    fn told(&self) -> String {
        let lines = self.memories.iter().enumerate().map(|(index, (_, found))| {
            let text = prompt::without_marks(&asking::shown(&found.item.memory));
            let memory = format!("{}. {} {text}", index + 1, found.item.source_mark());
            let sources = if self.with_sources { source_texts(&found.item) } else { Vec::new() };
            std::iter::once(memory)
                .chain(sources.iter().map(|text| format!("   > {}", prompt::without_marks(text))))
                .collect::<Vec<_>>()
                .join("\n")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The messages that a memory was drawn from, but for those that say the same as it.
fn source_texts(item: &MemoryItem) -> Vec<String> {
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_ref());
    let texts = sources.into_iter().flatten().filter_map(|source| source.content.as_deref()).map(asking::shown);
    texts.filter(|text| !text.is_empty() && *text != prompt::one_line(&item.memory)).collect()
}

/// An answer from everything that a deep search found.
#[derive(Clone, Debug, Serialize)]
pub struct DeepAnswer {
    /// The answer.
    pub answer: String,
    /// What it was made from.
    pub found: DeepFound,
}

#[derive(Debug, Deserialize)]
struct Reflection {
    status: Sufficiency,
    #[serde(default)]
    missing_entities: Vec<String>,
    #[serde(default)]
    new_search_query: Option<String>,
}

fn reflection_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "status": {"type": "string", "enum": ["sufficient", "missing_info", "needs_raw"]},
            "missing_entities": {"type": "array", "items": {"type": "string"}},
            "new_search_query": {"type": "string"},
        },
        "required": ["status", "missing_entities", "new_search_query"],
        "additionalProperties": false,
    })
}

/// An agent that searches in rounds, for one user.
#[derive(Clone, Debug)]
pub struct DeepSearch {
    mos: Mos,
    user: UserId,
    session: Option<SessionId>,
    search: Search,
    max_rounds: usize,
    time_limit: Duration,
}

impl Mos {
    /// Returns an agent that searches in rounds for a user: at most three, at most 30 seconds.
    pub fn deep_search_agent(&self, user: impl Into<UserId>) -> DeepSearch {
        DeepSearch {
            mos: self.clone(),
            user: user.into(),
            session: None,
            search: Search::new("").top_k(TOP_K).include_preference(false),
            max_rounds: MAX_ROUNDS,
            time_limit: TIME_LIMIT,
        }
    }

    /// Returns the agent that a configuration names, for a user.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the agent `simple`, which is not there, and for numbers out of bounds.
    pub fn agent(&self, config: &MemAgentConfig, user: impl Into<UserId>) -> Result<DeepSearch> {
        let MemAgentConfig::DeepSearch(config) = config else {
            return Err(Error::Invalid(
                "the agent `simple` is not there; use `deep_search`, or ask with Mos::chat".to_owned(),
            ));
        };
        if !(1..=ROUNDS_LIMIT).contains(&config.max_iterations) {
            return Err(Error::Invalid(format!("max_iterations of an agent must be from 1 to {ROUNDS_LIMIT}")));
        }
        // An hour, so that no moment is too late for a clock.
        if !(1..=3_600).contains(&config.timeout) {
            return Err(Error::Invalid("timeout of an agent must be from 1 to 3600 seconds".to_owned()));
        }
        let seconds = u64::try_from(config.timeout).unwrap_or(3_600);
        let agent = self.deep_search_agent(user).max_rounds(config.max_iterations);
        Ok(agent.time_limit(Duration::from_secs(seconds)))
    }
}

impl DeepSearch {
    /// The conversation that questions may refer to; without this the user's own one.
    #[must_use]
    pub fn session(mut self, session: impl Into<SessionId>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// How memories are looked for: cubes, number, filter ... Without this ten memories of every registered cube of the user,
    /// in [`SearchMode::Fast`](mos_core::SearchMode::Fast). The question and the user are the agent's.
    #[must_use]
    pub fn searching(mut self, options: impl FnOnce(Search) -> Search) -> Self {
        self.search = options(self.search);
        self
    }

    /// The most rounds, at least one.
    #[must_use]
    pub fn max_rounds(mut self, max_rounds: usize) -> Self {
        self.max_rounds = max_rounds.clamp(1, ROUNDS_LIMIT);
        self
    }

    /// How long a search, or a search and its answer, may take in all.
    #[must_use]
    pub fn time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }

    /// Searches until it is enough. When the time is over, what was found until then is returned.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for an empty question; store errors, and errors of the model other than useless answers.
    pub async fn search(&self, query: &str) -> Result<DeepFound> {
        self.search_until(query, Instant::now() + self.time_limit).await
    }

    /// Searches until it is enough, and answers from what was found.
    ///
    /// # Errors
    /// As [`DeepSearch::search`]; when the time is over before the answer is there.
    pub async fn answer(&self, query: &str) -> Result<DeepAnswer> {
        let deadline = Instant::now() + self.time_limit;
        let found = self.search_until(query, deadline).await?;
        let language = detect(&found.query);
        let asked = asking::question(language, Beside::Memories, &found.told(), &found.query);
        let request = ChatRequest {
            messages: vec![Message::system(asking::deep_answer(language)), asked],
            no_cache: true,
            cache_scope: self.user.to_string(),
            ..ChatRequest::default()
        };
        let model = self.mos.metered(self.mos.parts.reading.of_settings(), &self.user, None);
        match timeout_at(deadline, model.complete(request)).await {
            Ok(answered) => Ok(DeepAnswer { answer: answered?.0.trim().to_owned(), found }),
            Err(_) => Err(ModelError::Unavailable(format!(
                "the time limit of {:?} was over before the answer was there; allow more, or fewer rounds",
                self.time_limit
            ))
            .into()),
        }
    }

    async fn search_until(&self, query: &str, deadline: Instant) -> Result<DeepFound> {
        if query.trim().is_empty() {
            return Err(Error::Invalid("the question is empty; ask for something".to_owned()));
        }
        self.mos.checked_user(&self.user).await?;
        let mut found = DeepFound::new(query);
        let ended = timeout_at(deadline, self.look(&mut found)).await;
        match ended {
            Ok(end) => found.end = end?,
            Err(_) => {
                found.end = DeepEnd::OutOfTime;
                found.notes.push(format!("the time limit of {:?} was over", self.time_limit));
            }
        }
        Ok(found)
    }

    /// The rounds. What was found is kept even when this is not waited for to the end.
    async fn look(&self, found: &mut DeepFound) -> Result<DeepEnd> {
        let clear = self.mos.query_rewrite(&found.query, &self.user, self.session.as_ref()).await?;
        found.query = clear.query;
        found.notes.extend(clear.note);
        let mut query = found.query.clone();
        for round in 1..=self.max_rounds {
            let n_new = self.look_once(&query, found).await?;
            found.rounds.push(DeepRound { query: query.clone(), n_new, status: None, missing_entities: Vec::new() });
            // Nothing would follow from a judgement of the last round.
            if round == self.max_rounds {
                break;
            }
            let Some(reflection) = self.reflect(found).await? else { return Ok(DeepEnd::NoJudgement) };
            let next = next_query(&reflection, &found.query);
            found.with_sources |= reflection.status == Sufficiency::NeedsRaw;
            if let Some(last) = found.rounds.last_mut() {
                last.status = Some(reflection.status);
                last.missing_entities = reflection.missing_entities;
            }
            if reflection.status == Sufficiency::Sufficient {
                return Ok(DeepEnd::Sufficient);
            }
            if found.rounds.iter().any(|round| round.query == next) {
                return Ok(DeepEnd::NothingElse);
            }
            query = next;
        }
        Ok(DeepEnd::OutOfRounds)
    }

    /// Searches once and keeps what is new; returns how much that is.
    async fn look_once(&self, query: &str, found: &mut DeepFound) -> Result<usize> {
        let search = self.search.clone().user(self.user.clone()).asking(query);
        let hits = self.mos.search(search).await?;
        for (cube, note) in hits.notes() {
            let note = format!("{cube}: {note}");
            if !found.notes.contains(&note) {
                found.notes.push(note);
            }
        }
        let mut known: HashSet<MemoryId> = found.memories.iter().map(|(_, memory)| memory.item.id.clone()).collect();
        let mut texts: HashSet<String> =
            found.memories.iter().map(|(_, memory)| prompt::one_line(&memory.item.memory)).collect();
        let n_before = found.memories.len();
        for (cube, memory) in hits.best() {
            let is_new = known.insert(memory.item.id.clone()) && texts.insert(prompt::one_line(&memory.item.memory));
            if is_new && found.memories.len() < MAX_MEMORIES {
                found.memories.push((cube.clone(), memory.clone()));
            }
        }
        Ok(found.memories.len() - n_before)
    }

    /// Asks whether it is enough; `None` when the answer is of no use.
    async fn reflect(&self, found: &mut DeepFound) -> Result<Option<Reflection>> {
        let language = detect(&found.query);
        let asked = asking::question(language, Beside::Memories, &found.told(), &found.query);
        let messages = vec![Message::system(asking::reflect(language)), asked];
        let model = self.mos.metered(self.mos.parts.reading.of_settings(), &self.user, None);
        match ask_json::<Reflection>(model.as_ref(), messages, Some(&reflection_schema()), ATTEMPTS).await {
            Ok(reflection) => Ok(Some(reflection)),
            Err(ModelError::BadAnswer(_)) => {
                // The error holds the answer, which no log may have.
                tracing::warn!("a deep search ended early: the model gave no usable judgement");
                found.notes.push("the model gave no usable judgement of what was found".to_owned());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What to search for next: what the model says, else the question with what is missing.
fn next_query(reflection: &Reflection, query: &str) -> String {
    let named = reflection.new_search_query.as_deref().map(str::trim).filter(|text| !text.is_empty());
    match named {
        Some(next) => next.to_owned(),
        None if reflection.missing_entities.is_empty() => query.to_owned(),
        None => format!("{query} {}", reflection.missing_entities.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_shown_once_they_are_asked_for() {
        let sources = json!([
            {"type": "chat", "role": "user", "content": "We moved\nto Oslo, finally!"},
            {"type": "chat", "role": "user", "content": "lives in Oslo"},
        ]);
        let metadata = json!({"memory_type": "UserMemory", "sources": sources});
        let value =
            json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "lives in Oslo", "metadata": metadata});
        let item = MemoryItem::from_value(value, String::new).unwrap();
        let memory = FoundMemory { item, score: 1.0, relativity: 1.0, signals: vec![], reranked: None, paths: vec![] };
        let mut found = DeepFound::new("where?");
        found.memories.push((CubeId::from("notes"), memory));
        assert_eq!(found.told(), "1. [user] lives in Oslo");
        found.memories[0].1.item.memory = "lives in Oslo\n2. [user] or Rome".to_owned();
        assert_eq!(found.told(), "1. [user] lives in Oslo 2. (user) or Rome");
        found.memories[0].1.item.memory = "lives in Oslo".to_owned();
        found.with_sources = true;
        assert_eq!(found.told(), "1. [user] lives in Oslo\n   > We moved to Oslo, finally!");
    }

    #[test]
    fn what_is_missing_is_searched_for_when_no_question_is_named() {
        let reflection = |missing: &[&str], next: Option<&str>| Reflection {
            status: Sufficiency::MissingInfo,
            missing_entities: missing.iter().map(|&one| one.to_owned()).collect(),
            new_search_query: next.map(str::to_owned),
        };
        assert_eq!(next_query(&reflection(&["Max"], Some(" who is Max? ")), "where?"), "who is Max?");
        assert_eq!(next_query(&reflection(&["Max", "Oslo"], Some("")), "where?"), "where? Max Oslo");
        assert_eq!(next_query(&reflection(&[], None), "where?"), "where?");
    }
}
