//! What becomes of jobs that fail, and of those whose consumers fall silent.

use std::time::Duration;

use mos_core::{Failed, JobState, NewJob, Paging};

use super::super::samples::scope;
use super::{Bench, LEASE, SECOND, assert_ended, id, ids, job, jobs, request};

pub(super) async fn a_lease_that_is_over_frees_the_job(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, jobs(&["a"])).await;
    let first = bench.claim_one().await;
    bench.clock.advance(LEASE - Duration::from_millis(1));
    bench.assert_nothing_to_claim().await;
    bench.clock.advance(Duration::from_millis(1));
    let second = bench.queue.claim(&request("another", 5)).await.expect("claim").remove(0);
    assert_eq!(second.job.attempt, 2);
    let error = second.job.last_error.as_deref().expect("it failed before");
    assert!(error.contains("worker") && error.contains("lease"), "{error}");
    assert_ne!(first.ticket, second.ticket);
    assert_ended(bench.queue.complete(&first.ticket).await);
    bench.queue.complete(&second.ticket).await.expect("complete");
    assert_ended(bench.queue.complete(&first.ticket).await);
    bench.push(&c, jobs(&["b"])).await;
    let slow = bench.claim_one().await;
    bench.clock.advance(LEASE * 2);
    bench.queue.complete(&slow.ticket).await.expect("nobody else has it: what was done in the end counts");
    bench.assert_nothing_to_claim().await;
}

pub(super) async fn an_ended_ticket_does_nothing(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, jobs(&["a"])).await;
    let first = bench.claim_one().await;
    bench.queue.release(&first.ticket).await.expect("release");
    let second = bench.claim_one().await;
    let mut unknown = second.ticket.clone();
    unknown.id = id("unknown");
    let mut foreign = second.ticket.clone();
    foreign.scope = scope("d");
    for ticket in [&first.ticket, &unknown, &foreign] {
        assert_ended(bench.queue.complete(ticket).await);
        assert_ended(bench.queue.extend(ticket, LEASE).await);
        assert_ended(bench.queue.release(ticket).await);
        assert_ended(bench.queue.fail(ticket, "reason", None).await);
        assert_ended(bench.queue.fail(ticket, "reason", Some(bench.later(SECOND))).await);
    }
    assert_eq!(bench.counts(&c).await, (0, 1, 0), "the one who has it still has it");
    bench.complete(&[second]).await;
}

pub(super) async fn a_lease_can_be_extended(bench: &Bench) {
    bench.push(&scope("c"), jobs(&["a"])).await;
    let claimed = bench.claim_one().await;
    for _ in 0..3 {
        bench.clock.advance(LEASE / 2);
        let until = bench.queue.extend(&claimed.ticket, LEASE).await.expect("extend");
        assert_eq!(until, bench.later(LEASE));
        bench.assert_nothing_to_claim().await;
    }
    let until = bench.queue.extend(&claimed.ticket, SECOND).await.expect("it may be shorter too");
    assert_eq!(until, bench.later(SECOND));
    bench.queue.extend(&claimed.ticket, Duration::ZERO).await.expect_err("but not nothing");
    bench.clock.advance(SECOND);
    assert_eq!(bench.claim_one().await.job.attempt, 2);
    assert_ended(bench.queue.extend(&claimed.ticket, LEASE).await);
}

pub(super) async fn a_released_job_has_lost_nothing(bench: &Bench) {
    bench.push(&scope("c"), vec![NewJob { max_attempts: 1, ..job("a") }, job("b")]).await;
    for _ in 0..3 {
        let first = bench.claim(1).await.remove(0);
        assert_eq!((first.job.id.as_str(), first.job.attempt), ("a", 1), "it has its place and its attempt");
        bench.queue.release(&first.ticket).await.expect("release");
        assert_eq!(bench.counts(&scope("c")).await, (2, 0, 0));
    }
}

