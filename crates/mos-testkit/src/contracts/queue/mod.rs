//! What every [`JobQueue`] must do.

mod failure;
mod following;
mod moving;
mod order;
mod record;
mod tenants;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use mos_core::{
    ClaimRequest, Claimed, Clock, JobId, JobQueue, JobState, NewJob, Page, Paging, QueueStats, Scope, StoreError,
};
use serde_json::json;

use super::samples::scope;
use crate::clock::SetClock;

pub use record::run_with_record;

/// Lease of the jobs that the suite claims.
const LEASE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// A queue, and the clock that it goes by.
struct Bench {
    queue: Arc<dyn JobQueue>,
    clock: Arc<SetClock>,
}

/// Runs the suite; `make` returns a fresh, empty queue that goes by the clock it is given and takes so many jobs per
/// tenant. The queue must take payloads of 900,000 bytes and refuse those of 2,000,000, and remember finished jobs for a
/// day and not for ten.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn(Arc<SetClock>, usize) -> Arc<dyn JobQueue>) {
    let bench_of = async |limit: usize| {
        let clock = Arc::new(SetClock::default());
        Bench { queue: make(Arc::clone(&clock), limit).await, clock }
    };
    let fresh = async || bench_of(2000).await;
    a_job_goes_its_way(&fresh().await).await;
    an_id_is_pushed_once(&fresh().await).await;
    finished_jobs_are_forgotten_in_the_end(&fresh().await).await;
    a_push_happens_whole_or_not_at_all(&bench_of(5).await).await;
    dead_jobs_take_room(&bench_of(2).await).await;
    what_is_pushed_comes_back_as_it_was(&fresh().await).await;
    bad_jobs_and_requests_are_refused(&fresh().await).await;
    waiting_ends_when_there_is_something_to_do(&fresh().await).await;
    order::higher_priorities_go_first(&fresh().await).await;
    order::a_group_keeps_its_order(&fresh().await).await;
    order::a_failed_job_holds_its_group_up(&fresh().await).await;
    order::a_group_goes_on_without_a_dead_or_removed_one(&fresh().await).await;
    order::nothing_is_claimed_before_its_time(&fresh().await).await;
    order::a_claim_is_bounded(&fresh().await).await;
    following::those_of_a_kind_follow_in_their_order(&fresh().await).await;
    following::what_is_not_ready_does_not_follow(&fresh().await).await;
    following::who_has_lost_the_first_gets_none(&fresh().await).await;
    following::a_group_waits_until_all_of_them_have_ended(&fresh().await).await;
    following::later_ones_that_come_back_wait_for_earlier_ones(&fresh().await).await;
    following::a_later_one_that_fails_keeps_its_time(&fresh().await).await;
    following::a_whole_batch_can_be_given_back(&fresh().await).await;
    following::an_earlier_one_that_comes_back_waits_for_later_ones(&fresh().await).await;
    following::a_group_goes_on_without_those_that_die_or_are_removed(&fresh().await).await;
    following::leases_of_a_batch_end_one_by_one(&fresh().await).await;
    following::silence_kills_a_batch_in_its_order(&fresh().await).await;
    following::a_removed_tenant_takes_its_batches_along(&fresh().await).await;
    failure::a_lease_that_is_over_frees_the_job(&fresh().await).await;
    failure::an_ended_ticket_does_nothing(&fresh().await).await;
    failure::a_lease_can_be_extended(&fresh().await).await;
    failure::a_released_job_has_lost_nothing(&fresh().await).await;
    failure::a_failed_job_is_tried_again_until_it_is_dead(&fresh().await).await;
    failure::silence_at_the_last_attempt_is_death(&fresh().await).await;
    failure::the_dead_are_listed_retried_and_removed(&fresh().await).await;
    tenants::tenants_take_turns(&fresh().await).await;
    tenants::a_weight_is_the_number_of_jobs_in_a_turn(&fresh().await).await;
    tenants::a_late_tenant_does_not_wait_behind_many_jobs(&fresh().await).await;
    tenants::a_tenant_keeps_its_place_when_the_next_of_a_group_steps_up(&fresh().await).await;
    tenants::what_is_due_at_once_goes_in_the_order_it_was_pushed(&fresh().await).await;
    tenants::tenants_are_walls(&fresh().await).await;
    tenants::a_removed_tenant_is_gone(&fresh().await).await;
    moving::a_queue_moves_as_it_is(&fresh().await, &fresh().await).await;
    moving::moving_again_changes_nothing(&fresh().await, &fresh().await).await;
    moving::pages_are_bounded_in_bytes(&fresh().await, &fresh().await).await;
    moving::what_has_no_room_or_is_bad_comes_not_at_all(&fresh().await, &bench_of(2).await).await;
    workers::each_job_is_done_once(&fresh().await, 0).await;
    workers::each_job_is_done_once(&fresh().await, 3).await;
    workers::what_dead_workers_had_is_done_by_others(&fresh().await).await;
    workers::pushers_of_the_same_jobs_do_not_double_them(&fresh().await).await;
}

