//! Thorough answers that are prepared for the next question.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mos_core::{Clock, StateStore};
use mos_scheduler::ItemState;
use mos_scheduler::handlers::api_mix_search::{MixOptions, prepare_once, stored_mix};
use mos_scheduler::handlers::refining::WorkOptions;
use mos_scheduler::label::API_MIX_SEARCH;
use mos_scheduler::monitor::{forget, forget_user};
use serde_json::json;

use crate::support_work::{Models, World};

fn content(query: &str) -> String {
    json!({"query": query, "user_id": "ann", "mode": "mixture", "top_k": 3}).to_string()
}

async fn n_hits(world: &World, user: &str, query: &str) -> Option<usize> {
    let stored = stored_mix(&*world.state, &world.cube.scope(), &user.into(), query).await.unwrap();
    stored.map(|mix| mix.hits.len())
}

#[tokio::test]
async fn an_answer_is_there_for_the_next_question_of_its_user() {
    let world = World::new(WorkOptions::default(), &Models::default());
    world.facts(&["Ann likes tea.", "Ann plays chess."]).await;
    world.done(API_MIX_SEARCH, content("Does Ann like tea?")).await;
    let mix = stored_mix(&*world.state, &world.cube.scope(), &"ann".into(), " Does Ann  like tea?").await;
    let mix = mix.unwrap().unwrap();
    assert_eq!(mix.hits[0].item.memory, "Ann likes tea.");
    assert_eq!(mix.at, world.clock.now());
    assert!(!mix.is_older_than(Duration::from_secs(60), world.clock.now()));
    assert_eq!(n_hits(&world, "bob", "Does Ann like tea?").await, None);
    assert_eq!(n_hits(&world, "ann", "Does Ann like chess?").await, None);
    let in_conversation =
        json!({"query": "Does she?", "chat_history": [{"role": "user", "content": "Ann likes tea?"}]});
    world.done(API_MIX_SEARCH, in_conversation.to_string()).await;
    assert_eq!(n_hits(&world, "ann", "Does she?").await, None, "in another conversation it means somebody else");
    let (_, reason) = world.given_up(API_MIX_SEARCH, "{}").await;
    assert!(reason.contains("no `query`"), "{reason}");
}

#[tokio::test]
async fn a_question_is_prepared_once_while_its_answer_is_fresh_or_on_its_way() {
    let world = World::new(WorkOptions::default(), &Models::default());
    world.facts(&["Ann likes tea."]).await;
    let fresh = MixOptions::default().fresh;
    let asks = async |content: &str| {
        prepare_once(&world.scheduler, world.message(API_MIX_SEARCH, content), fresh).await.unwrap()
    };
    let settle = async || assert!(world.scheduler.wait_until_idle(Duration::from_secs(60)).await.unwrap());
    world.scheduler.stop().await;
    let tea = content("Does Ann like tea?");
    assert!(asks(&tea).await);
    world.clock.advance(fresh);
    assert!(!asks(&tea).await, "it is on its way, though it takes long");
    for _ in 0..5 {
        world.clock.advance(fresh);
        assert!(!asks(&tea).await, "it waits once, however long nothing handles it");
    }
    assert_eq!(world.scheduler.queue_status(&world.cube.scope()).await.unwrap().waiting, 1);
    world.scheduler.start();
    settle().await;
    assert!(!asks(&tea).await, "the answer is fresh");

    let more = json!({"query": "Does Ann like tea?", "user_id": "ann", "mode": "mixture", "top_k": 5}).to_string();
    assert!(asks(&more).await, "the same words ask for more");
    settle().await;
    assert!(!asks(&more).await);
    world.clock.advance(fresh + Duration::from_secs(1));
    assert!(asks(&more).await, "the answer has grown old");
    settle().await;
    forget_user(&*world.state, &world.cube.scope(), &"ann".into()).await.unwrap();
    assert!(asks(&more).await, "the answer has gone");
    assert!(!asks(&more).await);
    settle().await;
    assert!(n_hits(&world, "ann", "Does Ann like tea?").await.is_some());

    let given_up = world.message(API_MIX_SEARCH, "{}");
    assert!(prepare_once(&world.scheduler, given_up.clone(), fresh).await.unwrap());
    settle().await;
    let status = world.scheduler.item_status(&world.cube.scope(), &given_up.item_id).await.unwrap().unwrap();
    assert_eq!(status.status, ItemState::Failed, "what is wrong with it can be seen");
}

