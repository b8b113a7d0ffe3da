//! Jobs that move from one queue to another.

use std::time::Duration;

use mos_core::queue_archive::MAX_ARCHIVED_BYTES;
use mos_core::{
    ArchivedJob, FinishedJob, JobPlace, JobQueue, JobState, NewJob, PushReceipt, QueueArchive, Scope, StoreError,
};
use serde_json::json;

use super::super::samples::scope;
use super::{Bench, SECOND, assert_full, grouped, id, ids, job, jobs, names};

const HOUR: Duration = Duration::from_secs(3600);

fn archive(queue: &dyn JobQueue) -> &dyn QueueArchive {
    queue.job_archive().expect("the jobs of a queue can move")
}

/// Reads all jobs of a tenant in pages of `limit`.
async fn all_jobs(bench: &Bench, scope: &Scope, limit: usize) -> Vec<ArchivedJob> {
    let (mut all, mut after): (Vec<ArchivedJob>, Option<JobPlace>) = (Vec::new(), None);
    loop {
        let page = archive(&*bench.queue).archived_jobs(scope, after, limit).await.expect("a page of jobs");
        let Some(last) = page.last() else { return all };
        assert!(page.len() <= limit, "a page is bounded");
        assert!(page.iter().all(|job| after.is_none_or(|after| job.place > after)), "places rise");
        after = Some(last.place);
        all.extend(page);
    }
}

async fn all_finished(bench: &Bench, scope: &Scope, limit: usize) -> Vec<FinishedJob> {
    let mut all: Vec<FinishedJob> = Vec::new();
    loop {
        let page = archive(&*bench.queue).archived_finished(scope, all.last(), limit).await.expect("a page of ids");
        if page.is_empty() {
            return all;
        }
        assert!(page.len() <= limit, "a page is bounded");
        all.extend(page);
    }
}

async fn import(bench: &Bench, scope: &Scope, jobs: Vec<ArchivedJob>) -> PushReceipt {
    archive(&*bench.queue).import_jobs(scope, jobs).await.expect("the queue takes another's jobs")
}

/// What is told of jobs, but for their places, which are each queue's own.
fn told(jobs: &[ArchivedJob]) -> Vec<String> {
    jobs.iter().map(|one| format!("{:?} {:?} {:?}", one.job, one.not_before, one.death)).collect()
}

/// A queue with jobs in every state.
async fn fill(bench: &Bench, scope: &Scope) {
    let urgent = NewJob { priority: 200, ..job("urgent") };
    let late = NewJob { not_before: Some(bench.later(HOUR)), ..job("late") };
    let strange = NewJob { payload: json!({"记": [1.5, null, "\u{0}"]}), ..grouped("g1", "it's a {group}: %") };
    let (second, third) = (grouped("g2", "it's a {group}: %"), grouped("g3", "it's a {group}: %"));
    bench.push(scope, vec![job("done"), strange, second, job("broken"), job("tried"), late, urgent, third]).await;
    let claimed = bench.claim(10).await;
    assert_eq!(names(&claimed), ["urgent", "done", "g1", "broken", "tried"]);
    bench.complete(&claimed[1..2]).await;
    bench.queue.fail(&claimed[3].ticket, "it is broken", None).await.expect("fail");
    let again = Some(bench.later(2 * HOUR));
    bench.queue.fail(&claimed[4].ticket, "not yet", again).await.expect("fail");
}

pub(super) async fn a_queue_moves_as_it_is(from: &Bench, to: &Bench) {
    let (c, pushed_at) = (scope("c"), from.now());
    fill(from, &c).await;
    bench_of_others(from).await;
    for bench in [from, to] {
        bench.clock.advance(SECOND);
    }
    let moved = all_jobs(from, &c, 2).await;
    assert_eq!(
        moved.iter().map(|one| one.job.id.as_str()).collect::<Vec<_>>(),
        ["g1", "g2", "tried", "late", "urgent", "g3", "broken"],
        "in the order in which they were pushed, the dead last"
    );
    assert_eq!(import(to, &c, moved.clone()).await.new.len(), 7);
    let finished = all_finished(from, &c, 1).await;
    assert_eq!(finished.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["done"]);
    let receipt = archive(&*to.queue).import_finished(&c, finished.clone()).await.expect("the queue takes ids");
    assert_eq!((receipt.new, receipt.known), (ids(&["done"]), ids(&[])));
    assert_eq!(told(&all_jobs(to, &c, 3).await), told(&moved), "both sides are the same");
    assert_eq!(all_finished(to, &c, 3).await, finished);
    assert_eq!(to.counts(&c).await, (6, 0, 1), "what a consumer had waits");
    assert_eq!(to.find(&c, "done").await, Some(JobState::Finished));
    assert_eq!(to.dead(&c).await.entries, from.dead(&c).await.entries, "with reason and time");
    assert_eq!(to.counts(&scope("d")).await, (0, 0, 0), "of that tenant only");
    // It goes on as it would have gone on there.
    let claimed = to.claim(10).await;
    assert_eq!(names(&claimed), ["urgent", "g1"]);
    assert!(claimed.iter().all(|one| one.job.attempt == 1 && one.job.pushed_at == pushed_at), "{claimed:?}");
    assert_eq!(claimed[1].job.payload, json!({"记": [1.5, null, "\u{0}"]}));
    to.complete(&claimed).await;
    let second = to.claim_one().await;
    assert_eq!((second.job.id.as_str(), second.job.attempt), ("g2", 1));
    to.complete(&[second]).await;
    let third = to.claim_one().await;
    assert_eq!(third.job.id, id("g3"));
    to.complete(&[third]).await;
    to.clock.advance(HOUR);
    let late = to.claim_one().await;
    assert_eq!(late.job.id, id("late"));
    to.complete(&[late]).await;
    to.clock.advance(HOUR);
    let tried = to.claim_one().await;
    assert_eq!(
        (tried.job.id.as_str(), tried.job.attempt, tried.job.last_error.as_deref()),
        ("tried", 2, Some("not yet"))
    );
    to.complete(&[tried]).await;
    assert_eq!(to.queue.retry_dead(&c, &ids(&["broken"])).await.expect("retry"), 1);
    let back = to.claim_one().await;
    assert_eq!((back.job.id.as_str(), back.job.attempt), ("broken", 1));
    assert_eq!(from.counts(&c).await, (4, 2, 1), "the source was only read");
}

