//! Stable memories become activation memory, and go the way back.

use std::time::Duration;

use mos_core::{ActivationId, MemoryId, Status, UserId};
use mos_scheduler::promote::{
    Fate, Outcome, Promotion, PromotionParts, RetireReason, is_as_promoted, promoted, retired, run, withdraw,
};
use mos_scheduler::{HandlerError, PromotionOptions, SchedulerCube, TurnOptions, TurnParts, turn};

use crate::turn_support::{House, fact, origin, puppy, scope};

const MINUTE: Duration = Duration::from_secs(60);

fn options() -> PromotionOptions {
    PromotionOptions { is_enabled: true, interval: MINUTE, ..PromotionOptions::default() }
}

async fn ask(house: &House, cube: &SchedulerCube, text: &str) {
    let messages = [house.question(cube.user.as_str(), text)];
    let options = TurnOptions { top_k: 2, retention: 0, ..TurnOptions::default() };
    let parts = TurnParts { cube, state: &*house.states, clock: &*house.clock, options: &options };
    turn(parts, &messages).await.unwrap();
}

async fn look(house: &House, cube: &SchedulerCube, options: &PromotionOptions) -> Result<Promotion, HandlerError> {
    run(parts(house, cube, options), &cube.user).await
}

fn parts<'a>(house: &'a House, cube: &'a SchedulerCube, options: &'a PromotionOptions) -> PromotionParts<'a> {
    PromotionParts { cube, state: &*house.states, clock: &*house.clock, options }
}

/// A plain cube with the story in it.
async fn story(house: &House) -> SchedulerCube {
    let general = house.general();
    general.add(puppy(), origin().into()).await.unwrap();
    house.cube("ann", general, None)
}

const SALMON: &str = "Which salmon treats does Max love?";
const SALMON_AND_PUPPY: [&str; 2] = ["The puppy of Ann is called Max", "Max loves salmon treats"];

/// Asks twice what makes the puppy's name and the salmon stable.
async fn make_stable(house: &House, cube: &SchedulerCube) {
    for _ in 0..2 {
        ask(house, cube, "The puppy of Ann is called Max? And Max loves salmon treats?").await;
    }
}

fn beginning(texts: &[&str]) -> String {
    format!("You know: {}", texts.join("; "))
}

#[tokio::test]
async fn what_stays_in_working_memory_becomes_the_beginning_of_chats_once() {
    let house = House::new();
    let cube = story(&house).await;
    house.caches.add("a cache of Ann's own");
    ask(&house, &cube, SALMON).await;
    let first = look(&house, &cube, &options()).await.unwrap();
    assert_eq!((first.outcome, house.caches.beginning_of_chats()), (Outcome::Nothing, None), "one turn is not stable");
    make_stable(&house, &cube).await;
    assert_eq!(look(&house, &cube, &options()).await.unwrap().outcome, Outcome::TooEarly);
    house.clock.advance(MINUTE);
    let second = look(&house, &cube, &options()).await.unwrap();
    assert_eq!(second.outcome, Outcome::Promoted);
    let promoted_now = second.promoted.unwrap();
    let texts: Vec<&str> = promoted_now.memories.iter().map(|memory| memory.text.as_str()).collect();
    assert_eq!(texts, SALMON_AND_PUPPY, "in the order of their ids");
    assert!(promoted_now.memories.iter().all(|memory| memory.recalls >= 2 && memory.turns >= 2), "{promoted_now:?}");
    assert_eq!(house.caches.beginning_of_chats(), Some(beginning(&SALMON_AND_PUPPY)));
    // The order in which they matter changes, the set does not.
    ask(&house, &cube, "Max loves salmon treats? And the puppy of Ann is called Max?").await;
    house.clock.advance(MINUTE);
    let third = look(&house, &cube, &options()).await.unwrap();
    assert_eq!((third.outcome, third.retired.len(), house.caches.computed()), (Outcome::Unchanged, 0, 1));
    let told = promoted(&*house.states, &scope(), &cube.user).await.unwrap().unwrap();
    assert_eq!((told.id.as_str(), told.is_ours), (beginning(&SALMON_AND_PUPPY).as_str(), true));
    assert!(house.caches.names().contains(&"a cache of Ann's own".to_owned()));
    assert!(promoted(&*house.states, &scope(), &UserId::from("bob")).await.unwrap().is_none());
}

