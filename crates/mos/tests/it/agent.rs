//! An agent that searches in rounds.

use std::time::Duration;

use async_trait::async_trait;
use mos::agent::{DeepEnd, Sufficiency};
use mos::config::{MemAgentConfig, Setting};
use mos::{Add, Chat, Error, Mos, Settings};
use mos_core::{ChatModel, ChatRequest, ChatStream, ModelError};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};

use crate::rewrite::scripted_house;
use crate::{ann, bob};

fn judgement(status: &str, missing: &[&str], next: &str) -> String {
    json!({"status": status, "missing_entities": missing, "new_search_query": next}).to_string()
}

async fn tell(mos: &Mos) {
    for text in ["my dog Max lives with my sister", "my sister moved to Oslo in May", "the weather is cold today"] {
        mos.add(Add::text(text).user("ann")).await.unwrap();
    }
}

#[tokio::test]
async fn it_searches_for_what_is_missing_until_it_is_enough() {
    let answers = [
        judgement("missing_info", &["sister"], "sister moved"),
        judgement("sufficient", &[], ""),
        "In Oslo.".to_owned(),
    ];
    let (_folder, mos, model) = scripted_house(ScriptedChat::new(answers), Settings::default()).await;
    tell(&mos).await;
    let agent = mos.deep_search_agent("ann").searching(|search| search.top_k(1));
    let deep = agent.answer("Where does my dog Max live?").await.unwrap();
    assert_eq!((deep.answer.as_str(), deep.found.end), ("In Oslo.", DeepEnd::Sufficient));
    let texts: Vec<&str> = deep.found.memories.iter().map(|(_, found)| found.item.memory.as_str()).collect();
    assert_eq!(texts, ["my dog Max lives with my sister", "my sister moved to Oslo in May"]);
    let rounds: Vec<(&str, usize, Option<Sufficiency>)> =
        deep.found.rounds.iter().map(|round| (round.query.as_str(), round.n_new, round.status)).collect();
    let expected = [
        ("Where does my dog Max live?", 1, Some(Sufficiency::MissingInfo)),
        ("sister moved", 1, Some(Sufficiency::Sufficient)),
    ];
    assert_eq!(rounds, expected);
    let asked = model.requests();
    assert_eq!(asked.len(), 3, "nothing was said before, so the question needs no rewriting");
    assert!(asked[0].messages[1].text().contains("1. [user] my dog Max lives with my sister"));
    assert!(asked[2].messages[1].text().contains("2. [user] my sister moved to Oslo in May"));
    assert_eq!(mos.usage(&ann()).await.unwrap().total.calls, 3);
    assert_eq!(json!(deep)["found"]["end"], "sufficient");
}

#[tokio::test]
async fn rounds_are_bounded_and_nothing_is_found_twice() {
    let model = ScriptedChat::answering(|request| {
        let n_characters = request.messages[1].text().len();
        judgement("missing_info", &["town"], &format!("another question {n_characters}"))
    });
    let (_folder, mos, model) = scripted_house(model, Settings::default()).await;
    tell(&mos).await;
    mos.add(Add::text("my dog Max lives with my sister").user("ann")).await.unwrap();
    let config = json!({"backend": "deep_search", "config": {"agent_name": "finder", "max_iterations": 2}});
    let agent = mos.agent(&MemAgentConfig::from_json(&config).unwrap(), "ann").unwrap();
    let found = agent.search("Where does my dog live?").await.unwrap();
    assert_eq!((found.rounds.len(), found.end, model.requests().len()), (2, DeepEnd::OutOfRounds, 1));
    let mut texts: Vec<&str> = found.memories.iter().map(|(_, found)| found.item.memory.as_str()).collect();
    texts.sort_unstable();
    let n_texts = texts.len();
    texts.dedup();
    assert_eq!(texts.len(), n_texts, "each memory once: {texts:?}");
}

