//! Where messages and tasks stand, and what is told about them.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{BoxError, Scope};
use mos_scheduler::event::{ADD_MEMORY, KEPT_EVENTS, TASK_STATUS};
use mos_scheduler::{
    Event, EventLog, EventSink, HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage, Scheduler,
    SchedulerOptions,
};
use tokio::sync::Semaphore;

use super::{
    Seen, Stores, gated, in_memory, message, noting, of_task, on_every_store, options, reason_of, scheduler,
    scheduler_telling, scope_of, settle, state_of, status_of, submit, until,
};

on_every_store!(
    a_message_is_seen_through_its_life,
    a_message_that_waits_can_be_taken_back,
    a_task_whose_last_open_message_is_taken_back_has_ended,
    a_task_has_failed_when_one_of_its_messages_has,
    the_end_of_a_task_is_told_once,
    tasks_that_have_ended_are_forgotten_the_oldest_first,
    more_open_tasks_than_are_kept_are_forgotten_once_they_have_ended,
    events_are_kept_up_to_a_number,
);

fn refusing() -> Registration {
    Registration::new(|_: HandlerContext, _: Vec<ScheduleMessage>| async {
        Err::<(), _>(HandlerError::give_up("it never will"))
    })
}

async fn a_message_is_seen_through_its_life(stores: Stores) {
    let (scheduler, seen, gate) = (scheduler(&stores, options()), Seen::default(), Arc::new(Semaphore::new(0)));
    scheduler.register_handlers([("add", gated(&seen, &gate)), ("refuse", refusing())]).unwrap();
    let (good, bad) = (message("add", "good"), message("refuse", "bad"));
    assert_eq!(status_of(&scheduler, &good).await, None);
    submit(&scheduler, [&good, &bad]).await;
    assert_eq!(state_of(&scheduler, &good).await, Some(ItemState::Waiting));
    let stats = scheduler.queue_status(&scope_of(&good)).await.unwrap();
    assert_eq!((stats.waiting, stats.claimed, stats.dead), (2, 0, 0));
    scheduler.start();
    until("the handler begins", async || seen.count("good") == 1).await;
    assert_eq!(state_of(&scheduler, &good).await, Some(ItemState::InProgress));
    assert!(!scheduler.cancel(&scope_of(&good), &good.item_id).await.unwrap(), "it is too late");
    until("one is left", async || scheduler.running().len() == 1).await;
    let running = scheduler.running();
    assert_eq!((running[0].task_name.as_str(), running[0].status), ("add_handler", "running"));
    assert_eq!(running[0].messages, std::slice::from_ref(&good.item_id));
    gate.add_permits(1);
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &good).await, Some(ItemState::Completed));
    assert_eq!(reason_of(&scheduler, &bad).await, "it never will");
    assert!(scheduler.running().is_empty());
    let stats = scheduler.queue_status(&scope_of(&good)).await.unwrap();
    assert_eq!((stats.waiting, stats.claimed, stats.dead), (0, 0, 1));
    scheduler.stop().await;
}

async fn a_message_that_waits_can_be_taken_back(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen))]).unwrap();
    let (kept, taken) = (of_task("task", message("add", "kept")), of_task("task", message("add", "taken")));
    let alone = of_task("alone", message("add", "alone"));
    submit(&scheduler, [&kept, &taken, &alone]).await;
    let scope = scope_of(&kept);
    for message in [&taken, &alone] {
        assert!(scheduler.cancel(&scope, &message.item_id).await.unwrap());
        assert!(!scheduler.cancel(&scope, &message.item_id).await.unwrap(), "there is nothing left to take back");
        assert_eq!(state_of(&scheduler, message).await, Some(ItemState::Cancelled));
    }
    assert!(!scheduler.cancel(&scope, "nobody").await.unwrap());
    let task = scheduler.task_status(&scope, "alone").await.unwrap().unwrap();
    assert_eq!(task.status, ItemState::Cancelled);
    let task = scheduler.task_status(&scope, "task").await.unwrap().unwrap();
    assert_eq!(task.status, ItemState::InProgress, "one still waits");
    assert_eq!(words_of(&scheduler, &scope, "alone").await, ["cancelled"], "nothing is left of it");
    assert!(words_of(&scheduler, &scope, "task").await.is_empty());
    scheduler.start();
    settle(&scheduler).await;
    assert_eq!(seen.all(), ["kept"]);
    let task = scheduler.task_status(&scope, "task").await.unwrap().unwrap();
    assert_eq!(task.status, ItemState::Completed);
    assert_eq!(words_of(&scheduler, &scope, "task").await, ["completed"]);
    scheduler.stop().await;
}

