//! Beginning and ending.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mos_core::BoxError;
use mos_scheduler::{
    Event, EventSink, HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage, SchedulerOptions, Stopped,
};
use tokio::sync::Semaphore;

use super::{
    Seen, Stores, gated, in_memory, message, noting, on_every_store, options, scheduler, scheduler_telling, settle,
    state_of, submit, until,
};

on_every_store!(what_is_too_slow_goes_back_and_is_done_later, what_is_being_handled_ends_before_the_scheduler);

async fn what_is_too_slow_goes_back_and_is_done_later(stores: Stores) {
    // One attempt: going back must not count as one.
    let options = SchedulerOptions { drain: Duration::from_millis(50), max_attempts: 1, ..options() };
    let (slow, seen) = (scheduler(&stores, options.clone()), Seen::default());
    slow.register_handlers([("add", gated(&seen, &Arc::new(Semaphore::new(0))))]).unwrap();
    slow.start();
    let message = message("add", "slow");
    submit(&slow, [&message]).await;
    until("the handler begins", async || seen.count("slow") == 1).await;
    assert_eq!(slow.stop().await, Stopped { unfinished: 1, lost: 0 });
    assert!(!slow.is_running());
    assert_eq!(state_of(&slow, &message).await, Some(ItemState::Waiting));
    assert_eq!(slow.metrics()["add"].released, 1);
    assert!(slow.running().is_empty());
    let (next, done) = (scheduler(&stores, options), Seen::default());
    next.register_handlers([("add", noting(&done))]).unwrap();
    next.start();
    settle(&next).await;
    assert_eq!(state_of(&next, &message).await, Some(ItemState::Completed));
    assert_eq!(done.all(), ["slow"]);
    next.stop().await;
}

async fn what_is_being_handled_ends_before_the_scheduler(stores: Stores) {
    let options = SchedulerOptions { workers: 1, batch: 1, ..options() };
    let (scheduler, seen, gate) = (scheduler(&stores, options), Seen::default(), Arc::new(Semaphore::new(0)));
    scheduler.register_handlers([("add", gated(&seen, &gate))]).unwrap();
    let messages = ["first", "second"].map(|content| message("add", content));
    submit(&scheduler, &messages).await;
    scheduler.start();
    scheduler.start();
    until("the handler begins", async || seen.count("first") == 1).await;
    let stopping = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.stop().await }
    });
    until("it was told to stop", async || !scheduler.is_running()).await;
    gate.add_permits(2);
    assert_eq!(stopping.await.unwrap(), Stopped::default());
    assert_eq!(state_of(&scheduler, &messages[0]).await, Some(ItemState::Completed));
    assert_eq!(state_of(&scheduler, &messages[1]).await, Some(ItemState::Waiting), "a durable queue keeps it");
    assert!(!scheduler.wait_until_idle(Duration::from_millis(20)).await.unwrap(), "it still waits");
    assert_eq!(scheduler.stop().await, Stopped::default(), "stopping twice is no fault");
    scheduler.start();
    settle(&scheduler).await;
    assert_eq!(seen.all(), ["first", "second"], "each once, although it was started twice");
    scheduler.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_ends_with_the_process_is_emptied_first() {
    let stores = in_memory();
    let options = SchedulerOptions { is_durable: false, workers: 2, ..options() };
    let (scheduler, seen) = (scheduler(&stores, options), Seen::default());
    scheduler.register_handlers([("add", noting(&seen)), ("read", noting(&seen))]).unwrap();
    let messages: Vec<_> =
        (0..40).map(|number| message(if number % 2 == 0 { "add" } else { "read" }, &number.to_string())).collect();
    submit(&scheduler, &messages).await;
    scheduler.start();
    assert_eq!(scheduler.stop().await, Stopped::default());
    for message in &messages {
        assert_eq!(state_of(&scheduler, message).await, Some(ItemState::Completed), "{}", message.content);
    }
    assert_eq!(seen.all().len(), 40);
}

