//! Hard questions that are answered in parts.

use mos::{Add, Chat, Error, MAX_SUB_QUESTIONS, Mos, Search, Settings};
use mos_core::{ChatRequest, CubeId, Role};
use mos_testkit::chat::ScriptedChat;
use serde_json::json;

use crate::rewrite::scripted_house;
use crate::{ann, bob};

const QUESTION: &str = "Do my dog and my sister live in the same town?";
const SPLIT: &str = r#"{"is_complex": true, "sub_questions": ["In which town does my dog live?", "In which town does my sister live?"]}"#;

/// Which of the three questions a request is.
fn kind(request: &ChatRequest) -> &'static str {
    let system = request.messages[0].text();
    if system.contains("sub_questions") {
        "split"
    } else if system.starts_with("Answer the question from the memories alone") {
        "part"
    } else {
        "answer"
    }
}

/// Splits in two, answers each part with its question, and answers the whole one.
fn thinking() -> ScriptedChat {
    ScriptedChat::answering(|request| match kind(request) {
        "split" => SPLIT.to_owned(),
        "part" if request.messages[1].text().contains("Question: In which town does my dog") => "In Bergen.".to_owned(),
        "part" => "In Oslo.".to_owned(),
        _ => "No, they do not.".to_owned(),
    })
}

async fn tell(mos: &Mos) {
    for text in ["my dog Max lives in Bergen", "my sister lives in Oslo", "the weather is cold"] {
        mos.add(Add::text(text).user("ann")).await.unwrap();
    }
}

#[tokio::test]
async fn a_hard_question_leads_to_n_plus_two_calls_and_is_answered_from_its_parts() {
    let settings = Settings { pro_mode: true, ..Settings::default() };
    let (_folder, mos, model) = scripted_house(thinking(), settings).await;
    tell(&mos).await;
    let reply = mos.chat(Chat::new(QUESTION).user("ann")).await.unwrap();
    let answers: Vec<&str> = reply.sub_answers.iter().map(|part| part.answer.as_str()).collect();
    assert_eq!((answers, reply.pro_note.is_none()), (vec!["In Bergen.", "In Oslo."], true));
    assert!(reply.sub_answers[0].memories[0].1.item.memory.contains("Bergen"));
    assert_eq!(reply.complete().await.unwrap().0, "No, they do not.");

    let asked = model.requests();
    let kinds: Vec<&str> = asked.iter().map(kind).collect();
    assert_eq!(kinds, ["split", "part", "part", "answer"]);
    assert!(asked[0].answer_schema.is_some());
    let parts: Vec<String> = asked[1..3].iter().map(|request| request.messages[1].text()).collect();
    assert!(parts.iter().any(|part| part.contains("my dog Max lives in Bergen")), "{parts:?}");
    let last = &asked[3].messages;
    let system = last[0].text();
    assert_eq!((last[0].role, last.last().unwrap().text().as_str()), (Role::System, QUESTION));
    for told in [
        "## Memories:",
        "my dog Max lives in Bergen",
        "my sister lives in Oslo",
        "In which town does my dog live?",
        "In Bergen.",
        "In Oslo.",
    ] {
        assert!(system.contains(told), "`{told}` is missing: {system}");
    }
    assert_eq!(system.matches("my sister lives in Oslo").count(), 1, "each memory once: {system}");

    let history = mos.chat_history(&ann(), None).await.unwrap();
    let said: Vec<String> = history.iter().map(mos_core::Message::text).collect();
    assert_eq!(said, [QUESTION, "No, they do not."]);
    assert_eq!(mos.usage(&ann()).await.unwrap().total.calls, 4);
}