async fn a_task_whose_last_open_message_is_taken_back_has_ended(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen)), ("refuse", refusing())]).unwrap();
    let done = of_task("task", message("add", "done"));
    let (bad, worse) = (of_task("task", message("refuse", "bad")), of_task("task", message("refuse", "worse")));
    let scope = scope_of(&done);
    submit(&scheduler, [&done, &bad]).await;
    scheduler.start();
    settle(&scheduler).await;
    scheduler.stop().await;
    submit(&scheduler, [&worse]).await;
    assert!(scheduler.cancel(&scope, &worse.item_id).await.unwrap());
    assert_eq!(words_of(&scheduler, &scope, "task").await, ["failed", "failed"], "it was opened and ended anew");
    assert!(scheduler.cancel(&scope, &bad.item_id).await.unwrap());
    let words = words_of(&scheduler, &scope, "task").await;
    assert_eq!(words, ["failed", "failed", "completed"], "what failed is taken back");
}

/// The words with which the end of a task was told.
async fn words_of(scheduler: &Scheduler, scope: &Scope, task: &str) -> Vec<String> {
    let events = scheduler.events().events(scope, 0, KEPT_EVENTS).await.unwrap();
    let events = events.into_iter().map(|recorded| recorded.event);
    let ends = events.filter(|event| event.label == TASK_STATUS && event.task_id.as_deref() == Some(task));
    ends.map(|event| event.status.unwrap()).collect()
}

async fn a_task_has_failed_when_one_of_its_messages_has(stores: Stores) {
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen)), ("refuse", refusing())]).unwrap();
    let messages = [message("add", "a"), message("refuse", "b"), message("add", "c")].map(|one| of_task("task", one));
    let scope = scope_of(&messages[0]);
    assert_eq!(scheduler.task_status(&scope, "task").await.unwrap(), None);
    submit(&scheduler, &messages).await;
    let task = scheduler.task_status(&scope, "task").await.unwrap().unwrap();
    assert_eq!(task.status, ItemState::InProgress);
    scheduler.start();
    settle(&scheduler).await;
    let task = scheduler.task_status(&scope, "task").await.unwrap().unwrap();
    assert_eq!(task.status, ItemState::Failed);
    let items: Vec<_> = task.items.iter().map(|item| (item.item_id.as_str(), item.status)).collect();
    let ids = messages.each_ref().map(|message| message.item_id.as_str());
    let expected = [(ids[0], ItemState::Completed), (ids[1], ItemState::Failed), (ids[2], ItemState::Completed)];
    assert_eq!(items, expected);
    assert_eq!(task.items[1].error.as_deref(), Some("it never will"));
    assert_eq!(words_of(&scheduler, &scope, "task").await, ["failed"]);
    // Somebody mends what was wrong: the task ends anew, and otherwise.
    scheduler.register_handlers([("refuse", noting(&seen))]).unwrap();
    scheduler.retry(&scope, std::slice::from_ref(&messages[1].item_id)).await.unwrap();
    settle(&scheduler).await;
    assert_eq!(words_of(&scheduler, &scope, "task").await, ["failed", "completed"]);
    scheduler.stop().await;
}