/// A handler that fails so often before it does its work.
fn failing_first(seen: &Seen, n_failures: usize) -> Registration {
    let seen = seen.clone();
    Registration::new(move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        let seen = seen.clone();
        async move {
            seen.note("attempt");
            if seen.count("attempt") <= n_failures { Err(HandlerError::retry("not yet")) } else { Ok(()) }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn attempts_that_come_due_in_time_are_made_before_a_queue_ends_with_the_process() {
    let stores = in_memory();
    let soon = SchedulerOptions {
        is_durable: false,
        first_retry: Duration::from_secs(2),
        longest_retry: Duration::from_secs(5),
        drain: Duration::from_secs(30),
        ..options()
    };
    let (scheduler, seen) = (scheduler(&stores, soon), Seen::default());
    scheduler.register_handlers([("add", failing_first(&seen, 2))]).unwrap();
    let message = message("add", "x");
    submit(&scheduler, [&message]).await;
    scheduler.start();
    until("the first attempt fails", async || seen.count("attempt") == 1).await;
    assert_eq!(scheduler.stop().await, Stopped::default());
    assert_eq!((state_of(&scheduler, &message).await, seen.count("attempt")), (Some(ItemState::Completed), 3));
}

#[tokio::test(start_paused = true)]
async fn where_it_is_of_no_use_stopping_waits_for_no_further_attempts() {
    let stores = in_memory();
    let none = SchedulerOptions {
        is_durable: false,
        first_retry: Duration::from_secs(2),
        longest_retry: Duration::from_secs(2),
        drain_retries: Duration::ZERO,
        ..options()
    };
    let (scheduler, seen) = (scheduler(&stores, none), Seen::default());
    scheduler.register_handlers([("add", failing_first(&seen, 1)), ("read", noting(&seen))]).unwrap();
    let (failed, other) = (message("add", "x"), message("read", "y"));
    submit(&scheduler, [&failed, &other]).await;
    scheduler.start();
    assert_eq!(scheduler.stop().await, Stopped { unfinished: 0, lost: 1 });
    assert_eq!(state_of(&scheduler, &failed).await, Some(ItemState::Waiting));
    assert_eq!(state_of(&scheduler, &other).await, Some(ItemState::Completed), "what is ready is handled");
}

#[tokio::test(start_paused = true)]
async fn what_comes_due_too_late_is_not_waited_for_and_counted_as_lost_with_its_queue() {
    let stores = in_memory();
    let late = SchedulerOptions {
        is_durable: false,
        first_retry: Duration::from_secs(3_600),
        longest_retry: Duration::from_secs(3_600),
        drain: Duration::from_secs(30),
        ..options()
    };
    let (scheduler, seen) = (scheduler(&stores, late), Seen::default());
    scheduler.register_handlers([("add", failing_first(&seen, 1)), ("read", noting(&seen))]).unwrap();
    let (failed, other) = (message("add", "x"), message("read", "y"));
    submit(&scheduler, [&failed, &other]).await;
    scheduler.start();
    until("the first attempt fails", async || seen.count("attempt") == 1).await;
    let began = tokio::time::Instant::now();
    assert_eq!(scheduler.stop().await, Stopped { unfinished: 0, lost: 1 });
    assert!(began.elapsed() < Duration::from_secs(30), "nobody waits for what does not come");
    assert_eq!(state_of(&scheduler, &failed).await, Some(ItemState::Waiting));
    assert_eq!(state_of(&scheduler, &other).await, Some(ItemState::Completed));
}

/// Lives as long as the scheduler that knows it.
#[derive(Debug)]
struct Witness;

#[async_trait]
impl EventSink for Witness {
    async fn publish(&self, _: &Event) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_nobody_holds_ends() {
    let (stores, seen) = (in_memory(), Seen::default());
    let sink: Arc<dyn EventSink> = Arc::new(Witness);
    let witness = Arc::downgrade(&sink);
    let held = scheduler_telling(&stores, options(), vec![sink]);
    held.register_handlers([("add", noting(&seen))]).unwrap();
    held.start();
    let other = held.clone();
    let before = message("add", "before");
    submit(&held, [&before]).await;
    settle(&held).await;
    drop(held);
    let between = message("add", "between");
    submit(&other, [&between]).await;
    settle(&other).await;
    assert_eq!(seen.all(), ["before", "between"], "one handle is enough");
    drop(other);
    until("the dispatcher ends", async || witness.strong_count() == 0).await;
    let late = scheduler(&stores, options());
    let after = message("add", "after");
    submit(&late, [&after]).await;
    assert!(!late.wait_until_idle(Duration::from_secs(30)).await.unwrap(), "nobody handles it");
    assert_eq!(state_of(&late, &after).await, Some(ItemState::Waiting));
}
