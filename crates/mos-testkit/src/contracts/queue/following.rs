//! What is given with the job before it in its group. A queue may give nothing at any time; what it gives keeps these rules.

use mos_core::{Claimed, Failed, JobState, NewJob, StoreError};

use super::super::samples::scope;
use super::{Bench, LEASE, SECOND, assert_ended, grouped, id, ids, job, names};

impl Bench {
    async fn follow(&self, claimed: &Claimed, limit: usize) -> Vec<Claimed> {
        self.queue.claim_following(&claimed.ticket, limit, LEASE).await.expect("claim those that follow")
    }

    /// Pushes jobs of one group, and claims so many of them together; `None` when the queue gives fewer.
    async fn batch(&self, jobs: &[&str], n_together: usize) -> Option<Vec<Claimed>> {
        self.push(&scope("c"), jobs.iter().map(|name| grouped(name, "group")).collect()).await;
        self.together(n_together).await
    }

    async fn together(&self, n_jobs: usize) -> Option<Vec<Claimed>> {
        let mut claimed = self.claim(1).await;
        let following = self.follow(&claimed[0], n_jobs - 1).await;
        claimed.extend(following);
        (claimed.len() == n_jobs).then_some(claimed)
    }

    async fn assert_next(&self, name: &str) -> Claimed {
        let claimed = self.claim_one().await;
        assert_eq!(claimed.job.id.as_str(), name);
        claimed
    }
}

pub(super) async fn those_of_a_kind_follow_in_their_order(bench: &Bench) {
    let c = scope("c");
    let other = NewJob { kind: "other".to_owned(), ..grouped("a5", "a") };
    let urgent = NewJob { priority: 255, ..grouped("a4", "a") };
    let new = vec![grouped("a1", "a"), grouped("a2", "a"), grouped("b1", "b"), grouped("a3", "a"), urgent, other];
    bench.push(&c, new).await;
    bench.push(&c, vec![grouped("a6", "a"), job("free")]).await;
    bench.push(&scope("d"), vec![grouped("d1", "a")]).await;
    let first = bench.claim(10).await;
    let of = |name: &str| first.iter().find(|one| one.job.id.as_str() == name).expect("it was claimed");
    for alone in ["b1", "free", "d1"] {
        assert_eq!(bench.follow(of(alone), 10).await, [], "nothing follows {alone}");
    }
    assert_eq!(bench.follow(of("a1"), 0).await, []);
    let second = bench.follow(of("a1"), 1).await;
    if second.is_empty() {
        return;
    }
    assert_eq!(names(&second), ["a2"]);
    let (job, until) = (&second[0].job, second[0].until);
    assert_eq!((&job.scope, job.attempt, until), (&c, 1, bench.later(LEASE)));
    assert_eq!(job.payload, serde_json::json!({"of": "a2"}));
    assert!(second[0].ticket.claim > of("a1").ticket.claim, "it is a claim of its own");
    assert_eq!(bench.find(&c, "a2").await, Some(JobState::Claimed { consumer: "worker".to_owned(), until }));
    assert_eq!(bench.follow(of("a1"), 10).await, [], "the next one is claimed already");
    let rest = bench.follow(&second[0], 10).await;
    assert_eq!(names(&rest), ["a3", "a4"], "as they were pushed, until one is of another kind");
    assert_eq!(bench.follow(&rest[1], 10).await, []);
    assert_eq!(bench.counts(&c).await, (2, 6, 0));
    bench.assert_nothing_to_claim().await;
    bench.complete(std::slice::from_ref(of("a1"))).await;
    bench.complete(&second).await;
    bench.complete(&rest).await;
    let other = bench.assert_next("a5").await;
    assert_eq!(bench.follow(&other, 10).await, [], "nor does one of the first kind follow the other");
    bench.complete(&[other]).await;
    bench.assert_next("a6").await;
}