#[tokio::test]
async fn it_ends_when_the_model_knows_nothing_else_or_answers_nonsense() {
    let answers = [judgement("missing_info", &[], ""), "no".to_owned(), "no".to_owned()];
    let (_folder, mos, _) = scripted_house(ScriptedChat::new(answers), Settings::default()).await;
    tell(&mos).await;
    let agent = mos.deep_search_agent("ann");
    let found = agent.search("Where does my dog live?").await.unwrap();
    assert_eq!((found.end, found.rounds.len()), (DeepEnd::NothingElse, 1));
    let found = agent.search("Where does my dog live?").await.unwrap();
    assert_eq!(found.end, DeepEnd::NoJudgement);
    assert!(found.notes.iter().any(|note| note.contains("no usable judgement")) && !found.memories.is_empty());
    assert!(agent.search("Where does my dog live?").await.is_err(), "the model is away");
}

#[tokio::test]
async fn a_question_that_refers_to_the_conversation_is_made_clear_first() {
    let answers = [
        "A fine dog.".to_owned(),
        json!({"refers_back": true, "question": "Where does Max the dog live?"}).to_string(),
        judgement("sufficient", &[], ""),
    ];
    let (_folder, mos, _) = scripted_house(ScriptedChat::new(answers), Settings::default()).await;
    tell(&mos).await;
    mos.chat(Chat::new("My dog is called Max").user("ann")).await.unwrap().complete().await.unwrap();
    let found = mos.deep_search_agent("ann").search("Where does he live?").await.unwrap();
    assert_eq!(found.rounds[0].query, "Where does Max the dog live?");
}

/// A model that never answers.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl ChatModel for Silent {
    fn name(&self) -> &str {
        "silent"
    }

    fn is_local(&self) -> bool {
        false
    }

    fn context_length(&self) -> Option<usize> {
        None
    }

    async fn stream(&self, _request: ChatRequest) -> Result<ChatStream, ModelError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn when_the_time_is_over_what_was_found_is_returned() {
    let folder = tempfile::tempdir().unwrap();
    let embedder = std::sync::Arc::new(WordEmbedder::new("words", 64));
    let builder = Mos::builder(Settings::default()).data_dir(folder.path()).embedder(embedder);
    let mos = builder.chat_model(std::sync::Arc::new(Silent)).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), mos::NewCube::new("notes")).await.unwrap();
    tell(&mos).await;
    let agent = mos.deep_search_agent("ann").time_limit(Duration::from_millis(500));
    let found = agent.search("Where does my dog live?").await.unwrap();
    assert_eq!((found.end, found.rounds.len()), (DeepEnd::OutOfTime, 1));
    assert!(!found.memories.is_empty() && found.notes.iter().any(|note| note.contains("time limit")));
    assert!(agent.answer("Where does my dog live?").await.unwrap_err().to_string().contains("time limit"));
}

#[tokio::test]
async fn it_refuses_what_it_cannot_do() {
    let (_folder, mos, model) = scripted_house(ScriptedChat::new(Vec::<String>::new()), Settings::default()).await;
    let agent = |value: Value| mos.agent(&MemAgentConfig::from_json(&value).unwrap(), "ann");
    let simple = agent(json!({"backend": "simple", "config": {"agent_name": "a"}})).unwrap_err();
    assert!(simple.to_string().contains("deep_search"), "{simple}");
    for (key, value) in [("max_iterations", 0), ("max_iterations", 99), ("timeout", 0), ("timeout", 10_000)] {
        let mut config = json!({"backend": "deep_search", "config": {"agent_name": "a"}});
        config["config"][key] = json!(value);
        assert!(agent(config).unwrap_err().to_string().contains(key));
    }
    assert!(matches!(mos.deep_search_agent("ann").search(" ").await, Err(Error::Invalid(_))));
    assert!(matches!(mos.deep_search_agent("nobody").search("x").await, Err(Error::UnknownUser(_))));
    let foreign = mos.deep_search_agent(bob()).searching(|search| search.cubes(["notes".into()]));
    assert!(matches!(foreign.search("x").await, Err(Error::NoAccess { .. })));
    assert!(model.requests().is_empty());
}
