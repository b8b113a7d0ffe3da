//! What a search of textual memories is asked, and what it returns.

use serde::Serialize;

use crate::error::MemoryError;
use crate::filter::Filter;
use crate::id::SessionId;
use crate::memory::{MemoryItem, MemoryType};
use crate::message::Message;

/// How much a search thinks about the question before it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// The question is searched for as it stands. No model is asked.
    #[default]
    Fast,
    /// A language model says what the question is after, which may refer to the conversation before it: the question is
    /// rephrased, and statements that may answer it are searched for too.
    Fine,
    /// Both, and what they find together.
    Mixture,
}

impl SearchMode {
    /// The words for modes, in the order of their cost.
    pub const WORDS: &'static [&'static str] = &["fast", "fine", "mixture"];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Fine => "fine",
            Self::Mixture => "mixture",
        }
    }

    /// Returns the mode of a word, `None` for other words.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "fast" => Some(Self::Fast),
            "fine" => Some(Self::Fine),
            "mixture" => Some(Self::Mixture),
            _ => None,
        }
    }

    /// Whether a language model is asked what the question is after.
    pub fn asks_a_model(self) -> bool {
        self != Self::Fast
    }
}

/// Which hits count as repetitions of better ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Duplicates {
    /// None: every hit is returned.
    Keep,
    /// Those with the same text, but for blanks and case, and facts that were drawn from messages which all stand before
    /// them, word for word.
    #[default]
    SameText,
    /// Also those whose vectors have at least this cosine similarity with one of a better hit.
    Similar(f32),
    /// Hits are chosen by relevance weighed against what better hits say already: maximal marginal relevance (Carbonell
    /// and Goldstein 1998). 1 is relevance alone, 0 novelty alone.
    MarginalRelevance(f32),
}

impl Duplicates {
    /// The words that [`Duplicates::parse`] knows.
    pub const WORDS: &'static [&'static str] = &["no", "text", "sim", "mmr"];

    /// Returns what a word means, with MemOS' numbers (similar from a cosine of 0.92, relevance weighed with 0.8); `None`
    /// for other words.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "no" => Some(Self::Keep),
            "text" => Some(Self::SameText),
            "sim" => Some(Self::Similar(0.92)),
            "mmr" => Some(Self::MarginalRelevance(0.8)),
            _ => None,
        }
    }

    /// Whether vectors are compared.
    pub fn needs_vectors(self) -> bool {
        matches!(self, Self::Similar(_) | Self::MarginalRelevance(_))
    }
}

/// How many memories of the special kinds are returned beside the `top_k` of all other kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindLimits {
    /// Descriptions of tools, and as many stories of their use.
    pub tools: usize,
    /// Procedures.
    pub skills: usize,
}

impl KindLimits {
    /// Neither tools nor skills.
    pub const NONE: Self = Self { tools: 0, skills: 0 };
}

impl Default for KindLimits {
    /// MemOS' numbers.
    fn default() -> Self {
        Self { tools: 6, skills: 3 }
    }
}

/// What to look for.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// The question, in plain words.
    pub query: String,
    /// The most hits to return.
    pub top_k: usize,
    /// Which memories to look at; memories that are not `activated` are never returned. Pages of the internet are not
    /// asked.
    pub filter: Filter,
    /// Only memories of these types; empty: of any.
    pub types: Vec<MemoryType>,
    /// The moment whose truth is asked for (ISO 8601; a day alone means its end): only memories that were true then are
    /// returned. `None` means now: what stopped being true stands behind what still is, with the signal `superseded`.
    pub as_of: Option<String>,
    /// How much is thought before.
    pub mode: SearchMode,
    /// What was said before, oldest first; a question such as "and then?" refers to it. The end of it is looked at, in
    /// modes that ask a model.
    pub conversation: Vec<Message>,
    /// Lets a model split a hard question, and searches for the easier ones too.
    pub sub_questions: bool,
    /// Lets a model judge whether the hits answer the question, and searches for what is missing, in at most three stages.
    pub deep: bool,
    /// Lets the cube's reranker order the hits, when it has one; otherwise the order of recall stays.
    pub rerank: bool,
    /// Searches the internet too, when the cube has a retriever. In modes that ask a model, the model may want it too.
    pub internet: bool,
    /// Which hits are left out as repetitions.
    pub duplicates: Duplicates,
    /// The least [`Hit::relativity`], from 0 (no limit) to 1; tools and skills need none where `kinds` limits them.
    pub relevance: f32,
    /// Limits per kind; `None` counts tools and skills as all other memories.
    pub kinds: Option<KindLimits>,
    /// Memories of this conversation come earlier; the others are found all the same.
    pub session: Option<SessionId>,
}

