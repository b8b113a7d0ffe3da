//! Raw memories that are refined, archived, and learned from.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use mos_core::memory::Trust;
use mos_core::{FileData, MemoryId, MemoryItem, Origin, RawFile, ReadInput, SearchRequest, Status, TextMemory};
use mos_memory::TreeMode;
use mos_scheduler::event::{ADD_MEMORY, ARCHIVE_MEMORY};
use mos_scheduler::handlers::mem_read::{REFINED_TO, ReadOptions};
use mos_scheduler::handlers::refining::WorkOptions;
use mos_scheduler::label::{MEM_ARCHIVE, MEM_READ, PREF_ADD};
use mos_scheduler::{ItemState, ScheduleMessage};
use mos_testkit::chat::ScriptedChat;
use serde_json::{Value, json};

use crate::support_work::{Models, World, add, list, own, texts};

fn conversation() -> Value {
    json!([
        {"role": "user", "content": "I moved to Porto and I have a dog called Rex.", "chat_time": "2 May 2026"},
        {"role": "assistant", "content": "How nice!"},
    ])
}

fn answer(texts: &[&str]) -> String {
    let memories: Vec<Value> = texts
        .iter()
        .map(|text| json!({"key": "k", "memory_type": "UserMemory", "value": text, "tags": [], "messages": [1]}))
        .collect();
    json!({"memory list": memories, "summary": "A move."}).to_string()
}

const HOME: &str = "The user moved to Porto.";
const DOG: &str = "The user has a dog called Rex.";

fn world(model: &Arc<ScriptedChat>, read: ReadOptions) -> World {
    let options = WorkOptions { read, ..WorkOptions::default() };
    World::new(options, &Models { reader: Some(Arc::clone(model)), ..Models::default() })
}

fn refined_to(raw: &MemoryItem) -> Option<&Value> {
    raw.metadata.internal_info.as_ref()?.get(REFINED_TO)
}

#[tokio::test]
async fn a_raw_memory_stays_and_says_what_was_drawn_from_it() {
    let model = Arc::new(ScriptedChat::new([answer(&[HOME, DOG])]));
    let world = world(&model, ReadOptions::default());
    let raw_ids = world.raw(conversation()).await;
    world.done(MEM_READ, list(&raw_ids)).await;
    let all = own(&world.cube).await;
    let [raw, refined @ ..] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(refined.iter().map(|item| item.memory.as_str()).collect::<Vec<_>>(), [HOME, DOG]);
    let ids: Vec<&str> = refined.iter().map(|item| item.id.as_str()).collect();
    assert_eq!((&raw.id, raw.metadata.status), (&raw_ids[0], Some(Status::Activated)));
    assert_eq!(refined_to(raw), Some(&json!(ids)));
    for item in refined {
        let sources = item.metadata.tree().unwrap().sources.as_ref().unwrap();
        assert!(sources.iter().all(|source| source.extra["node_id"] == raw.id.as_str()), "{sources:?}");
        assert_eq!(item.metadata.user_id.as_deref(), Some("ann"));
    }
    let events = world.events().await;
    assert_eq!((events.len(), events[0].label.as_str(), events[0].memory_len), (1, ADD_MEMORY, Some(2)));
    // Naming it once more asks nobody.
    world.done(MEM_READ, list(&raw_ids)).await;
    assert_eq!((model.requests().len(), own(&world.cube).await), (1, all));
}

#[tokio::test]
async fn when_the_model_is_down_the_raw_memory_stays_and_the_failure_shows() {
    let model = Arc::new(ScriptedChat::new(Vec::<String>::new()));
    let world = world(&model, ReadOptions { keep_raw: false, organize: true });
    let raw_ids = world.raw(conversation()).await;
    let before = own(&world.cube).await;
    let (id, reason) = world.given_up(MEM_READ, list(&raw_ids)).await;
    assert!(reason.contains(raw_ids[0].as_str()) && reason.contains("no more answers"), "{reason}");
    assert_eq!(own(&world.cube).await, before);
    assert!(world.events().await.is_empty() && world.work.asked.lock().unwrap().is_empty());
    model.reply(answer(&[HOME]));
    assert_eq!(world.retry(&id).await.status, ItemState::Completed);
    assert_eq!(texts(&world.cube).await[1..], [HOME]);
}

#[tokio::test]
async fn prose_refines_nothing() {
    let model = Arc::new(ScriptedChat::answering(|_| "It was a nice talk.".to_owned()));
    let world = world(&model, ReadOptions::default());
    let raw_ids = world.raw(conversation()).await;
    let before = own(&world.cube).await;
    let (_, reason) = world.given_up(MEM_READ, list(&raw_ids)).await;
    assert!(reason.contains("no usable JSON"), "{reason}");
    assert_eq!(own(&world.cube).await, before);
}