async fn the_end_of_a_task_is_told_once(stores: Stores) {
    let (scheduler, seen, gate) = (scheduler(&stores, options()), Seen::default(), Arc::new(Semaphore::new(0)));
    scheduler.register_handlers([("add", gated(&seen, &gate)), ("read", gated(&seen, &gate))]).unwrap();
    // One batch has several messages of the task, and two batches end together.
    let messages = [message("add", "a"), message("add", "b"), message("read", "c")].map(|one| of_task("task", one));
    let scope = scope_of(&messages[0]);
    submit(&scheduler, &messages).await;
    scheduler.start();
    until("all are in progress", async || seen.all().len() == 3).await;
    assert!(words_of(&scheduler, &scope, "task").await.is_empty());
    gate.add_permits(2);
    settle(&scheduler).await;
    assert_eq!(words_of(&scheduler, &scope, "task").await, ["completed"]);
    // What joins a task that has ended opens it again.
    let late = of_task("task", message("add", "d"));
    submit(&scheduler, [&late]).await;
    let task = scheduler.task_status(&scope, "task").await.unwrap().unwrap();
    assert_eq!((task.status, task.items.len()), (ItemState::InProgress, 4));
    gate.add_permits(1);
    settle(&scheduler).await;
    assert_eq!(words_of(&scheduler, &scope, "task").await, ["completed", "completed"]);
    scheduler.stop().await;
}

async fn tasks_that_have_ended_are_forgotten_the_oldest_first(stores: Stores) {
    let options = SchedulerOptions { kept_tasks: 2, ..options() };
    let (scheduler, seen, gate) = (scheduler(&stores, options), Seen::default(), Arc::new(Semaphore::new(0)));
    scheduler.register_handlers([("add", noting(&seen)), ("wait", gated(&seen, &gate))]).unwrap();
    scheduler.start();
    let open = of_task("open", message("wait", "x"));
    submit(&scheduler, [&open]).await;
    for task in ["one", "two", "three"] {
        let message = of_task(task, message("add", task));
        submit(&scheduler, [&message]).await;
        until("it is done", async || state_of(&scheduler, &message).await == Some(ItemState::Completed)).await;
    }
    let mut states = Vec::new();
    for task in ["open", "one", "two", "three"] {
        let status = scheduler.task_status(&scope_of(&open), task).await.unwrap();
        states.push(status.map(|task| task.status));
    }
    assert_eq!(states, [Some(ItemState::InProgress), None, None, Some(ItemState::Completed)]);
    gate.add_permits(1);
    settle(&scheduler).await;
    assert_eq!(words_of(&scheduler, &scope_of(&open), "open").await, ["completed"]);
    scheduler.stop().await;
}

/// The tasks of a cube that have a document.
async fn known_tasks(stores: &Stores, scope: &Scope) -> Vec<String> {
    let keys = stores.state.keys(scope, "scheduler/task/", None, 100).await.unwrap();
    keys.iter().filter_map(|key| key.strip_prefix("scheduler/task/")).map(str::to_owned).collect()
}

async fn more_open_tasks_than_are_kept_are_forgotten_once_they_have_ended(stores: Stores) {
    let options = SchedulerOptions { kept_tasks: 2, ..options() };
    let (scheduler, seen) = (scheduler(&stores, options), Seen::default());
    scheduler.register_handlers([("add", noting(&seen))]).unwrap();
    let open: Vec<_> = (1..=9).map(|number| of_task(&format!("open{number}"), message("add", "x"))).collect();
    let scope = scope_of(&open[0]);
    for message in &open {
        submit(&scheduler, [message]).await;
    }
    assert_eq!(known_tasks(&stores, &scope).await.len(), 9, "none is lost while it waits");
    scheduler.start();
    settle(&scheduler).await;
    for number in 1..=9 {
        assert_eq!(words_of(&scheduler, &scope, &format!("open{number}")).await, ["completed"]);
    }
    for task in ["one", "two", "three", "four"] {
        submit(&scheduler, [&of_task(task, message("add", task))]).await;
        settle(&scheduler).await;
    }
    assert_eq!(known_tasks(&stores, &scope).await, ["four", "three"], "nothing stays that no list knows of");
    scheduler.stop().await;
}

