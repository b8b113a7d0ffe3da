//! Handlers that break, hang and refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mos_core::Paging;
use mos_scheduler::{HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage};

use super::{
    Seen, Stores, in_memory, message, noting, on_every_store, options, reason_of, scheduler, scope_of, settle,
    state_of, submit,
};

on_every_store!(
    a_panic_is_retried_and_then_given_up_with_its_words,
    a_handler_that_hangs_is_dropped_and_then_given_up,
    what_may_work_later_is_tried_again_and_what_never_will_is_not,
    one_bad_message_does_not_take_others_with_it,
);

/// Panics without a word on the screen.
fn broken() -> Result<(), HandlerError> {
    std::panic::resume_unwind(Box::new("the wheel came off".to_owned()))
}

async fn a_panic_is_retried_and_then_given_up_with_its_words(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let noted = seen.clone();
    let breaks = move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
        let seen = noted.clone();
        async move {
            messages.iter().for_each(|message| seen.note(&message.content));
            broken()
        }
    };
    scheduler.register_handlers([("breaks", Registration::new(breaks)), ("works", noting(&seen))]).unwrap();
    scheduler.start();
    let (bad, good) = (message("breaks", "bad"), message("works", "good"));
    submit(&scheduler, [&bad, &good]).await;
    settle(&scheduler).await;
    let reason = reason_of(&scheduler, &bad).await;
    assert!(reason.contains("panicked") && reason.contains("the wheel came off"), "{reason}");
    assert_eq!(state_of(&scheduler, &good).await, Some(ItemState::Completed), "others go on");
    assert_eq!((seen.count("bad"), seen.count("good")), (3, 1));
    let metrics = scheduler.metrics();
    let (breaks, works) = (&metrics["breaks"], &metrics["works"]);
    assert_eq!((breaks.submitted, breaks.completed, breaks.retried, breaks.failed), (1, 0, 2, 1));
    assert_eq!((works.submitted, works.completed, works.retried, works.failed), (1, 1, 0, 0));
    let given_up = scheduler.given_up(&scope_of(&bad), Paging::ALL).await.unwrap();
    assert_eq!((given_up.total, given_up.entries[0].job.id.as_str()), (1, bad.item_id.as_str()));
    scheduler.stop().await;
}

/// Notes that it was dropped.
struct Dropped(Seen);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

async fn a_handler_that_hangs_is_dropped_and_then_given_up(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let noted = seen.clone();
    let hangs = move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        let seen = noted.clone();
        async move {
            seen.note("begun");
            let _dropped = Dropped(seen);
            std::future::pending::<Result<(), HandlerError>>().await
        }
    };
    let hangs = Registration::new(hangs).limit(Duration::from_millis(50));
    scheduler.register_handlers([("hangs", hangs), ("works", noting(&seen))]).unwrap();
    scheduler.start();
    let (bad, good) = (message("hangs", "bad"), message("works", "good"));
    submit(&scheduler, [&bad, &good]).await;
    settle(&scheduler).await;
    let reason = reason_of(&scheduler, &bad).await;
    assert!(reason.contains("longer than 0.05 s"), "{reason}");
    assert_eq!((seen.count("begun"), seen.count("dropped")), (3, 3));
    assert_eq!(state_of(&scheduler, &good).await, Some(ItemState::Completed));
    scheduler.stop().await;
}

