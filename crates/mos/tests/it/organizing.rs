//! Organising the memories of a tree through the facade: SQLite, the encoder that comes with the program, a model over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{
    Add, Error, Mos, NewCube, Organize, OrganizeModel, OrganizeOptions, OrganizeStatus, OrganizeStep, Remember, Search,
};
use mos_core::graph::kinds;
use mos_core::{CubeId, Edge, Embedder, MemoryId, MemoryItem, Message, ReadInput, Version};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::organize::{TOLD, minilm};
use crate::{ann, bob, scripted, settings_in};

const QUESTION: &str = "Where do I live?";

fn tree() -> CubeId {
    CubeId::from("tree")
}

fn words() -> Arc<dyn Embedder> {
    Arc::new(WordEmbedder::new("words", 256))
}

/// A facade with a tree of ann's; its chat model is the server, or the small one of the defaults, which judges nothing.
async fn house(server: Option<&ModelServer>, embedder: Arc<dyn Embedder>, text_mem: Value) -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = json!({});
    if let Some(server) = server {
        settings["chat_model"] = scripted(server);
    }
    let settings = settings_in(folder.path(), &settings);
    let mos = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    let config = json!({"user_id": "ann", "text_mem": {"backend": "tree_text", "config": text_mem}});
    let config = GeneralMemCubeConfig::from_json(&config).unwrap();
    mos.create_cube(&ann(), NewCube { cube_id: tree(), name: None, config: Some(config) }).await.unwrap();
    (folder, mos)
}

async fn tell(mos: &Mos, text: &str, message_id: &str, chat_time: &str) -> MemoryId {
    let message = json!([{"role": "user", "content": text, "message_id": message_id, "chat_time": chat_time}]);
    let messages: Vec<Message> = serde_json::from_value(message).unwrap();
    mos.add(Add::messages(messages).user("ann").cube(tree())).await.unwrap().remove(0)
}

/// Ann lived in Paris and has moved to Berlin.
async fn tell_of_the_move(mos: &Mos) -> (MemoryId, MemoryId) {
    let paris = tell(mos, "I live in Paris", "m1", "2024-01-01T09:00:00").await;
    let berlin = tell(mos, "I moved to Berlin", "m2", "2025-06-01T09:00:00").await;
    (paris, berlin)
}

fn organize() -> Organize {
    Organize::new().user("ann").cube(tree())
}

fn search() -> Search {
    Search::new(QUESTION).user("ann").cubes([tree()])
}

async fn get(mos: &Mos, id: &MemoryId) -> MemoryItem {
    mos.get(&ann(), Some(&tree()), id).await.unwrap()
}

async fn edges(mos: &Mos) -> Vec<Edge> {
    mos.get_all(&ann(), Some(&tree())).await.unwrap().text_mem.remove(0).graph.unwrap().edges
}

fn edge(source: &MemoryId, kind: &str, target: &MemoryId) -> Edge {
    Edge { source: source.clone(), target: target.clone(), kind: kind.to_owned() }
}

fn message_of(item: &MemoryItem) -> Option<&str> {
    item.metadata.tree()?.sources.as_ref()?.first()?.message_id.as_deref()
}

/// A server on which every pair contradicts each other.
async fn contradicting() -> ModelServer {
    let server = ModelServer::start().await;
    server.answer_with(|_| Reply::text("contradictory"));
    server
}

#[tokio::test]
async fn after_a_move_the_new_home_is_found_first_and_the_old_one_as_of_its_time() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), minilm(), json!({})).await;
    let (paris, berlin) = tell_of_the_move(&mos).await;
    let report = mos.organize(organize()).await.unwrap();
    assert_eq!((report.n_closed, report.n_model_calls, report.n_failures), (1, 1, 0), "{report:?}");

    let now = mos.search(search()).await.unwrap();
    assert_eq!(now.best()[0].1.item.id, berlin);
    let then = mos.search(search().as_of("2024-06-01")).await.unwrap();
    assert_eq!(then.best().iter().map(|(_, hit)| &hit.item.id).collect::<Vec<_>>(), [&paris]);

    let (old, new) = (get(&mos, &paris).await, get(&mos, &berlin).await);
    assert_eq!(old.metadata.extra["valid_to"], new.metadata.extra["valid_from"]);
    assert!(edges(&mos).await.contains(&edge(&berlin, kinds::SUPERSEDES, &paris)));
    let history = mos.history(&ann(), Some(&tree()), &paris).await.unwrap();
    let state = |version: Option<&Version>| version.and_then(|version| version.item.clone()).unwrap();
    let (told, closed) = (state(history.first()), state(history.last()));
    assert!(!told.metadata.extra.contains_key("valid_to") && closed.metadata.extra.contains_key("valid_to"));
    assert_eq!((message_of(&told), message_of(&closed)), (Some("m1"), Some("m1")));
    let history = mos.history(&ann(), Some(&tree()), &berlin).await.unwrap();
    assert_eq!(message_of(history[0].item.as_ref().unwrap()), Some("m2"));

    let again = mos.organize(organize()).await.unwrap();
    assert!(!again.has_changes() && again.left.is_empty(), "{again:?}");
    assert_eq!(server.requests().len(), 1);
    // Whoever finds that wrong takes it back.
    assert!(!mos.undo(&ann(), Some(&tree()), &paris).await.unwrap().metadata.extra.contains_key("valid_to"));
}