async fn events_are_kept_up_to_a_number(stores: Stores) {
    let log = EventLog::new(Arc::clone(&stores.state), Vec::new());
    let source = message("add", "x");
    let scope = scope_of(&source);
    let event = |number: usize| {
        Event::of(&source, ADD_MEMORY, &number.to_string(), format!("memory {number}"), stores.clock.now())
    };
    log.record(&scope, (1..=KEPT_EVENTS).map(event).collect()).await.unwrap();
    let mut listener = log.subscribe();
    log.record(&scope, (KEPT_EVENTS + 1..=KEPT_EVENTS + 5).map(event).collect()).await.unwrap();
    log.record(&scope, Vec::new()).await.unwrap();
    let events = log.events(&scope, 0, 2 * KEPT_EVENTS).await.unwrap();
    assert_eq!((events.len(), events[0].sequence), (KEPT_EVENTS, 6));
    assert_eq!(events[0].event.log_content, "memory 6");
    let newest = log.events(&scope, KEPT_EVENTS as u64 + 3, 2 * KEPT_EVENTS).await.unwrap();
    let newest: Vec<_> = newest.into_iter().map(|recorded| recorded.event.log_content).collect();
    assert_eq!(newest, ["memory 1004", "memory 1005"]);
    assert!(log.events(&Scope::of(&"other".into()), 0, 10).await.unwrap().is_empty(), "other cubes have their own");
    for number in KEPT_EVENTS + 1..=KEPT_EVENTS + 5 {
        assert_eq!(listener.try_recv().unwrap().log_content, format!("memory {number}"));
    }
    assert!(listener.try_recv().is_err(), "nothing else happened");
}

/// Publishes nothing.
#[derive(Debug)]
struct Unreachable;

#[async_trait]
impl EventSink for Unreachable {
    async fn publish(&self, _: &Event) -> Result<(), BoxError> {
        Err("the broker is away".into())
    }
}

/// Panics without a word on the screen.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl EventSink for Broken {
    async fn publish(&self, _: &Event) -> Result<(), BoxError> {
        std::panic::resume_unwind(Box::new("the wheel came off".to_owned()))
    }
}

/// Hands events on.
#[derive(Debug)]
struct Listening(Seen);

#[async_trait]
impl EventSink for Listening {
    async fn publish(&self, event: &Event) -> Result<(), BoxError> {
        self.0.note(&event.log_content);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_or_panics_does_not_fail_the_handler() {
    let (stores, published) = (in_memory(), Seen::default());
    let sinks: Vec<Arc<dyn EventSink>> =
        vec![Arc::new(Unreachable), Arc::new(Broken), Arc::new(Listening(published.clone()))];
    let scheduler = scheduler_telling(&stores, options(), sinks);
    let handler = |context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
        let events = messages.iter().map(|one| Event::of(one, ADD_MEMORY, "m", "a memory", context.clock.now()));
        context.record(events.collect()).await
    };
    scheduler.register_handlers([("add", Registration::new(handler))]).unwrap();
    scheduler.start();
    let (first, last) = (message("add", "x"), of_task("task", message("add", "y")));
    submit(&scheduler, [&first]).await;
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &first).await, Some(ItemState::Completed));
    assert_eq!(scheduler.metrics()["add"].retried, 0);
    let events = scheduler.events().events(&scope_of(&first), 0, 10).await.unwrap();
    assert_eq!((events.len(), events[0].event.label.as_str()), (1, ADD_MEMORY), "it is in the log");
    assert_eq!(published.all(), ["a memory"], "and the other sink has it");
    submit(&scheduler, [&last]).await;
    settle(&scheduler).await;
    assert_eq!(words_of(&scheduler, &scope_of(&last), "task").await, ["completed"], "nor the end of a task");
    assert!(scheduler.running().is_empty());
    scheduler.stop().await;
}

/// A task that is full refuses the messages of another one too, which then knows nothing of them.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_full_leaves_no_trace_in_others() {
    let stores = in_memory();
    let scheduler = scheduler(&stores, options());
    let full: Vec<_> = (0..1_000).map(|number| of_task("full", message("add", &number.to_string()))).collect();
    submit(&scheduler, &full).await;
    let (one, other) = (of_task("also", message("add", "a")), of_task("full", message("add", "b")));
    let error = scheduler.submit_messages(vec![one.clone(), other]).await.unwrap_err();
    assert!(matches!(&error, mos_core::StoreError::Full { limit: 1_000, .. }), "{error}");
    assert_eq!(scheduler.task_status(&scope_of(&one), "also").await.unwrap(), None);
    assert_eq!(status_of(&scheduler, &one).await, None);
}