async fn what_may_work_later_is_tried_again_and_what_never_will_is_not(stores: Stores) {
    let (scheduler, n_calls) = (scheduler(&stores, options()), Arc::new(AtomicUsize::new(0)));
    let (counted, seen) = (Arc::clone(&n_calls), Seen::default());
    let later = move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        let n_calls = Arc::clone(&counted);
        async move {
            let is_early = n_calls.fetch_add(1, Ordering::SeqCst) < 2;
            if is_early { Err(HandlerError::retry("not yet")) } else { Ok(()) }
        }
    };
    let noted = seen.clone();
    let never = move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        let seen = noted.clone();
        async move {
            seen.note("asked");
            Err::<(), _>(HandlerError::give_up("nobody speaks that language"))
        }
    };
    scheduler.register_handlers([("later", Registration::new(later))]).unwrap();
    scheduler.register_handlers([("never", Registration::new(never))]).unwrap();
    scheduler.start();
    let (later, never) = (message("later", "x"), message("never", "x"));
    submit(&scheduler, [&later, &never]).await;
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &later).await, Some(ItemState::Completed));
    assert_eq!(n_calls.load(Ordering::SeqCst), 3);
    assert_eq!(reason_of(&scheduler, &never).await, "nobody speaks that language");
    assert_eq!(seen.count("asked"), 1);
    let metrics = scheduler.metrics();
    assert_eq!((metrics["later"].retried, metrics["later"].completed), (2, 1));
    assert_eq!((metrics["never"].retried, metrics["never"].failed), (0, 1));
    scheduler.stop().await;
}

async fn one_bad_message_does_not_take_others_with_it(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let noted = seen.clone();
    let handler = move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
        let seen = noted.clone();
        async move {
            if messages.iter().any(|message| message.content == "bad") {
                return Err(HandlerError::give_up("one of them is bad"));
            }
            messages.iter().for_each(|message| seen.note(&message.content));
            Ok(())
        }
    };
    scheduler.register_handlers([("add", Registration::new(handler))]).unwrap();
    let messages = ["a", "bad", "b", "c"].map(|content| message("add", content));
    submit(&scheduler, &messages).await;
    scheduler.start();
    settle(&scheduler).await;
    assert_eq!(seen.all(), ["a", "b", "c"]);
    assert_eq!(reason_of(&scheduler, &messages[1]).await, "one of them is bad");
    for good in [&messages[0], &messages[2], &messages[3]] {
        assert_eq!(state_of(&scheduler, good).await, Some(ItemState::Completed), "{}", good.content);
    }
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_holds_its_thread_does_not_hold_others() {
    let stores = in_memory();
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let noted = seen.clone();
    let blocks = move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        let seen = noted.clone();
        async move {
            seen.note("begun");
            if seen.count("begun") == 1 {
                std::thread::sleep(Duration::from_millis(900));
                seen.note("awake");
            }
            Ok::<(), HandlerError>(())
        }
    };
    let blocks = Registration::new(blocks).limit(Duration::from_millis(50));
    scheduler.register_handlers([("blocks", blocks), ("works", noting(&seen))]).unwrap();
    scheduler.start();
    let bad = message("blocks", "bad");
    submit(&scheduler, [&bad]).await;
    super::until("the handler begins", async || seen.count("begun") == 1).await;
    let good = message("works", "good");
    submit(&scheduler, [&good]).await;
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &good).await, Some(ItemState::Completed));
    assert_eq!(state_of(&scheduler, &bad).await, Some(ItemState::Completed), "the second attempt worked");
    assert_eq!(seen.count("begun"), 2);
    assert_eq!(scheduler.metrics()["blocks"].retried, 1);
    scheduler.stop().await;
}

/// With one attempt only, nothing is given up for the fault of another.
#[tokio::test(start_paused = true)]
async fn a_single_attempt_is_nobody_elses() {
    let stores = in_memory();
    let options = mos_scheduler::SchedulerOptions { max_attempts: 1, ..options() };
    let scheduler = scheduler(&stores, options);
    let handler = |_: HandlerContext, messages: Vec<ScheduleMessage>| async move {
        if messages.iter().any(|message| message.content == "bad") {
            return Err(HandlerError::retry("one of them is bad"));
        }
        Ok(())
    };
    scheduler.register_handlers([("add", Registration::new(handler))]).unwrap();
    let messages = ["a", "bad", "b"].map(|content| message("add", content));
    submit(&scheduler, &messages).await;
    scheduler.start();
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &messages[0]).await, Some(ItemState::Completed));
    assert_eq!(reason_of(&scheduler, &messages[1]).await, "one of them is bad");
    assert_eq!(state_of(&scheduler, &messages[2]).await, Some(ItemState::Completed));
    scheduler.stop().await;
}