#[tokio::test]
async fn without_a_model_the_possible_conflict_is_marked_and_nothing_is_closed() {
    let (_folder, mos) = house(None, minilm(), json!({})).await;
    let (paris, berlin) = tell_of_the_move(&mos).await;
    let report = mos.organize(organize()).await.unwrap();
    assert_eq!((report.n_conflict_candidates, report.n_closed, report.n_model_calls), (1, 0, 0), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("no model was asked: `smollm2-135m-instruct`")), "{report:?}");
    assert_eq!(get(&mos, &berlin).await.metadata.extra["conflict_candidate"], json!(true));
    assert!(!get(&mos, &paris).await.metadata.extra.contains_key("valid_to"));
    assert!(edges(&mos).await.contains(&edge(&berlin, kinds::CONFLICT, &paris)));
    let again = mos.organize(organize()).await.unwrap();
    assert!(!again.has_changes() && again.left.is_empty(), "{again:?}");
}

#[tokio::test]
async fn memories_on_three_subjects_end_in_topics_and_a_second_run_changes_nothing() {
    let (_folder, mos) = house(None, minilm(), json!({})).await;
    let mut ids = Vec::new();
    for text in TOLD {
        ids.extend(mos.add(Add::text(text).user("ann").cube(tree())).await.unwrap());
    }
    let report = mos.organize(organize()).await.unwrap();
    assert_eq!((report.n_topics, report.n_failures), (3, 0), "{report:?}");
    let graph = edges(&mos).await;
    // How many memories on the dog, the kitchen and the journey each topic has.
    let mut topics: BTreeMap<&MemoryId, [usize; 3]> = BTreeMap::new();
    for member in graph.iter().filter(|edge| edge.kind == kinds::PARENT) {
        let place = ids.iter().position(|id| *id == member.target).unwrap();
        topics.entry(&member.source).or_default()[place % 3] += 1;
    }
    let subject = |counts: &[usize; 3]| (0..3).max_by_key(|subject| counts[*subject]);
    assert_eq!(topics.values().map(subject).collect::<BTreeSet<_>>().len(), 3, "{topics:?}");
    assert!(topics.values().flatten().sum::<usize>() >= 20, "{topics:?}");
    let again = mos.organize(organize()).await.unwrap();
    assert!(!again.has_changes() && again.left.is_empty(), "{again:?}");
    assert_eq!(edges(&mos).await.len(), graph.len());
}

#[tokio::test]
async fn steps_memories_budgets_and_what_is_left_are_those_that_were_asked_for() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), words(), json!({})).await;
    let (paris, berlin) = tell_of_the_move(&mos).await;
    let topics = mos.organize(organize().steps([OrganizeStep::Topics])).await.unwrap();
    let none = mos.organize(organize().ids([])).await.unwrap();
    assert!(!topics.has_changes() && !none.has_changes() && server.requests().is_empty());
    let without = mos.organize(organize().model(OrganizeModel::Without)).await.unwrap();
    assert_eq!((without.n_conflict_candidates, without.n_model_calls), (1, 0));
    let spent = OrganizeOptions { max_pairs: 0, ..OrganizeOptions::default() };
    let report = mos.organize(organize().options(spent).max_runs(100)).await.unwrap();
    assert!(!report.has_changes() && report.left.conflicts == [paris.clone(), berlin.clone()], "{report:?}");
    let rest = mos.organize(Organize::go_on(report.left).user("ann").cube(tree())).await.unwrap();
    assert_eq!((rest.n_closed, rest.left.is_empty()), (1, true), "{rest:?}");
}

#[tokio::test]
async fn two_who_organise_at_the_same_time_take_turns() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), words(), json!({})).await;
    tell_of_the_move(&mos).await;
    let (one, other) = tokio::join!(mos.organize(organize()), mos.organize(organize()));
    assert_eq!(one.unwrap().n_closed + other.unwrap().n_closed, 1);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn only_who_may_write_to_a_tree_organises_it() {
    let (_folder, mos) = house(None, words(), json!({})).await;
    let foreign = || Organize::new().user("bob").cube(tree());
    assert!(matches!(mos.organize(foreign()).await, Err(Error::NoAccess { .. })));
    assert!(matches!(mos.organize_status(&bob(), Some(&tree())).await, Err(Error::NoAccess { .. })));
    mos.share_cube_with_user(&ann(), &tree(), &bob()).await.unwrap();
    assert!(!mos.organize(foreign()).await.unwrap().has_changes());
    let naive = json!({"user_id": "ann", "text_mem": {"backend": "naive_text", "config": {}}});
    let naive = GeneralMemCubeConfig::from_json(&naive).unwrap();
    mos.create_cube(&ann(), NewCube { cube_id: "naive".into(), name: None, config: Some(naive) }).await.unwrap();
    let error = mos.organize(Organize::new().user("ann").cube("naive")).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("`naive_text`"), "{error}");
}