#[tokio::test]
async fn another_set_takes_the_place_and_the_log_tells_what_was_in_the_old_one() {
    let house = House::new();
    let cube = story(&house).await;
    make_stable(&house, &cube).await;
    look(&house, &cube, &options()).await.unwrap();
    for _ in 0..2 {
        ask(&house, &cube, "When does the train to Bergen leave? The train to Bergen leaves at noon").await;
    }
    house.clock.advance(MINUTE);
    let next = look(&house, &cube, &options()).await.unwrap();
    assert_eq!(next.outcome, Outcome::Promoted);
    let names = house.caches.names();
    assert_eq!((names.len(), house.caches.beginning_of_chats().as_ref()), (1, names.first()));
    let log = retired(&*house.states, &scope(), 0, 10).await.unwrap();
    assert_eq!(log.len(), 1);
    let (_, entry) = &log[0];
    assert_eq!((entry.reason, entry.is_deleted), (RetireReason::OtherMemories, true));
    assert_eq!(entry.memories[0].text.as_deref(), Some(SALMON_AND_PUPPY[0]));
    assert!(entry.memories.iter().all(|memory| memory.fate == Fate::Searchable), "{entry:?}");
}

#[tokio::test]
async fn a_cache_that_was_there_before_is_used_and_never_deleted() {
    let house = House::new();
    let cube = story(&house).await;
    house.caches.add(&beginning(&SALMON_AND_PUPPY));
    make_stable(&house, &cube).await;
    assert!(!look(&house, &cube, &options()).await.unwrap().promoted.unwrap().is_ours);
    let withdrawn = withdraw(parts(&house, &cube, &options()), &cube.user, RetireReason::Asked).await.unwrap();
    assert_eq!((withdrawn.outcome, withdrawn.retired[0].is_deleted), (Outcome::Withdrawn, false));
    assert_eq!(house.caches.names(), [beginning(&SALMON_AND_PUPPY)]);
    assert_eq!(house.caches.beginning_of_chats(), None);
    let again = withdraw(parts(&house, &cube, &options()), &cube.user, RetireReason::Asked).await.unwrap();
    assert_eq!(again, Promotion::default(), "there is nothing left to take back");
}

#[tokio::test]
async fn two_users_of_the_same_memories_share_a_cache_until_both_are_done_with_it() {
    let house = House::new();
    let ann = story(&house).await;
    let bob = house.cube("bob", ann.text.clone(), None);
    for cube in [&ann, &bob] {
        make_stable(&house, cube).await;
        look(&house, cube, &options()).await.unwrap();
    }
    let first = withdraw(parts(&house, &ann, &options()), &ann.user, RetireReason::Asked).await.unwrap();
    assert!(!first.retired[0].is_deleted);
    assert_eq!(house.caches.names().len(), 1, "Bob's chats begin with it");
    let last = withdraw(parts(&house, &bob, &options()), &bob.user, RetireReason::Asked).await.unwrap();
    assert!(last.retired[0].is_deleted && house.caches.names().is_empty());
}

#[tokio::test]
async fn switching_off_withdraws_and_what_somebody_removed_is_neither_kept_nor_told() {
    let house = House::new();
    let cube = story(&house).await;
    make_stable(&house, &cube).await;
    look(&house, &cube, &options()).await.unwrap();
    cube.text.delete(&[fact(1, "").id], origin()).await.unwrap();
    let mut changed = cube.text.get(&fact(3, "").id).await.unwrap();
    changed.memory = "Max loves cheese".to_owned();
    cube.text.update(&changed.id.clone(), changed, origin()).await.unwrap();
    let off = look(&house, &cube, &PromotionOptions::default()).await.unwrap();
    assert_eq!((off.outcome, house.caches.names().len()), (Outcome::Withdrawn, 0));
    let memories = &off.retired[0].memories;
    assert_eq!((off.retired[0].reason, memories.len()), (RetireReason::SwitchedOff, 2));
    assert_eq!((&memories[0].fate, memories[0].text.as_deref()), (&Fate::Removed, None));
    assert_eq!((&memories[1].fate, memories[1].text.as_deref()), (&Fate::Changed, Some(SALMON_AND_PUPPY[1])));
    assert!(cube.text.get(&fact(1, "").id).await.is_err());
    assert_eq!(look(&house, &cube, &PromotionOptions::default()).await.unwrap(), Promotion::default());
}