#[tokio::test]
async fn where_a_model_finds_nothing_it_is_not_asked_again() {
    let model = Arc::new(ScriptedChat::new([answer(&[])]));
    let world = world(&model, ReadOptions { keep_raw: false, organize: false });
    let raw_ids = world.raw(conversation()).await;
    world.done(MEM_READ, list(&raw_ids)).await;
    world.done(MEM_READ, list(&raw_ids)).await;
    let all = own(&world.cube).await;
    assert_eq!((all.len(), model.requests().len()), (1, 1));
    assert_eq!((all[0].metadata.status, refined_to(&all[0])), (Some(Status::Activated), Some(&json!([]))));
}

#[tokio::test]
async fn what_breaks_off_after_storing_is_stored_once() {
    let model = Arc::new(ScriptedChat::new([answer(&[HOME]), answer(&[DOG])]));
    let world = world(&model, ReadOptions::default());
    let raw_ids = world.raw(conversation()).await;
    world.work.breaks.store(true, Ordering::SeqCst);
    let (id, _) = world.given_up(MEM_READ, list(&raw_ids)).await;
    assert_eq!(texts(&world.cube).await[1..], [HOME], "it was stored before the line broke");
    assert_eq!(world.retry(&id).await.status, ItemState::Completed);
    let all = own(&world.cube).await;
    let [raw, home] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(home.memory, HOME, "what the model says the second time does not count");
    assert_eq!(refined_to(raw), Some(&json!([home.id.as_str()])));
}

#[tokio::test]
async fn a_raw_memory_may_give_way_and_stays_known() {
    let model = Arc::new(ScriptedChat::new([answer(&[HOME, DOG])]));
    let world = world(&model, ReadOptions { keep_raw: false, organize: true });
    let raw_ids = world.raw(conversation()).await;
    world.done(MEM_READ, list(&raw_ids)).await;
    let raw = world.cube.text.get(&raw_ids[0]).await.unwrap();
    assert_eq!((raw.metadata.status, raw.metadata.evolve_to.len()), (Some(Status::Archived), 2));
    assert!(world.cube.text.history(&raw_ids[0]).await.unwrap().len() >= 2, "its history is kept");
    let found = world.cube.text.search(&SearchRequest::new("Porto dog", 10)).await.unwrap();
    assert!(!found.hits.is_empty() && found.hits.iter().all(|hit| hit.item.id != raw_ids[0]));
    let asked = world.work.asked.lock().unwrap().clone();
    let wanted: Vec<_> = own(&world.cube).await[1..].iter().map(|item| item.id.clone()).collect();
    assert_eq!(asked, [Some(wanted)], "what was drawn is organised");
    let events = world.events().await;
    assert!(events.iter().any(|event| event.label == ARCHIVE_MEMORY));
}

#[tokio::test]
async fn messages_that_are_memories_of_their_own_are_read_as_one_conversation() {
    let model = Arc::new(ScriptedChat::new([answer(&[HOME])]));
    let world = world(&model, ReadOptions::default());
    let said = |number: u32, text: &str| {
        let metadata = json!({"user_id": "ann", "session_id": "s", "info": {"role": "user"}});
        let id = format!("00000000-0000-4000-8000-9{number:011}");
        MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": metadata}), String::new).unwrap()
    };
    let items = vec![said(1, "I moved to Porto."), said(2, "Rex likes it there.")];
    let ids = world.cube.text.add(items, Origin::new("ann", "add").into()).await.unwrap();
    world.done(MEM_READ, list(&ids)).await;
    let asked = model.requests();
    assert_eq!(asked.len(), 1);
    let shown = asked[0].messages.last().unwrap().text();
    assert!(shown.contains("I moved to Porto.") && shown.contains("Rex likes it there."), "{shown}");
    let all = own(&world.cube).await;
    assert_eq!(refined_to(&all[0]), Some(&json!([all[2].id.as_str()])));
    assert_eq!(refined_to(&all[1]), Some(&json!([])), "nothing was drawn from the second");
}