#[tokio::test]
async fn a_question_whose_preparing_was_given_up_is_prepared_again_later() {
    let mix = MixOptions { max_answers: 1, ..MixOptions::default() };
    let world = World::new(WorkOptions { mix, ..WorkOptions::default() }, &Models::default());
    world.facts(&["Ann likes tea."]).await;
    world.done(API_MIX_SEARCH, content("tea one?")).await;
    let asks = async || {
        let message = world.message(API_MIX_SEARCH, content("tea two?"));
        let is_sent = prepare_once(&world.scheduler, message, mix.fresh).await.unwrap();
        assert!(world.scheduler.wait_until_idle(Duration::from_secs(60)).await.unwrap());
        is_sent
    };
    world.state.breaks_removal.store(true, Ordering::SeqCst);
    assert!(asks().await);
    assert_eq!(n_hits(&world, "ann", "tea two?").await, None, "it was given up");
    assert!(!asks().await, "trying it again at once is for people");
    world.clock.advance(mix.fresh);
    assert!(asks().await);
    assert!(n_hits(&world, "ann", "tea two?").await.is_some());
}

#[tokio::test]
async fn answers_are_bounded_in_number_and_age() {
    let mix = MixOptions { max_answers: 2, max_age: Duration::from_secs(100), ..MixOptions::default() };
    let world = World::new(WorkOptions { mix, ..WorkOptions::default() }, &Models::default());
    world.facts(&["Ann likes tea."]).await;
    for query in ["tea one?", "tea two?", "tea three?"] {
        world.done(API_MIX_SEARCH, content(query)).await;
        world.clock.advance(Duration::from_secs(10));
    }
    assert_eq!(n_hits(&world, "ann", "tea one?").await, None, "the oldest goes");
    assert!(n_hits(&world, "ann", "tea two?").await.is_some());
    world.clock.advance(Duration::from_secs(85));
    world.done(API_MIX_SEARCH, content("tea two?")).await;
    assert!(n_hits(&world, "ann", "tea two?").await.is_some() && n_hits(&world, "ann", "tea three?").await.is_some());
    world.clock.advance(Duration::from_secs(20));
    world.done(API_MIX_SEARCH, content("tea two?")).await;
    assert_eq!(n_hits(&world, "ann", "tea three?").await, None, "the old one goes");
}

#[tokio::test]
async fn an_answer_that_could_not_be_removed_goes_with_the_next_attempt() {
    let mix = MixOptions { max_answers: 1, ..MixOptions::default() };
    let world = World::new(WorkOptions { mix, ..WorkOptions::default() }, &Models::default());
    world.facts(&["Ann likes tea."]).await;
    world.done(API_MIX_SEARCH, content("tea one?")).await;
    world.state.breaks_removal.store(true, Ordering::SeqCst);
    let (id, reason) = world.given_up(API_MIX_SEARCH, content("tea two?")).await;
    assert!(reason.contains("the line broke"), "{reason}");
    assert_eq!(world.retry(&id).await.status, ItemState::Completed);
    assert!(n_hits(&world, "ann", "tea two?").await.is_some());
    assert_eq!(n_hits(&world, "ann", "tea one?").await, None, "nothing stays that no list knows of");
}

#[tokio::test]
async fn an_answer_whose_memory_is_removed_while_it_is_prepared_is_not_kept() {
    let world = World::new(WorkOptions::default(), &Models::default());
    world.facts(&["Ann likes tea."]).await;
    world.done(API_MIX_SEARCH, content("Does Ann like tea?")).await;
    let scope = world.cube.scope();
    let stored = stored_mix(&*world.state, &scope, &"ann".into(), "Does Ann like tea?").await.unwrap().unwrap();
    let held = stored.hits[0].item.id.clone();
    *world.state.removes.lock().unwrap() = Some((world.cube.text.clone(), held));
    world.done(API_MIX_SEARCH, content("Does Ann like tea?")).await;
    assert_eq!(n_hits(&world, "ann", "Does Ann like tea?").await, None);
}

#[tokio::test]
async fn answers_go_with_the_memories_that_they_hold_and_with_their_user() {
    let world = World::new(WorkOptions::default(), &Models::default());
    world.facts(&["Ann likes tea."]).await;
    world.done(API_MIX_SEARCH, content("Does Ann like tea?")).await;
    let (state, scope) = (&*world.state, world.cube.scope());
    let stored = stored_mix(state, &scope, &"ann".into(), "Does Ann like tea?").await.unwrap().unwrap();
    let held = stored.hits[0].item.id.clone();
    forget(state, &scope, Some(&["00000000-0000-4000-8000-000000000009".into()])).await.unwrap();
    assert!(n_hits(&world, "ann", "Does Ann like tea?").await.is_some(), "it holds another memory");
    forget(state, &scope, Some(&[held])).await.unwrap();
    assert_eq!(n_hits(&world, "ann", "Does Ann like tea?").await, None);

    world.done(API_MIX_SEARCH, content("Does Ann like tea?")).await;
    forget_user(state, &scope, &"bob".into()).await.unwrap();
    assert!(n_hits(&world, "ann", "Does Ann like tea?").await.is_some());
    forget_user(state, &scope, &"ann".into()).await.unwrap();
    assert_eq!(state.keys(&scope, "scheduler/mix", None, 10).await.unwrap(), Vec::<String>::new());
}