#[tokio::test]
async fn what_was_promoted_goes_also_where_the_cube_has_no_activation_memory_any_more() {
    let house = House::new();
    let cube = story(&house).await;
    house.caches.add("a cache of Ann's own");
    make_stable(&house, &cube).await;
    look(&house, &cube, &options()).await.unwrap();
    let off = house.switched_off(&cube);
    let withdrawn = look(&house, &off, &PromotionOptions::default()).await.unwrap();
    assert_eq!((withdrawn.outcome, withdrawn.retired[0].reason), (Outcome::Withdrawn, RetireReason::SwitchedOff));
    assert!(withdrawn.retired[0].memories.iter().all(|memory| memory.fate == Fate::Searchable), "{withdrawn:?}");
    assert_eq!(
        (house.caches.names(), house.caches.beginning_of_chats()),
        (vec!["a cache of Ann's own".to_owned()], None)
    );
    assert_eq!(look(&house, &off, &PromotionOptions::default()).await.unwrap(), Promotion::default());
}

#[tokio::test]
async fn texts_stay_within_their_budget() {
    let house = House::new();
    let general = house.general();
    let long = format!("Max loves salmon treats {}", "and more salmon treats ".repeat(20));
    general.add(vec![fact(1, &long), fact(3, "Max loves salmon treats")], origin().into()).await.unwrap();
    let cube = house.cube("ann", general, None);
    for _ in 0..2 {
        ask(&house, &cube, SALMON).await;
    }
    let small = PromotionOptions { max_bytes: 100, ..options() };
    let promotion = look(&house, &cube, &small).await.unwrap();
    let ids: Vec<MemoryId> = promotion.promoted.unwrap().memories.into_iter().map(|memory| memory.id).collect();
    assert_eq!(ids, [fact(3, "").id]);
    let none = PromotionOptions { max_texts: 0, ..options() };
    house.clock.advance(MINUTE);
    assert_eq!(look(&house, &cube, &none).await.unwrap().outcome, Outcome::Withdrawn);
}

#[tokio::test]
async fn a_lost_cache_is_computed_again_for_the_same_memories() {
    let house = House::new();
    let cube = story(&house).await;
    make_stable(&house, &cube).await;
    look(&house, &cube, &options()).await.unwrap();
    house.caches.lose_all();
    house.clock.advance(MINUTE);
    assert_eq!(look(&house, &cube, &options()).await.unwrap().outcome, Outcome::Unchanged);
    assert_eq!(house.caches.beginning_of_chats(), Some(beginning(&SALMON_AND_PUPPY)));
}

/// The process ends at every single write of replacing one set by another: the next run completes it, and nothing leaks.
#[tokio::test]
async fn an_interrupted_replacement_is_completed_by_the_next_run() {
    let mut n_writes = 0;
    loop {
        let house = House::new();
        let cube = story(&house).await;
        house.caches.add("a cache of Ann's own");
        make_stable(&house, &cube).await;
        look(&house, &cube, &options()).await.unwrap();
        for _ in 0..2 {
            ask(&house, &cube, "When does the train to Bergen leave? The train to Bergen leaves at noon").await;
        }
        house.clock.advance(MINUTE);
        house.states.end_after(Some(n_writes));
        let interrupted = look(&house, &cube, &options()).await;
        house.states.end_after(None);
        let is_over = interrupted.is_ok();
        look(&house, &cube, &options()).await.unwrap();
        let now = promoted(&*house.states, &scope(), &cube.user).await.unwrap().unwrap();
        assert!(now.memories.iter().any(|memory| memory.text.contains("train")), "write {n_writes}: {now:?}");
        assert_eq!(house.caches.beginning_of_chats().as_deref(), Some(now.id.as_str()), "write {n_writes}");
        let mut names = house.caches.names();
        names.retain(|name| name != now.id.as_str());
        assert_eq!(names, ["a cache of Ann's own"], "write {n_writes}");
        let log = retired(&*house.states, &scope(), 0, 10).await.unwrap();
        assert!(log.iter().any(|(_, entry)| entry.reason == RetireReason::OtherMemories), "write {n_writes}");
        if is_over {
            break;
        }
        n_writes += 1;
        assert!(n_writes < 20, "a replacement has a handful of writes");
    }
    assert!(n_writes >= 4, "{n_writes}");
}

