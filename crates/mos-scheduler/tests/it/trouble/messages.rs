//! Messages that cannot be done, and those that are refused.

use mos_core::StoreError;
use mos_scheduler::message::MAX_DEPTH;
use mos_scheduler::{HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage, SchedulerOptions};

use super::{
    Seen, Stores, in_memory, message, message_of, noting, of_task, on_every_store, on_sqlite, options, reason_of,
    scheduler, scope_of, settle, state_of, status_of, submit,
};

on_every_store!(
    a_message_that_nobody_handles_is_given_up_until_somebody_does,
    a_message_for_a_cube_that_is_gone_is_given_up,
    a_message_that_is_too_large_is_refused_with_the_limit,
    messages_that_follow_from_themselves_come_to_an_end,
);

async fn a_message_that_nobody_handles_is_given_up_until_somebody_does(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.start();
    let message = message("juggle", "three balls");
    submit(&scheduler, [&message]).await;
    settle(&scheduler).await;
    let reason = reason_of(&scheduler, &message).await;
    assert!(reason.contains("`juggle`"), "{reason}");
    scheduler.register_handlers([("juggle", noting(&seen))]).unwrap();
    let n_retried = scheduler.retry(&scope_of(&message), std::slice::from_ref(&message.item_id)).await.unwrap();
    assert_eq!(n_retried, 1);
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &message).await, Some(ItemState::Completed));
    assert_eq!(seen.all(), ["three balls"]);
    scheduler.stop().await;
}

async fn a_message_for_a_cube_that_is_gone_is_given_up(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen))]).unwrap();
    // Accepted while the cube was there, as far as the queue knows.
    let (lost, kept) = (message_of("ann", "gone-1", "add", "lost"), message("add", "kept"));
    submit(&scheduler, [&lost, &kept]).await;
    scheduler.start();
    settle(&scheduler).await;
    let reason = reason_of(&scheduler, &lost).await;
    assert!(reason.contains("was deleted"), "{reason}");
    assert_eq!(seen.all(), ["kept"], "the handler is not asked for it, and it is not tried again");
    scheduler.stop().await;
}

async fn a_message_that_is_too_large_is_refused_with_the_limit(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen))]).unwrap();
    scheduler.start();
    let large = of_task("task", message("add", &"x".repeat(10 << 20)));
    let small = of_task("task", message("add", "small"));
    // Those of one cube are accepted all or none.
    let error = scheduler.submit_messages(vec![small.clone(), large.clone()]).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(_)), "{error}");
    assert!(error.to_string().contains("1048576"), "{error}");
    for refused in [&small, &large] {
        assert_eq!(status_of(&scheduler, refused).await, None);
    }
    let task = scheduler.task_status(&scope_of(&small), "task").await.unwrap();
    assert_eq!(task, None, "nothing of the task was accepted, so it is not completed");
    submit(&scheduler, [&small]).await;
    settle(&scheduler).await;
    assert_eq!(seen.all(), ["small"]);
    let task = scheduler.task_status(&scope_of(&small), "task").await.unwrap().unwrap();
    assert_eq!((task.status, task.items.len()), (ItemState::Completed, 1), "{task:?}");
    assert_eq!(scheduler.metrics()["add"].submitted, 1);
    scheduler.stop().await;
}

async fn messages_that_follow_from_themselves_come_to_an_end(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let noted = seen.clone();
    let again = move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
        let seen = noted.clone();
        async move {
            for message in &messages {
                seen.note(&message.content);
                context.submit(vec![message.with_label("again")]).await?;
            }
            Ok::<(), HandlerError>(())
        }
    };
    scheduler.register_handlers([("again", Registration::new(again))]).unwrap();
    scheduler.start();
    let first = message("again", "echo");
    submit(&scheduler, [&first]).await;
    settle(&scheduler).await;
    let n_handled = usize::from(MAX_DEPTH) + 1;
    assert_eq!(seen.count("echo"), n_handled);
    assert_eq!(state_of(&scheduler, &first).await, Some(ItemState::Completed));
    let last = ScheduleMessage {
        item_id: format!("{}{}", first.item_id, "/again".repeat(usize::from(MAX_DEPTH))),
        ..first.clone()
    };
    let reason = reason_of(&scheduler, &last).await;
    assert!(reason.contains("follows from"), "{reason}");
    let too_deep = ScheduleMessage { depth: MAX_DEPTH + 1, ..message("again", "deep") };
    let error = scheduler.submit_messages(vec![too_deep.clone()]).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(status_of(&scheduler, &too_deep).await, None);
    scheduler.stop().await;
}

/// The store itself knows that the cube was deleted: with its scope its messages went, and later ones are refused.
async fn a_cube_that_is_deleted_takes_its_messages_with_it(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen))]).unwrap();
    let (before, after) = (message("add", "before"), message("add", "after"));
    let other = message_of("ann", "other", "add", "other");
    let scope = scope_of(&before);
    stores.scopes.open_scope(&scope, 1).await.unwrap();
    submit(&scheduler, [&before, &other]).await;
    stores.scopes.close_scope(&scope, 1).await.unwrap();
    let error = scheduler.submit_messages(vec![after.clone()]).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "cube", .. }), "{error}");
    let in_task = of_task("task", after);
    let error = scheduler.submit_messages(vec![in_task]).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "cube", .. }), "{error}");
    scheduler.start();
    settle(&scheduler).await;
    assert_eq!(seen.all(), ["other"]);
    assert_eq!(status_of(&scheduler, &before).await, None);
    scheduler.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cube_deleted_in_memory() {
    a_cube_that_is_deleted_takes_its_messages_with_it(in_memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cube_deleted_on_sqlite() {
    a_cube_that_is_deleted_takes_its_messages_with_it(on_sqlite()).await;
}

#[tokio::test(start_paused = true)]
async fn what_can_be_no_job_is_refused_with_a_remedy() {
    let stores = in_memory();
    let options = SchedulerOptions { disabled: vec!["mem_dream".to_owned()], ..options() };
    let scheduler = scheduler(&stores, options);
    let refusal = async |message: ScheduleMessage| {
        let error = scheduler.submit_messages(vec![message]).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
        error.to_string()
    };
    let dream = refusal(message("mem_dream", "sheep")).await;
    assert!(dream.contains("`mem_dream`") && dream.contains("disabled_handlers"), "{dream}");
    assert!(refusal(message("", "x")).await.contains("no label"));
    let nameless = ScheduleMessage { item_id: String::new(), ..message("add", "x") };
    assert!(refusal(nameless).await.contains("cannot be queued"));
    assert!(scheduler.metrics().is_empty(), "nothing was accepted");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_twice_is_one() {
    let stores = in_memory();
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen))]).unwrap();
    let message = message("add", "once");
    let first = scheduler.submit_messages(vec![message.clone()]).await.unwrap();
    assert_eq!((first.new, first.known), (vec![message.item_id.clone()], Vec::new()));
    let second = scheduler.submit_messages(vec![message.clone()]).await.unwrap();
    assert_eq!((second.new, second.known), (Vec::new(), vec![message.item_id.clone()]));
    scheduler.start();
    settle(&scheduler).await;
    let third = scheduler.submit_messages(vec![message.clone()]).await.unwrap();
    assert_eq!((third.new, third.known), (Vec::new(), vec![message.item_id.clone()]), "also when it is done");
    settle(&scheduler).await;
    assert_eq!((seen.all(), scheduler.metrics()["add"].submitted), (vec!["once".to_owned()], 1));
    scheduler.stop().await;
}
