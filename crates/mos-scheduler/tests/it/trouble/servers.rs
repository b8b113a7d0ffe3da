//! Disks that are full, servers that are away, and processes that share one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mos_core::StoreError;
use mos_scheduler::{HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage, SchedulerOptions};
use mos_stores::SqliteOptions;
use mos_testkit::power_loss::{Disk, WriteFault};
use tokio::sync::{Barrier, Semaphore};

use super::{
    PATIENCE, RedisServer, Seen, gated, message, message_of, noting, of_task, on_redis, on_sqlite, options, scheduler,
    scope_of, settle, sqlite, state_of, status_of, submit, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_messages_and_loses_none() {
    let disk = Disk::new();
    let stores = sqlite(SqliteOptions { vfs: Some(disk.vfs().to_owned()), ..SqliteOptions::at("/mos.db") });
    let (scheduler, seen) = (scheduler(&stores, options()), Seen::default());
    scheduler.register_handlers([("add", noting(&seen))]).unwrap();
    let before = message("add", "before");
    submit(&scheduler, [&before]).await;
    disk.fail_writes(Some(WriteFault::Full));
    let (during, in_task) = (message("add", "during"), of_task("task", message("add", "in a task")));
    for refused in [&during, &in_task] {
        let error = scheduler.submit_messages(vec![refused.clone()]).await.unwrap_err();
        assert!(matches!(&error, StoreError::Storage { .. }), "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
        assert_eq!(status_of(&scheduler, refused).await, None, "refused is refused");
    }
    assert_eq!(scheduler.task_status(&scope_of(&in_task), "task").await.unwrap(), None);
    assert_eq!(state_of(&scheduler, &before).await, Some(ItemState::Waiting));
    disk.fail_writes(None);
    let after = message("add", "after");
    submit(&scheduler, [&during, &after]).await;
    scheduler.start();
    settle(&scheduler).await;
    assert_eq!(seen.all(), ["before", "during", "after"]);
    scheduler.stop().await;
}

/// The disk fills up while a handler works, and has room again before the scheduler no longer tries to say that it was
/// done.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_while_the_disk_was_full_is_written_down_later() {
    let disk = Disk::new();
    let stores = sqlite(SqliteOptions { vfs: Some(disk.vfs().to_owned()), ..SqliteOptions::at("/mos.db") });
    // A lease that ends soon: should the word come too late after all, the message is done again.
    let options = SchedulerOptions { lease: Duration::from_secs(5), ..options() };
    let (scheduler, seen, gate) = (scheduler(&stores, options), Seen::default(), Arc::new(Semaphore::new(0)));
    scheduler.register_handlers([("add", gated(&seen, &gate))]).unwrap();
    scheduler.start();
    let message = message("add", "work");
    submit(&scheduler, [&message]).await;
    until("the handler begins", async || seen.count("work") == 1).await;
    disk.fail_writes(Some(WriteFault::Full));
    gate.add_permits(10);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(state_of(&scheduler, &message).await, Some(ItemState::InProgress), "nobody could say that it is done");
    disk.fail_writes(None);
    settle(&scheduler).await;
    assert_eq!(state_of(&scheduler, &message).await, Some(ItemState::Completed));
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_delays_its_own_work_only() {
    let Some(mut server) = RedisServer::start() else { return };
    let (far, near) = (on_redis(&server).await, on_sqlite());
    // What is in hands when the server goes comes again when its lease is over.
    let patient = SchedulerOptions { lease: Duration::from_secs(3), max_attempts: 100, ..options() };
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let (away, here) = (scheduler(&far, patient), scheduler(&near, options()));
    away.register_handlers([("add", noting(&seen)), ("read", gated(&seen, &gate))]).unwrap();
    let near_by = Seen::default();
    here.register_handlers([("add", noting(&near_by))]).unwrap();
    away.start();
    here.start();
    let in_hands = message("read", "in hands");
    submit(&away, [&in_hands]).await;
    until("the handler begins", async || seen.count("in hands") == 1).await;
    let waiting: Vec<_> = (0..5).map(|number| message("read", &format!("waits {number}"))).collect();
    submit(&away, &waiting).await;
    server.kill();
    gate.add_permits(1_000);
    let refused = message("add", "refused");
    let error = away.submit_messages(vec![refused.clone()]).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { backend: "redis", .. }), "{error}");
    let work: Vec<_> = (0..20).map(|number| message("add", &format!("near {number}"))).collect();
    submit(&here, &work).await;
    settle(&here).await;
    assert_eq!(near_by.all().len(), work.len(), "other work goes on meanwhile");
    // A minute and more in the long run.
    let away_for = if std::env::var_os("MOS_TEST_LONG").is_some() { 65 } else { 2 };
    tokio::time::sleep(Duration::from_secs(away_for)).await;
    assert!(away.submit_messages(vec![refused.clone()]).await.is_err());
    assert!(away.is_running(), "it waits for the server");
    tokio::task::block_in_place(|| server.start_again());
    until("the server takes messages again", async || away.submit_messages(vec![refused.clone()]).await.is_ok()).await;
    let all_done = async || away.wait_until_idle(PATIENCE).await.is_ok_and(|is_idle| is_idle);
    until("what was accepted is done", all_done).await;
    for message in waiting.iter().chain([&in_hands, &refused]) {
        assert_eq!(state_of(&away, message).await, Some(ItemState::Completed), "{}", message.content);
        assert!(seen.count(&message.content) >= 1, "{}", message.content);
    }
    away.stop().await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_share_a_server_and_do_nothing_twice() {
    let Some(server) = RedisServer::start() else { return };
    let (seen, both) = (Seen::default(), Arc::new(Barrier::new(2)));
    let mut schedulers = Vec::new();
    for name in ["one", "two"] {
        // A connection of its own, as another process has.
        let stores = on_redis(&server).await;
        let options = SchedulerOptions { consumer: name.to_owned(), workers: 1, batch: 1, ..options() };
        let scheduler = scheduler(&stores, options);
        let (seen, both, has_met) = (seen.clone(), Arc::clone(&both), Arc::new(AtomicBool::new(false)));
        let handler = move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
            let (seen, both, has_met) = (seen.clone(), Arc::clone(&both), Arc::clone(&has_met));
            async move {
                // Each holds its first message until the other has one, so that both have a share.
                if !has_met.swap(true, Ordering::SeqCst) {
                    both.wait().await;
                }
                for message in &messages {
                    seen.note(&message.content);
                    seen.note(name);
                }
                Ok::<(), HandlerError>(())
            }
        };
        scheduler.register_handlers([("add", Registration::new(handler))]).unwrap();
        schedulers.push(scheduler);
    }
    let mut messages = Vec::new();
    for number in 0..60 {
        let (user, cube) = (format!("user {}", number % 2), format!("cube {}", number % 3));
        messages.push(message_of(&user, &cube, "add", &format!("message {number}")));
    }
    submit(&schedulers[0], &messages).await;
    schedulers.iter().for_each(mos_scheduler::Scheduler::start);
    settle(&schedulers[1]).await;
    settle(&schedulers[0]).await;
    for message in &messages {
        assert_eq!(seen.count(&message.content), 1, "{}", message.content);
        assert_eq!(state_of(&schedulers[1], message).await, Some(ItemState::Completed), "either can tell");
    }
    assert!(seen.count("one") > 0 && seen.count("two") > 0, "both work");
    let n_completed: u64 = schedulers.iter().map(|scheduler| scheduler.metrics()["add"].completed).sum();
    assert_eq!(n_completed, 60);
    for scheduler in &schedulers {
        scheduler.stop().await;
    }
}