/// A first promotion that is interrupted, after which other memories are stable: what was made meanwhile is found and deleted.
#[tokio::test]
async fn what_an_interrupted_run_made_and_nobody_uses_is_deleted() {
    let house = House::new();
    let cube = story(&house).await;
    make_stable(&house, &cube).await;
    house.states.end_after(Some(1));
    assert!(look(&house, &cube, &options()).await.is_err(), "computed, and not written down");
    house.states.end_after(None);
    assert_eq!(house.caches.names(), [beginning(&SALMON_AND_PUPPY)]);
    for _ in 0..2 {
        ask(&house, &cube, "When does the train to Bergen leave? The train to Bergen leaves at noon").await;
    }
    let next = look(&house, &cube, &options()).await.unwrap();
    let now = next.promoted.unwrap();
    assert!(next.retired.iter().any(|entry| entry.reason == RetireReason::Unfinished && entry.is_deleted), "{now:?}");
    assert_eq!(house.caches.names(), [now.id.to_string()]);
}

async fn as_promoted(house: &House, cube: &SchedulerCube, id: &ActivationId) -> Option<bool> {
    is_as_promoted(&*house.states, &scope(), &cube.user, id, &*cube.text).await.unwrap()
}

#[tokio::test]
async fn what_was_promoted_is_of_use_as_long_as_its_memories_say_the_same() {
    let house = House::new();
    let cube = story(&house).await;
    make_stable(&house, &cube).await;
    let told = look(&house, &cube, &options()).await.unwrap().promoted.unwrap();
    let first = &told.memories[0];
    assert_eq!(as_promoted(&house, &cube, &told.id).await, Some(true));
    assert_eq!(as_promoted(&house, &cube, &ActivationId::new("a cache of Ann's own")).await, None);

    let mut item = cube.text.get(&first.id).await.unwrap();
    item.memory = "Max loves herring treats".to_owned();
    cube.text.update(&first.id, item, origin()).await.unwrap();
    assert_eq!(as_promoted(&house, &cube, &told.id).await, Some(false), "it says something else");

    let mut item = cube.text.get(&first.id).await.unwrap();
    item.memory.clone_from(&first.text);
    cube.text.update(&first.id, item, origin()).await.unwrap();
    assert_eq!(as_promoted(&house, &cube, &told.id).await, Some(true), "it was corrected back");

    let mut item = cube.text.get(&first.id).await.unwrap();
    item.metadata.status = Some(Status::Archived);
    cube.text.update(&first.id, item, origin()).await.unwrap();
    assert_eq!(as_promoted(&house, &cube, &told.id).await, Some(false), "it is out of use");

    cube.text.delete(std::slice::from_ref(&first.id), origin()).await.unwrap();
    assert_eq!(as_promoted(&house, &cube, &told.id).await, Some(false), "it is gone");
}

#[tokio::test]
async fn a_user_whose_caches_are_kept_apart_leaves_none_behind_because_another_has_the_same() {
    let house = House::new();
    house.caches.keep_users_apart();
    let ann = story(&house).await;
    let bob = house.cube("bob", ann.text.clone(), None);
    for cube in [&bob, &ann] {
        make_stable(&house, cube).await;
        house.caches.lose_all();
        assert!(look(&house, cube, &options()).await.unwrap().promoted.unwrap().is_ours);
    }
    let withdrawn = withdraw(parts(&house, &ann, &options()), &ann.user, RetireReason::Asked).await.unwrap();
    assert!(withdrawn.retired[0].is_deleted && house.caches.names().is_empty(), "{withdrawn:?}");
}
