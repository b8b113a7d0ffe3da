//! Which texts of a memory a reranking model reads.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::memory::SourceMessage;
use mos_core::text::first_chars;
use mos_core::{ModelError, Ranked, RerankCandidate, RerankQuery, Reranker};

/// The most turns of one memory that are compared with a question one by one; later ones are left out.
const MAX_TURNS: usize = 32;

/// What a memory's text is put together with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentStrategy {
    /// Nothing.
    Plain,
    /// The situation that it arose in.
    Background,
    /// Each turn of the conversation that it was drawn from, one at a time. The best turn's score is the memory's.
    SingleTurn,
    /// The contents of its sources.
    Sources(SourceChoice),
}

/// Some of the sources of a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceChoice {
    /// All of them.
    All,
    /// Those of these kinds: `file`, `doc`, `chat`, `web` ...
    Kinds(Vec<String>),
}

impl SourceChoice {
    fn takes(&self, source: &SourceMessage) -> bool {
        match self {
            Self::All => true,
            Self::Kinds(kinds) => kinds.contains(&source.kind),
        }
    }
}

impl DocumentStrategy {
    /// The names that [`DocumentStrategy::parse`] knows.
    pub const NAMES: &'static [&'static str] =
        &["single_turn", "singleturn_outmem", "singleturn_outputmem", "concat_background", "concat_docsource"];

    /// Returns the strategy of this name, `None` for an unknown one. MemOS' two ways of single turns differ in what
    /// they make of the text that is returned; here a search returns memories as they are, so that both are one.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "single_turn" | "singleturn_outmem" | "singleturn_outputmem" => Some(Self::SingleTurn),
            "concat_background" => Some(Self::Background),
            "concat_docsource" => Some(Self::Sources(SourceChoice::Kinds(["file", "doc"].map(str::to_owned).to_vec()))),
            _ => None,
        }
    }

    /// Returns the strategy of MemOS' `rerank_source`: `background`, `sources` for all of them, or kinds of sources,
    /// separated by commas.
    pub fn of_sources(words: &str) -> Self {
        let words: Vec<String> =
            words.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Self::Plain,
            [word] if word == "background" => Self::Background,
            words if words.iter().any(|word| word == "sources") => Self::Sources(SourceChoice::All),
            words => Self::Sources(SourceChoice::Kinds(words.to_vec())),
        }
    }

    /// Returns the texts to compare with the question: at least one. What is joined to the memory's text has at most
    /// `max_context_chars` characters.
    pub fn documents(&self, candidate: &RerankCandidate<'_>, max_context_chars: usize) -> Vec<String> {
        let joined = |context: &str| {
            let context = first_chars(context.trim(), max_context_chars).trim();
            if context.is_empty() { candidate.text.to_owned() } else { format!("{}\n\n{context}", candidate.text) }
        };
        match self {
            Self::Plain => vec![candidate.text.to_owned()],
            Self::Background => vec![joined(candidate.background)],
            Self::SingleTurn => {
                let turns = turns(candidate.sources);
                if turns.is_empty() { vec![joined("")] } else { turns.iter().map(|turn| joined(turn)).collect() }
            }
            Self::Sources(choice) => {
                let contents: Vec<&str> = candidate
                    .sources
                    .iter()
                    .filter(|source| choice.takes(source))
                    .filter_map(|source| source.content.as_deref())
                    .filter(|content| !content.trim().is_empty())
                    .collect();
                vec![joined(&contents.join("\n"))]
            }
        }
    }
}

/// Cuts a conversation into turns, each beginning with what the user says; the time of a turn stands before it.
fn turns(sources: &[SourceMessage]) -> Vec<String> {
    let mut turns: Vec<String> = Vec::new();
    for message in sources {
        let content = message.content.as_deref().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let role = message.role.as_deref().unwrap_or("user");
        if turns.is_empty() || role == "user" {
            let time = message.chat_time.as_deref().unwrap_or_default().trim();
            turns.push(if time.is_empty() { String::new() } else { format!("[{time}]\n") });
        }
        if let Some(turn) = turns.last_mut() {
            turn.push_str(&format!("{role}: {content}\n"));
        }
    }
    turns.truncate(MAX_TURNS);
    turns
}

/// Gives another reranker the texts of a strategy, and each memory the score of its best text.
#[derive(Debug)]
pub struct StrategyReranker {
    inner: Arc<dyn Reranker>,
    strategy: DocumentStrategy,
    max_context_chars: usize,
}

