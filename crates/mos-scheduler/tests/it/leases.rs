//! How long a message stays with a consumer that says nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mos_core::{Clock, JobId, JobState, RandomIds, Scope};
use mos_scheduler::{
    HandlerContext, HandlerError, Registration, ScheduleMessage, Scheduler, SchedulerOptions, SchedulerParts,
};
use mos_stores::InMemoryStore;

use crate::support::{BareCubes, RuntimeClock, StateInMemory};

const LEASE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(600);

/// A handler that never ends, and counts how often it begins.
fn endless(n_begun: &Arc<AtomicUsize>) -> Registration {
    let n_begun = Arc::clone(n_begun);
    Registration::new(move |_: HandlerContext, _: Vec<ScheduleMessage>| {
        n_begun.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<(), HandlerError>>()
    })
}

/// How long it takes until another consumer gets a message.
async fn left(scheduler: &Scheduler, clock: &dyn Clock, item_id: &str) -> Duration {
    match scheduler.queue().find(&Scope::of(&"cube".into()), &JobId::new(item_id)).await.unwrap() {
        Some(JobState::Claimed { until, .. }) => Duration::try_from(until.duration_since(clock.now())).unwrap(),
        other => panic!("`{item_id}` is not being handled: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_patient_handler_does_not_make_the_messages_of_others_wait() {
    let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::new());
    let store = InMemoryStore::new(Arc::clone(&clock));
    let scheduler = Scheduler::new(SchedulerParts {
        queue: store.clone(),
        state: Arc::new(StateInMemory::default()),
        cubes: Arc::new(BareCubes::new(store, Arc::clone(&clock))),
        clock: Arc::clone(&clock),
        ids: Arc::new(RandomIds),
        sinks: Vec::new(),
        options: SchedulerOptions { lease: LEASE, limit: PATIENCE * 10, ..SchedulerOptions::default() },
    });
    let n_begun = Arc::new(AtomicUsize::new(0));
    let handlers = [("usual", endless(&n_begun)), ("patient", endless(&n_begun).min_idle(PATIENCE))];
    scheduler.register_handlers(handlers).unwrap();
    scheduler.start();
    let messages = ["usual", "patient"].map(|label| {
        let mut message = ScheduleMessage::new(label, "ann", "cube", "", &*clock, &RandomIds);
        message.item_id = label.to_owned();
        message
    });
    scheduler.submit_messages(messages.into()).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(LEASE / 2).await;
        assert!(left(&scheduler, &*clock, "usual").await < LEASE * 2);
        assert!(left(&scheduler, &*clock, "patient").await > LEASE);
    }
    assert_eq!(n_begun.load(Ordering::SeqCst), 2, "leases are kept as long as handlers work: each is begun once");
    scheduler.crash().await;
}
