//! Which job is next within a tenant.

use std::time::Duration;

use mos_core::queue::MAX_CLAIMED_AT_ONCE;
use mos_core::{JobState, NewJob};

use super::super::samples::scope;
use super::{Bench, SECOND, grouped, ids, job, jobs, names};

pub(super) async fn higher_priorities_go_first(bench: &Bench) {
    let with = |name: &str, priority: u8| NewJob { priority, ..job(name) };
    let new = vec![with("low", 0), with("a", 100), with("top", 255), with("b", 100), with("high", 101)];
    bench.push(&scope("c"), new).await;
    assert_eq!(names(&bench.claim(2).await), ["top", "high"]);
    bench.push(&scope("c"), vec![with("urgent", 200)]).await;
    assert_eq!(names(&bench.claim(10).await), ["urgent", "a", "b", "low"], "equal ones as they were pushed");
}

pub(super) async fn a_group_keeps_its_order(bench: &Bench) {
    let c = scope("c");
    let urgent = NewJob { priority: 255, ..grouped("a2", "a") };
    bench.push(&c, vec![grouped("a1", "a"), grouped("b1", "b"), urgent, job("free")]).await;
    bench.push(&c, vec![grouped("b2", "b"), grouped("a3", "a")]).await;
    // The same name elsewhere is another group.
    bench.push(&scope("d"), vec![grouped("d1", "a")]).await;
    let first = bench.claim(10).await;
    let mut found = names(&first);
    found.sort_unstable();
    assert_eq!(found, ["a1", "b1", "d1", "free"], "the first of each group, and what has no group");
    bench.assert_nothing_to_claim().await;
    assert_eq!(bench.counts(&c).await, (3, 3, 0), "the others wait");
    let of = |name: &str| first.iter().find(|one| one.job.id.as_str() == name).expect("it was claimed").clone();
    bench.complete(&[of("free")]).await;
    bench.assert_nothing_to_claim().await;
    bench.complete(&[of("a1")]).await;
    let second = bench.claim(10).await;
    assert_eq!(names(&second), ["a2"]);
    bench.complete(&[of("b1")]).await;
    bench.complete(&second).await;
    let third = bench.claim(10).await;
    assert_eq!(names(&third), ["b2", "a3"]);
    bench.complete(&third).await;
    bench.push(&c, vec![grouped("a4", "a")]).await;
    assert_eq!(names(&bench.claim(10).await), ["a4"], "an emptied group begins anew");
}

pub(super) async fn a_failed_job_holds_its_group_up(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, vec![grouped("a1", "a"), grouped("a2", "a")]).await;
    let first = bench.claim_one().await;
    bench.queue.fail(&first.ticket, "not now", Some(bench.later(5 * SECOND))).await.expect("fail");
    bench.assert_nothing_to_claim().await;
    bench.clock.advance(5 * SECOND);
    let again = bench.claim_one().await;
    assert_eq!((again.job.id.as_str(), again.job.attempt), ("a1", 2));
    bench.queue.release(&again.ticket).await.expect("release");
    let again = bench.claim_one().await;
    assert_eq!(again.job.id.as_str(), "a1", "a released one is first again");
    bench.clock.advance(super::LEASE);
    let late = bench.claim_one().await;
    assert_eq!(late.job.id.as_str(), "a1", "and one whose lease is over");
    bench.complete(&[late]).await;
    assert_eq!(bench.claim_one().await.job.id.as_str(), "a2");
}

pub(super) async fn a_group_goes_on_without_a_dead_or_removed_one(bench: &Bench) {
    let c = scope("c");
    bench.push(&c, ["a1", "a2", "a3", "a4", "a5"].map(|name| grouped(name, "a")).to_vec()).await;
    let first = bench.claim_one().await;
    bench.queue.fail(&first.ticket, "broken", None).await.expect("fail");
    assert_eq!(bench.queue.remove(&c, &ids(&["a3", "a2"])).await.expect("remove"), 2);
    let fourth = bench.claim_one().await;
    assert_eq!(fourth.job.id.as_str(), "a4");
    assert_eq!(bench.queue.retry_dead(&c, &ids(&["a1"])).await.expect("retry"), 1);
    bench.assert_nothing_to_claim().await;
    bench.complete(&[fourth]).await;
    let fifth = bench.claim_one().await;
    assert_eq!(fifth.job.id.as_str(), "a5");
    bench.complete(&[fifth]).await;
    assert_eq!(bench.claim_one().await.job.id.as_str(), "a1", "who comes back from the dead is last");
}

pub(super) async fn nothing_is_claimed_before_its_time(bench: &Bench) {
    let c = scope("c");
    let at = |name: &str, by: Duration| NewJob { not_before: Some(bench.later(by)), ..job(name) };
    let delayed_head = NewJob { group: Some("g".to_owned()), ..at("head", 20 * SECOND) };
    let delayed_second = NewJob { group: Some("h".to_owned()), ..at("h2", 20 * SECOND) };
    let new = vec![
        at("late", 10 * SECOND),
        at("soon", Duration::from_micros(1500)),
        job("now"),
        delayed_head,
        grouped("behind", "g"),
        grouped("h1", "h"),
        delayed_second,
    ];
    bench.push(&c, new).await;
    let claimed = bench.claim(10).await;
    assert_eq!(names(&claimed), ["now", "h1"]);
    bench.complete(&claimed).await;
    bench.clock.advance(Duration::from_millis(1));
    bench.assert_nothing_to_claim().await;
    let next = bench.queue.next_ready_at().await.expect("next").expect("some wait");
    assert!(next > bench.now() && next <= bench.later(Duration::from_millis(1)), "when the next one is due");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(names(&bench.claim(10).await), ["soon"]);
    bench.clock.advance(10 * SECOND);
    let claimed = bench.claim(10).await;
    assert_eq!(names(&claimed), ["late"]);
    bench.complete(&claimed).await;
    assert_eq!(bench.find(&c, "head").await, Some(JobState::Waiting));
    bench.clock.advance(10 * SECOND);
    let claimed = bench.claim(10).await;
    assert_eq!(names(&claimed), ["head", "h2"], "a group waits for its first, and each for its own time");
    bench.complete(&claimed[..1]).await;
    assert_eq!(names(&bench.claim(10).await), ["behind"]);
}

pub(super) async fn a_claim_is_bounded(bench: &Bench) {
    let texts: Vec<String> = (0..MAX_CLAIMED_AT_ONCE + 10).map(|n| format!("{n:04}")).collect();
    let names: Vec<&str> = texts.iter().map(String::as_str).collect();
    bench.push(&scope("c"), jobs(&names)).await;
    assert_eq!(bench.claim(3).await.len(), 3);
    assert_eq!(bench.claim(usize::MAX).await.len(), MAX_CLAIMED_AT_ONCE);
    assert_eq!(super::names(&bench.claim(usize::MAX).await), names[MAX_CLAIMED_AT_ONCE + 3..]);
}
