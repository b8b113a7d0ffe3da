//! Working memory follows what a user asks.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{CubeId, MemoryItem, UserId};
use mos_memory::TreeOptions;
use mos_scheduler::event::{ADD_MEMORY, ADD_MESSAGE, UPDATE_MEMORY};
use mos_scheduler::monitor::{MonitorKind, monitors, query_monitor};
use mos_scheduler::{
    Event, ItemState, ScheduleMessage, Scheduler, SchedulerCube, SchedulerOptions, SchedulerParts, Trigger, Turn,
    TurnMemory, TurnOptions, TurnParts, label, register_turn, turn, working_memory,
};
use mos_testkit::chat::ScriptedChat;
use serde_json::json;

use crate::turn_support::{CUBE, House, OneCube, asked_for, fact, origin, puppy, scope, shown_memories};

async fn ask(house: &House, cube: &SchedulerCube, messages: &[ScheduleMessage]) -> Turn {
    ask_with(house, cube, messages, &TurnOptions::default()).await
}

async fn ask_with(house: &House, cube: &SchedulerCube, messages: &[ScheduleMessage], options: &TurnOptions) -> Turn {
    turn(TurnParts { cube, state: &*house.states, clock: &*house.clock, options }, messages).await.unwrap()
}

fn texts(memories: &[TurnMemory]) -> Vec<&str> {
    memories.iter().map(|memory| memory.text.as_str()).collect()
}

fn memories(items: &[MemoryItem]) -> Vec<&str> {
    items.iter().map(|item| item.memory.as_str()).collect()
}

async fn working(house: &House, cube: &SchedulerCube, user: &str) -> Vec<String> {
    let items = working_memory(&*house.states, cube, &UserId::from(user)).await.unwrap();
    items.into_iter().map(|item| item.memory).collect()
}

#[tokio::test]
async fn without_a_model_the_question_is_searched_for_and_the_best_memory_leads() {
    let house = House::new();
    let tree = house.tree(TreeOptions::default());
    tree.add(puppy(), origin().into()).await.unwrap();
    house.clock.advance(Duration::from_secs(1));
    let cube = house.cube("ann", tree, None);
    let question = house.question("ann", "Which salmon treats does Max love?");
    let turn = ask(&house, &cube, &[question]).await;
    assert_eq!(turn.trigger, Trigger::NoModel, "the tree shows what was added");
    assert_eq!(turn.evidences, ["Which salmon treats does Max love?"]);
    assert_eq!(turn.keywords, ["salmon", "treats", "max", "love"]);
    assert_eq!(texts(&turn.after)[0], "Max loves salmon treats");
    assert!(!turn.is_reranked && turn.notes.is_empty());
    let tree = cube.text.as_tree().unwrap();
    assert_eq!(memories(&tree.working_memory().await.unwrap())[0], "Max loves salmon treats");
    assert_eq!(working(&house, &cube, "ann").await[..turn.after.len()], texts(&turn.after));
    house.clock.advance(Duration::from_secs(1));
    let next = ask(&house, &cube, &[house.question("ann", "Where in Oslo does Ann live?")]).await;
    assert_eq!(next.before[0], turn.after[0]);
    assert_eq!(texts(&next.after)[0], "Ann lives in Oslo at Karl Johans gate");
}

#[tokio::test]
async fn the_working_memory_of_a_plain_cube_is_the_list_that_is_kept() {
    let house = House::new();
    let general = house.general();
    general.add(puppy(), origin().into()).await.unwrap();
    let cube = house.cube("ann", general, None);
    assert!(working(&house, &cube, "ann").await.is_empty());
    let turn = ask(&house, &cube, &[house.question("ann", "Does Max have an allergy to peanuts?")]).await;
    assert_eq!((turn.trigger, turn.before.len()), (Trigger::NothingKnown, 0));
    assert_eq!(texts(&turn.after)[0], "Max has an allergy to peanuts");
    // Another process opens the same cube.
    let again = house.cube("ann", house.general(), None);
    assert_eq!(working(&house, &again, "ann").await, texts(&turn.after));
    let asked = query_monitor(&*house.states, &scope(), &"ann".into()).await.unwrap();
    assert_eq!(asked.queries(), ["Does Max have an allergy to peanuts?"]);
}