async fn bench_of_others(bench: &Bench) {
    bench.push(&scope("d"), jobs(&["of another"])).await;
}

pub(super) async fn moving_again_changes_nothing(from: &Bench, to: &Bench) {
    let c = scope("c");
    fill(from, &c).await;
    let moved = all_jobs(from, &c, 100).await;
    import(to, &c, moved[..3].to_vec()).await;
    let receipt = import(to, &c, moved.clone()).await;
    assert_eq!((receipt.new.len(), receipt.known.len()), (4, 3), "it goes on where it stopped");
    let claimed = to.claim(10).await;
    assert_eq!(names(&claimed), ["urgent", "g1"]);
    to.complete(&claimed[1..]).await;
    let before = told(&all_jobs(to, &c, 100).await);
    assert_eq!(import(to, &c, moved).await.new, ids(&[]), "neither what is claimed nor what was done comes again");
    assert_eq!(told(&all_jobs(to, &c, 100).await), before);
    let done = vec![FinishedJob { at: to.now(), id: id("g2") }, FinishedJob { at: to.now(), id: id("g1") }];
    let receipt = archive(&*to.queue).import_finished(&c, done).await.expect("the queue takes ids");
    assert_eq!(receipt.new, ids(&[]), "a job that is there is not taken for a finished one");
    let long_ago = to.now().checked_sub(Duration::from_secs(20 * 24 * 3600)).expect("a moment within the calendar");
    let old = vec![FinishedJob { at: long_ago, id: id("old") }];
    let receipt = archive(&*to.queue).import_finished(&c, old).await.expect("the queue takes ids");
    assert_eq!(receipt.new, ids(&[]), "what would be forgotten at once is not noted");
    assert_eq!(to.find(&c, "old").await, None);
}

pub(super) async fn pages_are_bounded_in_bytes(from: &Bench, to: &Bench) {
    let c = scope("c");
    for number in 0..8 {
        let large = NewJob { payload: json!("x".repeat(900_000)), ..job(&format!("large {number}")) };
        from.push(&c, vec![large]).await;
    }
    let page = archive(&*from.queue).archived_jobs(&c, None, 1000).await.expect("a page of jobs");
    let n_bytes: usize = page.iter().map(|one| one.job.payload.to_string().len()).sum();
    assert!(!page.is_empty() && n_bytes <= MAX_ARCHIVED_BYTES, "{} jobs of {n_bytes} bytes", page.len());
    let all = all_jobs(from, &c, 1000).await;
    assert_eq!(all.len(), 8, "nothing is passed over");
    for one in all {
        import(to, &c, vec![one]).await;
    }
    assert_eq!(to.counts(&c).await, (8, 0, 0));
    assert_eq!(names(&to.claim(3).await), ["large 0", "large 1", "large 2"]);
}

/// The queue takes two jobs per tenant.
pub(super) async fn what_has_no_room_or_is_bad_comes_not_at_all(from: &Bench, to: &Bench) {
    let c = scope("c");
    from.push(&c, jobs(&["a", "b", "c"])).await;
    let moved = all_jobs(from, &c, 100).await;
    assert_full(archive(&*to.queue).import_jobs(&c, moved.clone()).await, 2);
    assert_eq!(to.counts(&c).await, (0, 0, 0), "nothing of it was added");
    let mut bad = moved[..2].to_vec();
    bad[1].job.kind = String::new();
    let error = archive(&*to.queue).import_jobs(&c, bad).await.expect_err("a bad job");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(to.counts(&c).await, (0, 0, 0));
    assert_eq!(import(to, &c, moved[..2].to_vec()).await.new, ids(&["a", "b"]));
}