impl StrategyReranker {
    /// Wraps a reranker; what is joined to a memory's text has at most `max_context_chars` characters.
    pub fn new(inner: Arc<dyn Reranker>, strategy: DocumentStrategy, max_context_chars: usize) -> Self {
        Self { inner, strategy, max_context_chars }
    }
}

#[async_trait]
impl Reranker for StrategyReranker {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        if candidates.is_empty() || top_k == 0 {
            return Ok(Vec::new());
        }
        let documents: Vec<(usize, String)> = candidates
            .iter()
            .enumerate()
            .flat_map(|(owner, candidate)| {
                let documents = self.strategy.documents(candidate, self.max_context_chars);
                documents.into_iter().map(move |document| (owner, document))
            })
            .collect();
        // Embeddings are those of the memory, not of what is put together.
        let expanded: Vec<RerankCandidate<'_>> = documents
            .iter()
            .map(|(owner, document)| RerankCandidate { text: document, embedding: None, ..candidates[*owner] })
            .collect();
        let mut best: Vec<Option<f32>> = vec![None; candidates.len()];
        for one in self.inner.rerank(query, &expanded, expanded.len()).await? {
            if let Some(score) = documents.get(one.index).and_then(|(owner, _)| best.get_mut(*owner)) {
                *score = Some(score.map_or(one.score, |known| known.max(one.score)));
            }
        }
        let ranked = best.into_iter().enumerate();
        let ranked = ranked.filter_map(|(index, score)| score.map(|score| Ranked { index, score }));
        Ok(Ranked::best_first(ranked.collect(), top_k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: &str, content: &str, time: Option<&str>) -> SourceMessage {
        SourceMessage {
            kind: "chat".to_owned(),
            role: Some(role.to_owned()),
            content: Some(content.to_owned()),
            chat_time: time.map(str::to_owned),
            ..SourceMessage::default()
        }
    }

    #[test]
    fn turns_begin_with_the_user_and_bring_their_time() {
        let sources = [
            said("assistant", "Welcome.", None),
            said("user", "I moved to Berlin.", Some("2024-05-01")),
            said("assistant", "How nice!", None),
            said("assistant", "  ", None),
            said("user", "And I got a dog.", None),
        ];
        let expected = [
            "assistant: Welcome.\n",
            "[2024-05-01]\nuser: I moved to Berlin.\nassistant: How nice!\n",
            "user: And I got a dog.\n",
        ];
        assert_eq!(turns(&sources), expected);
        let many: Vec<SourceMessage> = (0..100).map(|number| said("user", &number.to_string(), None)).collect();
        assert_eq!(turns(&many).len(), MAX_TURNS);
    }

    #[test]
    fn each_strategy_reads_its_texts() {
        let mut file = said("user", "A page.", None);
        file.kind = "file".to_owned();
        let sources = [said("user", "Hello", None), said("assistant", "Hi", None), file];
        let candidate =
            RerankCandidate { background: "A walk in the park", sources: &sources, ..RerankCandidate::new("M") };
        let documents = |name: &str, max| DocumentStrategy::parse(name).unwrap().documents(&candidate, max);
        assert_eq!(documents("concat_background", 100), ["M\n\nA walk in the park"]);
        assert_eq!(documents("concat_background", 6), ["M\n\nA walk"]);
        assert_eq!(documents("concat_docsource", 100), ["M\n\nA page."]);
        let turns = ["M\n\nuser: Hello\nassistant: Hi", "M\n\nuser: A page."];
        assert_eq!(documents("single_turn", 100), turns);
        assert_eq!(DocumentStrategy::Plain.documents(&candidate, 100), ["M"]);
        let bare = RerankCandidate::new("M");
        for name in DocumentStrategy::NAMES {
            assert_eq!(DocumentStrategy::parse(name).unwrap().documents(&bare, 100), ["M"], "{name}");
        }
        assert_eq!(DocumentStrategy::parse("other"), None);
    }

    #[test]
    fn sources_are_named_by_kind() {
        let kinds = |kinds: &[&str]| {
            DocumentStrategy::Sources(SourceChoice::Kinds(kinds.iter().map(|&kind| kind.to_owned()).collect()))
        };
        assert_eq!(DocumentStrategy::of_sources(" "), DocumentStrategy::Plain);
        assert_eq!(DocumentStrategy::of_sources("background"), DocumentStrategy::Background);
        assert_eq!(DocumentStrategy::of_sources("sources"), DocumentStrategy::Sources(SourceChoice::All));
        assert_eq!(DocumentStrategy::of_sources("file, web"), kinds(&["file", "web"]));
    }
}