/// A model that finds the working memory enough, or names what is missing, puts memories with `first` in front and holds
/// those with `unrelated` for unrelated.
fn model(missing: Option<&'static str>, first: &'static str, unrelated: &'static str) -> Arc<ScriptedChat> {
    Arc::new(ScriptedChat::answering(move |request| {
        let numbers = |word: &str| -> Vec<usize> {
            let shown = shown_memories(request);
            (1..=shown.len()).filter(|number| !word.is_empty() && shown[number - 1].contains(word)).collect()
        };
        match asked_for(request).as_str() {
            "keywords" => json!({"keywords": ["Max", "treats", "max"]}),
            "trigger_retrieval" => {
                json!({"trigger_retrieval": missing.is_some(), "missing_evidences": missing.into_iter().collect::<Vec<_>>()})
            }
            "new_order" => json!({"new_order": numbers(first)}),
            "unrelated" => json!({"unrelated": numbers(unrelated)}),
            other => panic!("{other}"),
        }
        .to_string()
    }))
}

#[tokio::test]
async fn a_model_names_what_is_missing_orders_and_sorts_out() {
    let house = House::new();
    let general = house.general();
    general.add(puppy(), origin().into()).await.unwrap();
    let chat = model(Some("allergy to peanuts"), "allergy", "train");
    let cube = house.cube("ann", general, Some(chat.clone()));
    let first = ask(&house, &cube, &[house.question("ann", "Tell me of Max and the train to Bergen")]).await;
    assert_eq!((first.trigger, first.is_reranked), (Trigger::NothingKnown, true));
    assert_eq!(first.keywords, ["Max", "treats"]);
    assert!(!texts(&first.after).iter().any(|text| text.contains("train")), "{first:?}");
    assert_eq!(chat.requests().iter().map(asked_for).collect::<Vec<_>>(), ["keywords", "new_order", "unrelated"]);
    let next = ask(&house, &cube, &[house.question("ann", "May he eat them?")]).await;
    assert_eq!(
        (next.trigger, next.evidences.as_slice()),
        (Trigger::Missing, ["allergy to peanuts".to_owned()].as_slice())
    );
    assert_eq!(texts(&next.after)[0], "Max has an allergy to peanuts");
    assert!(next.notes.is_empty(), "{:?}", next.notes);
}

#[tokio::test]
async fn what_is_enough_is_not_searched_for_again_unless_that_was_long_ago() {
    let house = House::new();
    let general = house.general();
    general.add(puppy(), origin().into()).await.unwrap();
    let cube = house.cube("ann", general, Some(model(None, "", "")));
    let first = ask(&house, &cube, &[house.question("ann", "What does Max love?")]).await;
    let enough = ask(&house, &cube, &[house.question("ann", "And what else does Max love?")]).await;
    assert_eq!((enough.trigger, enough.retrieved.len(), enough.evidences.len()), (Trigger::NotNeeded, 0, 0));
    assert_eq!(enough.after, first.after);
    let options = TurnOptions { retrieve_after: Some(Duration::from_secs(10)), ..TurnOptions::default() };
    let early = ask_with(&house, &cube, &[house.question("ann", "What now?")], &options).await;
    assert_eq!(early.trigger, Trigger::NotNeeded);
    house.clock.advance(Duration::from_secs(10));
    let late = ask_with(&house, &cube, &[house.question("ann", "Where does Ann live?")], &options).await;
    assert_eq!(late.trigger, Trigger::Overdue);
    assert!(texts(&late.retrieved).contains(&"Ann lives in Oslo at Karl Johans gate"), "{late:?}");
    let after = ask_with(&house, &cube, &[house.question("ann", "And now?")], &options).await;
    assert_eq!(after.trigger, Trigger::NotNeeded, "the time counts from the last retrieval");
}

#[tokio::test]
async fn a_model_that_fails_is_a_note_and_the_turn_goes_on() {
    for chat in [ScriptedChat::new(Vec::<String>::new()), ScriptedChat::answering(|_| "I would rather not.".to_owned())]
    {
        let house = House::new();
        let tree = house.tree(TreeOptions::default());
        tree.add(puppy(), origin().into()).await.unwrap();
        let chat = Arc::new(chat);
        let cube = house.cube("ann", tree, Some(chat.clone()));
        let turn = ask(&house, &cube, &[house.question("ann", "Which salmon treats does Max love?")]).await;
        assert_eq!((turn.trigger, turn.is_reranked), (Trigger::ModelFailed, false));
        assert_eq!(texts(&turn.after)[0], "Max loves salmon treats");
        assert!(!turn.notes.is_empty() && turn.keywords.contains(&"salmon".to_owned()), "{turn:?}");
        let is_away = turn.notes.len() == 1;
        assert_eq!(chat.requests().len(), if is_away { 1 } else { 8 }, "a model that does not answer is asked once");
    }
}