#[tokio::test]
async fn what_is_drawn_from_a_strangers_memory_is_trusted_no_further() {
    for (trust, expected) in [("user", Trust::User), ("external", Trust::External)] {
        let model = Arc::new(ScriptedChat::new([answer(&[HOME])]));
        let world = world(&model, ReadOptions::default());
        let metadata = json!({"user_id": "ann", "session_id": "s", "info": {"role": "user"}, "trust": trust});
        let value =
            json!({"id": "00000000-0000-4000-8000-900000000001", "memory": "I moved to Porto.", "metadata": metadata});
        let item = MemoryItem::from_value(value, String::new).unwrap();
        let ids = world.cube.text.add(vec![item], Origin::new("ann", "add").into()).await.unwrap();
        world.done(MEM_READ, list(&ids)).await;
        let all = own(&world.cube).await;
        let drawn = all.iter().find(|item| item.memory == HOME).unwrap();
        assert_eq!(drawn.metadata.trust(), expected);
    }
}

/// Where memories are, and which.
type Condemned = (Arc<dyn TextMemory>, Vec<MemoryId>);

/// Has memories deleted as soon as a model is asked.
#[derive(Clone, Default)]
struct Deletion(Arc<OnceLock<Condemned>>);

impl Deletion {
    fn run(&self) {
        let Some((text, ids)) = self.0.get() else { return };
        let deleting = text.delete(ids, Origin::new("ann", "delete"));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(deleting)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_the_model_answers_does_not_come_back_refined() {
    let deletion = Deletion::default();
    let deleting = deletion.clone();
    let model = Arc::new(ScriptedChat::answering(move |_| {
        deleting.run();
        answer(&[HOME, DOG])
    }));
    let world = world(&model, ReadOptions::default());
    let raw_ids = world.raw(conversation()).await;
    assert!(deletion.0.set((Arc::clone(&world.cube.text), raw_ids.clone())).is_ok());
    world.done(MEM_READ, list(&raw_ids)).await;
    assert_eq!(model.requests().len(), 1);
    assert_eq!((texts(&world.cube).await, world.events().await.len()), (Vec::<String>::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_on_a_message_that_is_still_there_is_kept() {
    let deletion = Deletion::default();
    let deleting = deletion.clone();
    let model = Arc::new(ScriptedChat::answering(move |_| {
        deleting.run();
        let memories = [(HOME, 1), ("Rex likes Porto.", 2)].map(|(text, number)| {
            json!({"key": "k", "memory_type": "UserMemory", "value": text, "tags": [], "messages": [number]})
        });
        json!({"memory list": memories, "summary": "A move."}).to_string()
    }));
    let world = world(&model, ReadOptions::default());
    let said = |number: u32, text: &str| {
        let metadata = json!({"user_id": "ann", "session_id": "s", "info": {"role": "user"}});
        let id = format!("00000000-0000-4000-8000-9{number:011}");
        MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": metadata}), String::new).unwrap()
    };
    let items = vec![said(1, "I moved to Porto."), said(2, "Rex likes it in Porto.")];
    let ids = world.cube.text.add(items, Origin::new("ann", "add").into()).await.unwrap();
    assert!(deletion.0.set((Arc::clone(&world.cube.text), vec![ids[0].clone()])).is_ok());
    world.done(MEM_READ, list(&ids)).await;
    assert!(!texts(&world.cube).await.iter().any(|text| text == HOME || text == "I moved to Porto."));
    let all = own(&world.cube).await;
    let left = all.iter().find(|item| item.id == ids[1]).unwrap();
    assert_eq!(refined_to(left).and_then(Value::as_array).map(Vec::len), Some(1), "{all:?}");
}

#[tokio::test]
async fn what_was_drawn_is_finished_in_a_tree_that_marks_all_as_raw() {
    let model = Arc::new(ScriptedChat::new([answer(&[HOME])]));
    let models = Models { reader: Some(model), mode: TreeMode::Async, ..Models::default() };
    let world = World::new(WorkOptions::default(), &models);
    let raw_ids = world.raw(conversation()).await;
    world.done(MEM_READ, list(&raw_ids)).await;
    let all = own(&world.cube).await;
    assert_eq!((all[0].metadata.is_fast, all[1].memory.as_str()), (Some(true), HOME));
    assert!(all[1].metadata.is_fast.is_none() && all[1].metadata.tags.iter().flatten().all(|tag| tag != "mode:fast"));
}

#[tokio::test]
async fn pieces_of_files_stay_and_what_is_drawn_names_the_file() {
    let summary =
        json!({"memory list": [{"key": "Bridge", "value": "The bridge in Porto was opened in 1886.", "tags": []}]});
    let model = Arc::new(ScriptedChat::new([summary.to_string()]));
    let world = world(&model, ReadOptions { keep_raw: false, organize: false });
    let bytes = b"The Dom Luis bridge in Porto was opened in the year 1886.".to_vec();
    let file =
        RawFile { id: Some("f1".into()), name: Some("notes.txt".into()), url: None, data: FileData::Bytes(bytes) };
    let raw_ids = world.raw_input(ReadInput::file(file)).await;
    world.done(MEM_READ, list(&raw_ids)).await;
    let all = own(&world.cube).await;
    let [raw, drawn] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((raw.metadata.status, refined_to(raw)), (Some(Status::Activated), Some(&json!([drawn.id.as_str()]))));
    let fields = drawn.metadata.tree().unwrap();
    let source = &fields.sources.as_ref().unwrap()[0];
    assert_eq!((source.doc_path.as_deref(), fields.file_ids.as_slice()), (Some("notes.txt"), &["f1".to_owned()][..]));
    assert_eq!(source.extra["node_id"], raw.id.as_str());
}

#[tokio::test]
async fn other_cubes_are_out_of_reach() {
    let model = Arc::new(ScriptedChat::answering(|_| answer(&[HOME])));
    let world = world(&model, ReadOptions::default());
    let id = add(&world.other, "bob", "Bob lives in Rome.").await;
    let before = own(&world.other).await;
    world.done(MEM_READ, list(std::slice::from_ref(&id))).await;
    world.done(MEM_ARCHIVE, list(std::slice::from_ref(&id))).await;
    assert_eq!(own(&world.other).await, before);
    assert!(own(&world.cube).await.is_empty() && model.requests().is_empty());
    let message = ScheduleMessage::new(MEM_READ, "ann", "other", list(&[id]), &*world.clock, &*world.ids);
    let item_id = message.item_id.clone();
    world.scheduler.submit_messages(vec![message]).await.unwrap();
    assert!(world.scheduler.wait_until_idle(std::time::Duration::from_secs(60)).await.unwrap());
    let status = world.scheduler.item_status(&world.other.scope(), &item_id).await.unwrap().unwrap();
    assert!(status.error.unwrap().contains("no cube `other`"));
    assert_eq!(own(&world.other).await, before);
}

#[tokio::test]
async fn without_a_model_the_reason_is_told() {
    let world = World::new(WorkOptions::default(), &Models::default());
    let raw_ids = world.raw(conversation()).await;
    let (_, reason) = world.given_up(MEM_READ, list(&raw_ids)).await;
    assert!(reason.contains("no language model"), "{reason}");
    let (_, reason) = world.given_up(MEM_READ, "not a list").await;
    assert!(reason.contains("JSON list of ids"), "{reason}");
}

#[tokio::test]
async fn archiving_keeps_history_and_tells_why() {
    let world = World::new(WorkOptions::default(), &Models::default());
    let ids = world.facts(&["Ann likes tea.", "Ann likes chess."]).await;
    let content = json!({"ids": [ids[0].as_str(), "unknown"], "reason": "no longer wanted"}).to_string();
    world.done(MEM_ARCHIVE, content.as_str()).await;
    let archived = world.cube.text.get(&ids[0]).await.unwrap();
    assert_eq!(archived.metadata.status, Some(Status::Archived));
    let history = world.cube.text.history(&ids[0]).await.unwrap();
    assert_eq!(history.last().unwrap().origin.reason, "mem_archive: no longer wanted");
    world.done(MEM_ARCHIVE, content).await;
    assert_eq!(world.cube.text.get(&ids[0]).await.unwrap(), archived, "a second time changes nothing");
    assert_eq!(world.cube.text.get(&ids[1]).await.unwrap().metadata.status, Some(Status::Activated));
    assert_eq!(world.events().await.len(), 1);
}

#[tokio::test]
async fn preferences_are_learned_once() {
    let model = Arc::new(ScriptedChat::answering(|_| {
        json!({"preferences": [{"preference": "The user prefers tea.", "topic": "drinks", "evidence": "I prefer tea",
            "messages": [1]}]})
        .to_string()
    }));
    let world = World::new(WorkOptions::default(), &Models { preferences: Some(model), ..Models::default() });
    let content = json!([[{"role": "user", "content": "I prefer tea."}]]).to_string();
    for _ in 0..2 {
        world.done(PREF_ADD, content.as_str()).await;
        let all = world.cube.preferences.as_ref().unwrap().get_all().await.unwrap();
        let all: Vec<String> = all.into_values().flatten().map(|item| item.memory).collect();
        assert_eq!(all, ["The user prefers tea."]);
    }
    assert!(world.events().await.iter().all(|event| event.label == ADD_MEMORY));
    let bare = World::new(WorkOptions::default(), &Models::default());
    let (_, reason) = bare.given_up(PREF_ADD, content).await;
    assert!(reason.contains("no preference memory"), "{reason}");
}