impl SearchRequest {
    /// Returns a request for the `top_k` best memories of now, without a filter, that asks no language model.
    pub fn new(query: impl Into<String>, top_k: usize) -> Self {
        Self {
            query: query.into(),
            top_k,
            filter: Filter::Everything,
            types: Vec::new(),
            as_of: None,
            mode: SearchMode::default(),
            conversation: Vec::new(),
            sub_questions: false,
            deep: false,
            rerank: true,
            internet: false,
            duplicates: Duplicates::default(),
            relevance: 0.0,
            kinds: None,
            session: None,
        }
    }

    /// Checks the question and the numbers.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an empty query, and for numbers that are not from 0 to 1.
    pub fn check(&self) -> Result<(), MemoryError> {
        if self.query.trim().is_empty() {
            return Err(MemoryError::Invalid("the query is empty; ask for something".to_owned()));
        }
        let numbers = match self.duplicates {
            Duplicates::Similar(least) => [("relevance", self.relevance), ("the least similarity", least)],
            Duplicates::MarginalRelevance(weight) => [("relevance", self.relevance), ("the weight of mmr", weight)],
            Duplicates::Keep | Duplicates::SameText => [("relevance", self.relevance); 2],
        };
        match numbers.into_iter().find(|(_, number)| !(0.0..=1.0).contains(number)) {
            Some((name, number)) => {
                Err(MemoryError::Invalid(format!("{name} is {number}; it must be a number from 0 to 1")))
            }
            None => Ok(()),
        }
    }
}

/// What one recall path said about a hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signal {
    /// The path: `vector`, `full_text`, `words` ...
    pub name: &'static str,
    /// Its own score, before fusion.
    pub score: f32,
}

/// Which kind of query found a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryPath {
    /// The question, as it was asked or rephrased.
    Question,
    /// A statement that may answer it.
    Statement,
    /// An easier question that it was split into.
    SubQuestion,
    /// The question, on the internet.
    Internet,
    /// A phrase for what was still missing, in a later stage of a deep search.
    Deep,
}

impl QueryPath {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Statement => "statement",
            Self::SubQuestion => "sub_question",
            Self::Internet => "internet",
            Self::Deep => "deep",
        }
    }
}

/// What a reranker said about a hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reranked {
    /// The reranker.
    pub name: String,
    /// Its score, as it gave it.
    pub score: f32,
}

/// A memory that was found, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// The memory.
    pub item: MemoryItem,
    /// The fused score of recall; the order of hits follows it unless a reranker gave another.
    pub score: f32,
    /// How well it fits, from 0 to 1; hits come in falling order of it. Without a reranker it follows from the score alone,
    /// so that hits of different questions and cubes can be compared; with one it is the reranker's score, brought to this
    /// range.
    pub relativity: f32,
    /// What each recall path said; of several queries, the one that fits best.
    pub signals: Vec<Signal>,
    /// What the reranker said, when one gave the order.
    pub reranked: Option<Reranked>,
    /// Which queries found it, each kind once.
    pub paths: Vec<QueryPath>,
}

impl Hit {
    /// Returns a hit of the question itself, without a reranker.
    pub fn new(item: MemoryItem, score: f32, relativity: f32, signals: Vec<Signal>) -> Self {
        Self { item, score, relativity, signals, reranked: None, paths: vec![QueryPath::Question] }
    }
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    /// Best first.
    pub hits: Vec<Hit>,
    /// What could not be done, and why nothing was found, one sentence each.
    pub notes: Vec<String>,
}

impl Found {
    /// Adds a sentence unless it is there already.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_ways_of_deduplication_have_their_words() {
        for word in SearchMode::WORDS {
            assert_eq!(SearchMode::parse(word).map(SearchMode::as_str), Some(*word));
        }
        assert_eq!(SearchMode::parse("FAST"), None);
        assert!(!SearchMode::Fast.asks_a_model() && SearchMode::Mixture.asks_a_model());
        assert!(Duplicates::WORDS.iter().all(|word| Duplicates::parse(word).is_some()));
        assert_eq!(Duplicates::parse("all"), None);
    }

    #[test]
    fn a_request_of_wrong_numbers_says_which() {
        let request = SearchRequest::new("tea", 3);
        request.check().unwrap();
        assert_eq!((request.mode, request.rerank, request.duplicates), (SearchMode::Fast, true, Duplicates::SameText));
        for (bad, told) in [
            (SearchRequest { relevance: f32::NAN, ..request.clone() }, "relevance is NaN"),
            (SearchRequest { relevance: -0.1, ..request.clone() }, "relevance is -0.1"),
            (SearchRequest { duplicates: Duplicates::Similar(1.5), ..request.clone() }, "similarity is 1.5"),
            (SearchRequest { duplicates: Duplicates::MarginalRelevance(-1.0), ..request.clone() }, "mmr is -1"),
            (SearchRequest { query: " \n".to_owned(), ..request.clone() }, "query is empty"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_sentence_is_noted_once() {
        let mut found = Found::default();
        found.note("nothing");
        found.note("nothing");
        assert_eq!(found.notes, ["nothing"]);
    }
}