#[tokio::test]
async fn in_a_general_cube_contradictions_are_settled_and_nothing_else() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), words(), json!({})).await;
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
    let notes = || Organize::new().user("ann").cube("notes");
    let mut ids = Vec::new();
    for (text, day) in [("I live in Paris", "2024-01-01"), ("I moved to Berlin", "2025-06-01")] {
        let message = json!([{"role": "user", "content": text, "chat_time": day}]);
        let messages: Vec<Message> = serde_json::from_value(message).unwrap();
        ids.extend(mos.add(Add::messages(messages).user("ann").cube("notes")).await.unwrap());
    }
    let report = mos.organize(notes()).await.unwrap();
    assert_eq!((report.n_closed, report.n_failures), (1, 0), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("in `tree_text` only")), "{report:?}");
    let paris = mos.get(&ann(), Some(&"notes".into()), &ids[0]).await.unwrap();
    assert_eq!(paris.metadata.extra["valid_to"], "2025-06-01");
    let found = mos.search(Search::new(QUESTION).user("ann").cubes(["notes".into()])).await.unwrap();
    assert_eq!(found.best()[0].1.item.id, ids[1]);
    assert!(!mos.organize(notes()).await.unwrap().has_changes());
    let topics = mos.organize(notes().steps([OrganizeStep::Topics])).await.unwrap();
    assert!(!topics.has_changes() && topics.n_pairs == 0);
}

#[tokio::test]
async fn a_tree_that_says_so_is_organised_after_memories_are_added() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), words(), json!({"reorganize": true})).await;
    let status = async || mos.organize_status(&ann(), Some(&tree())).await.unwrap();
    assert_eq!(status().await, OrganizeStatus::default());
    let (paris, berlin) = tell_of_the_move(&mos).await;
    mos.wait_for_organizing().await;
    let after = status().await;
    assert!(!after.is_running && after.n_waiting == 0 && after.n_runs >= 1 && after.last_error.is_none(), "{after:?}");
    assert!(edges(&mos).await.contains(&edge(&berlin, kinds::SUPERSEDES, &paris)));
    assert!(!mos.organize(organize()).await.unwrap().has_changes(), "nothing is left to do");

    // A model that is away loses nothing: the reason is told, and the next run does it.
    server.fault(Fault::Status(500, json!({"error": {"message": "out of memory"}})));
    let oslo = tell(&mos, "I live in Oslo", "m3", "2026-01-01T09:00:00").await;
    mos.wait_for_organizing().await;
    let report = status().await.last_report.unwrap();
    assert!(report.n_failures > 0 && !report.left.is_empty(), "{report:?}");
    assert_eq!(get(&mos, &oslo).await.memory, "I live in Oslo");
    mos.organize(organize()).await.unwrap();
    assert!(edges(&mos).await.contains(&edge(&oslo, kinds::SUPERSEDES, &berlin)));
}

#[tokio::test]
async fn what_a_reader_remembers_is_organised_too_and_what_it_knows_is_not() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), words(), json!({"reorganize": true})).await;
    let message = json!([{"role": "user", "content": "I live in Paris", "chat_time": "2024-01-01T09:00:00"}]);
    let what = Remember::new(ReadInput::from_value(message)).user("ann").cube(tree());
    mos.remember(what.clone()).await.unwrap();
    mos.wait_for_organizing().await;
    let status = mos.organize_status(&ann(), Some(&tree())).await.unwrap();
    assert!(status.n_runs >= 1 && status.last_error.is_none(), "{status:?}");
    mos.remember(what).await.unwrap();
    mos.wait_for_organizing().await;
    let again = mos.organize_status(&ann(), Some(&tree())).await.unwrap();
    assert_eq!(again.n_runs, status.n_runs, "nothing new was stored");
}

#[tokio::test]
async fn the_program_switches_organising_on_and_off_whatever_the_cube_says() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), words(), json!({})).await;
    mos.mem_reorganizer_on();
    let (paris, berlin) = tell_of_the_move(&mos).await;
    mos.wait_for_organizing().await;
    assert!(edges(&mos).await.contains(&edge(&berlin, kinds::SUPERSEDES, &paris)));
    mos.mem_reorganizer_off();
    let n_asked = server.requests().len();
    tell(&mos, "I live in Oslo", "m3", "2026-01-01T09:00:00").await;
    mos.wait_for_organizing().await;
    assert_eq!(server.requests().len(), n_asked, "nobody was asked about it");
    assert_eq!(mos.organize_status(&ann(), Some(&tree())).await.unwrap().n_waiting, 0);
}

#[tokio::test]
async fn a_tree_that_does_not_say_so_is_left_alone() {
    let server = contradicting().await;
    let (_folder, mos) = house(Some(&server), words(), json!({})).await;
    tell_of_the_move(&mos).await;
    mos.wait_for_organizing().await;
    assert_eq!(mos.organize_status(&ann(), Some(&tree())).await.unwrap(), OrganizeStatus::default());
    assert!(server.requests().is_empty() && edges(&mos).await.is_empty());
}