pub(super) async fn what_is_not_ready_does_not_follow(bench: &Bench) {
    let c = scope("c");
    let late = NewJob { not_before: Some(bench.later(5 * SECOND)), ..grouped("late", "a") };
    bench.push(&c, vec![grouped("first", "a"), late, grouped("last", "a")]).await;
    let first = bench.claim_one().await;
    assert_eq!(bench.follow(&first, 10).await, [], "nor does the one behind it");
    bench.clock.advance(5 * SECOND);
    let found = bench.follow(&first, 10).await;
    bench.complete(&[first]).await;
    if found.is_empty() {
        bench.assert_next("late").await;
    } else {
        assert_eq!(names(&found), ["late", "last"]);
        bench.assert_nothing_to_claim().await;
    }
}

pub(super) async fn who_has_lost_the_first_gets_none(bench: &Bench) {
    let Some(claimed) = bench.batch(&["a", "b", "c"], 2).await else { return };
    for ticket in [&claimed[0].ticket, &claimed[1].ticket] {
        let error = bench.queue.claim_following(ticket, 5, std::time::Duration::ZERO).await.expect_err("no lease");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    bench.complete(&claimed[..1]).await;
    assert_ended(bench.queue.claim_following(&claimed[0].ticket, 5, LEASE).await);
    bench.queue.release(&claimed[1].ticket).await.expect("release");
    assert_ended(bench.queue.claim_following(&claimed[1].ticket, 5, LEASE).await);
    bench.assert_next("b").await;
}

pub(super) async fn a_group_waits_until_all_of_them_have_ended(bench: &Bench) {
    let Some(claimed) = bench.batch(&["a", "b", "c", "d"], 3).await else { return };
    bench.complete(&claimed[..1]).await;
    bench.assert_nothing_to_claim().await;
    bench.complete(&claimed[2..]).await;
    bench.assert_nothing_to_claim().await;
    bench.complete(&claimed[1..2]).await;
    bench.assert_next("d").await;
}

pub(super) async fn later_ones_that_come_back_wait_for_earlier_ones(bench: &Bench) {
    let Some(claimed) = bench.batch(&["a", "b", "c", "d"], 3).await else { return };
    bench.queue.release(&claimed[2].ticket).await.expect("release");
    let became = bench.queue.fail(&claimed[1].ticket, "not now", Some(bench.later(SECOND))).await.expect("fail");
    assert_eq!(became, Failed::Waits);
    bench.clock.advance(SECOND);
    assert_eq!(bench.counts(&scope("c")).await, (3, 1, 0));
    bench.assert_nothing_to_claim().await;
    bench.complete(&claimed[..1]).await;
    let second = bench.assert_next("b").await;
    assert_eq!((second.job.attempt, second.job.last_error.as_deref()), (2, Some("not now")));
    bench.complete(&[second]).await;
    let third = bench.assert_next("c").await;
    assert_eq!(third.job.attempt, 1, "a released one has lost nothing");
    bench.complete(&[third]).await;
    bench.assert_next("d").await;
}

pub(super) async fn a_later_one_that_fails_keeps_its_time(bench: &Bench) {
    let Some(claimed) = bench.batch(&["a", "b", "c"], 2).await else { return };
    bench.queue.fail(&claimed[1].ticket, "not now", Some(bench.later(5 * SECOND))).await.expect("fail");
    bench.complete(&claimed[..1]).await;
    bench.assert_nothing_to_claim().await;
    assert_eq!(bench.queue.next_ready_at().await.expect("next"), Some(bench.later(5 * SECOND)));
    bench.clock.advance(5 * SECOND);
    bench.assert_next("b").await;
}

pub(super) async fn a_whole_batch_can_be_given_back(bench: &Bench) {
    let Some(claimed) = bench.batch(&["a", "b", "c", "d"], 3).await else { return };
    for one in claimed.iter().rev() {
        bench.assert_nothing_to_claim().await;
        bench.queue.release(&one.ticket).await.expect("release");
    }
    let Some(claimed) = bench.together(3).await else { return };
    assert_eq!(names(&claimed), ["a", "b", "c"]);
    assert!(claimed.iter().all(|one| one.job.attempt == 1), "no attempt has counted");
}

pub(super) async fn an_earlier_one_that_comes_back_waits_for_later_ones(bench: &Bench) {
    let Some(claimed) = bench.batch(&["a", "b", "c"], 2).await else { return };
    bench.queue.release(&claimed[0].ticket).await.expect("release");
    bench.assert_nothing_to_claim().await;
    assert_eq!(bench.find(&scope("c"), "a").await, Some(JobState::Waiting));
    bench.complete(&claimed[1..]).await;
    let first = bench.assert_next("a").await;
    bench.complete(&[first]).await;
    bench.assert_next("c").await;
}

pub(super) async fn a_group_goes_on_without_those_that_die_or_are_removed(bench: &Bench) {
    let c = scope("c");
    let Some(claimed) = bench.batch(&["a", "b", "c", "d"], 3).await else { return };
    let became = bench.queue.fail(&claimed[0].ticket, "broken", None).await.expect("fail");
    assert_eq!(became, Failed::Dead);
    bench.queue.release(&claimed[1].ticket).await.expect("release");
    bench.assert_nothing_to_claim().await;
    assert_eq!(bench.queue.remove(&c, &ids(&["b", "c"])).await.expect("remove"), 1, "the third one is claimed");
    bench.assert_nothing_to_claim().await;
    assert_eq!(bench.queue.retry_dead(&c, &ids(&["a"])).await.expect("retry"), 1);
    bench.assert_nothing_to_claim().await;
    bench.complete(&claimed[2..]).await;
    let fourth = bench.assert_next("d").await;
    bench.complete(&[fourth]).await;
    bench.assert_next("a").await;
}

pub(super) async fn leases_of_a_batch_end_one_by_one(bench: &Bench) {
    let Some(claimed) = bench.batch(&["a", "b", "c", "d"], 3).await else { return };
    bench.clock.advance(LEASE / 2);
    bench.queue.extend(&claimed[1].ticket, LEASE).await.expect("extend");
    bench.clock.advance(LEASE / 2);
    bench.assert_nothing_to_claim().await;
    for name in ["a", "c"] {
        assert_eq!(bench.find(&scope("c"), name).await, Some(JobState::Waiting), "{name}: its lease is over");
    }
    assert_ended(bench.queue.complete(&claimed[0].ticket).await);
    bench.clock.advance(LEASE / 2);
    let again = bench.assert_next("a").await;
    assert_eq!(again.job.attempt, 2);
    assert_ended(bench.queue.complete(&claimed[1].ticket).await);
    bench.complete(&[again]).await;
    let Some(rest) = bench.together(3).await else { return };
    assert_eq!(names(&rest), ["b", "c", "d"]);
    assert_eq!(rest.iter().map(|one| one.job.attempt).collect::<Vec<_>>(), [2, 2, 1]);
}

pub(super) async fn silence_kills_a_batch_in_its_order(bench: &Bench) {
    let c = scope("c");
    let once = |name: &str| NewJob { max_attempts: 1, ..grouped(name, "group") };
    bench.push(&c, vec![once("a"), once("b"), grouped("c", "group")]).await;
    let Some(claimed) = bench.together(2).await else { return };
    bench.clock.advance(LEASE);
    let third = bench.assert_next("c").await;
    let dead = bench.dead(&c).await;
    assert_eq!(dead.entries.iter().map(|dead| dead.job.id.clone()).collect::<Vec<_>>(), [id("a"), id("b")]);
    for one in &claimed {
        assert_ended(bench.queue.complete(&one.ticket).await);
    }
    bench.complete(&[third]).await;
}

pub(super) async fn a_removed_tenant_takes_its_batches_along(bench: &Bench) {
    let c = scope("c");
    let Some(claimed) = bench.batch(&["a", "b", "c"], 2).await else { return };
    assert_eq!(bench.queue.remove_tenant(&c).await.expect("remove"), 3);
    for one in &claimed {
        assert_ended(bench.queue.release(&one.ticket).await);
    }
    bench.push(&c, vec![grouped("a", "group"), grouped("b", "group")]).await;
    bench.assert_next("a").await;
}