fn id(text: &str) -> JobId {
    JobId::new(text)
}

fn ids(texts: &[&str]) -> Vec<JobId> {
    texts.iter().map(|text| id(text)).collect()
}

fn job(name: &str) -> NewJob {
    NewJob::new(id(name), "label", json!({"of": name}))
}

fn grouped(name: &str, group: &str) -> NewJob {
    NewJob { group: Some(group.to_owned()), ..job(name) }
}

fn jobs(names: &[&str]) -> Vec<NewJob> {
    names.iter().map(|name| job(name)).collect()
}

fn request(consumer: &str, limit: usize) -> ClaimRequest {
    ClaimRequest { consumer: consumer.to_owned(), limit, lease: LEASE, weights: mos_core::Weights::default() }
}

fn names(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|one| one.job.id.as_str()).collect()
}

fn assert_ended<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.expect_err("the ticket has ended");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
}

fn assert_full<T: std::fmt::Debug>(result: Result<T, StoreError>, limit: usize) {
    let error = result.expect_err("there is no room");
    assert!(matches!(error, StoreError::Full { limit: found, .. } if found == limit), "{error}");
}

impl Bench {
    async fn push(&self, scope: &Scope, jobs: Vec<NewJob>) {
        let n_jobs = jobs.len();
        let receipt = self.queue.push(scope, jobs).await.expect("the queue takes good jobs");
        assert_eq!((receipt.new.len(), receipt.known.len()), (n_jobs, 0), "all are new");
    }

    async fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.queue.claim(&request("worker", limit)).await.expect("claim")
    }

    /// Claims the one job that there is.
    async fn claim_one(&self) -> Claimed {
        let mut claimed = self.claim(10).await;
        assert_eq!(claimed.len(), 1, "there is one job to claim: {:?}", names(&claimed));
        claimed.remove(0)
    }

    async fn complete(&self, claimed: &[Claimed]) {
        for one in claimed {
            self.queue.complete(&one.ticket).await.expect("complete");
        }
    }

    async fn assert_nothing_to_claim(&self) {
        assert_eq!(names(&self.claim(10).await), Vec::<&str>::new());
    }

    async fn find(&self, scope: &Scope, name: &str) -> Option<JobState> {
        self.queue.find(scope, &id(name)).await.expect("find")
    }

    async fn stats(&self, scope: &Scope) -> QueueStats {
        self.queue.stats(scope).await.expect("stats")
    }

    /// Waiting, claimed and dead jobs.
    async fn counts(&self, scope: &Scope) -> (usize, usize, usize) {
        let stats = self.stats(scope).await;
        (stats.waiting, stats.claimed, stats.dead)
    }

    async fn dead(&self, scope: &Scope) -> Page<mos_core::DeadJob> {
        self.queue.dead(scope, Paging::ALL).await.expect("dead")
    }

    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    fn later(&self, by: Duration) -> jiff::Timestamp {
        self.now().checked_add(by).expect("a moment within the calendar")
    }
}

async fn a_job_goes_its_way(bench: &Bench) {
    let c = scope("c");
    assert_eq!(bench.find(&c, "a").await, None);
    assert_eq!(bench.stats(&c).await, QueueStats::default());
    assert_eq!(bench.queue.next_ready_at().await.expect("next"), None);
    bench.assert_nothing_to_claim().await;
    let pushed_at = bench.clock.now();
    bench.push(&c, jobs(&["a"])).await;
    bench.clock.advance(SECOND);
    assert_eq!(bench.find(&c, "a").await, Some(JobState::Waiting));
    let stats = bench.stats(&c).await;
    assert_eq!(stats, QueueStats { waiting: 1, claimed: 0, dead: 0, oldest: Some(pushed_at) });
    let next = bench.queue.next_ready_at().await.expect("next").expect("a job is ready");
    assert!(next <= bench.clock.now());
    let claimed = bench.claim_one().await;
    assert_eq!((&claimed.ticket.scope, &claimed.ticket.id), (&c, &id("a")));
    assert_eq!(claimed.until, bench.later(LEASE));
    assert_eq!((claimed.job.attempt, claimed.job.pushed_at), (1, pushed_at));
    let state = JobState::Claimed { consumer: "worker".to_owned(), until: claimed.until };
    assert_eq!(bench.find(&c, "a").await, Some(state));
    let stats = bench.stats(&c).await;
    assert_eq!(stats, QueueStats { waiting: 0, claimed: 1, dead: 0, oldest: Some(pushed_at) });
    assert_eq!(bench.queue.next_ready_at().await.expect("next"), Some(claimed.until), "when the lease is over");
    bench.assert_nothing_to_claim().await;
    bench.queue.complete(&claimed.ticket).await.expect("complete");
    bench.queue.complete(&claimed.ticket).await.expect("saying so again is no error");
    assert_eq!(bench.find(&c, "a").await, Some(JobState::Finished));
    assert_eq!(bench.stats(&c).await, QueueStats::default());
    assert_eq!(bench.queue.next_ready_at().await.expect("next"), None);
    bench.clock.advance(LEASE * 2);
    bench.assert_nothing_to_claim().await;
}

