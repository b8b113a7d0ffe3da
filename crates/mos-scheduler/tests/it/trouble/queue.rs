//! Batches, urgency, and which handler does what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mos_core::Weights;
use mos_scheduler::{
    HandlerContext, HandlerError, ItemState, Priority, Registration, ScheduleMessage, SchedulerOptions,
};
use tokio::sync::Semaphore;

use super::{
    Seen, Stores, gated, in_memory, message, message_of, noting, on_every_store, options, reason_of, scheduler, settle,
    state_of, submit, until,
};

on_every_store!(
    a_batch_is_of_one_user_cube_and_label_and_in_order,
    what_is_urgent_goes_before_what_waits,
    handlers_come_and_go,
);

type Group = (String, String, String);

fn group(message: &ScheduleMessage) -> Group {
    (message.user_id.to_string(), message.mem_cube_id.to_string(), message.label.clone())
}

async fn a_batch_is_of_one_user_cube_and_label_and_in_order(stores: Stores) {
    let scheduler = scheduler(&stores, options());
    let batches: Arc<Mutex<Vec<Vec<ScheduleMessage>>>> = Arc::default();
    let handler = || {
        let batches = Arc::clone(&batches);
        Registration::new(move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
            let batches = Arc::clone(&batches);
            async move {
                assert_eq!(context.cube.info.cube_id, messages[0].mem_cube_id, "the cube is that of the message");
                batches.lock().unwrap().push(messages);
                Ok::<(), HandlerError>(())
            }
        })
    };
    scheduler.register_handlers([("add", handler()), ("read", handler())]).unwrap();
    let mut messages = Vec::new();
    for number in 0..5 {
        for (user, cube, label) in
            [("ann", "c", "add"), ("bob", "c", "add"), ("ann", "d", "add"), ("ann", "c", "read"), ("an", "c", "add")]
        {
            messages.push(message_of(user, cube, label, &number.to_string()));
        }
    }
    submit(&scheduler, &messages).await;
    scheduler.start();
    settle(&scheduler).await;
    scheduler.stop().await;
    let batches = batches.lock().unwrap();
    let mut of_groups: BTreeMap<Group, Vec<String>> = BTreeMap::new();
    for batch in batches.iter() {
        assert!((1..=3).contains(&batch.len()), "{batch:?}");
        assert!(batch.iter().all(|message| group(message) == group(&batch[0])), "{batch:?}");
        of_groups.entry(group(&batch[0])).or_default().extend(batch.iter().map(|message| message.content.clone()));
    }
    assert_eq!(of_groups.len(), 5);
    assert!(of_groups.values().all(|contents| *contents == ["0", "1", "2", "3", "4"]), "{of_groups:?}");
    assert!(batches.iter().any(|batch| batch.len() == 3), "what follows is done together");
}

async fn what_is_urgent_goes_before_what_waits(stores: Stores) {
    let options = SchedulerOptions { workers: 1, batch: 1, ..options() };
    let (scheduler, seen) = (scheduler(&stores, options), Seen::default());
    scheduler.register_handlers([("query", noting(&seen)), ("mem_read", noting(&seen))]).unwrap();
    scheduler.register_handlers([("soon", noting(&seen).priority(Priority::Level2))]).unwrap();
    let messages = [
        message("mem_read", "first"),
        message("mem_read", "second"),
        message("soon", "soon"),
        message("query", "urgent"),
    ];
    submit(&scheduler, &messages).await;
    scheduler.start();
    settle(&scheduler).await;
    assert_eq!(seen.all(), ["urgent", "soon", "first", "second"]);
    scheduler.stop().await;
}

async fn handlers_come_and_go(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let job_priority = |label: &str| scheduler.job(&message(label, "x")).unwrap().priority;
    assert_eq!(job_priority("sort"), Priority::Level3.of_jobs());
    scheduler.register_handlers([("sort", noting(&seen).priority(Priority::Level1))]).unwrap();
    assert_eq!(scheduler.handlers(), ["sort"]);
    assert_eq!(job_priority("sort"), Priority::Level1.of_jobs());
    let labels = ["sort".to_owned(), "nobody".to_owned()];
    let had_one = scheduler.unregister_handlers(&labels);
    assert_eq!(had_one, BTreeMap::from([("nobody".to_owned(), false), ("sort".to_owned(), true)]));
    assert!(scheduler.handlers().is_empty());
    assert_eq!(scheduler.unregister_handlers(&labels).values().filter(|had_one| **had_one).count(), 0);
    assert_eq!(job_priority("sort"), Priority::Level1.of_jobs(), "its urgency stays");
    scheduler.start();
    let orphan = message("sort", "orphan");
    submit(&scheduler, [&orphan]).await;
    settle(&scheduler).await;
    assert!(reason_of(&scheduler, &orphan).await.contains("`sort`"));
    scheduler.register_handlers([("sort", noting(&seen))]).unwrap();
    assert_eq!(job_priority("sort"), Priority::Level1.of_jobs(), "and the next handler has it");
    let next = message("sort", "next");
    submit(&scheduler, [&next]).await;
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &next).await, Some(ItemState::Completed));
    assert_eq!(seen.all(), ["next"]);
    scheduler.stop().await;
}

#[tokio::test(start_paused = true)]
async fn weights_can_be_changed_while_it_works() {
    let stores = in_memory();
    let options = SchedulerOptions { workers: 1, batch: 1, weights: Weights::new([("a".into(), 3)]), ..options() };
    let (scheduler, seen, gate) = (scheduler(&stores, options), Seen::default(), Arc::new(Semaphore::new(0)));
    scheduler.register_handlers([("add", noting(&seen)), ("wait", gated(&seen, &gate))]).unwrap();
    scheduler.start();
    // What is handled in one round: the only worker is busy until all are in the queue.
    let round = async || {
        let (first, n_before) = (message_of("ann", "z", "wait", "z"), seen.all().len());
        submit(&scheduler, [&first]).await;
        until("the worker is busy", async || seen.all().len() > n_before).await;
        let messages: Vec<_> = ["a", "b"]
            .iter()
            .flat_map(|cube| (0..4).map(move |number| message_of(&format!("user {number}"), cube, "add", cube)))
            .collect();
        submit(&scheduler, &messages).await;
        gate.add_permits(1);
        settle(&scheduler).await;
        seen.all().split_off(n_before + 1)
    };
    assert_eq!(round().await, ["a", "a", "a", "b", "a", "b", "b", "b"]);
    scheduler.set_weights(Weights::new([("b".into(), 3)]));
    assert_eq!(scheduler.weights().of(&"b".into()), 3);
    assert_eq!(round().await, ["a", "b", "b", "b", "a", "b", "a", "a"]);
    scheduler.stop().await;
}

#[tokio::test(start_paused = true)]
async fn there_are_handlers_for_so_many_labels_only() {
    let stores = in_memory();
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    let labels = (0..257).map(|number| (format!("label {number:03}"), noting(&seen)));
    let error = scheduler.register_handlers(labels).unwrap_err();
    assert!(matches!(&error, mos_core::StoreError::Full { limit: 256, .. }), "{error}");
    assert!(error.to_string().contains("`label 256`"), "{error}");
    assert_eq!(scheduler.handlers().len(), 256);
    scheduler.register_handlers([("label 000", noting(&seen))]).unwrap();
}