#[tokio::test]
async fn a_simple_question_is_answered_as_usual() {
    let model = ScriptedChat::new([r#"{"is_complex": false, "sub_questions": []}"#, "Max."]);
    let (_folder, mos, model) = scripted_house(model, Settings::default()).await;
    tell(&mos).await;
    let reply = mos.chat(Chat::new("what is my dog called?").user("ann").pro(true)).await.unwrap();
    assert!(reply.sub_answers.is_empty() && reply.pro_note.is_none());
    assert_eq!(reply.complete().await.unwrap().0, "Max.");
    assert_eq!(model.requests().len(), 2);
    let system = model.requests()[1].messages[0].text();
    assert!(system.contains("Max lives in Bergen") && !system.contains("## Parts"), "{system}");
}

#[tokio::test]
async fn without_pro_mode_no_question_is_split_whatever_the_settings_say() {
    let settings = Settings { pro_mode: true, ..Settings::default() };
    let (_folder, mos, model) = scripted_house(ScriptedChat::new(["ok"]), settings).await;
    mos.chat(Chat::new(QUESTION).user("ann").pro(false)).await.unwrap().complete().await.unwrap();
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_split_is_answered_as_it_stands_with_a_note() {
    let model = ScriptedChat::new(["No JSON.", "None again.", "The answer."]);
    let (_folder, mos, model) = scripted_house(model, Settings::default()).await;
    let reply = mos.chat(Chat::new(QUESTION).user("ann").pro(true)).await.unwrap();
    let note = reply.pro_note.clone().unwrap();
    assert!(note.contains("could not be answered in parts"), "{note}");
    assert_eq!(reply.complete().await.unwrap().0, "The answer.");
    assert_eq!(model.requests().len(), 3);
}

#[tokio::test]
async fn parts_look_only_where_the_chat_does() {
    let (_folder, mos, model) = scripted_house(thinking(), Settings::default()).await;
    tell(&mos).await;
    let cube = CubeId::from("private");
    mos.create_cube(&ann(), mos::NewCube::new(cube.clone())).await.unwrap();
    mos.add(Add::text("my dog lives in a secret town").user("ann").cube(cube)).await.unwrap();
    let chat = Chat::new(QUESTION).user("ann").cubes(["notes".into()]).pro(true);
    mos.chat(chat).await.unwrap().complete().await.unwrap();
    let shown: String = model.requests().iter().flat_map(|request| &request.messages).map(|one| one.text()).collect();
    assert!(shown.contains("my dog Max lives in Bergen") && !shown.contains("secret town"), "{shown}");
    let foreign = Chat::new(QUESTION).user("bob").cubes(["notes".into()]).pro(true);
    let n_before = model.requests().len();
    assert!(matches!(mos.chat(foreign).await, Err(Error::NoAccess { .. })));
    assert_eq!(model.requests().len(), n_before, "no model is asked for somebody who may not");
}

#[tokio::test]
async fn the_steps_can_be_called_alone() {
    let (_folder, mos, model) = scripted_house(thinking(), Settings::default()).await;
    tell(&mos).await;
    let split = mos.decompose(QUESTION, &ann()).await.unwrap();
    assert_eq!(json!(split), serde_json::from_str::<serde_json::Value>(SPLIT).unwrap());
    let answers = mos.sub_answers(&split.sub_questions, Search::new(""), &ann()).await.unwrap();
    assert!(answers.iter().all(|part| !part.memories.is_empty() && part.memories.len() <= 3));
    assert_eq!(json!(answers[1]), json!({"question": split.sub_questions[1], "answer": "In Oslo."}));
    assert!(mos.sub_answers(&[], Search::new(""), &ann()).await.unwrap().is_empty());
    let many = vec!["what?".to_owned(); MAX_SUB_QUESTIONS + 1];
    assert!(matches!(mos.sub_answers(&many, Search::new(""), &ann()).await, Err(Error::Invalid(_))));
    assert_eq!(model.requests().len(), 3);
    assert!(matches!(mos.decompose(QUESTION, &"nobody".into()).await, Err(Error::UnknownUser(_))));
    let search = Search::new("").cubes(["notes".into()]);
    assert!(matches!(mos.sub_answers(&split.sub_questions, search, &bob()).await, Err(Error::NoAccess { .. })));
}
