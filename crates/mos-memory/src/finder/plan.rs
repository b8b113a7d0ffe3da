//! What is searched for.

use mos_core::text::first_chars;
use mos_core::{Found, QueryPath, SearchMode, SearchRequest};

use crate::recall::Hints;
use crate::retrieve::{Goal, Retrieval, sub_questions};

/// The most characters of a text that are searched for; encoders and models read no more of it.
const MAX_QUERY: usize = 8_000;

/// A text that is searched for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    pub(super) text: String,
    pub(super) path: QueryPath,
    pub(super) hints: Hints,
}

/// What a search does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The question, by which hits are ordered and judged.
    pub(super) question: String,
    /// At least one: the question comes first.
    pub(super) queries: Vec<Query>,
    /// Whether the internet is searched.
    pub(super) internet: bool,
}

/// Returns what a request asks for. A model is asked only where the request or the cube's configuration wants it; what it does
/// not answer is noted, and the question is searched for as it stands.
pub(super) async fn plan(retrieval: &Retrieval, request: &SearchRequest, found: &mut Found) -> Plan {
    let asked = cut(&request.query);
    if asked.len() < request.query.len() {
        found.note(format!(
            "the query has {} characters; the first {MAX_QUERY} were searched for",
            request.query.chars().count()
        ));
    }
    let goal = goal(retrieval, request, asked, found).await;
    let plain = Hints { session: request.session.clone(), ..Hints::default() };
    let hinted = Hints { keys: goal.keys, tags: goal.tags, ..plain.clone() };
    let question = cut(&goal.question).to_owned();
    let mut queries = vec![Query { text: question.clone(), path: QueryPath::Question, hints: hinted.clone() }];
    if request.mode == SearchMode::Mixture && (question != asked || hinted != plain) {
        queries.push(Query { text: asked.to_owned(), path: QueryPath::Question, hints: plain.clone() });
    }
    for statement in &goal.statements {
        add(&mut queries, statement, QueryPath::Statement, &hinted);
    }
    if request.sub_questions || retrieval.splits_questions {
        for easier in easier_questions(retrieval, &question, found).await {
            add(&mut queries, &easier, QueryPath::SubQuestion, &plain);
        }
    }
    let internet = wants_internet(retrieval, request, goal.internet, found);
    Plan { question, queries, internet }
}

fn cut(text: &str) -> &str {
    first_chars(text, MAX_QUERY)
}

/// Adds a text unless the same one is searched for already.
fn add(queries: &mut Vec<Query>, text: &str, path: QueryPath, hints: &Hints) {
    let text = cut(text.trim());
    if !text.is_empty() && queries.iter().all(|known| known.text != text) {
        queries.push(Query { text: text.to_owned(), path, hints: hints.clone() });
    }
}

async fn goal(retrieval: &Retrieval, request: &SearchRequest, asked: &str, found: &mut Found) -> Goal {
    if !request.mode.asks_a_model() {
        return Goal::fast(asked);
    }
    let Some(model) = retrieval.model.as_deref() else {
        let mode = request.mode.as_str();
        found.note(format!(
            "mode `{mode}` needs a language model, and this cube has none; it was searched in mode `fast`"
        ));
        return Goal::fast(asked);
    };
    let goal = Goal::fine(model, asked, &request.conversation).await;
    if let Some(failure) = &goal.failure {
        found.note(format!("the model gave no goal, so the question was searched for as it stands: {failure}"));
    }
    goal
}

async fn easier_questions(retrieval: &Retrieval, question: &str, found: &mut Found) -> Vec<String> {
    let Some(model) = retrieval.model.as_deref() else {
        found.note("splitting the question needs a language model, and this cube has none");
        return Vec::new();
    };
    match sub_questions(model, question).await {
        Ok(questions) => questions,
        Err(error) => {
            found.note(format!("the model did not split the question, which was searched for as a whole: {error}"));
            Vec::new()
        }
    }
}