async fn an_id_is_pushed_once(bench: &Bench) {
    let c = scope("c");
    let receipt = bench.queue.push(&c, jobs(&["a", "b", "a"])).await.expect("push");
    assert_eq!((receipt.new, receipt.known), (ids(&["a", "b"]), ids(&["a"])), "within one push too");
    let other = NewJob { payload: json!("another"), ..job("a") };
    let receipt = bench.queue.push(&c, vec![other, job("c")]).await.expect("push");
    assert_eq!((receipt.new, receipt.known), (ids(&["c"]), ids(&["a"])));
    let claimed = bench.claim(10).await;
    assert_eq!(names(&claimed), ["a", "b", "c"]);
    assert_eq!(claimed[0].job.payload, json!({"of": "a"}), "the first one counts");
    let known = bench.queue.push(&c, jobs(&["a"])).await.expect("push").known;
    assert_eq!(known, ids(&["a"]), "a claimed one is known");
    bench.complete(&claimed).await;
    let known = bench.queue.push(&c, jobs(&["a"])).await.expect("push").known;
    assert_eq!(known, ids(&["a"]), "and a finished one");
    bench.assert_nothing_to_claim().await;
    bench.push(&c, jobs(&["d"])).await;
    let claimed = bench.claim_one().await;
    bench.queue.fail(&claimed.ticket, "broken", None).await.expect("fail");
    let known = bench.queue.push(&c, jobs(&["d"])).await.expect("push").known;
    assert_eq!(known, ids(&["d"]), "and a dead one");
    assert_eq!(bench.queue.push(&c, Vec::new()).await.expect("nothing"), mos_core::PushReceipt::default());
}

async fn finished_jobs_are_forgotten_in_the_end(bench: &Bench) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let c = scope("c");
    bench.push(&c, jobs(&["a"])).await;
    let first = bench.claim_one().await;
    bench.complete(std::slice::from_ref(&first)).await;
    bench.clock.advance(DAY);
    assert_eq!(bench.find(&c, "a").await, Some(JobState::Finished));
    bench.clock.advance(9 * DAY);
    assert_eq!(bench.find(&c, "a").await, None);
    bench.push(&c, jobs(&["a"])).await;
    assert_eq!(bench.find(&c, "a").await, Some(JobState::Waiting));
    let second = bench.claim_one().await;
    assert_ended(bench.queue.complete(&first.ticket).await);
    bench.complete(&[second]).await;
    assert_eq!(bench.find(&c, "a").await, Some(JobState::Finished));
}

/// The queue takes five jobs per tenant.
async fn a_push_happens_whole_or_not_at_all(bench: &Bench) {
    let c = scope("c");
    let bad = NewJob { max_attempts: 0, ..job("bad") };
    bench.queue.push(&c, vec![job("a"), bad]).await.expect_err("one is bad");
    assert_eq!(bench.counts(&c).await, (0, 0, 0));
    bench.push(&c, jobs(&["a", "b", "c"])).await;
    assert_full(bench.queue.push(&c, jobs(&["d", "e", "f"])).await, 5);
    assert_eq!(bench.counts(&c).await, (3, 0, 0), "nothing of it was added");
    assert_eq!(bench.find(&c, "d").await, None);
    bench.push(&c, jobs(&["d", "e"])).await;
    let known = bench.queue.push(&c, jobs(&["a", "b", "c", "a"])).await.expect("known ones need no room").known;
    assert_eq!(known.len(), 4);
    bench.push(&scope("other"), jobs(&["a"])).await;
    let claimed = bench.claim(1).await;
    assert_full(bench.queue.push(&c, jobs(&["f"])).await, 5);
    bench.complete(&claimed).await;
    bench.push(&c, jobs(&["f"])).await;
    assert_full(bench.queue.push(&c, jobs(&["g"])).await, 5);
    assert_eq!(names(&bench.claim(10).await).len(), 6, "all that was taken can be claimed");
}