pub(super) async fn a_failed_job_is_tried_again_until_it_is_dead(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, vec![NewJob { max_attempts: 3, ..job("a") }]).await;
    for attempt in 1..3 {
        let claimed = bench.claim_one().await;
        assert_eq!(claimed.job.attempt, attempt);
        let became = bench.queue.fail(&claimed.ticket, "no 记忆", Some(bench.later(SECOND))).await.expect("fail");
        assert_eq!(became, Failed::Waits);
        assert_eq!(bench.counts(&c).await, (1, 0, 0));
        bench.assert_nothing_to_claim().await;
        bench.clock.advance(SECOND);
    }
    let claimed = bench.claim_one().await;
    assert_eq!(claimed.job.last_error.as_deref(), Some("no 记忆"));
    let became = bench.queue.fail(&claimed.ticket, "for good", Some(bench.later(SECOND))).await.expect("fail");
    assert_eq!(became, Failed::Dead, "that was the last attempt");
    assert_eq!(bench.find(&c, "a").await, Some(JobState::Dead { reason: "for good".to_owned() }));
    assert_eq!(bench.counts(&c).await, (0, 0, 1));
    bench.clock.advance(LEASE);
    bench.assert_nothing_to_claim().await;
    bench.push(&c, jobs(&["b"])).await;
    let claimed = bench.claim_one().await;
    let long = "記".repeat(10_000);
    let became = bench.queue.fail(&claimed.ticket, &long, None).await.expect("fail");
    assert_eq!(became, Failed::Dead, "no other attempt was asked for");
    let Some(JobState::Dead { reason }) = bench.find(&c, "b").await else { panic!("it is dead") };
    assert!(long.starts_with(&reason) && reason.len() > 1000 && reason.len() < 10_000, "the beginning is kept");
    bench.push(&c, jobs(&["past"])).await;
    let claimed = bench.claim_one().await;
    bench.queue.fail(&claimed.ticket, "again", Some(jiff::Timestamp::UNIX_EPOCH)).await.expect("fail");
    assert_eq!(bench.claim_one().await.job.attempt, 2, "a time that is past is now");
}

pub(super) async fn silence_at_the_last_attempt_is_death(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, vec![NewJob { max_attempts: 2, ..job("a") }]).await;
    for _ in 0..2 {
        bench.claim_one().await;
        bench.clock.advance(LEASE);
    }
    bench.assert_nothing_to_claim().await;
    let dead = bench.dead(&c).await;
    assert_eq!(dead.total, 1);
    let reason = &dead.entries[0].reason;
    assert!(reason.contains("worker") && reason.contains("lease") && reason.contains("attempt 2"), "{reason}");
}

pub(super) async fn the_dead_are_listed_retried_and_removed(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, jobs(&["a", "b", "c", "d"])).await;
    let claimed = bench.claim(4).await;
    for one in claimed.iter().rev() {
        bench.clock.advance(SECOND);
        let reason = format!("no {}", one.job.id);
        bench.queue.fail(&one.ticket, &reason, None).await.expect("fail");
    }
    let page = async |offset: usize, limit: usize| {
        let page = bench.queue.dead(&c, Paging { offset, limit }).await.expect("dead");
        assert_eq!(page.total, 4);
        page.entries.into_iter().map(|dead| dead.job.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 10).await, ["d", "c", "b", "a"], "first dead first");
    assert_eq!(page(1, 2).await, ["c", "b"]);
    assert_eq!(page(4, 2).await, Vec::<String>::new());
    let last = bench.dead(&c).await.entries.remove(3);
    assert_eq!((last.reason.as_str(), last.died_at), ("no a", bench.now()));
    assert_eq!((last.job.attempt, last.job.payload), (1, serde_json::json!({"of": "a"})));
    assert_eq!(last.job.last_error.as_deref(), Some("no a"));
    bench.clock.advance(SECOND);
    let n_back = bench.queue.retry_dead(&c, &ids(&["c", "unknown", "a", "c"])).await.expect("retry");
    assert_eq!(n_back, 2);
    assert_eq!(bench.counts(&c).await, (2, 0, 2));
    assert_eq!(bench.stats(&c).await.oldest, Some(bench.now()), "as if pushed now");
    let again = bench.claim(10).await;
    assert_eq!(super::names(&again), ["c", "a"], "in the order given");
    assert_eq!((again[0].job.attempt, again[0].job.last_error.as_deref()), (1, Some("no c")));
    bench.complete(&again[..1]).await;
    assert_eq!(bench.queue.remove(&c, &ids(&["d", "a", "unknown", "c"])).await.expect("remove"), 1, "a is claimed");
    assert_eq!(bench.find(&c, "d").await, None);
    assert_eq!(bench.dead(&c).await.total, 1);
    bench.push(&c, jobs(&["d"])).await;
    assert_eq!(bench.claim_one().await.job.attempt, 1, "a removed id may be pushed again");
    let n_back = bench.queue.retry_dead(&c, &ids(&["a", "c", "d"])).await.expect("retry");
    assert_eq!(n_back, 0, "these are claimed or finished");
}