/// Whether the internet is searched: when the request says so, or the model does; and pages may be returned, and there is a
/// retriever.
fn wants_internet(retrieval: &Retrieval, request: &SearchRequest, model_wants_it: bool, found: &mut Found) -> bool {
    let is_outer_asked = request.types.is_empty() || request.types.contains(&mos_core::MemoryType::Outer);
    if request.internet && retrieval.web.is_none() {
        found.note("the internet was not searched: neither the cube nor the settings name an internet_retriever");
    } else if request.internet && !is_outer_asked {
        found.note("the internet was not searched: its pages are of the type OuterMemory, which was not asked for");
    }
    (request.internet || model_wants_it) && is_outer_asked && retrieval.web.is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mos_testkit::chat::ScriptedChat;

    use super::*;

    fn with(model: &Arc<ScriptedChat>) -> Retrieval {
        Retrieval { model: Some(model.clone()), ..Retrieval::default() }
    }

    fn of_mode(mode: SearchMode) -> SearchRequest {
        SearchRequest { mode, session: Some("s".into()), ..SearchRequest::new("and hers?", 5) }
    }

    fn texts(plan: &Plan) -> Vec<(&str, QueryPath)> {
        plan.queries.iter().map(|query| (query.text.as_str(), query.path)).collect()
    }

    const GOAL: &str = r#"{"memories": ["Anna has a dog", "What is Anna's dog called?"], "keys": ["Pets"], "tags": ["dog"],
        "rephrased_instruction": "What is Anna's dog called?", "internet_search": true}"#;
    const SPLIT: &str = r#"{"is_complex": true, "sub_questions": ["Who is Anna?"]}"#;

    #[tokio::test]
    async fn fast_asks_no_model_and_fine_asks_it_once() {
        let model = Arc::new(ScriptedChat::new([GOAL]));
        let mut found = Found::default();
        let fast = plan(&with(&model), &of_mode(SearchMode::Fast), &mut found).await;
        assert_eq!(texts(&fast), [("and hers?", QueryPath::Question)]);
        assert_eq!(
            (fast.queries[0].hints.session.as_ref().map(|id| id.as_str()), model.requests().len()),
            (Some("s"), 0)
        );
        let fine = plan(&with(&model), &of_mode(SearchMode::Fine), &mut found).await;
        let expected = [("What is Anna's dog called?", QueryPath::Question), ("Anna has a dog", QueryPath::Statement)];
        assert_eq!(texts(&fine), expected);
        assert_eq!(
            (fine.queries[1].hints.keys.as_slice(), model.requests().len()),
            (["Pets".to_owned()].as_slice(), 1)
        );
        assert!(!fine.internet && found.notes.is_empty(), "the model may want the internet where there is none");
    }

    #[tokio::test]
    async fn mixture_searches_for_the_question_as_it_stands_too_and_parts_of_it_when_that_is_asked_for() {
        let model = Arc::new(ScriptedChat::new([GOAL, SPLIT]));
        let mut found = Found::default();
        let request = SearchRequest { sub_questions: true, ..of_mode(SearchMode::Mixture) };
        let mixed = plan(&with(&model), &request, &mut found).await;
        let expected = [
            ("What is Anna's dog called?", QueryPath::Question),
            ("and hers?", QueryPath::Question),
            ("Anna has a dog", QueryPath::Statement),
            ("Who is Anna?", QueryPath::SubQuestion),
        ];
        assert_eq!(texts(&mixed), expected);
        assert!(mixed.queries[1].hints.keys.is_empty() && mixed.queries[3].hints.keys.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_noted_and_the_question_stays() {
        let mut found = Found::default();
        let request = SearchRequest { sub_questions: true, internet: true, ..of_mode(SearchMode::Fine) };
        let alone = plan(&Retrieval::default(), &request, &mut found).await;
        assert_eq!(texts(&alone), [("and hers?", QueryPath::Question)]);
        for (note, told) in
            found.notes.iter().zip(["mode `fine` needs", "splitting the question", "internet_retriever"])
        {
            assert!(note.contains(told), "{note}");
        }
        assert_eq!(found.notes.len(), 3);
        let model = Arc::new(ScriptedChat::new(["prose", "more prose", "no JSON", "none at all"]));
        let mut found = Found::default();
        let failed = plan(&with(&model), &SearchRequest { internet: false, ..request }, &mut found).await;
        assert_eq!(texts(&failed), [("and hers?", QueryPath::Question)]);
        assert!(
            found.notes[0].contains("gave no goal") && found.notes[1].contains("did not split"),
            "{:?}",
            found.notes
        );
    }

    #[tokio::test]
    async fn a_long_question_is_cut_and_that_is_noted() {
        let mut found = Found::default();
        let request = SearchRequest::new("日".repeat(50_000), 5);
        let cut = plan(&Retrieval::default(), &request, &mut found).await;
        assert_eq!(cut.queries[0].text.chars().count(), MAX_QUERY);
        assert!(found.notes[0].contains("50000 characters"), "{:?}", found.notes);
    }
}
