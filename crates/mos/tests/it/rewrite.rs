//! Questions that refer to what was said before.

use std::sync::Arc;

use mos::{Chat, Error, Mos, RewrittenQuery, Settings};
use mos_core::SessionId;
use mos_testkit::chat::ScriptedChat;
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;
use tempfile::TempDir;

use crate::{ann, bob};

/// A facade whose model gives these answers, with users ann and bob and a cube of ann's.
pub(crate) async fn scripted_house(model: ScriptedChat, settings: Settings) -> (TempDir, Mos, Arc<ScriptedChat>) {
    let folder = tempfile::tempdir().unwrap();
    let model = Arc::new(model);
    let embedder = Arc::new(WordEmbedder::new("words", 256));
    let builder = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).chat_model(model.clone());
    let mos = builder.build().await.unwrap();
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    mos.create_cube(&ann(), mos::NewCube::new("notes")).await.unwrap();
    (folder, mos, model)
}

/// After ann has talked about Max.
async fn talked(answers: &[&str]) -> (TempDir, Mos, Arc<ScriptedChat>) {
    let mut all = vec!["Max is a fine name."];
    all.extend_from_slice(answers);
    let (folder, mos, model) = scripted_house(ScriptedChat::new(all), Settings::default()).await;
    let chat = Chat::new("My dog is called Max").user("ann");
    mos.chat(chat).await.unwrap().complete().await.unwrap();
    (folder, mos, model)
}

#[tokio::test]
async fn a_question_is_made_clear_with_what_was_said_before() {
    let answer = r#"Here: ```json {"refers_back": true, "question": "How old is Max, the dog?",}```"#;
    let (_folder, mos, model) = talked(&[answer]).await;
    let clear = mos.query_rewrite("How old is he?", &ann(), None).await.unwrap();
    let expected = RewrittenQuery { query: "How old is Max, the dog?".to_owned(), is_rewritten: true, note: None };
    assert_eq!(clear, expected);
    let asked = model.requests().remove(1);
    assert!(asked.answer_schema.is_some() && asked.no_cache);
    let shown = asked.messages[1].text();
    assert!(shown.contains("user: My dog is called Max") && shown.ends_with("How old is he?"), "{shown}");
    let usage = mos.usage(&ann()).await.unwrap();
    assert_eq!(usage.total.calls, 2, "the chat and the rewriting are counted for ann");
    assert_eq!(json!(clear), json!({"query": "How old is Max, the dog?", "is_rewritten": true}));
}

#[tokio::test]
async fn a_question_that_refers_to_nothing_stays_and_so_does_one_without_a_conversation() {
    let (_folder, mos, model) = talked(&[r#"{"refers_back": false, "question": "something else"}"#]).await;
    let kept = mos.query_rewrite("Where is Oslo?", &ann(), None).await.unwrap();
    assert_eq!((kept.query.as_str(), kept.is_rewritten, kept.note), ("Where is Oslo?", false, None));
    let other = SessionId::from("other");
    let alone = mos.query_rewrite("How old is he?", &ann(), Some(&other)).await.unwrap();
    assert_eq!(alone.query, "How old is he?");
    assert!(!mos.query_rewrite("How old is he?", &bob(), None).await.unwrap().is_rewritten);
    assert_eq!(model.requests().len(), 2, "no model is asked where nothing was said");
}

#[tokio::test]
async fn an_answer_that_is_of_no_use_is_a_note() {
    let long = format!(r#"{{"refers_back": true, "question": "{}"}}"#, "He is old. ".repeat(200));
    let (_folder, mos, model) = talked(&["I do not know.", "Still not.", &long]).await;
    let kept = mos.query_rewrite("How old is he?", &ann(), None).await.unwrap();
    assert_eq!((kept.query.as_str(), kept.is_rewritten), ("How old is he?", false));
    assert!(kept.note.unwrap().contains("no usable answer"));
    assert_eq!(model.requests().len(), 3, "asked twice");
    let essay = mos.query_rewrite("How old is he?", &ann(), None).await.unwrap();
    assert_eq!(essay.query, "How old is he?");
    assert!(essay.note.unwrap().contains("far longer"));
}

#[tokio::test]
async fn a_model_that_cannot_be_reached_is_an_error_and_so_are_strangers() {
    let (_folder, mos, _) = talked(&[]).await;
    let failed = mos.query_rewrite("How old is he?", &ann(), None).await.unwrap_err();
    assert!(matches!(failed, Error::Memory(_)), "{failed}");
    let stranger = mos.query_rewrite("How old is he?", &"nobody".into(), None).await;
    assert!(matches!(stranger, Err(Error::UnknownUser(_))));
    assert!(matches!(mos.query_rewrite(" ", &ann(), None).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn chinese_questions_are_rewritten_with_chinese_instructions() {
    let answer = r#"{"refers_back": true, "question": "小狗马克斯几岁了？"}"#;
    let (_folder, mos, model) = talked(&[answer]).await;
    let clear = mos.query_rewrite("它几岁了？", &ann(), None).await.unwrap();
    assert_eq!(clear.query, "小狗马克斯几岁了？");
    let asked = model.requests().remove(1).messages;
    assert!(asked[0].text().contains("对话") && asked[1].text().contains("问题："));
}