/// The queue takes two jobs per tenant.
async fn dead_jobs_take_room(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, jobs(&["a", "b"])).await;
    let claimed = bench.claim(1).await;
    bench.queue.fail(&claimed[0].ticket, "broken", None).await.expect("fail");
    let error = bench.queue.push(&c, jobs(&["c"])).await.expect_err("no room");
    assert!(matches!(&error, StoreError::Full { detail, .. } if detail.contains("1 of them are dead")), "{error}");
    assert_eq!(bench.queue.remove(&c, &ids(&["a"])).await.expect("remove"), 1);
    bench.push(&c, jobs(&["c"])).await;
}

async fn what_is_pushed_comes_back_as_it_was(bench: &Bench) {
    let c = scope("c");
    let strange = [
        ("a/../b c", "kind:with {braces} 记忆 🦀", Some("group: {x} *"), json!({"z": 1, "a": [null, 1.5, "\u{0}\n"]})),
        ("x' OR '1'='1", "%s", None, json!(0.1 + 0.2)),
        ("记忆", "🦀", Some("%20"), json!("記".repeat(300_000))),
        ("number", "n", Some("a b"), json!([i64::MAX, i64::MIN, u64::MAX, 1e300, ""])),
    ];
    for (name, kind, group, payload) in strange {
        let new = NewJob {
            group: group.map(str::to_owned),
            priority: 255,
            max_attempts: u32::MAX,
            ..NewJob::new(id(name), kind, payload)
        };
        bench.push(&c, vec![new.clone()]).await;
        let claimed = bench.claim_one().await;
        let job = &claimed.job;
        assert_eq!((&job.scope, &job.id, &job.kind), (&c, &new.id, &new.kind));
        assert_eq!((&job.payload, &job.group), (&new.payload, &new.group));
        assert_eq!((job.priority, job.max_attempts, job.attempt), (255, u32::MAX, 1));
        assert_eq!(job.last_error, None);
        bench.complete(&[claimed]).await;
    }
    let lowest = NewJob { priority: 0, max_attempts: 1, ..job("lowest") };
    bench.push(&c, vec![lowest]).await;
    assert_eq!(bench.claim_one().await.job.priority, 0);
}

async fn bad_jobs_and_requests_are_refused(bench: &Bench) {
    let c = scope("c");
    let bad = [
        job(""),
        job("a\nb"),
        job(&"x".repeat(600)),
        NewJob { kind: String::new(), ..job("a") },
        NewJob { group: Some(String::new()), ..job("a") },
        NewJob { max_attempts: 0, ..job("a") },
        NewJob { payload: json!("x".repeat(2_000_000)), ..job("a") },
    ];
    for job in bad {
        let error = bench.queue.push(&c, vec![job]).await.expect_err("a bad job");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    let many = (0..5000).map(|n| job(&n.to_string())).collect();
    let error = bench.queue.push(&c, many).await.expect_err("too many at once");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    let requests = [
        request("", 1),
        request("worker", 0),
        ClaimRequest { lease: Duration::ZERO, ..request("worker", 1) },
        ClaimRequest { lease: Duration::MAX, ..request("worker", 1) },
    ];
    for bad in requests {
        let error = bench.queue.claim(&bad).await.expect_err("a bad request");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    assert_eq!(bench.counts(&c).await, (0, 0, 0));
}

/// The waits are long: what does not return in time hangs until the guard strikes.
async fn waiting_ends_when_there_is_something_to_do(bench: &Bench) {
    const LONG: Duration = Duration::from_secs(3600);
    let guarded = async |wait: tokio::task::JoinHandle<()>| {
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the wait ends").expect("wait");
    };
    let wait = |timeout: Duration| {
        let queue = Arc::clone(&bench.queue);
        tokio::spawn(async move { queue.wait(timeout).await.expect("wait") })
    };
    guarded(wait(Duration::from_millis(1))).await;
    let c = scope("c");
    let waiting = wait(LONG);
    tokio::task::yield_now().await;
    bench.push(&c, jobs(&["a"])).await;
    guarded(waiting).await;
    guarded(wait(LONG)).await;
    let claimed = bench.claim_one().await;
    let waiting = wait(LONG);
    tokio::task::yield_now().await;
    bench.queue.release(&claimed.ticket).await.expect("release");
    guarded(waiting).await;
    bench.claim_one().await;
    let waiting = wait(LONG);
    bench.clock.advance(LEASE);
    guarded(waiting).await;
    assert_eq!(bench.claim_one().await.job.attempt, 2, "the lease is over");
}
