//! Whatever is asked of them, in whatever order, every queue answers as the one in memory does.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{ClaimRequest, Clock, JobId, JobQueue, NewJob, Paging, Scope, StoreError, Ticket};
use mos_stores::{InMemoryStore, QueueLimits, SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use proptest::prelude::*;
use serde_json::json;

/// Something that is asked. Tickets are told by their place among all that were ever given.
#[derive(Clone, Debug)]
enum Step {
    Push(usize, Vec<NewJob>),
    Claim(usize, u64),
    Follow(usize, usize, u64),
    Complete(usize),
    Extend(usize, u64),
    Release(usize),
    Fail(usize, Option<u64>),
    Remove(usize, Vec<JobId>),
    RetryDead(usize, Vec<JobId>),
    RemoveTenant(usize),
    Pass(u64),
}

const LIMITS: QueueLimits = QueueLimits {
    max_payload_bytes: 100,
    max_jobs_per_push: 4,
    max_bytes_per_push: 1000,
    max_jobs_per_tenant: 8,
    max_finished_ids: 1000,
    finished_age: Duration::from_secs(30),
};

fn scope(number: usize) -> Scope {
    Scope { cube: ["a", "b c"][number].into() }
}

fn id() -> impl Strategy<Value = JobId> {
    (0..12_u8).prop_map(|number| JobId::new(format!("job {number}")))
}

fn job() -> impl Strategy<Value = NewJob> {
    let group = proptest::option::weighted(0.6, prop_oneof!["g", "h"]);
    let not_before = proptest::option::weighted(0.2, 0..20_i64);
    let kind = proptest::bool::weighted(0.8).prop_map(|is_usual| if is_usual { "label" } else { "other" });
    let times = (not_before, 1..4_u32);
    (id(), kind, group, 0..3_u8, times).prop_map(|(id, kind, group, priority, (not_before, max_attempts))| NewJob {
        group,
        priority: priority * 100,
        not_before: not_before.map(|by| SetClock::default().now() + Duration::from_secs(by.unsigned_abs())),
        max_attempts,
        ..NewJob::new(id, kind, json!({"n": 1}))
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ids = || proptest::collection::vec(id(), 1..4);
    let step = prop_oneof![
        6 => (0..2_usize, proptest::collection::vec(job(), 0..5)).prop_map(|(scope, jobs)| Step::Push(scope, jobs)),
        6 => (1..4_usize, 1..20_u64).prop_map(|(limit, lease)| Step::Claim(limit, lease)),
        5 => (any::<usize>(), 0..4_usize, 1..20_u64)
            .prop_map(|(ticket, limit, lease)| Step::Follow(ticket, limit, lease)),
        4 => any::<usize>().prop_map(Step::Complete),
        1 => (any::<usize>(), 1..20_u64).prop_map(|(ticket, lease)| Step::Extend(ticket, lease)),
        2 => any::<usize>().prop_map(Step::Release),
        4 => (any::<usize>(), proptest::option::weighted(0.7, 0..10_u64)).prop_map(|(at, retry)| Step::Fail(at, retry)),
        1 => (0..2_usize, ids()).prop_map(|(scope, ids)| Step::Remove(scope, ids)),
        2 => (0..2_usize, ids()).prop_map(|(scope, ids)| Step::RetryDead(scope, ids)),
        1 => (0..2_usize).prop_map(Step::RemoveTenant),
        3 => (1..8_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

/// One queue, its clock, and the tickets it gave.
struct Run {
    queue: Arc<dyn JobQueue>,
    clock: Arc<SetClock>,
    tickets: Vec<Ticket>,
}

/// The kind of an error is part of the behaviour, its words need not be.
fn outcome<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(StoreError::Conflict(_)) => "conflict".to_owned(),
        Err(StoreError::Full { .. }) => "full".to_owned(),
        Err(StoreError::Invalid(_)) => "invalid".to_owned(),
        Err(other) => panic!("{other}: {other:?}"),
    }
}

impl Run {
    fn ticket(&self, at: usize) -> Option<&Ticket> {
        (!self.tickets.is_empty()).then(|| &self.tickets[at % self.tickets.len()])
    }

    async fn take(&mut self, step: &Step) -> String {
        let queue = &self.queue;
        match step {
            Step::Push(of, jobs) => outcome(queue.push(&scope(*of), jobs.clone()).await),
            Step::Claim(limit, lease) => {
                let lease = Duration::from_secs(*lease);
                let request = ClaimRequest {
                    consumer: "worker".to_owned(),
                    limit: *limit,
                    lease,
                    weights: mos_core::Weights::default(),
                };
                let claimed = queue.claim(&request).await;
                self.tickets.extend(claimed.iter().flatten().map(|one| one.ticket.clone()));
                outcome(claimed)
            }
            Step::Follow(at, limit, lease) => {
                let Some(ticket) = self.ticket(*at) else { return String::new() };
                let claimed = queue.claim_following(ticket, *limit, Duration::from_secs(*lease)).await;
                self.tickets.extend(claimed.iter().flatten().map(|one| one.ticket.clone()));
                outcome(claimed)
            }
            Step::Remove(of, ids) => outcome(queue.remove(&scope(*of), ids).await),
            Step::RetryDead(of, ids) => outcome(queue.retry_dead(&scope(*of), ids).await),
            Step::RemoveTenant(of) => outcome(queue.remove_tenant(&scope(*of)).await),
            Step::Pass(seconds) => {
                self.clock.advance(Duration::from_secs(*seconds));
                String::new()
            }
            Step::Complete(at) | Step::Extend(at, _) | Step::Release(at) | Step::Fail(at, _) => {
                let Some(ticket) = self.ticket(*at) else { return String::new() };
                match step {
                    Step::Complete(_) => outcome(queue.complete(ticket).await),
                    Step::Extend(_, lease) => outcome(queue.extend(ticket, Duration::from_secs(*lease)).await),
                    Step::Release(_) => outcome(queue.release(ticket).await),
                    Step::Fail(_, retry) => {
                        let retry_at = retry.map(|by| self.clock.now() + Duration::from_secs(by));
                        outcome(queue.fail(ticket, "broken", retry_at).await)
                    }
                    _ => unreachable!("only these have tickets"),
                }
            }
        }
    }

    /// Everything that can be seen from outside.
    async fn look(&self) -> String {
        let mut seen = format!("{:?} {:?}\n", self.queue.tenants().await.unwrap(), self.next().await);
        for scope in [scope(0), scope(1)] {
            let mut dead = self.queue.dead(&scope, Paging::ALL).await.unwrap();
            // Which of those that died at the same moment is told first is left open.
            dead.entries.sort_by(|one, other| (one.died_at, &one.job.id).cmp(&(other.died_at, &other.job.id)));
            seen.push_str(&format!("{:?}\n{dead:?}\n", self.queue.stats(&scope).await.unwrap()));
            for number in 0..12 {
                let id = JobId::new(format!("job {number}"));
                seen.push_str(&format!("{number}: {:?}\n", self.queue.find(&scope, &id).await.unwrap()));
            }
        }
        seen
    }

    async fn next(&self) -> Option<jiff::Timestamp> {
        self.queue.next_ready_at().await.unwrap()
    }
}

async fn compare(steps: &[Step], mut one: Run, mut other: Run) {
    for (number, step) in steps.iter().enumerate() {
        let (expected, found) = (one.take(step).await, other.take(step).await);
        assert_eq!(found, expected, "step {number}: {step:?}");
        assert_eq!(other.look().await, one.look().await, "after step {number}: {step:?}");
    }
}

fn run_of(make: impl FnOnce(Arc<SetClock>) -> Arc<dyn JobQueue>) -> Run {
    let clock = Arc::new(SetClock::default());
    Run { queue: make(Arc::clone(&clock)), clock, tickets: Vec::new() }
}

fn in_memory() -> Run {
    run_of(|clock| InMemoryStore::with_queue_limits(clock, LIMITS))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn cases(n_cases: u32) -> ProptestConfig {
    let n_cases = if std::env::var_os("MOS_TEST_LONG").is_some() { n_cases * 20 } else { n_cases };
    ProptestConfig { cases: n_cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn sqlite_and_memory_answer_alike(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let options = SqliteOptions { queue: LIMITS, ..SqliteOptions::at(folder.path().join("mos.db")) };
            let mut store = None;
            let sqlite = run_of(|clock| Arc::clone(store.insert(SqliteStore::open(options, clock).unwrap())) as _);
            compare(&steps, in_memory(), sqlite).await;
            let findings = store.unwrap().check().await.unwrap();
            assert!(findings.is_empty(), "{findings:?}");
        });
    }
}

#[cfg(feature = "redis")]
#[test]
fn redis_and_memory_answer_alike() {
    use mos_stores::{RedisOptions, RedisQueue};
    use std::sync::atomic::{AtomicU64, Ordering};

    let Some(server) = super::redis_server::RedisServer::start(&["--appendonly", "no"]) else { return };
    let n_runs = AtomicU64::new(0);
    proptest!(cases(60), |(steps in steps())| {
        runtime().block_on(async {
            let mut options = RedisOptions::from_url(&server.url()).unwrap();
            options.prefix = format!("run-{}", n_runs.fetch_add(1, Ordering::SeqCst));
            options.limits = LIMITS;
            let clock = Arc::new(SetClock::default());
            let queue = RedisQueue::open(options, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
            compare(&steps, in_memory(), Run { queue, clock, tickets: Vec::new() }).await;
        });
    });
}