#[tokio::test]
async fn a_message_counts_once_however_often_it_is_handled() {
    let house = House::new();
    let general = house.general();
    general.add(puppy(), origin().into()).await.unwrap();
    let cube = house.cube("ann", general, None);
    let (one, two) = (house.question("ann", "What does Max love?"), house.question("ann", "What is Max allergic to?"));
    ask(&house, &cube, std::slice::from_ref(&one)).await;
    let user = UserId::from("ann");
    let before = monitors(&*house.states, &scope(), &user, MonitorKind::Working).await.unwrap();
    let again = ask(&house, &cube, std::slice::from_ref(&one)).await;
    assert_eq!((again.trigger, again.retrieved.len()), (Trigger::NoQuestion, 0));
    assert_eq!(monitors(&*house.states, &scope(), &user, MonitorKind::Working).await.unwrap(), before);
    let both = ask(&house, &cube, &[one, two]).await;
    assert_eq!(both.queries, ["What is Max allergic to?"]);
    assert_eq!(query_monitor(&*house.states, &scope(), &user).await.unwrap().queries().len(), 2);
    let blank = ask(&house, &cube, &[house.question("ann", "  \n")]).await;
    assert_eq!(blank.trigger, Trigger::NoQuestion);
}

#[tokio::test]
async fn what_one_user_asks_moves_nothing_for_the_others_of_a_shared_cube() {
    for is_tree in [true, false] {
        let house = House::new();
        let text = if is_tree { house.tree(TreeOptions::default()) } else { house.general() };
        text.add(puppy(), origin().into()).await.unwrap();
        let (ann, bob) = (house.cube("ann", text.clone(), None), house.cube("bob", text, None));
        let asked = ask(&house, &ann, &[house.question("ann", "Which salmon treats does Max love?")]).await;
        assert!(working(&house, &bob, "bob").await.is_empty(), "these memories are Ann's");
        let turn = ask(&house, &bob, &[house.question("bob", "When does the train to Bergen leave?")]).await;
        assert_eq!((turn.trigger, turn.before.len()), (Trigger::NothingKnown, 0));
        assert_eq!(turn.keywords, ["train", "bergen", "leave"]);
        assert_eq!(texts(&turn.after)[0], "the train to Bergen leaves at noon");
        assert_eq!(working(&house, &ann, "ann").await[0], asked.after[0].text);
    }
}

#[tokio::test]
async fn what_was_removed_or_rewritten_leaves_working_memory_or_says_the_new_thing() {
    let house = House::new();
    let general = house.general();
    general.add(puppy(), origin().into()).await.unwrap();
    let cube = house.cube("ann", general.clone(), None);
    let options = TurnOptions { top_k: 6, ..TurnOptions::default() };
    let first = ask_with(&house, &cube, &[house.question("ann", "What is known of Max and Ann?")], &options).await;
    assert!(first.after.len() >= 3, "{first:?}");
    let (gone, changed) = (first.after[0].id.clone(), first.after[1].id.clone());
    general.delete(std::slice::from_ref(&gone), origin()).await.unwrap();
    let mut rewritten = general.get(&changed).await.unwrap();
    rewritten.memory = "a wholly different story".to_owned();
    general.update(&changed, rewritten, origin()).await.unwrap();
    let now = working(&house, &cube, "ann").await;
    assert_eq!((now.len(), now[0].as_str()), (first.after.len() - 1, "a wholly different story"));
    let next = ask_with(&house, &cube, &[house.question("ann", "What is known of Max?")], &options).await;
    assert!(next.after.iter().all(|memory| memory.id != gone));
    assert!(general.get(&gone).await.is_err(), "it was not stored again");
}

fn scheduler(house: &House, cube: SchedulerCube, options: TurnOptions) -> Scheduler {
    let scheduler = Scheduler::new(SchedulerParts {
        queue: house.store.clone(),
        state: house.states.clone(),
        cubes: Arc::new(OneCube(cube)),
        clock: house.clock.clone(),
        ids: Arc::new(mos_core::RandomIds),
        sinks: Vec::new(),
        options: SchedulerOptions { is_durable: false, ..SchedulerOptions::default() },
    });
    register_turn(&scheduler, options).unwrap();
    scheduler.start();
    scheduler
}

#[tokio::test]
async fn a_conversation_leads_to_events_and_a_working_memory() {
    let house = House::new();
    let tree = house.tree(TreeOptions::default());
    let ids = tree.add(puppy(), origin().into()).await.unwrap();
    let cube = house.cube("ann", tree, None);
    let scheduler = scheduler(&house, cube.clone(), TurnOptions::default());
    let question = ScheduleMessage { label: label::QUERY.to_owned(), ..house.question("ann", "What does Max love?") };
    let answer = ScheduleMessage { label: label::ANSWER.to_owned(), ..house.question("ann", "Max loves salmon.") };
    let added = json!(ids).to_string();
    let added = ScheduleMessage { label: label::ADD.to_owned(), ..house.question("ann", &added) };
    let wrong = ScheduleMessage { label: label::ADD.to_owned(), ..house.question("ann", "no list") };
    let wrong_id = wrong.item_id.clone();
    for messages in [vec![question, answer, added], vec![wrong]] {
        scheduler.submit_messages(messages).await.unwrap();
        assert!(scheduler.wait_until_idle(Duration::from_secs(30)).await.unwrap());
    }
    let events: Vec<Event> =
        scheduler.events().events(&scope(), 0, 100).await.unwrap().into_iter().map(|recorded| recorded.event).collect();
    let of = |label: &str| events.iter().filter(|event| event.label == label).collect::<Vec<_>>();
    assert_eq!(of(ADD_MESSAGE).len(), 2);
    let [added] = of(ADD_MEMORY)[..] else { panic!("{events:?}") };
    assert_eq!((added.memory_len, added.current_memory_sizes["long_term_memory_size"]), (Some(6), 6));
    let [update] = of(UPDATE_MEMORY)[..] else { panic!("{events:?}") };
    let shown = update.memcube_log_content.as_ref().unwrap();
    assert_eq!(update.to_memory_type.as_deref(), Some("WorkingMemory"));
    let held = working(&house, &cube, "ann").await;
    assert_eq!(shown[0]["content"].as_str(), Some(held[0].as_str()));
    assert_eq!(update.metadata.as_ref().unwrap()[0]["queries"], json!(["What does Max love?"]));
    let status = scheduler.item_status(&scope(), &wrong_id).await.unwrap().unwrap();
    assert_eq!(status.status, ItemState::Failed);
    assert!(status.error.unwrap().contains("JSON list"));
    let stopped = scheduler.stop().await;
    assert_eq!(stopped.unfinished, 0);
}

#[tokio::test]
async fn the_retriever_knows_its_methods_and_the_kinds_of_cubes() {
    let house = House::new();
    let general = house.general();
    general.add(vec![fact(1, "Max loves salmon treats")], origin().into()).await.unwrap();
    let scheduler = scheduler(&house, house.cube("ann", general, None), TurnOptions::default());
    let (ann, cube) = (UserId::from("ann"), CubeId::from(CUBE));
    let retriever = scheduler.retriever();
    let search = async |cube: &CubeId, method: Option<&str>| {
        retriever.search("salmon", &ann, cube, 3, method, mos_scheduler::SearchArgs::default()).await
    };
    for method in [None, Some("text_memory_search")] {
        assert_eq!(search(&cube, method).await.unwrap().hits[0].item.memory, "Max loves salmon treats");
    }
    let error = search(&cube, Some("tree_text_memory_search")).await.unwrap_err().to_string();
    assert!(error.contains("`text_memory_search`") && error.contains("general_text"), "{error}");
    assert!(search(&cube, Some("grep")).await.unwrap_err().to_string().contains("`grep`"));
    assert!(search(&CubeId::from("other"), None).await.unwrap_err().to_string().contains("was deleted"));
    assert_eq!(retriever.search_method(&ann, &cube).await.unwrap().as_str(), "text_memory_search");
    scheduler.stop().await;
}
